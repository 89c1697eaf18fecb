//! The demonstration upstream: canned answers for trying the service without a model. They are
//! labelled as such, are the same for the same prompt, and have no word of the prompt in them.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::Completion;
use crate::crypto::sha256;
use crate::domain::money::{Prices, Usage};
use crate::domain::prompt::Prompt;

use super::{Answer, Upstream, UpstreamError, answer};

/// The sentences that answers are put together from.
const SENTENCES: [&str; 8] = [
    "Ask early, because good people are booked a year ahead.",
    "Compare three offers and read what each leaves out.",
    "Put dates, hours and extra costs into the contract.",
    "Plan a fifth of the budget for what nobody thought of.",
    "Visit the place at the hour of the day it will be used.",
    "Talk to someone who was in the same position last year.",
    "Agree on one person who decides when plans have to change.",
    "Write down what matters most before looking at pictures.",
];

/// The beginning of every answer.
const LABEL: &str = "[demo answer]";

/// The longest time that writing an answer takes.
const READY: Duration = Duration::from_secs(1);

/// The demonstration upstream.
#[derive(Debug, Clone)]
pub struct Demo {
    name: String,
    delay: Duration,
    answer_bytes: usize,
    prices: Prices,
}

impl Demo {
    /// Makes an upstream that gives answers of about `answer_bytes` after `delay`.
    pub const fn new(name: String, delay: Duration, answer_bytes: usize, prices: Prices) -> Self {
        Self { name, delay, answer_bytes, prices }
    }

    fn text(&self, prompt: &Prompt) -> String {
        let seed =
            sha256(format!("{}\n{}\n{}", prompt.system, prompt.user, prompt.model).as_bytes());
        let mut text = String::from(LABEL);
        for byte in seed.iter().cycle() {
            text.push(' ');
            text.push_str(SENTENCES[usize::from(*byte) % SENTENCES.len()]);
            if text.len() >= self.answer_bytes {
                break;
            }
        }
        text
    }
}

impl Upstream for Demo {
    fn name(&self) -> &str {
        &self.name
    }

    fn default_model(&self) -> &'static str {
        "demo"
    }

    fn limit(&self) -> Duration {
        self.delay + READY
    }

    fn complete<'a>(&'a self, prompt: &'a Prompt) -> BoxFuture<'a, Result<Answer, UpstreamError>> {
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            let text = self.text(prompt);
            let tokens = |length: usize| u32::try_from(length / 4).unwrap_or(u32::MAX);
            let usage = Usage {
                prompt_tokens: tokens(prompt.system.len() + prompt.user.len()),
                completion_tokens: tokens(text.len()),
            };
            let (text, model) = (&text, &prompt.model);
            let said = Completion { text, model, usage: Some(usage), storable: true };
            answer(said, self.prices)
        })
    }
}
