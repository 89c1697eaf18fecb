//! Connections to Postgres that are cut or dead, and migrations at once.

use std::sync::Arc;

use ai_cache::domain::caller::Role;
use ai_cache::domain::clock::SystemClock;
use ai_cache::domain::ids::SystemIds;
use ai_cache::store::migrate;

use crate::support::services::connect;
use crate::support::{Client, TestApp, rounds};

/// W10: the writer's connections are cut again and again under load: replies counted = records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_no_record_of_a_reply() {
    let app = TestApp::start().await;
    let tenant = Arc::new(app.tenant("acme").await);
    tenant.app.ask("the question").await.expect(200);
    let admin = app.db.superuser().await;
    let load = |_| {
        let tenant = Arc::clone(&tenant);
        async move {
            let mut ids = Vec::new();
            for _ in 0..rounds(50, 1_500) {
                let reply = tenant.app.ask("the question").await;
                if reply.status == 200 {
                    ids.push(reply.header("x-audit-id").unwrap().to_owned());
                }
            }
            ids
        }
    };
    let cuts = async {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(40));
        for _ in 0..rounds(20, 200) {
            ticks.tick().await;
            admin.query_one(cut, &[]).await.unwrap();
        }
    };
    let (ids, ()) = tokio::join!(futures_util::future::join_all((0..32).map(load)), cuts);
    let ids: Vec<String> = ids.into_iter().flatten().collect();
    let query = "SELECT count(DISTINCT id) FROM ai_cache_audit_logs WHERE id::text = ANY ($1)";
    let records: i64 = admin.query_one(query, &[&ids]).await.unwrap().get(0);
    println!("{} replies with data, {records} records of theirs", ids.len());
    assert_eq!(i64::try_from(ids.len()).unwrap(), records);
    assert!(ids.len() > 32 * rounds(50, 1_500) / 2, "most were answered");
    let twice = "SELECT count(*) - count(DISTINCT (writer_id, writer_seq)) FROM ai_cache_audit_logs
                 WHERE writer_id IS NOT NULL";
    assert_eq!(app.db.count(twice).await, 0, "no record is there twice");
    let gaps = "SELECT max(writer_seq) - count(*) FROM ai_cache_audit_logs
                WHERE writer_id IS NOT NULL";
    assert_eq!(app.db.count(gaps).await, 0, "the writer's sequence is dense");
    let requests = "SELECT count(*) - count(DISTINCT request_id) FROM ai_cache_audit_logs
                    WHERE action = 'query' AND outcome = 'hit'";
    assert_eq!(app.db.count(requests).await, 0, "each request has one record");
    app.stop().await;
}

/// Five replicas migrate an empty database at once: each file is applied once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_migrations_at_once_apply_each_file_once() {
    let db = crate::support::TestDb::empty().await;
    let (owner, service) = (db.owner_url().await, db.app_url().await);
    let runs = (0..5).map(|_| migrate::migrate(&owner, Some(&service), &SystemClock, &SystemIds));
    let runs = futures_util::future::join_all(runs).await;
    let applied: usize = runs.into_iter().map(|run| run.unwrap().applied).sum();
    let recorded = db.count("SELECT count(*) FROM refinery_schema_history").await;
    let versions = i64::from(migrate::newest_version());
    println!("{applied} applied by five, {recorded} recorded, {versions} versions");
    assert_eq!((i64::try_from(applied).unwrap(), recorded), (versions, versions));
    drop(connect(&owner).await);
}

/// Connections that died while nobody used them cost no request anything: neither a refusal nor, for
/// an answer that is stored, a call of the upstream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_idle_connections_are_noticed_before_they_are_used() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let questions: Vec<String> = (0..6).map(|number| format!("question {number}")).collect();
    let ask = |caller: Client| {
        let questions = questions.clone();
        async move {
            let asked = questions.iter().map(|question| caller.ask(question));
            futures_util::future::join_all(asked).await
        }
    };
    // Many at once, so that the pools have many connections.
    ask(tenant.app.clone()).await;
    let other = TestApp::builder().db(&app.db).start().await;
    let caller = other.client.with_token(&app.token(tenant.id, &[Role::App]).await);
    let others: Vec<String> = (0..6).map(|number| format!("other {number}")).collect();
    futures_util::future::join_all(others.iter().map(|other| caller.ask(other))).await;
    let calls = other.upstream.calls();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let cut = app.db.count(cut).await;
    let replies = ask(caller).await;
    let cold = replies.iter().filter(|reply| reply.body["cacheSource"] == "cold").count();
    println!("{cut} connections cut, {cold} of {} answered from Postgres", replies.len());
    assert_eq!((cold, other.upstream.calls() - calls), (replies.len(), 0));
    other.stop().await;
    app.stop().await;
}
