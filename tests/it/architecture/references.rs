//! Reads which paths a source file names, wherever they stand: imports, expressions, types,
//! attributes, macro bodies, serde's string paths. It reads tokens, so that nothing hides in an
//! unexpanded macro.

use syn::buffer::{Cursor, TokenBuffer};

/// The references of a file.
#[derive(Debug, Default)]
pub struct References {
    /// The paths, in their order in the file.
    pub paths: Vec<Reference>,
    /// The modules that are declared here.
    pub modules: Vec<String>,
    /// The method calls, by name and number of arguments.
    pub calls: Vec<(String, usize)>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Whether it leads into this crate, from its root. Otherwise it begins with a crate or a local
    /// name.
    pub inside: bool,
    /// The names on the way; `*` for a glob.
    pub segments: Vec<String>,
    /// The new name that an import gives it.
    pub renamed: Option<String>,
    /// Whether it is a `pub use`.
    pub exported: bool,
}

impl Reference {
    /// Returns the path as it would be written.
    pub fn text(&self) -> String {
        let root = if self.inside { "crate::" } else { "" };
        format!("{root}{}", self.segments.join("::"))
    }
}

/// Returns the module path of a file: `src/a/b.rs` is `a::b`, `src/a/mod.rs` is `a`, `src/lib.rs`
/// is the root.
pub fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    inner
        .split('/')
        .filter(|part| !matches!(*part, "mod" | "lib" | "main"))
        .map(str::to_owned)
        .collect()
}

/// Reads a file's tokens. Returns `None` if they are not Rust.
pub fn read(path: &str, source: &str) -> Option<References> {
    syn::parse_file(source).ok()?;
    let tokens = TokenBuffer::new2(source.parse().ok()?);
    let mut reader = Reader { module: module_of(path), found: References::default() };
    reader.walk(tokens.begin());
    Some(reader.found)
}

/// The position of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    Use,
    PublicUse,
}

struct Reader {
    module: Vec<String>,
    found: References,
}

impl Reader {
    fn walk(&mut self, mut at: Cursor<'_>) {
        let mut public = false;
        while !at.eof() {
            if let Some((name, after)) = keyword_pair(at, "mod") {
                self.found.modules.push(name.clone());
                if let Some((body, _, _, rest)) = after.any_group() {
                    self.module.push(name);
                    self.walk(body);
                    self.module.pop();
                    at = rest;
                    continue;
                }
            }
            if let Some((name, after)) = extern_crate(at) {
                self.note(vec![name], after, Place::Use);
                at = after;
            } else if let Some(after) = word(at, "use") {
                let place = if public { Place::PublicUse } else { Place::Use };
                at = self.tree(after, &[], place);
            } else if let Some((call, arguments, after)) = method_call(at) {
                self.found.calls.push((call, arguments));
                at = after; // the arguments come next
            } else if at.ident().is_some() || colons(at).is_some() {
                let is_public = word(at, "pub").is_some();
                at = self.tree(at, &[], Place::Anywhere);
                public = is_public;
                continue;
            } else if let Some((body, _, _, after)) = at.any_group() {
                self.walk(body);
                at = after;
                continue; // `pub(crate) use` is still public
            } else {
                if let Some((literal, _)) = at.literal() {
                    self.string_path(&literal.to_string());
                }
                at = next(at);
            }
            public = false;
        }
    }

