//! Exports (GDPR Art. 15 and 20): all data on a person are read in one snapshot, written into a zip
//! page by page and kept in sealed parts until they expire. An export that was cut off begins anew.

mod contents;
mod facts;
mod keeper;
mod lines;
mod package;
mod packing;
mod readme;

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::TimeDelta;

use crate::compliance::Compliance;
use crate::domain::action::Action;
use crate::domain::gdpr::RequestEvent;
use crate::domain::gdpr_execution::{Counts, ExecutionStep, PackageCounts};
use crate::domain::ids::SubjectKeyId;
use crate::keyring::{EntryKey, PackageSealer, TenantKeys};
use crate::store::gdpr::exports;
use crate::store::gdpr::work::Progress;
use crate::store::{Ending, Snapshot, StoreError, keys, tenants};

use super::GdprError;
use super::work::{Ended, Execution, ExecutionError};

use contents::Contents;
use facts::Facts;
use keeper::Keeper;
use package::Package;
use packing::Packing;
use readme::Readme;

pub use package::{PART_BYTES, PackingError};

/// The time for which a package can be downloaded.
const KEPT: TimeDelta = TimeDelta::days(7);

/// The data on a person, as they are at one moment.
struct Held {
    snapshot: Snapshot,
    key: EntryKey,
    /// The random names of the person in the trail.
    names: Vec<SubjectKeyId>,
    facts: Facts,
}

impl Compliance {
    pub(super) async fn execute_export(
        self: &Arc<Self>,
        execution: &mut Execution,
    ) -> Result<Ended, ExecutionError> {
        let packed = match self.open_held(execution).await {
            Ok(held) => self.pack(execution, held).await,
            Err(error) => Err(error),
        };
        match packed {
            Ok(progress) => {
                self.finish(execution, RequestEvent::Complete, &progress, None).await?;
                Ok(Ended::Done)
            }
            // The person was erased meanwhile. Later data belong to another package.
            Err(ExecutionError::Failed(GdprError::Gone)) => Ok(Ended::Waits),
            Err(error) => Err(error),
        }
    }

    /// Opens the snapshot and finds the person in it.
    async fn open_held(&self, execution: &Execution) -> Result<Held, ExecutionError> {
        let (tenant, subject) = (execution.tenant, execution.row.subject);
        let tenant_keys = self.parts.keyring.tenant_keys(tenant).await?;
        let snapshot_at = self.parts.clock.now();
        // The snapshot has the limit of long work, because a page of entries may be large.
        let mut snapshot =
            self.parts.store.long().snapshot("read what an export holds", tenant).await?;
        let read = snapshot.read(async |tx| {
            let key = keys::find_subject_key(tx, subject).await?.map(|key| key.id);
            let names = keys::list_subject_key_ids(tx, subject).await?;
            let name = tenants::get_name(tx).await?;
            let days = tenants::get_rules(tx).await?.retention_days;
            Ok::<_, StoreError>((key, names, name, days))
        });
        let (key, names, tenant_name, retention_days) = read.await?;
        let upstream = &self.parts.upstream;
        let facts = Facts {
            tenant,
            tenant_name,
            retention_days,
            request: execution.row.id,
            subject: None,
            snapshot_at,
            made_at: snapshot_at,
            expires_at: snapshot_at + KEPT,
            counts: PackageCounts::default(),
            unreadable: Vec::new(),
            upstream: (!upstream.limit().is_zero()).then(|| upstream.name().to_owned()),
            models: BTreeSet::new(),
        };
        let key = self.key_of(tenant_keys, key).await?;
        Ok(Held { snapshot, key, names, facts })
    }

    /// Returns the person's key, or the tenant's for a person who has none.
    async fn key_of(
        &self,
        keys: Arc<TenantKeys>,
        id: Option<SubjectKeyId>,
    ) -> Result<EntryKey, ExecutionError> {
        let Some(id) = id else { return Ok(EntryKey::new(keys, None)) };
        let found = self.parts.keyring.list_subject_keys(keys.tenant(), &[id]).await?;
        let key = found.into_iter().next().ok_or(GdprError::Gone)?;
        Ok(EntryKey::new(keys, Some(key)))
    }

    /// Writes the package. Returns its amounts, which the end of the request tells.
    async fn pack(
        self: &Arc<Self>,
        execution: &mut Execution,
        held: Held,
    ) -> Result<Progress, ExecutionError> {
        let Held { snapshot, key, names, facts } = held;
        execution.row.subject_key = key.subject();
        self.begin_package(execution, &key).await?;
        let sealer = PackageSealer::new(key.clone(), execution.row.id);
        let (package, sealed) = Package::new(sealer, self.parts.part_bytes, facts.snapshot_at);
        let contents = Box::new(Contents { package, readme: Readme::default(), facts });
        let keeper = Keeper::new(self, execution, key);
        let mut packing = Packing::new(keeper, snapshot, contents, sealed);
        packing.entries().await?;
        packing.log(names).await?;
        packing.requests().await?;
        let made_at = self.parts.clock.now();
        let expires_at = made_at + KEPT;
        let packed = packing.finish(made_at, expires_at).await?;
        let counts = Some(Counts::Export(packed));
        Ok(Progress { counts, expires_at: Some(expires_at), ..Progress::default() })
    }

    /// Removes the parts that an earlier attempt left.
    async fn begin_package(
        &self,
        execution: &Execution,
        key: &EntryKey,
    ) -> Result<(), ExecutionError> {
        let progress = Progress {
            step: Some(ExecutionStep::Packing),
            subject_key: key.subject(),
            ..Progress::default()
        };
        let record = self.execution_record(execution, Action::GdprStep);
        let store = self.parts.store.long();
        let begun = store.change("begin a package", execution.tenant, async |mut tx| {
            exports::delete_package(&mut tx, execution.row.id).await?;
            let recorded = self.record_step(&mut tx, execution, &progress, &record).await?;
            Ok::<_, ExecutionError>(Ending::Commit(recorded, ()))
        });
        begun.await
    }
}
