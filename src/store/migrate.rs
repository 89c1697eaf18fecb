//! Brings a database to this release's schema, as the owner, one process at a time. The only user
//! of refinery. Makes the service's role when it is not there.

use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

use crate::domain::clock::Clock;
use crate::domain::ids::Ids;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Months for which audit partitions are made ahead, this one included.
pub const PARTITION_MONTHS: i32 = 4;

/// Why migrating failed. One line each, no row values.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The URL is malformed.
    #[error("the database URL is not one of Postgres")]
    Url(#[source] tokio_postgres::Error),
    /// Postgres cannot be reached as that role.
    #[error("Postgres cannot be reached as the owner role: {}", describe(.0))]
    Unreachable(#[source] tokio_postgres::Error),
    /// No answer within the limit.
    #[error("Postgres did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// A statement failed.
    #[error("a statement failed: {}", describe(.0))]
    Statement(#[from] tokio_postgres::Error),
    /// A migration failed.
    #[error("a migration failed: {}", .0.kind())]
    Migration(#[from] refinery::Error),
}

/// The driver's own words, which hold no row values, or the server's primary message.
fn describe(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |server| server.message().to_owned())
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Files applied now.
    pub applied: usize,
    /// Newest version the database has.
    pub version: i32,
}

/// The newest version this release knows.
pub fn newest_version() -> i32 {
    embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max()
        .unwrap_or_default()
}

/// Applies what is missing as the owner of `admin_url`, then gives the role that `service_url`
/// names what it needs. Many may call at once: an advisory lock lets one after the other in.
pub async fn migrate(
    admin_url: &str,
    service_url: Option<&str>,
    clock: &dyn Clock,
    ids: &dyn Ids,
) -> Result<Migrated, MigrateError> {
    const LIMIT: Duration = Duration::from_mins(5);
    let work = async {
        let mut client = connect(admin_url).await?;
        client.batch_execute("SELECT pg_advisory_lock(hashtext('ai-cache migrate'))").await?;
        let report = embedded::migrations::runner().run_async(&mut client).await?;
        if let Some(url) = service_url {
            ensure_service_role(&client, url).await?;
        }
        ensure_rows(&client, clock, ids).await?;
        client.batch_execute("SELECT pg_advisory_unlock(hashtext('ai-cache migrate'))").await?;
        Ok(Migrated { applied: report.applied_migrations().len(), version: newest_version() })
    };
    tokio::time::timeout(LIMIT, work).await.map_err(|_| MigrateError::TimedOut(LIMIT))?
}

async fn connect(url: &str) -> Result<Client, MigrateError> {
    let mut config = Config::from_str(url).map_err(MigrateError::Url)?;
    config.connect_timeout(Duration::from_secs(5)).application_name("ai-cache migrate");
    let (client, connection) = config.connect(NoTls).await.map_err(MigrateError::Unreachable)?;
    drive(connection);
    Ok(client)
}

/// Reads and writes the client's socket; ends when the client is dropped.
#[expect(clippy::disallowed_methods, reason = "the driver's socket task, owned by its client")]
fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    tokio_postgres::Connection<S, T>: Future<Output = Result<(), tokio_postgres::Error>> + Send,
    S: 'static,
    T: 'static,
{
    tokio::spawn(async move {
        if connection.await.is_err() {
            tracing::debug!("the migration's connection ended early");
        }
    });
}

async fn ensure_service_role(client: &Client, url: &str) -> Result<(), MigrateError> {
    let config = Config::from_str(url).map_err(MigrateError::Url)?;
    let Some(role) = config.get_user() else {
        return Ok(());
    };
    let known = client.query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&role]).await?;
    if known.is_none() {
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default());
        let attributes = "LOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE";
        let statement = client
            .query_one(
                "SELECT format('CREATE ROLE %I ' || $1 || ' PASSWORD %L', $2::text, $3::text)",
                &[&attributes, &role, &password.as_ref()],
            )
            .await?;
        client.batch_execute(statement.get(0)).await?;
    }
    client.execute("SELECT grant_service_role($1::text::name)", &[&role]).await?;
    Ok(())
}

/// The rows and partitions every installation has from the start.
async fn ensure_rows(
    client: &Client,
    clock: &dyn Clock,
    ids: &dyn Ids,
) -> Result<(), MigrateError> {
    let now = clock.now();
    client
        .execute(
            "SELECT ensure_audit_partitions($1::text::date, $2)",
            &[&now.date_naive().to_string(), &PARTITION_MONTHS],
        )
        .await?;
    let installation = ids.next(now).to_string();
    let at = now.to_rfc3339();
    // As the owner, whom row-level security binds too: the first service role may come later, and
    // with it what `ai_cache_system` may do.
    client.batch_execute("BEGIN").await?;
    client.execute("SELECT set_config('app.tenant_id', $1, true)", &[&installation]).await?;
    let made = client
        .execute(
            "INSERT INTO tenants (tenant_id, slug, name, created_at)
             VALUES ($1::text::uuid, 'installation', 'This installation', $2::text::timestamptz)
             ON CONFLICT ON CONSTRAINT tenants_slug_unique DO NOTHING",
            &[&installation, &at],
        )
        .await?;
    if made == 1 {
        client
            .execute(
                "INSERT INTO invalidation_state (tenant_id, updated_at)
                 VALUES ($1::text::uuid, $2::text::timestamptz)",
                &[&installation, &at],
            )
            .await?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(())
}
