//! Entries without their answers: a tenant's list of them, and one of them.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::audit::Receipt;
use crate::domain::audit_record::Outcome;
use crate::domain::entry::{Place, Tier};
use crate::domain::ids::{EntryId, SubjectKeyId, TenantId};
use crate::domain::operation::Operation;
use crate::keyring::{
    self, BlindKind, EntryKey, KeyringError, ListedEntry, SubjectKey, TenantKeys,
};
use crate::store::entries::{EntryFilter, EntryRow};
use crate::store::{StoreError, entries};

use super::Administration;
use crate::call::{Call, Labels, ServiceError};

/// The filter of a list of entries, in the caller's words.
#[derive(Debug, Clone, Default)]
pub struct EntryQuery {
    /// Only entries of this operation.
    pub operation: Option<Operation>,
    /// Only entries at this location.
    pub location: Option<String>,
    /// Only entries with this tag.
    pub tag: Option<String>,
    /// The list continues after this entry.
    pub after: Option<EntryId>,
    /// The most entries of a page.
    pub limit: u16,
}

/// An entry without its answer.
#[derive(Debug, Clone)]
pub struct EntryView {
    /// The entry.
    pub id: EntryId,
    /// The operation.
    pub operation: Operation,
    /// Whether the entry belongs to one person.
    pub private: bool,
    /// The location, vendor types and tags.
    pub labels: Labels,
    /// The bytes of the sealed fields.
    pub size_bytes: i64,
    /// The times that the entry was served.
    pub access_count: i64,
    /// The time when it was made.
    pub created_at: DateTime<Utc>,
    /// The time when it was last served.
    pub last_accessed_at: Option<DateTime<Utc>>,
    /// Whole seconds since it was made.
    pub age_seconds: i64,
    /// The time when it stops being good.
    pub expires_at: DateTime<Utc>,
    /// The tiers of this process that hold it.
    pub tiers: Vec<Tier>,
}

/// A page of entries, newest first.
#[derive(Debug, Clone)]
pub struct EntryPage {
    /// The entries. A short or empty page does not say that there are no more.
    pub entries: Vec<EntryView>,
    /// The entry after which the next page continues. `None` at the end.
    pub next: Option<EntryId>,
}

/// The reason why there is no entry to show.
#[derive(Debug, thiserror::Error)]
pub enum EntriesError {
    /// Something of the service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// There is no such entry of the caller's tenant.
    #[error("there is no such entry")]
    NotFound,
}

impl Administration {
    /// Returns a page of the entries of the caller's tenant.
    pub async fn list_entries(
        &self,
        call: &mut Call,
        query: &EntryQuery,
    ) -> Result<EntryPage, ServiceError> {
        let keys = self.parts.keyring.tenant_keys(call.caller.tenant).await?;
        let index = |kind, text: &String| keys.blind_index(kind, text.as_bytes());
        let filter = EntryFilter {
            operation: query.operation,
            location: query.location.as_ref().map(|text| index(BlindKind::Location, text)),
            tag: query.tag.as_ref().map(|text| index(BlindKind::Tag, text)),
            before: query.after,
        };
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let read = store.read_snapshot("list entries", call.caller.tenant, async |mut tx| {
            entries::list(&mut tx, &filter, now, usize::from(query.limit)).await
        });
        let (rows, next) = read.await?;
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let receipt = call
            .settle(|record| {
                record.outcome = Outcome::Done;
                record.status = 200;
                record.count = count;
            })
            .await?;
        let entries = self.open_rows(call, receipt, keys, &rows, now).await?;
        Ok(EntryPage { entries, next })
    }

