//! `README.html` of an export: a page that a person can open and read without any program of ours.
//! All text from elsewhere is escaped, and the page loads nothing.

use std::fmt::{self, Write};

use chrono::{DateTime, Utc};
use serde_json::Value;
use zeroize::Zeroizing;

use super::facts::Facts;
use super::lines::EntryLine;

/// The most entries on the page, and the bytes that they take there. The page is held in memory
/// until the end.
const MOST_ENTRIES: usize = 100;
const MOST_BYTES: usize = 1024 * 1024;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Copy of your personal data</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { border: 1px solid #bbb; padding: .3em .7em; text-align: left; vertical-align: top; }
th { white-space: nowrap; }
td { overflow-wrap: anywhere; }
td > p, td > ul { margin: .2em 0; }
article { border-top: 1px solid #bbb; margin-top: 1.5em; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; background: #f4f4f4; padding: .6em .8em; margin: .3em 0; }
small { color: #555; }
</style>
</head>
<body>
<h1>Copy of your personal data</h1>
"#;

const HOW_TO_READ: &str = "<h2>How to read the other files</h2>
<p>Files whose names end in <code>.jsonl</code> hold one record a line, as JSON (RFC 8259), in UTF-8: \
any text editor shows them, and programs can read them line by line. Times are in UTC.</p>
<table>
<tr><th>File</th><th>What it holds</th></tr>
<tr><td>entries.jsonl</td><td>Every question and answer that is kept, newest first: with its context, \
the model that answered, when it was made and served last, how often, and until when it is good.</td></tr>
<tr><td>processing-log.jsonl</td><td>What was done with the data, oldest first: when, what, how it ended \
and in which role. Other people are not named.</td></tr>
<tr><td>requests.jsonl</td><td>Your requests and what became of them.</td></tr>
<tr><td>about.json</td><td>Purposes, recipients, retention and your rights, as on this page.</td></tr>
<tr><td>manifest.json</td><td>How many lines and bytes each file has, and its SHA-256, by which a change \
shows.</td></tr>
</table>
";

/// The page while it is written.
#[derive(Default)]
pub struct Readme {
    entries: Zeroizing<String>,
    shown: usize,
}

impl Readme {
    /// Adds an entry while there is room.
    pub fn entry(&mut self, line: &EntryLine<'_>) {
        let room = MOST_BYTES.saturating_sub(self.entries.len());
        if self.shown == MOST_ENTRIES || line.query.len() + line.answer.len() > room {
            return;
        }
        let mut html = Zeroizing::new(String::new());
        if write_entry(&mut html, line).is_ok() && html.len() <= room {
            self.entries.push_str(&html);
            self.shown += 1;
        }
    }

    /// Returns the whole page.
    pub fn page(&self, facts: &Facts) -> Result<Zeroizing<String>, fmt::Error> {
        let mut out = Zeroizing::new(String::with_capacity(self.entries.len() + 16 * 1024));
        out.push_str(HEAD);
        write_who(&mut out, facts)?;
        write_counts(&mut out, facts)?;
        write_about(&mut out, &facts.about())?;
        out.push_str(HOW_TO_READ);
        out.push_str("<h2>Questions and answers</h2>\n");
        let rest = facts.counts.entries.saturating_sub(self.shown as u64);
        match (self.shown, rest) {
            (0, 0) => out.push_str("<p>None are kept.</p>\n"),
            (_, 0) => out.push_str("<p>All that are kept, the newest first.</p>\n"),
            (shown, rest) => writeln!(
                out,
                "<p>{shown} of them are shown here; {rest} more are in <code>entries.jsonl</code>.</p>"
            )?,
        }
        out.push_str(&self.entries);
        out.push_str("</body>\n</html>\n");
        Ok(out)
    }
}

fn write_who(out: &mut String, facts: &Facts) -> fmt::Result {
    let subject = facts.subject.as_deref().unwrap_or("(no longer named in the request)");
    writeln!(
        out,
        "<p>This package holds what {} keeps on <strong>{}</strong> in its cache of answers, as it was \
         on {} (GDPR Art. 15 and 20). It was made for the request {} and can be downloaded until {}.</p>",
        Escaped(&facts.tenant_name),
        Escaped(subject),
        Time(facts.snapshot_at),
        facts.request,
        Time(facts.expires_at)
    )
}

fn write_counts(out: &mut String, facts: &Facts) -> fmt::Result {
    let counts = &facts.counts;
    out.push_str("<h2>What is in it</h2>\n<table>\n");
    let rows = [
        ("Questions and answers", counts.entries),
        ("Records of what was done with them", counts.processing_log),
        ("Your requests", counts.requests),
    ];
    for (what, count) in rows {
        writeln!(out, "<tr><th>{what}</th><td>{count}</td></tr>")?;
    }
    out.push_str("</table>\n");
    if counts.unreadable > 0 {
        writeln!(
            out,
            "<p>{} more could not be read: what is stored of them is damaged. The manifest names them.</p>",
            counts.unreadable
        )?;
    }
    Ok(())
}

fn write_about(out: &mut String, about: &Value) -> fmt::Result {
    let sections = [
        ("Why they are processed", "purposes"),
        ("What kinds of data", "categories"),
        ("Who receives them", "recipients"),
        ("How long they are kept", "retention"),
        ("Your rights", "rights"),
        ("Where they come from", "source"),
        ("Automated decisions", "automatedDecisions"),
        ("Transfers to other countries", "transfers"),
    ];
    for (title, name) in sections {
        writeln!(out, "<h2>{title}</h2>")?;
        write_value(out, &about[name])?;
    }
    Ok(())
}

/// Writes text as a paragraph, lists as lists, and members by their names.
fn write_value(out: &mut String, value: &Value) -> fmt::Result {
    match value {
        Value::Array(items) if items.is_empty() => writeln!(out, "<p>None.</p>"),
        Value::Array(items) => {
            out.push_str("<ul>\n");
            for item in items {
                out.push_str("<li>");
                write_value(out, item)?;
                out.push_str("</li>\n");
            }
            writeln!(out, "</ul>")
        }
        Value::Object(members) => {
            out.push_str("<table>\n");
            for (name, value) in members {
                write!(out, "<tr><th>{}</th><td>", Escaped(&in_words(name)))?;
                write_value(out, value)?;
                out.push_str("</td></tr>\n");
            }
            writeln!(out, "</table>")
        }
        Value::String(text) => write!(out, "<p>{}</p>", Escaped(text)),
        other => write!(out, "<p>{}</p>", Escaped(&other.to_string())),
    }
}

fn write_entry(out: &mut String, line: &EntryLine<'_>) -> fmt::Result {
    writeln!(out, "<article>\n<h3>{}</h3>", Time(line.created_at))?;
    writeln!(out, "<pre>{}</pre>", Escaped(line.query))?;
    for (name, value) in line.context {
        writeln!(out, "<small>{}: {}</small><br>", Escaped(name), Escaped(value))?;
    }
    writeln!(out, "<p>Answer of {}:</p>", Escaped(line.model))?;
    writeln!(out, "<pre>{}</pre>", Escaped(line.answer))?;
    write!(out, "<small>{}, good until {}, ", line.operation, Time(line.expires_at))?;
    match line.last_used_at {
        None => write!(out, "never served from the cache")?,
        Some(at) => write!(out, "served {} times, last on {}", line.uses, Time(at))?,
    }
    writeln!(out, "</small>\n</article>")
}

/// Returns a member's name for people: `processing log` of `processingLog`.
fn in_words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    for symbol in name.chars() {
        if symbol.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(symbol.to_ascii_lowercase());
    }
    words
}

/// Text that may stand in HTML, in an element or an attribute.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for symbol in self.0.chars() {
            match symbol {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // HTML has no such character (whatwg.org, "Text").
                '\0' => f.write_char('\u{FFFD}')?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A time in words for people.
struct Time(DateTime<Utc>);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d %H:%M:%S UTC"))
    }
}
