//! Reading the trail over HTTP: filters, walls, roles, and the record of the reading (issue 3).

use std::collections::BTreeSet;
use std::sync::Arc;

use ai_cache::domain::audit_row::AuditRow;
use ai_cache::domain::caller::Role;
use ai_cache::domain::clock::{Clock, SystemClock};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::program::Program;
use crate::support::{Client, Tenant, TestApp, TestClock, TestDb};

use super::trail_pages::add_rows;

pub const AUDIT: &str = "/api/ai-cache/audit";
const SUBJECT: &str = "quokkaquartz-couple-4711";

/// A time as a filter takes it.
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The records of one page.
pub async fn read(caller: &Client, parameters: &str) -> Vec<AuditRow> {
    let reply = caller.get(&format!("{AUDIT}?limit=1000&{parameters}")).await.expect(200);
    assert_eq!(reply.body["nextCursor"], Value::Null);
    serde_json::from_value(reply.body["records"].clone()).unwrap()
}

fn ids(rows: &[AuditRow]) -> BTreeSet<Uuid> {
    rows.iter().map(|row| row.id.0).collect()
}

async fn ask_about(tenant: &Tenant, query: &str, subject: &str) -> String {
    let body = json!({ "query": query, "subjectId": subject });
    tenant.app.query(&body).await.expect(200).body["entryId"].as_str().unwrap().to_owned()
}

/// A filter and whether it names a record.
type Case = (String, Box<dyn Fn(&AuditRow) -> bool>);

/// Requests of several kinds by several callers; the time after them.
async fn traffic(tenant: &Tenant) -> DateTime<Utc> {
    ask_about(tenant, "mine", SUBJECT).await;
    ask_about(tenant, "mine", SUBJECT).await;
    ask_about(tenant, "mine", "somebody else").await;
    tenant.app.ask("anybody's").await.expect(200);
    tenant.app.ask("anybody's").await.expect(200);
    tenant.admin.get("/api/ai-cache/entries").await.expect(200);
    tenant.app.get("/api/ai-cache/entries").await.expect(403);
    tenant.app.ask("").await.expect(422);
    SystemClock.now()
}

/// api.md: each filter alone and two together give those records of the whole trail that it names,
/// and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_filter_gives_exactly_the_records_it_names() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let until = time(traffic(&tenant).await);
    let all = read(&tenant.compliance, &format!("to={until}")).await;
    let in_database = format!(
        "SELECT count(*) FROM ai_cache_audit_logs
         WHERE tenant_id = '{}' AND occurred_at < '{until}'",
        tenant.id
    );
    assert_eq!(i64::try_from(all.len()).unwrap(), app.db.count(&in_database).await);
    let miss = all.iter().find(|row| row.outcome == "stored").unwrap();
    let (token, entry) = (miss.actor.token_id.unwrap(), miss.entry_id.unwrap());
    let request = miss.request_id;
    let cases: Vec<Case> = vec![
        ("action=query".into(), Box::new(|row| row.action == "query")),
        ("action=fill".into(), Box::new(|row| row.action == "fill")),
        ("action=entry-list".into(), Box::new(|row| row.action == "entry-list")),
        ("action=tenant-update".into(), Box::new(|row| row.action == "tenant-update")),
        ("actor=token".into(), Box::new(|row| row.actor.kind == "token")),
        ("actor=service".into(), Box::new(|row| row.actor.kind == "service")),
        ("actor=command-line".into(), Box::new(|row| row.actor.kind == "command-line")),
        ("actor=anonymous".into(), Box::new(|row| row.actor.kind == "anonymous")),
        (format!("actor={token}"), Box::new(move |row| row.actor.token_id == Some(token))),
        (format!("entryId={entry}"), Box::new(move |row| row.entry_id == Some(entry))),
        (format!("requestId={request}"), Box::new(move |row| row.request_id == request)),
        (
            format!("requestId={request}&action=fill"),
            Box::new(move |row| row.request_id == request && row.action == "fill"),
        ),
        (format!("from={}", time(miss.occurred_at)), {
            let from = miss.occurred_at;
            Box::new(move |row| row.occurred_at >= from)
        }),
    ];
    let mut empty = 0;
    for (filter, names) in cases {
        let expected: Vec<AuditRow> = all.iter().filter(|row| names(row)).cloned().collect();
        empty += usize::from(expected.is_empty());
        let found = read(&tenant.compliance, &format!("to={until}&{filter}")).await;
        assert_eq!(found, expected, "{filter}");
    }
    assert_eq!(empty, 2, "only tenant-update and anonymous name nothing");
    app.stop().await;
}

