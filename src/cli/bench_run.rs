//! Gives `bench` a service to measure: the named one, or a new one that has its own servers and
//! gives demonstration answers at once. A new service must leave nothing behind.

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::administration::{Grant, TenantSlug, TokenRequest};
use crate::app::Running;
use crate::config::{Config, Source};
use crate::crypto;
use crate::domain::caller::Role;
use crate::domain::money::{Prices, Usd};
use crate::domain::token::BearerToken;
use crate::embedded::Lifetime;
use crate::loadgen::Address;
use crate::store::tenants::TenantLimits;
use crate::upstream::Demo;

use super::backend::{Backend, FolderUse};
use super::bench::{self, BenchArgs, BenchTarget};
use super::failure::Failure;
use super::output;

/// The size of an answer in bytes.
const ANSWER_BYTES: usize = 2_048;

/// Finds or starts the service and measures it.
pub(super) async fn run(args: &BenchArgs, source: &Source) -> Result<ExitCode, Failure> {
    match args.target() {
        Err(error) => Ok(refuse(&error)),
        Ok(Some(target)) => Ok(measure(args, &target).await),
        Ok(None) => {
            let folder = source.temp_dir().join(format!("ai-cache-bench-{}", folder_name()?));
            std::fs::create_dir(&folder).map_err(Failure::internal)?;
            let measured = Box::pin(measure_local(args, source, &folder)).await;
            std::fs::remove_dir_all(&folder).map_err(Failure::internal)?;
            measured
        }
    }
}

fn folder_name() -> Result<String, Failure> {
    crypto::random::<8>().map(hex::encode).map_err(Failure::internal)
}

async fn measure(args: &BenchArgs, target: &BenchTarget) -> ExitCode {
    bench::run(args, target).await.unwrap_or_else(|error| refuse(&error))
}

fn refuse(error: &bench::BenchError) -> ExitCode {
    output::complain(&format!("ai-cache: {error}"));
    error.exit_code()
}

async fn measure_local(
    args: &BenchArgs,
    source: &Source,
    folder: &std::path::Path,
) -> Result<ExitCode, Failure> {
    let settings = [("AI_CACHE_DATA_DIR", folder.to_str().unwrap_or_default())];
    let config = Config::load(&Source::from_pairs(settings)).map_err(Failure::usage)?;
    let backend = Backend::open(&config, source, FolderUse::Alone, Lifetime::Bound).await?;
    let measured = match start(&config, &backend).await {
        Ok((running, target)) => {
            let code = measure(args, &target).await;
            running.stop().await;
            Ok(code)
        }
        Err(failure) => Err(failure),
    };
    backend.servers.stop().await;
    measured
}

async fn start(config: &Config, backend: &Backend) -> Result<(Running, BenchTarget), Failure> {
    let prices = Prices { prompt: Usd(150_000), completion: Usd(600_000) };
    let upstream = Demo::new("demo".to_owned(), Duration::ZERO, ANSWER_BYTES, prices);
    let app = backend.start_app(config, Arc::new(upstream)).await?;
    let slug = TenantSlug::parse("bench").ok_or_else(|| Failure::internal("no slug"))?;
    let record = app.calls.command_line_record();
    let tenant = app
        .administration
        .create_tenant(&slug, "Benchmark", TenantLimits::default(), record)
        .await?;
    let roles = [Role::App].into_iter().collect();
    let request = TokenRequest { tenant: tenant.id, roles, expires_at: None };
    let record = app.calls.command_line_record();
    let token = app.administration.create_token(request, Grant::CommandLine, record).await?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Failure::internal)?;
    let running = app.serve(listener)?;
    let address = Address::parse(&format!("http://{}", running.address()));
    let token = BearerToken::parse(&token.text).ok_or_else(|| Failure::internal("no token"))?;
    Ok((running, BenchTarget { address: address.map_err(Failure::internal)?, token }))
}
