//! Owns the command `ai-cache config check`, which prints the settings.

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::{Config, Source};

use super::failure::Failure;
use super::output::{self, Style};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting, its value and where it comes from; or what is wrong
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: &ConfigCommand, source: &Source) -> Result<ExitCode, Failure> {
    let ConfigCommand::Check { json } = command;
    let config = Config::load(source).map_err(Failure::usage)?;
    let settings = config.report();
    let width = settings.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
    output::show(Style::of(*json), &settings, || {
        let lines = settings.iter().map(|setting| {
            format!("{:width$}  {}  ({})", setting.name, setting.value, setting.origin)
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}
