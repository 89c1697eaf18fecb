//! `ai-cache serve` without DATABASE_URL, as `make run` starts it (architecture.md §8, issue 2 "Must
//! show"): an empty folder, a curl line, the same entries and token after a restart.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failure in a test's helper is the test's failure"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;

use rstest::rstest;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::upstream::TestUpstream;

use super::program::{Program, Serving};

/// No wait for the demonstration upstream.
const AT_ONCE: (&str, &str) = ("AI_CACHE_UPSTREAM_DEMO_DELAY_MS", "0");

/// Runs the printed line in a shell; sends the same by hand where there is no curl.
async fn follow_curl_line(serving: &Serving) -> Value {
    let line = serving.curl();
    let has_curl = Command::new("curl").arg("--version").output().await;
    if has_curl.is_ok_and(|output| output.status.success()) {
        let output = Command::new("sh").args(["-c", line]).output().await.unwrap();
        return serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{line}: {output:?}"));
    }
    let (_, body) = line.split_once("-d '").unwrap();
    let body = serde_json::from_str(body.strip_suffix('\'').unwrap()).unwrap();
    let caller = serving.client().with_token(serving.token());
    caller.query(&body).await.expect(200).body
}

/// Returns whether an answer came from the cache, and its source.
fn source(reply: &Value) -> (bool, &str) {
    let cached = reply["cached"].as_bool().unwrap_or_else(|| panic!("{reply}"));
    (cached, reply["cacheSource"].as_str().unwrap())
}

fn mode(program: &Program, name: &str) -> u32 {
    let meta = fs::metadata(program.path("data").join(name)).unwrap();
    meta.mode() & 0o777
}

/// Issue 2 "Must show", as whoever runs the tests and as an ordinary user.
#[rstest]
#[case::as_is(Program::new())]
#[case::unprivileged(Program::unprivileged())]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_curl_line_is_answered_by_the_upstream_then_by_memory_then_after_a_restart(
    #[case] program: Program,
) {
    let serving = program.serve(&[AT_ONCE]).await;
    let first = follow_curl_line(&serving).await;
    let second = follow_curl_line(&serving).await;
    assert_eq!(source(&first), (false, "demo"), "{first}");
    assert_eq!(source(&second), (true, "hot"), "{second}");
    assert_eq!(second["data"], first["data"]);
    assert!(first["data"]["response"].as_str().unwrap().starts_with("[demo answer]"));
    assert_eq!((mode(&program, "master.key"), mode(&program, "demo.token")), (0o600, 0o600));
    let token = serving.token().to_owned();
    assert_eq!(serving.stop().await, Some(0));

    let serving = program.serve(&[AT_ONCE]).await;
    assert_eq!(serving.token(), token);
    let third = follow_curl_line(&serving).await;
    let (cached, tier) = source(&third);
    assert!(cached && ["warm", "cold"].contains(&tier), "{third}");
    assert_eq!(third["data"], first["data"]);
    assert_eq!(serving.stop().await, Some(0));
}

