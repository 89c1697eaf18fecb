//! Reading the audit trail of the caller's tenant. The reading is itself recorded before the reply
//! leaves.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::domain::action::Action;
use crate::domain::audit_record::Outcome;
use crate::domain::audit_row::AuditRow;
use crate::domain::ids::{AuditId, EntryId, RequestId, TenantId};
use crate::domain::query::SubjectId;
use crate::store::audit_rows::{ActorFilter, Order, Stretch, TrailFilter};

use super::Compliance;
use super::trail_search::TrailSearch;
use crate::call::{Call, ServiceError};

/// The time after which a page is given as it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// The filter of a reading, in the caller's words.
#[derive(Debug, Clone, Default)]
pub struct TrailQuery {
    /// Only records of this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Only records before this time.
    pub to: Option<DateTime<Utc>>,
    /// Only records of this action.
    pub action: Option<Action>,
    /// Only records of this actor.
    pub actor: Option<ActorFilter>,
    /// Only records about this person.
    pub subject: Option<SubjectId>,
    /// Only records of this entry.
    pub entry: Option<EntryId>,
    /// Only records of this request.
    pub request: Option<RequestId>,
}

/// A page of the trail, newest first.
#[derive(Debug, Clone)]
pub struct TrailPage {
    /// The records.
    pub rows: Vec<AuditRow>,
    /// The record after which the next page continues. `None` at the end.
    pub next: Option<AuditId>,
}

impl Compliance {
    /// Returns a page of the trail of the caller's tenant: records older than `before`. The record
    /// of this reading is not on it. A page that takes long to find is given short or empty, and
    /// the next one continues where the search stopped.
    pub async fn read_trail(
        &self,
        call: &mut Call,
        query: &TrailQuery,
        before: Option<AuditId>,
        limit: u16,
    ) -> Result<TrailPage, ServiceError> {
        let tenant = call.caller.tenant;
        let filter = self.trail_filter(tenant, query).await?;
        // The reading of one person's records is itself a record about that person.
        if let Some(only) = filter.only_subject() {
            call.note(|record| record.subject_key = Some(only));
        }
        let stretch = Stretch { order: Order::NewestFirst, behind: before, until: None };
        let mut search = TrailSearch::new(tenant, filter, stretch);
        let TrailPage { rows, next } = self.find_page(&mut search, usize::from(limit)).await?;
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let _receipt = call
            .settle(|record| {
                record.outcome = Outcome::Done;
                record.status = 200;
                record.count = count;
            })
            .await?;
        Ok(TrailPage { rows, next })
    }

    async fn find_page(
        &self,
        search: &mut TrailSearch,
        limit: usize,
    ) -> Result<TrailPage, ServiceError> {
        let begun = Instant::now();
        let mut rows = Vec::new();
        while rows.len() < limit && search.rest().is_some() && begun.elapsed() < PATIENCE {
            // One row more than the page holds tells whether another page follows.
            rows.extend(search.read(self, limit + 1 - rows.len()).await?);
        }
        let next = if rows.len() > limit {
            rows.truncate(limit);
            rows.last().map(|row| row.id)
        } else {
            search.rest().and_then(|rest| rest.behind)
        };
        Ok(TrailPage { rows, next })
    }

    /// Translates the query: the person's random names replace the person.
    pub(super) async fn trail_filter(
        &self,
        tenant: TenantId,
        query: &TrailQuery,
    ) -> Result<TrailFilter, ServiceError> {
        let TrailQuery { from, to, action, actor, subject, entry, request } = query;
        let subject_keys = match subject {
            None => None,
            Some(subject) => {
                let keys = self.parts.keyring.tenant_keys(tenant).await?;
                Some(self.parts.keyring.list_subject_key_ids(&keys, subject).await?)
            }
        };
        Ok(TrailFilter {
            from: *from,
            to: *to,
            action: *action,
            actor: *actor,
            subject_keys,
            entry: *entry,
            request: *request,
        })
    }
}
