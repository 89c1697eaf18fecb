//! Transactions by name: what is not committed gives its connection back, what another transaction
//! stopped begins anew, and each name is measured.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ai_cache::domain::action::Action;
use ai_cache::domain::audit_record::AuditRecord;
use ai_cache::domain::caller::Role;
use ai_cache::domain::clock::{Clock as _, SystemClock};
use ai_cache::domain::ids::{TenantId, TokenId};
use ai_cache::domain::token::BearerToken;
use ai_cache::embedded::APP_ROLE;
use ai_cache::store::{self, Ending, Store, StoreError, StoreSettings, tokens};
use ai_cache::telemetry::Metrics;
use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::Barrier;

use crate::support::{TestApp, TestDb, wait_until};

/// Fills that are overtaken, and as many as a tenth of them that are not.
const OVERTAKEN: usize = 200;
const STORED: usize = 20;

/// Fills that wait for the upstream at the same time.
const AT_ONCE: usize = 20;

/// Returns the number of sessions that the database has had, once the service has none left: a
/// session is counted when it ends at the latest.
async fn sessions(db: &TestDb) -> i64 {
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'ai-cache'";
    wait_until("the sessions end", async || (db.count(open).await == 0).then_some(())).await;
    db.count("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").await
}

/// Lets a service of its own fill `fills` answers of the tenant `slug`. The tenant "overtaken" has all
/// invalidated while they wait for the upstream. Returns how many entries are stored, and the sessions.
async fn fill(db: &TestDb, slug: &str, fills: usize) -> (i64, i64) {
    let app = TestApp::builder().db(db).start().await;
    let tenant = app.tenant(slug).await;
    for batch in 0..fills / AT_ONCE {
        app.upstream.hold();
        let asks = (0..AT_ONCE).map(|number| {
            let (app, question) = (&tenant.app, format!("{slug} {batch} {number}"));
            async move { app.ask(&question).await }
        });
        let invalidate = async {
            app.upstream.wait_for_calls((batch + 1) * AT_ONCE).await;
            if slug == "overtaken" {
                let all = json!({ "invalidateAll": true });
                tenant.admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
            }
            app.upstream.release();
        };
        let (replies, ()) = tokio::join!(join_all(asks), invalidate);
        for reply in replies {
            reply.expect(200);
        }
    }
    let stored = format!("SELECT count(*) FROM ai_cache_entries WHERE tenant_id = '{}'", tenant.id);
    let stored = db.count(&stored).await;
    app.stop().await;
    (stored, sessions(db).await)
}

/// A fill that an invalidation overtook rolls back and gives its connection back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fills_that_are_overtaken_open_no_sessions() {
    let app = TestApp::start().await;
    let db = app.db.clone();
    app.stop().await;
    let before = sessions(&db).await;
    let (stored, after_stored) = fill(&db, "stored", STORED).await;
    let (overtaken, after_overtaken) = fill(&db, "overtaken", OVERTAKEN).await;
    let (of_stored, of_overtaken) = (after_stored - before, after_overtaken - after_stored);
    println!(
        "{stored} answers stored with {of_stored} sessions; {OVERTAKEN} overtaken, {overtaken} of them \
         stored, with {of_overtaken} sessions"
    );
    assert_eq!((stored, overtaken), (20, 0));
    assert!(of_overtaken < of_stored + 20, "{of_overtaken} sessions, {of_stored} for a few fills");
}

/// A new token of a tenant.
async fn token_of(app: &TestApp, tenant: TenantId) -> TokenId {
    let text = app.token(tenant, &[Role::App]).await;
    BearerToken::parse(&text).unwrap().id
}

/// Two transactions change the same two rows in opposite order: Postgres ends one of them, which
/// begins anew, and both commit with their records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_repeated_and_both_changes_commit() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let [one, other] = [token_of(&app, tenant.id).await, token_of(&app, tenant.id).await];
    let (store, tries) = (app.rooms().store().within(Duration::from_mins(1)), AtomicUsize::new(0));
    let both_hold_one = Barrier::new(2);
    let (store, tries, both_hold_one) = (&store, &tries, &both_hold_one);
    let change = async |first: TokenId, second: TokenId| {
        let record = AuditRecord {
            tenant: tenant.id,
            action: Action::TokenRevoke,
            ..app.rooms().calls.command_line_record()
        };
        let row = app.rooms().audit().stamp(record);
        let change = store.change("change two tokens in a test", tenant.id, async |mut tx| {
            let number = tries.fetch_add(1, Ordering::SeqCst);
            tokens::update_revoked(&mut tx, first, SystemClock.now()).await?;
            if number < 2 {
                both_hold_one.wait().await;
            }
            tokens::update_revoked(&mut tx, second, SystemClock.now()).await?;
            let recorded = store::audit::insert(&mut tx, &row).await?;
            Ok::<_, StoreError>(Ending::Commit(recorded, ()))
        });
        change.await
    };
    let (there, back) = tokio::join!(change(one, other), change(other, one));
    there.unwrap();
    back.unwrap();
    let recorded = "SELECT count(*) FROM ai_cache_audit_logs
                    WHERE action = 'token-revoke' AND actor_kind = 'command-line'";
    let (recorded, tries) = (app.db.count(recorded).await, tries.load(Ordering::SeqCst));
    println!("two changes in {tries} tries, {recorded} of them recorded");
    assert_eq!(recorded, 2);
    assert!(tries > 2, "no deadlock in {tries} tries");
    app.stop().await;
}

