//! Owns the command line, with one file per subcommand. It is the only module that prints.

mod audit;
mod backend;
mod bench_run;
mod config_check;
mod failure;
mod gdpr;
mod keys;
mod migrate;
mod new_file;
mod openapi;
mod output;
mod purge;
mod restore;
mod scale;
mod serve;
mod tenant;
mod token;

pub mod bench;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Source};

use failure::Failure;

/// A multi-tenant, encrypted, audited cache for answers that cost money and time.
#[derive(Parser)]
#[command(name = "ai-cache", version)]
struct Arguments {
    /// Settings as NAME=value lines; the environment comes first, .env last
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until stopped; without DATABASE_URL with a Postgres and a Redis of its own
    Serve,
    /// Bring the database to this release's schema
    Migrate(migrate::MigrateArgs),
    /// Make and list tenants
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Make, list and revoke tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Prove and read the audit trail
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// File, decide on and prove data subjects' requests
    #[command(subcommand)]
    Gdpr(gdpr::GdprCommand),
    /// Remove what is past its retention; 1: it waits for --confirm
    Purge(purge::PurgeArgs),
    /// Rotate keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Make a restored database fit to be served from
    #[command(subcommand)]
    Restore(restore::RestoreCommand),
    /// Look at the settings
    #[command(subcommand)]
    Config(config_check::ConfigCommand),
    /// Measure how many answers a second come from the cache
    Bench(bench::BenchArgs),
    /// Measure what a million small entries take of memory
    Scale(scale::ScaleArgs),
    /// Print the OpenAPI document
    Openapi,
}

/// Parses the arguments and runs the command. The exit code is 0 if the command succeeded, 1 if its
/// answer is no or its work could not be done, 2 if the arguments or settings are wrong, and 3 if a
/// needed service is out of reach.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(shown) => {
            let code = if shown.use_stderr() { 2 } else { 0 };
            // An error is ignored, because the reader of stdout may have closed it.
            let _closed = shown.print();
            return ExitCode::from(code);
        }
    };
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            output::complain(&failure.to_string());
            failure.exit_code()
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    if let Command::Openapi = arguments.command {
        return openapi::run();
    }
    let source = Source::read(arguments.config.as_deref()).map_err(Failure::usage)?;
    if let Command::Scale(args) = &arguments.command {
        return scale::run(args);
    }
    if let Command::Config(command) = &arguments.command {
        return config_check::run(command, &source);
    }
    let config = Config::load(&source).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::internal)?;
    runtime.block_on(async {
        match arguments.command {
            Command::Serve => serve::run(&config, &source).await,
            Command::Migrate(args) => migrate::run(&args, &config, &source).await,
            Command::Tenant(command) => tenant::run(&command, &config, &source).await,
            Command::Token(command) => token::run(&command, &config, &source).await,
            Command::Audit(command) => audit::run(&command, &config, &source).await,
            Command::Gdpr(command) => gdpr::run(&command, &config, &source).await,
            Command::Purge(args) => purge::run(&args, &config, &source).await,
            Command::Keys(command) => keys::run(&command, &config, &source).await,
            Command::Restore(command) => restore::run(&command, &config, &source).await,
            Command::Bench(args) => bench_run::run(&args, &source).await,
            Command::Openapi | Command::Scale(_) | Command::Config(_) => Ok(ExitCode::SUCCESS),
        }
    })
}
