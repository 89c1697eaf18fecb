//! Legal holds and restrictions beat every way in which entries are removed or replaced (issue 5,
//! "legal holds"): the row stays, nobody is served what was removed, not afterwards either.

use std::sync::Arc;

use ai_cache::administration::Evicted;
use chrono::TimeDelta;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::app::Tenant;
use crate::support::{Reply, TestApp, TestClock, wait_until};

const HOLDS: &str = "/api/ai-cache/gdpr/legal-holds";

/// The thing that keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Person,
    Tenant,
    Restriction,
}

/// The ways to remove or replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Delete,
    Operation,
    Tag,
    Location,
    VendorType,
    Subject,
    All,
    Refresh,
    Limit,
    Expiry,
}

/// Expiry last: it moves the clock.
const WAYS: [Way; 10] = [
    Way::Delete,
    Way::Operation,
    Way::Tag,
    Way::Location,
    Way::VendorType,
    Way::Subject,
    Way::All,
    Way::Refresh,
    Way::Limit,
    Way::Expiry,
];

async fn put(tenant: &Tenant, body: Value) -> Reply {
    tenant.compliance.send_json("PUT", HOLDS, &body).await
}

async fn file(tenant: &Tenant, kind: &str) {
    let path = "/api/ai-cache/gdpr/requests";
    let body = json!({ "type": kind, "subjectId": "couple-1", "reason": "they asked" });
    let filed = tenant.compliance.post(path, &body).await.expect(202);
    let path = format!("{path}/{}", filed.body["id"].as_str().unwrap());
    wait_until("the request is executed", || async {
        let shown = tenant.compliance.get(&path).await;
        (shown.body["state"] == "completed").then_some(())
    })
    .await;
}

impl Keeper {
    /// Gives what lifts it.
    async fn set(self, tenant: &Tenant) -> Option<String> {
        let body = match self {
            Self::Person => json!({ "subjectId": "couple-1", "reason": "a lawsuit" }),
            Self::Tenant => json!({ "reason": "an inquiry" }),
            Self::Restriction => {
                file(tenant, "restrict").await;
                return None;
            }
        };
        let set = put(tenant, body).await.expect(200);
        Some(set.body["id"].as_str().unwrap().to_owned())
    }

    async fn lift(self, tenant: &Tenant, hold: Option<String>) {
        match hold {
            Some(id) => {
                let body = json!({ "holdId": id, "lift": true, "reason": "it is over" });
                put(tenant, body).await.expect(200);
            }
            None => file(tenant, "lift-restriction").await,
        }
    }
}

async fn ask(tenant: &Tenant, person: &str, mode: &str) -> Reply {
    tenant
        .app
        .query(&json!({
            "query": "which flowers?",
            "subjectId": person,
            "operation": "chat",
            "weddingContext": { "location": "Rome", "vendorTypes": ["florist"] },
            "cache": { "mode": mode, "tags": ["flowers"] },
        }))
        .await
}

async fn evict(app: &TestApp) {
    wait_until("everything is evicted", || async {
        let evicted = app.rooms().administration.evict().await.unwrap();
        evicted.filter(|evicted| *evicted == Evicted::default())
    })
    .await;
}

/// A tenant with an entry of a person whose are kept, and one of another.
struct Scene<'a> {
    app: &'a TestApp,
    clock: &'a TestClock,
    tenant: Tenant,
    slug: String,
    kept: String,
    free: String,
}

