//! Refused tokens: told alike, cheap to refuse, and refused at once (issue 2, 4; api.md
//! "Authentication").

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ai_cache::crypto::random;
use ai_cache::domain::caller::Role;
use ai_cache::domain::clock::{Clock, SystemClock};
use ai_cache::domain::ids::{SystemIds, TokenId};
use ai_cache::domain::token::BearerToken;
use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Reply, TestApp, TestClock, wait_until};

use super::words;

const ACME: &str = "/api/ai-cache/admin/tenants/acme";

/// The verifications that one network may cause: at once, and each second after.
const BURST: usize = 40;
const PER_SECOND: usize = 10;
const FLOOD: usize = 200;

/// A token of the right form that nobody made.
fn unknown() -> String {
    let id = TokenId::fresh(&SystemIds, SystemClock.now());
    BearerToken::new(id, random().unwrap()).reveal().to_string()
}

/// A token of the right form with the id of one that there is, and another secret.
fn with_wrong_secret(token: &str) -> String {
    BearerToken::new(BearerToken::parse(token).unwrap().id, [7; 32]).reveal().to_string()
}

/// A token with one character of its secret changed.
fn with_typo(token: &str, at: usize) -> String {
    let mut token = token.to_owned();
    let place = token.len() - 1 - at;
    let other = if &token[place..=place] == "A" { "B" } else { "A" };
    token.replace_range(place..=place, other);
    token
}

/// All that is not the request's own. Whether the connection is kept depends on whether the body had
/// arrived by then.
fn appearance(reply: &Reply) -> (u16, Value, BTreeSet<(String, String)>) {
    let own = ["x-request-id", "date", "connection"];
    let headers = reply.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (reply.status, words(reply), headers.collect())
}

async fn create(admin: &crate::support::Client, life: Option<u64>) -> (String, String) {
    let mut body = json!({ "roles": ["app"] });
    if let Some(seconds) = life {
        body["expiresInSeconds"] = seconds.into();
    }
    let made = admin.post("/api/ai-cache/tokens", &body).await.expect(201);
    let text = |name: &str| made.body[name].as_str().unwrap().to_owned();
    (text("token"), text("id"))
}

/// Unknown, wrong, malformed, revoked and expired tokens and those of a disabled tenant: one status,
/// one body, one set of headers; whether this process had verified them before or not. None of them
/// gets what lies in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_tokens_are_told_alike_and_get_nothing_from_memory() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().full_hash_cost().clock(clock.clone()).start().await;
    let (tenant, off) = (app.tenant("other").await, app.tenant("acme").await);
    let operator = app.operator().await;
    let (revoked, revoked_id) = create(&tenant.admin, None).await;
    let (fresh_revoked, fresh_id) = create(&tenant.admin, None).await;
    let (expired, _) = create(&tenant.admin, Some(30)).await;
    let (fresh_expired, _) = create(&tenant.admin, Some(30)).await;
    let disabled = app.token(off.id, &[Role::App]).await;
    let fresh_disabled = app.token(off.id, &[Role::App]).await;
    for token in [&revoked, &expired, &disabled] {
        let caller = app.client.with_token(token);
        caller.ask("a question").await.expect(200);
        assert_eq!(caller.ask("a question").await.expect(200).body["cacheSource"], "hot");
    }
    for id in [revoked_id, fresh_id] {
        tenant.admin.send("DELETE", &format!("/api/ai-cache/tokens/{id}")).await.expect(204);
    }
    operator.send_json("PATCH", ACME, &json!({ "active": false })).await.expect(200);
    clock.advance(TimeDelta::seconds(30));

    let reference = app.client.with_token(&unknown()).ask("a question").await.expect(401);
    assert_eq!(reference.header("www-authenticate"), Some("Bearer"));
    assert_eq!(reference.header("x-audit-id"), None);
    let refused = [
        ("unknown", unknown()),
        ("of a wrong secret", with_wrong_secret(&revoked)),
        ("of a known token and a wrong secret", with_wrong_secret(&expired)),
        ("with a typo", with_typo(&revoked, 0)),
        ("no token at all", "x".to_owned()),
        ("revoked", revoked),
        ("revoked before it was used", fresh_revoked),
        ("expired", expired),
        ("expired before it was used", fresh_expired),
        ("of a disabled tenant", disabled.clone()),
        ("of a disabled tenant, not used before", fresh_disabled),
    ];
    for (what, token) in refused {
        let reply = app.client.with_token(&token).ask("a question").await;
        assert_eq!(appearance(&reply), appearance(&reference), "{what}");
    }
    // Enabled again it is what it was.
    operator.send_json("PATCH", ACME, &json!({ "active": true })).await.expect(200);
    let back = app.client.with_token(&disabled).ask("a question").await.expect(200);
    assert_eq!(back.body["cacheSource"], "hot");
    app.stop().await;
}

