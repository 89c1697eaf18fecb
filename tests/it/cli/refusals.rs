//! Bad usage, bad settings, bad keys, services out of reach: each one line and its exit code, and
//! nothing served (issue 2 "Bad input").
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

use std::net::TcpListener;
use std::time::{Duration, Instant};

use ai_cache::config::{Availability, KNOWN};
use rstest::rstest;
use serde_json::Value;

use crate::support::TestDb;
use crate::support::app::MASTER_KEYS;

use super::program::{Program, free_port};

/// A database where nobody listens. Keys are checked before anything is connected to.
const NOWHERE: (&str, &str) = ("DATABASE_URL", "postgres://app@127.0.0.1:1/ai?sslmode=disable");

#[rstest]
#[case(&[], "Usage: ai-cache")]
#[case(&["frobnicate"], "unrecognized subcommand 'frobnicate'")]
#[case(&["serve", "--port", "3000"], "unexpected argument '--port'")]
#[case(&["tenant"], "Usage: ai-cache tenant")]
#[case(&["tenant", "create", "acme"], "--name <NAME>")]
#[case(&["token", "create", "--tenant", "acme"], "--role")]
#[tokio::test]
async fn bad_usage_is_told_on_stderr_with_exit_code_2(
    #[case] arguments: &[&str],
    #[case] words: &str,
) {
    let done = Program::new().run(arguments, &[]).await;
    assert_eq!((done.code, &*done.out), (Some(2), ""), "{done:?}");
    assert!(done.err.contains(words), "{done:?}");
}

#[tokio::test]
async fn the_version_is_printed_with_exit_code_0() {
    let done = Program::new().run(&["--version"], &[]).await;
    let version = concat!("ai-cache ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((done.code, &*done.out), (Some(0), version));
}

/// Issue 2, 10
#[tokio::test]
async fn openapi_prints_the_document_without_any_setting() {
    // A bad setting is no reason not to print it.
    let done = Program::new().run(&["openapi"], &[("AI_CACHE_BIND", "nowhere")]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let document: Value = serde_json::from_str(&done.out).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document, *crate::support::document::DOCUMENT);
}

/// Issue 2, 9
#[tokio::test]
async fn config_check_prints_every_setting_with_value_and_origin() {
    let variables = [("AI_CACHE_DEFAULT_TTL", "120"), ("REDIS_URL", "redis://:pw@cache:6379")];
    let done = Program::new().run(&["config", "check"], &variables).await;
    assert_eq!((done.code, &*done.err), (Some(0), ""), "{done:?}");
    let names: Vec<&str> = done.out.lines().filter_map(|line| line.split(' ').next()).collect();
    let now = KNOWN.iter().filter(|known| known.availability == Availability::Now);
    assert_eq!(names, now.map(|known| known.name).collect::<Vec<_>>());
    let has = |line: &str| {
        let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        done.out.lines().any(|printed| squeezed(printed) == line)
    };
    assert!(has("AI_CACHE_DEFAULT_TTL 120 (environment)"), "{done:?}");
    assert!(has("AI_CACHE_REDIS_URL [set] (environment (as REDIS_URL))"), "{done:?}");
    assert!(has("AI_CACHE_UPSTREAM_MODEL gpt-4o-mini (default)"), "{done:?}");
    assert!(!done.out.contains("pw"), "{done:?}");
}

#[tokio::test]
async fn config_check_tells_every_fault_on_a_line_of_its_own() {
    let variables =
        [("AI_CACHE_BIND", "nowhere"), ("AI_CACHE_DEFAULT_TTL", "soon"), ("AI_CACHE_WHAT", "5")];
    for arguments in [&["config", "check"][..], &["config", "check", "--json"], &["serve"]] {
        let done = Program::new().run(arguments, &variables).await;
        assert_eq!((done.code, &*done.out), (Some(2), ""), "{done:?}");
        let lines: Vec<&str> = done.err.lines().collect();
        assert_eq!(lines.len(), 3, "{done:?}");
        for (name, _) in variables {
            let beginning = format!("ai-cache: {name} ");
            let count = lines.iter().filter(|line| line.starts_with(&beginning)).count();
            assert_eq!(count, 1, "{name}: {done:?}");
        }
    }
}

#[tokio::test]
async fn an_unknown_setting_stops_the_start() {
    let variables = [("AI_CACHE_MEMORY_SIZE", "64")];
    let done = Program::new().run(&["serve"], &variables).await;
    let line = "AI_CACHE_MEMORY_SIZE is not a setting; did you mean AI_CACHE_MEMORY_SIZE_MB?";
    assert_eq!(done.refused(2), line);
}

fn key_file(program: &Program) -> String {
    program.path("keys").to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_file_that_the_service_cannot_read_stops_the_start() {
    let program = Program::unprivileged();
    let path = key_file(&program);
    let variables = [NOWHERE, ("AI_CACHE_MASTER_KEY_FILE", &path)];
    let done = program.run(&["serve"], &variables).await;
    let line = format!(
        "AI_CACHE_MASTER_KEY_FILE: the master key file {path} cannot be read: entity not found"
    );
    assert_eq!(done.refused(2), line);

    program.write("keys", MASTER_KEYS, 0o000);
    let done = program.run(&["serve"], &variables).await;
    let line = format!(
        "AI_CACHE_MASTER_KEY_FILE: the master key file {path} cannot be read: permission denied"
    );
    assert_eq!(done.refused(2), line);
}

#[rstest]
#[case(0o644, "0644")]
#[case(0o640, "0640")]
#[case(0o602, "0602")]
#[tokio::test]
async fn a_key_file_that_others_can_use_is_refused_by_its_mode(
    #[case] mode: u32,
    #[case] shown: &str,
) {
    let program = Program::unprivileged();
    program.write("keys", MASTER_KEYS, mode);
    let path = key_file(&program);
    let variables = [NOWHERE, ("AI_CACHE_MASTER_KEY_FILE", &path)];
    let done = program.run(&["serve"], &variables).await;
    let line = format!(
        "AI_CACHE_MASTER_KEY_FILE: the master key file {path} has mode {shown}; it must be 0600"
    );
    assert_eq!(done.refused(2), line);
}

/// W9: not even a wrong key is printed.
#[rstest]
#[case("s3cr3tmark")]
#[case("k1:s3cr3tmark")]
#[case("k1:s3cr3tmarks3cr3tmarks3cr3tmarks3cr3tmar=")]
#[case("K1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")]
#[case(
    "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=,k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
)]
#[case("k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZQ==")]
#[case(",")]
#[tokio::test]
async fn malformed_keys_are_refused_without_printing_them(#[case] keys: &str) {
    let rule = "master keys must be written id:base64 of 32 bytes, separated by commas or lines, \
                one of them with an id that does not begin with wrap-";
    let program = Program::new();
    let variables = [NOWHERE, ("AI_CACHE_MASTER_KEYS", keys)];
    let done = program.run(&["serve"], &variables).await;
    let beginning = "AI_CACHE_MASTER_KEYS must be id:base64 of 32 bytes, ";
    assert!(done.refused(2).starts_with(beginning), "{done:?}");
    assert!(!done.err.contains("s3cr3t") && !done.err.contains("MDEy"), "{done:?}");

    program.write("keys", keys, 0o600);
    let path = key_file(&program);
    let variables = [NOWHERE, ("AI_CACHE_MASTER_KEY_FILE", &path)];
    let done = program.run(&["serve"], &variables).await;
    assert_eq!(done.refused(2), format!("AI_CACHE_MASTER_KEY_FILE: {rule}"));
    assert!(!done.err.contains("s3cr3t") && !done.err.contains("MDEy"), "{done:?}");
}