    /// Reads a path, or the tree of an import, that continues `base`. Returns what follows it.
    fn tree<'a>(&mut self, mut at: Cursor<'a>, base: &[String], place: Place) -> Cursor<'a> {
        let mut segments = base.to_vec();
        if let (true, Some(after)) = (base.is_empty(), colons(at)) {
            segments.push(String::new()); // absolute: begins with a crate
            at = after;
        }
        loop {
            if let Some((name, after)) = at.ident() {
                segments.push(name.to_string().trim_start_matches("r#").to_owned());
                at = after;
            } else if let Some(after) = punct(at, '*').filter(|_| place != Place::Anywhere) {
                segments.push("*".to_owned());
                at = after;
            } else if let Some((body, _, _, after)) = at.any_group().filter(|_| is_braced(at)) {
                self.group(body, &segments, place);
                return after;
            } else {
                at = if at.eof() { at } else { next(at) };
                break;
            }
            match colons(at) {
                Some(after) => at = after,
                None => break,
            }
        }
        self.note(segments, at, place);
        at
    }

    fn group(&mut self, mut at: Cursor<'_>, base: &[String], place: Place) {
        if base.is_empty() && place == Place::Anywhere {
            self.walk(at);
            return;
        }
        while !at.eof() {
            let is_item = at.ident().is_some() || at.any_group().is_some();
            if is_item || punct(at, '*').is_some() {
                at = self.tree(at, base, place);
                at = keyword_pair(at, "as").map_or(at, |(_, after)| after);
            } else {
                at = next(at);
            }
        }
    }

    /// Reads a string such as serde's `with = "crate::a::b"`.
    fn string_path(&mut self, literal: &str) {
        let text = literal.trim_matches('"');
        if text.starts_with("crate::") || text.starts_with("super::") {
            let segments = text.split("::").map(str::to_owned).collect();
            self.resolve(segments, None, false);
        }
    }

    fn note(&mut self, mut segments: Vec<String>, at: Cursor<'_>, place: Place) {
        if segments.len() < 2 && place == Place::Anywhere {
            return;
        }
        if segments.len() > 1 && segments.last().is_some_and(|name| name == "self") {
            segments.pop();
        }
        let renamed = keyword_pair(at, "as").map(|(name, _)| name);
        self.resolve(segments, renamed, place == Place::PublicUse);
    }

    fn resolve(&mut self, segments: Vec<String>, renamed: Option<String>, exported: bool) {
        let mut names = segments.into_iter().peekable();
        let mut base = match names.peek().map(String::as_str) {
            Some("crate") => Some(Vec::new()),
            Some("self" | "super") => Some(self.module.clone()),
            _ => None,
        };
        let inside = base.is_some();
        while let (Some(base), Some(first)) = (&mut base, names.peek()) {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                _ => break,
            }
            names.next();
        }
        let mut segments = base.unwrap_or_default();
        segments.extend(names.filter(|name| !name.is_empty()));
        self.found.paths.push(Reference { inside, segments, renamed, exported });
    }
}

fn next(at: Cursor<'_>) -> Cursor<'_> {
    at.token_tree().map_or(at, |(_, after)| after)
}

fn punct(at: Cursor<'_>, wanted: char) -> Option<Cursor<'_>> {
    at.punct().filter(|(found, _)| found.as_char() == wanted).map(|(_, after)| after)
}

/// Reads `::`, but not the colon of `a: ::b`.
fn colons(at: Cursor<'_>) -> Option<Cursor<'_>> {
    let second = punct(at, ':')?;
    let after = punct(second, ':')?;
    punct(after, ':').is_none().then_some(after)
}

fn word<'a>(at: Cursor<'a>, wanted: &str) -> Option<Cursor<'a>> {
    at.ident().filter(|(found, _)| found == wanted).map(|(_, after)| after)
}

fn keyword_pair<'a>(at: Cursor<'a>, keyword: &str) -> Option<(String, Cursor<'a>)> {
    let (name, after) = word(at, keyword)?.ident()?;
    Some((name.to_string(), after))
}

fn extern_crate(at: Cursor<'_>) -> Option<(String, Cursor<'_>)> {
    keyword_pair(word(at, "extern")?, "crate")
}

fn is_braced(at: Cursor<'_>) -> bool {
    at.token_tree().is_some_and(|(tree, _)| tree.to_string().starts_with('{'))
}

/// Reads `.name(…)`. Afterwards the cursor stands before the arguments.
fn method_call(at: Cursor<'_>) -> Option<(String, usize, Cursor<'_>)> {
    let (name, after) = punct(at, '.')?.ident()?;
    let (mut body, _, _, _) = after.any_group()?;
    if after.token_tree()?.0.to_string().starts_with(['{', '[']) {
        return None;
    }
    let (mut arguments, mut pending) = (0, false);
    while !body.eof() {
        let is_comma = punct(body, ',').is_some();
        arguments += usize::from(is_comma && pending);
        pending = !is_comma;
        body = next(body);
    }
    Some((name.to_string(), arguments + usize::from(pending), after))
}