/// Half-open and exact to the microsecond, though ids tell milliseconds only; in every class.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_range_holds_its_beginning_and_not_its_end() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let begin: DateTime<Utc> = "2026-01-31T23:59:59.998500Z".parse().unwrap();
    let steps = [0, 1, 499, 500, 501, 999, 1_000, 1_499, 1_500, 1_501, 2_500];
    let times: Vec<_> = steps.map(|step| begin + TimeDelta::microseconds(step)).to_vec();
    for at in &times {
        add_rows(&app.db, tenant.id, *at, 4).await; // one of each class
    }
    let mut tried = 0;
    for (first, from) in times.iter().enumerate() {
        for (end, to) in times.iter().enumerate().skip(first) {
            let filter = format!("from={}&to={}", time(*from), time(*to));
            let found = read(&tenant.compliance, &filter).await;
            let within: BTreeSet<_> = found.iter().map(|row| row.occurred_at).collect();
            assert_eq!(within, times[first..end].iter().copied().collect(), "{filter}");
            assert_eq!(found.len(), 4 * (end - first), "{filter}");
            tried += 1;
        }
    }
    assert_eq!(tried, 66);
    app.stop().await;
}

/// api.md: a person is found by the random name of the person's key, by nobody else's; the person's
/// own id is in no record, no reply and no log line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_found_without_being_named() {
    let db = TestDb::new().await;
    let program = Program::new();
    let upstream = crate::support::upstream::TestUpstream::start().await;
    let url = db.app_url().await;
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("AI_CACHE_MASTER_KEYS", crate::support::app::MASTER_KEYS),
        ("AI_CACHE_UPSTREAM", "openai"),
        ("AI_CACHE_UPSTREAM_URL", upstream.url()),
        ("AI_CACHE_LOG", "trace"),
    ];
    let create = ["tenant", "create", "acme", "--name", "Acme", "--json"];
    program.json_on(&db, &create).await;
    let create = ["token", "create", "--tenant", "acme", "--role", "app", "--role", "compliance"];
    let token = program.json_on(&db, &[&create[..], &["--json"]].concat()).await;
    let serving = program.serve(&variables).await;
    let caller = serving.client().with_token(token["token"].as_str().unwrap());
    for (query, subject) in [("one", SUBJECT), ("two", SUBJECT), ("one", "somebody else")] {
        let asked = json!({ "query": query, "subjectId": subject });
        caller.query(&asked).await.expect(200);
    }
    let about = |subject: &str| format!("subjectId={subject}");
    let found = read(&caller, &about(SUBJECT)).await;
    let names: BTreeSet<_> = found.iter().map(|row| row.subject_key_id).collect();
    assert!(names.len() == 1 && !names.contains(&None), "{names:?}");
    // Two questions with their fills, and the making of the key.
    assert_eq!(found.len(), 5);
    let again = read(&caller, &about(SUBJECT)).await;
    assert_eq!(again[0].action, "audit-read", "reading about a person is about that person");
    assert_eq!(again[1..], found);
    let other = read(&caller, &about("somebody%20else")).await;
    assert_eq!(other.len(), 3);
    assert!(ids(&other).is_disjoint(&ids(&again)));
    assert_eq!(read(&caller, &about("never-named")).await, []);
    let made = "SELECT count(*) FROM subject_keys";
    assert_eq!(db.count(made).await, 2, "asking about a person makes no key");
    let export = caller.get(&format!("{AUDIT}/export?subjectId={SUBJECT}")).await.expect(200);
    assert_eq!(export.text.lines().count(), 8, "with two readings and the export itself");
    let marked = format!(
        "SELECT count(*) FROM ai_cache_audit_logs a WHERE to_jsonb(a)::text LIKE '%{SUBJECT}%'"
    );
    assert_eq!(db.count(&marked).await, 0);
    let log = serving.log();
    assert!(log.contains("audit"), "trace lines are there");
    assert!(!log.contains(SUBJECT) && !export.text.contains(SUBJECT));
    assert_eq!(serving.stop().await, Some(0));
}

