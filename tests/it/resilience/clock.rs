//! A clock that is set back: records would lie about when and in which order (issue 3).

use std::sync::Arc;

use chrono::TimeDelta;

use crate::support::{TestApp, TestClock, wait_until};

/// Architecture §3: more than 5 s back, and no data leaves until the time is reached again; readiness
/// is red, liveness green. A smaller step harms nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_set_back_refuses_data_until_it_has_caught_up() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(Arc::clone(&clock) as _).start().await;
    let tenant = app.tenant("acme").await;
    clock.advance(TimeDelta::seconds(20));
    tenant.app.ask("a question").await.expect(200);
    clock.advance(TimeDelta::seconds(-4));
    tenant.app.ask("a question").await.expect(200);
    clock.advance(TimeDelta::seconds(-6));
    for _ in 0..3 {
        let refused = tenant.app.ask("a question").await.expect(503);
        assert_eq!(refused.problem(), "audit-unavailable");
    }
    app.client.get("/health/ready").await.expect(503);
    app.client.get("/health").await.expect(200);
    clock.advance(TimeDelta::seconds(8));
    wait_until("data flows again", || async {
        (tenant.app.ask("a question").await.status == 200).then_some(())
    })
    .await;
    app.client.get("/health/ready").await.expect(200);
    app.stop().await;
}
