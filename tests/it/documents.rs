//! The documents say what is true of the code. They are read when the tests run.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ai_cache::config::{Availability, Config, KNOWN, Source};
use ai_cache::http::problem::ProblemKind;

/// The document that has the table of settings.
const SETTINGS: &str = "docs/RUNBOOK.md";

/// Folders whose files the documents name by the path from the project's folder.
const FOLDERS: [&str; 5] = ["src/", "tests/", "docs/", "scripts/", "migrations/"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Every document, as path from the project's folder and text.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec!["README.md".to_owned(), "migrations/README.md".to_owned()];
    for folder in ["docs", "docs/decisions"] {
        let items = fs::read_dir(root().join(folder)).unwrap();
        let names = items.map(|item| item.unwrap().file_name().into_string().unwrap());
        let documents = names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "md"));
        paths.extend(documents.map(|name| format!("{folder}/{name}")));
    }
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), text_of(&path))).collect()
}

/// The cells of every row of every table.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(str::trim).collect())
}

/// A cell without its back quotes.
fn plain(cell: &str) -> String {
    cell.replace('`', "")
}

/// The rows of docs/ERRORS.md: status by slug.
fn documented_problems() -> BTreeMap<String, u16> {
    let text = text_of("docs/ERRORS.md");
    let problem = |cells: Vec<&str>| Some((plain(cells[0]), cells.get(1)?.parse().ok()?));
    rows(&text).filter_map(problem).collect()
}

#[test]
fn every_kind_of_problem_is_documented_and_no_other() {
    let kinds: BTreeMap<String, u16> =
        ProblemKind::ALL.iter().map(|kind| (kind.slug().to_owned(), kind.status())).collect();
    assert!(!kinds.is_empty());
    assert_eq!(documented_problems(), kinds);
}

/// A row of the table of settings.
#[derive(Debug, PartialEq, Eq)]
struct Documented {
    /// The variable.
    name: String,
    /// Its name in the replaced systems.
    alias: Option<String>,
    /// The default, as `config check` prints it.
    default: String,
    /// Whether the default stands in back quotes, so that a person could set exactly this.
    literal: bool,
}

fn documented_settings(text: &str) -> Vec<Documented> {
    let settings = rows(text)
        .filter(|cells| cells[0].starts_with("`AI_CACHE_") || cells[0] == "`DATABASE_URL`");
    let read = |cells: Vec<&str>| {
        assert_eq!(cells.len(), 3, "{cells:?}");
        let name = plain(cells[0]);
        let (name, alias) = match name.split_once(" (") {
            Some((name, alias)) => (name.to_owned(), alias.strip_suffix(')').map(str::to_owned)),
            None => (name, None),
        };
        let literal = cells[1].starts_with('`') && cells[1].matches('`').count() == 2;
        assert!(!cells[2].is_empty(), "{name} has no meaning");
        Documented { name, alias, default: plain(cells[1]), literal }
    };
    settings.map(read).collect()
}

/// W6: each variable of this release stands in the table, in the order of `config check`, with the
/// default that `config check` prints.
#[test]
fn every_setting_is_documented_with_its_default_and_no_other() {
    let documented = documented_settings(&text_of(SETTINGS));
    let now = KNOWN.iter().filter(|known| known.availability == Availability::Now);
    let expected: Vec<(String, Option<String>, String)> = now
        .map(|known| {
            let default = if known.default.is_empty() { "empty" } else { known.default };
            (known.name.to_owned(), known.alias.map(str::to_owned), default.to_owned())
        })
        .collect();
    let listed: Vec<(String, Option<String>, String)> =
        documented.into_iter().map(|row| (row.name, row.alias, row.default)).collect();
    assert_eq!(listed, expected);
}

/// Everything that the settings come to.
fn meaning(pairs: &[(&str, &str)]) -> String {
    let config = Config::load(&Source::from_pairs(pairs.iter().copied())).unwrap();
    let Config {
        server, database, redis, cache, upstream, keys, audit, gdpr, erasure, log, ..
    } = config;
    format!("{:?}", (server, database, redis, cache, upstream, keys, audit, gdpr, erasure, log))
}

/// W6: a default that could be set is the one that the service has: to set it changes nothing.
#[test]
fn to_set_a_documented_default_changes_nothing() {
    let without = meaning(&[]);
    let mut tried = 0;
    for row in documented_settings(&text_of(SETTINGS)).iter().filter(|row| row.literal) {
        assert_eq!(meaning(&[(&row.name, &row.default)]), without, "{}", row.name);
        tried += 1;
    }
    assert!(tried >= 20, "only {tried} defaults");
}

