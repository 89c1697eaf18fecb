//! The upstream for any server that speaks the chat-completions protocol. One limit covers all
//! tries of a question, and after failures in a row the server is left alone. It follows no
//! redirect and uses no proxy.

use std::sync::Arc;
use std::time::Duration;

use backon::Retryable;
use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::future::BoxFuture;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Completion;
use crate::domain::breaker::Breaker;
use crate::domain::clock::Clock;
use crate::domain::money::Prices;
use crate::domain::prompt::Prompt;

use super::retry::{self, FailedTry};
use super::wire::{self, CompletionRequest};
use super::{Answer, Upstream, UpstreamError, answer};

/// The longest accepted answer in bytes.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// The failures in a row after which the upstream is left alone. Retries count as one failure with
/// their first try.
const FAILURES: u32 = 5;
/// The time for which the upstream is left alone.
const PAUSE: Duration = Duration::from_secs(10);

/// The longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// The time that an unused connection is kept. It is shorter than servers keep theirs, so that a
/// question is not sent into a connection that is being closed.
const IDLE: Duration = Duration::from_secs(30);

/// The settings to reach the upstream.
#[derive(Clone)]
pub struct OpenAiSettings {
    /// The base URL. `/chat/completions` is added to its path.
    pub base_url: String,
    /// The name that replies show.
    pub name: String,
    /// The API key, which is sent as a bearer token.
    pub api_key: Option<String>,
    /// The model for requests that name none.
    pub model: String,
    /// The limit of all tries together.
    pub timeout: Duration,
    /// The prices of tokens.
    pub prices: Prices,
}

/// The reason why the upstream cannot be used as set. It tells neither URL nor key.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiSettingsError {
    /// The base URL is malformed.
    #[error(
        "the upstream's URL must begin with http:// or https:// and hold no user name or password"
    )]
    BaseUrl,
    /// The key has characters that no header can carry.
    #[error("the upstream's API key holds characters that cannot be sent")]
    ApiKey,
    /// The HTTP client cannot be made. For https the usual cause is that the system has no root
    /// certificates.
    #[error("connections to the upstream cannot be made: are root certificates installed?")]
    Client(#[source] reqwest::Error),
}

/// A chat-completions upstream.
pub struct OpenAi {
    client: Client,
    url: Url,
    name: String,
    model: String,
    timeout: Duration,
    prices: Prices,
    breaker: Breaker,
    clock: Arc<dyn Clock>,
}

