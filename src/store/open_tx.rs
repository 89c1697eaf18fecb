//! A connection inside a transaction: it is begun, lent to the work, and ended when it comes back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::pool::PoolConnection;
use sqlx::{Executor, PgConnection, Postgres};

use crate::domain::ids::AuditId;

use super::ending::EndKind;
use super::{Store, StoreError};

/// A connection inside a transaction. When it is dropped, it goes back to its home, where the
/// transaction is ended.
pub(super) struct OpenTx {
    connection: Option<PoolConnection<Postgres>>,
    pub(super) home: Arc<Home>,
}

/// The place where a transaction is begun and ended; between the two the work has it. A home that
/// is dropped before the end, also by a cancelled future, closes the connection.
#[derive(Default)]
pub(super) struct Home {
    /// The connection that came back. The lock is taken for a moment by one owner at a time, never
    /// across an await.
    returned: Mutex<Option<PoolConnection<Postgres>>>,
    /// The change's record, once the transaction holds it.
    pub(super) recorded: Mutex<Option<AuditId>>,
}

impl Home {
    /// Ends the transaction that came back, and gives the connection to the pool. A connection on which
    /// that fails is closed.
    pub(super) async fn end(&self, kind: EndKind) -> Result<(), StoreError> {
        let mut tx = OpenTx { connection: lock(&self.returned).take(), home: Arc::default() };
        tx.connection()?.execute(kind.statement()).await?;
        tx.connection.take();
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(connection) = lock(&self.returned).take() {
            drop(connection.detach());
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenTx {
    /// Begins on a connection that works: idle ones may have died with a server that is back, or
    /// with the runtime that opened them. Before BEGIN nothing has happened, so it may be repeated.
    pub(super) async fn begin(
        store: &Store,
        home: Arc<Home>,
        begin: &'static str,
    ) -> Result<Self, StoreError> {
        let mut idle = store.pool.options().get_max_connections();
        loop {
            // It is boxed: it takes 40 KB, which the future of every transaction would hold.
            let connection = Box::pin(store.pool.acquire()).await?;
            // A connection that does not begin is closed with a home of its own.
            let mut tx = Self { connection: Some(connection), home: Arc::default() };
            match tx.connection()?.execute(begin).await.map_err(StoreError::from) {
                Ok(_) => {
                    tx.home = home;
                    return Ok(tx);
                }
                Err(StoreError::Unreachable(_)) if idle > 0 => idle -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.connection.as_deref_mut().ok_or(StoreError::Unreachable(sqlx::Error::PoolClosed))
    }
}

impl Drop for OpenTx {
    fn drop(&mut self) {
        *lock(&self.home.returned) = self.connection.take();
    }
}
