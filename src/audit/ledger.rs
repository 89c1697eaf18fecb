//! Owns the ledger: the one unbroken history to which the records of this database belong. A
//! database that was restored or copied begins a new ledger. What the old ledger lost or gained in
//! the meantime must never pass for unbroken.

use chrono::{DateTime, Utc};

use crate::domain::ids::LedgerId;
use crate::store::ledgers::NewLedger;
use crate::store::ledgers::{self, Ledger, LedgerOrigin};
use crate::store::{Store, StoreError, SystemTx, seals};

use super::checkpoint::{Checkpoint, CheckpointFile};
use super::line_file::LineFileError;

/// The reason why a ledger is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerReason {
    /// The database had no ledger.
    First,
    /// The newest ledger was begun on another server: the database was copied or restored.
    OtherServer,
    /// The server's log took another turn: a standby was promoted, or a backup was restored.
    OtherTimeline,
    /// The last seal in the checkpoint file is not in the database.
    BehindCheckpoint,
    /// The checkpoint file existed before and is gone.
    CheckpointMissing,
}

impl LedgerReason {
    /// Returns the name that is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::OtherServer => "other-server",
            Self::OtherTimeline => "other-timeline",
            Self::BehindCheckpoint => "behind-checkpoint",
            Self::CheckpointMissing => "checkpoint-missing",
        }
    }

    /// Returns whether an operator must take note before a replica is ready, because records may be
    /// lost. A promotion alone does not show that records are lost; the checkpoint file would show
    /// it.
    const fn needs_acceptance(self) -> bool {
        !matches!(self, Self::First | Self::OtherTimeline)
    }
}

/// The ledger to which records belong from now on.
#[derive(Debug, Clone, Copy)]
pub struct PresentLedger {
    /// The id of the ledger.
    pub id: LedgerId,
    /// The reason why the ledger was begun just now. `None` means that the ledger existed before.
    pub begun: Option<LedgerReason>,
    /// Whether a replica may serve from the ledger: an operator has taken note, or need not.
    pub accepted: bool,
    /// The transaction that began the ledger. Every row of the ledger comes from a later one.
    pub begun_tx: i64,
}

impl From<Ledger> for PresentLedger {
    fn from(known: Ledger) -> Self {
        let Ledger { id, accepted, begun_tx, .. } = known;
        Self { id, begun: None, accepted, begun_tx }
    }
}

/// The reason why the present ledger is not known.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint file failed.
    #[error(transparent)]
    Checkpoint(#[from] LineFileError),
}

/// Returns the present ledger. If there is none or the history broke, begins one now, with the id
/// `fresh` or a greater one.
pub async fn find_or_begin(
    store: &Store,
    checkpoint: Option<&CheckpointFile>,
    fresh: LedgerId,
    now: DateTime<Utc>,
) -> Result<PresentLedger, LedgerError> {
    let outside = match checkpoint {
        None => CheckpointHead::NotSet,
        Some(file) if !file.exists()? => CheckpointHead::Missing,
        Some(file) => CheckpointHead::There(file.last()?),
    };
    let present = begin(store, &outside, fresh, now).await?;
    if let Some(file) = checkpoint {
        // The file is made before the database notes that the ledger has one: a stop between the
        // two steps must not look like a loss.
        file.touch()?;
        note_checkpointed(store, present.id).await?;
    }
    Ok(present)
}

/// Returns the present ledger as the services know it. A command begins no ledger but the very
/// first.
pub async fn find(
    store: &Store,
    fresh: LedgerId,
    now: DateTime<Utc>,
) -> Result<PresentLedger, LedgerError> {
    let newest = store.system("find the newest audit ledger", async |mut tx| {
        let newest = ledgers::newest(&mut tx).await?;
        Ok::<_, StoreError>(newest)
    });
    match newest.await? {
        Some(known) => Ok(known.into()),
        None => begin(store, &CheckpointHead::NotSet, fresh, now).await,
    }
}

/// The state of the checkpoint file.
enum CheckpointHead {
    /// No checkpoint file is set.
    NotSet,
    /// The file does not exist.
    Missing,
    /// The file exists. The value is its last whole line, if it has one.
    There(Option<Checkpoint>),
}

async fn note_checkpointed(store: &Store, ledger: LedgerId) -> Result<(), StoreError> {
    store
        .system("note that seals are kept outside", async |mut tx| {
            ledgers::note_checkpointed(&mut tx, ledger).await?;
            Ok(())
        })
        .await
}

async fn begin(
    store: &Store,
    outside: &CheckpointHead,
    fresh: LedgerId,
    now: DateTime<Utc>,
) -> Result<PresentLedger, LedgerError> {
    store
        .system("find or begin the audit ledger", async |mut tx| {
            ledgers::lock(&mut tx).await?;
            let newest = ledgers::newest(&mut tx).await?;
            let reason = judge(&mut tx, newest.as_ref(), outside).await?;
            let present = match (newest, reason) {
                (Some(known), None) => known.into(),
                (newest, reason) => {
                    let reason = reason.unwrap_or(LedgerReason::First);
                    let accepted = !reason.needs_acceptance();
                    // The newest ledger is the one with the greatest id, whatever the clock says.
                    let id = newest.map_or(fresh, |newest| fresh.max(newest.id.next()));
                    let reason_name = reason.name();
                    let new = NewLedger { id, reason: reason_name, begun_at: now, accepted };
                    let begun_tx = ledgers::insert(&mut tx, new).await?;
                    PresentLedger { id, begun: Some(reason), accepted, begun_tx }
                }
            };
            Ok(present)
        })
        .await
}

/// Returns the reason why the newest ledger cannot go on. Returns `None` if it can.
async fn judge(
    tx: &mut SystemTx,
    newest: Option<&Ledger>,
    outside: &CheckpointHead,
) -> Result<Option<LedgerReason>, StoreError> {
    let Some(newest) = newest else {
        return Ok(Some(LedgerReason::First));
    };
    if newest.home == LedgerOrigin::OtherServer {
        return Ok(Some(LedgerReason::OtherServer));
    }
    match outside {
        // A break before the newest ledger was begun is the reason why it was begun, and counts no
        // more.
        CheckpointHead::There(Some(last))
            if last.ledger_id >= newest.id && !is_here(tx, last).await? =>
        {
            return Ok(Some(LedgerReason::BehindCheckpoint));
        }
        CheckpointHead::Missing if newest.checkpointed => {
            return Ok(Some(LedgerReason::CheckpointMissing));
        }
        _ => {}
    }
    Ok((newest.home == LedgerOrigin::OtherTimeline).then_some(LedgerReason::OtherTimeline))
}

/// Returns whether the database holds the seal that a checkpoint names, and holds it unchanged.
async fn is_here(tx: &mut SystemTx, checkpoint: &Checkpoint) -> Result<bool, StoreError> {
    let seal = seals::list(tx, checkpoint.ledger_id, checkpoint.seq - 1, 1).await?.pop();
    Ok(seal.is_some_and(|seal| {
        seal.content.seq == checkpoint.seq && hex::encode(&seal.hash) == checkpoint.seal_hash
    }))
}
