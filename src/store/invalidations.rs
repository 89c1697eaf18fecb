//! The invalidation stream, and the lock and the row at which fills and invalidations of one tenant
//! meet. A position is taken last in its transaction, under the stream's lock, so that positions
//! commit in order.
//!
//! The row alone would let invalidations starve: a transaction that wants to share a row that is
//! shared already joins at once, past an update that waits. Advisory locks queue, so each
//! transaction takes the tenant's lock before the row, as its first lock: nobody waits for it while
//! holding what another needs. The row is what counts: two tenants whose advisory locks are the
//! same merely wait for each other.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::cache_key::{BlindIndex, CacheKey};
use crate::domain::ids::{EntryId, SubjectKeyId, TenantId, TokenId};
use crate::domain::operation::Operation;
use crate::domain::selector::{Change, Generation, Group, Position, Selector, Step};

use sqlx::PgConnection;

use super::entries::NewEntry;
use super::{StoreError, SystemTx, TenantTx, WriteTx};

/// The channel on which each step is announced. The announcement only wakes followers; what counts
/// is what they read.
pub(super) const CHANNEL: &str = "ai_cache_invalidations";

/// Begins an invalidation of some of the tenant's entries: waits for the fills under way, and bars
/// new ones until the transaction ends. It must be the first call of the transaction. Returns the
/// tenant's generation.
pub async fn lock_for_invalidation(
    tx: &mut WriteTx,
    at: DateTime<Utc>,
) -> Result<Generation, StoreError> {
    lock_and_advance(tx, 0, at).await
}

/// Begins an invalidation of all entries of the tenant, as [`lock_for_invalidation`] does, and begins
/// a new generation. Returns the new generation.
pub async fn lock_and_begin_generation(
    tx: &mut WriteTx,
    at: DateTime<Utc>,
) -> Result<Generation, StoreError> {
    lock_and_advance(tx, 1, at).await
}

