//! An export of the audit trail: short pages, oldest first, up to the record that was the newest
//! when it began. A record tells of its beginning before anything leaves, another of its end.

use std::sync::Arc;
use std::time::Instant;

use crate::domain::audit_record::{Action, AuditRecord, Outcome};
use crate::domain::audit_row::AuditRow;
use crate::domain::ids::TenantId;
use crate::store::audit_rows::{self, Order, Stretch, TrailFilter};

use super::trail::note_subject;
use super::trail_search::TrailSearch;
use super::{Compliance, TrailQuery};
use crate::call::{Call, ServiceError};
use crate::call::{ServedToken, StreamEnd};

/// Rows that are read and held at a time.
const PAGE: usize = 1_000;

/// An export under way. Dropped before its end, it is recorded as aborted.
pub struct TrailExport {
    service: Arc<Compliance>,
    search: TrailSearch,
    /// `None` on the word of the command line.
    token: Option<ServedToken>,
    end: StreamEnd,
}

impl Compliance {
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
        let token = ServedToken::of(call);
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
            ..self.parts.calls.command_line_record()
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
        let newest = store.read("find the newest audit record", tenant, async |mut tx| {
            audit_rows::find_newest(&mut tx).await
        });
        let search = match Box::pin(newest).await? {
            None => TrailSearch::ended(tenant, filter),
            newest => {
                let stretch = Stretch { order: Order::OldestFirst, behind: None, until: newest };
                TrailSearch::new(tenant, filter, stretch)
            }
        };
        let end = self.parts.calls.stream_end(end, begun);
        Ok(TrailExport { service: Arc::clone(self), search, token: None, end })
    }
}

impl TrailExport {
    /// The next rows, oldest first and at least one; `None` at the end, whose record is durable by
    /// then.
    pub async fn next(&mut self) -> Result<Option<Vec<AuditRow>>, ServiceError> {
        let read = self.read().await;
        self.end.pass_on(read).await
    }

    /// Passes over windows without rows, each in a transaction and a turn of its own.
    async fn read(&mut self) -> Result<Option<Vec<AuditRow>>, ServiceError> {
        while self.search.rest().is_some() {
            let rows = self.search.read(&self.service, PAGE).await?;
            // Asked after the reading, which takes its time: no page leaves once it is known.
            if let Some(token) = &self.token {
                token.check(&self.service.parts.calls).await?;
            }
            if !rows.is_empty() {
                self.end.add(rows.len());
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }
}
