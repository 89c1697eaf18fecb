//! The invalidation stream and the row that fills and invalidations of one tenant meet at.
//! A position is taken last in its transaction, under the stream's lock, so that positions commit
//! in order.

use chrono::{DateTime, Utc};

use crate::domain::cache_key::CacheKey;
use crate::domain::ids::{EntryId, TenantId, TokenId};
use crate::domain::selector::{Change, Generation, Position, Selector, Step};

use super::{StoreError, SystemTx, WriteTx};

/// Begins an invalidation of the transaction's tenant: waits for its running fills, bars new ones
/// until the end, and begins a new generation when everything goes. To be called first.
pub async fn lock_for_invalidation(
    tx: &mut WriteTx,
    everything: bool,
    at: DateTime<Utc>,
) -> Result<Generation, StoreError> {
    let tenant = tx.tenant().0;
    let step = i64::from(everything);
    let generation = sqlx::query_scalar!(
        "UPDATE invalidation_state SET generation = generation + $2, updated_at = $3
         WHERE tenant_id = $1 RETURNING generation",
        tenant,
        step,
        at
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(Generation(generation))
}

/// Begins a fill: bars invalidations until the end. Returns the tenant's generation now.
pub async fn lock_for_fill(tx: &mut WriteTx) -> Result<Generation, StoreError> {
    let tenant = tx.tenant().0;
    let generation = sqlx::query_scalar!(
        "SELECT generation FROM invalidation_state WHERE tenant_id = $1 FOR SHARE",
        tenant
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(Generation(generation))
}

/// Whether the entry under `key` was invalidated by itself after `since`.
pub async fn is_invalidated_since(
    tx: &mut WriteTx,
    key: &CacheKey,
    since: Position,
) -> Result<bool, StoreError> {
    let tenant = tx.tenant().0;
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM invalidations WHERE tenant_id = $1 AND position > $2
                          AND kind = 'entry' AND cache_key = $3) AS "found!""#,
        tenant,
        since.0,
        &key.0
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(found)
}

/// Appends a change of the transaction's tenant to the stream. To be called last: it holds the
/// stream's lock until the commit.
pub async fn append(
    tx: &mut WriteTx,
    change: &Change,
    at: DateTime<Utc>,
) -> Result<Position, StoreError> {
    let tenant = tx.tenant().0;
    let (kind, generation, entry, token) = match change {
        Change::Entries(Selector::Before(generation)) => ("all", Some(generation.0), None, None),
        Change::Entries(Selector::Entry { id, key }) => ("entry", None, Some((id, key)), None),
        Change::Token(id) => ("token", None, None, Some(id.0)),
        Change::Tenant => ("tenant", None, None, None),
    };
    let position =
        sqlx::query_scalar!("UPDATE stream_tail SET position = position + 1 RETURNING position")
            .fetch_one(tx.connection()?)
            .await?;
    sqlx::query!(
        "INSERT INTO invalidations
             (tenant_id, position, kind, generation, entry_id, cache_key, token_id, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        tenant,
        position,
        kind,
        generation,
        entry.map(|(id, _)| id.0),
        entry.and_then(|(_, key)| key.map(|key| key.0.to_vec())),
        token,
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
    Ok(Position(position))
}

/// The newest position.
pub async fn get_tail(tx: &mut SystemTx) -> Result<Position, StoreError> {
    let position =
        sqlx::query_scalar!("SELECT position FROM stream_tail").fetch_one(tx.connection()?).await?;
    Ok(Position(position))
}

/// At most `limit` steps after `position`, in order.
pub async fn list_after(
    tx: &mut SystemTx,
    position: Position,
    limit: i64,
) -> Result<Vec<Step>, StoreError> {
    let rows = sqlx::query!(
        "SELECT position, tenant_id, kind, generation, entry_id, cache_key, token_id
         FROM invalidations WHERE position > $1 ORDER BY position LIMIT $2",
        position.0,
        limit
    )
    .fetch_all(tx.connection()?)
    .await?;
    rows.into_iter()
        .map(|row| {
            let change = match (row.kind.as_str(), row.generation, row.entry_id, row.token_id) {
                ("all", Some(generation), ..) => {
                    Change::Entries(Selector::Before(Generation(generation)))
                }
                ("entry", _, Some(id), _) => {
                    let key = row.cache_key.map(<[u8; 32]>::try_from).transpose();
                    let key = key.map_err(|_| StoreError::UnknownValue("cache key"))?;
                    Change::Entries(Selector::Entry { id: EntryId(id), key: key.map(CacheKey) })
                }
                ("token", _, _, Some(id)) => Change::Token(TokenId(id)),
                ("tenant", ..) => Change::Tenant,
                _ => return Err(StoreError::UnknownValue("invalidation")),
            };
            let (position, tenant) = (Position(row.position), TenantId(row.tenant_id));
            Ok(Step { position, tenant, change })
        })
        .collect()
}
