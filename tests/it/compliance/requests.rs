//! Requests of data subjects: filed once however often they are sent, moved by the table of states
//! alone, walled off by tenant (issue 5; G1, G5).

use std::collections::BTreeSet;
use std::sync::Arc;

use ai_cache::domain::caller::Role;
use ai_cache::domain::clock::Clock;
use ai_cache::domain::gdpr::{RequestEvent, RequestState};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::api::open::series;
use crate::support::{Client, Tenant, TestApp, TestClock, TestDb, wait_until};

pub const REQUESTS: &str = "/api/ai-cache/gdpr/requests";

/// Makes the body of a filing about a person.
pub fn filing(kind: &str, subject: &str) -> Value {
    json!({ "type": kind, "subjectId": subject, "reason": "the person asked by letter" })
}

/// Files a request; its id.
pub async fn file(caller: &Client, kind: &str, subject: &str) -> String {
    let filed = caller.post(REQUESTS, &filing(kind, subject)).await.expect(202);
    filed.body["id"].as_str().unwrap().to_owned()
}

/// Waits until a request is in a state; what is told of it then.
pub async fn wait_for(caller: &Client, id: &str, state: &str) -> Value {
    wait_until("the request is executed", || async {
        let shown = caller.get(&format!("{REQUESTS}/{id}")).await.expect(200).body;
        (shown["state"] == state).then_some(shown)
    })
    .await
}

async fn records(db: &TestDb, id: &str, action: &str) -> i64 {
    db.count(&format!(
        "SELECT count(*) FROM ai_cache_audit_logs
         WHERE object_id = '{id}' AND action = '{action}' AND outcome = 'done' AND status = 0"
    ))
    .await
}

/// Nobody executes anything, nor goes on with what a hold cut short: requests stay as a test puts them.
async fn occupy(db: &TestDb) {
    let taken = "CREATE FUNCTION occupied() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN NEW.lease_until := 'infinity'; RETURN NEW; END $$;
                 CREATE TRIGGER occupied BEFORE INSERT OR UPDATE ON ai_cache_gdpr_requests
                 FOR EACH ROW EXECUTE FUNCTION occupied();
                 INSERT INTO legal_holds (tenant_id, hold_id, from_at, reason_sealed, set_at)
                 SELECT tenant_id, gen_random_uuid(), now(), '', now() FROM tenants";
    db.superuser().await.batch_execute(taken).await.unwrap();
}

async fn ask_for_approval(app: &TestApp, slug: &str) {
    let path = format!("/api/ai-cache/admin/tenants/{slug}");
    let change = json!({ "gdprApproval": true });
    app.operator().await.send_json("PATCH", &path, &change).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_filed_a_hundred_times_at_once_is_one() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let caller = tenant.compliance.with_header("idempotency-key", "letter-17");
    let body = filing("restrict", "couple-1");

    // A service that is too busy says so, and the key makes repeating safe.
    let send = || {
        wait_until("the request is filed", || async {
            let reply = caller.post(REQUESTS, &body).await;
            (reply.status != 503).then(|| reply.expect(202).body["id"].to_string())
        })
    };
    let ids: BTreeSet<String> = join_all((0..100).map(|_| send())).await.into_iter().collect();
    let id = ids.first().unwrap().trim_matches('"').to_owned();
    wait_for(&tenant.compliance, &id, "completed").await;
    let rows = app.db.count("SELECT count(*) FROM ai_cache_gdpr_requests").await;
    let mut told = Vec::new();
    for action in ["gdpr-file", "gdpr-accept", "gdpr-begin", "restrict", "gdpr-complete"] {
        told.push(records(&app.db, &id, action).await);
    }
    println!("100 filings: {} ids, {rows} rows, records of each change {told:?}", ids.len());
    assert_eq!((ids.len(), rows, told), (1, 1, vec![1; 5]));

    let other = caller.post(REQUESTS, &filing("restrict", "couple-2")).await.expect(422);
    assert_eq!(other.problem(), "invalid-field");
    let other = tenant.compliance.with_header("idempotency-key", "letter-18");
    let new = other.post(REQUESTS, &body).await.expect(202);
    assert_ne!(new.body["id"].as_str(), Some(&*id));
    app.stop().await;
}

