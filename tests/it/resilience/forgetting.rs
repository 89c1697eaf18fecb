//! Memory of things that are no longer true: few walks free it, and a value that was looked up
//! before everything was forgotten is not remembered after it.

use ai_cache::domain::caller::Role;
use ai_cache::domain::token::BearerToken;
use serde_json::{Value, json};

use crate::api::open::series;
use crate::support::app::Tenant;
use crate::support::{TestApp, wait_until};

/// Makes the statements that `count` invalidations of an operation by another replica leave behind,
/// without their records.
fn invalidations_of(tenant: &Tenant, operation: &str, count: i64) -> String {
    let tenant = tenant.id.0;
    format!(
        "BEGIN;
         UPDATE stream_tail SET position = position + {count};
         INSERT INTO invalidations (tenant_id, position, kind, operation, at)
         SELECT '{tenant}', position - {count} + i, 'operation', '{operation}', now()
         FROM stream_tail, generate_series(1, {count}) i;
         UPDATE invalidation_state SET position = stream_tail.position
         FROM stream_tail WHERE tenant_id = '{tenant}';
         COMMIT"
    )
}

async fn hot_entries(tenant: &Tenant) -> Value {
    let statistics = tenant.admin.get("/api/ai-cache/statistics").await.expect(200);
    statistics.body["byTier"]["hot"]["entries"].clone()
}

async fn walks(app: &TestApp) -> f64 {
    let metrics = app.client.get("/api/metrics").await.expect(200);
    series(&metrics.text, "ai_cache_hot_sweeps_total")
}

/// Issue 4: a thousand steps at once are not a thousand walks through memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_invalidations_frees_memory_by_few_walks() {
    let app = TestApp::start().await;
    let (tenant, neighbour) = (app.tenant("acme").await, app.tenant("other").await);
    for owner in [&tenant, &neighbour] {
        for number in 0..20 {
            let operation = if number % 2 == 0 { "chat" } else { "meal-plan" };
            let question = json!({ "query": format!("question {number}"), "operation": operation });
            owner.app.query(&question).await.expect(200);
        }
    }
    assert_eq!(hot_entries(&tenant).await, 20);
    let burst = invalidations_of(&tenant, "chat", 1_000);
    app.db.superuser().await.batch_execute(&burst).await.unwrap();
    wait_until("what was removed is gone from memory", || async {
        (hot_entries(&tenant).await == 10).then_some(())
    })
    .await;
    wait_until("every step is followed", || async {
        (app.rooms().coherence().position().0 == 1_000).then_some(())
    })
    .await;
    assert_eq!(hot_entries(&neighbour).await, 20, "nothing of another's is gone");

    // The next step finds only what came after the last walk.
    let next = invalidations_of(&tenant, "meal-plan", 1);
    app.db.superuser().await.batch_execute(&next).await.unwrap();
    wait_until("the rest is gone from memory", || async {
        (hot_entries(&tenant).await == 0).then_some(())
    })
    .await;
    assert_eq!(hot_entries(&neighbour).await, 20);
    let walks = walks(&app).await;
    println!("{walks} walks for 1,001 steps");
    assert!((2.0..20.0).contains(&walks), "{walks}");
    app.stop().await;
}

/// A look-up that was under way when everything was forgotten may have missed a revocation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_looked_up_before_everything_was_forgotten_is_not_remembered() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    let caller = app.client.with_token(&token);
    let mut superuser = app.db.superuser().await;
    let lock = superuser.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE api_tokens IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let forget = async {
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                       WHERE NOT granted AND datname = current_database()
                         AND relation = 'api_tokens'::regclass";
        wait_until("the look-up waits", || async {
            (app.db.count(waiting).await == 1).then_some(())
        })
        .await;
        app.rooms().remembered().forget_all();
        lock.rollback().await.unwrap();
    };
    let (first, ()) = tokio::join!(caller.ask("a question"), forget);
    first.expect(200);
    // The token is as if its step had been among the missed ones.
    let id = BearerToken::parse(&token).unwrap().id;
    let revoke = format!("UPDATE api_tokens SET revoked_at = now() WHERE token_id = '{id}'");
    assert_eq!(superuser.execute(&revoke, &[]).await.unwrap(), 1);
    let again = caller.ask("a question").await.status;
    println!("after the revocation: {again}");
    assert_eq!(again, 401);
    app.stop().await;
}
