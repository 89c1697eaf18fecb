//! The only ways to a tenant's rows: transactions with a name, which [`Store`] begins, ends, repeats
//! and measures. A transaction that is dropped before its end, also by a cancelled future, closes its
//! connection: no connection goes back to the pool with a transaction open.

use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use sqlx::pool::PoolConnection;
use sqlx::{Executor, PgConnection, Postgres};
use tracing::Instrument as _;

use crate::domain::ids::{AuditId, TenantId};

use super::{Store, StoreError};

/// Most times that a transaction is begun because another one was in the way.
const MOST_TRIES: u32 = 5;

/// How a transaction begins and ends.
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";
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

    /// Ends the transaction with `how`; the connection goes back to the pool.
    async fn end(mut self, how: &'static str) -> Result<(), StoreError> {
        self.connection()?.execute(how).await?;
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
}

/// Changes one tenant's rows. It commits only with the audit record of the change.
pub struct WriteTx {
    tx: TenantTx,
    pub(super) recorded: Option<AuditId>,
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

/// Changes one tenant's use counts and nothing else. It commits without a record: each read that is counted
/// has its own, which is what the trail must tell, and the counts are a sum of them.
pub struct UseTx(TenantTx);

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
}

/// One tenant's rows as they were at one moment, read piece by piece.
pub struct Snapshot {
    store: Store,
    tx: TenantTx,
}

/// How a transaction that may change a tenant's rows ends.
#[must_use = "a transaction ends as its work says"]
#[derive(Debug)]
pub enum Ending<T> {
    /// The transaction commits. The record comes from [`super::audit::insert`] on that very
    /// transaction.
    Commit(Recorded, T),
    /// The transaction changes nothing: somebody was faster, or there was nothing to do.
    RollBack(T),
}

/// An error of the work that a transaction does.
pub trait WorkError: From<StoreError> + Error + 'static {}

impl<E: From<StoreError> + Error + 'static> WorkError for E {}

/// A kind of transaction.
trait Transaction {
    /// What the transaction needs to begin.
    type Start: Copy;

    async fn begin(store: &Store, start: Self::Start) -> Result<Self, StoreError>
    where
        Self: Sized;

    fn open(self) -> OpenTx;
}

impl Transaction for TenantTx {
    type Start = (TenantId, &'static str);

    async fn begin(store: &Store, (tenant, begin): Self::Start) -> Result<Self, StoreError> {
        let mut tx = OpenTx::begin(store, begin).await?;
        sqlx::query!(
            "SELECT set_config('app.tenant_id', $1, true) AS tenant",
            tenant.0.to_string()
        )
        .fetch_one(tx.connection()?)
        .await?;
        Ok(Self { tx, tenant })
    }

    fn open(self) -> OpenTx {
        self.tx
    }
}

impl Transaction for WriteTx {
    type Start = TenantId;

    async fn begin(store: &Store, tenant: TenantId) -> Result<Self, StoreError> {
        Ok(Self { tx: TenantTx::begin(store, (tenant, BEGIN)).await?, recorded: None })
    }

    fn open(self) -> OpenTx {
        self.tx.tx
    }
}

impl Transaction for UseTx {
    type Start = TenantId;

    async fn begin(store: &Store, tenant: TenantId) -> Result<Self, StoreError> {
        Ok(Self(TenantTx::begin(store, (tenant, BEGIN)).await?))
    }

    fn open(self) -> OpenTx {
        self.0.tx
    }
}

impl Transaction for SystemTx {
    type Start = ();

    async fn begin(store: &Store, (): ()) -> Result<Self, StoreError> {
        let mut tx = OpenTx::begin(store, BEGIN).await?;
        tx.connection()?.execute("SET LOCAL ROLE ai_cache_system").await?;
        Ok(Self(tx))
    }

    fn open(self) -> OpenTx {
        self.0
    }
}

impl Store {
    /// Reads rows of `tenant` in one transaction called `name`.
    pub async fn read<T, E: WorkError>(
        &self,
        name: &'static str,
        tenant: TenantId,
        mut work: impl AsyncFnMut(&mut TenantTx) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run(name, (tenant, BEGIN_READ), async |tx| Ok((COMMIT, work(tx).await?))).await
    }

    /// Reads rows of `tenant` as they are at one moment, in one transaction called `name`.
    pub async fn read_snapshot<T, E: WorkError>(
        &self,
        name: &'static str,
        tenant: TenantId,
        mut work: impl AsyncFnMut(&mut TenantTx) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run(name, (tenant, BEGIN_SNAPSHOT), async |tx| Ok((COMMIT, work(tx).await?))).await
    }

    /// Changes rows of `tenant` in one transaction called `name`.
    pub async fn change<T, E: WorkError>(
        &self,
        name: &'static str,
        tenant: TenantId,
        mut work: impl AsyncFnMut(&mut WriteTx) -> Result<Ending<T>, E>,
    ) -> Result<T, E> {
        self.run(name, tenant, async |tx: &mut WriteTx| match work(tx).await? {
            Ending::Commit(recorded, value) if tx.recorded == Some(recorded.0) => {
                Ok((COMMIT, value))
            }
            Ending::Commit(..) => Err(StoreError::ForeignRecord.into()),
            Ending::RollBack(value) => Ok((ROLLBACK, value)),
        })
        .await
    }

