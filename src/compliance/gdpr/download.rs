//! The download of an export's package, part by part. Each part is opened for the receipt of the
//! record of the beginning, and another record tells of the end. A part that does not open breaks
//! the stream.

use std::sync::Arc;

use crate::call::{OnWord, ServiceError, StreamEnd};
use crate::compliance::Compliance;
use crate::domain::action::Action;
use crate::domain::gdpr::{RequestKind, RequestState};
use crate::domain::ids::{GdprRequestId, SubjectKeyId, TenantId};
use crate::keyring::{EntryKey, PackageReader, PartKind, Plaintext};
use crate::store::gdpr::exports;
use crate::store::{StoreError, gdpr};

use super::GdprError;

/// A download under way. If it is dropped before its end, it is recorded as aborted.
pub struct ExportDownload {
    compliance: Arc<Compliance>,
    tenant: TenantId,
    request: GdprRequestId,
    /// The reader of the package. `None` once the last part is given out.
    reader: Option<PackageReader>,
    end: StreamEnd,
}

impl Compliance {
    /// Begins the download of the package of a request of a tenant.
    pub async fn download_export(
        self: &Arc<Self>,
        mut word: OnWord<'_>,
        request: GdprRequestId,
    ) -> Result<ExportDownload, GdprError> {
        let tenant = word.tenant();
        word.note(|record| record.object = Some(request.0));
        let sealed_for = self.find_package(tenant, request).await?;
        word.note(|record| record.subject_key = sealed_for);
        let key = self.package_key(tenant, sealed_for).await?;
        let receipt = word.settle(200, |record| record.count = -1).await?;
        let reader = Some(PackageReader::new(receipt, key, request)?);
        let end = self.parts.calls.stream_end(&word, Action::GdprDownloadEnd);
        Ok(ExportDownload { compliance: Arc::clone(self), tenant, request, reader, end })
    }

    /// Finds the package of a request. Returns the subject key that seals it, or `None` if the
    /// tenant's key does. Fails if there is no package to be had.
    async fn find_package(
        &self,
        tenant: TenantId,
        request: GdprRequestId,
    ) -> Result<Option<SubjectKeyId>, GdprError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let found = store.read("find the package of an export", tenant, async |mut tx| {
            let row = gdpr::find(&mut tx, request).await?;
            let key = exports::find_package_key(&mut tx, request).await?;
            Ok::<_, StoreError>(row.map(|row| (row, key)))
        });
        let (row, key) = found.await?.ok_or(GdprError::NotFound)?;
        if row.kind != RequestKind::Export {
            return Err(GdprError::NotFound);
        }
        if row.state != RequestState::Completed {
            return Err(GdprError::NotExecuted(row.state));
        }
        if row.expires_at.is_none_or(|expires_at| expires_at <= now) {
            return Err(GdprError::Gone);
        }
        key.ok_or(GdprError::Gone)
    }

    /// Returns the key of a package. Fails if the person's key is destroyed.
    async fn package_key(
        &self,
        tenant: TenantId,
        sealed_for: Option<SubjectKeyId>,
    ) -> Result<EntryKey, GdprError> {
        let keys = self.parts.keyring.tenant_keys(tenant).await?;
        let Some(id) = sealed_for else { return Ok(EntryKey::new(keys, None)) };
        let found = self.parts.keyring.list_subject_keys(tenant, &[id]).await?;
        let key = found.into_iter().next().ok_or(GdprError::Gone)?;
        Ok(EntryKey::new(keys, Some(key)))
    }
}

impl ExportDownload {
    /// Returns the next part. Returns `None` at the end, whose record is durable by then.
    pub async fn next(&mut self) -> Result<Option<Plaintext>, ServiceError> {
        let read = self.read().await;
        self.end.pass_on(read).await
    }

    async fn read(&mut self) -> Result<Option<Plaintext>, ServiceError> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let number = i32::try_from(reader.next()).map_err(|_| ServiceError::Malformed)?;
        let store = &self.compliance.parts.store;
        let found = store.read("read a part of a package", self.tenant, async |mut tx| {
            exports::find_part(&mut tx, self.request, number).await
        });
        let (sealed, last) = found.await?.ok_or(ServiceError::Malformed)?;
        let kind = if number == last { PartKind::Last } else { PartKind::Inner };
        let text = reader.open_part(kind, &sealed).inspect_err(|_| {
            self.compliance.parts.metrics.integrity_failure();
        })?;
        self.end.check_token().await?;
        if kind == PartKind::Last {
            self.reader = None;
        }
        self.end.add(text.as_bytes().len());
        Ok(Some(text))
    }
}
