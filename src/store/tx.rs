//! The only ways to a tenant's rows: transactions with a name, which [`Store`] begins, ends, repeats
//! and measures. A transaction that is dropped before its end, also by a cancelled future, closes its
//! connection: no connection goes back to the pool with a transaction open.

use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use futures_util::TryFutureExt as _;
use sqlx::{Executor, PgConnection};
use tracing::Instrument as _;

use crate::domain::ids::{AuditId, TenantId};
use crate::telemetry::Metrics;

use super::ending::{Commit, EndKind, Ending, Ends, Recorded};
use super::open_tx::{Home, OpenTx, lock};
use super::{Store, StoreError};

/// The most times that a transaction is begun because another one was in the way.
const MOST_TRIES: u32 = 5;

/// The statements that begin a transaction.
const BEGIN: &str = "BEGIN";
const BEGIN_READ: &str = "BEGIN READ ONLY";
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Reads one tenant's rows. Row-level security shows no others.
pub struct TenantTx {
    tx: OpenTx,
    tenant: TenantId,
}

impl TenantTx {
    /// Returns the tenant whose rows it sees.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.tx.connection()
    }

    /// Lets this transaction read along indexes only, whatever the planner takes for faster: its
    /// figures of a table are old after much of the table was removed.
    pub async fn keep_to_indexes(&mut self) -> Result<(), StoreError> {
        let settings = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off";
        self.connection()?.execute(settings).await?;
        Ok(())
    }
}

/// Changes one tenant's rows. It commits only with the audit record of the change.
pub struct WriteTx(TenantTx);

impl WriteTx {
    /// Takes note that the transaction holds the change's record.
    pub(super) fn hold_record(&mut self, record: AuditId) -> Recorded {
        *lock(&self.0.tx.home.recorded) = Some(record);
        Recorded(record)
    }
}

impl Deref for WriteTx {
    type Target = TenantTx;

    fn deref(&self) -> &TenantTx {
        &self.0
    }
}

impl DerefMut for WriteTx {
    fn deref_mut(&mut self) -> &mut TenantTx {
        &mut self.0
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
    home: Arc<Home>,
    tx: TenantTx,
    _stopwatch: Stopwatch,
}

/// Rows of several tenants, read piece by piece by [`Store::begin_reading`].
pub struct Reading {
    store: Store,
    home: Arc<Home>,
    tx: SystemTx,
    _stopwatch: Stopwatch,
}

/// Measures a transaction from its beginning until this is dropped, however the transaction ends.
struct Stopwatch {
    metrics: Arc<Metrics>,
    name: &'static str,
    began: Instant,
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.metrics.transaction(self.name, self.began.elapsed());
    }
}

impl Reading {
    /// Ends the transaction and gives its connection back.
    pub async fn end(self) -> Result<(), StoreError> {
        drop(self.tx);
        self.store.in_time(self.home.end(EndKind::Commit)).await
    }
}

impl Deref for Reading {
    type Target = SystemTx;

    fn deref(&self) -> &SystemTx {
        &self.tx
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut SystemTx {
        &mut self.tx
    }
}

/// An error of the work of a transaction.
pub trait WorkError: From<StoreError> + Error + 'static {}

impl<E: From<StoreError> + Error + 'static> WorkError for E {}

/// A kind of transaction.
trait Transaction: Sized {
    /// The values that the transaction needs to begin.
    type Start: Copy;

    async fn begin(store: &Store, home: Arc<Home>, start: Self::Start) -> Result<Self, StoreError>;
}

/// How a tenant's transaction begins.
#[derive(Clone, Copy)]
struct TenantStart {
    tenant: TenantId,
    /// The statement that begins it.
    begin: &'static str,
}

impl Transaction for TenantTx {
    type Start = TenantStart;

    async fn begin(store: &Store, home: Arc<Home>, start: TenantStart) -> Result<Self, StoreError> {
        let TenantStart { tenant, begin } = start;
        let mut tx = OpenTx::begin(store, home, begin).await?;
        sqlx::query!(
            "SELECT set_config('app.tenant_id', $1, true) AS tenant",
            tenant.0.to_string()
        )
        .fetch_one(tx.connection()?)
        .await?;
        Ok(Self { tx, tenant })
    }
}

impl Transaction for WriteTx {
    type Start = TenantId;

    async fn begin(store: &Store, home: Arc<Home>, tenant: TenantId) -> Result<Self, StoreError> {
        Ok(Self(TenantTx::begin(store, home, TenantStart { tenant, begin: BEGIN }).await?))
    }
}

impl Transaction for UseTx {
    type Start = TenantId;

    async fn begin(store: &Store, home: Arc<Home>, tenant: TenantId) -> Result<Self, StoreError> {
        Ok(Self(TenantTx::begin(store, home, TenantStart { tenant, begin: BEGIN }).await?))
    }
}

impl Transaction for SystemTx {
    /// The statement that begins it.
    type Start = &'static str;

    async fn begin(
        store: &Store,
        home: Arc<Home>,
        begin: &'static str,
    ) -> Result<Self, StoreError> {
        let mut tx = OpenTx::begin(store, home, begin).await?;
        tx.connection()?.execute("SET LOCAL ROLE ai_cache_system").await?;
        Ok(Self(tx))
    }
}

impl Store {
    /// Reads rows of `tenant` in one transaction called `name`.
    pub async fn read<T, E: WorkError, F: Future<Output = Result<T, E>>>(
        &self,
        name: &'static str,
        tenant: TenantId,
        mut work: impl FnMut(TenantTx) -> F,
    ) -> Result<T, E> {
        self.run(name, TenantStart { tenant, begin: BEGIN_READ }, |tx| work(tx).map_ok(Commit))
            .await
    }

