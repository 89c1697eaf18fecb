//! One attempt at a package: reads the snapshot page by page, lets the blocking pool write what was
//! read, and keeps the parts that are full, each with the lease prolonged.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::call::ServiceError;
use crate::compliance::gdpr::view::open_requests;
use crate::compliance::gdpr::work::ExecutionError;
use crate::compliance::trail_search::TrailSearch;
use crate::crypto::Sealed;
use crate::domain::ids::SubjectKeyId;
use crate::store::audit_rows::{Order, Stretch, TrailFilter};
use crate::store::gdpr::exports::{self, HeldEntry};
use crate::store::gdpr::history;
use crate::store::{TenantTx, gdpr};

use super::contents::Contents;
use super::facts::Counts;
use super::keeper::{Keeper, Kept};

/// Most entries, records and requests that are read at a time.
const ENTRIES: i64 = 200;
const RECORDS: usize = 1_000;
const REQUESTS: usize = 50;

/// An attempt under way.
pub struct Packing<'a> {
    keeper: Keeper<'a>,
    /// The snapshot.
    tx: TenantTx,
    /// `None` while the blocking pool has it.
    contents: Option<Box<Contents>>,
    /// Where full parts come out.
    sealed: Receiver<Sealed>,
}

/// What a package holds and takes.
#[derive(Debug, Serialize)]
pub struct Packed {
    #[serde(flatten)]
    counts: Counts,
    #[serde(flatten)]
    kept: Kept,
}

impl<'a> Packing<'a> {
    pub fn new(
        keeper: Keeper<'a>,
        tx: TenantTx,
        (contents, sealed): (Box<Contents>, Receiver<Sealed>),
    ) -> Self {
        Self { keeper, tx, contents: Some(contents), sealed }
    }

    /// Every entry under the person's key.
    pub async fn entries(&mut self) -> Result<(), ExecutionError> {
        self.write(|contents| contents.begin("entries.jsonl")).await?;
        if let Some(id) = self.keeper.key.subject() {
            let mut before = None;
            loop {
                let page = exports::list_held_entries(&mut self.tx, id, before, ENTRIES);
                let page = self.keeper.service.parts.store.bounded_long(page).await?;
                let Some(last) = page.last() else { break };
                before = Some(last.meta.id);
                self.page(page).await?;
            }
        }
        self.end().await
    }

    async fn page(&mut self, page: Vec<HeldEntry>) -> Result<(), ExecutionError> {
        let (receipt, key) =
            (self.keeper.record_reading(page.len()).await?, self.keeper.key.clone());
        let unreadable =
            self.write(move |contents| contents.add_entries(receipt, &key, &page)).await?;
        for entry in unreadable {
            self.keeper.record_unreadable(entry).await?;
        }
        Ok(())
    }

    /// Every record about the person.
    pub async fn log(&mut self, names: Vec<SubjectKeyId>) -> Result<(), ExecutionError> {
        self.write(|contents| contents.begin("processing-log.jsonl")).await?;
        let filter = TrailFilter { subject_keys: Some(names), ..TrailFilter::default() };
        let whole = Stretch { order: Order::OldestFirst, behind: None, until: None };
        let mut search = TrailSearch::new(self.keeper.execution.tenant, filter, whole);
        while search.rest().is_some() {
            let rows = search.read_in(&mut self.tx, RECORDS);
            let rows = self.keeper.service.parts.store.bounded_long(rows).await?;
            self.write(move |contents| contents.add_log(&rows)).await?;
        }
        self.end().await
    }

    /// Every request of the person, this one too.
    pub async fn requests(&mut self) -> Result<(), ExecutionError> {
        self.write(|contents| contents.begin("requests.jsonl")).await?;
        let keys = Arc::clone(self.keeper.key.tenant());
        let rows = gdpr::list_of_subject(&mut self.tx, self.keeper.execution.row.subject);
        let mut rows = self.keeper.service.parts.store.bounded_long(rows).await?.into_iter();
        loop {
            let mut some = Vec::new();
            for row in rows.by_ref().take(REQUESTS) {
                let events = history::list_events(&mut self.tx, row.id);
                some.push((row, self.keeper.service.parts.store.bounded(events).await?));
            }
            if some.is_empty() {
                break;
            }
            let receipt = self.keeper.record_reading(some.len()).await?;
            let views = open_requests(receipt, &keys, &some)?;
            self.write(move |contents| contents.add_requests(views)).await?;
        }
        self.end().await
    }

    /// Ends the package; every part of it is kept then.
    pub async fn finish(
        self,
        made_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<Packed, ExecutionError> {
        let Self { mut keeper, tx, contents, sealed } = self;
        let parts = &keeper.service.parts;
        parts.store.bounded(tx.end()).await?;
        let contents = contents.ok_or(ServiceError::TaskLost)?;
        let finish = move || contents.finish(made_at, expires_at);
        let written = parts.lifecycle.spawn_blocking(finish).await;
        let counts = written.map_err(|_| ServiceError::TaskLost)??;
        for part in sealed.try_iter().collect::<Vec<Sealed>>() {
            keeper.keep(&part).await?;
        }
        Ok(Packed { counts, kept: keeper.kept })
    }

    async fn end(&mut self) -> Result<(), ExecutionError> {
        self.write(|contents| {
            contents.package.end();
            Ok(())
        })
        .await
    }

    /// Lets the blocking pool write something, keeps the parts that are full by then, and prolongs
    /// the lease.
    async fn write<T: Send + 'static>(
        &mut self,
        write: impl FnOnce(&mut Contents) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ExecutionError> {
        let mut contents = self.contents.take().ok_or(ServiceError::TaskLost)?;
        let written = self.keeper.service.parts.lifecycle.spawn_blocking(move || {
            let done = write(&mut contents);
            (contents, done)
        });
        let (contents, done) = written.await.map_err(|_| ServiceError::TaskLost)?;
        self.contents = Some(contents);
        let done = done?;
        let full: Vec<Sealed> = self.sealed.try_iter().collect();
        if full.is_empty() {
            self.keeper.stay_alive().await?;
        }
        for part in full {
            self.keeper.keep(&part).await?;
        }
        Ok(done)
    }
}
