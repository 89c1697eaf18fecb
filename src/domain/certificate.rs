//! What an erasure's certificate says: ids, numbers and times only. It is signed over canonical
//! bytes, so that it may be formatted in any way.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::canonical::Encoder;
use super::ids::{AuditId, GdprRequestId, HoldId, SubjectKeyId, TenantId};

/// What an erasure did (GDPR Art. 17, to be shown under Art. 5(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// Whose data it was about.
    pub tenant_id: TenantId,
    /// The request.
    pub request_id: GdprRequestId,
    /// The person: HMAC-SHA-256 of the id under the tenant's key, in hexadecimal.
    pub subject_index: String,
    /// The random name of the person's key, as records have it; null: nothing was held.
    pub subject_key_id: Option<SubjectKeyId>,
    /// When the person asked.
    pub received_at: DateTime<Utc>,
    /// When the key was destroyed; null: it was not.
    pub key_destroyed_at: Option<DateTime<Utc>>,
    /// The key that wrapped it. Backups made before the rotation that retires that key hold the
    /// person's key under it: once it is destroyed too, they open nothing of the person's; until
    /// then the erasure ledger alone bars that. If the name does not begin with `wrap-` it is a
    /// master key's, which is not rotated out.
    pub wrapping_key_id: Option<String>,
    /// When all that is said here was true.
    pub issued_at: DateTime<Utc>,
    /// What was removed.
    pub removed: Removed,
    /// What was not removed, and why: legal holds (GDPR Art. 17(3)(e)).
    pub exceptions: Vec<HoldId>,
    /// The audit records of what became of the request: who decided and executed it, and when.
    pub audit_ids: Vec<AuditId>,
}

/// What was removed, by tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Removed {
    /// Replicas that are known to serve nothing of it from memory any more, and to free that.
    pub memory_replicas: u64,
    /// Names in Redis that are known to hold nothing more.
    pub redis_names: u64,
    /// Entries in Postgres.
    pub postgres_entries: u64,
    /// Packages of exports.
    pub export_packages: u64,
}

/// A certificate with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedCertificate {
    /// What is said.
    pub certificate: Certificate,
    /// The master key that the signing key is derived from.
    pub key_id: String,
    /// The public half, Ed25519 (RFC 8032), in hexadecimal.
    pub public_key: String,
    /// Over the canonical bytes, in hexadecimal.
    pub signature: String,
}

impl Certificate {
    /// The bytes that are signed. Destructured whole, so that a new field cannot be left out.
    pub fn canonical(&self) -> Vec<u8> {
        let Self {
            tenant_id,
            request_id,
            subject_index,
            subject_key_id,
            received_at,
            key_destroyed_at,
            wrapping_key_id,
            issued_at,
            removed,
            exceptions,
            audit_ids,
        } = self;
        let Removed { memory_replicas, redis_names, postgres_entries, export_packages } = removed;
        let mut out = Encoder::new("ai-cache erasure certificate 1");
        out.bytes(tenant_id.0.as_bytes()).bytes(request_id.0.as_bytes()).text(subject_index);
        out.option(*subject_key_id, |out, id| {
            out.bytes(id.0.as_bytes());
        });
        out.i64(received_at.timestamp_micros());
        out.option(*key_destroyed_at, |out, at| {
            out.i64(at.timestamp_micros());
        });
        out.option(wrapping_key_id.as_ref(), |out, id| {
            out.text(id);
        });
        out.i64(issued_at.timestamp_micros());
        out.u64(*memory_replicas).u64(*redis_names).u64(*postgres_entries).u64(*export_packages);
        out.u64(exceptions.len() as u64);
        for id in exceptions {
            out.bytes(id.0.as_bytes());
        }
        out.u64(audit_ids.len() as u64);
        for id in audit_ids {
            out.bytes(id.0.as_bytes());
        }
        out.finish()
    }
}
