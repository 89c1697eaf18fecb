//! A walk through a tenant's trail for the records that a filter names. Each short transaction
//! looks at a bounded part, so that a search for something rare in a long trail never reaches a
//! statement's limit.

use std::time::Duration;

use crate::domain::audit_row::AuditRow;
use crate::domain::ids::{AuditId, TenantId};
use crate::store::audit_rows::{self, Stretch, TrailFilter};
use crate::store::{StoreError, TenantTx};

use super::Compliance;
use crate::call::ServiceError;

/// The most rows of one retention class that a statement looks at.
const SCAN: u32 = 100_000;

/// A person with fewer records than this is found by the index of persons, without windows.
const FEW: i64 = 10_000;

/// The longest wait for other searches.
const TURN: Duration = Duration::from_mins(1);

/// A search under way.
pub(super) struct TrailSearch {
    tenant: TenantId,
    filter: TrailFilter,
    /// The part that has not been looked at. `None` at the end.
    rest: Option<Stretch>,
    window: SearchWindow,
}

/// Says how far the next statement may look.
#[derive(Clone, Copy)]
enum SearchWindow {
    /// It is not known yet.
    Unknown,
    /// It may look up to this record.
    Until(AuditId),
    /// It may look to the end of the stretch.
    Rest,
    /// It may look to the end of the stretch, along the index of persons.
    Person,
}

/// The records that one look found, and where the search continues after it.
struct Looked {
    rows: Vec<AuditRow>,
    /// The part that has not been looked at. `None` means that nothing is left.
    rest: Option<Stretch>,
    window: SearchWindow,
}

impl TrailSearch {
    /// Begins a search.
    pub(super) fn new(tenant: TenantId, filter: TrailFilter, stretch: Stretch) -> Self {
        // A person without any key is in no record.
        let nobody = filter.subject_keys.as_ref().is_some_and(Vec::is_empty);
        let window =
            if filter.looks_at_rows() { SearchWindow::Unknown } else { SearchWindow::Rest };
        Self { tenant, filter, rest: (!nobody).then_some(stretch), window }
    }

    /// Makes a search for which nothing is left.
    pub(super) const fn ended(tenant: TenantId, filter: TrailFilter) -> Self {
        Self { tenant, filter, rest: None, window: SearchWindow::Rest }
    }

    /// Returns the part that has not been looked at. Returns `None` at the end.
    pub(super) const fn rest(&self) -> Option<Stretch> {
        self.rest
    }

    /// Returns the next records, at most `limit`. An empty result does not say that there are no
    /// more.
    pub(super) async fn read(
        &mut self,
        compliance: &Compliance,
        limit: usize,
    ) -> Result<Vec<AuditRow>, ServiceError> {
        let store = compliance.parts.store.long();
        // A search for something rare takes its time, and must not take every connection.
        let turn = tokio::time::timeout(TURN, compliance.trail_turns.acquire()).await;
        let _turn = turn.map_err(|_| StoreError::TimedOut)?;
        let read = store.read("search the audit trail", self.tenant, async |mut tx| {
            self.look(&mut tx, limit).await
        });
        let looked = Box::pin(read).await?;
        Ok(self.go_on(looked))
    }

    /// Returns the next records, read in a transaction of the caller's. That transaction reads
    /// along indexes from then on.
    pub(super) async fn read_in(
        &mut self,
        tx: &mut TenantTx,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let looked = self.look(tx, limit).await?;
        Ok(self.go_on(looked))
    }

    /// Reads the next records. The search stays where it is until `go_on`, so that a transaction that
    /// begins anew reads the same.
    async fn look(&self, tx: &mut TenantTx, limit: usize) -> Result<Looked, StoreError> {
        let Some(rest) = self.rest else {
            return Ok(Looked { rows: Vec::new(), rest: None, window: self.window });
        };
        let (window, rows) = self.read_window(tx, rest, limit).await?;
        let full = rows.last().filter(|_| rows.len() == limit);
        let (rest, window) = match (full, window) {
            (Some(last), _) => (Some(Stretch { behind: Some(last.id), ..rest }), window),
            (None, SearchWindow::Until(end)) => {
                (Some(Stretch { behind: Some(end), ..rest }), SearchWindow::Unknown)
            }
            (None, SearchWindow::Unknown | SearchWindow::Rest | SearchWindow::Person) => {
                (None, SearchWindow::Rest)
            }
        };
        Ok(Looked { rows, rest, window })
    }

    /// Lets the search continue behind what `look` read, and returns the records.
    fn go_on(&mut self, looked: Looked) -> Vec<AuditRow> {
        (self.rest, self.window) = (looked.rest, looked.window);
        looked.rows
    }

    async fn read_window(
        &self,
        tx: &mut TenantTx,
        rest: Stretch,
        limit: usize,
    ) -> Result<(SearchWindow, Vec<AuditRow>), StoreError> {
        if self.filter.looks_at_rows() {
            tx.keep_to_indexes().await?;
        }
        let window = match self.window {
            SearchWindow::Unknown => self.find_window(tx, rest).await?,
            known => known,
        };
        let stretch = match window {
            SearchWindow::Until(end) => Stretch { until: Some(end), ..rest },
            SearchWindow::Unknown | SearchWindow::Rest => rest,
            SearchWindow::Person => {
                audit_rows::find_before_ordering(tx).await?;
                rest
            }
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok((window, audit_rows::list(tx, &self.filter, stretch, limit).await?))
    }

    async fn find_window(
        &self,
        tx: &mut TenantTx,
        rest: Stretch,
    ) -> Result<SearchWindow, StoreError> {
        if let Some(keys) = &self.filter.subject_keys
            && audit_rows::has_few_of(tx, keys, FEW).await?
        {
            return Ok(SearchWindow::Person);
        }
        let end = audit_rows::find_window_end(tx, &self.filter, rest, SCAN).await?;
        Ok(end.map_or(SearchWindow::Rest, SearchWindow::Until))
    }
}