/// G5: nothing of another tenant is seen, by whatever filter or cursor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trail_shows_its_own_tenant_only() {
    let app = TestApp::start().await;
    let (ours, theirs) = (app.tenant("ours").await, app.tenant("theirs").await);
    for tenant in [&ours, &theirs] {
        traffic(tenant).await;
    }
    ask_about(&theirs, "q", "theirs-alone").await;
    let foreign = read(&theirs.compliance, "").await;
    let of_theirs = |row: &&AuditRow| row.outcome == "stored";
    let theirs_row = foreign.iter().find(of_theirs).unwrap();
    let mut tried = 0;
    for filter in [
        String::new(),
        format!("actor={}", theirs_row.actor.token_id.unwrap()),
        format!("entryId={}", theirs_row.entry_id.unwrap()),
        format!("requestId={}", theirs_row.request_id),
        "subjectId=theirs-alone".to_owned(),
        format!("subjectId={SUBJECT}"),
        format!("cursor={}", theirs_row.id),
    ] {
        let seen = read(&ours.compliance, &filter).await;
        assert!(seen.iter().all(|row| row.tenant_id == ours.id), "{filter}");
        tried += 1;
        let is_foreign = filter.contains("theirs-alone") || filter.contains("actor=");
        if is_foreign || filter.starts_with("entryId") || filter.starts_with("requestId") {
            assert_eq!(seen, [], "{filter}");
            continue;
        }
        assert!(!seen.is_empty(), "{filter}");
        if !filter.contains("cursor") {
            let export = ours.compliance.get(&format!("{AUDIT}/export?{filter}")).await.expect(200);
            let lines: Vec<AuditRow> =
                export.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert!(lines.iter().all(|row| row.tenant_id == ours.id), "{filter}");
        }
    }
    assert_eq!(tried, 7);
    app.stop().await;
}

/// api.md: the role compliance alone, whatever else a token may do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_compliance_reads_the_trail() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let rest = app.token(tenant.id, &[Role::App, Role::Admin, Role::Operator]).await;
    let operator = app.operator().await;
    for caller in [&tenant.app, &tenant.admin, &operator, &app.client.with_token(&rest)] {
        for path in [AUDIT.to_owned(), format!("{AUDIT}/export")] {
            let refused = caller.get(&path).await.expect(403);
            let recorded = refused.header("x-audit-id").unwrap();
            let denied = format!(
                "SELECT count(*) FROM ai_cache_audit_logs WHERE id = '{recorded}'
                 AND outcome = 'denied' AND action IN ('audit-read', 'audit-export')"
            );
            assert_eq!(app.db.count(&denied).await, 1);
        }
    }
    app.stop().await;
}

/// W10: who read how much is durable when the reply is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_the_trail_is_in_the_trail() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(Arc::clone(&clock) as _).start().await;
    let tenant = app.tenant("acme").await;
    traffic(&tenant).await;
    let page = tenant.compliance.get(&format!("{AUDIT}?limit=3")).await.expect(200);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let id = page.header("x-audit-id").unwrap();
    let recorded = format!(
        "SELECT count(*) FROM ai_cache_audit_logs WHERE id = '{id}' AND action = 'audit-read'
         AND outcome = 'done' AND status = 200 AND item_count = 3 AND actor_roles = 'compliance'"
    );
    assert_eq!(app.db.count(&recorded).await, 1);
    let shown = read(&tenant.compliance, "action=audit-read").await;
    assert_eq!(ids(&shown), BTreeSet::from([id.parse().unwrap()]));
    app.stop().await;
}

/// api.md: a parameter that breaks a rule is named, an unknown one too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_parameters_are_refused_by_name() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let both = [
        ("from=yesterday", "/from"),
        ("from=2026-01-01", "/from"),
        ("to=2026-13-01T00:00:00Z", "/to"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "/to"),
        ("action=steal", "/action"),
        ("action=Query", "/action"),
        ("actor=root", "/actor"),
        ("actor=", "/actor"),
        ("subjectId=", "/subjectId"),
        ("subjectId=%20", "/subjectId"),
        ("entryId=1", "/entryId"),
        ("requestId=x", "/requestId"),
        ("tenantId=01890000-0000-7000-8000-000000000000", "/tenantId"),
        ("subject=x", "/subject"),
    ];
    for (parameters, pointer) in both {
        for path in [AUDIT.to_owned(), format!("{AUDIT}/export")] {
            let reply = tenant.compliance.get(&format!("{path}?{parameters}")).await.expect(422);
            assert_eq!(reply.pointers(), [pointer], "{path}?{parameters}");
        }
    }
    for (path, pointer) in [
        (format!("{AUDIT}?limit=0"), "/limit"),
        (format!("{AUDIT}?limit=1001"), "/limit"),
        (format!("{AUDIT}?limit=ten"), "/limit"),
        (format!("{AUDIT}?cursor=1"), "/cursor"),
        (format!("{AUDIT}/export?cursor=01890000-0000-7000-8000-000000000000"), "/cursor"),
        (format!("{AUDIT}/export?limit=10"), "/limit"),
    ] {
        let reply = tenant.compliance.get(&path).await.expect(422);
        assert_eq!(reply.pointers(), [pointer], "{path}");
    }
    app.stop().await;
}
