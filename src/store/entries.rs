//! Sealed entries: the rows of the cold tier, found by primary key. Nothing here can be read
//! without `keyring`.

use chrono::{DateTime, Utc};
use sqlx::{Executor, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::crypto::Sealed;
use crate::domain::cache_key::{BlindIndex, CacheKey};
use crate::domain::candidate::{LabelIndexes, LabelPrefixes};
use crate::domain::entry::{EntryMeta, Place};
use crate::domain::ids::{EntryId, SubjectKeyId};
use crate::domain::money::{Usage, Usd};
use crate::domain::operation::Operation;
use crate::domain::selector::Generation;

use super::{StoreError, TenantTx, WriteTx};

/// An entry to be stored.
#[derive(Debug)]
pub struct NewEntry<'a> {
    /// The place that it is bound to.
    pub place: Place,
    /// The plain metadata.
    pub meta: &'a EntryMeta,
    /// The answer, model and usage.
    pub answer: &'a Sealed,
    /// The query, context and parameters.
    pub question: &'a Sealed,
    /// The location, vendor types and tags.
    pub labels: &'a Sealed,
    /// The blind indexes of the labels.
    pub indexes: &'a LabelIndexes,
}

/// The answer under a key, with the facts that are known without opening it.
#[derive(Debug, Clone)]
pub struct FoundAnswer {
    /// The plain metadata.
    pub meta: EntryMeta,
    /// The labels.
    pub labels: LabelPrefixes,
    /// The answer, model and usage.
    pub answer: Sealed,
}

/// The facts about an entry that may be shown without its answer.
#[derive(Debug, Clone)]
pub struct EntryRow {
    /// The cache key.
    pub key: CacheKey,
    /// The generation it was stored in.
    pub generation: Generation,
    /// The plain metadata.
    pub meta: EntryMeta,
    /// The location, vendor types and tags.
    pub labels: Sealed,
    /// The bytes of the sealed fields.
    pub size_bytes: i64,
    /// The times that it was served.
    pub access_count: i64,
    /// The time when it was last served.
    pub last_accessed_at: Option<DateTime<Utc>>,
}

/// The filter of a list. Keyset page: entries older than `before`, newest first.
#[derive(Debug, Clone, Default)]
pub struct EntryFilter {
    /// Only entries of this operation.
    pub operation: Option<Operation>,
    /// Only entries at this location.
    pub location: Option<BlindIndex>,
    /// Only entries with this tag.
    pub tag: Option<BlindIndex>,
    /// The list continues after this entry.
    pub before: Option<EntryId>,
}

fn parse_operation(name: &str) -> Result<Operation, StoreError> {
    Operation::parse(name).ok_or(StoreError::UnknownValue("operation"))
}

pub(super) fn parse_key(bytes: Vec<u8>) -> Result<CacheKey, StoreError> {
    bytes.try_into().map(CacheKey).map_err(|_| StoreError::UnknownValue("cache key"))
}

fn tokens(count: i32) -> u32 {
    u32::try_from(count).unwrap_or(0)
}