impl Scene<'_> {
    async fn rows(&self, condition: &str) -> i64 {
        let id = self.tenant.id.0;
        let query = format!(
            "SELECT count(*) FROM ai_cache_entries WHERE tenant_id = '{id}' AND {condition}"
        );
        self.app.db.count(&query).await
    }

    async fn invalidate(&self, selector: Value) -> u64 {
        let path = "/api/ai-cache/invalidate";
        let reply = self.tenant.admin.post(path, &selector).await;
        if reply.status == 451 {
            return 0;
        }
        reply.expect(200).body["invalidatedCount"].as_u64().unwrap()
    }

    /// Removes both. Returns the number of entries that it tells, where it tells one.
    async fn remove(&self, way: Way) -> Option<u64> {
        Some(match way {
            Way::Delete => {
                for id in [&self.kept, &self.free] {
                    let path = format!("/api/ai-cache/entries/{id}");
                    self.tenant.admin.send("DELETE", &path).await.expect(204);
                }
                return None;
            }
            Way::Operation => self.invalidate(json!({ "operation": "chat" })).await,
            Way::Tag => self.invalidate(json!({ "tag": "flowers" })).await,
            Way::Location => self.invalidate(json!({ "location": "Rome" })).await,
            Way::VendorType => self.invalidate(json!({ "vendorType": "florist" })).await,
            Way::Subject => {
                self.invalidate(json!({ "subjectId": "couple-1" })).await
                    + self.invalidate(json!({ "subjectId": "couple-2" })).await
            }
            Way::All => self.invalidate(json!({ "invalidateAll": true })).await,
            Way::Refresh => {
                ask(&self.tenant, "couple-1", "refresh").await;
                ask(&self.tenant, "couple-2", "refresh").await;
                return None;
            }
            Way::Limit => {
                let path = format!("/api/ai-cache/admin/tenants/{}", self.slug);
                let body = json!({ "maxEntries": 1 });
                self.app.operator().await.send_json("PATCH", &path, &body).await.expect(200);
                return None;
            }
            Way::Expiry => {
                self.clock.advance(TimeDelta::hours(3));
                return None;
            }
        })
    }
}

/// Returns the expected state after a removal: rows that are there, those withdrawn, and the number
/// that was told.
fn expected(keeper: Keeper, way: Way) -> (i64, i64, Option<u64>) {
    let kept = if keeper == Keeper::Tenant { 2 } else { 1 };
    match way {
        // The restricted person's selector is refused.
        Way::Subject if keeper == Keeper::Restriction => (1, 0, Some(1)),
        Way::Operation | Way::Tag | Way::Location | Way::VendorType | Way::Subject => {
            (kept, kept, Some(2))
        }
        Way::Delete => (kept, kept, None),
        Way::All => (kept, 0, Some(2)),
        Way::Refresh => (2, 0, None),
        Way::Limit | Way::Expiry => (kept, 0, None),
    }
}

/// Returns the faults of a way.
async fn try_way(scene: &Scene<'_>, keeper: Keeper, way: Way) -> Vec<String> {
    let Scene { tenant, kept, free, .. } = scene;
    let mut wrong = Vec::new();
    let mut check = |what: &str, seen: String, expected: String| {
        if seen != expected {
            wrong.push(format!("{keeper:?} {way:?} {what}: {seen}, not {expected}"));
        }
    };
    let hold = keeper.set(tenant).await;
    let told = scene.remove(way).await;
    evict(scene.app).await;
    let seen = (scene.rows("true").await, scene.rows("withdrawn_at IS NOT NULL").await, told);
    check("rows, withdrawn, told", format!("{seen:?}"), format!("{:?}", expected(keeper, way)));
    let kept_row = scene.rows(&format!("entry_id = '{kept}'")).await;
    let free_row = scene.rows(&format!("entry_id = '{free}'")).await;
    let free_is_kept = i64::from(keeper == Keeper::Tenant);
    check("row kept, other", format!("{kept_row} {free_row}"), format!("1 {free_is_kept}"));

    let still_good = matches!(way, Way::Refresh | Way::Limit)
        || (way, keeper) == (Way::Subject, Keeper::Restriction);
    let served = ask(tenant, "couple-1", "only-if-cached").await.status;
    let listed = tenant.admin.get("/api/ai-cache/entries").await.expect(200);
    let is_listed = listed.text.contains(kept.as_str());
    let after = if still_good { 200 } else { 504 };
    let status = if keeper == Keeper::Restriction { 451 } else { after };
    let expected = format!("{status} {still_good}");
    check("served, listed", format!("{served} {is_listed}"), expected);
    if way == Way::Refresh && keeper != Keeper::Restriction {
        let refreshed = ask(tenant, "couple-1", "refresh").await.expect(200);
        check("stored for", refreshed.body["expiresIn"].to_string(), "0".to_owned());
    }

    keeper.lift(tenant, hold).await;
    let served = ask(tenant, "couple-1", "only-if-cached").await.status;
    check("served after the lift", served.to_string(), after.to_string());
    evict(scene.app).await;
    let left = scene.rows(&format!("entry_id = '{kept}'")).await;
    if way != Way::Limit {
        let expected = i64::from(still_good);
        check("left after the lift", left.to_string(), expected.to_string());
    }
    wrong
}

