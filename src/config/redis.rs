//! Owns the settings of the connections to Redis. It never connects.

use std::time::Duration;

use super::reader::Reader;
use super::secret::SecretText;

/// The settings of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// The URLs of the servers. An empty list means that there is no warm tier, or an embedded one.
    /// One URL names a single server, or a node of a cluster if its scheme says so. Several URLs
    /// name the nodes of a cluster.
    pub urls: Vec<SecretText>,
    /// The longest time of a command.
    pub timeout: Duration,
}

const SCHEMES: [&str; 6] =
    ["redis", "rediss", "redis+cluster", "rediss+cluster", "redis+unix", "unix"];

/// Returns the scheme of a URL that names a server. Returns `None` for any other text. A URL with a
/// `#` is refused, because the part after it could switch off the check of certificates.
fn scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://").filter(|_| !url.contains(['#', ' ']))?;
    let host = rest.split(['/', '?']).next()?.rsplit('@').next()?;
    let names_a_place = match scheme {
        "unix" | "redis+unix" => rest.starts_with('/'),
        _ => !host.is_empty() && !host.starts_with(':'),
    };
    (names_a_place && SCHEMES.contains(&scheme)).then_some(scheme)
}

/// Reads one URL, or several URLs of one scheme for the nodes of a cluster. A cluster has no Unix
/// sockets. Returns `None` if a URL breaks a rule.
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
