//! Owns the command `ai-cache purge`, which removes what is past its retention.

use std::process::ExitCode;

use clap::Args;

use crate::app::App;
use crate::compliance::{Amounts, Purge, PurgeReport, PurgeState};
use crate::config::{Config, Source};

use super::failure::Failure;
use super::output::{self, Style};
use super::tenant::with_app;

#[derive(Args)]
pub(super) struct PurgeArgs {
    /// Only tell what is due
    #[arg(long, conflicts_with = "confirm")]
    dry_run: bool,
    /// Remove it although it is much or a clock jumped
    #[arg(long)]
    confirm: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(
    args: &PurgeArgs,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    let how = match (args.dry_run, args.confirm) {
        (true, _) => Purge::DryRun,
        (false, true) => Purge::Confirmed,
        (false, false) => Purge::Guarded,
    };
    let report = with_app(config, source, async |app: &App| {
        Ok(app.compliance.purge(how, app.calls.command_line_record()).await?)
    })
    .await?;
    output::show(Style::of(args.json), &report, || in_words(&report))?;
    Ok(if report.state == PurgeState::Waiting { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn in_words(report: &PurgeReport) -> String {
    let amounts = |of: &Amounts| {
        let Amounts { entries, metrics, exports, requests, subjects } = of;
        format!(
            "{entries} entries, {metrics} rows of metrics, {exports} export packages, \
             {requests} requests, {subjects} names in requests"
        )
    };
    let mut lines = Vec::new();
    for tenant in &report.tenants {
        let held = if tenant.held { ", held" } else { "" };
        let kept = tenant.kept;
        let amounts = amounts(&tenant.amounts);
        lines.push(format!("{}: {amounts}; {kept} entries kept{held}", tenant.tenant));
    }
    for part in &report.partitions {
        lines.push(format!("{}: {} records, {}", part.name, part.rows, part.fate.name()));
    }
    let verb = match report.state {
        PurgeState::Done => "removed".to_owned(),
        PurgeState::DryRun => "due".to_owned(),
        PurgeState::Waiting => {
            let reason = report.reason.map_or("", crate::compliance::WaitReason::name);
            format!("nothing removed ({reason}), repeat with --confirm; due")
        }
    };
    lines.push(format!("{verb}: {}, {} audit records", amounts(&report.amounts), report.records));
    lines.join("\n")
}
