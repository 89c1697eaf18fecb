//! Owns the keys of tenants and persons: loads and unwraps them, and remembers them for a minute.
//! Only this module opens a `Sealed` value or releases a `Secret`, and never without a `Receipt`.

mod compress;
mod entry_keys;
mod packages;
mod rewrap;
mod subjects;
mod tenant_keys;
mod texts;

use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, RwLock};

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::Cache;

use crate::audit::Audit;
use crate::crypto::{CryptoError, Key, KeyProvider};
use crate::domain::action::Action;
use crate::domain::audit_record::{Actor, AuditRecord, Outcome, RecordHead};
use crate::domain::cache_key::BlindIndex;
use crate::domain::clock::Clock;
use crate::domain::ids::{AuditId, Ids, RequestId, SubjectKeyId, TenantId};
use crate::store::keys::{SubjectKeyRow, TenantKeyRow};
use crate::store::{Store, StoreError};

pub use entry_keys::{
    EntryKey, ListedEntry, OpenedEntry, Plaintext, WholeEntry, open_entries, open_labels, release,
};
pub use packages::{PackageReader, PackageSealer, PartKind};
pub use rewrap::Rewrapped;
pub use subjects::SubjectKey;
pub use tenant_keys::{BlindKind, TenantKeys};
pub use texts::{TextKind, TextPlace, open_texts};

/// The longest time that a key stays unwrapped in memory.
const REMEMBERED: TimeDelta = TimeDelta::seconds(60);

/// The most keys of tenants and of persons in memory.
const TENANTS: usize = 10_000;
const SUBJECTS: usize = 100_000;

/// The reason why a key is not available or a value cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Postgres did not give the key.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key or value does not open.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The receipt is for something else.
    #[error("the receipt does not cover what is to be read")]
    ReceiptMismatch,
    /// The key is missing, or is of another tenant, person or version than the value.
    #[error("the sealing key is of an unknown version")]
    UnknownVersion,
    /// The wrapping key of persons' keys was rotated out, and this process does not know its
    /// successor.
    #[error(
        "the wrapping key was rotated out: put the new one into the key file, or into \
         AI_CACHE_MASTER_KEYS and restart"
    )]
    WrappingKeyRetired,
    /// An opened value does not have the form that is sealed here.
    #[error("an opened value has an unknown form")]
    Malformed,
}

/// Remembers unwrapped keys and makes new ones.
pub struct Keyring {
    store: Store,
    provider: Arc<KeyProvider>,
    audit: Audit,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    encryption: Encryption,
    /// The longest time that a wrapped key may be used while Postgres is away.
    outage: TimeDelta,
    tenants: Cache<TenantId, Arc<TenantKeys>>,
    subjects: Cache<(TenantId, BlindIndex), Arc<SubjectKey>>,
    /// The wrapped keys as Postgres has them, for outages only.
    wrapped_tenants: Cache<TenantId, Arc<Wrapped<Vec<TenantKeyRow>>>>,
    wrapped_subjects: Cache<(TenantId, BlindIndex), Arc<Wrapped<SubjectKeyRow>>>,
    /// Counts the events that made keys of persons be forgotten. The lock is read while a key is
    /// remembered and written while keys are forgotten, so that a key that was read before is not
    /// remembered after. Nothing waits under the lock.
    forgotten: RwLock<u64>,
}

/// Wrapped keys, and the time at which they were read.
struct Wrapped<T> {
    rows: T,
    read_at: DateTime<Utc>,
}

/// Whether entries are sealed under secret keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Entries are sealed under the keys of tenants and persons.
    On,
    /// Entries are sealed under a fixed key that everybody knows. It is for development only.
    PublicKey,
}

/// The parts of a keyring.
pub struct KeyringParts {
    /// The store that holds wrapped keys.
    pub store: Store,
    /// The provider of the keys that wrap them.
    pub provider: Arc<KeyProvider>,
    /// The audit, which stamps the records of new keys.
    pub audit: Audit,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<dyn Ids>,
    /// Whether entries are sealed under secret keys.
    pub encryption: Encryption,
    /// The longest time that a wrapped key may be used while Postgres is away.
    pub outage: TimeDelta,
}

impl Keyring {
    /// Makes an empty keyring.
    pub fn new(parts: KeyringParts) -> Self {
        let KeyringParts { store, provider, audit, clock, ids, encryption, outage } = parts;
        Self {
            store,
            provider,
            audit,
            clock,
            ids,
            encryption,
            outage,
            tenants: Cache::new(TENANTS),
            subjects: Cache::new(SUBJECTS),
            wrapped_tenants: Cache::new(TENANTS),
            wrapped_subjects: Cache::new(SUBJECTS),
            forgotten: RwLock::new(0),
        }
    }

    /// Drops unwrapped and wrapped keys that are older than they may be remembered.
    pub fn forget_expired(&self) {
        let since = self.clock.now() - REMEMBERED;
        self.tenants.retain(|_, keys| keys.loaded_at > since);
        self.subjects.retain(|_, key| key.loaded_at > since);
        let since = self.clock.now() - self.outage;
        self.wrapped_tenants.retain(|_, wrapped| wrapped.read_at > since);
        self.wrapped_subjects.retain(|_, wrapped| wrapped.read_at > since);
    }

    /// Returns the rows that `read` gives, and remembers them in `cache` under `name`. While
    /// Postgres is away, returns the rows that were read before, as long as they may be used.
    /// Returns `None` if Postgres has no such row.
    async fn read_wrapped<N, T>(
        &self,
        cache: &Cache<N, Arc<Wrapped<T>>>,
        name: N,
        read: impl Future<Output = Result<Option<T>, StoreError>>,
    ) -> Result<Option<Arc<Wrapped<T>>>, StoreError>
    where
        N: Eq + Hash + Copy,
    {
        let before = || {
            let since = self.clock.now() - self.outage;
            cache.get(&name).filter(|wrapped| wrapped.read_at > since)
        };
        if !self.audit.takes_postgres()
            && let Some(wrapped) = before()
        {
            return Ok(Some(wrapped));
        }
        match Box::pin(read).await {
            Ok(None) => Ok(None),
            Ok(Some(rows)) => {
                let wrapped = Arc::new(Wrapped { rows, read_at: self.clock.now() });
                cache.insert(name, Arc::clone(&wrapped));
                Ok(Some(wrapped))
            }
            Err(error) if error.is_outage() => before().map(Some).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Returns the key to seal under: `secret`, or the public key if encryption is off.
    fn sealing_key(&self, secret: &Key) -> Key {
        match self.encryption {
            Encryption::On => secret.clone(),
            Encryption::PublicKey => Key::public(),
        }
    }

    /// Makes the record of a key that the service makes for a request.
    fn key_record(
        &self,
        tenant: TenantId,
        request: RequestId,
        action: Action,
        subject_key: Option<SubjectKeyId>,
    ) -> AuditRecord {
        let at = self.clock.now();
        let (id, actor) = (AuditId::fresh(&*self.ids, at), Actor::Service);
        let head = RecordHead { id, tenant, at, request, actor, action };
        AuditRecord { outcome: Outcome::Done, subject_key, count: 1, ..AuditRecord::begun(head) }
    }
}
