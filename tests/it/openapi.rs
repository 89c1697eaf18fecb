//! The API document (issue 2 item 10): the checked-in file is what the handlers say, and it leaves
//! nothing out.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

use std::collections::BTreeSet;

use ai_cache::http::openapi;
use ai_cache::http::routes::{AUTHENTICATED, OPEN};
use serde_json::{Value, json};

use crate::support::document::DOCUMENT;

/// Method, path and description of every operation.
fn operations() -> Vec<(String, String, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let item = |path: &String, item: &'static Value| {
        let item = item.as_object().unwrap();
        let path = path.clone();
        item.iter().map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
    };
    paths.iter().flat_map(|(path, operation)| item(path, operation)).collect()
}

#[test]
fn the_checked_in_document_is_what_the_handlers_say() {
    let checked_in = include_str!("../../docs/openapi.json");
    let generated = openapi::text().unwrap();
    assert!(checked_in == generated, "write it anew: ai-cache openapi > docs/openapi.json");
}

#[test]
fn the_document_is_openapi_3_1() {
    assert!(DOCUMENT["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(DOCUMENT["info"]["license"]["identifier"], "Apache-2.0");
    let token = &DOCUMENT["components"]["securitySchemes"]["token"];
    assert_eq!((&token["type"], &token["scheme"]), (&json!("http"), &json!("bearer")));
}

#[test]
fn every_route_is_documented_with_its_role_and_no_other_is() {
    let documented: BTreeSet<(String, String, String)> = operations()
        .into_iter()
        .map(|(method, path, operation)| {
            let roles = operation["security"][0]["token"].as_array();
            let role = roles.map_or("", |roles| roles[0].as_str().unwrap());
            (method, path, role.to_owned())
        })
        .collect();
    let authenticated =
        AUTHENTICATED.iter().map(|route| (route.method, route.path.as_str(), route.role.name()));
    let open = OPEN.iter().map(|route| (route.method, route.path.as_str(), ""));
    let routes: BTreeSet<(String, String, String)> = authenticated
        .chain(open)
        .map(|(method, path, role)| (method.to_owned(), path.to_owned(), role.to_owned()))
        .collect();
    assert_eq!(documented, routes);
}

#[test]
fn every_operation_has_one_success_a_summary_and_its_errors() {
    for (method, path, operation) in operations() {
        let what = format!("{method} {path}");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{what}");
        let responses = operation["responses"].as_object().unwrap();
        let successes = responses.keys().filter(|status| status.starts_with('2')).count();
        assert_eq!(successes, 1, "{what}");
        if operation["security"] == json!([{}]) || operation["security"] == json!([]) {
            continue;
        }
        for class in ["4XX", "5XX"] {
            let schema = &responses[class]["content"]["application/problem+json"]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/ProblemBody", "{what} {class}");
        }
    }
}

#[test]
fn every_parameter_of_a_path_is_described_and_every_reference_leads_somewhere() {
    for (method, path, operation) in operations() {
        let described: BTreeSet<&str> = operation["parameters"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let named: BTreeSet<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(described, named, "{method} {path}");
    }
    let mut references = Vec::new();
    collect(&DOCUMENT, &mut references);
    assert!(references.len() > 20, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(DOCUMENT.pointer(pointer).is_some(), "{reference}");
    }
}

/// Every reference within a value.
fn collect<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| collect(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}
