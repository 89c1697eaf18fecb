//! Which unbroken history the records of this database belong to. One that was restored or copied
//! begins a new one: what the old one lost or gained meanwhile must not pass for unbroken.

use chrono::{DateTime, Utc};

use crate::domain::ids::LedgerId;
use crate::store::ledgers::NewLedger;
use crate::store::ledgers::{self, Ledger, LedgerOrigin};
use crate::store::{Store, StoreError, SystemTx, seals};

use super::checkpoint::{Checkpoint, CheckpointFile};
use super::line_file::LineFileError;

/// Why a ledger is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerReason {
    /// There was none.
    First,
    /// Another server holds the database: it was copied or restored.
    OtherServer,
    /// The server's log took another turn: a standby was promoted, or a backup was restored.
    OtherTimeline,
    /// The checkpoint file knows of seals that are not here.
    BehindCheckpoint,
    /// The checkpoint file that there was is gone.
    CheckpointMissing,
}

impl LedgerReason {
    /// The name as stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::OtherServer => "other-server",
            Self::OtherTimeline => "other-timeline",
            Self::BehindCheckpoint => "behind-checkpoint",
            Self::CheckpointMissing => "checkpoint-missing",
        }
    }

    /// Whether an operator must take note before a replica is ready: records may be lost. After a
    /// promotion alone nothing says so, and the checkpoint file would.
    const fn needs_acceptance(self) -> bool {
        !matches!(self, Self::First | Self::OtherTimeline)
    }
}

/// The ledger that records belong to from now on.
#[derive(Debug, Clone, Copy)]
pub struct PresentLedger {
    /// Its name.
    pub id: LedgerId,
    /// Why it was begun just now; `None`: it was there.
    pub begun: Option<LedgerReason>,
    /// Whether nothing speaks against serving from it.
    pub accepted: bool,
    /// The transaction that began it; its rows are of later ones.
    pub begun_tx: i64,
}

impl From<Ledger> for PresentLedger {
    fn from(known: Ledger) -> Self {
        let Ledger { id, accepted, begun_tx, .. } = known;
        Self { id, begun: None, accepted, begun_tx }
    }
}

/// Why the ledger cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint file failed.
    #[error(transparent)]
    Checkpoint(#[from] LineFileError),
}

/// The present ledger, begun now under the name `fresh` when there is none or the history broke.
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
        // Made before the ledger is noted to have one: a stop in between must not look like a loss.
        file.touch()?;
        note_checkpointed(store, present.id).await?;
    }
    Ok(present)
}

/// The present ledger as the services know it: a command begins none but the very first.
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

/// What the checkpoint file says.
enum CheckpointHead {
    /// None is set.
    NotSet,
    /// It is not there.
    Missing,
    /// It is, and this is its last line.
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
                    // The newest is the one with the greatest name, whatever the clock says.
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

/// Why the newest ledger cannot go on; `None`: it can.
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
        // What broke before the newest ledger was begun is the reason it was begun.
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

/// Whether the seal a checkpoint names is in the database as it was.
async fn is_here(tx: &mut SystemTx, checkpoint: &Checkpoint) -> Result<bool, StoreError> {
    let seal = seals::list(tx, checkpoint.ledger_id, checkpoint.seq - 1, 1).await?.pop();
    Ok(seal.is_some_and(|seal| {
        seal.content.seq == checkpoint.seq && hex::encode(&seal.hash) == checkpoint.seal_hash
    }))
}