#[tokio::test]
async fn a_database_of_ones_own_needs_master_keys_of_ones_own() {
    let program = Program::new();
    for command in [&["serve"][..], &["tenant", "list"]] {
        let done = program.run(command, &[NOWHERE]).await;
        assert_eq!(
            done.refused(2),
            "AI_CACHE_MASTER_KEY_FILE or AI_CACHE_MASTER_KEYS must be set together with DATABASE_URL"
        );
    }
    assert!(!program.path("data").exists(), "a data folder was made");
}

/// Issue 2 "Bad input": refused or never answered.
#[tokio::test]
async fn an_unreachable_postgres_is_told_in_one_line_within_six_seconds() {
    // Takes connections and says nothing.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let cases = [
        (free_port(), &["serve"][..]),
        (silent_port, &["serve"]),
        (free_port(), &["token", "list", "--tenant", "acme"]),
    ];
    for (port, command) in cases {
        let url = format!("postgres://app:pw@127.0.0.1:{port}/ai");
        let variables = [("DATABASE_URL", &*url), ("AI_CACHE_MASTER_KEYS", MASTER_KEYS)];
        let begun = Instant::now();
        let done = Program::new().run(command, &variables).await;
        let took = begun.elapsed();
        assert!(done.refused(3).starts_with("Postgres "), "{done:?}");
        assert!(took < Duration::from_secs(6), "{command:?} took {took:?}");
    }
}

#[rstest]
#[case("nobody_of_this_name", None)]
#[case("ai_cache_app", Some("no_database_of_this_name"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_or_database_that_postgres_does_not_know_is_told_as_such(
    #[case] role: &str,
    #[case] database: Option<&str>,
) {
    let db = TestDb::new().await;
    let mut url = db.url(role).await;
    if let Some(database) = database {
        url = url.replace(&format!("/{}?", db.name()), &format!("/{database}?"));
    }
    let variables = [("DATABASE_URL", &*url), ("AI_CACHE_MASTER_KEYS", MASTER_KEYS)];
    let done = Program::new().run(&["serve"], &variables).await;
    let line = done.refused(3);
    assert!(line.starts_with("Postgres refused the connection (SQLSTATE "), "{line}");
    assert!(line.contains("DATABASE_URL"), "{line}");
}

#[tokio::test]
async fn a_taken_port_is_told_in_one_line_before_anything_starts() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let program = Program::new();
    let done = program.run(&["serve"], &[("AI_CACHE_BIND", &address)]).await;
    let line = format!("AI_CACHE_BIND: cannot listen on {address}: the port is taken");
    assert_eq!(done.refused(2), line);
    assert!(!program.path("data").exists(), "a data folder was made");
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_made_is_told_in_one_line() {
    let program = Program::unprivileged();
    let closed = program.write("a-file", "", 0o600).join("data");
    let variables = [("AI_CACHE_DATA_DIR", closed.to_str().unwrap())];
    let done = program.run(&["serve"], &variables).await;
    let line = format!("cannot make {}: not a directory", closed.display());
    assert_eq!(done.refused(3), line);
}

/// Issue 2, 2: the service never runs as a role that could pass the walls.
#[rstest]
#[case("postgres", "is a superuser")]
#[case("ai_cache_owner", "owns tables")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_refuses_a_role_that_may_too_much(#[case] role: &str, #[case] fault: &str) {
    let db = TestDb::new().await;
    let url = db.url(role).await;
    let variables = [("DATABASE_URL", &*url), ("AI_CACHE_MASTER_KEYS", MASTER_KEYS)];
    let done = Program::new().run(&["serve"], &variables).await;
    let line = done.refused(2);
    assert!(line.starts_with(&format!("the database role {role} {fault}")), "{line}");
}
