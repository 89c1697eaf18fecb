//! The token that a stream is given out to. It may be revoked while the stream goes on.

use std::sync::Arc;

use crate::coherence::TenantView;
use crate::domain::ids::TokenId;
use crate::store::tokens::{self, TokenSecret};

use super::{Call, CallsParts, ServiceError};

/// The token that a stream is for.
pub(super) struct ServedToken {
    id: TokenId,
    view: Arc<TenantView>,
}

impl ServedToken {
    /// Takes the token of a call.
    pub(super) fn of(call: &Call) -> Self {
        Self { id: call.caller.token, view: Arc::clone(&call.view) }
    }

    /// Checks that the token is still accepted, as far as this process has heard. When the process
    /// may have missed something, it asks Postgres.
    pub(super) async fn check(&self, parts: &CallsParts) -> Result<(), ServiceError> {
        if !self.view.is_active() || parts.remembered.is_revoked(self.id) {
            return Err(ServiceError::Revoked);
        }
        if parts.coherence.is_proven() {
            return Ok(());
        }
        let asked = parts.store.system("check the token of a stream", async |mut tx| {
            tokens::find_secret(&mut tx, self.id).await
        });
        let found = Box::pin(asked).await?;
        found.filter(TokenSecret::is_usable).map(drop).ok_or(ServiceError::Revoked)
    }
}