/// Work that fails leaves nothing, and its connection serves the next transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_fails_rolls_back_and_gives_its_connection_back() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = token_of(&app, tenant.id).await;
    let db = app.db.clone();
    app.stop().await;
    sessions(&db).await;
    let url = db.url(APP_ROLE).await;
    let settings = StoreSettings { pool_size: 1, limit: Duration::from_secs(5) };
    let metrics = Arc::new(Metrics::new().unwrap());
    let store = Store::new(&url, &settings, Arc::clone(&metrics)).unwrap();
    let mut used = BTreeSet::new();
    for _ in 0..10 {
        let failed = store.change("fail in a test", tenant.id, async |mut tx| {
            tokens::update_revoked(&mut tx, token, SystemClock.now()).await?;
            Err::<Ending<()>, _>(StoreError::UnknownValue("thing of a test"))
        });
        assert!(matches!(failed.await, Err(StoreError::UnknownValue(_))));
        let session = "SELECT pid::bigint FROM pg_stat_activity
                       WHERE datname = current_database() AND application_name = 'ai-cache'";
        used.insert(db.count(session).await);
    }
    let revoked = "SELECT count(*) FROM api_tokens WHERE revoked_at IS NOT NULL";
    let revoked = db.count(revoked).await;
    println!("ten transactions failed in {} session, {revoked} changes are left", used.len());
    assert_eq!((used.len(), revoked), (1, 0));
    let series = "ai_cache_transaction_ms_count{transaction=\"fail in a test\"} 10";
    let text = metrics.render().unwrap();
    assert!(text.contains(series), "{text}");
    store.close().await;
}

/// The record of one transaction commits no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_another_transaction_commits_nothing() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = token_of(&app, tenant.id).await;
    let store = app.rooms().store();
    let stamped = || {
        let record = AuditRecord {
            tenant: tenant.id,
            action: Action::TokenRevoke,
            ..app.rooms().calls.command_line_record()
        };
        app.rooms().audit().stamp(record)
    };
    let (one, other) = (stamped(), stamped());
    let taken = store.change("take a record along in a test", tenant.id, async |mut tx| {
        Ok::<_, StoreError>(Ending::RollBack(store::audit::insert(&mut tx, &one).await?))
    });
    let taken = Mutex::new(Some(taken.await.unwrap()));
    let ended = store.change("commit with it in a test", tenant.id, async |mut tx| {
        tokens::update_revoked(&mut tx, token, SystemClock.now()).await?;
        let _own = store::audit::insert(&mut tx, &other).await?;
        let foreign = taken.lock().unwrap().take().unwrap();
        Ok::<_, StoreError>(Ending::Commit(foreign, ()))
    });
    let refused = ended.await.unwrap_err();
    let left = "SELECT (SELECT count(*) FROM api_tokens WHERE revoked_at IS NOT NULL)
                       + (SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'token-revoke')";
    let left = app.db.count(left).await;
    println!("{refused}; {left} changes and records are left");
    assert!(matches!(refused, StoreError::ForeignRecord));
    assert_eq!(left, 0);
    app.stop().await;
}

/// An outcome that changes nothing stays what it is when its connection is gone before the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_back_that_fails_keeps_its_outcome() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = token_of(&app, tenant.id).await;
    let (store, superuser) = (app.rooms().store(), app.db.superuser().await);
    let ended = store.change("lose the connection in a test", tenant.id, async |mut tx| {
        tokens::update_revoked(&mut tx, token, SystemClock.now()).await?;
        let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                   WHERE datname = current_database() AND state = 'idle in transaction'
                     AND query LIKE '%api_tokens%'";
        let ended = superuser.query(end, &[]).await.unwrap();
        Ok::<_, StoreError>(Ending::RollBack(ended.len()))
    });
    assert_eq!(ended.await.unwrap(), 1, "one connection was ended, and the outcome is told");
    let revoked = "SELECT count(*) FROM api_tokens WHERE revoked_at IS NOT NULL";
    assert_eq!(app.db.count(revoked).await, 0);
    app.stop().await;
}

/// A batch of the eviction is begun five times at most, and its turn once: what committed before in
/// the turn is not repeated for its sake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_of_the_eviction_does_not_begin_anew_for_its_batches() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("something").await.expect(200);
    let path = "/api/ai-cache/admin/tenants/acme";
    app.operator().await.send_json("PATCH", path, &json!({ "maxEntries": 1 })).await.expect(200);
    tenant.app.ask("something else").await.expect(200);
    let deadlocks = "CREATE SEQUENCE tries;
                     GRANT USAGE ON SEQUENCE tries TO PUBLIC;
                     CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS $$
                     BEGIN
                       PERFORM nextval('tries');
                       RAISE EXCEPTION USING ERRCODE = '40P01';
                     END $$;
                     CREATE TRIGGER deadlock BEFORE DELETE ON ai_cache_entries
                     FOR EACH ROW EXECUTE FUNCTION deadlock()";
    app.db.superuser().await.batch_execute(deadlocks).await.unwrap();
    wait_until("the turn is this one's", || async {
        match app.rooms().administration.evict().await {
            Ok(None) => None,
            other => Some(other.unwrap_err()),
        }
    })
    .await;
    let tries = app.db.count("SELECT last_value FROM tries").await;
    println!("{tries} tries of a batch in one turn");
    assert!(tries > 0 && tries % 5 == 0 && tries <= 10, "{tries} tries");
    app.stop().await;
}
