//! Brings a database to this release's schema, as the owner, one process at a time. It is the only
//! user of refinery. It makes the service's role if there is none.

use std::str::FromStr;
use std::time::Duration;

use refinery::Migration;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row, raw_sql};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::clock::Clock;
use crate::domain::ids::Ids;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The months for which audit partitions are made ahead, this month included.
pub const PARTITION_MONTHS: i32 = 4;

/// The longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The reason why migrating failed, in one line without row values.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The URL is malformed.
    #[error("the database URL is not one of Postgres")]
    Url(#[source] sqlx::Error),
    /// The service's URL is malformed.
    #[error("the service's database URL is not one of Postgres")]
    ServiceUrl(#[source] tokio_postgres::Error),
    /// Postgres cannot be reached as the owner role.
    #[error("Postgres cannot be reached as the owner role: {}", describe(.0))]
    Unreachable(#[source] sqlx::Error),
    /// Postgres gave no answer within the limit.
    #[error("Postgres did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// A statement failed.
    #[error("a statement failed: {}", describe(.0))]
    Statement(#[from] sqlx::Error),
    /// A migration failed.
    #[error("a migration failed: {}", .0.kind())]
    Migration(#[from] refinery::Error),
}

/// Returns the primary message of the server, or the driver's own words, which hold no row values.
fn describe(error: &sqlx::Error) -> String {
    error
        .as_database_error()
        .map_or_else(|| error.to_string(), |server| server.message().to_owned())
}

/// The result of migrating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The number of files that were applied now.
    pub applied: usize,
    /// The newest version that the database has.
    pub version: i32,
}

/// Returns the newest version that this release knows.
pub fn newest_version() -> i32 {
    embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max()
        .unwrap_or_default()
}

/// Applies the missing migrations as the owner of `admin_url`, then gives the role that
/// `service_url` names what it needs. Many processes may call it at once: an advisory lock lets
/// them in one after the other.
pub async fn migrate(
    admin_url: &str,
    service_url: Option<&str>,
    clock: &dyn Clock,
    ids: &dyn Ids,
) -> Result<Migrated, MigrateError> {
    const LIMIT: Duration = Duration::from_mins(5);
    let work = async {
        let mut owner = connect(admin_url).await?;
        owner.0.execute("SELECT pg_advisory_lock(hashtext('ai-cache migrate'))").await?;
        let report = embedded::migrations::runner().run_async(&mut owner).await?;
        if let Some(url) = service_url {
            ensure_service_role(&mut owner.0, url).await?;
        }
        ensure_rows(&mut owner.0, clock, ids).await?;
        // The lock goes with the connection.
        owner.0.close().await?;
        Ok(Migrated { applied: report.applied_migrations().len(), version: newest_version() })
    };
    tokio::time::timeout(LIMIT, work).await.map_err(|_| MigrateError::TimedOut(LIMIT))?
}

/// A connection as the owner, in the form that refinery wants. It goes through sqlx, so that TLS is
/// what the URL asks for, the same as the service's.
struct Owner(PgConnection);

impl AsyncTransaction for Owner {
    type Error = sqlx::Error;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, Self::Error> {
        let mut tx = self.0.begin().await?;
        let mut count = 0;
        for query in queries {
            // The text is a file of this release, or refinery's own bookkeeping.
            raw_sql(AssertSqlSafe(query.to_owned())).execute(&mut *tx).await?;
            count += 1;
        }
        tx.commit().await?;
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for Owner {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Self::Error> {
        let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut self.0).await?;
        let decode = |what: &'static str| sqlx::Error::Decode(what.into());
        rows.iter()
            .map(|row| {
                let at = OffsetDateTime::parse(&row.try_get::<String, _>(2)?, &Rfc3339)
                    .map_err(|_| decode("applied_on of a migration"))?;
                let checksum = row.try_get::<String, _>(3)?;
                let checksum = checksum.parse().map_err(|_| decode("checksum of a migration"))?;
                Ok(Migration::applied(row.try_get(0)?, row.try_get(1)?, at, checksum))
            })
            .collect()
    }
}

impl AsyncMigrate for Owner {}

async fn connect(url: &str) -> Result<Owner, MigrateError> {
    let options = PgConnectOptions::from_str(url).map_err(MigrateError::Url)?;
    let options = options
        .application_name("ai-cache migrate")
        .disable_statement_logging()
        .options([("client_min_messages", "warning")]);
    let connection = tokio::time::timeout(CONNECT_LIMIT, options.connect()).await;
    let connection = connection.map_err(|_| MigrateError::TimedOut(CONNECT_LIMIT))?;
    connection.map(Owner).map_err(MigrateError::Unreachable)
}

async fn ensure_service_role(owner: &mut PgConnection, url: &str) -> Result<(), MigrateError> {
    // sqlx tells the user of a URL, but not its password.
    let config = tokio_postgres::Config::from_str(url).map_err(MigrateError::ServiceUrl)?;
    let Some(role) = config.get_user() else {
        return Ok(());
    };
    let known = sqlx::query("SELECT FROM pg_roles WHERE rolname = $1").bind(role);
    if known.fetch_optional(&mut *owner).await?.is_none() {
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default());
        let statement: String = sqlx::query_scalar(
            "SELECT format('CREATE ROLE %I LOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS NOCREATEDB
                            NOCREATEROLE PASSWORD %L', $1, $2)",
        )
        .bind(role)
        .bind(password.as_ref())
        .fetch_one(&mut *owner)
        .await?;
        raw_sql(AssertSqlSafe(statement)).execute(&mut *owner).await?;
    }
    sqlx::query("SELECT grant_service_role($1::name)").bind(role).execute(owner).await?;
    Ok(())
}

/// Makes the rows and partitions that every installation has from the start.
async fn ensure_rows(
    owner: &mut PgConnection,
    clock: &dyn Clock,
    ids: &dyn Ids,
) -> Result<(), MigrateError> {
    let now = clock.now();
    sqlx::query("SELECT ensure_audit_partitions($1, $2)")
        .bind(now.date_naive())
        .bind(PARTITION_MONTHS)
        .execute(&mut *owner)
        .await?;
    let installation = ids.next(now);
    // The owner does this, whom row-level security binds too: the first service role may come
    // later, and with it the rights of `ai_cache_system`.
    let mut tx = owner.begin().await?;
    sqlx::query("SELECT set_config('app.tenant_id', $1, true)")
        .bind(installation.to_string())
        .execute(&mut *tx)
        .await?;
    let made = sqlx::query(
        "INSERT INTO tenants (tenant_id, slug, name, created_at)
         VALUES ($1, 'installation', 'This installation', $2)
         ON CONFLICT ON CONSTRAINT tenants_slug_unique DO NOTHING",
    )
    .bind(installation)
    .bind(now)
    .execute(&mut *tx)
    .await?;
    if made.rows_affected() == 1 {
        sqlx::query("INSERT INTO invalidation_state (tenant_id, updated_at) VALUES ($1, $2)")
            .bind(installation)
            .bind(now)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}
