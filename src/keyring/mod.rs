//! Keys of tenants and persons: loads, unwraps and remembers them for a minute. The only place that
//! opens a `Sealed` entry or releases a `Secret`, each for a `Receipt`.

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

/// Longest time a key stays unwrapped in memory.
const REMEMBERED: TimeDelta = TimeDelta::seconds(60);

/// Most keys of each kind in memory.
const TENANTS: usize = 10_000;
const SUBJECTS: usize = 100_000;

/// Why a key cannot be had or a value not be read.
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
    /// The key a value was sealed under is not the tenant's present one.
    #[error("the sealing key is of an unknown version")]
    UnknownVersion,
    /// What wraps persons' keys here was rotated out, and what follows it is not known here.
    #[error(
        "the wrapping key was rotated out: put the new one into the key file, or into \
         AI_CACHE_MASTER_KEYS and restart"
    )]
    WrappingKeyRetired,
    /// A value is not what was sealed here.
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
    /// Longest time a wrapped key may be used while Postgres is away.
    outage: TimeDelta,
    tenants: Cache<TenantId, Arc<TenantKeys>>,
    subjects: Cache<(TenantId, BlindIndex), Arc<SubjectKey>>,
    /// As Postgres has them, for outages only.
    wrapped_tenants: Cache<TenantId, Arc<Wrapped<Vec<TenantKeyRow>>>>,
    wrapped_subjects: Cache<(TenantId, BlindIndex), Arc<Wrapped<SubjectKeyRow>>>,
    /// Counts what made keys of persons be forgotten. Read while one is remembered, written while some
    /// are forgotten, so that what was read before is not remembered after. Nothing waits under it.
    forgotten: RwLock<u64>,
}

/// Wrapped keys and when they were read.
struct Wrapped<T> {
    rows: T,
    read_at: DateTime<Utc>,
}

/// Whether entries are sealed under secret keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Under tenants' and persons' keys.
    On,
    /// Under a fixed key that everybody knows; for development only.
    PublicKey,
}

/// What a keyring is made of.
pub struct KeyringParts {
    /// Where wrapped keys are.
    pub store: Store,
    /// What wraps them.
    pub provider: Arc<KeyProvider>,
    /// Stamps the records of new keys.
    pub audit: Audit,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    /// Whether entries are sealed under secret keys.
    pub encryption: Encryption,
    /// Longest time a wrapped key may be used while Postgres is away.
    pub outage: TimeDelta,
}

impl Keyring {
    /// An empty keyring.
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

    /// Drops keys that were unwrapped longer ago than they may be remembered.
    pub fn forget_expired(&self) {
        let since = self.clock.now() - REMEMBERED;
        self.tenants.retain(|_, keys| keys.loaded_at > since);
        self.subjects.retain(|_, key| key.loaded_at > since);
        let since = self.clock.now() - self.outage;
        self.wrapped_tenants.retain(|_, wrapped| wrapped.read_at > since);
        self.wrapped_subjects.retain(|_, wrapped| wrapped.read_at > since);
    }

    /// What `read` gives, remembered in `cache` under `name`; while Postgres is away what was read
    /// before, for as long as that may be.
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

    /// The key to seal under, given the secret one.
    fn sealing_key(&self, secret: &Key) -> Key {
        match self.encryption {
            Encryption::On => secret.clone(),
            Encryption::PublicKey => Key::public(),
        }
    }

    /// The record of a key that the service makes for a request.
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
