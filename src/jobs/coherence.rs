//! Follows the invalidation stream, and frees the memory of invalidated entries.

use std::io;
use std::sync::Arc;

use crate::coherence::Coherence;
use crate::lifecycle::Lifecycle;
use crate::tiers::Sweeper;

/// Starts the thread that polls, the task that Postgres wakes, and the sweeper.
pub(super) fn start(
    coherence: &Arc<Coherence>,
    sweeper: Arc<Sweeper>,
    lifecycle: &Lifecycle,
) -> io::Result<()> {
    lifecycle.spawn_thread("coherence", Arc::clone(coherence).follow(lifecycle.clone()))?;
    lifecycle.spawn(Arc::clone(coherence).listen(lifecycle.clone()));
    lifecycle.spawn(sweeper.run(Arc::clone(coherence), lifecycle.clone()));
    Ok(())
}
