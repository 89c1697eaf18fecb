//! The bodies and query strings of the API document are those that the parsers read. A request that
//! holds every word of the sources as a field shows which fields a parser knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ai_cache::domain::caller::Role;
use serde_json::{Map, Value, json};

use crate::support::document::DOCUMENT;
use crate::support::{Client, Reply, TestApp};

const RANDOM: &str = "01890000-0000-7000-8000-000000000000";

/// The detail of a field that no parser took.
const UNKNOWN: &str = "is not a known field";

/// A good value of a required field, whatever the route.
fn sample(field: &str) -> Value {
    match field {
        "query" => json!("a question"),
        "roles" => json!(["admin"]),
        "slug" => json!("another"),
        "name" => json!("Another"),
        "type" => json!("export"),
        "subjectId" => json!("couple-1"),
        "reason" => json!("a reason"),
        other => panic!("a new required field needs a value here: {other}"),
    }
}

/// Every quoted word of the sources that read requests. The name of each field is among them.
fn words() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = vec![root.join("src/http"), root.join("src/domain")];
    let mut words = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(path).unwrap();
            let quoted = source.split('"').filter(|text| {
                text.len() <= 40
                    && text.starts_with(|first: char| first.is_ascii_lowercase())
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            });
            words.extend(quoted.map(str::to_owned));
        }
    }
    words
}

/// The errors of a reply below `within`: the name of the field and what is wrong with it.
fn errors<'r>(reply: &'r Reply, within: &str) -> Vec<(&'r str, &'r str)> {
    let errors = reply.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |error: &'r Value, member| error[member].as_str().unwrap();
    let below = errors.iter().filter_map(|error| {
        let name = text(error, "pointer").strip_prefix(within)?.strip_prefix('/')?;
        Some((name, text(error, "detail")))
    });
    below.collect()
}

/// The words that a parser knows, by its reply to a request that held all of them. A parser that
/// takes every field knows those whose kind it refuses.
fn known(reply: &Reply, within: &str, words: &BTreeSet<String>) -> BTreeSet<String> {
    let (unknown, wrong): (Vec<_>, Vec<_>) =
        errors(reply, within).into_iter().partition(|(_, detail)| *detail == UNKNOWN);
    let names = |errors: Vec<(&str, &str)>| -> BTreeSet<String> {
        errors.iter().map(|(name, _)| (*name).to_owned()).collect()
    };
    if unknown.is_empty() { names(wrong) } else { words - &names(unknown) }
}

/// The schema that a schema refers to, directly or as one that may be null. `None` means that it
/// refers to no other.
fn referred(schema: &Value) -> Option<&'static Value> {
    let choices = schema["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut all = choices.iter().chain([schema]);
    let reference = all.find_map(|choice| choice["$ref"].as_str())?;
    DOCUMENT.pointer(reference.strip_prefix('#')?)
}

fn properties(schema: &Value) -> Map<String, Value> {
    schema["properties"].as_object().unwrap().clone()
}

/// Sends objects that hold every word as a field, as the body itself or as its member `within`,
/// once as they are and once with each documented boolean set. Returns the fields that were known.
async fn known_fields(
    route: &Documented,
    caller: &Client,
    words: &BTreeSet<String>,
    within: Option<&str>,
    documented: &Map<String, Value>,
) -> BTreeSet<String> {
    let all: Map<String, Value> = words.iter().map(|word| (word.clone(), json!({}))).collect();
    let mut bodies = vec![all.clone()];
    for (flag, schema) in documented {
        if schema["type"].to_string().contains("boolean") {
            let mut body = all.clone();
            body.insert(flag.clone(), json!(true));
            bodies.push(body);
        }
    }
    let mut found = BTreeSet::new();
    for body in bodies {
        let (body, pointer) = match within {
            None => (Value::Object(body), String::new()),
            Some(name) => (json!({ name: body }), format!("/{name}")),
        };
        let reply = caller.send_json(&route.method, &route.path, &body).await.expect(422);
        found.extend(known(&reply, &pointer, words));
    }
    found
}