impl OpenAi {
    /// Prepares the client. It connects when the first question is asked.
    pub fn new(
        settings: OpenAiSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenAiSettingsError> {
        let url = endpoint(&settings.base_url).ok_or(OpenAiSettingsError::BaseUrl)?;
        let key = settings.api_key.map(Zeroizing::new);
        let mut builder = Client::builder()
            .connect_timeout(CONNECT.min(settings.timeout))
            .pool_idle_timeout(IDLE)
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("ai-cache/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers(key.as_deref().map(String::as_str))?);
        if url.scheme() == "http" {
            // Without TLS there is nothing to trust, so the system's root certificates are not
            // read: a slim image has none.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self {
            client: builder.build().map_err(OpenAiSettingsError::Client)?,
            url,
            name: settings.name,
            model: settings.model,
            timeout: settings.timeout,
            prices: settings.prices,
            breaker: Breaker::new(FAILURES, TimeDelta::from_std(PAUSE).unwrap_or_default()),
            clock,
        })
    }

    async fn ask(&self, prompt: &Prompt) -> Result<Answer, UpstreamError> {
        if !self.breaker.permits(self.clock.now()) {
            return Err(UpstreamError::CircuitOpen { retry_after: PAUSE });
        }
        let tries = tokio::time::timeout(self.timeout, self.try_all(prompt));
        let outcome = tries.await.unwrap_or(Err(UpstreamError::TimedOut));
        match &outcome {
            Err(
                UpstreamError::TimedOut | UpstreamError::Unreachable | UpstreamError::Failed { .. },
            ) => {
                if self.breaker.failed(self.clock.now()) {
                    tracing::warn!("the upstream fails and is left alone");
                }
            }
            // Any other reply, also a useless one, shows that the upstream is there.
            _ => {
                if self.breaker.succeeded() {
                    tracing::info!("the upstream is used again");
                }
            }
        }
        outcome
    }

    async fn try_all(&self, prompt: &Prompt) -> Result<Answer, UpstreamError> {
        let started = Instant::now();
        let body = serde_json::to_vec(&CompletionRequest(prompt)).map_err(|_| {
            UpstreamError::BadAnswer { what: "the question cannot be written as JSON" }
        })?;
        let body = Bytes::from(body);
        (|| self.try_once(&prompt.model, body.clone()))
            .retry(retry::plan())
            // No further try is made while the breaker is open. It is open if other calls failed
            // meanwhile, or if this is the one call that was let through to try.
            .when(|_| !self.breaker.is_open(self.clock.now()))
            .adjust(|failure, planned| {
                failure.pause(planned, self.timeout.saturating_sub(started.elapsed()))
            })
            .await
            .map_err(|failure| failure.error)
    }

    async fn try_once(&self, asked_model: &str, body: Bytes) -> Result<Answer, FailedTry> {
        let sent = self.client.post(self.url.clone()).body(body).send().await;
        let reply = sent.map_err(|error| FailedTry::of_sending(&error))?;
        if !reply.status().is_success() {
            let status = reply.status().as_u16();
            return Err(FailedTry::of_status(status, reply.headers(), self.clock.now()));
        }
        let body = read(reply).await.map_err(FailedTry::last)?;
        let parsed = wire::parse(&body).map_err(FailedTry::last)?;
        let model = parsed.model.as_deref().unwrap_or(asked_model);
        let (text, usage) = (parsed.text.as_str(), parsed.usage);
        let said = Completion { text, model, usage, storable: parsed.complete };
        answer(said, self.prices).map_err(FailedTry::last)
    }
}

/// Returns the URL for questions. It keeps a query that the base URL has.
fn endpoint(base: &str) -> Option<Url> {
    let mut url = Url::parse(base).ok()?;
    let usable = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none();
    if !usable {
        return None;
    }
    url.set_fragment(None);
    url.path_segments_mut().ok()?.pop_if_empty().extend(["chat", "completions"]);
    Some(url)
}

/// Returns the headers of every request.
fn headers(key: Option<&str>) -> Result<HeaderMap, OpenAiSettingsError> {
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, json.clone()), (ACCEPT, json)]);
    if let Some(key) = key {
        let bearer = Zeroizing::new(format!("Bearer {key}"));
        let mut value = HeaderValue::from_str(&bearer).map_err(|_| OpenAiSettingsError::ApiKey)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Reads a body, up to the limit and no part further.
async fn read(mut reply: Response) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
    let bad = |what| UpstreamError::BadAnswer { what };
    let announced = usize::try_from(reply.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
    if announced > MAX_ANSWER_BYTES {
        return Err(bad("it is longer than 8 MiB"));
    }
    let mut body = Zeroizing::new(Vec::with_capacity(announced));
    while let Some(part) = reply.chunk().await.map_err(|_| bad("it was cut off"))? {
        if body.len() + part.len() > MAX_ANSWER_BYTES {
            return Err(bad("it is longer than 8 MiB"));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

impl Upstream for OpenAi {
    fn name(&self) -> &str {
        &self.name
    }

    fn default_model(&self) -> &str {
        &self.model
    }

    fn limit(&self) -> Duration {
        self.timeout
    }

    fn complete<'a>(&'a self, prompt: &'a Prompt) -> BoxFuture<'a, Result<Answer, UpstreamError>> {
        Box::pin(self.ask(prompt))
    }
}
