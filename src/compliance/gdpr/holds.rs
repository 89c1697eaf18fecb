//! Legal holds: while a hold is in force, nothing that it covers is removed or replaced, whatever
//! its age and whoever asks (GDPR Art. 17(3)(e)).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::call::{Call, ServiceError};
use crate::compliance::Compliance;
use crate::crypto::Sealed;
use crate::domain::action::Action;
use crate::domain::audit_record::{AuditRecord, Outcome};
use crate::domain::ids::HoldId;
use crate::domain::query::SubjectId;
use crate::keyring::{TextKind, TextPlace, open_texts};
use crate::store::holds::{self, HoldRow, Lifted, NewHold};
use crate::store::{self, Ending, StoreError, invalidations};

use super::{GdprError, token_of};

/// The most holds of a list. Those in force come first.
const MOST_TOLD: i64 = 1_000;

/// A hold to be set.
#[derive(Debug, Clone)]
pub struct NewHoldText {
    /// The person. `None` means everything of the tenant.
    pub subject: Option<SubjectId>,
    /// The time from which it is in force. `None` means now.
    pub from: Option<DateTime<Utc>>,
    /// The time until which it is in force. `None` means until it is lifted.
    pub until: Option<DateTime<Utc>>,
    /// The reason.
    pub reason: String,
}

/// The person and the reason of a hold, as they are sealed.
#[derive(Serialize, Deserialize)]
struct HoldText {
    subject: Option<String>,
    reason: String,
}

/// A hold in the clear.
#[derive(Debug, Clone)]
pub struct HoldView {
    /// The hold.
    pub row: HoldRow,
    /// The person. `None` means everything of the tenant.
    pub subject: Option<String>,
    /// The reason why it was set.
    pub reason: String,
    /// The reason why it was lifted.
    pub lift_reason: Option<String>,
}

impl Compliance {
    /// Sets a hold. `record` names the tenant and the setter.
    pub async fn set_hold(
        &self,
        new: &NewHoldText,
        record: AuditRecord,
    ) -> Result<HoldId, GdprError> {
        let tenant = record.tenant;
        let keyring = &self.parts.keyring;
        let keys = keyring.tenant_keys(tenant).await?;
        let now = self.parts.clock.now();
        let id = HoldId::fresh(&*self.parts.ids, now);
        let subject = new.subject.as_ref().map(|subject| keys.subject_index(subject));
        let key = match subject {
            Some(subject) => keyring.find_subject_key_by_index(&keys, subject).await?,
            None => None,
        };
        let named = new.subject.as_ref().map(|subject| String::from_utf8_lossy(subject.as_bytes()));
        let text = HoldText { subject: named.map(Into::into), reason: new.reason.clone() };
        let text = serde_json::to_vec(&text).map_err(|_| ServiceError::Malformed)?;
        let place = TextPlace { kind: TextKind::HoldReason, object: id.0 };
        let reason = keys.seal_text(place, &text)?;
        let (from, by) = (new.from.unwrap_or(now), token_of(&record.actor));
        let hold = NewHold { id, subject, from, until: new.until, reason: &reason, at: now, by };
        let record = self.parts.audit.stamp(AuditRecord {
            action: Action::HoldSet,
            object: Some(id.0),
            subject_key: key.map(|key| key.id),
            count: 1,
            ..record
        });
        let store = &self.parts.store;
        let set = store.change("set a legal hold", tenant, async |mut tx| {
            // A removal or replacement that is under way ends before this; a later one sees the
            // hold.
            invalidations::lock_for_invalidation(&mut tx, now).await?;
            holds::insert(&mut tx, &hold).await?;
            let recorded = store::audit::insert(&mut tx, &record).await?;
            Ok::<_, StoreError>(Ending::Commit(recorded, ()))
        });
        set.await?;
        Ok(id)
    }

    /// Lifts a hold for a reason. `record` names the tenant and the lifter.
    pub async fn lift_hold(
        &self,
        id: HoldId,
        reason: &str,
        record: AuditRecord,
    ) -> Result<(), GdprError> {
        let tenant = record.tenant;
        let keys = self.parts.keyring.tenant_keys(tenant).await?;
        let place = TextPlace { kind: TextKind::HoldLift, object: id.0 };
        let reason = keys.seal_text(place, reason.as_bytes())?;
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let by = token_of(&record.actor);
        let record =
            AuditRecord { action: Action::HoldLift, object: Some(id.0), count: 1, ..record };
        let record = self.parts.audit.stamp(record);
        let lifted = store.change("lift a legal hold", tenant, async |mut tx| {
            let lifted = holds::update_lifted(&mut tx, id, now, by, &reason).await?;
            if lifted != Lifted::Now {
                return Ok::<_, StoreError>(Ending::RollBack(lifted));
            }
            let recorded = store::audit::insert(&mut tx, &record).await?;
            Ok(Ending::Commit(recorded, lifted))
        });
        match lifted.await? {
            Lifted::Now => {}
            Lifted::Before => return Err(GdprError::LiftedBefore),
            Lifted::Unknown => return Err(GdprError::NotFound),
        }
        // The data that the hold kept from an erasure are erased now.
        self.wake_worker();
        Ok(())
    }

    /// Lists the holds of the caller's tenant, also lifted ones, or shows one of them.
    pub async fn list_holds(
        &self,
        call: &mut Call,
        only: Option<HoldId>,
    ) -> Result<Vec<HoldView>, GdprError> {
        let (store, tenant) = (&self.parts.store, call.caller.tenant);
        let rows = store.read("list legal holds", tenant, async |mut tx| {
            holds::list(&mut tx, only, MOST_TOLD).await
        });
        let rows = rows.await?;
        let keys = self.parts.keyring.tenant_keys(tenant).await?;
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let receipt = call
            .settle(|record| {
                record.outcome = Outcome::Done;
                record.status = 200;
                record.count = count;
                record.object = only.map(|id| id.0);
            })
            .await?;
        let texts: Vec<(TextPlace, &Sealed)> = rows.iter().flat_map(texts_of).collect();
        let mut opened = open_texts(receipt, &keys, &texts)?.into_iter();
        let mut next = || opened.next().ok_or(ServiceError::Malformed);
        let mut views = Vec::with_capacity(rows.len());
        for row in &rows {
            let text = next()?;
            let HoldText { subject, reason } =
                serde_json::from_slice(text.as_bytes()).map_err(|_| ServiceError::Malformed)?;
            let lift = row.lift.as_ref().map(|_| next()).transpose()?;
            let lift = lift.map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
            views.push(HoldView { row: row.clone(), subject, reason, lift_reason: lift });
        }
        Ok(views)
    }
}

/// The sealed texts of a hold, in the order in which they are taken.
fn texts_of(row: &HoldRow) -> impl Iterator<Item = (TextPlace, &Sealed)> {
    let at = |kind| TextPlace { kind, object: row.id.0 };
    let lift = row.lift.iter().map(move |lift| (at(TextKind::HoldLift), lift));
    std::iter::once((at(TextKind::HoldReason), &row.reason)).chain(lift)
}