/// Exactly these lead anywhere; the table in words of its own.
fn expected(state: RequestState, event: RequestEvent) -> Option<RequestState> {
    use RequestEvent as E;
    use RequestState as S;
    let table = [
        (S::Received, E::Accept, S::Approved),
        (S::Received, E::AskApproval, S::AwaitingApproval),
        (S::Received, E::Cancel, S::Cancelled),
        (S::Received, E::Extend, S::Received),
        (S::AwaitingApproval, E::Approve, S::Approved),
        (S::AwaitingApproval, E::Reject, S::Rejected),
        (S::AwaitingApproval, E::Cancel, S::Cancelled),
        (S::AwaitingApproval, E::Extend, S::AwaitingApproval),
        (S::Approved, E::Begin, S::Executing),
        (S::Approved, E::Cancel, S::Cancelled),
        (S::Approved, E::Extend, S::Approved),
        (S::Executing, E::Begin, S::Executing),
        (S::Executing, E::Complete, S::Completed),
        (S::Executing, E::CompletePartially, S::PartiallyCompleted),
        (S::Executing, E::Fail, S::Failed),
        (S::Executing, E::Extend, S::Executing),
        (S::Failed, E::Approve, S::Approved),
        (S::PartiallyCompleted, E::Resume, S::Approved),
    ];
    table.into_iter().find(|(from, by, _)| (*from, *by) == (state, event)).map(|(.., to)| to)
}

#[test]
fn the_table_of_states_is_exactly_this() {
    for state in RequestState::ALL {
        for event in RequestEvent::ALL {
            assert_eq!(state.after(*event), expected(*state, *event), "{state:?} {event:?}");
        }
    }
}

/// Each state with each action over HTTP: what the table does not take is a 409 and changes nothing,
/// neither the request nor its history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_state_takes_exactly_the_actions_of_the_table() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    occupy(&app.db).await;
    let owner = app.db.superuser().await;
    let second = app.token(tenant.id, &[Role::Compliance]).await;
    let second = app.client.with_token(&second);
    let actions = [
        ("approve", RequestEvent::Approve),
        ("reject", RequestEvent::Reject),
        ("cancel", RequestEvent::Cancel),
        ("extend", RequestEvent::Extend),
    ];
    let (mut taken, mut refused) = (0, 0);
    for state in RequestState::ALL {
        for (action, event) in actions {
            let id = file(&tenant.compliance, "erase", "couple-1").await;
            let name = state.name();
            let put = format!(
                "UPDATE ai_cache_gdpr_requests SET state = '{name}' WHERE request_id = '{id}'"
            );
            owner.batch_execute(&put).await.unwrap();
            let row = format!(
                "SELECT count(*) FROM ai_cache_gdpr_requests r WHERE request_id = '{id}'
                 AND state = '{name}' AND extended_at IS NULL AND decided_by IS NULL
                 AND (SELECT count(*) FROM gdpr_events e WHERE e.request_id = r.request_id) = 1"
            );
            let path = format!("{REQUESTS}/{id}/{action}");
            let reply = second.post(&path, &json!({ "reason": "decided" })).await;
            if let Some(next) = expected(*state, event) {
                assert_eq!(reply.expect(200).body["state"], next.name(), "{name} {action}");
                assert_eq!(app.db.count(&row).await, 0, "{name} {action}");
                taken += 1;
            } else {
                assert_eq!(reply.expect(409).problem(), "conflict", "{name} {action}");
                assert_eq!(app.db.count(&row).await, 1, "{name} {action}");
                refused += 1;
            }
        }
    }
    println!("{taken} taken, {refused} refused with nothing changed");
    assert_eq!((taken, refused), (10, 26));
    app.stop().await;
}

/// While replicas of two releases run: the older one shows the request, and leaves it to the newer one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_a_step_of_a_later_release_is_shown_and_waits_for_it() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    ask_for_approval(&app, "acme").await;
    let id = file(&tenant.compliance, "restrict", "couple-1").await;
    let superuser = app.db.superuser().await;
    let later =
        "UPDATE ai_cache_gdpr_requests SET step = 'of-later', counts = '{\"of\": \"later\"}'";
    superuser.batch_execute(later).await.unwrap();
    let listed = tenant.compliance.get(REQUESTS).await.expect(200).body;
    assert_eq!(listed["requests"][0]["id"], id.as_str());

    let second = app.token(tenant.id, &[Role::Compliance]).await;
    let approve = format!("{REQUESTS}/{id}/approve");
    app.client.with_token(&second).post(&approve, &json!({})).await.expect(200);
    wait_for(&tenant.compliance, &id, "executing").await;
    wait_until("the request is given back", || async {
        let given_back = "SELECT count(*) FROM ai_cache_gdpr_requests
                          WHERE state = 'executing' AND lease_holder IS NULL AND attempts = 0";
        (app.db.count(given_back).await == 1).then_some(())
    })
    .await;
    assert_eq!(records(&app.db, &id, "restrict").await, 0);

    let known = "UPDATE ai_cache_gdpr_requests SET step = NULL, counts = NULL";
    superuser.batch_execute(known).await.unwrap();
    wait_for(&tenant.compliance, &id, "completed").await;
    app.stop().await;
}

