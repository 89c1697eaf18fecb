//! The look-up of a question: its key, what is acceptable, and from which position on. Everything
//! that looks for the answer, or fetches it, is handed the same look-up.

use std::sync::Arc;

use crate::call::{Call, ServiceError};
use crate::coherence::TenantView;
use crate::domain::cache_key::KeyParts;
use crate::domain::candidate::{Candidate, LabelPrefixes};
use crate::domain::directives::Mode;
use crate::domain::query::QueryRequest;
use crate::domain::selector::Position;
use crate::keyring::EntryKey;
use crate::tiers::{Search, Wanted, WarmName};

use super::Answering;
use super::answered::QueryError;

/// A question as it is looked up and fetched.
#[derive(Clone)]
pub(super) struct Lookup {
    pub(super) request: Arc<QueryRequest>,
    /// The key that the answer is sealed under.
    pub(super) key: EntryKey,
    pub(super) wanted: Wanted,
    pub(super) model: Arc<str>,
    /// The process's position before anything was looked for.
    pub(super) position: Position,
    /// The history that the position belongs to.
    pub(super) era: u64,
}

impl Lookup {
    /// The thing that selectors are compared with while nothing is found.
    pub(super) fn candidate<'a>(&'a self, labels: &'a LabelPrefixes) -> Candidate<'a> {
        Candidate {
            place: &self.wanted.place,
            entry: None,
            operation: self.request.operation,
            subject_key: self.key.subject(),
            labels,
        }
    }

    /// The entry's name in Redis.
    pub(super) fn warm_name(&self) -> WarmName<'_> {
        let keys = self.key.tenant();
        let key = keys.redis_key(&self.wanted.place.key);
        WarmName::new(key, keys.redis_value(), self.era)
    }

    /// The look-up in the tiers below memory.
    pub(super) fn search<'a>(&'a self, view: &'a TenantView) -> Search<'a> {
        let Self { wanted, position, .. } = self;
        Search { name: self.warm_name(), wanted, view, position: *position }
    }
}

impl Answering {
    /// The look-up of a question, when its keys are in memory. Returns `None` when they are not, when
    /// the person's data are restricted, or when the question does not read the cache.
    pub(super) fn remembered_lookup(
        &self,
        call: &mut Call,
        request: &Arc<QueryRequest>,
    ) -> Option<Lookup> {
        if !request.directives.mode.reads() {
            return None;
        }
        let keyring = &self.parts.keyring;
        let keys = keyring.remembered_tenant_keys(call.caller.tenant)?;
        let subject = match &request.subject {
            None => None,
            Some(subject) => {
                let key = keyring.remembered_subject_key(&keys, subject)?;
                if key.restricted {
                    return None;
                }
                Some(key)
            }
        };
        Some(self.lookup(call, request, EntryKey::new(keys, subject)))
    }

    /// The look-up of a question, with keys that are loaded or made when they are not in memory.
    /// Returns `None` when the question names a person for whom there is no key, and may not make one.
    pub(super) async fn loaded_lookup(
        &self,
        call: &mut Call,
        request: &Arc<QueryRequest>,
    ) -> Result<Option<Lookup>, QueryError> {
        let keyring = &self.parts.keyring;
        let keys = keyring.tenant_keys(call.caller.tenant).await?;
        let Some(subject) = &request.subject else {
            return Ok(Some(self.lookup(call, request, EntryKey::new(keys, None))));
        };
        let found = match request.directives.mode {
            Mode::Default | Mode::Refresh => {
                Some(keyring.subject_key(&keys, subject, call.request).await?)
            }
            Mode::OnlyIfCached | Mode::Bypass | Mode::Unanswerable => {
                keyring.find_subject_key(&keys, subject).await?
            }
        };
        if found.is_none() && request.directives.mode == Mode::OnlyIfCached {
            return Ok(None);
        }
        if let Some(key) = found.as_ref().filter(|key| key.restricted) {
            call.note(|record| record.subject_key = Some(key.id));
            return Err(ServiceError::Restricted.into());
        }
        Ok(Some(self.lookup(call, request, EntryKey::new(keys, found))))
    }

    /// The look-up of a question under this key, from the position that is known now.
    pub(super) fn lookup(
        &self,
        call: &mut Call,
        request: &Arc<QueryRequest>,
        key: EntryKey,
    ) -> Lookup {
        let subject_key = key.subject();
        call.note(|record| record.subject_key = subject_key);
        let upstream = &self.parts.upstream;
        let model = match &request.model {
            Some(model) => model.as_str().into(),
            None => Arc::clone(&self.default_model),
        };
        let (position, era) = (self.parts.coherence.position(), self.parts.coherence.era());
        let parts = KeyParts::of(request, subject_key, upstream.name(), &model);
        let cache_key = key.tenant().cache_key(&parts);
        let now = self.parts.clock.now();
        let wanted = Wanted {
            place: call.view.place(cache_key),
            now,
            made_since: request.directives.made_since(now),
            stale_for: request.directives.accepts_stale_for(self.parts.stale.while_revalidate),
        };
        Lookup { request: Arc::clone(request), key, wanted, model, position, era }
    }
}
