//! An upstream that refuses, fails, hangs or breaks off: the error, the number of tries, and when
//! it is left alone.

use std::error::Error;
use std::time::{Duration, Instant};

use ai_cache::upstream::{OpenAi, Upstream, UpstreamError};
use chrono::TimeDelta;
use rstest::rstest;
use serde_json::json;

use super::{KEY, MARKER, StandingClock, client, impatient, prompt, read, settings};
use crate::support::upstream::{TestUpstream, completion};

const SOON: Duration = Duration::from_millis(200);

#[rstest]
#[tokio::test]
async fn a_busy_or_failing_upstream_is_asked_again(#[values(429, 500, 502, 503, 504)] status: u16) {
    let server = TestUpstream::start().await;
    server.then_status(status, None);
    server.then_status(status, Some("0"));

    let answer = client(&server).complete(&prompt("Where?")).await.unwrap();

    assert_eq!(read(&answer)["response"], "answer 3 to Where?");
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.text == requests[0].text));
}

#[rstest]
#[case(429, UpstreamError::RateLimited { retry_after: None })]
#[case(503, UpstreamError::Failed { status: 503 })]
#[tokio::test]
async fn after_three_tries_it_is_over(#[case] status: u16, #[case] expected: UpstreamError) {
    let server = TestUpstream::start().await;
    for _ in 0..4 {
        server.then_status(status, None);
    }

    let error = client(&server).complete(&prompt("Where?")).await.unwrap_err();

    assert_eq!(error, expected);
    assert_eq!(server.calls(), 3);
}

#[rstest]
#[tokio::test]
async fn a_refusal_is_final(#[values(400, 401, 403, 404, 408, 413, 422)] status: u16) {
    let server = TestUpstream::start().await;
    server.then_status(status, Some("0"));

    let error = client(&server).complete(&prompt("Where?")).await.unwrap_err();

    assert_eq!(error, UpstreamError::Refused { status });
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = TestUpstream::start().await;
    server.then_redirect(&format!("{}/chat/completions", server.url()));

    let error = client(&server).complete(&prompt("Where?")).await.unwrap_err();

    assert_eq!(error, UpstreamError::Refused { status: 307 });
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_failure_that_does_not_pass_is_final() {
    let server = TestUpstream::start().await;
    server.then_status(501, None);

    let error = client(&server).complete(&prompt("Where?")).await.unwrap_err();

    assert_eq!(error, UpstreamError::Failed { status: 501 });
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn the_next_try_waits_as_long_as_the_upstream_asks() {
    let server = TestUpstream::start().await;
    server.then_status(429, Some("1"));
    let upstream = client(&server);

    let started = Instant::now();
    upstream.complete(&prompt("Where?")).await.unwrap();

    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1), "asked again after {took:?}");
    assert_eq!(server.calls(), 2);
}

/// The limit of the client is 20 s; its clock stands at 10:00:00.
#[rstest]
#[case::in_seconds("3600", 3600)]
#[case::as_a_date("Sat, 12 Jun 2027 10:01:30 GMT", 90)]
#[case::for_ever("18446744073709551615", u64::MAX)]
#[tokio::test]
async fn a_wait_beyond_the_limit_is_not_begun(#[case] header: &str, #[case] seconds: u64) {
    let server = TestUpstream::start().await;
    server.then_status(429, Some(header));

    let error = client(&server).complete(&prompt("Where?")).await.unwrap_err();

    let retry_after = Some(Duration::from_secs(seconds));
    assert_eq!(error, UpstreamError::RateLimited { retry_after });
    assert_eq!(server.calls(), 1);
}

#[rstest]
#[case::of_a_past_date("Sat, 12 Jun 2027 09:59:00 GMT")]
#[case::that_is_none("soon")]
#[tokio::test]
async fn a_wait_that_is_over_or_unreadable_is_the_usual_one(#[case] header: &str) {
    let server = TestUpstream::start().await;
    server.then_status(503, Some(header));

    client(&server).complete(&prompt("Where?")).await.unwrap();

    assert_eq!(server.calls(), 2);
}

