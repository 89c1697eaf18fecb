//! The source tree keeps its rules: the direction of modules, what only one module may touch, the
//! shape of functions, and one meaning for each type's name.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

mod cycles;
mod proofs;
mod references;
mod rules;
mod shape;

use std::fs;
use std::path::Path;

/// Returns every source file, as its path from the project's folder and its text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                files.push((name.to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn every_source_file_keeps_the_rules() {
    let files = sources();
    let faults: Vec<String> =
        files.iter().flat_map(|(path, source)| rules::violations(path, source)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_files_of_a_module_form_no_circle() {
    let circles = cycles::cycles(&sources());
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn every_function_has_few_parameters_and_none_is_a_tuple_or_a_bool() {
    let faults: Vec<String> =
        sources().iter().flat_map(|(path, source)| shape::faults(path, source)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_checker_of_shapes_sees_what_it_forbids() {
    let source = "fn f((a, b): (u8, u8), c: &(u8, u8), d: bool, e: (), g: &(dyn Send + Sync)) {}
                  trait T { fn t(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8); }";
    let faults = shape::faults("src/x.rs", source);
    let said = ["f has a tuple", "f has a tuple", "f has a bool", "t has 6 parameters"];
    assert_eq!(faults.len(), said.len(), "{faults:?}");
    assert!(faults.iter().zip(said).all(|(fault, said)| fault.contains(said)), "{faults:?}");
}

#[test]
fn every_name_of_a_type_has_one_meaning() {
    let files = sources();
    let shared = shape::shared_names(&files);
    assert!(shared.is_empty(), "\n{shared:#?}");
}

/// A checker that reads nothing finds nothing.
#[test]
fn the_checker_sees_the_edges_that_are_there() {
    let files = sources();
    let mut edges = std::collections::BTreeSet::new();
    for (path, source) in &files {
        let own = rules::top_module(path);
        for reference in references::read(path, source).unwrap().paths {
            if reference.inside && reference.segments.first().is_some_and(|top| *top != own) {
                edges.insert((own.clone(), reference.segments[0].clone()));
            }
        }
    }
    assert!(files.len() >= 30, "only {} files", files.len());
    assert!(edges.len() >= 5, "only {} edges", edges.len());
}
