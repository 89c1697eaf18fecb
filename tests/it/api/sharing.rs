//! Sharing of answers (api.md "Query"): a person's answers are theirs alone, and a tenant's are the
//! tenant's.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Reply, TestApp};

fn entry(reply: &Reply) -> String {
    reply.body["entryId"].as_str().unwrap().to_owned()
}

/// api.md "Query": with `subjectId` the entry is that person's alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_and_their_tenant_never_share_an_answer() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let people = [json!("couple-4711"), json!("couple-0815"), Value::Null];
    let mut firsts = Vec::new();
    for person in &people {
        let asking = json!({ "query": "a question", "subjectId": person });
        firsts.push(tenant.app.query(&asking).await.expect(200));
    }
    assert!(firsts.iter().all(|reply| reply.body["cached"] == false));
    let entries: BTreeSet<String> = firsts.iter().map(entry).collect();
    assert_eq!((entries.len(), app.upstream.calls()), (3, 3));
    for (person, first) in people.iter().zip(&firsts) {
        let asking = json!({ "query": "a question", "subjectId": person });
        let again = tenant.app.query(&asking).await.expect(200);
        assert_eq!(again.body["cached"], true);
        assert_eq!(entry(&again), entry(first));
        assert_eq!(again.body["data"], first.body["data"]);
    }
    let list = tenant.admin.get("/api/ai-cache/entries").await.expect(200);
    let list = list.body["entries"].as_array().unwrap();
    let private = list.iter().filter(|entry| entry["private"] == true).count();
    assert_eq!((list.len(), private), (3, 2));
    assert_eq!(app.db.count("SELECT count(*) FROM subject_keys").await, 2);
    app.stop().await;
}

/// G2: one person however the name was typed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_one_however_the_name_was_typed() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let mut entries = BTreeSet::new();
    for person in ["zo\u{eb}", " zo\u{eb}\n", "zoe\u{308}"] {
        let asking = json!({ "query": "a question", "subjectId": person });
        entries.insert(entry(&tenant.app.query(&asking).await.expect(200)));
    }
    assert_eq!((entries.len(), app.upstream.calls()), (1, 1));
    app.stop().await;
}

/// W10: another tenant's answer is never given, and its entry is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tenants_never_share_an_answer() {
    let app = TestApp::start().await;
    let (one, other) = (app.tenant("acme").await, app.tenant("globex").await);
    let asking = json!({ "query": "a question", "subjectId": "couple-4711" });
    let first = one.app.query(&asking).await.expect(200);
    let second = other.app.query(&asking).await.expect(200);
    assert_eq!(second.body["cached"], false);
    assert_ne!(entry(&first), entry(&second));
    assert_eq!(app.upstream.calls(), 2);
    for method in ["GET", "DELETE"] {
        let path = format!("/api/ai-cache/entries/{}", entry(&first));
        assert_eq!(other.admin.send(method, &path).await.expect(404).problem(), "not-found");
    }
    let by_id = json!({ "entryId": entry(&first) });
    let gone = other.admin.post("/api/ai-cache/invalidate", &by_id).await.expect(200);
    assert_eq!(gone.body["invalidatedCount"], 0);
    let all = json!({ "invalidateAll": true });
    let gone = other.admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
    assert_eq!(gone.body["invalidatedCount"], 1);
    let still = one.app.query(&asking).await.expect(200);
    assert_eq!((still.body["cached"].clone(), entry(&still)), (json!(true), entry(&first)));
    app.stop().await;
}
