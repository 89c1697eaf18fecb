//! Owns the directives of a request for the cache, which come from its body and its `Cache-Control`
//! header (RFC 9111 §5.2.1). If both give a directive, the stricter one holds.

use chrono::{DateTime, TimeDelta, Utc};

use super::fields::Fields;

/// The longest accepted time to live, in seconds: one year.
pub const MAX_TTL_SECONDS: u64 = 31_536_000;

/// How far the cache may take part in a request. The modes are in the order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Mode {
    /// The cache is read, and a fresh answer is stored.
    #[default]
    Default,
    /// The cache is read, and the upstream is never called.
    OnlyIfCached,
    /// The cache is not read, and a fresh answer is stored.
    Refresh,
    /// The cache is not read, and nothing is stored.
    Bypass,
    /// No answer is acceptable, because the request asks for a cached answer only and for no cached
    /// answer.
    Unanswerable,
}

impl Mode {
    /// Returns the mode that satisfies both modes.
    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::OnlyIfCached, Self::Refresh | Self::Bypass)
            | (Self::Refresh | Self::Bypass, Self::OnlyIfCached) => Self::Unanswerable,
            _ if self as u8 > other as u8 => self,
            _ => other,
        }
    }

    /// Returns the mode that remains while the cache does not take part.
    #[must_use]
    pub const fn passed_through(self) -> Self {
        match self {
            Self::Default | Self::Refresh | Self::Bypass => Self::Bypass,
            Self::OnlyIfCached | Self::Unanswerable => Self::Unanswerable,
        }
    }

    /// Returns whether a stored answer may be served.
    pub const fn reads(self) -> bool {
        matches!(self, Self::Default | Self::OnlyIfCached)
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::Default),
            "bypass" => Some(Self::Bypass),
            "refresh" => Some(Self::Refresh),
            "only-if-cached" => Some(Self::OnlyIfCached),
            _ => None,
        }
    }
}

/// The directives of a request for the cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directives {
    /// How far the cache may take part.
    pub mode: Mode,
    /// The time to live of the answer, in place of the operation's time.
    pub ttl: Option<TimeDelta>,
    /// The greatest acceptable age of an answer.
    pub max_age: Option<TimeDelta>,
    /// The tags of the answer, which are labels that it can be invalidated by.
    pub tags: Vec<String>,
}

impl Directives {
    /// Takes the members of the body's `cache` object.
    pub fn read(fields: &mut Fields) -> Self {
        let seconds = |value: u64| TimeDelta::seconds(i64::try_from(value).unwrap_or(i64::MAX));
        let rule = "one of default, bypass, refresh, only-if-cached";
        let mut tags = fields.texts("tags", 16, 1..=64).unwrap_or_default();
        tags.sort_unstable();
        tags.dedup();
        Self {
            mode: fields.parsed("mode", rule, Mode::parse).unwrap_or_default(),
            ttl: fields.number("ttlSeconds", 1..=MAX_TTL_SECONDS).map(seconds),
            max_age: fields.number("maxAgeSeconds", 0..=MAX_TTL_SECONDS).map(seconds),
            tags,
        }
    }

    /// Adds the directives of a `Cache-Control` header. Unknown directives are ignored, as RFC 9111
    /// §5.2.3 asks. A `max-age` that is no number counts as 0 (§4.2.1: stale).
    #[must_use]
    pub fn with_header(mut self, cache_control: &str) -> Self {
        for directive in cache_control.split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" => self.mode = self.mode.and(Mode::Bypass),
                "no-cache" => self.mode = self.mode.and(Mode::Refresh),
                "only-if-cached" => self.mode = self.mode.and(Mode::OnlyIfCached),
                "max-age" => {
                    let given = delta_seconds(value.trim().trim_matches('"'));
                    self.max_age = Some(self.max_age.map_or(given, |age| age.min(given)));
                }
                _ => {}
            }
        }
        self
    }

    /// Returns the earliest time at which an acceptable answer may have been made.
    pub fn made_since(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.max_age.map_or(DateTime::<Utc>::MIN_UTC, |age| now - age)
    }

    /// Returns the part of the window for stale answers that holds while the upstream can be asked.
    /// It is zero for a request that gives a greatest age, because such a request does not accept a
    /// stale answer (RFC 9111 §5.2.1.1).
    pub fn accepts_stale_for(&self, window: TimeDelta) -> TimeDelta {
        if self.max_age.is_none() { window } else { TimeDelta::zero() }
    }
}

/// Reads `delta-seconds` (RFC 9111 §1.2.2). A number that is too large counts as
/// [`MAX_TTL_SECONDS`], and a text that is no number counts as 0.
fn delta_seconds(text: &str) -> TimeDelta {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = match text.parse::<u64>() {
        _ if !is_number => 0,
        Ok(seconds) => seconds.min(MAX_TTL_SECONDS),
        Err(_) => MAX_TTL_SECONDS,
    };
    TimeDelta::seconds(i64::try_from(seconds).unwrap_or(0))
}
