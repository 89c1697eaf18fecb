//! Forgets keys and tokens that were remembered long enough, and reads the master keys anew.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Authenticator;
use crate::crypto::{KeyProvider, KeyProviderError};
use crate::keyring::Keyring;

use super::Job;

pub(super) struct Forget {
    pub(super) keyring: Arc<Keyring>,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) keys: Arc<KeyProvider>,
}

impl Job for Forget {
    type Error = KeyProviderError;

    const PERIOD: Duration = Duration::from_secs(30);

    async fn run_once(&self) -> Result<(), KeyProviderError> {
        self.keyring.forget_expired();
        self.authenticator.forget_expired();
        self.keys.refresh().map(drop)
    }

    fn tell(error: &KeyProviderError) {
        tracing::error!(%error, "the keys cannot be read anew");
    }
}
