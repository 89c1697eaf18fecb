//! The roles and the database that the service expects, made in the embedded Postgres.
//! Makes no tables: those are migrations. May be run at each start.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::error::EmbeddedError;
use super::postgres_server::PostgresServer;
use super::postmaster::{SUPERUSER, client_config};

/// Owns the database and its tables, runs migrations.
pub const OWNER_ROLE: &str = "ai_cache_owner";

/// What the service connects as.
pub const APP_ROLE: &str = "ai_cache_app";

pub const DATABASE: &str = "ai_cache";

/// For all statements of one connection together.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Name and attributes of each role, as CREATE ROLE and ALTER ROLE both take them.
const ROLES: [(&str, &str); 2] = [
    (OWNER_ROLE, "LOGIN NOSUPERUSER CREATEROLE NOCREATEDB NOBYPASSRLS NOREPLICATION INHERIT"),
    (APP_ROLE, "LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS NOREPLICATION NOINHERIT"),
];

impl PostgresServer {
    /// Makes what is missing and sets the roles' attributes. Names are constants of this file:
    /// they need no quoting.
    pub async fn ensure_roles_and_database(&self) -> Result<(), EmbeddedError> {
        self.as_superuser("postgres", "make its roles and database", async |client| {
            for (role, attributes) in ROLES {
                let exists = "SELECT 1 FROM pg_roles WHERE rolname = $1";
                let verb = if is_there(client, exists, role).await? { "ALTER" } else { "CREATE" };
                client.batch_execute(&format!("{verb} ROLE {role} {attributes}")).await?;
            }
            // From Postgres 16 on, CREATEROLE alone no longer suffices to change another's role.
            let grant = format!("GRANT {APP_ROLE} TO {OWNER_ROLE} WITH ADMIN OPTION");
            client.batch_execute(&grant).await?;
            let exists = "SELECT 1 FROM pg_database WHERE datname = $1";
            if !is_there(client, exists, DATABASE).await? {
                let create =
                    format!("CREATE DATABASE {DATABASE} OWNER {OWNER_ROLE} ENCODING 'UTF8'");
                client.batch_execute(&create).await?;
            }
            Ok(())
        })
        .await?;
        self.as_superuser(DATABASE, "close schema public", async |client| {
            client.batch_execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await
        })
        .await
    }

    async fn as_superuser<T>(
        &self,
        database: &str,
        doing: &'static str,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, EmbeddedError> {
        let refused = |error: &tokio_postgres::Error| EmbeddedError::Refused {
            doing,
            code: error.code().map_or("none: connection lost", |code| code.code()).to_owned(),
        };
        let config = client_config(self.socket_dir(), SUPERUSER, database);
        let (client, connection) = config.connect(NoTls).await.map_err(|error| refused(&error))?;
        // The connection is driven here, beside the work, and ends with it.
        tokio::select! {
            result = work(&client) => result.map_err(|error| refused(&error)),
            ended = connection => Err(match ended {
                Err(error) => refused(&error),
                Ok(()) => EmbeddedError::Refused { doing, code: "none: connection lost".to_owned() },
            }),
            () = tokio::time::sleep(TIMEOUT) => {
                Err(EmbeddedError::Refused { doing, code: "none: time ran out".to_owned() })
            }
        }
    }
}

async fn is_there(client: &Client, query: &str, name: &str) -> Result<bool, tokio_postgres::Error> {
    Ok(client.query_opt(query, &[&name]).await?.is_some())
}