/// Finds the answer under a key of the transaction's tenant, if it is of the given generation and
/// that is the present one: the reader may not have heard of a newer one.
pub async fn find_answer(
    tx: &mut TenantTx,
    key: &CacheKey,
    generation: Generation,
) -> Result<Option<FoundAnswer>, StoreError> {
    let tenant = tx.tenant().0;
    let row = sqlx::query!(
        "SELECT entry_id, operation, subject_key_id, key_version, answer_sealed, prompt_tokens,
                completion_tokens, cost_picousd, created_at, expires_at, location_index,
                vendor_type_indexes, tag_indexes
         FROM ai_cache_entries WHERE tenant_id = $1 AND cache_key = $2 AND generation = $3
             AND withdrawn_at IS NULL
             AND generation = (SELECT generation FROM invalidation_state WHERE tenant_id = $1)",
        tenant,
        &key.0,
        generation.0
    )
    .fetch_optional(tx.connection()?)
    .await?;
    row.map(|row| {
        let lists = row.vendor_type_indexes.iter().chain(&row.tag_indexes);
        let labels = LabelPrefixes::of(row.location_index.iter().chain(lists).map(Vec::as_slice));
        let meta = EntryMeta {
            id: EntryId(row.entry_id),
            operation: parse_operation(&row.operation)?,
            subject_key: row.subject_key_id.map(SubjectKeyId),
            key_version: row.key_version,
            created_at: row.created_at,
            expires_at: row.expires_at,
            usage: Usage {
                prompt_tokens: tokens(row.prompt_tokens),
                completion_tokens: tokens(row.completion_tokens),
            },
            cost: Usd(u64::try_from(row.cost_picousd).unwrap_or(0)),
        };
        Ok(FoundAnswer { meta, labels, answer: Sealed::from_bytes(row.answer_sealed) })
    })
    .transpose()
}

