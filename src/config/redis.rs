//! How Redis is reached.

use std::time::Duration;

use super::reader::Reader;
use super::secret::SecretText;

/// Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// None: no warm tier, or the embedded one. One: a single server. Several: a cluster's nodes.
    pub urls: Vec<SecretText>,
    /// Longest time of a command.
    pub timeout: Duration,
}

fn parse_urls(text: &str) -> Option<Vec<SecretText>> {
    let schemes = ["redis://", "redis+unix://", "unix://"];
    let url = |item: &str| {
        let known = schemes.iter().any(|scheme| item.starts_with(scheme));
        known.then(|| SecretText::new(item))
    };
    text.split(',').map(|item| url(item.trim())).collect()
}

impl RedisConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let rule = "a URL that begins with redis://, or several separated by commas for a cluster";
        let urls = reader.parsed("AI_CACHE_REDIS_URL", rule, parse_urls);
        let timeout = reader.number("AI_CACHE_REDIS_TIMEOUT_MS", 1..=10_000, 100);
        Self { urls: urls.unwrap_or_default(), timeout: Duration::from_millis(timeout) }
    }
}
