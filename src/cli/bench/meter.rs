//! Owns the progress bar of a measurement. It must draw on stderr only, and never when a program
//! reads the result.

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::BenchArgs;
use crate::loadgen::LoadProgress;

const BAR_TICK: Duration = Duration::from_millis(200);

/// The progress bar. It is hidden if stderr is not a terminal or if `--json` is given.
pub struct Meter {
    drawn: ProgressBar,
    progress: Arc<LoadProgress>,
    begun: Instant,
}

impl Meter {
    /// Makes the bar for load that begins now and takes `length` in all.
    pub fn new(args: &BenchArgs, length: Duration) -> Self {
        let drawn = if args.json || !io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(millis(length)).with_style(style())
        };
        Self { drawn, progress: Arc::default(), begun: Instant::now() }
    }

    /// Returns the counts that the load updates and the bar shows.
    pub fn progress(&self) -> Arc<LoadProgress> {
        Arc::clone(&self.progress)
    }

    /// Runs `load` and moves the bar meanwhile.
    pub async fn follow<T>(&self, name: &'static str, load: impl Future<Output = T>) -> T {
        self.drawn.set_prefix(name);
        let mut load = pin!(load);
        let mut ticks = tokio::time::interval(BAR_TICK);
        loop {
            tokio::select! {
                result = &mut load => return result,
                _ = ticks.tick() => self.draw(),
            }
        }
    }

    fn draw(&self) {
        let (requests, failures) = (self.progress.requests(), self.progress.failures());
        self.drawn.set_message(format!("{requests} requests, {failures} errors"));
        self.drawn.set_position(millis(self.begun.elapsed()).min(self.drawn.length().unwrap_or(0)));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.drawn.finish_and_clear();
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:5} {wide_bar} {msg} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
