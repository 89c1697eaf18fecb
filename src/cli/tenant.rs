//! Owns the command `ai-cache tenant`, which makes and lists tenants. Other commands use its
//! `with_app`.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use serde::Serialize;

use crate::administration::TenantSlug;
use crate::app::App;
use crate::config::{Config, Source};
use crate::embedded::Lifetime;
use crate::store::tenants::{TenantLimits, TenantRow};
use crate::upstream::Nothing;

use super::backend::{self, Backend, FolderUse};
use super::failure::Failure;
use super::output::{self, Style};

#[derive(Subcommand)]
pub(super) enum TenantCommand {
    /// Make a tenant with its keys
    Create {
        /// Its name in commands and routes: 1 to 63 of a-z, 0-9 and -
        slug: String,
        /// Its name for people
        #[arg(long)]
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List every tenant
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Shown {
    id: String,
    slug: String,
    name: String,
}

impl From<TenantRow> for Shown {
    fn from(row: TenantRow) -> Self {
        Self { id: row.id.to_string(), slug: row.slug, name: row.name }
    }
}

/// Reads a tenant's slug from the command line.
pub(super) fn parse_slug(text: &str) -> Result<TenantSlug, Failure> {
    let rule = || Failure::usage(format!("a tenant's slug must be {}", TenantSlug::RULE));
    TenantSlug::parse(text).ok_or_else(rule)
}

/// Starts the parts of the service, runs `work` with them, and stops them.
pub(super) async fn with_app<T>(
    config: &Config,
    source: &Source,
    work: impl AsyncFnOnce(&App) -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_app_as(FolderUse::Shared, config, source, work).await
}

/// Does the same as `with_app`, with the given hold on the servers.
pub(super) async fn with_app_as<T>(
    hold: FolderUse,
    config: &Config,
    source: &Source,
    work: impl AsyncFnOnce(&App) -> Result<T, Failure>,
) -> Result<T, Failure> {
    backend::init_logging(config)?;
    let backend = Backend::open(config, source, hold, Lifetime::Independent).await?;
    let done = match backend.start_app(config, Arc::new(Nothing)).await {
        Ok(app) => {
            let done = work(&app).await;
            app.stop().await;
            done
        }
        Err(failure) => Err(failure),
    };
    backend.servers.stop().await;
    done
}

pub(super) async fn run(
    command: &TenantCommand,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    match command {
        TenantCommand::Create { slug, name, json } => {
            let slug = parse_slug(slug)?;
            if name.is_empty() || name.len() > 200 {
                return Err(Failure::usage("--name must be 1 to 200 bytes"));
            }
            let row = with_app(config, source, async |app: &App| {
                let record = app.calls.command_line_record();
                Ok(app
                    .administration
                    .create_tenant(&slug, name, TenantLimits::default(), record)
                    .await?)
            })
            .await?;
            let shown = Shown::from(row);
            output::show(Style::of(*json), &shown, || {
                format!("made the tenant {} ({})", shown.slug, shown.id)
            })
        }
        TenantCommand::List { json } => {
            let rows = with_app(config, source, async |app: &App| {
                Ok(app.administration.list_tenants().await?)
            })
            .await?;
            let shown: Vec<Shown> = rows.into_iter().map(Shown::from).collect();
            output::show(Style::of(*json), &shown, || {
                let line = |row: &Shown| format!("{}  {}  {}", row.id, row.slug, row.name);
                shown.iter().map(line).collect::<Vec<_>>().join("\n")
            })
        }
    }
}
