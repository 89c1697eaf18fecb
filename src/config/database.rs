//! How Postgres is reached.

use super::reader::Reader;
use super::secret::SecretText;

/// Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// The service's role; `None`: the embedded server.
    pub url: Option<SecretText>,
    /// The owner, for `migrate`.
    pub admin_url: Option<SecretText>,
    /// Connections kept for requests.
    pub pool: u32,
}

fn parse_url(text: &str) -> Option<SecretText> {
    let scheme = text.starts_with("postgres://") || text.starts_with("postgresql://");
    scheme.then(|| SecretText::new(text))
}

impl DatabaseConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let rule = "a URL that begins with postgres://";
        let pool = reader.number("AI_CACHE_DATABASE_POOL", 2..=500, 10);
        Self {
            url: reader.parsed("DATABASE_URL", rule, parse_url),
            admin_url: reader.parsed("AI_CACHE_ADMIN_DATABASE_URL", rule, parse_url),
            pool: u32::try_from(pool).unwrap_or(10),
        }
    }
}