/// Four eyes: who filed it may not approve it; until somebody else does, nothing is executed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_tenant_asks_for_it_somebody_else_must_approve() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    ask_for_approval(&app, "acme").await;
    let id = file(&tenant.compliance, "restrict", "couple-1").await;
    let path = format!("{REQUESTS}/{id}");
    let shown = tenant.compliance.get(&path).await.expect(200).body;
    assert_eq!(shown["state"], "awaiting_approval");
    assert_eq!(app.rooms().compliance.work_on_requests().await.unwrap(), 0);

    let approve = format!("{path}/approve");
    tenant.compliance.post(&approve, &json!({})).await.expect(403);
    assert_eq!(tenant.compliance.get(&path).await.expect(200).body["state"], "awaiting_approval");
    let second = app.token(tenant.id, &[Role::Compliance]).await;
    app.client.with_token(&second).post(&approve, &json!({})).await.expect(200);
    let shown = wait_for(&tenant.compliance, &id, "completed").await;
    let history: Vec<&str> = shown["history"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect();
    assert_eq!(history, ["ask-approval", "approve", "begin", "complete"]);

    let id = file(&tenant.compliance, "erase", "couple-2").await;
    let second = app.client.with_token(&second);
    let reject = format!("{REQUESTS}/{id}/reject");
    assert_eq!(second.post(&reject, &json!({})).await.expect(422).pointers(), ["/reason"]);
    let rejected = second.post(&reject, &json!({ "reason": "not the person" })).await.expect(200);
    assert_eq!(rejected.body["history"][1]["reason"], "not the person");
    app.stop().await;
}

/// Extended once, for a reason, before it is due; days are counted where the tenant is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_extended_once_and_before_it_is_due() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(clock.clone()).start().await;
    let tenant = app.tenant("acme").await;
    occupy(&app.db).await;
    let zone = json!({ "timeZone": "Europe/Berlin" });
    let path = "/api/ai-cache/admin/tenants/acme";
    app.operator().await.send_json("PATCH", path, &zone).await.expect(200);
    let mut body = filing("erase", "couple-1");
    body["receivedAt"] = json!("2026-01-31T23:30:00Z");
    let filed = tenant.compliance.post(REQUESTS, &body).await.expect(202).body;
    assert_eq!(filed["dueAt"], "2026-03-01T22:59:59Z");
    let extend = format!("{REQUESTS}/{}/extend", filed["id"].as_str().unwrap());
    let why = json!({ "reason": "many entries" });
    let late = tenant.compliance.post(&extend, &why).await.expect(409);
    assert!(late.text.contains("past its due date"), "{}", late.text);

    body["receivedAt"] = json!("2100-01-01T00:00:00Z");
    let future = tenant.compliance.post(REQUESTS, &body).await.expect(422);
    assert_eq!(future.pointers(), ["/receivedAt"]);
    let id = file(&tenant.compliance, "erase", "couple-1").await;
    let extend = format!("{REQUESTS}/{id}/extend");
    clock.advance(TimeDelta::days(27));
    let extended = tenant.compliance.post(&extend, &why).await.expect(200).body;
    assert_ne!(extended["extendedAt"], Value::Null);
    let again = tenant.compliance.post(&extend, &why).await.expect(409);
    assert!(again.text.contains("extended before"), "{}", again.text);
    app.stop().await;
}

