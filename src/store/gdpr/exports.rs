//! The entries of a person as an export reads them, and the packages of exports: sealed parts that
//! wait to be downloaded until they expire.

use chrono::{DateTime, Utc};

use crate::crypto::Sealed;
use crate::domain::entry::{EntryMeta, Place};
use crate::domain::ids::{EntryId, GdprRequestId, SubjectKeyId};
use crate::domain::money::{Usage, Usd};
use crate::domain::operation::Operation;
use crate::domain::selector::Generation;

use crate::store::entries::parse_key;
use crate::store::{StoreError, TenantTx, WriteTx};

/// The most sealed bytes of a page of entries, unless one alone is longer.
const PAGE_BYTES: i64 = 4 * 1024 * 1024;

/// An entry of a person, good or not.
#[derive(Debug, Clone)]
pub struct HeldEntry {
    /// Its place, of the generation that it was stored in.
    pub place: Place,
    /// The plain metadata.
    pub meta: EntryMeta,
    /// The answer, model and usage.
    pub answer: Sealed,
    /// The query, context and parameters.
    pub question: Sealed,
    /// The location, vendor types and tags.
    pub labels: Sealed,
    /// The times that it was served.
    pub access_count: i64,
    /// The time when it was last served.
    pub last_accessed_at: Option<DateTime<Utc>>,
    /// The time since when nobody is served it.
    pub withdrawn_at: Option<DateTime<Utc>>,
}

/// Lists a page of the entries under a person's key, newest first, older than `before`. It includes
/// those that expired, were withdrawn or are of an older generation.
pub async fn list_held_entries(
    tx: &mut TenantTx,
    key: SubjectKeyId,
    before: Option<EntryId>,
    limit: i64,
) -> Result<Vec<HeldEntry>, StoreError> {
    let tenant = tx.tenant();
    let rows = sqlx::query!(
        r#"SELECT e.cache_key, e.entry_id, e.generation, e.operation, e.key_version,
                  e.answer_sealed, e.question_sealed, e.labels_sealed, e.prompt_tokens,
                  e.completion_tokens, e.cost_picousd, e.created_at, e.expires_at, e.access_count,
                  e.last_accessed_at, e.withdrawn_at
           FROM (SELECT p.cache_key, sum(p.sealed_bytes) OVER (ORDER BY p.entry_id DESC) AS bytes,
                        p.sealed_bytes
                 FROM (SELECT i.cache_key, i.entry_id, i.sealed_bytes FROM ai_cache_entries i
                       WHERE i.tenant_id = $1 AND i.subject_key_id = $2
                         AND ($3::uuid IS NULL OR i.entry_id < $3)
                       ORDER BY i.entry_id DESC LIMIT $4) p) page
           JOIN ai_cache_entries e ON e.tenant_id = $1 AND e.cache_key = page.cache_key
           WHERE page.bytes - page.sealed_bytes < $5::bigint
           ORDER BY e.entry_id DESC"#,
        tenant.0,
        key.0,
        before.map(|id| id.0),
        limit,
        PAGE_BYTES
    )
    .fetch_all(tx.connection()?)
    .await?;
    rows.into_iter()
        .map(|row| {
            let tokens = |count: i32| u32::try_from(count).unwrap_or(0);
            let operation = Operation::parse(&row.operation);
            Ok(HeldEntry {
                place: Place {
                    tenant,
                    key: parse_key(row.cache_key)?,
                    generation: Generation(row.generation),
                },
                meta: EntryMeta {
                    id: EntryId(row.entry_id),
                    operation: operation.ok_or(StoreError::UnknownValue("operation"))?,
                    subject_key: Some(key),
                    key_version: row.key_version,
                    created_at: row.created_at,
                    expires_at: row.expires_at,
                    usage: Usage {
                        prompt_tokens: tokens(row.prompt_tokens),
                        completion_tokens: tokens(row.completion_tokens),
                    },
                    cost: Usd(u64::try_from(row.cost_picousd).unwrap_or(0)),
                },
                answer: Sealed::from_bytes(row.answer_sealed),
                question: Sealed::from_bytes(row.question_sealed),
                labels: Sealed::from_bytes(row.labels_sealed),
                access_count: row.access_count,
                last_accessed_at: row.last_accessed_at,
                withdrawn_at: row.withdrawn_at,
            })
        })
        .collect()
}

/// Adds a part to the package of a request.
pub async fn insert_part(
    tx: &mut WriteTx,
    request: GdprRequestId,
    part: i32,
    sealed: &Sealed,
    key: Option<SubjectKeyId>,
) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "INSERT INTO gdpr_export_parts (tenant_id, request_id, part, subject_key_id, sealed)
         VALUES ($1, $2, $3, $4, $5)",
        tenant,
        request.0,
        part,
        key.map(|id| id.0),
        sealed.as_bytes()
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Removes the package of a request, or the parts that there are of it. Returns the number of
/// parts.
pub async fn delete_package(tx: &mut WriteTx, request: GdprRequestId) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let done = sqlx::query!(
        "DELETE FROM gdpr_export_parts WHERE tenant_id = $1 AND request_id = $2",
        tenant,
        request.0
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected())
}

/// Finds the key that seals a package. The inner `None` means the tenant's key. Returns the outer
/// `None` if there is no package.
pub async fn find_package_key(
    tx: &mut TenantTx,
    request: GdprRequestId,
) -> Result<Option<Option<SubjectKeyId>>, StoreError> {
    let tenant = tx.tenant().0;
    let key = sqlx::query_scalar!(
        "SELECT subject_key_id FROM gdpr_export_parts
         WHERE tenant_id = $1 AND request_id = $2 ORDER BY part LIMIT 1",
        tenant,
        request.0
    )
    .fetch_optional(tx.connection()?)
    .await?;
    Ok(key.map(|key| key.map(SubjectKeyId)))
}

/// Finds a part of a package, with the number of the last part.
pub async fn find_part(
    tx: &mut TenantTx,
    request: GdprRequestId,
    part: i32,
) -> Result<Option<(Sealed, i32)>, StoreError> {
    let tenant = tx.tenant().0;
    let row = sqlx::query!(
        r#"SELECT p.sealed,
                  (SELECT max(l.part) FROM gdpr_export_parts l
                   WHERE l.tenant_id = $1 AND l.request_id = $2) AS "last!"
           FROM gdpr_export_parts p
           WHERE p.tenant_id = $1 AND p.request_id = $2 AND p.part = $3"#,
        tenant,
        request.0,
        part
    )
    .fetch_optional(tx.connection()?)
    .await?;
    Ok(row.map(|row| (Sealed::from_bytes(row.sealed), row.last)))
}
