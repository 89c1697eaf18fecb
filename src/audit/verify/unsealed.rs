//! The rows that no seal covers: those written since the last seal, and those that belong nowhere.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};

use crate::audit::sealer::MOST_LAG;
use crate::domain::ids::LedgerId;
use crate::store::ledgers::Ledger;
use crate::store::seals::TxRange;
use crate::store::{seals, trail};

use super::chain::Chain;
use super::finding::FindingKind;
use super::tally::Unsealed;
use super::{VerifyError, VerifyRun, is_here};

/// The longest time until the next seal, where one is made.
const NEXT_SEAL: Duration = Duration::from_secs(3);

/// Whether more seals may follow in a ledger.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LedgerLife {
    /// The newest ledger, which is still sealed.
    Open,
    /// A ledger after which another one began.
    Ended,
}

impl VerifyRun<'_> {
    /// Checks the rows that no seal covers: those since the last seal, and those whose transaction
    /// is older than the ledger.
    pub(super) async fn unsealed(
        &mut self,
        ledger: &Ledger,
        chain: &Chain<'_>,
        read_to: i64,
        life: LedgerLife,
    ) -> Result<(), VerifyError> {
        let mut tx = self.verifier.store.begin_reading("read unsealed rows to verify them").await?;
        trail::read_long(&mut tx).await?;
        let mut unsealed = Unsealed::default();
        let (before, after) = (TxRange { from: 0, to: ledger.begun_tx }, TxRange::since(read_to));
        for range in [before, after] {
            let rows = trail::stream(&mut tx, ledger.id, range)?;
            pin_mut!(rows);
            while let Some(found) = rows.next().await {
                let found = found?;
                let judged = self.row(&found);
                let row = &found.row;
                unsealed.note(row);
                let is_odd = found.rewritten || row.tx_id < ledger.begun_tx;
                if judged.is_right && judged.is_told && is_here(ledger) && is_odd {
                    self.rewritten(&[row.id]);
                }
            }
        }
        tx.end().await?;
        self.verification.unsealed += unsealed.count;
        // The last rows of a ledger that has ended stay unsealed.
        if life == LedgerLife::Open {
            self.lagging(ledger.id, chain, &unsealed).await?;
        }
        Ok(())
    }

    /// Checks the rows of no known ledger, and the rows that name an impossible transaction. A
    /// right row may be of a ledger that was begun since, whose id is greater.
    pub(super) async fn strays(&mut self, ledgers: &[LedgerId]) -> Result<(), VerifyError> {
        let mut tx = self.verifier.store.begin_reading("read stray rows to verify them").await?;
        trail::read_long(&mut tx).await?;
        let mut lost = BTreeSet::new();
        {
            let rows = trail::stream_strays(&mut tx, ledgers)?;
            pin_mut!(rows);
            while let Some(found) = rows.next().await {
                let found = found?;
                let judged = self.row(&found);
                let row = &found.row;
                self.verification.unsealed += 1;
                if judged.is_right && judged.is_told && !(0..i64::MAX).contains(&row.tx_id) {
                    self.rewritten(&[row.id]);
                }
                if judged.is_right && ledgers.last().is_some_and(|last| row.ledger_id < *last) {
                    lost.extend((!ledgers.contains(&row.ledger_id)).then_some(row.ledger_id));
                }
            }
        }
        tx.end().await?;
        for ledger in lost {
            let detail = "it has rows, and is not here itself".to_owned();
            self.verification.find(FindingKind::SealGap, format!("ledger {ledger}"), detail);
        }
        Ok(())
    }

    /// Reports lagging seals: the last one was made without a row that is more than a minute older.
    /// Rows that came from a spool just now are old and not late, so the next seal decides.
    async fn lagging(
        &mut self,
        ledger: LedgerId,
        chain: &Chain<'_>,
        unsealed: &Unsealed,
    ) -> Result<(), VerifyError> {
        let Some((at, tx_id)) = unsealed.oldest else {
            return Ok(());
        };
        let lag = chain.sealed_at().unwrap_or(self.verifier.now) - at;
        if lag <= MOST_LAG {
            return Ok(());
        }
        tokio::time::sleep(NEXT_SEAL).await;
        let store = self.verifier.store.long();
        let find = async |mut tx| seals::newest(&mut tx, ledger).await;
        let last = store.system("look for the next seal", find).await?;
        if last.is_none_or(|seal| seal.content.to_tx <= tx_id) {
            let (count, seconds) = (unsealed.count, lag.num_seconds());
            let detail = format!("{count} rows are not sealed, one of them since {seconds} s");
            self.verification.find(FindingKind::SealLagging, format!("ledger {ledger}"), detail);
        }
        Ok(())
    }
}
