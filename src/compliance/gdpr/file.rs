//! Filing a request. Two filings with the same idempotency key are one request.

use chrono::{DateTime, Utc};

use crate::call::ServiceError;
use crate::compliance::Compliance;
use crate::domain::action::Action;
use crate::domain::audit_record::AuditRecord;
use crate::domain::canonical::Encoder;
use crate::domain::gdpr::{RequestEvent, RequestKind};
use crate::domain::ids::{AuditId, GdprRequestId, TenantId};
use crate::domain::query::SubjectId;
use crate::keyring::{BlindKind, TenantKeys, TextKind, TextPlace};
use crate::store::gdpr::{NewRequest, RequestRow};
use crate::store::{self, Ending, Recorded, WriteTx, gdpr, tenants};

use super::view::Details;
use super::{GdprError, Happening, about, token_of};

/// A filing.
#[derive(Debug, Clone)]
pub struct Filing {
    /// The kind of request.
    pub kind: RequestKind,
    /// The person.
    pub subject: SubjectId,
    /// The reason.
    pub reason: String,
    /// The name of the request in another system.
    pub reference: Option<String>,
    /// The time when the person asked. `None` means now.
    pub received_at: Option<DateTime<Utc>>,
    /// The client's idempotency key.
    pub idempotency_key: Option<String>,
}

impl Filing {
    fn digest(&self, keys: &TenantKeys) -> [u8; 32] {
        let Self { kind, subject, reason, reference, received_at, idempotency_key: _ } = self;
        let mut out = Encoder::new("ai-cache filing 1");
        out.text(kind.name()).bytes(subject.as_bytes()).text(reason);
        out.option(reference.as_ref(), |out, reference| {
            out.text(reference);
        });
        out.option(*received_at, |out, at| {
            out.i64(at.timestamp_micros());
        });
        keys.blind_index(BlindKind::Filing, out.as_bytes()).0
    }
}

impl Compliance {
    /// Files a request. `record` names the tenant and the filer. Returns the request, or the one
    /// that was filed before under the same idempotency key.
    pub async fn file_request(
        &self,
        filing: &Filing,
        record: AuditRecord,
    ) -> Result<RequestRow, GdprError> {
        let tenant = record.tenant;
        let keys = self.parts.keyring.tenant_keys(tenant).await?;
        let now = self.parts.clock.now();
        let id = GdprRequestId::fresh(&*self.parts.ids, now);
        let details = Details { reason: &filing.reason, reference: filing.reference.as_deref() };
        let details = serde_json::to_vec(&details).map_err(|_| ServiceError::Malformed)?;
        let seal = |kind, text: &[u8]| keys.seal_text(TextPlace { kind, object: id.0 }, text);
        let subject_sealed = seal(TextKind::RequestSubject, filing.subject.as_bytes())?;
        let details = seal(TextKind::RequestDetails, &details)?;
        let name = filing.idempotency_key.as_ref();
        let name = name.map(|key| keys.blind_index(BlindKind::IdempotencyKey, key.as_bytes()).0);
        let digest = filing.digest(&keys);
        let store = &self.parts.store;
        let filed = store.change("file a request", tenant, async |mut tx| {
            let received_at = filing.received_at.unwrap_or(now);
            let due_at = tenants::get_rules(&mut tx).await?.zone.due(received_at);
            let new = NewRequest {
                id,
                kind: filing.kind,
                subject_sealed: &subject_sealed,
                subject: keys.subject_index(&filing.subject),
                details: &details,
                idempotency_key: name,
                digest,
                filed_by: token_of(&record.actor),
                received_at,
                due_at,
                created_at: now,
            };
            if !gdpr::insert(&mut tx, &new).await? {
                return Ok::<_, GdprError>(Ending::RollBack(false));
            }
            let recorded = self.admit_request(&mut tx, &keys, id, &record).await?;
            Ok(Ending::Commit(recorded, true))
        });
        if !filed.await? {
            return self.filed_before(tenant, name.as_ref(), &digest).await;
        }
        self.wake_worker();
        self.find_request(tenant, id).await
    }

    async fn filed_before(
        &self,
        tenant: TenantId,
        name: Option<&[u8; 32]>,
        digest: &[u8; 32],
    ) -> Result<RequestRow, GdprError> {
        let store = &self.parts.store;
        let before =
            store.read("find a request that was filed before", tenant, async |mut tx| match name {
                Some(name) => gdpr::find_by_idempotency_key(&mut tx, name).await,
                None => Ok(None),
            });
        let before = before.await?.ok_or(GdprError::NotFound)?;
        if before.digest.as_deref() == Some(&digest[..]) {
            Ok(before)
        } else {
            Err(GdprError::OtherFiling)
        }
    }

    /// Records the filing, and whether it waits for somebody's approval. The transaction commits with
    /// the record that this function returns.
    async fn admit_request(
        &self,
        tx: &mut WriteTx,
        keys: &TenantKeys,
        id: GdprRequestId,
        record: &AuditRecord,
    ) -> Result<Recorded, GdprError> {
        let row = gdpr::lock(tx, id).await?.ok_or(GdprError::NotFound)?;
        let next = AuditId::fresh(&*self.parts.ids, record.at);
        let accepted = AuditRecord { id: next, ..record.clone() };
        let filed = about(id, Action::GdprFile, record.clone());
        let _also = store::audit::insert(tx, &self.parts.audit.stamp(filed)).await?;
        let event = if tenants::get_rules(tx).await?.approval {
            RequestEvent::AskApproval
        } else {
            RequestEvent::Accept
        };
        let happening = Happening::new(event, accepted, keys, None)?;
        let (_, recorded) = self.happen(tx, &row, &happening).await?;
        Ok(recorded)
    }
}
