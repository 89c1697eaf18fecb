//! Any server that speaks the chat-completions protocol. One limit covers all tries; a try is
//! repeated only after a status that invites it or when the request did not get there.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};

use crate::domain::breaker::Breaker;
use crate::domain::clock::Clock;
use crate::domain::money::Prices;
use crate::domain::prompt::Prompt;

use super::wire::{self, Request};
use super::{Answer, Upstream, UpstreamError, answer};

/// Longest accepted answer in bytes.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Tries after the first.
const RETRIES: usize = 2;

/// Failures in a row after which the upstream is left alone, and for how long.
const FAILURES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(10);

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// How to reach the upstream.
#[derive(Clone)]
pub struct OpenAiSettings {
    /// Its base URL; `/chat/completions` is added.
    pub base_url: String,
    /// The name replies show.
    pub name: String,
    /// Its key, sent as a bearer token.
    pub api_key: Option<String>,
    /// The model used when a request names none.
    pub model: String,
    /// Limit of all tries together.
    pub timeout: Duration,
    /// What tokens cost.
    pub prices: Prices,
}

/// A chat-completions upstream.
pub struct OpenAi {
    client: Client,
    url: String,
    settings: OpenAiSettings,
    breaker: Breaker,
    clock: Arc<dyn Clock>,
}

/// How a try ended that gave no answer.
struct Failure {
    error: UpstreamError,
    /// When it may be tried again; `None`: never.
    retry: Option<Retry>,
}

enum Retry {
    Backoff,
    After(Duration),
}

impl OpenAi {
    /// Prepares the client.
    pub fn new(settings: OpenAiSettings, clock: Arc<dyn Clock>) -> Result<Self, UpstreamError> {
        let client = Client::builder()
            .connect_timeout(CONNECT.min(settings.timeout))
            .redirect(Policy::none())
            .user_agent(concat!("ai-cache/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .build()
            .map_err(|_| UpstreamError::NotConfigured)?;
        let url = format!(
            "{}/chat/completions",
            settings.base_url.trim_end_matches('/')
        );
        let pause = TimeDelta::from_std(PAUSE).unwrap_or(TimeDelta::MAX);
        Ok(Self {
            client,
            url,
            settings,
            breaker: Breaker::new(FAILURES, pause),
            clock,
        })
    }

    async fn ask(&self, prompt: &Prompt) -> Result<Answer, UpstreamError> {
        if !self.breaker.permits(self.clock.now()) {
            return Err(UpstreamError::CircuitOpen { retry_after: PAUSE });
        }
        let tries = tokio::time::timeout(self.settings.timeout, self.try_all(prompt));
        let result = tries.await.unwrap_or(Err(UpstreamError::TimedOut));
        match &result {
            Err(
                UpstreamError::TimedOut | UpstreamError::Unreachable | UpstreamError::Failed { .. },
            ) => self.breaker.failed(self.clock.now()),
            _ => self.breaker.succeeded(),
        }
        result
    }

    async fn try_all(&self, prompt: &Prompt) -> Result<Answer, UpstreamError> {
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_jitter()
            .with_max_times(RETRIES)
            .build();
        loop {
            let failure = match self.try_once(prompt).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let pause = match (failure.retry, pauses.next()) {
                (Some(Retry::Backoff), Some(pause)) => pause,
                (Some(Retry::After(asked)), Some(_)) if asked < self.settings.timeout => asked,
                _ => return Err(failure.error),
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn try_once(&self, prompt: &Prompt) -> Result<Answer, Failure> {
        let never = |error| Failure { error, retry: None };
        let mut request = self.client.post(&self.url).json(&Request::of(prompt));
        if let Some(key) = &self.settings.api_key {
            request = request.bearer_auth(key);
        }
        let reply = request.send().await.map_err(|error| Failure {
            error: UpstreamError::Unreachable,
            // What broke after connecting may have been answered and paid for.
            retry: error.is_connect().then_some(Retry::Backoff),
        })?;
        let status = reply.status().as_u16();
        if !reply.status().is_success() {
            return Err(refusal(
                status,
                retry_after(reply.headers(), self.clock.now()),
            ));
        }
        let body = read(reply).await.map_err(never)?;
        let parsed = wire::parse(&body).map_err(never)?;
        let model = parsed.model.as_deref().unwrap_or(&prompt.model);
        let prices = self.settings.prices;
        answer((&parsed.text, model), parsed.usage, prices, parsed.complete).map_err(never)
    }
}

/// What a status other than success means.
fn refusal(status: u16, asked: Option<Duration>) -> Failure {
    let again = Some(asked.map_or(Retry::Backoff, Retry::After));
    match status {
        429 => Failure {
            error: UpstreamError::RateLimited { retry_after: asked },
            retry: again,
        },
        500 | 502 | 503 | 504 => Failure {
            error: UpstreamError::Failed { status },
            retry: again,
        },
        505.. | 501 => Failure {
            error: UpstreamError::Failed { status },
            retry: None,
        },
        _ => Failure {
            error: UpstreamError::Refused { status },
            retry: None,
        },
    }
}

/// The `Retry-After` header: seconds or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTime::parse_from_rfc2822(text).ok()?;
    Some(
        (until.with_timezone(&Utc) - now)
            .to_std()
            .unwrap_or(Duration::ZERO),
    )
}

/// Reads a body up to the limit.
async fn read(mut reply: Response) -> Result<Vec<u8>, UpstreamError> {
    let broken = |_| UpstreamError::BadAnswer {
        what: "it was cut off",
    };
    let mut body = Vec::new();
    while let Some(part) = reply.chunk().await.map_err(broken)? {
        if body.len() + part.len() > MAX_ANSWER {
            return Err(UpstreamError::BadAnswer {
                what: "it is longer than 8 MiB",
            });
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

impl Upstream for OpenAi {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn default_model(&self) -> &str {
        &self.settings.model
    }

    fn complete<'a>(&'a self, prompt: &'a Prompt) -> BoxFuture<'a, Result<Answer, UpstreamError>> {
        Box::pin(self.ask(prompt))
    }
}
