//! Each rule of the architecture is able to fail: small files that break one and only one.

use rstest::rstest;

use super::cycles::cycles;
use super::rules::violations;

/// Returns the faults of a file with this path and body.
fn faults(path: &str, body: &str) -> Vec<String> {
    violations(path, &format!("//! A file.\n{body}\n"))
}

#[rstest]
#[case::import("use crate::call::Query;")]
#[case::grouped("use crate::{domain::ids, call::{query::{Query}}};")]
#[case::grouped_self("use crate::{domain::ids, call::{self}};")]
#[case::renamed("use crate::call as lower;")]
#[case::glob("use crate::call::*;")]
#[case::by_super("use super::super::call::Query;")]
#[case::in_an_expression("fn f() { let _ = crate::call::query(1); }")]
#[case::in_a_type("fn f(_: Vec<crate::call::Query>) {}")]
#[case::in_a_bound("fn f<T: crate::call::Ask>(_: T) {}")]
#[case::in_a_pattern("fn f(x: u8) -> bool { matches!(x, crate::call::ONE) }")]
#[case::in_an_attribute("#[derive(crate::call::Derive)] struct S;")]
#[case::in_a_string("struct S { #[serde(with = \"crate::call::wire\")] a: u8 }")]
#[case::in_a_macro("fn f() { vec![1, crate::call::two()]; }")]
#[case::in_a_macro_rule("macro_rules! m { () => { $crate::call::query() }; }")]
#[case::in_a_nested_module("mod inner { use super::super::super::call::Query; }")]
#[case::handed_on("pub use crate::call::Query;")]
fn an_upward_edge_is_reported(#[case] body: &str) {
    let faults = faults("src/store/entries.rs", body);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("upward edge: crate::call"));
}

#[rstest]
#[case::import("use crate::redis::Handle;")]
#[case::in_an_expression("fn f() { crate::redis::ping(); }")]
#[case::in_a_macro("fn f() { println!(\"{}\", crate::redis::NAME); }")]
#[case::by_super("use super::super::redis::Handle;")]
fn a_sideways_edge_is_reported(#[case] body: &str) {
    let faults = faults("src/store/entries.rs", body);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("sideways edge: crate::redis"));
}

#[rstest]
#[case("use crate::*;")]
#[case("use crate as root;")]
#[case("use crate::{self as root};")]
#[case("use super::super::*;")]
#[case("use crate::unheard_of::Thing;")]
#[case("extern crate ai_cache;")]
#[case("fn f() { ai_cache::call::query(); }")]
fn a_way_around_the_layers_is_reported(#[case] body: &str) {
    assert_eq!(faults("src/store/entries.rs", body).len(), 1, "{body}");
}

#[test]
fn a_module_without_a_layer_is_reported() {
    assert_eq!(faults("src/helpers.rs", "").len(), 1);
}

#[rstest]
#[case("src/answering/query.rs", "use sqlx::PgPool;")]
#[case("src/answering/query.rs", "fn f() { ::sqlx::query(\"\"); }")]
#[case("src/embedded/mod.rs", "use sqlx::PgPool;")]
#[case("src/answering/query.rs", "use crate::store::sqlx::PgPool;")]
#[case("src/audit/writer.rs", "use tokio_postgres::Client;")]
#[case("src/tiers/warm.rs", "use redis::Cmd;")]
#[case("src/tiers/warm.rs", "fn f() { deadpool_redis::redis::cmd(\"GET\"); }")]
#[case("src/answering/query.rs", "use actix_web::web;")]
#[case("src/app.rs", "#[actix_web::main] async fn main() {}")]
#[case("src/app.rs", "use utoipa_actix_web::AppExt;")]
#[case("src/cli/serve.rs", "extern crate sqlx;")]
#[case("src/cli/serve.rs", "use dotenvy::dotenv;")]
fn a_crate_out_of_its_place_is_reported(#[case] path: &str, #[case] body: &str) {
    assert!(!faults(path, body).is_empty(), "{path}: {body}");
}

