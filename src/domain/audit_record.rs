//! Owns the audit records and the canonical bytes that are hashed. A record holds ids, enums and
//! numbers only. It never holds a query, an answer, a person, a token's secret or free text.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::action::Action;
use super::by_name::names;
use super::canonical::Encoder;
use super::entry::Tier;
use super::ids::{
    AuditId, EntryId, LedgerId, RequestId, SubjectKeyId, TenantId, TokenId, WriterId,
};
use super::money::Usd;
use super::network::Network;
use super::operation::Operation;

names! {
    /// How an action ended.
    Outcome {
        /// A tier had a fresh answer.
        Hit => "hit",
        /// A tier had a stale answer, which was served.
        Stale => "stale",
        /// The upstream answered, and the answer was not stored.
        Miss => "miss",
        /// The upstream answered, and the answer was stored.
        Stored => "stored",
        /// The upstream answered, and the cache took no part.
        Bypass => "bypass",
        /// Nothing was cached, and no upstream could be asked.
        NotCached => "not-cached",
        /// The action was done as asked.
        Done => "done",
        /// The request was refused, because the action is not allowed.
        Denied => "denied",
        /// The request was refused, because a limit was reached.
        Limited => "limited",
        /// The request was refused, because its object does not exist.
        NotFound => "not-found",
        /// The request was refused, because it breaks a rule.
        Invalid => "invalid",
        /// The action failed in this service or in the upstream.
        Error => "error",
        /// The caller closed the connection before the reply.
        Aborted => "aborted",
        /// A sealed value did not open.
        IntegrityFailure => "integrity-failure",
        /// The request was refused, because the data of the person are restricted.
        Restricted => "restricted",
    }
}

/// The years for which a record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "i16", into = "i16")]
pub enum RetentionClass {
    /// One year.
    OneYear,
    /// Three years.
    ThreeYears,
    /// Seven years.
    SevenYears,
    /// Ten years.
    TenYears,
}

impl RetentionClass {
    /// Every class, with the shortest first.
    pub const ALL: [Self; 4] = [Self::OneYear, Self::ThreeYears, Self::SevenYears, Self::TenYears];

    /// Returns the shortest class that keeps a record for `days` days, or the longest class.
    pub fn for_days(days: u32) -> Self {
        let keeps = |class: &Self| u32::from(class.years().unsigned_abs()) * 365 >= days;
        Self::ALL.into_iter().find(keeps).unwrap_or(Self::TenYears)
    }

    /// Returns the whole years of the class.
    pub const fn years(self) -> i16 {
        match self {
            Self::OneYear => 1,
            Self::ThreeYears => 3,
            Self::SevenYears => 7,
            Self::TenYears => 10,
        }
    }
}

impl TryFrom<i16> for RetentionClass {
    type Error = &'static str;

    fn try_from(years: i16) -> Result<Self, Self::Error> {
        let known = Self::ALL.into_iter().find(|class| class.years() == years);
        known.ok_or("no retention class")
    }
}

impl From<RetentionClass> for i16 {
    fn from(class: RetentionClass) -> Self {
        class.years()
    }
}

/// The party that did or asked for an action.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// A caller over HTTP.
    Token {
        /// The id of the token.
        id: TokenId,
        /// The roles of the token, as [`super::caller::Roles`] writes them.
        roles: Arc<str>,
        /// The network of the caller. `None` stands for more networks than can be told apart.
        network: Option<Network>,
    },
    /// A client that is not known.
    Anonymous {
        /// The network of the client. `None` stands for more networks than can be told apart.
        network: Option<Network>,
    },
    /// The command line of the program.
    CommandLine,
    /// The service itself.
    Service,
}

