//! The upstreams (issue 2 item 6, architecture.md §5 and §7): the real client against a real HTTP
//! server, the demonstration, and none.
#![expect(clippy::unwrap_used, reason = "the builders here have nobody to report to but the test")]

mod demo;
mod faults;
mod protocol;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ai_cache::domain::clock::Clock;
use ai_cache::domain::json::{Json, Object};
use ai_cache::domain::money::{Prices, Usd};
use ai_cache::domain::prompt::Prompt;
use ai_cache::upstream::{Answer, OpenAi, OpenAiSettings};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::support::upstream::TestUpstream;

/// A word of the question that no error may repeat.
const MARKER: &str = "marker-in-the-question";
/// The key that no error may repeat.
const KEY: &str = "sk-marker-in-the-key";
/// The prices in picodollars a token: 0.15 and 0.60 dollars a million.
const PRICES: Prices = Prices { prompt: Usd(150_000), completion: Usd(600_000) };

/// A clock that stands until it is moved.
struct StandingClock(Mutex<DateTime<Utc>>);

impl StandingClock {
    fn new() -> Arc<Self> {
        let start = DateTime::parse_from_rfc3339("2027-06-12T10:00:00Z").unwrap();
        Arc::new(Self(Mutex::new(start.with_timezone(&Utc))))
    }

    fn advance(&self, by: TimeDelta) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for StandingClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

fn settings(base_url: &str) -> OpenAiSettings {
    OpenAiSettings {
        base_url: base_url.to_owned(),
        name: "openai".to_owned(),
        api_key: Some(KEY.to_owned()),
        model: "gpt-4o-mini".to_owned(),
        timeout: Duration::from_secs(20),
        prices: PRICES,
    }
}

fn client(server: &TestUpstream) -> OpenAi {
    OpenAi::new(settings(server.url()), StandingClock::new()).unwrap()
}

fn impatient(server: &TestUpstream, limit: Duration) -> OpenAi {
    let mut settings = settings(server.url());
    settings.timeout = limit;
    OpenAi::new(settings, StandingClock::new()).unwrap()
}

fn prompt(user: &str) -> Prompt {
    with_parameters(user, "{}")
}

fn with_parameters(user: &str, parameters: &str) -> Prompt {
    let parameters = match Json::parse(parameters.as_bytes()).unwrap() {
        Json::Object(members) => members,
        _ => Object::new(),
    };
    Prompt {
        system: "You answer.",
        user: user.to_owned(),
        model: "gpt-4o-mini".to_owned(),
        parameters,
    }
}

fn read(answer: &Answer) -> Value {
    serde_json::from_slice(answer.data.expose()).unwrap()
}
