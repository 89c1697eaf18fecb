//! `ai-cache audit …`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use crate::app::App;
use crate::audit::CheckpointFile;
use crate::audit::verify::Verification;
use crate::config::{Config, Source};

use super::failure::Failure;
use super::output::{self, Style};
use super::tenant::{parse_slug, with_app};

/// Nothing was there to be verified.
const NOTHING_TO_CHECK: u8 = 2;

#[derive(Subcommand)]
pub(super) enum AuditCommand {
    /// Verify every record and seal of the trail; 1: something is wrong, 2: nothing is there
    Verify {
        /// Tell of the rows of this tenant only, and of all seals
        #[arg(long, value_name = "SLUG")]
        tenant: Option<String>,
        /// Compare with the seals kept in this file
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take note that a new ledger was begun because records may be lost
    AcceptLedger {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    ledger_id: String,
    accepted_now: bool,
}

/// Runs the command.
pub(super) async fn run(
    command: &AuditCommand,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::Verify { tenant, checkpoint, json } => {
            let slug = tenant.as_deref().map(parse_slug).transpose()?;
            let file = checkpoint.clone().map(CheckpointFile::new);
            let verified = with_app(config, source, async |app: &App| {
                let service = app.service();
                let tenant = match &slug {
                    Some(slug) => Some(service.find_tenant(slug).await?.id),
                    None => None,
                };
                let record = service.command_line_record();
                Ok(service.verify_on_request(tenant, file.as_ref(), record).await?)
            })
            .await?;
            output::show(Style::of(*json), &verified, || in_words(&verified))?;
            Ok(match &verified {
                Verification { ok: false, .. } => ExitCode::FAILURE,
                Verification { rows: 0, seals: 0, .. } => ExitCode::from(NOTHING_TO_CHECK),
                _ => ExitCode::SUCCESS,
            })
        }
        AuditCommand::AcceptLedger { json } => {
            let (ledger, now) = with_app(config, source, async |app: &App| {
                let service = app.service();
                Ok(service.accept_ledger(service.command_line_record()).await?)
            })
            .await?;
            let accepted = Accepted { ledger_id: ledger.to_string(), accepted_now: now };
            output::show(Style::of(*json), &accepted, || {
                let already = if now { "" } else { " already" };
                format!("the ledger {ledger} is accepted{already}")
            })
        }
    }
}

fn in_words(verified: &Verification) -> String {
    let Verification { ok, rows, unsealed, seals, checkpoints, findings } = verified;
    let mut lines: Vec<String> = findings
        .iter()
        .map(|found| format!("{}  {}: {}", found.kind, found.place, found.detail))
        .collect();
    let verdict = match (ok, rows + seals) {
        (false, _) => format!("{} findings", findings.len()),
        (true, 0) => "nothing to verify".to_owned(),
        (true, _) => "no findings".to_owned(),
    };
    lines.push(format!(
        "{verdict} in {rows} rows ({unsealed} of them not sealed yet), {seals} seals, \
         {checkpoints} checkpoints"
    ));
    lines.join("\n")
}