#[tokio::test]
async fn a_hanging_upstream_times_out_and_is_not_asked_again() {
    let server = TestUpstream::start().await;
    server.then_hang();

    let error = impatient(&server, SOON).complete(&prompt("Where?")).await.unwrap_err();

    assert_eq!(error, UpstreamError::TimedOut);
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn one_limit_covers_all_tries() {
    let server = TestUpstream::start().await;
    server.then_status(503, Some("1"));
    server.then_hang();
    let limit = Duration::from_millis(1_500);
    let upstream = impatient(&server, limit);

    let started = Instant::now();
    let error = upstream.complete(&prompt("Where?")).await.unwrap_err();

    let took = started.elapsed();
    assert_eq!(error, UpstreamError::TimedOut);
    assert_eq!(server.calls(), 2);
    let limit_per_try = Duration::from_secs(1) + limit;
    assert!((limit..limit_per_try).contains(&took), "took {took:?}");
}

/// It may have been answered and paid for.
#[tokio::test]
async fn a_connection_cut_after_the_question_is_unreachable_and_not_asked_again() {
    let server = TestUpstream::start().await;
    server.then_cut_connection();

    let error = client(&server).complete(&prompt("Where?")).await.unwrap_err();

    assert_eq!(error, UpstreamError::Unreachable);
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unreachable() {
    let server = TestUpstream::start().await;
    let upstream = client(&server);
    drop(server);

    let error = upstream.complete(&prompt("Where?")).await.unwrap_err();

    assert_eq!(error, UpstreamError::Unreachable);
}

#[tokio::test]
async fn a_body_that_is_garbage_cut_off_or_too_long_is_a_bad_answer() {
    let server = TestUpstream::start().await;
    server.then_garbage();
    server.then_cut_body();
    server.then_endless();
    server.then_json(completion("x".repeat(8 * 1024 * 1024), "stop"));
    let upstream = client(&server);

    for what in [
        "it is not a chat completion",
        "it was cut off",
        "it is longer than 8 MiB",
        "it is longer than 8 MiB",
    ] {
        let error = upstream.complete(&prompt("Where?")).await.unwrap_err();
        assert_eq!(error, UpstreamError::BadAnswer { what });
    }
    assert_eq!(server.calls(), 4);
}

#[tokio::test]
async fn after_five_failures_in_a_row_it_is_left_alone_for_ten_seconds() {
    let server = TestUpstream::start().await;
    let clock = StandingClock::new();
    let upstream = OpenAi::new(settings(server.url()), clock.clone()).unwrap();
    let question = prompt("Where?");
    for _ in 0..5 {
        server.then_status(501, None);
        upstream.complete(&question).await.unwrap_err();
    }

    clock.advance(TimeDelta::milliseconds(9_999));
    let error = upstream.complete(&question).await.unwrap_err();
    let retry_after = Duration::from_secs(10);
    assert_eq!(error, UpstreamError::CircuitOpen { retry_after });
    assert_eq!(server.calls(), 5, "it was asked while it was to be left alone");

    // The pause over, one call goes through, once, and its failure begins the pause anew.
    clock.advance(TimeDelta::milliseconds(1));
    server.then_status(503, None);
    let error = upstream.complete(&question).await.unwrap_err();
    assert_eq!(error, UpstreamError::Failed { status: 503 });
    let error = upstream.complete(&question).await.unwrap_err();
    assert_eq!(error, UpstreamError::CircuitOpen { retry_after });
    assert_eq!(server.calls(), 6);

    clock.advance(TimeDelta::seconds(10));
    upstream.complete(&question).await.unwrap();
    upstream.complete(&question).await.unwrap();
    assert_eq!(server.calls(), 8);
}

#[tokio::test]
async fn cut_connections_and_timeouts_count_as_failures() {
    let server = TestUpstream::start().await;
    let upstream = impatient(&server, SOON);
    for _ in 0..3 {
        server.then_cut_connection();
        upstream.complete(&prompt("Where?")).await.unwrap_err();
    }
    for _ in 0..2 {
        server.then_hang();
        let error = upstream.complete(&prompt("Where?")).await.unwrap_err();
        assert_eq!(error, UpstreamError::TimedOut);
    }

    let error = upstream.complete(&prompt("Where?")).await.unwrap_err();

    assert!(matches!(error, UpstreamError::CircuitOpen { .. }), "{error:?}");
    assert_eq!(server.calls(), 5);
}

#[tokio::test]
async fn refusals_and_bad_answers_do_not_count_as_failures() {
    let server = TestUpstream::start().await;
    let upstream = client(&server);
    for _ in 0..6 {
        server.then_status(400, None);
        server.then_garbage();
        upstream.complete(&prompt("Where?")).await.unwrap_err();
        upstream.complete(&prompt("Where?")).await.unwrap_err();
    }

    upstream.complete(&prompt("Where?")).await.unwrap();

    assert_eq!(server.calls(), 13);
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_the_upstream_usable() {
    let server = TestUpstream::start().await;
    server.hold();
    let upstream = client(&server);
    let question = prompt("Where?");
    tokio::select! {
        _ = upstream.complete(&question) => panic!("it answered while it was held"),
        () = server.wait_for_calls(1) => {}
    }
    server.release();

    let answer = upstream.complete(&question).await.unwrap();

    assert_eq!(read(&answer)["response"], "answer 2 to Where?");
}

#[tokio::test]
async fn no_error_tells_the_question_the_answer_the_key_or_the_url() {
    let server = TestUpstream::start().await;
    let mut settings = settings(&format!("{}?token=marker-in-the-url", server.url()));
    settings.timeout = Duration::from_secs(2);
    let upstream = OpenAi::new(settings, StandingClock::new()).unwrap();
    server.then_status(400, None);
    server.then_status(429, Some("words-of-a-header"));
    server.then_status(501, None);
    server.then_garbage();
    server.then_json(json!({ "error": { "message": "words of an error" } }));
    server.then_cut_body();
    server.then_cut_connection();
    server.then_hang();

    let mut seen = Vec::new();
    while !seen.iter().any(|text: &String| text.contains("TimedOut")) {
        if let Err(error) = upstream.complete(&prompt(MARKER)).await {
            seen.push(told(&error));
        }
    }

    for text in seen {
        for hidden in [MARKER, KEY, "marker-in-the-url", "127.0.0.1", "words"] {
            assert!(!text.contains(hidden), "{hidden} is in {text}");
        }
    }
}

/// Everything that can be printed of an error.
fn told(error: &UpstreamError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text} {error} {error:?}");
        cause = error.source();
    }
    text
}
