//! Fields that break rules (issue 2 "Bad input"): 422, each named by a JSON pointer.

use serde_json::{Value, json};

use super::query_text;
use crate::support::TestApp;

/// A member beside a good query, and the pointers of the reply.
const MEMBERS: &[(&str, &[&str])] = &[
    (r#""operation":"poetry""#, &["/operation"]),
    (r#""operation":"Chat""#, &["/operation"]),
    (r#""operation":1"#, &["/operation"]),
    (r#""subjectId":"""#, &["/subjectId"]),
    (r#""subjectId":" \u00a0""#, &["/subjectId"]),
    (r#""subjectId":4711"#, &["/subjectId"]),
    (r#""model":"""#, &["/model"]),
    (r#""model":"gpt 4""#, &["/model"]),
    (r#""model":["gpt"]"#, &["/model"]),
    (r#""stream":true"#, &["/stream"]),
    (r#""stream":"yes""#, &["/stream"]),
    (r#""parameters":[]"#, &["/parameters"]),
    (r#""parameters":{"model":"x"}"#, &["/parameters/model"]),
    (r#""parameters":{"messages":[]}"#, &["/parameters/messages"]),
    (r#""parameters":{"stream":false}"#, &["/parameters/stream"]),
    (r#""parameters":{"n":2}"#, &["/parameters/n"]),
    (r#""parameters":{"user":"u"}"#, &["/parameters/user"]),
    (r#""parameters":{"user":"u","n":1,"temperature":0}"#, &["/parameters/n", "/parameters/user"]),
    (r#""cache":"bypass""#, &["/cache"]),
    (r#""cache":{"mode":"never"}"#, &["/cache/mode"]),
    (r#""cache":{"mode":false}"#, &["/cache/mode"]),
    (r#""cache":{"ttlSeconds":0}"#, &["/cache/ttlSeconds"]),
    (r#""cache":{"ttlSeconds":-1}"#, &["/cache/ttlSeconds"]),
    (r#""cache":{"ttlSeconds":1.5}"#, &["/cache/ttlSeconds"]),
    (r#""cache":{"ttlSeconds":"600"}"#, &["/cache/ttlSeconds"]),
    (r#""cache":{"ttlSeconds":31536001}"#, &["/cache/ttlSeconds"]),
    (r#""cache":{"ttlSeconds":9223372036854775808}"#, &["/cache/ttlSeconds"]),
    (r#""cache":{"ttlSeconds":99999999999999999999999999}"#, &["/cache/ttlSeconds"]),
    (r#""cache":{"ttlSeconds":1e999999}"#, &["/cache/ttlSeconds"]),
    (r#""cache":{"maxAgeSeconds":-1}"#, &["/cache/maxAgeSeconds"]),
    (r#""cache":{"maxAgeSeconds":0.1}"#, &["/cache/maxAgeSeconds"]),
    (r#""cache":{"maxAgeSeconds":true}"#, &["/cache/maxAgeSeconds"]),
    (r#""cache":{"tags":"nyc"}"#, &["/cache/tags"]),
    (r#""cache":{"tags":["nyc",1,""]}"#, &["/cache/tags/1", "/cache/tags/2"]),
    (r#""cache":{"unknown":1}"#, &["/cache/unknown"]),
    (r#""weddingContext":"NYC""#, &["/weddingContext"]),
    (r#""weddingContext":{"location":1}"#, &["/weddingContext/location"]),
    (r#""weddingContext":{"location":""}"#, &["/weddingContext/location"]),
    (r#""weddingContext":{"vendorTypes":"dj"}"#, &["/weddingContext/vendorTypes"]),
    (r#""weddingContext":{"vendorTypes":["dj",null]}"#, &["/weddingContext/vendorTypes/1"]),
    (r#""weddingContext":{"budget":-1}"#, &["/weddingContext/budget"]),
    (r#""weddingContext":{"budget":"5000"}"#, &["/weddingContext/budget"]),
    (r#""weddingContext":{"weddingDate":"12.06.2027"}"#, &["/weddingContext/weddingDate"]),
    (r#""weddingContext":{"weddingDate":"2027-02-30"}"#, &["/weddingContext/weddingDate"]),
    (r#""weddingContext":{"weddingDate":20270612}"#, &["/weddingContext/weddingDate"]),
    (r#""weddingContext":{"guestCount":-1}"#, &["/weddingContext/guestCount"]),
    (r#""weddingContext":{"guestCount":1.5}"#, &["/weddingContext/guestCount"]),
    (r#""weddingContext":{"guestCount":"many"}"#, &["/weddingContext/guestCount"]),
    (r#""subject":"couple-4711""#, &["/subject"]),
    (r#""wedding_context":{}"#, &["/wedding_context"]),
    (r#""Query":"q""#, &["/Query"]),
    (r#""":1"#, &["/"]),
    (r#""a/b~c":1"#, &["/a~1b~0c"]),
    (
        r#""cache":{"ttlSeconds":0},"operation":1,"zebra":1,"weddingContext":{"budget":-1}"#,
        &["/cache/ttlSeconds", "/operation", "/weddingContext/budget", "/zebra"],
    ),
];

/// Issue 2 "Bad input": each bad field is named, all of them at once, and its value is not repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_that_breaks_a_rule_is_named_by_its_pointer() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for (members, pointers) in MEMBERS {
        let reply = query_text(&tenant.app, &format!("{{\"query\":\"q\",{members}}}")).await;
        assert_eq!((reply.status, reply.problem()), (422, "invalid-field"), "{members}");
        let mut named = reply.pointers();
        named.sort_unstable();
        assert_eq!(named, *pointers, "{members}");
    }
    assert_eq!(app.upstream.calls(), 0);
    let stored = app.db.count("SELECT count(*) FROM ai_cache_entries").await;
    assert_eq!(stored, 0);
    app.stop().await;
}

/// Issue 2 "Bad input": the question itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_has_1_to_16384_bytes_that_are_not_only_white_space() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let bad = [
        Value::Null,
        json!(1),
        json!(true),
        json!(["q"]),
        json!({ "text": "q" }),
        json!(""),
        json!(" \t\n"),
        json!("\u{2003}\u{a0}"),
        json!("x".repeat(16_385)),
        json!("\u{e9}".repeat(8_193)),
    ];
    for query in bad {
        let reply = tenant.app.query(&json!({ "query": query })).await;
        assert_eq!((reply.status, reply.pointers()), (422, vec!["/query"]), "{}", reply.text);
    }
    let absent = tenant.app.query(&json!({})).await.expect(422);
    assert_eq!(absent.pointers(), ["/query"]);
    for query in ["x".to_owned(), "x".repeat(16_384), "\u{e9}".repeat(8_192)] {
        assert_eq!(tenant.app.ask(&query).await.expect(200).body["cached"], false);
    }
    assert_eq!(app.upstream.calls(), 3);
    app.stop().await;
}

/// Text that is legal JSON and nothing else: it is a question like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_of_strange_characters_is_answered_and_cached() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for query in ["\u{0}", "a\u{0}b", "\u{202e}drawkcab", "\u{1f469}\u{200d}\u{1f680}", "\u{ffff}"]
    {
        let asking = json!({ "query": query, "subjectId": "a\u{0}b",
            "weddingContext": { "location": "a\u{0}b", "x\u{0}": "y\u{0}" },
            "cache": { "tags": ["a\u{0}b"] } });
        tenant.app.query(&asking).await.expect(200);
        assert_eq!(tenant.app.query(&asking).await.expect(200).body["cached"], true, "{query:?}");
    }
    let list = tenant.admin.get("/api/ai-cache/entries?tag=a%00b").await.expect(200);
    assert_eq!(list.body["entries"].as_array().unwrap().len(), 5);
    app.stop().await;
}

/// The longest accepted values of each field, and one more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_length_is_accepted_to_its_end_and_not_beyond() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let text = |bytes: usize| json!("x".repeat(bytes));
    let list = |count: usize| json!((0..count).map(|n| format!("t{n}")).collect::<Vec<_>>());
    let limits: [(&str, Value, Value); 8] = [
        ("/subjectId", text(256), text(257)),
        ("/model", text(128), text(129)),
        ("/weddingContext/location", text(256), text(257)),
        ("/weddingContext/vendorTypes", list(32), list(33)),
        ("/weddingContext/guestCount", json!(1_000_000), json!(1_000_001)),
        ("/cache/tags", list(16), list(17)),
        ("/cache/ttlSeconds", json!(31_536_000), json!(31_536_001)),
        ("/cache/maxAgeSeconds", json!(31_536_000), json!(31_536_001)),
    ];
    for (pointer, most, more) in limits {
        let body = |value: &Value| {
            let path: Vec<&str> = pointer.split('/').skip(1).collect();
            let mut member = value.clone();
            for name in path.iter().rev() {
                member = json!({ *name: member });
            }
            member["query"] = json!("q");
            member
        };
        tenant.app.query(&body(&most)).await.expect(200);
        let reply = tenant.app.query(&body(&more)).await.expect(422);
        assert_eq!(reply.pointers(), [pointer]);
    }
    app.stop().await;
}
