//! Owns the certificate of an erasure, which never holds anything but ids, numbers and times. The
//! signature is over canonical bytes, so that a certificate may be formatted in any way.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::canonical::Encoder;
use super::ids::{AuditId, GdprRequestId, HoldId, SubjectKeyId, TenantId};

/// A statement of what an erasure did (GDPR Art. 17), to be shown under Art. 5(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// The tenant whose data the erasure was about.
    pub tenant_id: TenantId,
    /// The request of the data subject.
    pub request_id: GdprRequestId,
    /// The blind index of the person: the HMAC-SHA-256 of the subject's id under the tenant's key,
    /// in hexadecimal.
    pub subject_index: String,
    /// The id of the person's key, as audit records hold it. Null means that nothing was held.
    pub subject_key_id: Option<SubjectKeyId>,
    /// The time at which the person asked for the erasure.
    pub received_at: DateTime<Utc>,
    /// The time at which the person's key was destroyed. Null means that it was not destroyed.
    pub key_destroyed_at: Option<DateTime<Utc>>,
    /// The id of the key that wrapped the person's key. Backups made before the rotation that
    /// retires the wrapping key hold the person's key under it. Once the wrapping key is destroyed
    /// too, these backups open nothing of the person. Until then only the erasure ledger prevents
    /// that. An id that does not begin with `wrap-` names a master key, which is not rotated out.
    pub wrapping_key_id: Option<String>,
    /// The time at which every statement of the certificate was true.
    pub issued_at: DateTime<Utc>,
    /// The numbers of things that were removed.
    pub removed: Removed,
    /// The legal holds because of which data were not removed (GDPR Art. 17(3)(e)).
    pub exceptions: Vec<HoldId>,
    /// The audit records of the request, which say who decided and executed it, and when.
    pub audit_ids: Vec<AuditId>,
}

/// The numbers of things that an erasure removed, by tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Removed {
    /// The replicas that are known to serve nothing of the person from memory any more and to free
    /// that memory.
    pub memory_replicas: u64,
    /// The names in Redis that are known to hold nothing any more.
    pub redis_names: u64,
    /// The entries in Postgres that were removed.
    pub postgres_entries: u64,
    /// The packages of exports that were removed.
    pub export_packages: u64,
}

/// A certificate with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedCertificate {
    /// The certificate that is signed.
    pub certificate: Certificate,
    /// The id of the master key that the signing key is derived from.
    pub key_id: String,
    /// The public half of the signing key, Ed25519 (RFC 8032), in hexadecimal.
    pub public_key: String,
    /// The signature over the canonical bytes, in hexadecimal.
    pub signature: String,
}

impl Certificate {
    /// Returns the bytes that are signed. The function destructures the whole certificate, so that
    /// a new field cannot be left out.
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
