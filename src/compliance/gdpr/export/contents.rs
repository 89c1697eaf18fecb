//! The contents of a package, written piece by piece on the blocking pool: a page of entries is
//! opened one by one, and each entry is written and forgotten.

use chrono::{DateTime, Utc};

use crate::audit::Receipt;
use crate::call::ServiceError;
use crate::compliance::gdpr::RequestView;
use crate::domain::audit_row::AuditRow;
use crate::domain::gdpr_execution::PackageCounts;
use crate::domain::ids::EntryId;
use crate::keyring::{EntryKey, KeyringError, WholeEntry, open_entries};
use crate::store::gdpr::exports::HeldEntry;

use super::PackingError;
use super::facts::Facts;
use super::lines::{EntryLine, EntryTexts, LogLine, RequestLine};
use super::package::Package;
use super::readme::Readme;

/// An entry that did not open.
pub struct Unreadable {
    pub entry: EntryId,
    pub error: KeyringError,
}

/// A package, and the facts about its contents.
pub struct Contents {
    pub package: Package,
    pub readme: Readme,
    pub facts: Facts,
}

impl Contents {
    /// Begins a file.
    pub fn begin(&mut self, name: &'static str) -> Result<(), ServiceError> {
        Ok(self.package.begin(name)?)
    }

    /// Adds a page of entries, for the receipt of its reading. Returns the entries that did not
    /// open.
    pub fn add_entries(
        &mut self,
        receipt: Receipt,
        key: &EntryKey,
        page: &[HeldEntry],
    ) -> Result<Vec<Unreadable>, ServiceError> {
        let mut unreadable = Vec::new();
        let opened = open_entries(receipt, key, page.iter().map(whole))?;
        for (entry, opened) in page.iter().zip(opened) {
            match opened.and_then(|opened| EntryTexts::read(&opened)) {
                Ok(texts) => {
                    let line = EntryLine::new(entry, &texts);
                    self.package.line(&line)?;
                    self.readme.entry(&line);
                    self.facts.note_model(line.model);
                    self.facts.counts.entries += 1;
                }
                Err(error) => {
                    self.facts.counts.unreadable += 1;
                    self.facts.unreadable.push(entry.meta.id);
                    unreadable.push(Unreadable { entry: entry.meta.id, error });
                }
            }
        }
        Ok(unreadable)
    }

    /// Adds records of the processing log.
    pub fn add_log(&mut self, rows: &[AuditRow]) -> Result<(), ServiceError> {
        for row in rows {
            self.package.line(&LogLine::new(row))?;
            self.facts.counts.processing_log += 1;
        }
        Ok(())
    }

    /// Adds the requests of the person, also the one that is executed now.
    pub fn add_requests(&mut self, views: Vec<RequestView>) -> Result<(), ServiceError> {
        for view in views {
            self.package.line(&RequestLine::new(&view))?;
            self.facts.counts.requests += 1;
            if view.row.id == self.facts.request {
                self.facts.subject = view.subject;
            }
        }
        Ok(())
    }

    /// Ends the package with the files about the rest. The manifest comes last, because it names
    /// all others.
    pub fn finish(
        self,
        made_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<PackageCounts, ServiceError> {
        let Self { mut package, readme, facts } = self;
        let facts = Facts { made_at, expires_at, ..facts };
        let pretty = |value| serde_json::to_vec_pretty(&value).map_err(PackingError::from);
        package.file("about.json", &pretty(facts.about())?)?;
        let page = readme.page(&facts).map_err(|_| ServiceError::Malformed)?;
        package.file("README.html", page.as_bytes())?;
        let manifest = pretty(facts.manifest(package.files()))?;
        package.file("manifest.json", &manifest)?;
        package.finish()?;
        Ok(facts.counts)
    }
}

const fn whole(entry: &HeldEntry) -> WholeEntry<'_> {
    let HeldEntry { place, meta, answer, question, labels, .. } = entry;
    WholeEntry { place, meta, answer, question, labels }
}
