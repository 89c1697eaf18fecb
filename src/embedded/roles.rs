//! Makes the roles and the database that the service expects in the embedded Postgres. It may run
//! at each start. It must make no tables, because migrations make them.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::error::EmbeddedError;
use super::postgres_server::PostgresServer;
use super::postmaster::{SUPERUSER, client_config};

/// The role that owns the database and its tables and runs migrations.
pub const OWNER_ROLE: &str = "ai_cache_owner";

/// The role that the service connects as.
pub const APP_ROLE: &str = "ai_cache_app";

pub const DATABASE: &str = "ai_cache";

/// The longest time that all statements of one connection may take together.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The name and the attributes of each role. CREATE ROLE and ALTER ROLE both take attributes in
/// this form.
const ROLES: [(&str, &str); 2] = [
    (OWNER_ROLE, "LOGIN NOSUPERUSER CREATEROLE NOCREATEDB NOBYPASSRLS NOREPLICATION INHERIT"),
    (APP_ROLE, "LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS NOREPLICATION NOINHERIT"),
];

impl PostgresServer {
    /// Makes the roles and the database that are missing, and sets the roles' attributes. The names
    /// are constants of this file, so they need no quoting.
    pub async fn ensure_roles_and_database(&self) -> Result<(), EmbeddedError> {
        self.as_superuser("postgres", "make its roles and database", async |client| {
            for (role, attributes) in ROLES {
                let exists = "SELECT 1 FROM pg_roles WHERE rolname = $1";
                let verb = if is_there(client, exists, role).await? { "ALTER" } else { "CREATE" };
                client.batch_execute(&format!("{verb} ROLE {role} {attributes}")).await?;
            }
            // From Postgres 16 on, CREATEROLE alone does not allow a role to change another role.
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
        // `select!` polls the connection beside the work, and the connection ends with the work.
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
