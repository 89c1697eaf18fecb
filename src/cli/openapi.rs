//! `ai-cache openapi`.

use std::process::ExitCode;

use crate::http::openapi;

use super::failure::Failure;
use super::output;

/// Prints the document.
pub(super) fn run() -> Result<ExitCode, Failure> {
    output::say(openapi::text().map_err(Failure::internal)?.trim_end());
    Ok(ExitCode::SUCCESS)
}
