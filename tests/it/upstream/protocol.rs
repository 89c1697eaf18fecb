//! The requests that are sent, and the reading of answers.

use ai_cache::domain::clock::SystemClock;
use ai_cache::domain::money::{Usage, Usd};
use ai_cache::upstream::{OpenAi, OpenAiSettingsError, Upstream, UpstreamError};
use futures_util::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Arc;

use super::{KEY, MARKER, StandingClock, client, prompt, read, settings, with_parameters};
use crate::support::upstream::{COMPLETION_TOKENS, PROMPT_TOKENS, TestUpstream, completion};

#[tokio::test]
async fn a_question_goes_out_as_a_system_and_a_user_message_and_comes_back_as_reply_data() {
    let server = TestUpstream::start().await;
    let upstream = client(&server);

    let answer = upstream.complete(&prompt("Where?")).await.unwrap();

    let request = &server.requests()[0];
    assert_eq!(request.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/json"));
    let bearer = format!("Bearer {KEY}");
    assert_eq!(request.header("authorization"), Some(bearer.as_str()));
    let expected = json!({
        "model": "gpt-4o-mini",
        "messages": [
            { "role": "system", "content": "You answer." },
            { "role": "user", "content": "Where?" },
        ],
        "stream": false,
    });
    assert_eq!(request.body, expected);
    let text = std::str::from_utf8(answer.data.expose()).unwrap();
    assert_eq!(
        text,
        r#"{"response":"answer 1 to Where?","model":"gpt-4o-mini","usage":{"promptTokens":31,"completionTokens":412}}"#
    );
    let usage = Usage { prompt_tokens: PROMPT_TOKENS, completion_tokens: COMPLETION_TOKENS };
    assert_eq!(answer.usage, usage);
    assert_eq!(answer.cost, Usd(31 * 150_000 + 412 * 600_000));
    assert!(answer.storable);
    assert_eq!((upstream.name(), upstream.default_model()), ("openai", "gpt-4o-mini"));
}

#[tokio::test]
async fn parameters_go_out_beside_the_messages_with_their_numbers_exactly() {
    let server = TestUpstream::start().await;
    let parameters = r#"{"seed":9007199254740993,"temperature":0.10000000000000000001,
        "logit_bias":{"50256":-100},"stop":["a","b"],"big":1e400,"stream":true,"model":"other"}"#;

    let question = with_parameters("Where?", parameters);
    client(&server).complete(&question).await.unwrap();

    let sent = &server.requests()[0].text;
    for part in [
        r#""seed":9007199254740993"#,
        r#""temperature":0.10000000000000000001"#,
        r#""logit_bias":{"50256":-100}"#,
        r#""stop":["a","b"]"#,
        r#""big":1e+400"#,
    ] {
        assert!(sent.contains(part), "{part} is not in {sent}");
    }
    for own in [r#""stream":"#, r#""model":"#] {
        assert_eq!(sent.matches(own).count(), 1, "{own} in {sent}");
    }
    assert!(sent.contains(r#""stream":false"#));
}

#[rstest]
#[case::plain("", "/v1/chat/completions")]
#[case::with_a_slash("/", "/v1/chat/completions")]
#[case::with_a_query("/?api-version=7", "/v1/chat/completions?api-version=7")]
#[tokio::test]
async fn the_base_url_may_end_in_a_slash_or_a_query(#[case] end: &str, #[case] target: &str) {
    let server = TestUpstream::start().await;
    let base = format!("{}{end}", server.url());
    let upstream = OpenAi::new(settings(&base), StandingClock::new()).unwrap();

    upstream.complete(&prompt("Where?")).await.unwrap();

    let line = format!("POST {target} HTTP/1.1");
    assert_eq!(server.requests()[0].line, line);
}

#[tokio::test]
async fn a_base_without_version_and_a_server_without_key_are_used_as_given() {
    let server = TestUpstream::start().await;
    let mut settings = settings(server.url().trim_end_matches("/v1"));
    settings.api_key = None;
    let upstream = OpenAi::new(settings, StandingClock::new()).unwrap();

    upstream.complete(&prompt("Where?")).await.unwrap();

    let request = &server.requests()[0];
    assert_eq!(request.line, "POST /chat/completions HTTP/1.1");
    assert_eq!(request.header("authorization"), None);
}

#[tokio::test]
async fn any_text_arrives_unchanged() {
    let server = TestUpstream::start().await;
    let text = "\"quoted\" \\ \u{0} \u{1f} \u{2028} \n é 婚礼 👰‍♀️ </script>".repeat(500);
    let scripted = text.clone();
    server.answer_with(move |_| scripted.clone());

    let answer = client(&server).complete(&prompt("Where?")).await.unwrap();

    assert_eq!(read(&answer)["response"], Value::from(text));
}

#[rstest]
#[case::ended(completion("text", "stop"), "text", true)]
#[case::cut_at_the_limit(completion("text", "length"), "text", false)]
#[case::filtered(completion("text", "content_filter"), "text", false)]
#[case::called_a_tool(completion("text", "tool_calls"), "text", false)]
#[case::ended_for_no_reason(completion("text", ""), "text", false)]
#[case::in_parts(
    completion(json!([{ "type": "text", "text": "te" }, { "type": "text", "text": "xt" }]), "stop"),
    "text",
    true
)]
#[case::refused(
    json!({ "choices": [{ "message": { "content": null, "refusal": "no" }, "finish_reason": "stop" }] }),
    "no",
    false
)]
#[case::refused_in_parts(
    completion(json!([{ "type": "refusal", "refusal": "no" }]), "stop"),
    "no",
    false
)]
#[tokio::test]
async fn only_an_answer_that_ended_by_itself_may_be_stored(
    #[case] body: Value,
    #[case] text: &str,
    #[case] storable: bool,
) {
    let server = TestUpstream::start().await;
    server.then_json(body);

    let answer = client(&server).complete(&prompt("Where?")).await.unwrap();

    assert_eq!(read(&answer)["response"], text);
    assert_eq!(answer.storable, storable);
}

