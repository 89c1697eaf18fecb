//! Owns the settings of the upstream and the prices of its tokens. It never calls the upstream.

use std::time::Duration;

use super::database::DatabaseConfig;
use crate::domain::decimal::Decimal;
use crate::domain::money::{Prices, Usd};

use super::reader::Reader;
use super::secret::SecretText;

/// The kind of the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamKind {
    /// The upstream is a server with the chat-completions API of OpenAI.
    OpenAi {
        /// The base URL of the server.
        url: String,
    },
    /// The upstream is a demo, which gives a made-up answer after a delay.
    Demo {
        /// The time before each answer.
        delay: Duration,
    },
    /// There is no upstream.
    None,
}

/// The settings of the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// The kind of the upstream.
    pub kind: UpstreamKind,
    /// The name of the upstream that replies show.
    pub name: String,
    /// The API key of the upstream.
    pub api_key: Option<SecretText>,
    /// The model for requests that name none.
    pub model: String,
    /// The time limit of a call with all its tries.
    pub timeout: Duration,
    /// The prices of tokens.
    pub prices: Prices,
}

/// Reads a price in dollars for a million tokens and returns it in picodollars for one token.
/// Returns `None` if the price is negative, above 1,000,000 dollars or has more than six decimals.
fn parse_price(text: &str) -> Option<Usd> {
    let price = Decimal::parse(text).filter(|price| !price.is_negative())?;
    let per_token = price.shifted(6).to_u64()?;
    (per_token <= 1_000_000_000_000).then_some(Usd(per_token))
}

fn parse_name(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let reserved = ["hot", "warm", "cold", "none"].contains(&text);
    let whole = (1..=32).contains(&text.len()) && text.bytes().all(allowed);
    (whole && !reserved).then(|| text.to_owned())
}

fn parse_url(text: &str) -> Option<String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
    let host = rest.split('/').next().filter(|host| !host.is_empty() && !host.contains('@'));
    (host.is_some() && !text.contains(['?', '#', ' '])).then(|| text.to_owned())
}

impl UpstreamConfig {
    pub(super) fn read(reader: &mut Reader<'_>, database: &DatabaseConfig) -> Self {
        let rule = "openai, demo or none";
        let known = |text: &str| ["openai", "demo", "none"].into_iter().find(|kind| *kind == text);
        let default = if database.url.is_some() { "none" } else { "demo" };
        let kind_name = reader.parsed("AI_CACHE_UPSTREAM", rule, known).unwrap_or(default);
        let url_rule = "a base URL that begins with http:// or https://, without password or query";
        let url = reader.parsed("AI_CACHE_UPSTREAM_URL", url_rule, parse_url);
        let delay = reader.number("AI_CACHE_UPSTREAM_DEMO_DELAY_MS", 0..=60_000, 300);
        let kind = match (kind_name, url) {
            ("openai", Some(url)) => UpstreamKind::OpenAi { url },
            ("openai", None) => {
                if !reader.is_set("AI_CACHE_UPSTREAM_URL") {
                    let rule = "is needed with AI_CACHE_UPSTREAM=openai";
                    reader.refuse("AI_CACHE_UPSTREAM_URL", rule);
                }
                UpstreamKind::None
            }
            ("demo", _) => UpstreamKind::Demo { delay: Duration::from_millis(delay) },
            _ => UpstreamKind::None,
        };
        let name_rule = "1 to 32 of a-z, 0-9 and -, and not hot, warm, cold or none";
        let name = reader.parsed("AI_CACHE_UPSTREAM_NAME", name_rule, parse_name);
        let seconds = reader.number("AI_CACHE_UPSTREAM_TIMEOUT_SECONDS", 1..=600, 60);
        let price_rule = "US dollars from 0 to 1000000 with at most six decimals";
        let mut price = |name| reader.parsed(name, price_rule, parse_price).unwrap_or_default();
        let prices = Prices {
            prompt: price("AI_CACHE_PRICE_PROMPT_USD_PER_MILLION"),
            completion: price("AI_CACHE_PRICE_COMPLETION_USD_PER_MILLION"),
        };
        Self {
            kind,
            name: name.unwrap_or_else(|| kind_name.to_owned()),
            api_key: reader.text("AI_CACHE_UPSTREAM_API_KEY").map(SecretText::new),
            model: reader.text("AI_CACHE_UPSTREAM_MODEL").unwrap_or("gpt-4o-mini").to_owned(),
            timeout: Duration::from_secs(seconds),
            prices,
        }
    }
}
