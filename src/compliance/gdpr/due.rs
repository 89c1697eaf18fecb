//! The requests that will soon be due. They are counted for the metrics, and told of in the log
//! once each at seven and two days and when they are due, by the first replica that comes to it.

use chrono::{DateTime, TimeDelta, Utc};

use crate::call::ServiceError;
use crate::compliance::Compliance;
use crate::store::StoreError;
use crate::store::gdpr::work::{self, DueRequest};

/// The days before the due time, each with its name in the metrics.
const WARNINGS: [(i16, &str); 3] = [(7, "7"), (2, "2"), (0, "0")];

/// Returns the smallest number of days that a request is due within. Returns `None` if it has more
/// time.
fn days_left(due: &DueRequest, now: DateTime<Utc>) -> Option<i16> {
    let within = |days: i16| due.due_at < now + TimeDelta::days(i64::from(days));
    WARNINGS.iter().rev().map(|(days, _)| *days).find(|days| within(*days))
}

impl Compliance {
    /// Looks at all open requests. Returns the number of warnings that it gave.
    pub async fn warn_of_due_requests(&self) -> Result<usize, ServiceError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let within = TimeDelta::days(i64::from(WARNINGS[0].0));
        let due = store.system("find requests whose time comes to its end", async |mut tx| {
            work::list_due(&mut tx, now, within).await
        });
        let due = due.await?;
        for (days, name) in WARNINGS {
            let count =
                due.iter().filter(|due| days_left(due, now).is_some_and(|left| left <= days));
            self.parts.metrics.gdpr_due(name, count.count() as u64);
        }
        let mut warned = 0;
        for due in &due {
            let Some(days) = days_left(due, now) else { continue };
            if due.warned_days.is_none_or(|before| before > days)
                && self.note_warned(due, days).await?
            {
                tell(due, days);
                warned += 1;
            }
        }
        Ok(warned)
    }

    /// Records that this replica warns of `due`. Returns false if another replica has done so
    /// meanwhile.
    async fn note_warned(&self, due: &DueRequest, days: i16) -> Result<bool, StoreError> {
        let store = &self.parts.store;
        let noted = store.system("note that a request was warned of", async |mut tx| {
            work::update_warned(&mut tx, due, days).await
        });
        noted.await
    }
}

fn tell(due: &DueRequest, days: i16) {
    let DueRequest { tenant, id, kind, state, due_at, .. } = due;
    let (kind, state) = (kind.name(), state.name());
    if days == 0 {
        tracing::error!(%tenant, request = %id, kind, state, %due_at, "a data subject's request is past its due date");
    } else {
        tracing::warn!(%tenant, request = %id, kind, state, %due_at, days, "a data subject's request is due soon");
    }
}
