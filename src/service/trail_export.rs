//! An export of the audit trail: short pages, oldest first, up to the record that was the newest
//! when it began. A record tells of its beginning before anything leaves, another of its end.

use std::sync::Arc;
use std::time::Instant;

use crate::audit::{Draft, Recording};
use crate::coherence::TenantView;
use crate::domain::audit_record::{Action, AuditRecord, Outcome};
use crate::domain::audit_row::AuditRow;
use crate::domain::clock::Clock;
use crate::domain::ids::{AuditId, Ids, TenantId, TokenId};
use crate::store::StoreError;
use crate::store::audit_rows::{self, Order, Stretch, TrailFilter};

use super::trail::note_subject;
use super::trail_search::TrailSearch;
use super::{Call, Service, ServiceError, TrailQuery};

/// Rows that are read and held at a time.
const PAGE: usize = 1_000;

/// An export under way. Dropped before its end, it is recorded as aborted.
pub struct TrailExport {
    service: Arc<Service>,
    search: TrailSearch,
    /// `None` on the word of the command line.
    token: Option<ServedToken>,
    end: End,
}

/// The token that an export is for.
struct ServedToken {
    id: TokenId,
    view: Arc<TenantView>,
}

impl Service {
    /// Begins an export of the trail of the caller's tenant. It holds the record of its own
    /// beginning and every older one in Postgres; what is recorded later may miss.
    pub async fn export_trail(
        self: &Arc<Self>,
        call: &mut Call,
        query: &TrailQuery,
    ) -> Result<TrailExport, ServiceError> {
        let tenant = call.caller.tenant;
        let filter = self.trail_filter(tenant, query).await?;
        note_subject(call, &filter);
        let _receipt = call
            .settle(|record| {
                record.outcome = Outcome::Done;
                record.status = 200;
                record.count = -1;
            })
            .await?;
        let end = AuditRecord { status: 200, ..call.change(tenant, Action::AuditExportEnd) };
        let token = ServedToken { id: call.caller.token, view: Arc::clone(&call.view) };
        let export = self.begin_export(filter, end, call.arrived()).await?;
        Ok(TrailExport { token: Some(token), ..export })
    }

    /// Begins an export of a tenant's trail on the word of the command line.
    pub async fn export_trail_of(
        self: &Arc<Self>,
        tenant: TenantId,
        query: &TrailQuery,
    ) -> Result<TrailExport, ServiceError> {
        let begun = Instant::now();
        let filter = self.trail_filter(tenant, query).await?;
        let record = AuditRecord {
            tenant,
            action: Action::AuditExport,
            count: -1,
            ..self.command_line_record()
        };
        let end = AuditRecord { action: Action::AuditExportEnd, ..record.clone() };
        let _receipt = self.parts.audit.record(record).await?;
        self.begin_export(filter, end, begun).await
    }

    async fn begin_export(
        self: &Arc<Self>,
        filter: TrailFilter,
        end: AuditRecord,
        begun: Instant,
    ) -> Result<TrailExport, ServiceError> {
        let (store, tenant) = (&self.parts.store, end.tenant);
        let newest = store.bounded(async {
            let mut tx = store.tenant(tenant).await?;
            let newest = audit_rows::find_newest(&mut tx).await?;
            tx.end().await?;
            Ok::<_, StoreError>(newest)
        });
        let search = match Box::pin(newest).await? {
            None => TrailSearch::ended(tenant, filter),
            newest => {
                let stretch = Stretch { order: Order::OldestFirst, behind: None, until: newest };
                TrailSearch::new(tenant, filter, stretch)
            }
        };
        let end = End {
            draft: Some(Draft::new(self.parts.audit.clone(), end)),
            clock: Arc::clone(&self.parts.clock),
            ids: Arc::clone(&self.parts.ids),
            begun,
            count: 0,
        };
        Ok(TrailExport { service: Arc::clone(self), search, token: None, end })
    }
}

impl TrailExport {
    /// The next rows, oldest first and at least one; `None` at the end, whose record is durable by
    /// then.
    pub async fn next(&mut self) -> Result<Option<Vec<AuditRow>>, ServiceError> {
        let read = self.read().await;
        let outcome = match &read {
            Ok(Some(_)) => return read,
            Ok(None) => Outcome::Done,
            Err(ServiceError::Revoked) => Outcome::Denied,
            Err(_) => Outcome::Error,
        };
        if let Some(recording) = self.end.tell(outcome) {
            let _receipt = recording.await?;
        }
        read
    }

    /// Passes over windows without rows, each in a transaction and a turn of its own.
    async fn read(&mut self) -> Result<Option<Vec<AuditRow>>, ServiceError> {
        while self.search.rest().is_some() {
            let rows = self.search.read(&self.service, PAGE).await?;
            // Asked after the reading, which takes its time: no page leaves once it is known.
            if self.token.as_ref().is_some_and(|token| !token.is_accepted(&self.service)) {
                return Err(ServiceError::Revoked);
            }
            if !rows.is_empty() {
                self.end.count += i64::try_from(rows.len()).unwrap_or(0);
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }
}

impl ServedToken {
    /// As far as this process has heard; it hears of changes within 2.5 s.
    fn is_accepted(&self, service: &Service) -> bool {
        self.view.is_active() && !service.parts.remembered.is_revoked(self.id)
    }
}

/// Tells the end of an export once, also when nobody asks for its rows any more.
struct End {
    /// `None` once told.
    draft: Option<Draft>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    begun: Instant,
    /// Rows that were given out.
    count: i64,
}

impl End {
    fn tell(&mut self, outcome: Outcome) -> Option<Recording> {
        let draft = self.draft.take()?;
        let at = self.clock.now();
        let id = AuditId::fresh(&*self.ids, at);
        let duration_us = i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX);
        let count = self.count;
        draft.settle(|record| {
            *record = AuditRecord { id, at, outcome, count, duration_us, ..record.clone() };
        })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // The record is written though nobody waits for it.
        drop(self.tell(Outcome::Aborted));
    }
}
