//! Owns the command `ai-cache openapi`, which prints the OpenAPI document.

use std::process::ExitCode;

use crate::http::openapi;

use super::failure::Failure;
use super::output;

pub(super) fn run() -> Result<ExitCode, Failure> {
    output::say(openapi::text().map_err(Failure::internal)?.trim_end());
    Ok(ExitCode::SUCCESS)
}
