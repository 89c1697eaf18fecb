//! Follows the invalidation stream, and frees the memory of what it names.

use std::io;
use std::sync::Arc;

use crate::coherence::Coherence;
use crate::lifecycle::Lifecycle;
use crate::tiers::Sweeper;

/// Starts the thread that polls, the task that is woken by Postgres, and the sweeper.
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