/// architecture.md §8: a kill -9 leaves the servers, and the next start takes them over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_after_kill_9_finds_everything() {
    let program = Program::new();
    let serving = program.serve(&[AT_ONCE]).await;
    let first = follow_curl_line(&serving).await;
    let token = serving.token().to_owned();
    serving.kill().await;

    let serving = program.serve(&[AT_ONCE]).await;
    assert!(serving.log().contains("adopted=true"), "{}", serving.log());
    assert_eq!(serving.token(), token);
    let again = follow_curl_line(&serving).await;
    assert!(again["cached"].as_bool().unwrap(), "{again}");
    assert_eq!(again["entryId"], first["entryId"]);
    assert_eq!(serving.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_has_one_service_and_any_number_of_commands() {
    let program = Program::new();
    let serving = program.serve(&[AT_ONCE]).await;

    let second = program.run(&["serve"], &[]).await;
    assert_eq!(second.code, Some(3), "{second:?}");
    let line = second.err.lines().last().unwrap();
    let folder = fs::canonicalize(program.path("data")).unwrap();
    let beginning =
        format!("ai-cache: the data folder {} is in use by another ai-cache", folder.display());
    assert!(line.starts_with(&beginning), "{second:?}");
    assert_eq!(second.err.lines().count(), 1, "{second:?}");

    let created = program.run(&["tenant", "create", "acme", "--name", "Acme"], &[]).await;
    assert_eq!(created.code, Some(0), "{created:?}");
    let token = ["token", "create", "--tenant", "acme", "--role", "app", "--json"];
    let token: Value = serde_json::from_str(&program.run(&token, &[]).await.out).unwrap();
    let caller = serving.client().with_token(token["token"].as_str().unwrap());
    caller.ask("Who plays the organ?").await.expect(200);
    serving.client().get("/health/ready").await.expect(200);
    assert_eq!(serving.stop().await, Some(0));
}

/// A token that was revoked is not printed again, and one file's loss is not the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_revoked_demonstration_token_is_made_anew() {
    let program = Program::new();
    let serving = program.serve(&[AT_ONCE]).await;
    let first = serving.token().to_owned();
    assert_eq!(serving.stop().await, Some(0));

    fs::remove_file(program.path("data/demo.token")).unwrap();
    let serving = program.serve(&[AT_ONCE]).await;
    let second = serving.token().to_owned();
    let list = program.run(&["token", "list", "--tenant", "demo", "--json"], &[]).await;
    let rows: Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
    for row in rows.as_array().unwrap() {
        let revoke = ["token", "revoke", row["id"].as_str().unwrap()];
        let done = program.run(&revoke, &[]).await;
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    assert_eq!(serving.stop().await, Some(0));

    let serving = program.serve(&[AT_ONCE]).await;
    let third = serving.token().to_owned();
    assert!(first != second && second != third && first != third);
    assert_eq!(source(&follow_curl_line(&serving).await), (false, "demo"));
    assert_eq!(serving.stop().await, Some(0));
}

/// W9: at the lowest level that can be set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_output_hold_no_question_answer_or_key() {
    let program = Program::new();
    let trace = [AT_ONCE, ("AI_CACHE_LOG", "trace"), ("AI_CACHE_LOG_FORMAT", "json")];
    let serving = program.serve(&trace).await;
    let caller = serving.client().with_token(serving.token());
    let reply = caller.query(&json!({ "query": "m4rk3r question" })).await.expect(200);
    let answer = reply.body["data"]["response"].as_str().unwrap();
    let log = serving.log();
    assert!(log.lines().count() > 3, "{log}");
    for line in log.lines() {
        let parsed: Result<Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "not JSON: {line}");
    }
    // Base64url may hold the separator itself.
    let secret = serving.token().splitn(3, '_').nth(2).unwrap();
    let key = fs::read_to_string(program.path("data/master.key")).unwrap();
    let key = key.trim().split(':').next_back().unwrap();
    for hidden in ["m4rk3r", answer, secret, key] {
        assert!(!log.contains(hidden), "{hidden} is in the log");
    }
    assert_eq!(serving.stop().await, Some(0));
}

/// Issue 2 "Must show": a real server of the chat-completions protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configured_upstream_answers_and_its_tokens_are_counted() {
    let upstream = TestUpstream::start().await;
    let program = Program::new();
    let variables = [
        ("AI_CACHE_UPSTREAM", "openai"),
        ("AI_CACHE_UPSTREAM_URL", upstream.url()),
        ("AI_CACHE_UPSTREAM_API_KEY", "sk-of-the-test"),
        ("AI_CACHE_UPSTREAM_MODEL", "model-of-the-test"),
        ("AI_CACHE_PRICE_PROMPT_USD_PER_MILLION", "0.15"),
        ("AI_CACHE_PRICE_COMPLETION_USD_PER_MILLION", "0.60"),
    ];
    let serving = program.serve(&variables).await;
    let first = follow_curl_line(&serving).await;
    let second = follow_curl_line(&serving).await;

    assert_eq!(source(&first), (false, "openai"), "{first}");
    assert_eq!(source(&second), (true, "hot"), "{second}");
    let answer = first["data"]["response"].as_str().unwrap();
    assert!(answer.starts_with("answer 1 to Best photographers in NYC"), "{first}");
    assert_eq!(second["data"], first["data"]);
    assert_eq!(first["data"]["model"], "model-of-the-test");
    assert_eq!(first["data"]["usage"], json!({ "promptTokens": 31, "completionTokens": 412 }));
    // 31 × 0.15 + 412 × 0.60 dollars a million.
    assert_eq!(second["costSavedUsd"], "0.00025185", "{second}");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("authorization"), Some("Bearer sk-of-the-test"));
    assert_eq!(serving.stop().await, Some(0));
}
