//! Who asks: the token behind a request and what it may do.

use std::fmt;

use super::ids::{TenantId, TokenId};

/// What a token may do. A token may hold several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Query, fill and read the tenant's own entries.
    App,
    /// Configure, invalidate, manage tokens and read statistics of the tenant.
    Admin,
    /// File data-protection requests and read the audit trail.
    Compliance,
    /// Manage tenants and nodes, across tenants; never sees an entry's plaintext.
    Operator,
}

impl Role {
    /// Every role, in the order they are written.
    pub const ALL: [Self; 4] = [Self::App, Self::Admin, Self::Compliance, Self::Operator];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Admin => "admin",
            Self::Compliance => "compliance",
            Self::Operator => "operator",
        }
    }

    /// Reads the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    const fn bit(self) -> u8 {
        match self {
            Self::App => 1,
            Self::Admin => 2,
            Self::Compliance => 4,
            Self::Operator => 8,
        }
    }
}

/// A set of roles.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// Whether the set holds `role`.
    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether every role of `other` is in this set.
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The roles in the order they are written.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }

    /// The names in order.
    pub fn names(self) -> Vec<String> {
        self.iter().map(|role| role.name().to_owned()).collect()
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }
}

impl fmt::Display for Roles {
    /// Names joined by `+`, as audit records write them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("+")?;
            }
            f.write_str(role.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a caller may hand on to a new token (api.md "Authentication").
///
/// `admin` grants `app` and `admin`; `operator` grants `admin` and `compliance`; nobody grants
/// `operator`, which comes from the command line only.
pub fn grantable(by: Roles) -> Roles {
    let admin = by.has(Role::Admin).then_some([Role::App, Role::Admin]);
    let operator = by.has(Role::Operator).then_some([Role::Admin, Role::Compliance]);
    admin.into_iter().chain(operator).flatten().collect()
}

/// The authenticated origin of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The tenant the token belongs to.
    pub tenant: TenantId,
    /// The token.
    pub token: TokenId,
    /// What it may do.
    pub roles: Roles,
}
