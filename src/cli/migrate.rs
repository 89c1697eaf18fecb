//! Owns the command `ai-cache migrate`, which updates the schema of the database.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::config::{Config, SecretText, Source};
use crate::domain::clock::SystemClock;
use crate::domain::ids::SystemIds;
use crate::embedded::Lifetime;
use crate::store::migrate;

use super::backend::{self, Backend, FolderUse};
use super::failure::Failure;
use super::output::{self, Style};

/// Arguments of `migrate`.
#[derive(Args)]
pub(super) struct MigrateArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct MigrateReport {
    applied: usize,
    version: i32,
}

/// Migrates the configured database as its owner, or the embedded one.
pub(super) async fn run(
    args: &MigrateArgs,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    backend::init_logging(config)?;
    let report = match (&config.database.admin_url, &config.database.url) {
        (Some(admin), service) => {
            let service = service.as_ref().map(SecretText::reveal);
            let done = migrate::migrate(admin.reveal(), service, &SystemClock, &SystemIds).await?;
            MigrateReport { applied: done.applied, version: done.version }
        }
        (None, Some(_)) => {
            let rule = "AI_CACHE_ADMIN_DATABASE_URL must name the owner of the database";
            return Err(Failure::usage(rule));
        }
        (None, None) => {
            let backend =
                Backend::open(config, source, FolderUse::Shared, Lifetime::Independent).await?;
            backend.servers.stop().await;
            MigrateReport { applied: 0, version: migrate::newest_version() }
        }
    };
    output::show(Style::of(args.json), &report, || {
        format!("the schema is at version {} ({} applied now)", report.version, report.applied)
    })
}
