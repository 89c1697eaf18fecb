//! What an audit record says and the canonical bytes it is hashed over. Holds ids, enums and
//! numbers only: never a query, an answer, a person, a token's secret or free text.

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
    /// How it ended.
    Outcome {
        /// Answered from a tier.
        Hit => "hit",
        /// Answered from a tier beyond the answer's time.
        Stale => "stale",
        /// Answered by the upstream and not stored.
        Miss => "miss",
        /// Answered by the upstream and stored.
        Stored => "stored",
        /// Answered by the upstream, the cache left alone.
        Bypass => "bypass",
        /// Nothing was cached and nobody could be asked.
        NotCached => "not-cached",
        /// Done as asked.
        Done => "done",
        /// Refused: not allowed.
        Denied => "denied",
        /// Refused: a limit was reached.
        Limited => "limited",
        /// Refused: not there.
        NotFound => "not-found",
        /// Refused: the request breaks a rule.
        Invalid => "invalid",
        /// Failed here or upstream.
        Error => "error",
        /// The caller hung up before the reply.
        Aborted => "aborted",
        /// A stored value did not open.
        IntegrityFailure => "integrity-failure",
        /// Refused: the person's data are restricted.
        Restricted => "restricted",
    }
}

/// How long a record is kept.
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
    /// Every class, shortest first.
    pub const ALL: [Self; 4] = [Self::OneYear, Self::ThreeYears, Self::SevenYears, Self::TenYears];

    /// The shortest that keeps for so many days, or the longest there is.
    pub fn for_days(days: u32) -> Self {
        let keeps = |class: &Self| u32::from(class.years().unsigned_abs()) * 365 >= days;
        Self::ALL.into_iter().find(keeps).unwrap_or(Self::TenYears)
    }

    /// Whole years.
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

/// Who did it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// A token over HTTP.
    Token {
        /// The token.
        id: TokenId,
        /// Its roles, as [`super::caller::Roles`] writes them.
        roles: Arc<str>,
        /// The network it came from.
        network: Option<Network>,
    },
    /// Nobody known; `None` where there were too many networks to tell apart.
    Anonymous {
        /// The network it came from.
        network: Option<Network>,
    },
    /// The command line.
    CommandLine,
    /// The service itself.
    Service,
}

impl Actor {
    /// Every kind.
    pub const KINDS: [&'static str; 4] = ["token", "anonymous", "command-line", "service"];

    /// The kind as stored and shown.
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

/// One record. Fixed before the first attempt to write it and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// The record; its time is `at`.
    pub id: AuditId,
    /// Whose trail it is in.
    pub tenant: TenantId,
    /// How long it is kept.
    pub class: RetentionClass,
    /// When.
    pub at: DateTime<Utc>,
    /// The request it belongs to.
    pub request: RequestId,
    /// Who.
    pub actor: Actor,
    /// What.
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
    /// Kind of question.
    pub operation: Option<Operation>,
    /// Where the answer was found.
    pub tier: Option<Tier>,
    /// Which entry.
    pub entry: Option<EntryId>,
    /// Whose data: the random name of the person's key.
    pub subject_key: Option<SubjectKeyId>,
    /// What else was acted on: a token, a tenant.
    pub object: Option<Uuid>,
    /// HTTP status of the reply; 0 where there is none.
    pub status: u16,
    /// How many things were touched; -1 where it was not known yet.
    pub count: i64,
    /// Microseconds from the arrival of the request.
    pub duration_us: i64,
    /// What the answer cost or, on a hit, would have.
    pub cost: Usd,
}

/// Where a record stands among those of its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterPlace {
    /// The writer.
    pub writer: WriterId,
    /// Dense, from 1.
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
    /// A record of which no more is known yet; its outcome is an error until it is told.
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

    /// The canonical bytes that `row_hash` is the SHA-256 of. Destructured whole, so that a new
    /// field cannot be left out.
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
