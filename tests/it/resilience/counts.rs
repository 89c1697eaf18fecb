//! Replies counted against records.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use uuid::Uuid;

use crate::support::{Client, Reply, Tenant, TestApp, rounds};

const CALLERS: usize = 64;

/// One request of the mix: hits and misses, bad bodies, missing roles, unknown things, changes.
async fn ask(tenant: &Tenant, index: usize) -> Reply {
    let query = |caller: &Client, body| {
        let caller = caller.clone();
        async move { caller.query(&body).await }
    };
    match index % 100 {
        0 => query(&tenant.app, json!({ "query": format!("new question {index}") })).await,
        1 => query(&tenant.app, json!({ "query": "" })).await,
        2 => query(&tenant.admin, json!({ "query": "not my role" })).await,
        3 => tenant.admin.get("/api/ai-cache/entries?limit=2").await,
        4 => tenant.admin.get("/api/ai-cache/statistics").await,
        5 => tenant.admin.get(&format!("/api/ai-cache/entries/{}", Uuid::nil())).await,
        6 => tenant.app.send_raw("POST", "/api/ai-cache/query", b"{".to_vec()).await,
        7 => tenant.app.get("/api/ai-cache/no-such-route").await,
        8 => {
            let body = json!({ "query": "passed by", "cache": { "mode": "bypass" } });
            query(&tenant.app, body).await
        }
        9 if index % 1_000 == 9 => {
            let all = json!({ "invalidateAll": true });
            tenant.admin.post("/api/ai-cache/invalidate", &all).await
        }
        10 => {
            let body = json!({ "query": format!("own {}", index % 7), "subjectId": "couple-1" });
            query(&tenant.app, body).await
        }
        _ => query(&tenant.app, json!({ "query": format!("question {}", index % 32) })).await,
    }
}

/// W10: 3,000 mixed requests of 64 callers, 20,000 in `make chaos`: every reply names its record, and every record is
/// there, with the reply's status.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reply_has_its_own_record() {
    let requests = rounds(3_000, 20_000);
    let app = TestApp::start().await;
    let tenant = Arc::new(app.tenant("acme").await);
    let next = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (tenant, next) = (Arc::clone(&tenant), Arc::clone(&next));
            async move {
                let mut seen = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    if index >= requests {
                        return seen;
                    }
                    let reply = ask(&tenant, index).await;
                    let id = reply.header("x-audit-id").map(|id| Uuid::parse_str(id).unwrap());
                    seen.push((id, reply.status));
                }
            }
        })
        .collect();
    let replies: Vec<(Option<Uuid>, u16)> =
        futures_util::future::join_all(callers).await.into_iter().flatten().collect();
    let ids: Vec<Uuid> = replies.iter().filter_map(|(id, _)| *id).collect();
    let query = "SELECT id::text, status FROM ai_cache_audit_logs WHERE id::text = ANY ($1)";
    let texts: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    let rows = app.db.superuser().await.query(query, &[&texts]).await.unwrap();
    let records: HashMap<Uuid, i16> = rows
        .iter()
        .map(|row| (Uuid::parse_str(row.get(0)).unwrap(), row.get::<_, i16>(1)))
        .collect();
    let failed = replies.iter().filter(|(_, status)| *status >= 500).count();
    println!(
        "{} replies, {} with X-Audit-Id, {} distinct records with those ids, {failed} failed",
        replies.len(),
        ids.len(),
        records.len()
    );
    assert_eq!((replies.len(), ids.len(), records.len()), (requests, requests, requests));
    assert_eq!(failed, 0);
    for (id, status) in replies {
        assert_eq!(records[&id.unwrap()], i16::try_from(status).unwrap(), "{id:?}");
    }
    let gaps = "SELECT count(*) FROM (SELECT max(writer_seq) - count(*) AS gap
                FROM ai_cache_audit_logs WHERE writer_id IS NOT NULL GROUP BY writer_id) w
                WHERE gap <> 0";
    assert_eq!(app.db.count(gaps).await, 0, "each writer's sequence is dense");
    app.stop().await;
}