/// Every fault of a filing is named; what is filed is listed by its filters, in pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filings_are_checked_and_listed() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    occupy(&app.db).await;
    let caller = &tenant.compliance;
    let bad = json!({ "type": "forget", "subjectId": "", "reason": "", "other": 1 });
    let refused = caller.post(REQUESTS, &bad).await.expect(422);
    assert_eq!(refused.pointers(), ["/type", "/subjectId", "/reason", "/other"]);
    assert_eq!(caller.post(REQUESTS, &json!({})).await.expect(422).pointers(), ["/type"]);
    let key = caller.with_header("idempotency-key", "two words");
    assert_eq!(
        key.post(REQUESTS, &filing("erase", "x")).await.expect(400).problem(),
        "malformed-request"
    );

    for (kind, subject) in [("erase", "a"), ("export", "b"), ("erase", "c")] {
        file(caller, kind, subject).await;
    }
    let subjects = async |parameters: &str| {
        let page = caller.get(&format!("{REQUESTS}?{parameters}")).await.expect(200).body;
        let listed = page["requests"].as_array().unwrap().clone();
        let names = listed.iter().map(|request| request["subjectId"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), page["nextCursor"].as_str().map(str::to_owned))
    };
    assert_eq!(subjects("").await.0, ["c", "b", "a"]);
    assert_eq!(subjects("type=erase&state=approved").await.0, ["c", "a"]);
    assert_eq!(subjects("state=completed").await.0, [""; 0]);
    assert_eq!(subjects("dueBefore=2026-01-01T00:00:00Z").await.0, [""; 0]);
    let (first, cursor) = subjects("limit=2").await;
    assert_eq!(first, ["c", "b"]);
    let (rest, end) = subjects(&format!("limit=2&cursor={}", cursor.unwrap())).await;
    assert_eq!((rest, end), (vec!["a".to_owned()], None));
    caller.get(&format!("{REQUESTS}?state=nowhere")).await.expect(422);
    app.stop().await;
}

/// G5: another tenant's request is told as one that never was, on every route.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_request_is_not_there() {
    let app = TestApp::start().await;
    let (one, two) = (app.tenant("one").await, app.tenant("two").await);
    occupy(&app.db).await;
    let theirs = file(&one.compliance, "erase", "couple-1").await;
    let told = async |tenant: &Tenant, id: &str, action: &str| {
        let path = format!("{REQUESTS}/{id}{action}");
        let reply = if action.is_empty() {
            tenant.compliance.get(&path).await
        } else {
            tenant.compliance.post(&path, &json!({ "reason": "mine" })).await
        };
        let body = reply.expect(404).body;
        (body["type"].clone(), body["title"].clone(), body["detail"].clone())
    };
    for action in ["", "/approve", "/reject", "/cancel", "/extend"] {
        let foreign = told(&two, &theirs, action).await;
        let unknown = told(&two, "0192f5a0-0000-7000-8000-000000000000", action).await;
        assert_eq!(foreign, unknown, "{action}");
    }
    let listed = two.compliance.get(REQUESTS).await.expect(200).body;
    assert_eq!(listed["requests"], json!([]));
    app.stop().await;
}

/// A log line and a metric at seven, two and no days before the end, once for all replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_requests_are_warned_of_before_they_are_due() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(clock.clone()).start().await;
    let other = TestApp::builder().clock(clock.clone()).db(&app.db).start().await;
    let tenant = app.tenant("acme").await;
    ask_for_approval(&app, "acme").await;
    let id = file(&tenant.compliance, "erase", "couple-1").await;
    let due = tenant.compliance.get(&format!("{REQUESTS}/{id}")).await.expect(200).body;
    let due: DateTime<Utc> = due["dueAt"].as_str().unwrap().parse().unwrap();
    let mut told = Vec::new();
    for days in [8, 6, 5, 1, -1, -2] {
        clock.advance(due - TimeDelta::days(days) - clock.now());
        let mut warned = 0;
        for app in [&app, &other] {
            warned += app.rooms().compliance.warn_of_due_requests().await.unwrap();
        }
        let text = other.client.get("/api/metrics").await.expect(200).text;
        let within = ["7", "2", "0"].map(|within| {
            series(&text, &format!("ai_cache_gdpr_requests_due{{within_days=\"{within}\"}}")) > 0.0
        });
        told.push((days, warned, within));
    }
    println!("days left, warnings, metrics within 7, 2, 0 days: {told:?}");
    let [no, yes] = [false, true];
    let wanted = [
        (8, 0, [no, no, no]),
        (6, 1, [yes, no, no]),
        (5, 0, [yes, no, no]),
        (1, 1, [yes, yes, no]),
        (-1, 1, [yes, yes, yes]),
        (-2, 0, [yes, yes, yes]),
    ];
    assert_eq!(told, wanted);
    let cancel = json!({ "reason": "withdrawn" });
    tenant.compliance.post(&format!("{REQUESTS}/{id}/cancel"), &cancel).await.expect(200);
    app.rooms().compliance.warn_of_due_requests().await.unwrap();
    let text = app.client.get("/api/metrics").await.expect(200).text;
    assert!(series(&text, "ai_cache_gdpr_requests_due{within_days=\"7\"}") < 0.5);
    other.stop().await;
    app.stop().await;
}
