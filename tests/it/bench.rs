//! `ai-cache bench --url …` as a program: its exit codes, and the JSON that others read.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

use std::net::TcpListener;
use std::process::{Command, Output};

use ai_cache::domain::ids::TokenId;
use ai_cache::domain::token::BearerToken;
use rstest::rstest;
use uuid::Uuid;

use crate::loadgen::canned::{Answer, Canned, hit, reply};

fn token() -> String {
    BearerToken::new(TokenId(Uuid::nil()), [7; 32]).reveal().to_string()
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ai-cache")).arg("bench").args(arguments).output().unwrap()
}

fn measure(url: &str, more: &[&str]) -> Output {
    let token = token();
    let arguments = ["--url", url, "--token", &token, "--duration", "1", "--concurrency", "2"];
    bench(&[&arguments, more].concat())
}

fn keys(output: &Output) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    json.as_object().unwrap().keys().cloned().collect()
}

const FIELDS: [&str; 8] =
    ["errors", "hitRate", "p50Ms", "p95Ms", "p99Ms", "repliesPerSecond", "requests", "seconds"];

#[test]
fn json_has_the_fields_of_the_contract_and_the_exit_code_is_0() {
    let server = Canned::start(|_| Answer::Bytes(hit()));
    let output = measure(&format!("http://{}", server.addr), &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut found = keys(&output);
    found.sort();
    assert_eq!(found, FIELDS);
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn with_the_floor_the_rates_of_both_and_their_ratio_are_printed() {
    let server = Canned::start(|_| Answer::Bytes(hit()));
    let output = measure(&format!("http://{}", server.addr), &["--floor", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |field: &str| json[field].as_f64().unwrap();
    assert!(number("floorRepliesPerSecond") > 0.0);
    let ratio = number("repliesPerSecond") / number("floorRepliesPerSecond");
    assert!((number("ratioToFloor") - ratio).abs() < 0.002, "{json}");
    assert!(number("singleCallerP50Ms") > 0.0 && number("floorSingleCallerP50Ms") > 0.0);
}

#[test]
fn requests_that_fail_while_measured_make_the_exit_code_1() {
    let server = Canned::start(|number| match number {
        0..128 => Answer::Bytes(hit()),
        _ => Answer::Bytes(reply("503 Service Unavailable", &[], "{}")),
    });
    let output = measure(&format!("http://{}", server.addr), &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = String::from_utf8(output.stderr).unwrap();
    assert!(lines.contains("status 5xx, the first: status 503"), "{lines}");
}

#[test]
fn a_refused_token_ends_the_run_before_it_is_measured() {
    let server = Canned::start(|_| Answer::Bytes(reply("401 Unauthorized", &[], "{}")));
    let output = measure(&format!("http://{}", server.addr), &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(server.requests(), 64);
    assert!(String::from_utf8(output.stderr).unwrap().contains("status 401"));
}

#[test]
fn a_server_out_of_reach_makes_the_exit_code_3() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = measure(&url, &[]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("out of reach"));
}

#[rstest]
#[case(&["--url", "https://127.0.0.1:1", "--token", "TOKEN"], "https")]
#[case(&["--url", "http://127.0.0.1:1/api", "--token", "TOKEN"], "http://host:port")]
#[case(&["--url", "http://127.0.0.1:1", "--token", "aic_mistyped"], "mistyped")]
#[case(&["--url", "http://127.0.0.1:1"], "--token")]
#[case(&["--concurrency", "0"], "--concurrency")]
#[case(&["--duration", "0"], "--duration")]
fn bad_usage_makes_the_exit_code_2(#[case] arguments: &[&str], #[case] text: &str) {
    let token = token();
    let arguments: Vec<&str> =
        arguments.iter().map(|word| if *word == "TOKEN" { &*token } else { word }).collect();
    let output = bench(&arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains(text));
}