#[tokio::test]
async fn a_truncated_answer_is_handed_out_and_costs_but_is_not_stored() {
    let server = TestUpstream::start().await;
    server.then_truncated();

    let answer = client(&server).complete(&prompt("Where?")).await.unwrap();

    assert_eq!(read(&answer)["response"], "a beginning");
    assert!(!answer.storable);
    assert_eq!(answer.cost, Usd(31 * 150_000 + 412 * 600_000));
}

#[rstest]
#[case::none(Value::Null)]
#[case::of_another_shape(json!({ "tokens": 7 }))]
#[case::of_another_type(json!({ "prompt_tokens": "31", "completion_tokens": -1 }))]
#[tokio::test]
async fn an_answer_without_usable_counts_has_no_usage_and_no_cost(#[case] usage: Value) {
    let server = TestUpstream::start().await;
    let mut body = completion("text", "stop");
    body["usage"] = usage;
    body["model"] = Value::Null;
    server.then_json(body);

    let answer = client(&server).complete(&prompt("Where?")).await.unwrap();

    let expected = json!({ "response": "text", "model": "gpt-4o-mini" });
    assert_eq!(read(&answer), expected);
    assert_eq!((answer.usage, answer.cost), (Usage::default(), Usd(0)));
    assert!(answer.storable);
}

#[tokio::test]
async fn a_reply_names_the_model_that_answered() {
    let server = TestUpstream::start().await;
    let mut body = completion("text", "stop");
    body["model"] = "gpt-4o-mini-2024-07-18".into();
    server.then_json(body);

    let answer = client(&server).complete(&prompt("Where?")).await.unwrap();

    assert_eq!(read(&answer)["model"], "gpt-4o-mini-2024-07-18");
}

#[rstest]
#[case::nothing(completion(Value::Null, "stop"))]
#[case::the_empty_text(completion("", "stop"))]
#[case::white_space(completion(" \n", "stop"))]
#[case::no_part(completion(json!([]), "stop"))]
#[case::only_a_tool_call(completion(Value::Null, "tool_calls"))]
#[case::filtered_whole(completion("", "content_filter"))]
#[case::an_error(json!({ "error": { "message": "over capacity" } }))]
#[case::no_choices(json!({ "model": "m" }))]
#[case::empty_choices(json!({ "choices": [] }))]
#[case::no_message(json!({ "choices": [{ "finish_reason": "stop" }] }))]
#[case::a_number(completion(7, "stop"))]
#[case::an_array(json!([]))]
#[tokio::test]
async fn a_success_without_text_is_a_bad_answer(#[case] body: Value) {
    let server = TestUpstream::start().await;
    server.then_json(body);

    let error = client(&server).complete(&prompt("Where?")).await.unwrap_err();

    assert!(matches!(error, UpstreamError::BadAnswer { .. }), "{error:?}");
    assert_eq!(server.calls(), 1, "a bad answer was asked for again");
}

#[tokio::test]
async fn callers_at_the_same_time_get_each_their_own_answer() {
    let server = TestUpstream::start().await;
    server.answer_with(|question| format!("re: {question}"));
    server.hold();
    let upstream = client(&server);
    let prompts: Vec<_> = (0..20).map(|n| prompt(&format!("question {n}"))).collect();

    let asking = join_all(prompts.iter().map(|prompt| upstream.complete(prompt)));
    let releasing = async {
        server.wait_for_calls(20).await;
        server.release();
    };
    let (answers, ()) = tokio::join!(asking, releasing);

    for (n, answer) in answers.into_iter().enumerate() {
        let response = read(&answer.unwrap())["response"].clone();
        assert_eq!(response, format!("re: question {n}"));
    }
    assert_eq!(server.calls(), 20);
}

#[rstest]
#[case::relative("localhost/v1")]
#[case::of_another_scheme("ftp://localhost/v1")]
#[case::without_host("http://")]
#[case::with_a_password("http://user:password@localhost/v1")]
fn a_base_url_that_is_none_is_refused(#[case] base: &str) {
    let made = OpenAi::new(settings(base), StandingClock::new());
    assert!(matches!(made.err(), Some(OpenAiSettingsError::BaseUrl)));
}

#[test]
fn a_key_that_no_header_can_carry_is_refused_without_being_shown() {
    let mut settings = settings("http://localhost/v1");
    settings.api_key = Some(format!("{MARKER}\n"));
    let error = OpenAi::new(settings, StandingClock::new()).err().unwrap();
    assert!(matches!(error, OpenAiSettingsError::ApiKey));
    assert!(!format!("{error} {error:?}").contains(MARKER));
}

/// Building it must not need a TLS provider installed for the whole process; root certificates may
/// be missing on the machine.
#[test]
fn https_needs_nothing_set_up_beforehand_but_root_certificates() {
    let made = OpenAi::new(settings("https://localhost/v1"), Arc::new(SystemClock));
    assert!(matches!(made.err(), None | Some(OpenAiSettingsError::Client(_))));
}
