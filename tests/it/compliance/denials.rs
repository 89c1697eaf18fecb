//! Requests without a caller: recorded one by one, then counted (issue 3, architecture.md §3).

use std::sync::Arc;

use ai_cache::domain::caller::Role;
use chrono::TimeDelta;
use futures_util::future::join_all;

use crate::support::{TestApp, TestClock, wait_until};

const OF_DENIALS: &str = "FROM ai_cache_audit_logs a JOIN tenants t USING (tenant_id)
    WHERE action = 'authenticate' AND t.slug = 'installation' AND actor_kind = 'anonymous'
      AND actor_network = '127.0.0.0/24'";

/// Each refusal of a few is a record by itself, with its outcome, and names nobody and no token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refused_request_of_a_few_has_a_record_in_the_installations_trail() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    let other = if token.ends_with('x') { 'y' } else { 'x' };
    let wrong = format!("{}{other}", &token[..token.len() - 1]);
    app.client.get("/api/ai-cache/statistics").await.expect(401);
    app.client.with_token("aic_mistyped").ask("q").await.expect(401);
    app.client.with_token(&wrong).ask("q").await.expect(401);
    let two = tenant.app.with_another_header("authorization", "Bearer x");
    two.ask("q").await.expect(400);
    let count = |more: &str| format!("SELECT count(*) {OF_DENIALS} AND item_count = 1 AND {more}");
    wait_until("each has a record", || async {
        (app.db.count(&count("true")).await == 4).then_some(())
    })
    .await;
    assert_eq!(app.db.count(&count("outcome = 'denied' AND status = 401")).await, 3);
    assert_eq!(app.db.count(&count("outcome = 'invalid' AND status = 400")).await, 1);
    app.stop().await;
}

/// A caller that guesses tokens fills no trail: beyond 20 a second of a network, one record has the
/// count of the others, and none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_refused_requests_are_all_counted_in_few_records() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(Arc::clone(&clock) as _).start().await;
    clock.advance(TimeDelta::seconds(1));
    let guesser = app.client.with_token("aic_guessed");
    for _ in 0..10 {
        let guesses = join_all((0..50).map(|_| guesser.ask("q"))).await;
        assert!(guesses.iter().all(|reply| reply.status == 401));
    }
    let db = app.db.clone();
    app.stop().await;
    let counted =
        db.count(&format!("SELECT coalesce(sum(item_count), 0)::bigint {OF_DENIALS}")).await;
    let records = db.count(&format!("SELECT count(*) {OF_DENIALS}")).await;
    println!("500 refused, {counted} counted in {records} records");
    assert_eq!(counted, 500);
    assert!(records < 250, "{records}");
}
