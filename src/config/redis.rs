//! How Redis is reached.

use std::time::Duration;

use super::reader::Reader;
use super::secret::SecretText;

/// Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// None: no warm tier, or the embedded one. One: a single server, or a
    /// cluster's node when its scheme says so. Several: a cluster's nodes.
    pub urls: Vec<SecretText>,
    /// Longest time of a command.
    pub timeout: Duration,
}

const SCHEMES: [&str; 6] =
    ["redis", "rediss", "redis+cluster", "rediss+cluster", "redis+unix", "unix"];

/// The scheme of a URL that names a place. What follows a `#` would switch the check of
/// certificates off, so there is none.
fn scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://").filter(|_| !url.contains(['#', ' ']))?;
    let host = rest.split(['/', '?']).next()?.rsplit('@').next()?;
    let names_a_place = match scheme {
        "unix" | "redis+unix" => rest.starts_with('/'),
        _ => !host.is_empty() && !host.starts_with(':'),
    };
    (names_a_place && SCHEMES.contains(&scheme)).then_some(scheme)
}

/// One URL, or several of one scheme: nodes of a cluster, which has no sockets.
fn parse_urls(text: &str) -> Option<Vec<SecretText>> {
    let urls: Vec<&str> = text.split(',').map(str::trim).collect();
    let first = scheme(urls.first()?)?;
    let alike = urls.iter().all(|url| scheme(url) == Some(first));
    let possible = urls.len() == 1 || !first.ends_with("unix");
    (alike && possible).then(|| urls.into_iter().map(SecretText::new).collect())
}

impl RedisConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let rule = "a URL that begins with redis://, rediss:// (TLS), redis+cluster://, \
                    rediss+cluster:// or unix:// and has no # part, or several alike, separated by \
                    commas, for a cluster";
        let urls = reader.parsed("AI_CACHE_REDIS_URL", rule, parse_urls);
        let timeout = reader.number("AI_CACHE_REDIS_TIMEOUT_MS", 1..=10_000, 100);
        Self { urls: urls.unwrap_or_default(), timeout: Duration::from_millis(timeout) }
    }
}
