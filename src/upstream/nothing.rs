//! The absent upstream: callers fill the cache themselves (cache-aside).

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::domain::prompt::Prompt;

use super::{Answer, Upstream, UpstreamError};

/// The absent upstream.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Upstream for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn default_model(&self) -> &'static str {
        ""
    }

    fn limit(&self) -> Duration {
        Duration::ZERO
    }

    fn complete<'a>(&'a self, _: &'a Prompt) -> BoxFuture<'a, Result<Answer, UpstreamError>> {
        Box::pin(std::future::ready(Err(UpstreamError::NotConfigured)))
    }
}
