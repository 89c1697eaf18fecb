//! The one place that writes to stdout and stderr.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::failure::Failure;

/// How a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// For people.
    Text,
    /// One JSON value.
    Json,
}

impl Style {
    /// The style a `--json` flag asks for.
    pub(super) const fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "what a command has to say")]
pub(super) fn say(text: &str) {
    println!("{text}");
}

/// Writes whole lines to stdout; who reads it may have closed it.
pub(super) fn write_lines(lines: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines)?;
    stdout.flush()
}

/// Prints a line to stderr.
#[expect(clippy::print_stderr, reason = "why a command did not do its work")]
pub(super) fn complain(text: &str) {
    eprintln!("{text}");
}

/// Prints `value` as JSON, or `text`.
pub(super) fn show(
    style: Style,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<ExitCode, Failure> {
    match style {
        Style::Json => say(&serde_json::to_string(value).map_err(Failure::internal)?),
        Style::Text => say(&text()),
    }
    Ok(ExitCode::SUCCESS)
}
