//! Owns a row of the audit trail as pages, exports and checks of exports write and read it. It
//! holds every column as it is stored, so that a row that was tampered with can be shown too.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use super::action::Action;
use super::audit_record::{Actor, AuditRecord, Outcome, RetentionClass, WriterPlace};
use super::entry::Tier;
use super::ids::{
    AuditId, EntryId, LedgerId, RequestId, SubjectKeyId, TenantId, TokenId, WriterId,
};
use super::money::Usd;
use super::network::Network;
use super::operation::Operation;

/// A record of the audit trail: ids, enums and numbers only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRow {
    /// The record; a UUIDv7 of `occurredAt`.
    #[schema(value_type = Uuid)]
    pub id: AuditId,
    /// When, to the microsecond.
    #[serde(serialize_with = "to_micros")]
    pub occurred_at: DateTime<Utc>,
    /// Whose trail it is in.
    #[schema(value_type = Uuid)]
    pub tenant_id: TenantId,
    /// Years it is kept: 1, 3, 7 or 10.
    pub retention_class: i16,
    /// The request it belongs to.
    #[schema(value_type = Uuid)]
    pub request_id: RequestId,
    /// Who did it.
    pub actor: AuditRowActor,
    /// What was done or asked for.
    pub action: String,
    /// How it ended.
    pub outcome: String,
    /// Kind of question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Where the answer was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Which entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub entry_id: Option<EntryId>,
    /// Whose data: the random name of the person's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub subject_key_id: Option<SubjectKeyId>,
    /// What else was acted on: a token, a tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_id: Option<Uuid>,
    /// HTTP status of the reply; 0 where there is none.
    pub status: i16,
    /// How many things were touched; -1 where it was not known yet.
    pub count: i64,
    /// Microseconds from the arrival of the request.
    pub duration_us: i64,
    /// What the answer cost or would have, in 10^-12 US dollars; a string, for it may pass 2^53.
    #[serde(with = "digits")]
    #[schema(value_type = String)]
    pub cost_picousd: i64,
    /// The history it belongs to.
    #[schema(value_type = Uuid)]
    pub ledger_id: LedgerId,
    /// Who wrote it; absent on the record of a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub writer_id: Option<WriterId>,
    /// Dense per writer, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_seq: Option<i64>,
    /// The transaction that wrote it.
    pub tx_id: i64,
    /// SHA-256 over the canonical fields, hexadecimal.
    #[serde(with = "hex::serde")]
    #[schema(value_type = String)]
    pub row_hash: Vec<u8>,
    /// HMAC-SHA-256 of `rowHash`, hexadecimal.
    #[serde(with = "hex::serde")]
    #[schema(value_type = String)]
    pub row_mac: Vec<u8>,
    /// The key that made `rowMac`.
    pub mac_key_id: String,
}

/// Who did what a record tells of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRowActor {
    /// token, anonymous, command-line or service.
    pub kind: String,
    /// The token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub token_id: Option<TokenId>,
    /// Its roles, joined by `+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<String>,
    /// The network it came from: IPv4 /24 or IPv6 /48.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

impl AuditRow {
    /// Returns the record that the columns state. The error is the name of a column whose value no
    /// record can have.
    pub fn record(&self) -> Result<AuditRecord, &'static str> {
        Ok(AuditRecord {
            id: self.id,
            tenant: self.tenant_id,
            class: RetentionClass::try_from(self.retention_class)?,
            at: self.occurred_at,
            request: self.request_id,
            actor: self.actor.parse()?,
            action: Action::parse(&self.action).ok_or("action")?,
            outcome: Outcome::parse(&self.outcome).ok_or("outcome")?,
            operation: known(self.operation.as_deref(), Operation::parse, "operation")?,
            tier: known(self.tier.as_deref(), Tier::parse, "tier")?,
            entry: self.entry_id,
            subject_key: self.subject_key_id,
            object: self.object_id,
            status: u16::try_from(self.status).map_err(|_| "status")?,
            count: self.count,
            duration_us: self.duration_us,
            cost: Usd(u64::try_from(self.cost_picousd).map_err(|_| "costPicousd")?),
        })
    }

    /// Returns the place of the row among the records of a writer. Returns `None` if no writer
    /// wrote the row.
    pub fn place(&self) -> Option<WriterPlace> {
        Some(WriterPlace { writer: self.writer_id?, seq: self.writer_seq? })
    }
}

impl AuditRowActor {
    fn parse(&self) -> Result<Actor, &'static str> {
        let network = known(self.network.as_deref(), Network::parse, "network")?;
        match (self.kind.as_str(), self.token_id, self.roles.as_deref(), network) {
            ("token", Some(id), Some(roles), network) => {
                Ok(Actor::Token { id, roles: roles.into(), network })
            }
            ("anonymous", None, None, network) => Ok(Actor::Anonymous { network }),
            ("command-line", None, None, None) => Ok(Actor::CommandLine),
            ("service", None, None, None) => Ok(Actor::Service),
            _ => Err("actor"),
        }
    }
}

/// Parses the value of a column that may be absent. Returns `None` if it is absent, and the name of
/// the column as an error if `parse` does not know the value.
fn known<T>(
    name: Option<&str>,
    parse: impl FnOnce(&str) -> Option<T>,
    column: &'static str,
) -> Result<Option<T>, &'static str> {
    name.map(|name| parse(name).ok_or(column)).transpose()
}

/// Writes rows as lines of JSON. Each line ends in a line break.
pub fn ndjson(rows: &[AuditRow]) -> serde_json::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, row)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Writes a time with always six digits behind the point.
fn to_micros<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// Writes and reads a number as a string of its decimal digits.
mod digits {
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
    pub fn serialize<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
