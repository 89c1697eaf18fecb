//! Single flight, and callers who hang up.

use std::time::Duration;

use ai_cache::domain::caller::Role;
use ai_cache::domain::ids::TenantId;
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Client, TestApp, wait_until};

/// 200 simultaneous callers of one new question: one upstream call, 200 answers, 200 records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_callers_of_a_new_question_make_one_upstream_call() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("something else").await.expect(200);
    app.upstream.hold();
    let callers = join_all((0..200).map(|_| tenant.app.ask("the new question")));
    let release = async {
        app.upstream.wait_for_calls(2).await;
        app.upstream.release();
    };
    let (replies, ()) = tokio::join!(callers, release);
    let answers: Vec<_> =
        replies.into_iter().map(|reply| reply.expect(200).body["data"].clone()).collect();
    let own = app.upstream.calls() - 1;
    let records = "SELECT count(*) FROM ai_cache_audit_logs
                   WHERE action = 'query' AND outcome IN ('stored', 'hit')";
    let records = app.db.count(records).await - 1;
    println!("200 callers, {own} upstream calls, {records} records");
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!((own, records), (1, 200));
    app.stop().await;
}

/// Everybody hangs up: the answer is stored all the same, and each has a record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_hang_up_harm_nobody_and_are_recorded() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("something else").await.expect(200);
    app.upstream.hold();
    let ids: Vec<Uuid> = (0..5).map(|index| Uuid::from_u128(0x1890 << 112 | index)).collect();
    let callers = ids.iter().map(|id| tenant.app.with_header("x-request-id", &id.to_string()));
    let callers: Vec<Client> = callers.collect();
    let callers = join_all(callers.iter().map(|caller| caller.ask("the question")));
    let hang_up = tokio::time::timeout(Duration::from_millis(400), callers).await;
    assert!(hang_up.is_err(), "nobody was answered");
    assert_eq!(app.upstream.calls(), 2);
    app.upstream.release();
    let stored = wait_until("the answer is stored", || async {
        let reply = tenant.app.ask("the question").await.expect(200);
        (reply.body["cached"] == true).then_some(reply)
    })
    .await;
    assert_eq!(stored.body["cacheSource"], "hot");
    assert_eq!(app.upstream.calls(), 2);
    let superuser = app.db.superuser().await;
    let query = "SELECT count(*) FROM ai_cache_audit_logs WHERE request_id::text = ANY ($1)
                 AND action = 'query'";
    let texts: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    let records = wait_until("each who hung up has a record", || async {
        let records: i64 = superuser.query_one(query, &[&texts]).await.unwrap().get(0);
        (records == 5).then_some(records)
    })
    .await;
    println!("5 hung up, {records} records of theirs");
    app.stop().await;
}

/// An invalidation overtakes a fill: the old answer goes to those who asked before, and is not kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_invalidation_overtakes_is_not_stored_nor_joined() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    app.upstream.hold();
    let (caller, admin) = (tenant.app.clone(), tenant.admin.clone());
    let early = async { caller.ask("the question").await.expect(200) };
    let late = async {
        app.upstream.wait_for_calls(1).await;
        let all = json!({ "invalidateAll": true });
        admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
        let late = caller.ask("the question");
        let release = async {
            app.upstream.wait_for_calls(2).await;
            app.upstream.release();
        };
        tokio::join!(late, release).0.expect(200)
    };
    let (early, late) = tokio::join!(early, late);
    let again = caller.ask("the question").await.expect(200);
    assert_eq!(app.upstream.calls(), 2, "the later request did not join the flight under way");
    assert_eq!(early.header("cache-status"), Some("ai-cache; fwd=miss"), "not stored");
    assert_eq!(late.header("cache-status"), Some("ai-cache; fwd=miss; stored"));
    assert_eq!(again.body["entryId"], late.body["entryId"]);
    app.stop().await;
}

/// The answer of a flight is invalidated before the callers that wait for it were answered: they
/// share one call of the upstream, and its answer is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_behind_a_flight_costs_one_call_for_all() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("the question").await.expect(200);
    let other = TestApp::builder().db(&app.db).start().await;
    let caller = other.client.with_token(&app.token(tenant.id, &[Role::App]).await);
    caller.ask("something else").await.expect(200);
    let calls = other.upstream.calls();
    // Their records wait for the table, so the invalidation comes between finding and receipt.
    let mut blocker = app.db.superuser().await;
    let lock = blocker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE ai_cache_audit_logs IN SHARE MODE").await.unwrap();
    let callers = join_all((0..50).map(|_| caller.ask("the question")));
    let invalidate = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_until("their records wait", || async {
            (app.db.count(waiting).await >= 1).then_some(())
        })
        .await;
        // One worker serves all in turn: what was asked before these has been taken up by now.
        for _ in 0..10 {
            other.client.get("/health").await.expect(200);
        }
        app.db.superuser().await.batch_execute(&invalidation_of(tenant.id)).await.unwrap();
        other.rooms().coherence().catch_up().await.unwrap();
        lock.rollback().await.unwrap();
    };
    let (replies, ()) = tokio::join!(callers, invalidate);
    assert!(replies.iter().all(|reply| reply.status == 200));
    let again = caller.ask("the question").await.expect(200);
    let asked = other.upstream.calls() - calls;
    println!("50 callers, {asked} upstream calls, then {}", again.body["cacheSource"]);
    assert_eq!((asked, &again.body["cached"]), (1, &json!(true)));
    other.stop().await;
    app.stop().await;
}

/// Makes the statements that another replica's invalidation of everything leaves behind, without
/// its record.
pub fn invalidation_of(tenant: TenantId) -> String {
    let tenant = tenant.0;
    format!(
        "BEGIN;
         UPDATE invalidation_state SET generation = generation + 1 WHERE tenant_id = '{tenant}';
         UPDATE stream_tail SET position = position + 1;
         INSERT INTO invalidations (tenant_id, position, kind, generation, at)
         SELECT tenant_id, stream_tail.position, 'all', generation, now()
         FROM invalidation_state, stream_tail WHERE tenant_id = '{tenant}';
         COMMIT"
    )
}
