//! The direction of the modules and what only some of them may touch, as functions over one file's
//! path and source, so that tests can show that each rule is able to fail.

use super::references::{Reference, References, module_of, read};

/// The top-level modules by layer. A module may use only modules of a lower number.
pub const LAYERS: [(u8, &[&str]); 11] = [
    (1, &["domain"]),
    (2, &["config"]),
    (3, &["crypto", "telemetry", "lifecycle", "loadgen"]),
    (4, &["store", "redis", "upstream", "embedded"]),
    (5, &["audit", "coherence"]),
    (6, &["keyring", "tenancy", "auth", "tiers"]),
    (7, &["call"]),
    (8, &["answering", "compliance", "administration"]),
    (9, &["http", "jobs"]),
    (10, &["app"]),
    (11, &["cli"]),
];

/// Crates, and the modules that alone may name them. `main` stands for `src/main.rs`.
const CRATES: [(&[&str], &[&str]); 5] = [
    (&["sqlx"], &["store"]),
    (&["tokio_postgres", "postgres", "refinery"], &["store", "embedded"]),
    (&["redis", "deadpool_redis"], &["redis"]),
    (
        &[
            "actix_web",
            "actix_http",
            "actix_rt",
            "actix_server",
            "utoipa_actix_web",
            "utoipa_swagger_ui",
            "tracing_actix_web",
        ],
        &["http", "main"],
    ),
    (&["dotenvy"], &["config"]),
];

/// The modules that may open sealed values: the keyring, and the module that defines the opening.
const OPENERS: [&str; 2] = ["keyring", "crypto"];

const MOST_LINES: usize = 400;

/// Returns everything that is wrong with a file, one line each.
pub fn violations(path: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !source.starts_with("//!") {
        found.push("does not begin with //!".to_owned());
    }
    let lines = source.lines().count();
    if lines > MOST_LINES {
        found.push(format!("has {lines} lines, more than {MOST_LINES}"));
    }
    match read(path, source) {
        None => found.push("is not Rust".to_owned()),
        Some(references) => {
            let own = top_module(path);
            found.extend(wrong_edges(&own, &references));
            found.extend(wrong_crates(&own, &references));
            found.extend(wrong_openings(&own, &references));
            found.extend(wrong_environment(&own, &references));
        }
    }
    found.dedup();
    found.iter().map(|what| format!("{path}: {what}")).collect()
}

/// Returns the module directly under the root that a file belongs to. The roots are `lib` and
/// `main`.
pub fn top_module(path: &str) -> String {
    let root = if path.ends_with("main.rs") { "main" } else { "lib" };
    module_of(path).first().map_or_else(|| root.to_owned(), Clone::clone)
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, modules)| modules.contains(&module)).map(|(number, _)| *number)
}

fn is_root(own: &str) -> bool {
    matches!(own, "lib" | "main")
}

fn wrong_edges(own: &str, references: &References) -> Vec<String> {
    if is_root(own) {
        return Vec::new();
    }
    let Some(own_layer) = layer(own) else {
        return vec![format!("belongs to {own}, which has no layer")];
    };
    let edge = |reference: &Reference| -> Option<String> {
        let text = reference.text();
        let target = match reference.segments.first() {
            Some(name) if !reference.inside => {
                let itself = name == "ai_cache";
                return itself.then(|| format!("names its own crate from outside: {text}"));
            }
            None => return Some(format!("takes the crate's root as a whole: {text}")),
            Some(target) if target == own => return None,
            Some(target) => target,
        };
        match layer(target) {
            None => Some(format!("names something without a layer: {text}")),
            Some(number) if number > own_layer => Some(format!("upward edge: {text}")),
            Some(number) if number == own_layer => Some(format!("sideways edge: {text}")),
            Some(_) => None,
        }
    };
    references.paths.iter().filter_map(edge).collect()
}

fn wrong_crates(own: &str, references: &References) -> Vec<String> {
    let is_redis = |name: &String| name == "redis";
    let has_our_redis = references.modules.iter().any(is_redis)
        || references
            .paths
            .iter()
            .any(|path| path.inside && path.segments.last().is_some_and(is_redis));
    let mut found = Vec::new();
    for path in &references.paths {
        // Names further on in a path count too, because a crate that another module hands on is
        // still that crate.
        let begin = usize::from(path.inside);
        for (index, name) in path.segments.iter().enumerate().skip(begin) {
            let is_our_redis = name == "redis" && (has_our_redis || index > 0);
            let users = CRATES.iter().find(|(crates, _)| crates.contains(&name.as_str()));
            if let Some((_, users)) = users
                && !is_our_redis
                && !users.contains(&own)
            {
                found.push(format!("{name} may not be used here: {}", path.text()));
            }
        }
    }
    found
}

fn wrong_openings(own: &str, references: &References) -> Vec<String> {
    if OPENERS.contains(&own) {
        return Vec::new();
    }
    let is_opening = |path: &&Reference| {
        let pairs = path.segments.windows(2);
        let named = pairs.into_iter().any(|pair| {
            (pair[0] == "Sealed" && pair[1] == "open")
                || (pair[0] == "Secret" && pair[1] == "expose")
        });
        let last = path.segments.last().map(String::as_str);
        named || (path.renamed.is_some() && matches!(last, Some("Sealed" | "Secret")))
    };
    let paths = references
        .paths
        .iter()
        .filter(is_opening)
        .map(|path| format!("opens what is sealed: {}", path.text()));
    // `Sealed::open` takes a key and a context; files and keyrings take other numbers of arguments.
    let calls = references
        .calls
        .iter()
        .filter(|(name, arguments)| name == "expose" || (name == "open" && *arguments == 2))
        .map(|(name, _)| format!("opens what is sealed: .{name}(…)"));
    paths.chain(calls).collect()
}

fn wrong_environment(own: &str, references: &References) -> Vec<String> {
    let may_read_arguments = matches!(own, "main" | "cli");
    let is_wrong = |path: &&Reference| {
        let starts = path.segments.starts_with(&["std".into(), "env".into()]);
        let item = path.segments.get(2).map(String::as_str);
        let harmless = match item {
            Some("split_paths" | "join_paths" | "consts") => true, // read nothing
            Some("args" | "args_os") => may_read_arguments,
            _ => false,
        };
        starts && !path.inside && !harmless
    };
    if own == "config" {
        return Vec::new();
    }
    references
        .paths
        .iter()
        .filter(is_wrong)
        .map(|path| format!("the environment is read only in config: {}", path.text()))
        .collect()
}
