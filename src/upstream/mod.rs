//! The upstream: the model that answers what is not cached. It returns answers as `Secret`. Nobody
//! here reads or logs an answer, and no error carries a prompt, an answer, a key or a URL.

mod demo;
mod nothing;
mod openai;
mod retry;
mod wire;

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::crypto::Secret;
use crate::domain::money::{Prices, Usage, Usd};
use crate::domain::prompt::Prompt;

pub use demo::Demo;
pub use nothing::Nothing;
pub use openai::{OpenAi, OpenAiSettings, OpenAiSettingsError};

/// A model that answers.
pub trait Upstream: Send + Sync + 'static {
    /// Returns the configured name, as replies show it.
    fn name(&self) -> &str;

    /// Returns the model for requests that name none.
    fn default_model(&self) -> &str;

    /// Returns the longest time that answering takes. It is zero if the upstream never answers.
    fn limit(&self) -> Duration;

    /// Answers one prompt.
    fn complete<'a>(&'a self, prompt: &'a Prompt) -> BoxFuture<'a, Result<Answer, UpstreamError>>;
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The JSON text of `{"response", "model", "usage"?}`, ready to be put into a reply.
    pub data: Secret,
    /// The tokens of question and answer.
    pub usage: Usage,
    /// The cost.
    pub cost: Usd,
    /// Whether the answer is complete. An answer that was cut off is handed out but not stored.
    pub storable: bool,
}

/// The reason why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// The upstream gave no answer within the limit.
    #[error("the upstream did not answer within its limit")]
    TimedOut,
    /// The upstream cannot be connected to.
    #[error("the upstream is out of reach")]
    Unreachable,
    /// The upstream refuses the request.
    #[error("the upstream refused the request with status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The upstream failed, and no further try is made.
    #[error("the upstream failed with status {status}")]
    Failed {
        /// The HTTP status of the last failure.
        status: u16,
    },
    /// The upstream has had too many requests.
    #[error("the upstream has had too many requests")]
    RateLimited {
        /// The time after which the upstream wants to be asked again. `None` means that it did not
        /// say.
        retry_after: Option<Duration>,
    },
    /// The answer is unusable.
    #[error("the upstream's answer is unusable: {what}")]
    BadAnswer {
        /// The fault of the answer.
        what: &'static str,
    },
    /// The upstream failed too often a moment ago and is left alone.
    #[error("the upstream is left alone after failures")]
    CircuitOpen {
        /// The time after which the upstream is tried again.
        retry_after: Duration,
    },
    /// No upstream is configured.
    #[error("no upstream is configured")]
    NotConfigured,
}

#[derive(Serialize)]
struct Data<'a> {
    response: &'a str,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<DataUsage>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DataUsage {
    prompt_tokens: u32,
    completion_tokens: u32,
}

/// An answer in the words of the upstream.
#[derive(Clone, Copy)]
struct Completion<'a> {
    text: &'a str,
    /// The model as the upstream names it.
    model: &'a str,
    usage: Option<Usage>,
    /// Whether the text is complete, so that it may be stored.
    storable: bool,
}

/// Puts an answer into the form that replies carry.
fn answer(completion: Completion<'_>, prices: Prices) -> Result<Answer, UpstreamError> {
    let Completion { text: response, model, usage, storable } = completion;
    let data = Data {
        response,
        model,
        usage: usage.map(|usage| DataUsage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
        }),
    };
    // There is room for the text and its escapes, so that growing leaves no copies behind.
    let mut text = Vec::with_capacity(response.len() + response.len() / 8 + 256);
    serde_json::to_writer(&mut text, &data)
        .map_err(|_| UpstreamError::BadAnswer { what: "it cannot be written as JSON" })?;
    let usage = usage.unwrap_or_default();
    Ok(Answer { data: Secret::new(text), usage, cost: prices.cost(usage), storable })
}
