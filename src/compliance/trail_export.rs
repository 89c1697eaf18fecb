//! An export of the audit trail: short pages, oldest first, up to the record that was the newest
//! when it began. One record tells of its beginning before anything leaves, another of its end.

use std::sync::Arc;

use crate::call::{OnWord, ServiceError, StreamEnd};
use crate::domain::action::Action;
use crate::domain::audit_row::AuditRow;
use crate::store::audit_rows::{self, Order, Stretch};

use super::trail_search::TrailSearch;
use super::{Compliance, TrailQuery};

/// The rows that are read and held at a time.
const PAGE: usize = 1_000;

/// An export under way. If it is dropped before its end, it is recorded as aborted.
pub struct TrailExport {
    compliance: Arc<Compliance>,
    search: TrailSearch,
    end: StreamEnd,
}

impl Compliance {
    /// Begins an export of a tenant's trail. It holds the record of its own beginning and every
    /// older one in Postgres; it may miss records that are made later.
    pub async fn export_trail(
        self: &Arc<Self>,
        mut word: OnWord<'_>,
        query: &TrailQuery,
    ) -> Result<TrailExport, ServiceError> {
        let tenant = word.tenant();
        let filter = self.trail_filter(tenant, query).await?;
        // The reading of one person's records is itself a record about that person.
        if let Some(only) = filter.only_subject() {
            word.note(|record| record.subject_key = Some(only));
        }
        let _receipt = word.settle(200, |record| record.count = -1).await?;
        let newest =
            self.parts.store.read("find the newest audit record", tenant, async |mut tx| {
                audit_rows::find_newest(&mut tx).await
            });
        let search = match Box::pin(newest).await? {
            None => TrailSearch::ended(tenant, filter),
            newest => {
                let stretch = Stretch { order: Order::OldestFirst, behind: None, until: newest };
                TrailSearch::new(tenant, filter, stretch)
            }
        };
        let end = self.parts.calls.stream_end(&word, Action::AuditExportEnd);
        Ok(TrailExport { compliance: Arc::clone(self), search, end })
    }
}

impl TrailExport {
    /// Returns the next rows, oldest first and at least one. Returns `None` at the end, whose
    /// record is durable by then.
    pub async fn next(&mut self) -> Result<Option<Vec<AuditRow>>, ServiceError> {
        let read = self.read().await;
        self.end.pass_on(read).await
    }

    /// Passes over windows without rows, each in a transaction and a turn of its own.
    async fn read(&mut self) -> Result<Option<Vec<AuditRow>>, ServiceError> {
        while self.search.rest().is_some() {
            let rows = self.search.read(&self.compliance, PAGE).await?;
            self.end.check_token().await?;
            if !rows.is_empty() {
                self.end.add(rows.len());
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }
}