async fn lock_and_advance(
    tx: &mut WriteTx,
    generations: i64,
    at: DateTime<Utc>,
) -> Result<Generation, StoreError> {
    let tenant = tx.tenant().0;
    // Pairs of numbers are apart from single numbers, which the service's other advisory locks are.
    sqlx::query!(
        r#"SELECT pg_advisory_xact_lock(hashtext('ai-cache tenant'), uuid_hash($1)) AS "locked: ()""#,
        tenant
    )
    .fetch_one(tx.connection()?)
    .await?;
    let generation = sqlx::query_scalar!(
        "UPDATE invalidation_state SET generation = generation + $2, updated_at = $3
         WHERE tenant_id = $1 RETURNING generation",
        tenant,
        generations,
        at
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(Generation(generation))
}

/// Begins a fill: bars invalidations until the transaction ends. It must be the first call of the
/// transaction. Returns the tenant's generation.
pub async fn lock_for_fill(tx: &mut WriteTx) -> Result<Generation, StoreError> {
    lock_shared(tx).await
}

/// Bars invalidations of the transaction's tenant until the end, after those that wait already.
/// Returns the generation.
///
/// It is one statement, because every fill runs it. Its snapshot may be older than the invalidation
/// that it waits for. But the row is locked above the join with the function, hence after the wait,
/// and `FOR SHARE` follows a row that was updated since the snapshot to its newest version (READ
/// COMMITTED), which is the one that is returned. Everything else must be read in a later
/// statement.
pub(super) async fn lock_shared(tx: &mut TenantTx) -> Result<Generation, StoreError> {
    let tenant = tx.tenant().0;
    let generation = sqlx::query_scalar!(
        "SELECT s.generation
         FROM pg_advisory_xact_lock_shared(hashtext('ai-cache tenant'), uuid_hash($1)) turn,
              invalidation_state s
         WHERE s.tenant_id = $1 FOR SHARE OF s",
        tenant
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(Generation(generation))
}

/// Returns whether an entry to be stored was invalidated after `since`, by its key or with a group.
/// Returns true also if the stream no longer has the steps since then, or never knew that position.
pub async fn is_invalidated_since(
    tx: &mut WriteTx,
    entry: &NewEntry<'_>,
    since: Position,
) -> Result<bool, StoreError> {
    let tenant = tx.tenant().0;
    let labels: Vec<Vec<u8>> = entry.indexes.iter().map(|index| index.0.to_vec()).collect();
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM invalidations WHERE tenant_id = $1 AND position > $2
                          AND (kind = 'entry' AND cache_key = $3
                               OR kind = 'operation' AND operation = $4
                               OR kind = 'subject' AND subject_key_id = $5
                               OR kind = 'label' AND label_index = ANY ($6)))
                  OR EXISTS (SELECT FROM stream_tail WHERE $2 NOT BETWEEN trimmed_to AND position)
                  AS "found!""#,
        tenant,
        since.0,
        &entry.place.key.0,
        entry.meta.operation.name(),
        entry.meta.subject_key.map(|id| id.0),
        &labels
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(found)
}

/// A change, as a row holds it.
#[derive(Default)]
struct Columns {
    kind: &'static str,
    generation: Option<i64>,
    entry: Option<Uuid>,
    key: Option<Vec<u8>>,
    token: Option<Uuid>,
    operation: Option<&'static str>,
    label: Option<Vec<u8>>,
    subject_key: Option<Uuid>,
}

impl Columns {
    fn of(change: &Change) -> Self {
        let none = Self::default();
        match change {
            Change::Entries(Selector::Before(generation)) => {
                Self { kind: "all", generation: Some(generation.0), ..none }
            }
            Change::Entries(Selector::Entry { id, key }) => {
                let key = key.map(|key| key.0.to_vec());
                Self { kind: "entry", entry: Some(id.0), key, ..none }
            }
            Change::Entries(Selector::Group(Group::Operation(operation))) => {
                Self { kind: "operation", operation: Some(operation.name()), ..none }
            }
            Change::Entries(Selector::Group(Group::Label(index))) => {
                Self { kind: "label", label: Some(index.0.to_vec()), ..none }
            }
            Change::Entries(Selector::Group(Group::Subject(id))) => {
                Self { kind: "subject", subject_key: Some(id.0), ..none }
            }
            Change::Token(id) => Self { kind: "token", token: Some(id.0), ..none },
            Change::Tenant => Self { kind: "tenant", ..none },
        }
    }
}

/// Appends a change of the transaction's tenant to the stream. It must be the last call, because it
/// holds the stream's lock until the commit.
pub async fn append(
    tx: &mut WriteTx,
    change: &Change,
    at: DateTime<Utc>,
) -> Result<Position, StoreError> {
    let tenant = tx.tenant().0;
    let columns = Columns::of(change);
    let position =
        sqlx::query_scalar!("UPDATE stream_tail SET position = position + 1 RETURNING position")
            .fetch_one(tx.connection()?)
            .await?;
    sqlx::query!(
        "INSERT INTO invalidations
             (tenant_id, position, kind, generation, entry_id, cache_key, token_id, operation,
              label_index, subject_key_id, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        tenant,
        position,
        columns.kind,
        columns.generation,
        columns.entry,
        columns.key,
        columns.token,
        columns.operation,
        columns.label,
        columns.subject_key,
        at
    )
    .execute(tx.connection()?)
    .await?;
    sqlx::query!(
        "UPDATE invalidation_state SET position = $2 WHERE tenant_id = $1",
        tenant,
        position
    )
    .execute(tx.connection()?)
    .await?;
    sqlx::query!("SELECT pg_notify($1, '')", CHANNEL).fetch_one(tx.connection()?).await?;
    Ok(Position(position))
}

/// Removes up to `limit` of the oldest steps that came before `before`. Returns their number. A
/// replica that has not followed them sees that they are missing.
pub async fn trim(tx: &mut SystemTx, before: DateTime<Utc>, limit: i64) -> Result<u64, StoreError> {
    let removed =
        sqlx::query_scalar!(r#"SELECT trim_invalidations($1, $2) AS "removed!""#, before, limit)
            .fetch_one(tx.connection()?)
            .await?;
    Ok(u64::try_from(removed).unwrap_or(0))
}

/// A row of the stream.
struct RawStep {
    position: i64,
    tenant_id: Uuid,
    kind: String,
    generation: Option<i64>,
    entry_id: Option<Uuid>,
    cache_key: Option<Vec<u8>>,
    token_id: Option<Uuid>,
    operation: Option<String>,
    label_index: Option<Vec<u8>>,
    subject_key_id: Option<Uuid>,
    at: DateTime<Utc>,
}

impl RawStep {
    fn parse(self) -> Result<Step, StoreError> {
        let (position, tenant) = (Position(self.position), TenantId(self.tenant_id));
        let change = match self.kind.as_str() {
            "token" => self.token_id.map(|id| Change::Token(TokenId(id))),
            "tenant" => Some(Change::Tenant),
            _ => self.selector()?.map(Change::Entries),
        };
        let change = change.ok_or(StoreError::UnknownValue("invalidation"))?;
        Ok(Step { position, tenant, change })
    }

    fn selector(self) -> Result<Option<Selector>, StoreError> {
        let bytes = |bytes: Option<Vec<u8>>| bytes.map(<[u8; 32]>::try_from).transpose();
        Ok(match self.kind.as_str() {
            "all" => self.generation.map(|generation| Selector::Before(Generation(generation))),
            "entry" => {
                let key = bytes(self.cache_key);
                let key = key.map_err(|_| StoreError::UnknownValue("cache key"))?.map(CacheKey);
                self.entry_id.map(|id| Selector::Entry { id: EntryId(id), key })
            }
            "operation" => {
                let operation = self.operation.as_deref().and_then(Operation::parse);
                operation.map(|operation| Selector::Group(Group::Operation(operation)))
            }
            "label" => {
                let index = bytes(self.label_index);
                let index = index.map_err(|_| StoreError::UnknownValue("blind index"))?;
                index.map(|index| Selector::Group(Group::Label(BlindIndex(index))))
            }
            "subject" => {
                let id = self.subject_key_id.map(SubjectKeyId);
                id.map(|id| Selector::Group(Group::Subject(id)))
            }
            _ => None,
        })
    }
}

/// Lists at most `limit` steps after `position`, in order, each with its time.
pub(super) async fn list_after(
    connection: &mut PgConnection,
    position: Position,
    limit: i64,
) -> Result<Vec<(Step, DateTime<Utc>)>, StoreError> {
    let rows = sqlx::query_as!(
        RawStep,
        "SELECT position, tenant_id, kind, generation, entry_id, cache_key, token_id, operation,
                label_index, subject_key_id, at
         FROM invalidations WHERE position > $1 ORDER BY position LIMIT $2",
        position.0,
        limit
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let at = row.at;
            Ok((row.parse()?, at))
        })
        .collect()
}
