//! `ai-cache audit …`.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Subcommand;

use crate::app::App;
use crate::config::{Config, Source};
use crate::domain::audit_row::ndjson;
use crate::domain::ids::TenantId;
use crate::service::TrailQuery;

use super::failure::Failure;
use super::output;
use super::tenant::{parse_slug, with_app};

#[derive(Subcommand)]
pub(super) enum AuditCommand {
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
}

fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(text).map(DateTime::into);
    time.map_err(|_| "must be a time of RFC 3339, such as 2026-01-31T00:00:00Z".to_owned())
}

/// Runs the command.
pub(super) async fn run(
    command: &AuditCommand,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    let AuditCommand::Export { tenant, from, to } = command;
    let slug = tenant.as_deref().map(parse_slug).transpose()?;
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(Failure::usage("--to must not be before --from"));
    }
    let query = TrailQuery { from: *from, to: *to, ..TrailQuery::default() };
    with_app(config, source, async |app: &App| {
        let tenants = match &slug {
            Some(slug) => vec![app.service().find_tenant(slug).await?],
            None => app.service().list_tenants().await?,
        };
        for tenant in tenants {
            export(app, tenant.id, &query).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

async fn export(app: &App, tenant: TenantId, query: &TrailQuery) -> Result<(), Failure> {
    let mut export = app.service().export_trail_of(tenant, query).await?;
    while let Some(rows) = export.next().await? {
        let lines = ndjson(&rows).map_err(Failure::internal)?;
        let written = output::write_lines(&lines);
        written.map_err(|error| {
            Failure::not_so(format!("the output cannot be written: {}", error.kind()))
        })?;
    }
    Ok(())
}
