//! One attempt at a package: it reads the snapshot page by page, lets the blocking pool write what
//! was read, and keeps the full parts, each with a prolonged lease.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use chrono::{DateTime, Utc};

use crate::call::ServiceError;
use crate::compliance::gdpr::view::{SealedRequest, open_requests};
use crate::compliance::gdpr::work::ExecutionError;
use crate::compliance::trail_search::TrailSearch;
use crate::crypto::Sealed;
use crate::domain::gdpr_execution::Packed;
use crate::domain::ids::SubjectKeyId;
use crate::store::audit_rows::{Order, Stretch, TrailFilter};
use crate::store::gdpr::exports::{self, HeldEntry};
use crate::store::gdpr::history;
use crate::store::{Snapshot, gdpr};

use super::contents::Contents;
use super::keeper::Keeper;

/// The most entries, records and requests that are read at a time.
const ENTRIES: i64 = 200;
const RECORDS: usize = 1_000;
const REQUESTS: usize = 50;

/// An attempt under way.
pub struct Packing<'a> {
    keeper: Keeper<'a>,
    snapshot: Snapshot,
    /// The contents. `None` while the blocking pool has them.
    contents: Option<Box<Contents>>,
    /// The end of the channel where full parts come out.
    sealed: Receiver<Sealed>,
}

impl<'a> Packing<'a> {
    pub fn new(
        keeper: Keeper<'a>,
        snapshot: Snapshot,
        contents: Box<Contents>,
        sealed: Receiver<Sealed>,
    ) -> Self {
        Self { keeper, snapshot, contents: Some(contents), sealed }
    }

    /// Packs every entry under the person's key.
    pub async fn entries(&mut self) -> Result<(), ExecutionError> {
        self.write(|contents| contents.begin("entries.jsonl")).await?;
        if let Some(id) = self.keeper.key.subject() {
            let mut before = None;
            loop {
                let page = self
                    .snapshot
                    .read(async |tx| exports::list_held_entries(tx, id, before, ENTRIES).await);
                let page = page.await?;
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

    /// Packs every record about the person.
    pub async fn log(&mut self, names: Vec<SubjectKeyId>) -> Result<(), ExecutionError> {
        self.write(|contents| contents.begin("processing-log.jsonl")).await?;
        let filter = TrailFilter { subject_keys: Some(names), ..TrailFilter::default() };
        let whole = Stretch { order: Order::OldestFirst, behind: None, until: None };
        let mut search = TrailSearch::new(self.keeper.execution.tenant, filter, whole);
        while search.rest().is_some() {
            let rows = self.snapshot.read(async |tx| search.read_in(tx, RECORDS).await).await?;
            self.write(move |contents| contents.add_log(&rows)).await?;
        }
        self.end().await
    }

    /// Packs every request of the person, also this one.
    pub async fn requests(&mut self) -> Result<(), ExecutionError> {
        self.write(|contents| contents.begin("requests.jsonl")).await?;
        let keys = Arc::clone(self.keeper.key.tenant());
        let subject = self.keeper.execution.row.subject;
        let rows = self.snapshot.read(async |tx| gdpr::list_of_subject(tx, subject).await);
        let mut rows = rows.await?.into_iter();
        loop {
            let mut some = Vec::new();
            for row in rows.by_ref().take(REQUESTS) {
                let events =
                    self.snapshot.read(async |tx| history::list_events(tx, row.id).await).await?;
                some.push(SealedRequest { row, events });
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

    /// Ends the package. Every part of it is stored when this returns.
    pub async fn finish(
        self,
        made_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<Packed, ExecutionError> {
        let Self { mut keeper, snapshot, contents, sealed } = self;
        let parts = &keeper.compliance.parts;
        snapshot.end().await?;
        let contents = contents.ok_or(ServiceError::TaskLost)?;
        let finish = move || contents.finish(made_at, expires_at);
        let written = parts.lifecycle.spawn_blocking(finish).await;
        let contents = written.map_err(|_| ServiceError::TaskLost)??;
        for part in sealed.try_iter().collect::<Vec<Sealed>>() {
            keeper.keep(&part).await?;
        }
        Ok(Packed { contents, size: keeper.kept })
    }

    async fn end(&mut self) -> Result<(), ExecutionError> {
        self.write(|contents| {
            contents.package.end();
            Ok(())
        })
        .await
    }

    /// Lets the blocking pool write something, stores the parts that are full by then, and prolongs
    /// the lease.
    async fn write<T: Send + 'static>(
        &mut self,
        write: impl FnOnce(&mut Contents) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ExecutionError> {
        let mut contents = self.contents.take().ok_or(ServiceError::TaskLost)?;
        let written = self.keeper.compliance.parts.lifecycle.spawn_blocking(move || {
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