#[rstest]
#[case("fn f(s: &X) { s.expose(); }")]
#[case("fn f(s: &X) { s.open(&key, &context); }")]
#[case("fn f(s: &X) { assert!(s.open(&key, &context,).is_ok()); }")]
#[case("fn f(s: &X) { debug!(\"{:?}\", s.expose()); }")]
#[case("fn f() { values.map(Sealed::open); }")]
#[case("fn f() { values.map(crate::crypto::Secret::expose); }")]
#[case("use crate::crypto::Secret as Open;")]
fn opening_what_is_sealed_outside_the_keyring_is_reported(#[case] body: &str) {
    assert_eq!(faults("src/answering/query.rs", body).len(), 1, "{body}");
    assert!(faults("src/keyring/entry_keys.rs", body).is_empty());
}

#[rstest]
#[case("src/app.rs", "use std::env;")]
#[case("src/app.rs", "use std::{env, fs};")]
#[case("src/store/mod.rs", "fn f() { std::env::var(\"HOME\"); }")]
#[case("src/store/mod.rs", "fn f() { std::env::args(); }")]
#[case("src/main.rs", "fn f() { std::env::var(\"HOME\"); }")]
fn reading_the_environment_outside_config_is_reported(#[case] path: &str, #[case] body: &str) {
    assert_eq!(faults(path, body).len(), 1, "{path}: {body}");
}

#[test]
fn a_file_without_its_head_or_with_too_many_lines_is_reported() {
    assert_eq!(violations("src/app.rs", "fn f() {}\n").len(), 1);
    assert_eq!(faults("src/app.rs", &"\n".repeat(399)).len(), 1);
    assert_eq!(violations("src/app.rs", "//! Broken.\nfn f( {}\n").len(), 1);
}

#[rstest]
#[case("src/answering/query.rs", "use crate::{audit::Receipt, domain::ids::EntryId};")]
#[case("src/answering/query.rs", "use super::fill; pub(in crate::answering) fn f() {}")]
#[case("src/answering/query.rs", "/// See `crate::http`.\nfn f() {}")]
#[case("src/answering/query.rs", "fn f() { let _ = \"use crate::http\"; }")]
#[case("src/answering/query.rs", "use crate::redis; fn f() { redis::ping(); }")]
#[case("src/answering/query.rs", "fn f(a: ::std::fmt::Error) { self.redis.get(); }")]
#[case("src/config/mod.rs", "mod redis; pub use redis::RedisConfig;")]
#[case("src/embedded/place.rs", "fn f() { options.open(path); }")]
#[case("src/embedded/place.rs", "fn f() { std::env::split_paths(text); }")]
#[case("src/keyring/mod.rs", "fn f() { sealed.open(&key, &context); }")]
#[case("src/config/source.rs", "fn f() { std::env::var(\"HOME\"); }")]
#[case("src/cli/mod.rs", "fn f() { std::env::args_os(); }")]
#[case("src/http/server.rs", "use actix_web::web;")]
#[case("src/lib.rs", "pub mod domain; pub use crate::cli::main;")]
fn what_is_allowed_is_not_reported(#[case] path: &str, #[case] body: &str) {
    assert_eq!(faults(path, body), Vec::<String>::new());
}

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<_> =
        files.iter().map(|(path, source)| ((*path).to_owned(), (*source).to_owned())).collect();
    cycles(&files)
}

#[test]
fn a_circle_of_files_is_reported() {
    let found = circles(&[
        ("src/a/mod.rs", "mod b; mod c; mod d; pub use d::Thing;"),
        ("src/a/b.rs", "use super::c::Y;"),
        ("src/a/c.rs", "fn f() { crate::a::Thing::new(); }"),
        ("src/a/d.rs", "pub struct Thing; fn f() { super::b::g(); }"),
    ]);
    assert_eq!(found, ["a::b → a::c → a::d"]);
}

#[test]
fn handing_on_a_childs_names_is_no_circle() {
    let found = circles(&[
        ("src/a/mod.rs", "mod b; mod c; pub use b::B; pub struct Error;"),
        ("src/a/b.rs", "use super::{Error, c::C};"),
        ("src/a/c.rs", "use super::Error;"),
    ]);
    assert_eq!(found, Vec::<String>::new());
}
