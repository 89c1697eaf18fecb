//! The runs of the daily verification of the audit trail.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{StoreError, SystemTx};

/// A verification that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationRow {
    /// The time when it ended.
    pub ended_at: DateTime<Utc>,
    /// The rows that were checked.
    pub rows: i64,
    /// The seals that were checked.
    pub seals: i64,
    /// The checkpoints that were compared.
    pub checkpoints: i64,
    /// The number of findings.
    pub findings: i64,
    /// The number of findings of each kind.
    pub kinds: BTreeMap<String, u64>,
}

/// Claims the run that is due: none was begun within `every`, and none that has not ended was begun
/// within `claim`. One of many processes that try at once has it. Returns whether this one has.
pub async fn claim(
    tx: &mut SystemTx,
    id: Uuid,
    now: DateTime<Utc>,
    every: TimeDelta,
    claim: TimeDelta,
) -> Result<bool, StoreError> {
    sqlx::query!(
        r#"SELECT pg_advisory_xact_lock(hashtext('ai-cache audit verification')) AS "locked: ()""#
    )
    .fetch_one(tx.connection()?)
    .await?;
    let done = sqlx::query!(
        "INSERT INTO audit_verifications (verification_id, begun_at)
         SELECT $1, $2
         WHERE NOT EXISTS (SELECT FROM audit_verifications
                           WHERE begun_at > CASE WHEN ended_at IS NULL THEN $4::timestamptz
                                                 ELSE $3::timestamptz END)",
        id,
        now,
        now - every,
        now - claim
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps the result of a run: rows, seals, checkpoints and findings.
pub async fn end(
    tx: &mut SystemTx,
    id: Uuid,
    now: DateTime<Utc>,
    counts: [u64; 4],
    kinds: &BTreeMap<String, u64>,
) -> Result<(), StoreError> {
    let [rows, seals, checkpoints, findings] =
        counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let kinds = serde_json::to_string(kinds).map_err(|_| StoreError::UnknownValue("kind"))?;
    sqlx::query!(
        "UPDATE audit_verifications
         SET ended_at = $2, row_count = $3, seal_count = $4, checkpoint_count = $5,
             finding_count = $6, findings = $7::text::jsonb
         WHERE verification_id = $1",
        id,
        now,
        rows,
        seals,
        checkpoints,
        findings,
        kinds
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Finds the last run that came to its end.
pub async fn newest(tx: &mut SystemTx) -> Result<Option<VerificationRow>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT ended_at AS "ended_at!", row_count AS "rows!", seal_count AS "seals!",
                  checkpoint_count AS "checkpoints!", finding_count AS "findings!",
                  findings::text AS "kinds!"
           FROM audit_verifications WHERE ended_at IS NOT NULL ORDER BY begun_at DESC LIMIT 1"#
    )
    .fetch_optional(tx.connection()?)
    .await?;
    row.map(|row| {
        Ok(VerificationRow {
            ended_at: row.ended_at,
            rows: row.rows,
            seals: row.seals,
            checkpoints: row.checkpoints,
            findings: row.findings,
            kinds: serde_json::from_str(&row.kinds)
                .map_err(|_| StoreError::UnknownValue("finding"))?,
        })
    })
    .transpose()
}