/// Each way × each keeper: the row stays, and goes once nothing keeps it.
#[rstest]
#[case(Keeper::Person)]
#[case(Keeper::Tenant)]
#[case(Keeper::Restriction)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_survives_every_way_of_removal_and_is_served_to_nobody(
    #[case] keeper: Keeper,
) {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(Arc::clone(&clock) as _).start().await;
    let mut wrong = Vec::new();
    for way in WAYS {
        let slug = format!("{way:?}").to_lowercase();
        let tenant = app.tenant(&slug).await;
        let entry = async |person: &str| {
            let reply = ask(&tenant, person, "default").await.expect(200);
            assert!(reply.body["expiresIn"].as_i64().unwrap() > 0, "{}", reply.text);
            reply.body["entryId"].as_str().unwrap().to_owned()
        };
        let (kept, free) = (entry("couple-1").await, entry("couple-2").await);
        let scene = Scene { app: &app, clock: &clock, tenant, slug, kept, free };
        wrong.extend(try_way(&scene, keeper, way).await);
    }
    println!("{keeper:?}: {} ways, {} things wrong: {wrong:#?}", WAYS.len(), wrong.len());
    assert!(wrong.is_empty());
    app.stop().await;
}

/// A hold is set and lifted once, with reasons, and only by the tenant whose it is; each is recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_are_set_listed_and_lifted_once_with_a_reason() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("acme").await, app.tenant("other").await);
    let set = put(
        &tenant,
        json!({ "subjectId": "couple-1", "reason": "a lawsuit",
        "until": "2999-01-01T00:00:00Z" }),
    )
    .await
    .expect(200);
    let id = set.body["id"].as_str().unwrap().to_owned();
    let listed = tenant.compliance.get(HOLDS).await.expect(200);
    let hold = &listed.body["holds"][0];
    assert_eq!((hold["id"].as_str(), hold["subjectId"].as_str()), (Some(&*id), Some("couple-1")));
    assert_eq!((hold["reason"].as_str(), hold["liftedAt"].as_str()), (Some("a lawsuit"), None));

    let lift = json!({ "holdId": id, "lift": true, "reason": "it is over" });
    put(&other, lift.clone()).await.expect(404);
    let lifted = put(&tenant, lift.clone()).await.expect(200);
    assert_eq!(lifted.body["liftReason"], "it is over");
    put(&tenant, lift).await.expect(409);
    let theirs = other.compliance.get(HOLDS).await.expect(200);
    assert_eq!(theirs.body["holds"].as_array().unwrap().len(), 0);

    for (body, pointer) in [
        (json!({}), "/reason"),
        (json!({ "reason": "x", "until": "2000-01-01T00:00:00Z" }), "/until"),
        (json!({ "reason": "x", "lift": true }), "/holdId"),
        (json!({ "reason": "x", "holdId": id }), "/holdId"),
    ] {
        assert_eq!(put(&tenant, body).await.expect(422).pointers(), [pointer]);
    }
    let recorded = "SELECT count(*) FROM ai_cache_audit_logs
                    WHERE action IN ('hold-set', 'hold-lift') AND status = 0 AND outcome = 'done'";
    let recorded = app.db.count(recorded).await;
    println!("1 hold set and lifted, {recorded} changes recorded");
    assert_eq!(recorded, 2);
    app.stop().await;
}

/// A hold is in force in its period only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_keeps_only_within_its_period() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(Arc::clone(&clock) as _).start().await;
    let tenant = app.tenant("acme").await;
    let rows = "SELECT count(*) FROM ai_cache_entries";
    put(&tenant, json!({ "reason": "later", "from": "2998-01-01T00:00:00Z" })).await.expect(200);
    ask(&tenant, "couple-1", "default").await.expect(200);
    let all = json!({ "operation": "chat" });
    tenant.admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
    assert_eq!(app.db.count(rows).await, 0, "not in force yet");

    let until = app.rooms().clock().now() + TimeDelta::hours(1);
    put(&tenant, json!({ "reason": "an hour", "until": until })).await.expect(200);
    ask(&tenant, "couple-1", "default").await.expect(200);
    tenant.admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
    evict(&app).await;
    assert_eq!(app.db.count(rows).await, 1, "in force");
    clock.advance(TimeDelta::hours(2));
    evict(&app).await;
    assert_eq!(app.db.count(rows).await, 0, "over");
    app.stop().await;
}
