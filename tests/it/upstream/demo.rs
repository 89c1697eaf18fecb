//! The demonstration and the absent upstream.

use std::time::{Duration, Instant};

use ai_cache::domain::money::Usd;
use ai_cache::upstream::{Demo, Nothing, Upstream, UpstreamError};

use super::{MARKER, PRICES, prompt, read};

fn demo(delay: Duration, answer_bytes: usize) -> Demo {
    Demo::new("demo".to_owned(), delay, answer_bytes, PRICES)
}

#[tokio::test]
async fn demo_answers_are_labelled_repeatable_and_tell_nothing_of_the_question() {
    let upstream = demo(Duration::ZERO, 400);
    let question = prompt(MARKER);

    let first = upstream.complete(&question).await.unwrap();
    let second = upstream.complete(&question).await.unwrap();
    let other = upstream.complete(&prompt("Where?")).await.unwrap();

    assert_eq!(first.data.expose(), second.data.expose());
    assert_ne!(first.data.expose(), other.data.expose());
    let data = read(&first);
    let text = data["response"].as_str().unwrap();
    assert!(text.starts_with("[demo answer] "), "{text}");
    assert!((400..480).contains(&text.len()), "{} bytes", text.len());
    assert!(!text.contains(MARKER));
    assert!(first.storable);
    assert_eq!(data["usage"]["completionTokens"], text.len() / 4);
    assert!(first.cost > Usd(0));
    assert_eq!((upstream.name(), upstream.default_model()), ("demo", "demo"));
}

#[tokio::test]
async fn demo_answers_have_about_the_size_that_is_set() {
    for size in [0, 100, 2_000, 1_000_000] {
        let answer = demo(Duration::ZERO, size).complete(&prompt("Where?")).await.unwrap();
        let length = read(&answer)["response"].as_str().unwrap().len();
        assert!((size..size + 100).contains(&length), "{length} for {size}");
    }
}

#[tokio::test]
async fn demo_answers_take_the_time_that_is_set() {
    let delay = Duration::from_millis(50);
    let started = Instant::now();
    demo(delay, 400).complete(&prompt("Where?")).await.unwrap();
    assert!(started.elapsed() >= delay);
}

#[tokio::test]
async fn without_an_upstream_every_question_is_told_so() {
    let error = Nothing.complete(&prompt("Where?")).await.unwrap_err();
    assert_eq!(error, UpstreamError::NotConfigured);
    assert_eq!(Nothing.name(), "none");
}