    /// Reads rows of `tenant` as they are at one moment, in one transaction called `name`.
    pub async fn read_snapshot<T, E: WorkError, F: Future<Output = Result<T, E>>>(
        &self,
        name: &'static str,
        tenant: TenantId,
        mut work: impl FnMut(TenantTx) -> F,
    ) -> Result<T, E> {
        self.run(name, TenantStart { tenant, begin: BEGIN_SNAPSHOT }, |tx| work(tx).map_ok(Commit))
            .await
    }

    /// Changes rows of `tenant` in one transaction called `name`.
    pub async fn change<T, E: WorkError, F: Future<Output = Result<Ending<T>, E>>>(
        &self,
        name: &'static str,
        tenant: TenantId,
        work: impl FnMut(WriteTx) -> F,
    ) -> Result<T, E> {
        self.run(name, tenant, work).await
    }

    /// Changes use counts of `tenant` in one transaction.
    pub async fn count_uses<T, E: WorkError, F: Future<Output = Result<T, E>>>(
        &self,
        tenant: TenantId,
        mut work: impl FnMut(UseTx) -> F,
    ) -> Result<T, E> {
        self.run("count uses", tenant, |tx| work(tx).map_ok(Commit)).await
    }

    /// Reads and changes rows of several tenants in one transaction; `name` says what needs that.
    pub async fn system<T, E: WorkError, F: Future<Output = Result<T, E>>>(
        &self,
        name: &'static str,
        mut work: impl FnMut(SystemTx) -> F,
    ) -> Result<T, E> {
        self.run(name, BEGIN, |tx| work(tx).map_ok(Commit)).await
    }

    /// Opens a transaction called `name` that reads the rows of `tenant` as they are now, however long
    /// it takes and whatever is changed meanwhile. Postgres ends it when it is idle for 15 s.
    pub async fn snapshot(
        &self,
        name: &'static str,
        tenant: TenantId,
    ) -> Result<Snapshot, StoreError> {
        let (home, stopwatch) = (Arc::new(Home::default()), self.stopwatch(name));
        let start = TenantStart { tenant, begin: BEGIN_SNAPSHOT };
        let tx = self.in_time(TenantTx::begin(self, Arc::clone(&home), start)).await?;
        Ok(Snapshot { store: self.clone(), home, tx, _stopwatch: stopwatch })
    }

    /// Opens a transaction called `name` that reads rows of several tenants for as long as it takes:
    /// more than fits into memory, piece by piece. The statements' own limits apply.
    pub async fn begin_reading(&self, name: &'static str) -> Result<Reading, StoreError> {
        let (home, stopwatch) = (Arc::new(Home::default()), self.stopwatch(name));
        let tx = self.in_time(SystemTx::begin(self, Arc::clone(&home), BEGIN_READ)).await?;
        Ok(Reading { store: self.clone(), home, tx, _stopwatch: stopwatch })
    }

    /// Runs `work` in a transaction that ends as `work` says, or with ROLLBACK when it fails. A
    /// transaction that Postgres stopped for the sake of another one (SQLSTATE 40001, 40P01) begins
    /// anew. All tries together take at most the store's limit.
    async fn run<X: Transaction, O: Ends, E: WorkError, F: Future<Output = Result<O, E>>>(
        &self,
        name: &'static str,
        start: X::Start,
        mut work: impl FnMut(X) -> F,
    ) -> Result<O::Value, E> {
        let _stopwatch = self.stopwatch(name);
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
        self.in_time(tries.instrument(tracing::info_span!("transaction", name))).await
    }

    fn stopwatch(&self, name: &'static str) -> Stopwatch {
        Stopwatch { metrics: Arc::clone(&self.metrics), name, began: Instant::now() }
    }

    async fn attempt<X: Transaction, O: Ends, E: WorkError, F: Future<Output = Result<O, E>>>(
        &self,
        start: X::Start,
        work: &mut impl FnMut(X) -> F,
    ) -> Result<O::Value, E> {
        let home = Arc::new(Home::default());
        let tx = X::begin(self, Arc::clone(&home), start).await?;
        let settled = match work(tx).await {
            Ok(outcome) => outcome.settle(*lock(&home.recorded)).map_err(E::from),
            Err(error) => Err(error),
        };
        if let Ok((EndKind::Commit, value)) = settled {
            home.end(EndKind::Commit).await?;
            return Ok(value);
        }
        // Nothing was to be kept, so nothing is lost when this fails.
        let _rolled_back = home.end(EndKind::RollBack).await;
        settled.map(|(_, value)| value)
    }
}

impl Snapshot {
    /// Runs a reading, at most for the limit of the store that opened the snapshot.
    pub async fn read<T, E: WorkError>(
        &mut self,
        work: impl AsyncFnOnce(&mut TenantTx) -> Result<T, E>,
    ) -> Result<T, E> {
        self.store.in_time(work(&mut self.tx)).await
    }

    /// Ends the transaction and gives its connection back.
    pub async fn end(self) -> Result<(), StoreError> {
        drop(self.tx);
        self.store.in_time(self.home.end(EndKind::Commit)).await
    }
}

/// Returns whether Postgres rolled a transaction back only because of another one.
fn may_be_repeated(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |cause| (*cause).source());
    causes.any(|cause| {
        let database = cause.downcast_ref().and_then(sqlx::Error::as_database_error);
        let code = database.and_then(sqlx::error::DatabaseError::code);
        matches!(code.as_deref(), Some("40001" | "40P01"))
    })
}