/// A typo is seen by its checksum: 200 of them are refused, none is counted against the network's
/// limit, which stands before the hashing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typos_cost_no_hashing() {
    let app = TestApp::builder().full_hash_cost().start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    let tries = (0..200).map(|number| {
        let caller = app.client.with_token(&with_typo(&token, number % 40));
        async move { caller.get("/api/ai-cache/statistics").await.status }
    });
    let statuses = join_all(tries).await;
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    app.client.with_token(&unknown()).get("/api/ai-cache/statistics").await.expect(401);
    app.stop().await;
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// More bad tokens from one network than its limit: 429 with Retry-After, and without hashing, since
/// they are told before those that wait for their turn to be hashed; a token verified before goes on
/// being served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_bad_tokens_is_refused_without_hashing() {
    let app = TestApp::builder().full_hash_cost().start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("a question").await.expect(200);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/api/ai-cache/statistics", app.base());
    let started = Instant::now();
    let replies = join_all((0..FLOOD).map(|_| async {
        let reply = http.get(&url).bearer_auth(unknown()).send().await.unwrap();
        (reply, started.elapsed())
    }));
    let replies = replies.await;
    let refilled = PER_SECOND * usize::try_from(started.elapsed().as_secs() + 1).unwrap();
    // 503: no turn came within the limit, on a busy machine.
    let (hashed, limited): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|(reply, _)| matches!(reply.status().as_u16(), 401 | 503));
    println!("{FLOOD} bad tokens: {} to be hashed, {} refused", hashed.len(), limited.len());
    assert!(hashed.len() <= BURST + refilled, "{} {refilled}", hashed.len());
    for (reply, _) in &limited {
        assert_eq!(reply.status(), 429);
        let pause: u64 = reply.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&pause), "{pause}");
    }
    let times = |replies: Vec<(_, Duration)>| median(replies.iter().map(|(_, at)| *at).collect());
    let (hashed, limited) = (times(hashed), times(limited));
    println!("half of those hashed were told after {hashed:?}, of those refused after {limited:?}");
    assert!(limited < hashed);
    tenant.app.ask("a question").await.expect(200);
    app.stop().await;
}

/// A revoked token stops at once where it was revoked, and within 2.5 s on another replica that had
/// verified it; so does a disabled tenant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_and_a_disabled_tenant_reach_another_replica_in_time() {
    let first = TestApp::start().await;
    let second = TestApp::builder().db(&first.db).start().await;
    let tenant = first.tenant("acme").await;
    let operator = first.operator().await;
    let (revoked, id) = create(&tenant.admin, None).await;
    let (kept, _) = create(&tenant.admin, None).await;
    for app in [&first, &second] {
        for token in [&revoked, &kept] {
            let caller = app.client.with_token(token);
            caller.ask("a question").await.expect(200);
            assert_eq!(caller.ask("a question").await.expect(200).body["cacheSource"], "hot");
        }
    }
    let refused = |token: &str| {
        let caller = second.client.with_token(token);
        move || {
            let caller = caller.clone();
            async move { (caller.ask("a question").await.status == 401).then_some(()) }
        }
    };
    tenant.admin.send("DELETE", &format!("/api/ai-cache/tokens/{id}")).await.expect(204);
    let at = Instant::now();
    first.client.with_token(&revoked).ask("a question").await.expect(401);
    wait_until("the other replica heard of the revocation", refused(&revoked)).await;
    let revocation = at.elapsed();
    second.client.with_token(&kept).ask("a question").await.expect(200);

    operator.send_json("PATCH", ACME, &json!({ "active": false })).await.expect(200);
    let at = Instant::now();
    first.client.with_token(&kept).ask("a question").await.expect(401);
    wait_until("the other replica heard of the disabled tenant", refused(&kept)).await;
    let disabling = at.elapsed();
    println!("on the other replica: revoked after {revocation:?}, disabled after {disabling:?}");
    assert!(revocation < Duration::from_millis(2_500));
    assert!(disabling < Duration::from_millis(2_500));
    second.stop().await;
    first.stop().await;
}
