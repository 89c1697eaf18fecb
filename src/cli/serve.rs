//! Owns the command `ai-cache serve`, which runs the service.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::administration::{Grant, TenantError, TenantSlug, TokenRequest};
use crate::app::{App, Running};
use crate::config::{Config, Source};
use crate::domain::caller::Role;
use crate::domain::token::BearerToken;
use crate::embedded::Lifetime;
use crate::store::tenants::TenantLimits;

use super::backend::{self, Backend, FolderUse};
use super::failure::Failure;
use super::output;

/// The slug of the tenant that the embedded mode makes.
const DEMO_TENANT: &str = "demo";
/// The name of the file in the data folder that holds the token of that tenant.
const DEMO_TOKEN_FILE: &str = "demo.token";

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(config: &Config, source: &Source) -> Result<ExitCode, Failure> {
    backend::init_logging(config)?;
    // The port is bound before anything else starts, so that a taken port is reported at once.
    let listener = listen(config.server.bind)?;
    let backend = Backend::open(config, source, FolderUse::Alone, Lifetime::Independent).await?;
    let served = serve(config, &backend, listener).await;
    backend.servers.stop().await;
    served
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| {
        let why = match error.kind() {
            ErrorKind::AddrInUse => "the port is taken".to_owned(),
            other => other.to_string(),
        };
        Failure::usage(format!("AI_CACHE_BIND: cannot listen on {address}: {why}"))
    })
}

async fn serve(
    config: &Config,
    backend: &Backend,
    listener: TcpListener,
) -> Result<ExitCode, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::internal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::internal)?;
    let upstream = backend::upstream(&config.upstream)?;
    let app = backend.start_app(config, upstream).await?;
    warn_insecure(config);
    let token = match config.database.url {
        None => Some(demo_token(&app, &config.server.data_dir).await?),
        Some(_) => None,
    };
    let running = app.serve(listener)?;
    announce(config, backend, &running, token.as_deref().map(String::as_str));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    let clean = running.stop().await;
    if !clean {
        tracing::warn!("some tasks did not end in time");
    }
    Ok(ExitCode::SUCCESS)
}

fn warn_insecure(config: &Config) {
    if !config.cache.encryption_enabled {
        tracing::warn!("entries are sealed under a key that everybody knows: development only");
    }
    if !config.cache.audit_logging_enabled {
        tracing::warn!("reads are not audited: development only");
    }
}

fn announce(config: &Config, backend: &Backend, running: &Running, token: Option<&str>) {
    let address = running.address();
    output::say(&format!(
        "ai-cache serves http://{address} (upstream: {}, API: http://{address}/api/docs/)",
        config.upstream.name
    ));
    if let Some(psql) = backend.servers.psql_command() {
        output::say(&format!("Its own Postgres: {psql}"));
    }
    if let Some(token) = token {
        output::say(&format!(
            "Try it, twice:\n\ncurl -s http://{address}/api/ai-cache/query \
             -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \
             -d '{{\"query\":\"Best photographers in NYC\",\"weddingContext\":{{\"location\":\
             \"New York, NY\",\"vendorTypes\":[\"photographer\"],\"budget\":5000}}}}'\n"
        ));
    }
}

/// Returns a token of the demonstration tenant with the roles app, admin and compliance. It is the
/// token of the last start, or a new one if that token is lost or revoked.
async fn demo_token(app: &App, folder: &Path) -> Result<Zeroizing<String>, Failure> {
    let slug = TenantSlug::parse(DEMO_TENANT).ok_or_else(|| Failure::internal("no slug"))?;
    let administration = &app.administration;
    let tenant = match administration.find_tenant(&slug).await {
        Err(TenantError::NotFound) => {
            let record = app.calls.command_line_record();
            administration
                .create_tenant(&slug, "Demonstration", TenantLimits::default(), record)
                .await?
        }
        other => other?,
    };
    let path = folder.join(DEMO_TOKEN_FILE);
    if let Ok(text) = fs::read_to_string(&path).map(Zeroizing::new)
        && let Some(token) = BearerToken::parse(text.trim())
    {
        let known = administration.list_tokens(tenant.id).await?;
        if known.iter().any(|row| row.id == token.id && row.revoked_at.is_none()) {
            return Ok(token.reveal());
        }
    }
    let roles = [Role::App, Role::Admin, Role::Compliance].into_iter().collect();
    let request = TokenRequest { tenant: tenant.id, roles, expires_at: None };
    let record = app.calls.command_line_record();
    let made = administration.create_token(request, Grant::CommandLine, record).await?;
    write_private(&path, &made.text).map_err(|error| {
        Failure::usage(format!("{} cannot be written: {}", path.display(), error.kind()))
    })?;
    Ok(made.text)
}

/// Writes a file that only its owner can read. Replaces the file at `path` if there is one.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    fs::rename(&beside, path)
}