/// Stores an entry, in place of the one under the same key if there is one. Returns false, and
/// stores nothing, if a legal hold or a restriction keeps that one.
pub async fn upsert(
    tx: &mut WriteTx,
    entry: &NewEntry<'_>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let NewEntry { place, meta, answer, question, labels, indexes } = entry;
    let bytes = |indexes: &[BlindIndex]| -> Vec<Vec<u8>> {
        indexes.iter().map(|index| index.0.to_vec()).collect()
    };
    let count = |tokens: u32| i32::try_from(tokens).unwrap_or(i32::MAX);
    let done = sqlx::query!(
        "INSERT INTO ai_cache_entries
             (tenant_id, cache_key, entry_id, generation, operation, subject_key_id, key_version,
              answer_sealed, question_sealed, labels_sealed, location_index, vendor_type_indexes,
              tag_indexes, prompt_tokens, completion_tokens, cost_picousd, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
         ON CONFLICT ON CONSTRAINT ai_cache_entries_pk DO UPDATE SET
             entry_id = EXCLUDED.entry_id, generation = EXCLUDED.generation,
             operation = EXCLUDED.operation, subject_key_id = EXCLUDED.subject_key_id,
             key_version = EXCLUDED.key_version, answer_sealed = EXCLUDED.answer_sealed,
             question_sealed = EXCLUDED.question_sealed, labels_sealed = EXCLUDED.labels_sealed,
             location_index = EXCLUDED.location_index,
             vendor_type_indexes = EXCLUDED.vendor_type_indexes,
             tag_indexes = EXCLUDED.tag_indexes, prompt_tokens = EXCLUDED.prompt_tokens,
             completion_tokens = EXCLUDED.completion_tokens, cost_picousd = EXCLUDED.cost_picousd,
             created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at,
             access_count = 0, last_accessed_at = NULL, withdrawn_at = NULL
         WHERE NOT is_kept(ai_cache_entries.tenant_id, ai_cache_entries.subject_key_id, $19)",
        place.tenant.0,
        &place.key.0,
        meta.id.0,
        place.generation.0,
        meta.operation.name(),
        meta.subject_key.map(|id| id.0),
        meta.key_version,
        answer.as_bytes(),
        question.as_bytes(),
        labels.as_bytes(),
        indexes.location.map(|index| index.0.to_vec()),
        &bytes(&indexes.vendor_types),
        &bytes(&indexes.tags),
        count(meta.usage.prompt_tokens),
        count(meta.usage.completion_tokens),
        i64::try_from(meta.cost.0).unwrap_or(i64::MAX),
        meta.created_at,
        meta.expires_at,
        now
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

#[derive(sqlx::FromRow)]
struct RawEntry {
    cache_key: Vec<u8>,
    entry_id: Uuid,
    generation: i64,
    operation: String,
    subject_key_id: Option<Uuid>,
    key_version: i32,
    labels_sealed: Vec<u8>,
    prompt_tokens: i32,
    completion_tokens: i32,
    cost_picousd: i64,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    size_bytes: i64,
    access_count: i64,
    last_accessed_at: Option<DateTime<Utc>>,
}

impl RawEntry {
    fn parse(self) -> Result<EntryRow, StoreError> {
        Ok(EntryRow {
            key: parse_key(self.cache_key)?,
            generation: Generation(self.generation),
            meta: EntryMeta {
                id: EntryId(self.entry_id),
                operation: parse_operation(&self.operation)?,
                subject_key: self.subject_key_id.map(SubjectKeyId),
                key_version: self.key_version,
                created_at: self.created_at,
                expires_at: self.expires_at,
                usage: Usage {
                    prompt_tokens: tokens(self.prompt_tokens),
                    completion_tokens: tokens(self.completion_tokens),
                },
                cost: Usd(u64::try_from(self.cost_picousd).unwrap_or(0)),
            },
            labels: Sealed::from_bytes(self.labels_sealed),
            size_bytes: self.size_bytes,
            access_count: self.access_count,
            last_accessed_at: self.last_accessed_at,
        })
    }
}

/// The entries that are looked at for a page. A tenant may have a million entries without a rare
/// label, or that are no longer good and not removed yet.
const LOOK: i64 = 20_000;

/// Lists entries of the transaction's tenant that are good at `now`, newest first, and the entry
/// behind which there may be more. Both are of one snapshot if the transaction is one. A short or
/// empty list does not say that there are no more.
pub async fn list(
    tx: &mut TenantTx,
    filter: &EntryFilter,
    now: DateTime<Utc>,
    limit: usize,
) -> Result<(Vec<EntryRow>, Option<EntryId>), StoreError> {
    tx.keep_to_indexes().await?;
    let mut query = QueryBuilder::new(METADATA);
    query.push("(SELECT * ");
    push_stretch(&mut query, tx, filter.before);
    query.push(" LIMIT ").push_bind(LOOK).push(") e WHERE true");
    push_good(&mut query, tx, now);
    if let Some(operation) = filter.operation {
        query.push(" AND e.operation = ").push_bind(operation.name());
    }
    if let Some(location) = filter.location {
        query.push(" AND e.location_index = ").push_bind(location.0.to_vec());
    }
    if let Some(tag) = filter.tag {
        query.push(" AND ").push_bind(tag.0.to_vec()).push(" = ANY (e.tag_indexes)");
    }
    query.push(" ORDER BY e.entry_id DESC LIMIT ");
    query.push_bind(i64::try_from(limit + 1).unwrap_or(i64::MAX));
    let rows: Vec<RawEntry> = query.build_query_as().fetch_all(tx.connection()?).await?;
    let next = match limit.checked_sub(1).and_then(|last| rows.get(last)) {
        Some(last) if rows.len() > limit => Some(EntryId(last.entry_id)),
        _ => find_stretch_end(tx, filter.before).await?,
    };
    let rows: Result<_, _> = rows.into_iter().take(limit).map(RawEntry::parse).collect();
    Ok((rows?, next))
}

/// Finds the last entry that is looked at, if there are as many.
async fn find_stretch_end(
    tx: &mut TenantTx,
    before: Option<EntryId>,
) -> Result<Option<EntryId>, StoreError> {
    let mut query = QueryBuilder::new("SELECT entry_id ");
    push_stretch(&mut query, tx, before);
    query.push(" OFFSET ").push_bind(LOOK - 1).push(" LIMIT 1");
    let id: Option<Uuid> = query.build_query_scalar().fetch_optional(tx.connection()?).await?;
    Ok(id.map(EntryId))
}

/// Finds one entry of the transaction's tenant that is good at `now`.
pub async fn find(
    tx: &mut TenantTx,
    id: EntryId,
    now: DateTime<Utc>,
) -> Result<Option<EntryRow>, StoreError> {
    let mut query = QueryBuilder::new(METADATA);
    query.push("ai_cache_entries e WHERE e.tenant_id = ").push_bind(tx.tenant().0);
    query.push(" AND e.entry_id = ").push_bind(id.0);
    push_good(&mut query, tx, now);
    let row: Option<RawEntry> = query.build_query_as().fetch_optional(tx.connection()?).await?;
    row.map(RawEntry::parse).transpose()
}

/// The columns of entries `e` that may be shown.
const METADATA: &str =
    "SELECT e.cache_key, e.entry_id, e.generation, e.operation, e.subject_key_id,
            e.key_version, e.labels_sealed, e.prompt_tokens, e.completion_tokens, e.cost_picousd,
            e.created_at, e.expires_at, e.access_count, e.last_accessed_at,
            e.sealed_bytes AS size_bytes
     FROM ";

/// Adds the tenant's entries, good or not, newest first.
fn push_stretch(query: &mut QueryBuilder<Postgres>, tx: &TenantTx, before: Option<EntryId>) {
    query.push("FROM ai_cache_entries WHERE tenant_id = ").push_bind(tx.tenant().0);
    if let Some(before) = before {
        query.push(" AND entry_id < ").push_bind(before.0);
    }
    query.push(" ORDER BY entry_id DESC");
}

/// Keeps only entries of the tenant's present generation that are good at `now`.
fn push_good(query: &mut QueryBuilder<Postgres>, tx: &TenantTx, now: DateTime<Utc>) {
    query.push(" AND e.withdrawn_at IS NULL AND e.expires_at > ").push_bind(now);
    query.push(" AND e.generation = (SELECT generation FROM invalidation_state WHERE tenant_id = ");
    query.push_bind(tx.tenant().0).push(")");
}

/// Counts the entries of a generation of the transaction's tenant that are good at `now`. Returns
/// `None` if counting takes longer than a second. The transaction goes on either way.
pub async fn count_quickly(
    tx: &mut TenantTx,
    generation: Generation,
    now: DateTime<Utc>,
) -> Result<Option<u64>, StoreError> {
    const CANCELED: &str = "57014";
    tx.connection()?.execute("SAVEPOINT counting; SET LOCAL statement_timeout = '1s'").await?;
    let counted = count(tx, generation, now).await;
    let (end, counted) = match counted {
        Ok(count) => ("RELEASE SAVEPOINT counting", Ok(Some(count))),
        Err(StoreError::Unreachable(error)) if code(&error).as_deref() == Some(CANCELED) => {
            ("ROLLBACK TO SAVEPOINT counting", Ok(None))
        }
        Err(error) => return Err(error),
    };
    tx.connection()?.execute(end).await?;
    tx.connection()?.execute("SET LOCAL statement_timeout TO DEFAULT").await?;
    counted
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Counts the entries of a generation of the transaction's tenant that are good at `now`. It reads
/// an index, not the entries.
pub async fn count(
    tx: &mut TenantTx,
    generation: Generation,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "entries!" FROM ai_cache_entries
           WHERE tenant_id = $1 AND generation = $2 AND expires_at > $3
             AND withdrawn_at IS NULL"#,
        tenant,
        generation.0,
        now
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Counts these entries and their bytes.
pub async fn measure(
    tx: &mut TenantTx,
    generation: Generation,
    now: DateTime<Utc>,
) -> Result<(i64, i64), StoreError> {
    let tenant = tx.tenant().0;
    let row = sqlx::query!(
        r#"SELECT count(*) AS "entries!",
                  coalesce(sum(sealed_bytes), 0)::bigint AS "bytes!"
           FROM ai_cache_entries
           WHERE tenant_id = $1 AND generation = $2 AND expires_at > $3
             AND withdrawn_at IS NULL"#,
        tenant,
        generation.0,
        now
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok((row.entries, row.bytes))
}
