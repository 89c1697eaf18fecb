//! Checks the database before the service serves from it: no role may pass row-level security, no
//! tenant table is without it, and the server loses no commits.

use super::{Store, StoreError, migrate};

/// The reason why the service does not start on this database, in one line.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Postgres cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no schema, or one older than this release.
    #[error(
        "the database schema is at version {found}, this release needs {needed}: run ai-cache migrate"
    )]
    OldSchema {
        /// The version that is there, 0 if there is none.
        found: i32,
        /// The version that is needed.
        needed: i32,
    },
    /// The role may do too much.
    #[error(
        "the database role {role} {fault}; the service runs only as a role without such rights"
    )]
    Role {
        /// The role.
        role: String,
        /// The fault of the role.
        fault: &'static str,
    },
    /// A tenant table is open.
    #[error("the table {table} {fault}; the service does not start on it")]
    Table {
        /// The table.
        table: String,
        /// The missing protection.
        fault: &'static str,
    },
    /// The server may lose commits.
    #[error("the Postgres setting {setting} is off; audit records would not be durable")]
    Durability {
        /// The setting.
        setting: String,
    },
}

/// Checks role, tables and server.
pub async fn check(store: &Store) -> Result<(), GuardError> {
    check_schema(store).await?;
    check_role(store).await?;
    check_tables(store).await?;
    check_durability(store).await
}

async fn check_schema(store: &Store) -> Result<(), GuardError> {
    let needed = migrate::newest_version();
    let found = store
        .in_time(async {
            let exists = sqlx::query_scalar!(
                r#"SELECT to_regclass('public.refinery_schema_history') IS NOT NULL AS "there!""#
            )
            .fetch_one(&store.pool)
            .await?;
            if !exists {
                return Ok(0);
            }
            let version = sqlx::query_scalar!("SELECT max(version) FROM refinery_schema_history")
                .fetch_one(&store.pool)
                .await?;
            Ok::<i32, StoreError>(version.unwrap_or(0))
        })
        .await?;
    if found < needed { Err(GuardError::OldSchema { found, needed }) } else { Ok(()) }
}

async fn check_role(store: &Store) -> Result<(), GuardError> {
    let role = store
        .in_time(async {
            Ok::<_, StoreError>(
                sqlx::query!(
                    r#"SELECT rolname::text AS "name!", rolsuper AS "superuser!",
                              rolbypassrls AS "bypasses!", rolinherit AS "inherits!",
                              pg_has_role(oid, 'ai_cache_system', 'MEMBER') AS "member!",
                              EXISTS (SELECT FROM pg_class
                                      WHERE pg_has_role(pg_roles.oid, relowner, 'MEMBER')
                                        AND relkind IN ('r', 'p')) AS "owner!"
                       FROM pg_roles WHERE rolname = current_user"#
                )
                .fetch_one(&store.pool)
                .await?,
            )
        })
        .await?;
    let faults = [
        (role.superuser, "is a superuser"),
        (role.bypasses, "has BYPASSRLS"),
        (role.owner, "owns tables or can take the role that does"),
        (role.inherits, "inherits the rights of ai_cache_system (make it NOINHERIT)"),
        (!role.member, "is not a member of ai_cache_system (run ai-cache migrate)"),
    ];
    match faults.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, fault)) => Err(GuardError::Role { role: role.name, fault }),
        None => Ok(()),
    }
}

async fn check_tables(store: &Store) -> Result<(), GuardError> {
    let tables = store
        .in_time(async {
            Ok::<_, StoreError>(
                sqlx::query!(
                    r#"SELECT c.relname::text AS "name!", c.relrowsecurity AS "enabled!",
                              c.relforcerowsecurity AS "forced!",
                              EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid
                                      AND p.polname = c.relname || '_tenant'
                                      AND pg_get_expr(p.polqual, p.polrelid)
                                          = '(tenant_id = current_tenant())'
                                      AND p.polwithcheck IS NULL) AS "policy!",
                              EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid
                                      AND p.polroles = ARRAY['ai_cache_system'::regrole::oid]) AS "system!",
                              (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS "policies!"
                       FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                       WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
                         AND NOT c.relispartition AND a.attname = 'tenant_id' AND NOT a.attisdropped
                       ORDER BY 1"#
                )
                .fetch_all(&store.pool)
                .await?,
            )
        })
        .await?;
    for table in tables {
        let faults = [
            (!table.enabled, "has row-level security off"),
            (!table.forced, "does not force row-level security"),
            (!table.policy, "lacks its tenant policy"),
            (table.policies != 2 || !table.system, "has other policies than its two"),
        ];
        if let Some((_, fault)) = faults.into_iter().find(|(wrong, _)| *wrong) {
            return Err(GuardError::Table { table: table.name, fault });
        }
    }
    Ok(())
}

async fn check_durability(store: &Store) -> Result<(), GuardError> {
    let off = store
        .in_time(async {
            Ok::<_, StoreError>(
                sqlx::query_scalar!(
                    r#"SELECT name AS "name!" FROM pg_settings
                       WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'"#
                )
                .fetch_optional(&store.pool)
                .await?,
            )
        })
        .await?;
    off.map_or(Ok(()), |setting| Err(GuardError::Durability { setting }))
}
