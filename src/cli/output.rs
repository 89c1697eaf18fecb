//! Prints the results and errors of commands to stdout and stderr. Only clap and `bench` print
//! without it.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::failure::Failure;

/// The style in which a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Text for people.
    Text,
    /// One JSON value.
    Json,
}

impl Style {
    /// Returns the style that the flag `--json` asks for.
    pub(super) const fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Prints a line to stdout.
#[expect(clippy::print_stdout, reason = "what a command has to say")]
pub(super) fn say(text: &str) {
    println!("{text}");
}

/// Writes whole lines to stdout. Returns an error if the reader of stdout has closed it.
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

/// Prints `value` as JSON or, if `style` is `Text`, the result of `text`.
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
