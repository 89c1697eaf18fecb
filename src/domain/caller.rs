//! Owns the caller behind a request: its tenant, its token and its roles.

use std::fmt;

use super::ids::{TenantId, TokenId};

/// A role, which gives a token its rights. A token may have several roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The token may ask questions, whose answers fill the cache, and read the replies.
    App,
    /// The token may invalidate, list and remove entries, read statistics and manage tokens.
    Admin,
    /// The token may file requests of data subjects, set legal holds and read the audit trail.
    Compliance,
    /// The token may manage tenants and their tokens, and run a purge. It never sees an answer.
    Operator,
}

impl Role {
    /// Every role, in the order in which roles are written.
    pub const ALL: [Self; 4] = [Self::App, Self::Admin, Self::Compliance, Self::Operator];

    /// Returns the name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Admin => "admin",
            Self::Compliance => "compliance",
            Self::Operator => "operator",
        }
    }

    /// Reads the name on the wire. Returns `None` if no role has it.
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
    /// Returns whether the set holds `role`.
    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Returns whether every role of `other` is in this set.
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Iterates over the roles in the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }

    /// Returns the names of the roles in the same order.
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
    /// Writes the names joined by `+`, as audit records hold them.
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

/// Returns the roles that a caller may give to a new token (USING.md "Tokens and roles").
///
/// `admin` grants `app` and `admin`, and `operator` grants `admin` and `compliance`. Nobody grants
/// `operator`, which comes from the command line only.
pub fn grantable(by: Roles) -> Roles {
    let admin = by.has(Role::Admin).then_some([Role::App, Role::Admin]);
    let operator = by.has(Role::Operator).then_some([Role::Admin, Role::Compliance]);
    admin.into_iter().chain(operator).flatten().collect()
}

/// The tenant, the token and the roles behind a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The tenant that the token belongs to.
    pub tenant: TenantId,
    /// The id of the token.
    pub token: TokenId,
    /// The roles of the token.
    pub roles: Roles,
}
