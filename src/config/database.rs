//! Owns the settings of the connections to Postgres. It never connects.

use super::reader::Reader;
use super::secret::SecretText;

/// The settings of Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// The URL with the role of the service. `None` means the embedded server.
    pub url: Option<SecretText>,
    /// The URL with the role that owns the database, for `migrate`.
    pub admin_url: Option<SecretText>,
    /// The greatest number of connections in the pool for requests.
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
