//! Decides when two questions are the same (api.md "Query", issue 2 item 6). The tests go through
//! HTTP, because what counts is what a caller gets.

use super::query_text;
use crate::support::TestApp;

/// Two bodies' members besides the query, and what is tried with them.
type Pair = (&'static str, &'static str, &'static str);

const SAME: &[Pair] = &[
    (
        "case, order, repetition and space of vendor types",
        r#""weddingContext":{"vendorTypes":["Photographer"," DJ "]}"#,
        r#""weddingContext":{"vendorTypes":["dj","photographer","dj","PHOTOGRAPHER"]}"#,
    ),
    (
        "a budget with a point",
        r#""weddingContext":{"budget":5000}"#,
        r#""weddingContext":{"budget":5000.0}"#,
    ),
    (
        "a budget with an exponent",
        r#""weddingContext":{"budget":5000}"#,
        r#""weddingContext":{"budget":5e3}"#,
    ),
    ("an empty context and none", r#""weddingContext":{}"#, r#""operation":"wedding-query""#),
    ("null and absent", r#""weddingContext":{"location":null}"#, r#""weddingContext":null"#),
    (
        "the order of members",
        r#""weddingContext":{"x":{"a":1,"b":[2]},"location":"NYC"}"#,
        r#""weddingContext":{"location":"NYC","x":{"b":[2.0],"a":1}}"#,
    ),
    ("a named and an assumed model", r#""model":"gpt-4o-mini""#, r#""model":null"#),
    ("no parameters", r#""parameters":{}"#, r#""parameters":null"#),
    (
        "a parameter's form",
        r#""parameters":{"temperature":0}"#,
        r#""parameters":{"temperature":0.00}"#,
    ),
    (
        "tags and times",
        r#""cache":{"tags":["nyc"],"ttlSeconds":60}"#,
        r#""cache":{"maxAgeSeconds":600}"#,
    ),
];

const DIFFERENT: &[Pair] = &[
    (
        "budgets beyond floating point",
        r#""weddingContext":{"budget":9007199254740992}"#,
        r#""weddingContext":{"budget":9007199254740993}"#,
    ),
    ("a budget and none", r#""weddingContext":{"budget":0}"#, r#""weddingContext":{}"#),
    (
        "case of a location",
        r#""weddingContext":{"location":"NYC"}"#,
        r#""weddingContext":{"location":"nyc"}"#,
    ),
    (
        "dates",
        r#""weddingContext":{"weddingDate":"2027-06-12"}"#,
        r#""weddingContext":{"weddingDate":"2027-06-13"}"#,
    ),
    ("guests", r#""weddingContext":{"guestCount":120}"#, r#""weddingContext":{"guestCount":121}"#),
    (
        "one more vendor type",
        r#""weddingContext":{"vendorTypes":["dj"]}"#,
        r#""weddingContext":{"vendorTypes":["dj","venue"]}"#,
    ),
    (
        "a member of our own invention",
        r#""weddingContext":{"style":"boho"}"#,
        r#""weddingContext":{"style":"rustic"}"#,
    ),
    ("an invented member and none", r#""weddingContext":{"style":null}"#, r#""weddingContext":{}"#),
    ("a number and its text", r#""weddingContext":{"x":1}"#, r#""weddingContext":{"x":"1"}"#),
    (
        "the order of an invented list",
        r#""weddingContext":{"x":[1,2]}"#,
        r#""weddingContext":{"x":[2,1]}"#,
    ),
    (
        "what is joined in another place",
        r#""weddingContext":{"a":"1","b":""}"#,
        r#""weddingContext":{"a":"","b":"1"}"#,
    ),
    ("operations", r#""operation":"chat""#, r#""operation":"meal-plan""#),
    ("models", r#""model":"gpt-4o""#, r#""model":"gpt-4o-mini""#),
    ("parameters", r#""parameters":{"temperature":0}"#, r#""parameters":{"temperature":1}"#),
    ("a parameter and none", r#""parameters":{"seed":1}"#, r#""parameters":{}"#),
];

/// W2: what does not count must not cost a call; what counts must not be mistaken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_count_shares_an_entry_and_what_counts_does_not() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let all = SAME.iter().map(|pair| (pair, true));
    let all = all.chain(DIFFERENT.iter().map(|pair| (pair, false)));
    for (number, ((what, one, other), same)) in all.enumerate() {
        let body = |members: &str| format!("{{\"query\":\"question {number}\",{members}}}");
        let first = query_text(&tenant.app, &body(one)).await.expect(200);
        let second = query_text(&tenant.app, &body(other)).await.expect(200);
        assert_eq!(first.body["cached"], false, "{what}");
        assert_eq!(second.body["cached"], same, "{what}");
        assert_eq!(first.body["entryId"] == second.body["entryId"], same, "{what}");
    }
    assert_eq!(app.upstream.calls(), SAME.len() + 2 * DIFFERENT.len());
    app.stop().await;
}

/// domain `normalize`: white space and composition of the question do not count, its case does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn white_space_and_composition_of_a_question_do_not_count_but_its_case_does() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let first = tenant.app.ask("Caf\u{e9} for IT people").await.expect(200);
    let spaced = tenant.app.ask("  Cafe\u{301}\tfor \n IT   people ").await.expect(200);
    let folded = tenant.app.ask("caf\u{e9} for it people").await.expect(200);
    assert_eq!(spaced.body["entryId"], first.body["entryId"]);
    assert_ne!(folded.body["entryId"], first.body["entryId"]);
    app.stop().await;
}