/// A setting of a later release is named as one, so that nobody takes it for one of this release.
#[test]
fn every_setting_of_a_later_release_is_named() {
    let text = text_of(SETTINGS);
    for known in KNOWN.iter().filter(|known| known.availability == Availability::Later) {
        assert!(text.contains(&format!("`{}`", known.name)), "{}", known.name);
    }
}

/// The map of docs/ARCHITECTURE.md has the modules of src/lib.rs, each in its layer.
#[test]
fn the_map_has_every_module_in_its_layer_and_no_other() {
    let source = text_of("src/lib.rs");
    let modules: BTreeMap<String, u8> = source
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("pub mod ")?.split_once("; // ")?;
            Some((name.to_owned(), rest.split(' ').next()?.parse().ok()?))
        })
        .collect();
    let text = text_of("docs/ARCHITECTURE.md");
    let mapped: BTreeMap<String, u8> = rows(&text)
        .filter_map(|cells| Some((plain(cells.get(1)?), cells[0].parse().ok()?)))
        .collect();
    assert!(modules.len() >= 20, "{modules:?}");
    assert_eq!(mapped, modules);
}

/// The places that links of a document may name: its headings as GitHub makes them into anchors.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let titles = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    titles.map(|title| title.chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// The targets of a document's links that are not web addresses.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).collect()
}

/// The file paths that a document names, be it in a link, in code or in a sentence.
fn named_paths(text: &str) -> Vec<&str> {
    let in_path = |letter: char| letter.is_ascii_alphanumeric() || "._/-".contains(letter);
    let words = text.split(|letter| !in_path(letter)).map(|word| word.trim_end_matches('.'));
    words.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder))).collect()
}

/// The commands of the Makefile that a document names.
fn make_targets(text: &str) -> Vec<&str> {
    let named = text.split("`make ").skip(1);
    named
        .filter_map(|rest| rest.split(|letter: char| !letter.is_ascii_lowercase()).next())
        .collect()
}

/// Everything that a document names and that does not exist, one line each.
fn dead_ends(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let folder = root().join(path).parent().unwrap().to_owned();
    for link in links(text) {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = folder.join(file);
        let there = match (file, anchor) {
            ("", anchor) => anchors(text).iter().any(|known| known == anchor),
            (_, "") => target.exists(),
            (_, anchor) => fs::read_to_string(&target)
                .is_ok_and(|text| anchors(&text).iter().any(|known| known == anchor)),
        };
        if !there {
            found.push(format!("{path}: no target of the link {link}"));
        }
    }
    let paths = named_paths(text).into_iter().filter(|named| !root().join(named).exists());
    found.extend(paths.map(|named| format!("{path}: no file {named}")));
    let makefile = text_of("Makefile");
    let targets = make_targets(text).into_iter();
    let missing = targets
        .filter(|target| !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))));
    found.extend(missing.map(|target| format!("{path}: no target {target} in the Makefile")));
    found
}

#[test]
fn every_link_path_and_make_target_of_every_document_exists() {
    let documents = documents();
    let all = |find: fn(&str) -> Vec<&str>| -> usize {
        documents.iter().map(|(_, text)| find(text).len()).sum()
    };
    let (links, paths, targets) = (all(links), all(named_paths), all(make_targets));
    assert!(links >= 20 && paths >= 10 && targets >= 8, "{links} {paths} {targets}");
    let found: Vec<String> =
        documents.iter().flat_map(|(path, text)| dead_ends(path, text)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// A checker that accepts everything finds nothing.
#[test]
fn the_checker_of_documents_finds_what_is_not_there() {
    let text = "# One two\n[a](#one-two) [b](#three) [c](nowhere.md) [d](README.md#nothing)\n\
                [e](docs/RUNBOOK.md) [f](https://example.org/nowhere) `src/lib.rs`, src/nowhere.rs.\n\
                `make test` `make tea`\n";
    assert_eq!(
        dead_ends("README.md", text),
        [
            "README.md: no target of the link #three",
            "README.md: no target of the link nowhere.md",
            "README.md: no target of the link README.md#nothing",
            "README.md: no file src/nowhere.rs",
            "README.md: no target tea in the Makefile",
        ]
    );
}
