//! Owns the command `ai-cache restore`, which prepares a restored database for the service.

use std::process::ExitCode;

use clap::Subcommand;

use crate::app::App;
use crate::compliance::{Applied, MissingSink};
use crate::config::{Config, Source};

use super::backend::FolderUse;
use super::failure::Failure;
use super::output::{self, Style};
use super::tenant::with_app_as;

#[derive(Subcommand)]
pub(super) enum RestoreCommand {
    /// Erase again what the erasure ledger's file says was erased; 1: not all of it could be read
    ApplyLedger {
        /// Go on without the file, or with lines that cannot be read: what they say may be back
        #[arg(long)]
        accept_missing_sink: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(
    command: &RestoreCommand,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    let RestoreCommand::ApplyLedger { accept_missing_sink, json } = command;
    let missing = if *accept_missing_sink { MissingSink::Accepted } else { MissingSink::Refused };
    let applied = with_app_as(FolderUse::Restoring, config, source, async |app: &App| {
        let record = app.calls.command_line_record();
        Ok(app.compliance.apply_erasure_ledger(missing, record).await?)
    })
    .await?;
    output::show(Style::of(*json), &applied, || in_words(&applied))?;
    Ok(if applied.noted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_words(applied: &Applied) -> String {
    let Applied { lines, applied, already, unreadable, noted } = applied;
    let verdict = if *noted {
        "the erasure ledger is applied"
    } else {
        "not applied as a whole: bring the file or the master keys its lines name, or repeat with \
         --accept-missing-sink"
    };
    format!(
        "{lines} lines: {applied} erased now, {already} already; {unreadable} unreadable\n{verdict}"
    )
}
