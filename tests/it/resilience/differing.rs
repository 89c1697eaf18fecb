//! A record whose id is taken by another one: never passed over, never overwritten.

use std::sync::{Arc, Mutex};

use ai_cache::domain::clock::{Clock, SystemClock};
use ai_cache::domain::ids::{Ids, SystemIds};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::support::{TestApp, wait_until};

/// Gives an id that is laid down, once, and the system's otherwise.
#[derive(Default)]
struct LaidDown(Mutex<Option<Uuid>>);

impl Ids for LaidDown {
    fn next(&self, now: DateTime<Utc>) -> Uuid {
        self.0.lock().unwrap().take().unwrap_or_else(|| SystemIds.next(now))
    }
}

/// Architecture §3: what is there under a record's id is compared; a difference stops the writer and
/// alarms, and from then on no data leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_differing_row_stops_the_writer_and_all_data() {
    let ids = Arc::new(LaidDown::default());
    let app = TestApp::builder().ids(Arc::clone(&ids) as _).start().await;
    let tenant = app.tenant("acme").await;
    let caller =
        tenant.app.with_header("x-request-id", &SystemIds.next(SystemClock.now()).to_string());
    let first = caller.ask("a question").await.expect(200);
    let taken = SystemIds.next(SystemClock.now());
    let copy = format!(
        "INSERT INTO ai_cache_audit_logs
         SELECT (jsonb_populate_record(a, jsonb_build_object('id', '{taken}'))).*
         FROM ai_cache_audit_logs a WHERE a.id = '{}'",
        first.header("x-audit-id").unwrap()
    );
    assert_eq!(app.db.superuser().await.execute(&copy, &[]).await.unwrap(), 1);

    *ids.0.lock().unwrap() = Some(taken);
    let refused = caller.ask("a question").await.expect(503);
    assert_eq!(refused.problem(), "audit-unavailable");
    for _ in 0..3 {
        assert_eq!(caller.ask("a question").await.expect(503).problem(), "audit-unavailable");
    }
    wait_until("readiness is red", || async {
        (app.client.get("/health/ready").await.status == 503).then_some(())
    })
    .await;
    app.client.get("/health").await.expect(200);
    let query = format!("SELECT count(*) FROM ai_cache_audit_logs WHERE id = '{taken}'");
    assert_eq!(app.db.count(&query).await, 1, "what was there is left alone");
    app.stop().await;
}
