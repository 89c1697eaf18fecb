//! The API document, and the check that a reply is what the document says of its route.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use ai_cache::http::openapi;
use jsonschema::Validator;
use serde_json::{Value, json};

use super::Reply;

/// The document, as a client gets it.
pub static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&openapi::text().unwrap()).unwrap());

/// The schemas of the document that a reply was compared with, each compiled once. The address of a
/// schema identifies it, because the document stays where it is.
static VALIDATORS: LazyLock<Mutex<HashMap<usize, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Returns whether a path of the document is the one that was asked for.
fn matches(template: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap();
    let (wanted, given) = (template.split('/'), path.split('/'));
    template.split('/').count() == path.split('/').count()
        && wanted.zip(given).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
}

/// Panics when a reply is not what the document says of its route. A request for a route that the
/// document does not name must get a problem.
pub fn check(method: &str, path: &str, reply: &Reply) {
    assert!(reply.header("x-request-id").is_some(), "{method} {path} has no request id");
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let item = paths
        .iter()
        .filter(|(template, _)| matches(template, path))
        .find_map(|(_, item)| item.get(method.to_ascii_lowercase()));
    let responses = match item {
        Some(item) => &item["responses"],
        None if reply.status < 400 => return,
        None => &DOCUMENT["paths"]["/api/ai-cache/query"]["post"]["responses"],
    };
    let class = format!("{}XX", reply.status / 100);
    let response = responses.get(reply.status.to_string()).or_else(|| responses.get(&class));
    let response = response
        .unwrap_or_else(|| panic!("{method} {path}: {} is not in the document", reply.status));
    let Some(content) = response.get("content").and_then(Value::as_object) else {
        assert_eq!(reply.text, "", "{method} {path} has a body that is not in the document");
        return;
    };
    let kind = reply.header("content-type").unwrap_or_default().split(';').next().unwrap();
    let media = content.get(kind).unwrap_or_else(|| panic!("{method} {path}: {kind}"));
    let what = format!("{method} {path} {}", reply.status);
    let lines = || reply.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let values: Vec<Value> = match kind {
        "application/x-ndjson" => lines(),
        kind if kind.ends_with("json") => vec![reply.body.clone()],
        _ => return,
    };
    let validator = validator(&media["schema"]);
    for value in &values {
        let faults: Vec<String> = validator
            .iter_errors(value)
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{what} is not what the document says: {faults:?}\n{value:#}");
    }
}

/// Returns the validator of a schema of the document.
fn validator(schema: &'static Value) -> Arc<Validator> {
    let address = std::ptr::from_ref(schema).addr();
    let mut validators = VALIDATORS.lock().unwrap();
    let known = validators.entry(address).or_insert_with(|| {
        let mut whole = schema.clone();
        whole["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        whole["components"] = DOCUMENT["components"].clone();
        Arc::new(jsonschema::validator_for(&whole).unwrap())
    });
    Arc::clone(known)
}