    /// Returns one entry of the caller's tenant.
    pub async fn entry(&self, call: &mut Call, id: EntryId) -> Result<EntryView, EntriesError> {
        call.note(|record| record.entry = Some(id));
        let row = self.find_row(call.caller.tenant, id).await.map_err(ServiceError::from)?;
        let row = row.ok_or(EntriesError::NotFound)?;
        let tenant = call.caller.tenant;
        let keys = self.parts.keyring.tenant_keys(tenant).await.map_err(ServiceError::from)?;
        let receipt = call
            .settle(|record| {
                record.outcome = Outcome::Done;
                record.status = 200;
                record.count = 1;
                record.entry = None; // a list of one: labels are opened, not the answer
                record.object = Some(id.0);
            })
            .await
            .map_err(ServiceError::from)?;
        let now = self.parts.clock.now();
        let rows = std::slice::from_ref(&row);
        let views = self.open_rows(call, receipt, keys, rows, now).await?;
        views.into_iter().next().ok_or(EntriesError::NotFound)
    }

    async fn find_row(
        &self,
        tenant: TenantId,
        id: EntryId,
    ) -> Result<Option<EntryRow>, StoreError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        store
            .read("find an entry", tenant, async |mut tx| entries::find(&mut tx, id, now).await)
            .await
    }

    /// Opens the labels of rows, and adds what this process knows of them. A row whose labels do
    /// not open is left out and gets a record of its own.
    async fn open_rows(
        &self,
        call: &mut Call,
        receipt: Receipt,
        keys: Arc<TenantKeys>,
        rows: &[EntryRow],
        now: DateTime<Utc>,
    ) -> Result<Vec<EntryView>, ServiceError> {
        let tenant = keys.tenant();
        let mut ids: Vec<SubjectKeyId> =
            rows.iter().filter_map(|row| row.meta.subject_key).collect();
        ids.sort_unstable();
        ids.dedup();
        let subjects: HashMap<SubjectKeyId, Arc<SubjectKey>> = self
            .parts
            .keyring
            .list_subject_keys(tenant, &ids)
            .await?
            .into_iter()
            .map(|key| (key.id, key))
            .collect();
        let place = |row: &EntryRow| Place { tenant, key: row.key, generation: row.generation };
        // A row is already gone if its person's key was destroyed a moment ago.
        let rows: Vec<&EntryRow> = rows
            .iter()
            .filter(|row| row.meta.subject_key.is_none_or(|id| subjects.contains_key(&id)))
            .collect();
        let listed: Vec<ListedEntry<'_>> = rows
            .iter()
            .map(|row| {
                let subject = row.meta.subject_key.and_then(|id| subjects.get(&id));
                let key = EntryKey::new(Arc::clone(&keys), subject.map(Arc::clone));
                ListedEntry { key, place: place(row), meta: &row.meta, labels: &row.labels }
            })
            .collect();
        let opened = keyring::open_labels(receipt, tenant, &listed)?;
        let mut views = Vec::with_capacity(rows.len());
        for (row, labels) in rows.iter().zip(opened) {
            let labels = labels.and_then(|labels| {
                serde_json::from_slice(labels.as_bytes()).map_err(|_| KeyringError::Malformed)
            });
            match labels {
                Ok(labels) => views.push(self.view_of(row, &place(row), labels, now)),
                Err(error) => {
                    self.parts.calls.record_distrust(call, row.meta.id, Tier::Cold, &error).await?;
                }
            }
        }
        Ok(views)
    }

    fn view_of(
        &self,
        row: &EntryRow,
        place: &Place,
        labels: Labels,
        now: DateTime<Utc>,
    ) -> EntryView {
        let meta = &row.meta;
        let hot = self.parts.stack.hot.get(place);
        let hot = hot.filter(|entry| entry.stored.meta.id == meta.id);
        let pending = hot.as_ref().map_or(0, |entry| entry.pending_uses());
        let mut tiers = vec![Tier::Cold];
        if hot.is_some() {
            tiers.insert(0, Tier::Hot);
        }
        EntryView {
            id: meta.id,
            operation: meta.operation,
            private: meta.subject_key.is_some(),
            labels,
            size_bytes: row.size_bytes,
            access_count: row.access_count + i64::try_from(pending).unwrap_or(0),
            created_at: meta.created_at,
            last_accessed_at: hot.and_then(|entry| entry.last_used()).max(row.last_accessed_at),
            age_seconds: meta.age(now).num_seconds(),
            expires_at: meta.expires_at,
            tiers,
        }
    }
}
