//! `ai-cache audit export` and `verify` (issue 3, api.md "Command line").
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

use std::fs;

use ai_cache::domain::audit_row::AuditRow;
use ai_cache::domain::clock::{Clock, SystemClock};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::TestDb;
use crate::support::folders::scratch;

use super::program::{Done, Program};

const EXPORT: [&str; 2] = ["audit", "export"];

fn rows(done: &Done) -> Vec<AuditRow> {
    assert_eq!(done.code, Some(0), "{done:?}");
    done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One tenant's trail, or every tenant's; from and to; and each export is recorded at both ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trail_is_printed_line_by_line_and_that_is_recorded() {
    let db = TestDb::new().await;
    let program = Program::new();
    let acme =
        program.json_on(&db, &["tenant", "create", "acme", "--name", "Acme", "--json"]).await;
    program.json_on(&db, &["tenant", "create", "bloom", "--name", "Bloom", "--json"]).await;
    let between = SystemClock.now().to_rfc3339();
    let token = ["token", "create", "--tenant", "acme", "--role", "app", "--json"];
    program.json_on(&db, &token).await;

    let of_acme = rows(&program.run_on(&db, &[&EXPORT[..], &["--tenant", "acme"]].concat()).await);
    let actions: Vec<&str> = of_acme.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(actions[actions.len() - 2..], ["token-create", "audit-export"]);
    assert!(of_acme.iter().all(|row| row.tenant_id.to_string() == acme["id"]), "{of_acme:?}");
    assert!(of_acme.is_sorted_by_key(|row| row.id));
    let ends = "SELECT item_count FROM ai_cache_audit_logs WHERE action = 'audit-export-end'
                AND outcome = 'done' AND actor_kind = 'command-line'";
    assert_eq!(db.count(ends).await, i64::try_from(of_acme.len()).unwrap());

    let narrowed = [&EXPORT[..], &["--tenant", "acme", "--from", &between]].concat();
    let later = rows(&program.run_on(&db, &narrowed).await);
    assert_eq!(later[0].action, "token-create");
    let narrowed = [&EXPORT[..], &["--tenant", "acme", "--to", &between]].concat();
    let earlier = rows(&program.run_on(&db, &narrowed).await);
    assert!(!earlier.is_empty() && earlier.iter().all(|row| row.action != "token-create"));

    let all = rows(&program.run_on(&db, &EXPORT).await);
    let mut tenants: Vec<_> = all.iter().map(|row| row.tenant_id).collect();
    tenants.dedup();
    assert_eq!(tenants.len(), 3, "acme, bloom and the installation, one after the other");
    let begun = "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'audit-export'";
    assert_eq!(db.count(begun).await, 6);
    let ended = "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'audit-export-end'";
    assert_eq!(db.count(ended).await, 6);
    // Everything but what the last export wrote at its ends after it had read.
    let stored = db.count("SELECT count(*) FROM ai_cache_audit_logs").await;
    assert_eq!(i64::try_from(all.len()).unwrap(), stored - 3);
}

#[rstest]
#[case(&["--tenant", "A"], "a tenant's slug must be ")]
#[case(&["--from", "yesterday"], "must be a time of RFC 3339")]
#[case(&["--to", "2026-01-01"], "must be a time of RFC 3339")]
#[case(
    &["--from", "2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z"],
    "--to must not be before --from"
)]
#[tokio::test]
async fn bad_arguments_are_bad_usage(#[case] arguments: &[&str], #[case] rule: &str) {
    let done = Program::new().run(&[&EXPORT, arguments].concat(), &[]).await;
    assert_eq!((done.code, &*done.out), (Some(2), ""), "{done:?}");
    assert!(done.err.contains(rule), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trail_of_an_unknown_tenant_makes_the_exit_code_1() {
    let db = TestDb::new().await;
    let done = Program::new().run_on(&db, &[&EXPORT[..], &["--tenant", "nobody"]].concat()).await;
    assert_eq!(done.refused(1), "there is no such tenant");
}

fn verified(done: &Done, code: i32) -> Value {
    assert_eq!((done.code, &*done.err), (Some(code), ""), "{done:?}");
    serde_json::from_str(&done.out).unwrap()
}

/// The exit code says whether something is wrong; findings say what and where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_row_is_found_in_the_database_and_in_its_export() {
    let db = TestDb::new().await;
    let program = Program::new();
    program.json_on(&db, &["tenant", "create", "acme", "--name", "Acme", "--json"]).await;
    let verify = ["audit", "verify", "--json"];
    let clean = verified(&program.run_on(&db, &verify).await, 0);
    assert_eq!((&clean["ok"], &clean["findings"]), (&json!(true), &json!([])), "{clean}");
    assert!(clean["rows"].as_u64().unwrap() >= 2, "{clean}");

    let export = scratch("export").join("trail.ndjson");
    let offline = ["audit", "verify", "--json", "--offline", export.to_str().unwrap()];
    fs::write(&export, program.run_on(&db, &EXPORT).await.out).unwrap();
    let whole = verified(&program.run_on(&db, &offline).await, 0);
    assert_eq!(whole["ok"], true);
    // A record told twice, with a number and without one, and one with something added.
    let lines = fs::read_to_string(&export).unwrap();
    for (line, kind) in lines.lines().flat_map(|line| [(line, "ROW_EXTRA"), (line, "ROW_ALTERED")])
    {
        let spoilt = match kind {
            "ROW_EXTRA" => lines.replace(line, &format!("{line}\n{line}")),
            _ => lines.replace(line, &line.replacen('{', "{\"note\":1,", 1)),
        };
        fs::write(&export, spoilt).unwrap();
        let found = verified(&program.run_on(&db, &offline).await, 1);
        assert_eq!(found["kinds"], json!({ kind: 1 }), "{line}");
    }

    let change = "UPDATE ai_cache_audit_logs SET status = status + 1
                  WHERE action = 'tenant-create' RETURNING id::text";
    let changed: String = db.superuser().await.query_one(change, &[]).await.unwrap().get(0);
    let wanted = json!([{ "kind": "ROW_ALTERED", "where": format!("row {changed}"),
                          "detail": "its fields do not give its hash" }]);
    let broken = verified(&program.run_on(&db, &verify).await, 1);
    assert_eq!((&broken["ok"], &broken["findings"]), (&json!(false), &wanted));
    fs::write(&export, program.run_on(&db, &EXPORT).await.out).unwrap();
    let broken = verified(&program.run_on(&db, &offline).await, 1);
    assert_eq!(broken["findings"], wanted);

    let other = ["audit", "verify", "--json", "--tenant", "installation"];
    assert_eq!(verified(&program.run_on(&db, &other).await, 0)["ok"], true, "not its rows");
    fs::write(&export, "").unwrap();
    verified(&program.run_on(&db, &offline).await, 2);
    fs::write(&export, "{}\n").unwrap();
    let broken = verified(&program.run_on(&db, &offline).await, 1);
    assert_eq!(broken["findings"][0]["where"], "line 1");
}
