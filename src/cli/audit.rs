//! Owns the command `ai-cache audit`, which verifies and exports the audit trail.

use crate::domain::action::Action;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde::Serialize;

use crate::app::App;
use crate::audit::CheckpointFile;
use crate::audit::verify::{Verification, verify_lines};
use crate::compliance::TrailQuery;
use crate::config::{Config, Source};
use crate::domain::audit_row::ndjson;
use crate::domain::fields::{self, TIME_RULE};
use crate::domain::ids::TenantId;

use super::backend;
use super::failure::Failure;
use super::output::{self, Style};
use super::tenant::{parse_slug, with_app};

/// The exit code if there was nothing to verify.
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
        /// Verify the records of this export instead, without a database
        #[arg(long, value_name = "FILE", conflicts_with_all = ["tenant", "checkpoint"])]
        offline: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the audit trail, one JSON object a line, a tenant's oldest first; it is recorded
    Export {
        /// The tenant's slug; without it every tenant's trail is printed, one after the other
        #[arg(long)]
        tenant: Option<String>,
        /// Not before this time, such as 2026-01-31T00:00:00Z
        #[arg(long, value_parser = parse_time)]
        from: Option<DateTime<Utc>>,
        /// Before this time
        #[arg(long, value_parser = parse_time)]
        to: Option<DateTime<Utc>>,
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

/// Reads a time from the command line.
pub(super) fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    fields::parse_time(text).ok_or_else(|| format!("must be {TIME_RULE}"))
}

pub(super) async fn run(
    command: &AuditCommand,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::Verify { offline: Some(file), json, .. } => {
            let keys = backend::master_keys(config)?;
            let lines = File::open(file).and_then(|file| verify_lines(BufReader::new(file), &keys));
            let verified = lines.map_err(|error| {
                Failure::usage(format!("{} cannot be read: {}", file.display(), error.kind()))
            })?;
            show(&verified, Style::of(*json))
        }
        AuditCommand::Verify { tenant, checkpoint, json, offline: None } => {
            let slug = tenant.as_deref().map(parse_slug).transpose()?;
            let file = checkpoint.clone().map(CheckpointFile::new);
            let verified = with_app(config, source, async |app: &App| {
                let tenant = match &slug {
                    Some(slug) => Some(app.administration.find_tenant(slug).await?.id),
                    None => None,
                };
                let record = app.calls.command_line_record();
                Ok(app.compliance.verify_on_request(tenant, file.as_ref(), record).await?)
            })
            .await?;
            show(&verified, Style::of(*json))
        }
        AuditCommand::Export { tenant, from, to } => {
            let query = TrailQuery { from: *from, to: *to, ..TrailQuery::default() };
            export_all(tenant.as_deref(), &query, config, source).await
        }
        AuditCommand::AcceptLedger { json } => {
            let (ledger, now) = with_app(config, source, async |app: &App| {
                let record = app.calls.command_line_record();
                Ok(app.compliance.accept_ledger(record).await?)
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

fn show(verified: &Verification, style: Style) -> Result<ExitCode, Failure> {
    output::show(style, verified, || in_words(verified))?;
    Ok(match verified {
        Verification { ok: false, .. } => ExitCode::FAILURE,
        Verification { rows: 0, seals: 0, .. } => ExitCode::from(NOTHING_TO_CHECK),
        _ => ExitCode::SUCCESS,
    })
}

fn in_words(verified: &Verification) -> String {
    let Verification { ok, rows, unsealed, seals, checkpoints, kinds, findings } = verified;
    let mut lines: Vec<String> = findings
        .iter()
        .map(|found| format!("{}  {}: {}", found.kind, found.place, found.detail))
        .collect();
    for (kind, count) in kinds {
        let told = findings.iter().filter(|found| found.kind == *kind).count() as u64;
        if told < *count {
            lines.push(format!("{kind}  and {} more", count - told));
        }
    }
    let verdict = match (ok, rows + seals) {
        (false, _) => format!("{} findings", verified.found()),
        (true, 0) => "nothing to verify".to_owned(),
        (true, _) => "no findings".to_owned(),
    };
    lines.push(format!(
        "{verdict} in {rows} rows ({unsealed} of them not sealed yet), {seals} seals, \
         {checkpoints} checkpoints"
    ));
    lines.join("\n")
}

async fn export_all(
    tenant: Option<&str>,
    query: &TrailQuery,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    let slug = tenant.map(parse_slug).transpose()?;
    if let (Some(from), Some(to)) = (query.from, query.to)
        && from > to
    {
        return Err(Failure::usage("--to must not be before --from"));
    }
    with_app(config, source, async |app: &App| {
        let tenants = match &slug {
            Some(slug) => vec![app.administration.find_tenant(slug).await?],
            None => app.administration.list_tenants().await?,
        };
        for tenant in tenants {
            export(app, tenant.id, query).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

async fn export(app: &App, tenant: TenantId, query: &TrailQuery) -> Result<(), Failure> {
    let word = app.calls.operators_word(tenant, Action::AuditExport);
    let mut export = app.compliance.export_trail(word, query).await?;
    while let Some(rows) = export.next().await? {
        let lines = ndjson(&rows).map_err(Failure::internal)?;
        let written = output::write_lines(&lines);
        written.map_err(|error| {
            Failure::not_so(format!("the output cannot be written: {}", error.kind()))
        })?;
    }
    Ok(())
}