/// A body without one of its required fields is refused for it, and one with all of them is not
/// refused for the lack of another.
async fn check_required(route: &Documented, caller: &Client, schema: &Value) {
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let required: Vec<&str> = required.iter().map(|name| name.as_str().unwrap()).collect();
    for absent in required.iter().map(|name| Some(*name)).chain([None]) {
        let given = required.iter().filter(|name| Some(**name) != absent);
        let body: Map<String, Value> =
            given.map(|name| ((*name).to_owned(), sample(name))).collect();
        let reply = caller.send_json(&route.method, &route.path, &Value::Object(body)).await;
        let errors = errors(&reply, "");
        let what = format!("{} {} without {absent:?}: {}", route.method, route.path, reply.text);
        match absent {
            Some(absent) => {
                let names: Vec<&str> = errors.iter().map(|(name, _)| *name).collect();
                assert_eq!((reply.status, names.as_slice()), (422, [absent].as_slice()), "{what}");
            }
            None => assert!(errors.iter().all(|(_, detail)| *detail != "is required"), "{what}"),
        }
    }
}

struct Documented {
    method: String,
    path: String,
    operation: &'static Value,
}

/// Every operation that needs a token, with ids for the parameters of its path.
fn operations() -> Vec<Documented> {
    let mut found = Vec::new();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["security"] == json!([{}]) {
                continue;
            }
            let path = path.replace("{slug}", "acme").replace("{entryId}", RANDOM);
            let path = path.replace("{tokenId}", RANDOM).replace("{requestId}", RANDOM);
            found.push(Documented { method: method.to_ascii_uppercase(), path, operation });
        }
    }
    found
}

/// Issue 2 item 10: a body's documented fields are those that are read, and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_field_of_a_body_is_read_and_no_other_is() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let caller = app.client.with_token(&app.token(tenant.id, &Role::ALL).await);
    let words = words();
    let (mut bodies, mut fields, mut faults) = (0, 0, Vec::<String>::new());
    for route in operations() {
        let Some(schema) = route.operation.get("requestBody") else { continue };
        let schema = referred(&schema["content"]["application/json"]["schema"]).unwrap();
        let documented = properties(schema);
        let inner = documented.iter().filter_map(|(name, schema)| {
            Some((Some(name.as_str()), properties(referred(schema)?)))
        });
        for (within, documented) in inner.chain([(None, documented.clone())]) {
            let known = known_fields(&route, &caller, &words, within, &documented).await;
            let names: BTreeSet<String> = documented.keys().cloned().collect();
            for name in known.symmetric_difference(&names) {
                let only = if known.contains(name) { "read" } else { "documented" };
                faults.push(format!(
                    "{} {} {within:?} {name}: only {only}",
                    route.method, route.path
                ));
            }
            bodies += 1;
            fields += names.len();
        }
        check_required(&route, &caller, schema).await;
    }
    println!("{} words tried as fields of {bodies} bodies, {fields} known", words.len());
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(bodies >= 14 && fields >= 40, "{bodies} bodies, {fields} fields");
    app.stop().await;
}

/// Issue 2 item 10: a query string's documented parameters are those that are read, and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_parameter_of_a_query_string_is_read_and_no_other_is() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let caller = app.client.with_token(&app.token(tenant.id, &Role::ALL).await);
    let words = words();
    let all: Vec<String> = words.iter().map(|word| format!("{word}=x")).collect();
    let (mut parameters, mut faults) = (0, Vec::<String>::new());
    for route in operations().into_iter().filter(|route| route.method == "GET") {
        let described = route.operation["parameters"].as_array();
        let described = described.map(Vec::as_slice).unwrap_or_default().iter();
        let described = described.filter(|parameter| parameter["in"] == "query");
        let documented: BTreeSet<String> =
            described.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
        let reply = caller.get(&format!("{}?{}", route.path, all.join("&"))).await;
        let read = if reply.status == 422 { known(&reply, "", &words) } else { BTreeSet::new() };
        for name in read.symmetric_difference(&documented) {
            let only = if read.contains(name) { "read" } else { "documented" };
            faults.push(format!("{} {name}: only {only}", route.path));
        }
        parameters += documented.len();
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(parameters >= 20, "{parameters} parameters");
    app.stop().await;
}
