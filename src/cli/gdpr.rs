//! Owns the command `ai-cache gdpr`, which handles the requests of data subjects.

use crate::domain::action::Action;
use crate::domain::ids::TenantId;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::app::App;
use crate::compliance::{Decision, Filing, RequestView};
use crate::config::{Config, Source};
use crate::crypto::KeyProvider;
use crate::domain::audit_record::AuditRecord;
use crate::domain::certificate::SignedCertificate;
use crate::domain::gdpr::{RequestKind, RequestState};
use crate::domain::ids::GdprRequestId;
use crate::domain::query::SubjectId;
use crate::http::api::gdpr::GdprRequestBody;
use crate::store::gdpr::RequestFilter;

use super::audit::parse_time;
use super::backend;
use super::failure::Failure;
use super::new_file::NewFile;
use super::output::{self, Style};
use super::tenant::{parse_slug, with_app};

/// The largest number of requests that are listed.
const MOST: u16 = 200;

#[derive(Subcommand)]
pub(super) enum GdprCommand {
    /// File a request; the service executes it
    File(FileArgs),
    /// List a tenant's requests, newest first
    List {
        /// The tenant's slug
        #[arg(long, value_name = "SLUG")]
        tenant: String,
        /// In this state only
        #[arg(long, value_parser = parse_state)]
        state: Option<RequestState>,
        /// Of this type only
        #[arg(long = "type", value_name = "TYPE", value_parser = parse_kind)]
        kind: Option<RequestKind>,
        /// Due before this time only, such as 2026-01-31T00:00:00Z
        #[arg(long, value_parser = parse_time)]
        due_before: Option<DateTime<Utc>>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a request with its history
    Show(NamedArgs),
    /// Approve a request that waits for it, or one that failed to be tried again
    Approve(DecisionArgs),
    /// Reject a request that waits for approval
    Reject(DecisionArgs),
    /// Cancel a request whose execution has not begun
    Cancel(DecisionArgs),
    /// Give a request two months more, once and before it is due
    Extend(DecisionArgs),
    /// Write the package of an export, or the certificate of an erasure, into a new file
    Download(DownloadArgs),
    /// Verify the certificate of an erasure with the installation's master keys; 1: it is not so
    VerifyCertificate {
        /// The certificate
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct FileArgs {
    /// The tenant's slug
    #[arg(long, value_name = "SLUG")]
    tenant: String,
    /// export, erase, restrict or lift-restriction
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_kind)]
    kind: RequestKind,
    /// The person's id
    #[arg(long, value_name = "ID")]
    subject: String,
    /// Why
    #[arg(long)]
    reason: String,
    /// The request's name elsewhere
    #[arg(long)]
    reference: Option<String>,
    /// When the person asked, such as 2026-01-31T00:00:00Z; now when absent
    #[arg(long, value_parser = parse_time)]
    received_at: Option<DateTime<Utc>>,
    /// Filing again under the same key gives the same request
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct NamedArgs {
    /// The request's id
    id: String,
    /// The tenant's slug
    #[arg(long, value_name = "SLUG")]
    tenant: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct DecisionArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// Why
    #[arg(long)]
    reason: String,
}

#[derive(Args)]
pub(super) struct DownloadArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// The file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Downloaded<'a> {
    file: &'a Path,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerifiedCertificate {
    ok: bool,
    request_id: String,
    issued_at: DateTime<Utc>,
}

fn parse_kind(text: &str) -> Result<RequestKind, String> {
    RequestKind::parse(text)
        .ok_or_else(|| "must be export, erase, restrict or lift-restriction".to_owned())
}

fn parse_state(text: &str) -> Result<RequestState, String> {
    RequestState::parse(text).ok_or_else(|| "must be a state of requests".to_owned())
}

fn parse_id(text: &str) -> Result<GdprRequestId, Failure> {
    GdprRequestId::parse(text).ok_or_else(|| Failure::usage("that is no request's id"))
}

/// Returns `text` if it has 1 to `most` bytes, as the API demands.
fn within(name: &str, text: &str, most: usize) -> Result<String, Failure> {
    if (1..=most).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(Failure::usage(format!("--{name} must be 1 to {most} bytes")))
}

pub(super) async fn run(
    command: &GdprCommand,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    match command {
        GdprCommand::File(args) => file(args, config, source).await,
        GdprCommand::List { tenant, state, kind, due_before, json } => {
            let (state, kind, due_before) = (*state, *kind, *due_before);
            let filter = RequestFilter { state, kind, due_before, before: None };
            let page = with_tenant(tenant, config, source, async |app: &App, tenant| {
                let word = app.calls.operators_word(tenant, Action::GdprList);
                Ok(app.compliance.list_requests(word, &filter, MOST).await?)
            });
            let shown: Vec<GdprRequestBody> =
                page.await?.requests.into_iter().map(GdprRequestBody::from).collect();
            output::show(Style::of(*json), &shown, || {
                shown.iter().map(GdprRequestBody::line).collect::<Vec<_>>().join("\n")
            })
        }
        GdprCommand::Show(args) => {
            let id = parse_id(&args.id)?;
            let shown = with_tenant(&args.tenant, config, source, async |app: &App, tenant| {
                show_request(app, tenant, id).await
            });
            show(shown.await?, Style::of(args.json))
        }
        GdprCommand::Approve(args) => decide(Decision::Approve, args, config, source).await,
        GdprCommand::Reject(args) => decide(Decision::Reject, args, config, source).await,
        GdprCommand::Cancel(args) => decide(Decision::Cancel, args, config, source).await,
        GdprCommand::Extend(args) => decide(Decision::Extend, args, config, source).await,
        GdprCommand::Download(args) => download(args, config, source).await,
        GdprCommand::VerifyCertificate { file, json } => {
            verify(file, &backend::master_keys(config)?, Style::of(*json))
        }
    }
}

/// Runs `work` for the tenant of this slug. Fails before that if erased data may be here again.
async fn with_tenant<T>(
    slug: &str,
    config: &Config,
    source: &Source,
    work: impl AsyncFnOnce(&App, TenantId) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let slug = parse_slug(slug)?;
    Box::pin(with_app(config, source, async |app: &App| {
        app.compliance.look_at_erasures().await?;
        if !app.compliance.erasures_hold() {
            let line = "what was erased may be here again: run `ai-cache restore apply-ledger`";
            return Err(Failure::not_so(line));
        }
        let tenant = app.administration.find_tenant(&slug).await?;
        work(app, tenant.id).await
    }))
    .await
}

async fn file(args: &FileArgs, config: &Config, source: &Source) -> Result<ExitCode, Failure> {
    let rule = || Failure::usage("--subject must be 1 to 256 bytes, not only white space");
    let key = args.idempotency_key.as_deref();
    let filing = Filing {
        kind: args.kind,
        subject: SubjectId::parse(&args.subject).ok_or_else(rule)?,
        reason: within("reason", &args.reason, 2_000)?,
        reference: args.reference.as_deref().map(|it| within("reference", it, 200)).transpose()?,
        received_at: args.received_at,
        idempotency_key: key.map(|key| within("idempotency-key", key, 128)).transpose()?,
    };
    let shown = with_tenant(&args.tenant, config, source, async |app: &App, tenant| {
        let record = AuditRecord { tenant, ..app.calls.command_line_record() };
        let filed = app.compliance.file_request(&filing, record).await?;
        show_request(app, tenant, filed.id).await
    });
    show(shown.await?, Style::of(args.json))
}

async fn decide(
    decision: Decision,
    args: &DecisionArgs,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    let id = parse_id(&args.named.id)?;
    let reason = within("reason", &args.reason, 2_000)?;
    let shown = with_tenant(&args.named.tenant, config, source, async |app: &App, tenant| {
        let record = AuditRecord { tenant, ..app.calls.command_line_record() };
        app.compliance.decide_request(id, decision, Some(&reason), record).await?;
        show_request(app, tenant, id).await
    });
    show(shown.await?, Style::of(args.named.json))
}

async fn show_request(
    app: &App,
    tenant: TenantId,
    id: GdprRequestId,
) -> Result<RequestView, Failure> {
    let word = app.calls.operators_word(tenant, Action::GdprRead);
    Ok(app.compliance.show_request(word, id, 200).await?)
}

fn show(view: RequestView, style: Style) -> Result<ExitCode, Failure> {
    let shown = GdprRequestBody::from(view);
    output::show(style, &shown, || shown.line())
}

async fn download(
    args: &DownloadArgs,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    let (named, path) = (&args.named, &args.output);
    let id = parse_id(&named.id)?;
    let mut file = NewFile::create(path)?;
    let bytes = with_tenant(&named.tenant, config, source, async |app: &App, tenant| {
        let App { compliance, calls, .. } = app;
        match show_request(app, tenant, id).await?.row.kind {
            RequestKind::Erase => {
                let word = calls.operators_word(tenant, Action::GdprRead);
                let certificate = compliance.certificate(word, id).await?;
                file.write(certificate.as_bytes())?;
                file.keep()
            }
            RequestKind::Export => {
                let word = calls.operators_word(tenant, Action::GdprDownload);
                let mut package = compliance.download_export(word, id).await?;
                while let Some(part) = package.next().await? {
                    file.write(part.as_bytes())?;
                }
                file.keep()
            }
            RequestKind::Restrict | RequestKind::LiftRestriction => {
                Err(Failure::not_so("only exports and erasures have something to download"))
            }
        }
    });
    let downloaded = Downloaded { file: path, bytes: bytes.await? };
    output::show(Style::of(named.json), &downloaded, || {
        format!("{} bytes in {}", downloaded.bytes, path.display())
    })
}

/// Verifies a certificate and prints the result. The exit code is 1 if it is not genuine.
fn verify(file: &Path, keys: &KeyProvider, style: Style) -> Result<ExitCode, Failure> {
    let text = std::fs::read(file)
        .map_err(|error| Failure::usage(format!("{}: {}", file.display(), error.kind())))?;
    let signed: SignedCertificate = serde_json::from_slice(&text)
        .map_err(|_| Failure::not_so(format!("{} is no certificate", file.display())))?;
    let key = keys.find_audit_signing_key(&signed.key_id).ok_or_else(|| {
        Failure::not_so(format!("the certificate is signed under an unknown key {}", signed.key_id))
    })?;
    let key = key.map_err(Failure::internal)?;
    let signature = hex::decode(&signed.signature).unwrap_or_default();
    let ok = hex::encode(key.public()) == signed.public_key
        && key.verifies(&signed.certificate.canonical(), &signature);
    let SignedCertificate { certificate, .. } = signed;
    let verified = VerifiedCertificate {
        ok,
        request_id: certificate.request_id.to_string(),
        issued_at: certificate.issued_at,
    };
    output::show(style, &verified, || {
        let word = if ok { "is genuine" } else { "was changed, or not signed here" };
        format!("the certificate of the request {} {word}", verified.request_id)
    })?;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
