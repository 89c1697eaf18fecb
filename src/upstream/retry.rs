//! Decides when a failed try is made again: after a status that invites it, or when the request did
//! not arrive. It waits as long as the upstream asks, but never beyond the limit of all tries.

use std::time::Duration;

use backon::ExponentialBuilder;
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::UpstreamError;

/// The tries after the first one.
const RETRIES: usize = 2;

/// The shortest pause before the second try. Each next pause is twice as long, and up to as much
/// again is added by chance, so that replicas do not come back together.
const PAUSE: Duration = Duration::from_millis(100);

/// A try that gave no answer.
pub(super) struct FailedTry {
    pub(super) error: UpstreamError,
    pub(super) again: Again,
}

/// Says whether a try may be made again.
#[derive(Clone, Copy)]
pub(super) enum Again {
    /// No further try is made: the request may have been answered and paid for, or would fail the
    /// same way.
    Never,
    /// A further try may be made after a pause.
    Soon,
    /// A further try may be made after the pause that the upstream asked for, or a longer one.
    After(Duration),
}

impl FailedTry {
    /// Makes a failure after which no further try is made.
    pub(super) const fn last(error: UpstreamError) -> Self {
        let again = Again::Never;
        Self { error, again }
    }

    /// Makes the failure of a request that got no reply. A further try may be made only if the
    /// connection could not be made.
    pub(super) fn of_sending(error: &reqwest::Error) -> Self {
        let again = if error.is_connect() { Again::Soon } else { Again::Never };
        Self { error: UpstreamError::Unreachable, again }
    }

    /// Makes the failure of a reply whose status is not a success.
    pub(super) fn of_status(status: u16, headers: &HeaderMap, now: DateTime<Utc>) -> Self {
        let retry_after = retry_after(headers, now);
        let again = match status {
            429 | 500 | 502 | 503 | 504 => retry_after.map_or(Again::Soon, Again::After),
            _ => Again::Never,
        };
        let error = match status {
            429 => UpstreamError::RateLimited { retry_after },
            500.. => UpstreamError::Failed { status },
            _ => UpstreamError::Refused { status },
        };
        Self { error, again }
    }

    /// Returns the pause before the next try. `planned` is the next pause of the plan, and
    /// `remaining` is the rest of the limit. Returns `None` if there is no next try.
    pub(super) fn pause(&self, planned: Option<Duration>, remaining: Duration) -> Option<Duration> {
        let pause = match self.again {
            Again::Never => return None,
            Again::Soon => planned?,
            Again::After(asked) => planned?.max(asked),
        };
        (pause < remaining).then_some(pause)
    }
}

/// Returns the plan of the pauses.
pub(super) const fn plan() -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(PAUSE).with_jitter().with_max_times(RETRIES)
}

/// Reads the header `Retry-After`: seconds or a date (RFC 9110 §10.2.3). Returns `None` if it is
/// absent or malformed.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTime::parse_from_rfc2822(text).ok()?;
    let left = until.signed_duration_since(now).to_std();
    Some(left.unwrap_or(Duration::ZERO))
}
