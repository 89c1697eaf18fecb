//! Finds circles: files of one top-level module that use each other.

use std::collections::{BTreeMap, BTreeSet};

use super::references::{Reference, module_of, read};

type Module = Vec<String>;
type Edges = BTreeMap<Module, BTreeSet<Module>>;

/// Returns the circles among files of one top-level module, each as the names of its files.
pub fn cycles(files: &[(String, String)]) -> Vec<String> {
    let edges = edges(files);
    let mut found = Vec::new();
    let mut done = BTreeSet::new();
    for start in edges.keys() {
        follow(start, &edges, &mut Vec::new(), &mut done, &mut found);
    }
    found
}

fn follow(
    at: &Module,
    edges: &Edges,
    trail: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
    found: &mut Vec<String>,
) {
    if let Some(begin) = trail.iter().position(|module| module == at) {
        let circle: Vec<String> = trail[begin..].iter().map(|name| name.join("::")).collect();
        found.push(circle.join(" → "));
        return;
    }
    if done.contains(at) {
        return;
    }
    trail.push(at.clone());
    for target in edges.get(at).into_iter().flatten() {
        follow(target, edges, trail, done, found);
    }
    trail.pop();
    done.insert(at.clone());
}

fn edges(files: &[(String, String)]) -> Edges {
    let modules: BTreeSet<Module> = files.iter().map(|(path, _)| module_of(path)).collect();
    let mut references: BTreeMap<Module, Vec<Reference>> = BTreeMap::new();
    for (path, source) in files {
        let own = module_of(path);
        if own.is_empty() {
            continue;
        }
        let found = read(path, source).unwrap_or_default().paths;
        let found = found.into_iter().filter_map(|reference| {
            let reference = from_root(reference, &own, &modules);
            let same_top = reference.segments.first() == own.first();
            (reference.inside && same_top).then_some(reference)
        });
        references.insert(own.clone(), found.collect());
    }
    let mut edges = Edges::new();
    for (own, found) in &references {
        let targets = found
            .iter()
            .filter(|reference| !reference.exported)
            .filter_map(|reference| target(&reference.segments, &modules, &references))
            // A child may use what its parent's file defines, because it is part of that.
            .filter(|target| !own.starts_with(target));
        edges.insert(own.clone(), targets.collect());
    }
    edges
}

/// Leads a path that begins with a child module into the crate.
fn from_root(mut reference: Reference, own: &Module, modules: &BTreeSet<Module>) -> Reference {
    if !reference.inside {
        let full: Module = own.iter().chain(&reference.segments).cloned().collect();
        let child = own.len() + 1;
        if full.len() >= child && modules.contains(&full[..child]) {
            reference.inside = true;
            reference.segments = full;
        }
    }
    reference
}

/// Returns the file that owns what a path names, found through what modules hand on.
fn target(
    segments: &[String],
    modules: &BTreeSet<Module>,
    references: &BTreeMap<Module, Vec<Reference>>,
) -> Option<Module> {
    let length =
        (1..=segments.len()).rev().find(|length| modules.contains(&segments[..*length]))?;
    let owner = segments[..length].to_vec();
    let Some(item) = segments.get(length) else {
        return Some(owner);
    };
    let handed_on = references.get(&owner)?.iter().find(|reference| {
        let name = reference.renamed.as_ref().or(reference.segments.last());
        reference.exported && name == Some(item) && reference.segments != segments
    });
    match handed_on {
        Some(reference) => target(&reference.segments, modules, references),
        None => Some(owner),
    }
}