    /// Changes use counts of `tenant` in one transaction.
    pub async fn count_uses<T, E: WorkError>(
        &self,
        tenant: TenantId,
        mut work: impl AsyncFnMut(&mut UseTx) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run("count uses", tenant, async |tx| Ok((COMMIT, work(tx).await?))).await
    }

    /// Reads and changes rows of several tenants in one transaction; `name` says what needs that.
    pub async fn system<T, E: WorkError>(
        &self,
        name: &'static str,
        mut work: impl AsyncFnMut(&mut SystemTx) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run(name, (), async |tx| Ok((COMMIT, work(tx).await?))).await
    }

    /// Opens a transaction that reads the rows of `tenant` as they are now, however long it takes and
    /// whatever is changed meanwhile. Postgres ends it when it is idle for 15 s.
    pub async fn snapshot(&self, tenant: TenantId) -> Result<Snapshot, StoreError> {
        let tx = self.in_time(TenantTx::begin(self, (tenant, BEGIN_SNAPSHOT))).await?;
        Ok(Snapshot { store: self.clone(), tx })
    }

    /// Runs `work` in a transaction that ends as `work` says, or with ROLLBACK when it fails. What
    /// another transaction stopped (SQLSTATE 40001, 40P01) begins anew. All of it takes at most the
    /// store's limit.
    async fn run<X: Transaction, T, E: WorkError>(
        &self,
        name: &'static str,
        start: X::Start,
        mut work: impl AsyncFnMut(&mut X) -> Result<(&'static str, T), E>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let tries = async {
            let mut tries = 0;
            loop {
                tries += 1;
                match self.attempt(start, &mut work).await {
                    Err(error) if tries < MOST_TRIES && may_be_repeated(&error) => {
                        tracing::debug!(name, tries, "a transaction begins anew");
                    }
                    result => return result,
                }
            }
        };
        let result = self.in_time(tries.instrument(tracing::info_span!("transaction", name))).await;
        self.metrics.transaction(name, began.elapsed());
        result
    }

    async fn attempt<X: Transaction, T, E: WorkError>(
        &self,
        start: X::Start,
        work: &mut impl AsyncFnMut(&mut X) -> Result<(&'static str, T), E>,
    ) -> Result<T, E> {
        let mut tx = X::begin(self, start).await?;
        match work(&mut tx).await {
            Ok((how, value)) => {
                tx.open().end(how).await?;
                Ok(value)
            }
            Err(error) => {
                // A connection that cannot roll back is closed.
                let _rolled_back = tx.open().end(ROLLBACK).await;
                Err(error)
            }
        }
    }
}

impl Snapshot {
    /// Reads something, at most for the limit of the store that opened the snapshot.
    pub async fn read<T, E: WorkError>(
        &mut self,
        work: impl AsyncFnOnce(&mut TenantTx) -> Result<T, E>,
    ) -> Result<T, E> {
        self.store.in_time(work(&mut self.tx)).await
    }

    /// Ends the transaction and gives its connection back.
    pub async fn end(self) -> Result<(), StoreError> {
        self.store.in_time(self.tx.open().end(COMMIT)).await
    }
}

/// Whether Postgres rolled a transaction back only because of another one.
fn may_be_repeated(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |cause| (*cause).source());
    causes.any(|cause| {
        let database = cause.downcast_ref().and_then(sqlx::Error::as_database_error);
        let code = database.and_then(sqlx::error::DatabaseError::code);
        matches!(code.as_deref(), Some("40001" | "40P01"))
    })
}

/// The way before transactions had names; removed with its last user.
impl Store {
    pub async fn bounded<T, E: From<StoreError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.in_time(work).await
    }

    pub async fn bounded_long<T, E: From<StoreError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.long().in_time(work).await
    }

    pub async fn bounded_for<T, E: From<StoreError>>(
        &self,
        limit: std::time::Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.within(limit).in_time(work).await
    }

    pub async fn tenant(&self, tenant: TenantId) -> Result<TenantTx, StoreError> {
        TenantTx::begin(self, (tenant, BEGIN_READ)).await
    }

    pub async fn begin_snapshot(&self, tenant: TenantId) -> Result<TenantTx, StoreError> {
        TenantTx::begin(self, (tenant, BEGIN_SNAPSHOT)).await
    }

    pub async fn write(&self, tenant: TenantId) -> Result<WriteTx, StoreError> {
        WriteTx::begin(self, tenant).await
    }

    pub async fn begin_count_uses(&self, tenant: TenantId) -> Result<UseTx, StoreError> {
        UseTx::begin(self, tenant).await
    }

    pub async fn begin_system(&self, _reason: &'static str) -> Result<SystemTx, StoreError> {
        SystemTx::begin(self, ()).await
    }
}

impl TenantTx {
    pub async fn end(self) -> Result<(), StoreError> {
        self.open().end(COMMIT).await
    }
}

impl SystemTx {
    pub async fn end(self) -> Result<(), StoreError> {
        self.open().end(COMMIT).await
    }
}

impl UseTx {
    pub async fn commit(self) -> Result<(), StoreError> {
        self.open().end(COMMIT).await
    }
}

impl WriteTx {
    pub async fn commit(self, recorded: Recorded) -> Result<(), StoreError> {
        if self.recorded != Some(recorded.0) {
            return Err(StoreError::ForeignRecord);
        }
        self.open().end(COMMIT).await
    }

    pub async fn roll_back(self) -> Result<(), StoreError> {
        self.open().end(ROLLBACK).await
    }
}
