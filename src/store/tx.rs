//! The only ways to a tenant's rows. A transaction that is dropped before its end, also by a
//! cancelled future, closes its connection: none goes back to the pool with one open.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{Executor, PgConnection, Postgres};

use crate::domain::ids::{AuditId, TenantId};

use super::{Store, StoreError};

/// How a transaction begins.
const BEGIN: &str = "BEGIN";
const BEGIN_READ: &str = "BEGIN READ ONLY";
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A connection inside a transaction.
struct OpenTx(Option<PoolConnection<Postgres>>);

impl OpenTx {
    /// Begins on a connection that works: idle ones may have died with a server that is back, or
    /// with the runtime that opened them. Before BEGIN nothing has happened that could be repeated.
    async fn begin(store: &Store, begin: &'static str) -> Result<Self, StoreError> {
        let mut idle = store.pool.options().get_max_connections();
        loop {
            // Boxed: it takes 40 KB, which every transaction's future would hold.
            let mut tx = Self(Some(Box::pin(store.pool.acquire()).await?));
            match tx.connection()?.execute(begin).await.map_err(StoreError::from) {
                Ok(_) => return Ok(tx),
                Err(StoreError::Unreachable(_)) if idle > 0 => idle -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.0.as_deref_mut().ok_or(StoreError::Unreachable(sqlx::Error::PoolClosed))
    }

    /// COMMIT, and the connection goes back to the pool.
    async fn end(mut self) -> Result<(), StoreError> {
        self.connection()?.execute("COMMIT").await?;
        self.0.take();
        Ok(())
    }
}

impl Drop for OpenTx {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Reads one tenant's rows: row-level security shows no others.
pub struct TenantTx {
    tx: OpenTx,
    tenant: TenantId,
}

impl TenantTx {
    /// Whose rows it sees.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.tx.connection()
    }

    /// Lets this transaction read along indexes only, whatever the planner takes for faster: what it
    /// knows of a table is old after much of it was removed.
    pub async fn keep_to_indexes(&mut self) -> Result<(), StoreError> {
        let settings = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off";
        self.connection()?.execute(settings).await?;
        Ok(())
    }

    /// Ends the transaction, which changed nothing: Postgres refuses changes in one that reads.
    pub async fn end(self) -> Result<(), StoreError> {
        self.tx.end().await
    }
}

/// Changes one tenant's rows. Commits only with the audit record of the change.
pub struct WriteTx {
    tx: TenantTx,
    pub(super) recorded: Option<AuditId>,
}

impl WriteTx {
    /// Commits. `recorded` comes from [`super::audit::insert`] on this very transaction.
    pub async fn commit(self, recorded: Recorded) -> Result<(), StoreError> {
        if self.recorded != Some(recorded.0) {
            return Err(StoreError::ForeignRecord);
        }
        self.tx.end().await
    }

    /// Undoes everything and gives the connection back, which one that is only dropped does not.
    pub async fn roll_back(mut self) -> Result<(), StoreError> {
        self.connection()?.execute("ROLLBACK").await?;
        self.tx.tx.0.take();
        Ok(())
    }
}

impl Deref for WriteTx {
    type Target = TenantTx;

    fn deref(&self) -> &TenantTx {
        &self.tx
    }
}

impl DerefMut for WriteTx {
    fn deref_mut(&mut self) -> &mut TenantTx {
        &mut self.tx
    }
}

/// Changes one tenant's use counts and nothing else. Commits without a record: each read that is counted
/// has its own, which is what the trail must tell, and the counts are a sum of them.
pub struct UseTx(TenantTx);

impl UseTx {
    /// Commits.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.0.tx.end().await
    }
}

impl Deref for UseTx {
    type Target = TenantTx;

    fn deref(&self) -> &TenantTx {
        &self.0
    }
}

impl DerefMut for UseTx {
    fn deref_mut(&mut self) -> &mut TenantTx {
        &mut self.0
    }
}

/// Proof that a transaction holds the audit record of its change. Used up by the commit.
#[must_use = "a change is committed with its record"]
#[derive(Debug)]
pub struct Recorded(pub(super) AuditId);

/// Reads and writes across tenants, as the role `ai_cache_system`.
pub struct SystemTx(OpenTx);

impl SystemTx {
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.0.connection()
    }

    /// Commits.
    pub async fn end(self) -> Result<(), StoreError> {
        self.0.end().await
    }
}

impl Store {
    /// Opens a transaction that reads the rows of `tenant`.
    pub async fn tenant(&self, tenant: TenantId) -> Result<TenantTx, StoreError> {
        self.begin_as(tenant, BEGIN_READ).await
    }

    /// Opens a transaction that reads the rows of `tenant` as they are now, however long it takes and
    /// whatever is changed meanwhile. Postgres ends it when it is idle for 15 s.
    pub async fn snapshot(&self, tenant: TenantId) -> Result<TenantTx, StoreError> {
        self.begin_as(tenant, BEGIN_SNAPSHOT).await
    }

    /// Opens a transaction that changes the rows of `tenant`.
    pub async fn write(&self, tenant: TenantId) -> Result<WriteTx, StoreError> {
        Ok(WriteTx { tx: self.begin_as(tenant, BEGIN).await?, recorded: None })
    }

    /// Opens a transaction that changes the use counts of `tenant`.
    pub async fn count_uses(&self, tenant: TenantId) -> Result<UseTx, StoreError> {
        Ok(UseTx(self.begin_as(tenant, BEGIN).await?))
    }

    async fn begin_as(
        &self,
        tenant: TenantId,
        begin: &'static str,
    ) -> Result<TenantTx, StoreError> {
        let mut tx = OpenTx::begin(self, begin).await?;
        sqlx::query!(
            "SELECT set_config('app.tenant_id', $1, true) AS tenant",
            tenant.0.to_string()
        )
        .fetch_one(tx.connection()?)
        .await?;
        Ok(TenantTx { tx, tenant })
    }

    /// Opens a transaction across tenants; `reason` says what needs it.
    pub async fn system(&self, reason: &'static str) -> Result<SystemTx, StoreError> {
        tracing::trace!(reason, "system transaction");
        let mut tx = OpenTx::begin(self, BEGIN).await?;
        tx.connection()?.execute("SET LOCAL ROLE ai_cache_system").await?;
        Ok(SystemTx(tx))
    }
}