impl Actor {
    /// Every kind of actor.
    pub const KINDS: [&'static str; 4] = ["token", "anonymous", "command-line", "service"];

    /// Returns the kind, as it is stored and shown.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Anonymous { .. } => "anonymous",
            Self::CommandLine => "command-line",
            Self::Service => "service",
        }
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// An audit record. It is fixed before the first attempt to write it, and it never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// The id of the record, a UUIDv7 of `at`.
    pub id: AuditId,
    /// The tenant whose trail holds it.
    pub tenant: TenantId,
    /// The retention class, stamped on the record.
    pub class: RetentionClass,
    /// The time of the action.
    pub at: DateTime<Utc>,
    /// The request that it belongs to.
    pub request: RequestId,
    /// The actor.
    pub actor: Actor,
    /// The action.
    pub action: Action,
    /// How the action ended.
    pub outcome: Outcome,
    /// The kind of question.
    pub operation: Option<Operation>,
    /// The tier in which the answer was found.
    pub tier: Option<Tier>,
    /// The entry that the action was about.
    pub entry: Option<EntryId>,
    /// The id of the subject key, which stands for the person whose data it was about.
    pub subject_key: Option<SubjectKeyId>,
    /// Another object of the action, such as a token or a tenant.
    pub object: Option<Uuid>,
    /// The HTTP status of the reply. It is 0 if there is no reply.
    pub status: u16,
    /// The number of things that were touched. It is -1 if the number was not known yet.
    pub count: i64,
    /// The microseconds since the arrival of the request.
    pub duration_us: i64,
    /// The cost of the answer, or the cost that a hit saved.
    pub cost: Usd,
}

/// The place of a record among the records of its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterPlace {
    /// The id of the writer.
    pub writer: WriterId,
    /// The number of the record. The numbers are dense and begin at 1.
    pub seq: i64,
}

/// What is known of a record from its beginning.
#[derive(Debug)]
pub struct RecordHead {
    /// The record.
    pub id: AuditId,
    /// The tenant whose trail it belongs to.
    pub tenant: TenantId,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The request it happened in.
    pub request: RequestId,
    /// The actor.
    pub actor: Actor,
    /// The action.
    pub action: Action,
}

impl AuditRecord {
    /// Makes a record of an action that has begun. Its outcome is an error until it is set.
    pub fn begun(head: RecordHead) -> Self {
        let RecordHead { id, tenant, at, request, actor, action } = head;
        Self {
            id,
            tenant,
            class: RetentionClass::SevenYears,
            at,
            request,
            actor,
            action,
            outcome: Outcome::Error,
            operation: None,
            tier: None,
            entry: None,
            subject_key: None,
            object: None,
            status: 0,
            count: 0,
            duration_us: 0,
            cost: Usd::default(),
        }
    }

    /// Returns the canonical bytes, whose SHA-256 is `row_hash`. The function destructures the
    /// whole record, so that a new field cannot be left out.
    pub fn canonical(&self, ledger: LedgerId, place: Option<WriterPlace>) -> Vec<u8> {
        let Self {
            id,
            tenant,
            class,
            at,
            request,
            actor,
            action,
            outcome,
            operation,
            tier,
            entry,
            subject_key,
            object,
            status,
            count,
            duration_us,
            cost,
        } = self;
        let mut out = Encoder::new("ai-cache audit record 1");
        out.bytes(ledger.0.as_bytes());
        out.option(place, |out, place| {
            out.bytes(place.writer.0.as_bytes()).i64(place.seq);
        });
        out.bytes(id.0.as_bytes()).bytes(tenant.0.as_bytes()).i64(i64::from(class.years()));
        out.i64(at.timestamp_micros()).bytes(request.0.as_bytes());
        out.text(actor.kind());
        if let Actor::Token { id, roles, .. } = actor {
            out.bytes(id.0.as_bytes()).text(roles);
        }
        if let Actor::Token { network, .. } | Actor::Anonymous { network } = actor {
            out.option(*network, |out, network| {
                out.text(&network.to_string());
            });
        }
        out.text(action.name()).text(outcome.name());
        out.text(operation.map_or("", Operation::name)).text(tier.map_or("", Tier::name));
        for id in [entry.map(|id| id.0), subject_key.map(|id| id.0), *object] {
            out.option(id, |out, id| {
                out.bytes(id.as_bytes());
            });
        }
        out.u64(u64::from(*status)).i64(*count).i64(*duration_us).u64(cost.0);
        out.finish()
    }
}
