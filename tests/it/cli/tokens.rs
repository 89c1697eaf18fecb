//! `ai-cache tenant …` and `ai-cache token …` (issue 2, 4; api.md "Command line").
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

use std::time::{Duration, Instant};

use ai_cache::domain::clock::{Clock, SystemClock};
use chrono::{DateTime, TimeDelta, Utc};
use rstest::rstest;
use serde_json::Value;
use uuid::Uuid;

use crate::support::{TestDb, wait_until};

use super::program::Program;

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

const CREATE_ACME: [&str; 6] = ["tenant", "create", "acme", "--name", "Acme & Söhne", "--json"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_made_once_and_listed() {
    let db = TestDb::new().await;
    let program = Program::new();

    let made = program.json_on(&db, &CREATE_ACME).await;
    assert_eq!(keys(&made), ["id", "name", "slug"]);
    assert_eq!((&made["slug"], &made["name"]), (&"acme".into(), &"Acme & Söhne".into()));
    let id: Uuid = made["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);

    let again = program.run_on(&db, &CREATE_ACME).await;
    assert_eq!(again.refused(1), "there is a tenant with that slug already");

    let listed = program.json_on(&db, &["tenant", "list", "--json"]).await;
    let slugs: Vec<&str> =
        listed.as_array().unwrap().iter().map(|row| row["slug"].as_str().unwrap()).collect();
    assert_eq!(slugs, ["acme", "installation"]);
    assert_eq!(listed[0], made);
    let text = program.run_on(&db, &["tenant", "list"]).await;
    assert_eq!(text.out.lines().count(), 2, "{text:?}");
    assert!(text.out.starts_with(&format!("{id}  acme  Acme & Söhne\n")), "{text:?}");

    // W10: one record for the tenant that was made, none for the one that was refused.
    let records =
        db.count("SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'tenant-create'").await;
    assert_eq!(records, 1);
}

/// Refused before anything is connected to.
#[rstest]
#[case(&["tenant", "create", "Acme", "--name", "x"], "a tenant's slug must be 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit")]
#[case(&["tenant", "create", "a_b", "--name", "x"], "a tenant's slug must be ")]
#[case(&["tenant", "create", "", "--name", "x"], "a tenant's slug must be ")]
#[case(&["tenant", "create", "acme", "--name", ""], "--name must be 1 to 200 bytes")]
#[case(&["token", "create", "--tenant", "A", "--role", "app"], "a tenant's slug must be ")]
#[case(&["token", "list", "--tenant", "A"], "a tenant's slug must be ")]
#[case(&["token", "revoke", "what"], "that is no token's id")]
#[tokio::test]
async fn bad_arguments_are_refused_in_one_line(#[case] arguments: &[&str], #[case] rule: &str) {
    let done = Program::new().run(arguments, &[]).await;
    assert!(done.refused(2).starts_with(rule), "{done:?}");
}

#[rstest]
#[case(&["--role", "root"], "must be app, admin, compliance or operator")]
#[case(&["--role", "app", "--expires-in", "soon"], "must be a number from 1 and s, m, h or d")]
#[case(&["--role", "app", "--expires-in", "0d"], "must be a number from 1")]
#[case(&["--role", "app", "--expires-in=-1d"], "must be a number from 1")]
#[case(&["--role", "app", "--expires-in", "3651d"], "at most ten years")]
#[case(&["--role", "app", "--expires-in", "9223372036854775807d"], "at most ten years")]
#[case(&["--role", "app", "--expires-in", "5ü"], "must be a number from 1")]
#[case(&["--role", "app", "--expires-in", ""], "--expires-in")]
#[tokio::test]
async fn a_bad_role_or_life_is_bad_usage(#[case] arguments: &[&str], #[case] rule: &str) {
    let create = ["token", "create", "--tenant", "acme"];
    let done = Program::new().run(&[&create, arguments].concat(), &[]).await;
    assert_eq!((done.code, &*done.out), (Some(2), ""), "{done:?}");
    assert!(done.err.contains(rule), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_makes_the_exit_code_1() {
    let db = TestDb::new().await;
    let program = Program::new();
    let create = ["token", "create", "--tenant", "nobody", "--role", "app"];
    let unknown = "there is no such tenant";
    assert_eq!(program.run_on(&db, &create).await.refused(1), unknown);
    let list = ["token", "list", "--tenant", "nobody"];
    assert_eq!(program.run_on(&db, &list).await.refused(1), unknown);
    let revoke = ["token", "revoke", "01a1fb6d-ce90-7107-a3e0-6315ce55779a"];
    let unknown = "there is no such token";
    assert_eq!(program.run_on(&db, &revoke).await.refused(1), unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_shown_once_with_roles_and_end_and_listed_without_its_secret() {
    let db = TestDb::new().await;
    let program = Program::new();
    program.json_on(&db, &CREATE_ACME).await;
    let create =
        ["token", "create", "--tenant", "acme", "--role", "app", "--role", "admin", "--json"];

    let before = SystemClock.now();
    let made = program.json_on(&db, &[&create[..], &["--expires-in", "90d"]].concat()).await;
    let after = SystemClock.now();
    assert_eq!(keys(&made), ["expiresAt", "id", "roles", "tenant", "token"]);
    assert_eq!(made["tenant"], "acme");
    assert_eq!(made["roles"], serde_json::json!(["app", "admin"]));
    let end = time(&made["expiresAt"]) - TimeDelta::days(90);
    let slack = TimeDelta::seconds(1);
    assert!(before - slack <= end && end <= after + slack, "{made}");
    let text = made["token"].as_str().unwrap();
    assert!(text.starts_with("aic_"), "{text}");

    let endless = program.json_on(&db, &create).await;
    assert_eq!(endless["expiresAt"], Value::Null);

    let listed = program.json_on(&db, &["token", "list", "--tenant", "acme", "--json"]).await;
    let rows = listed.as_array().unwrap();
    assert_eq!(rows.len(), 2, "{listed}");
    for row in rows {
        assert_eq!(keys(row), ["createdAt", "expiresAt", "id", "revokedAt", "roles"]);
        assert_eq!(row["revokedAt"], Value::Null);
    }
    let secret = text.splitn(3, '_').nth(2).unwrap();
    assert!(!listed.to_string().contains(secret));
    let shown = program.run_on(&db, &["token", "list", "--tenant", "acme"]).await;
    assert!(shown.out.contains("app+admin  no end"), "{shown:?}");
    assert!(shown.out.contains("app+admin  until "), "{shown:?}");

    let text = program.run_on(&db, &create[..8]).await;
    assert_eq!(text.out.lines().count(), 2, "{text:?}");
    assert!(text.out.lines().last().unwrap().starts_with("aic_"), "{text:?}");
}

/// Issue 2, 4: what the command line makes works on a running service, and what it revokes stops
/// there within 2.5 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_works_on_a_running_service_until_the_command_line_revokes_it() {
    let db = TestDb::new().await;
    let program = Program::new();
    let serving = program.serve_on(&db).await;
    program.json_on(&db, &CREATE_ACME).await;
    let create = ["token", "create", "--tenant", "acme", "--role", "admin", "--json"];
    let token = program.json_on(&db, &create).await;
    let id = token["id"].as_str().unwrap();
    let caller = serving.client().with_token(token["token"].as_str().unwrap());
    let statistics = "/api/ai-cache/statistics";
    caller.get(statistics).await.expect(200);
    // Remembered now: the next request would not look at the database for it.
    caller.get(statistics).await.expect(200);

    let revoked = program.json_on(&db, &["token", "revoke", id, "--json"]).await;
    let begun = Instant::now();
    assert_eq!(revoked, serde_json::json!({ "id": id, "revoked": true }));
    wait_until("the revoked token is refused", async || {
        let reply = caller.get(statistics).await;
        (reply.status == 401).then_some(())
    })
    .await;
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(2_500), "refused after {took:?}");

    let listed = program.json_on(&db, &["token", "list", "--tenant", "acme", "--json"]).await;
    assert!(time(&listed[0]["revokedAt"]) <= SystemClock.now(), "{listed}");
    assert_eq!(serving.stop().await, Some(0));
}

/// api.md "Authentication": operator tokens come from the command line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_token_of_the_command_line_makes_tenants_over_http() {
    let db = TestDb::new().await;
    let program = Program::new();
    let serving = program.serve_on(&db).await;
    let create = ["token", "create", "--tenant", "installation", "--role", "operator", "--json"];
    let token = program.json_on(&db, &create).await;
    assert_eq!(token["roles"], serde_json::json!(["operator"]));

    let cheap = "SELECT count(*) FROM api_tokens
                 WHERE secret_hash NOT LIKE '$argon2id$v=19$m=19456,t=2,p=1$%'";
    assert_eq!(db.count(cheap).await, 0, "the program hashes at full cost");

    let operator = serving.client().with_token(token["token"].as_str().unwrap());
    let body = serde_json::json!({ "slug": "bloom", "name": "Bloom" });
    operator.post("/api/ai-cache/admin/tenants", &body).await.expect(201);

    let listed = program.json_on(&db, &["tenant", "list", "--json"]).await;
    assert_eq!(listed[0]["slug"], "bloom", "{listed}");
    assert_eq!(serving.stop().await, Some(0));
}
