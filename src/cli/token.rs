//! Owns the command `ai-cache token`, which makes, lists and revokes tokens.

use std::process::ExitCode;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Subcommand;
use serde::Serialize;

use crate::administration::{Grant, TokenRequest};
use crate::app::App;
use crate::config::{Config, Source};
use crate::domain::caller::{Role, Roles};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::ids::TokenId;
use crate::store::tokens::TokenRow;

use super::failure::Failure;
use super::output::{self, Style};
use super::tenant::{parse_slug, with_app};

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token; it is shown this once
    Create {
        /// The tenant's slug
        #[arg(long)]
        tenant: String,
        /// app, admin, compliance or operator; may be given several times
        #[arg(long = "role", required = true, value_parser = parse_role)]
        roles: Vec<Role>,
        /// How long it is accepted: a number and s, m, h or d
        #[arg(long, value_parser = parse_life)]
        expires_in: Option<TimeDelta>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List a tenant's tokens
    List {
        /// The tenant's slug
        #[arg(long)]
        tenant: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token
    Revoke {
        /// The token's id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    id: String,
    tenant: String,
    roles: Vec<String>,
    expires_at: Option<DateTime<Utc>>,
    token: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenLine {
    id: String,
    roles: Vec<String>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Revoked {
    id: String,
    revoked: bool,
}

impl From<TokenRow> for TokenLine {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id.to_string(),
            roles: row.roles.names(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        }
    }
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "must be app, admin, compliance or operator".to_owned())
}

fn parse_life(text: &str) -> Result<TimeDelta, String> {
    let rule = || "must be a number from 1 and s, m, h or d, at most ten years".to_owned();
    let unit = text.chars().last().ok_or_else(rule)?;
    let seconds: i64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(rule()),
    };
    let count: i64 = text[..text.len() - 1].parse().map_err(|_| rule())?;
    let life = count.checked_mul(seconds).filter(|life| (1..=315_360_000).contains(life));
    life.map(TimeDelta::seconds).ok_or_else(rule)
}

pub(super) async fn run(
    command: &TokenCommand,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    match command {
        TokenCommand::Create { tenant, roles, expires_in, json } => {
            let roles: Roles = roles.iter().copied().collect();
            let made = create(tenant, roles, *expires_in, config, source).await?;
            output::show(Style::of(*json), &made, || {
                format!("made the token {}, shown this once:\n{}", made.id, made.token)
            })
        }
        TokenCommand::List { tenant, json } => {
            let slug = parse_slug(tenant)?;
            let rows = with_app(config, source, async |app: &App| {
                let tenant = app.administration.find_tenant(&slug).await?;
                Ok(app.administration.list_tokens(tenant.id).await?)
            })
            .await?;
            let listed: Vec<TokenLine> = rows.into_iter().map(TokenLine::from).collect();
            output::show(Style::of(*json), &listed, || {
                listed.iter().map(line).collect::<Vec<_>>().join("\n")
            })
        }
        TokenCommand::Revoke { id, json } => {
            let token =
                TokenId::parse(id).ok_or_else(|| Failure::usage("that is no token's id"))?;
            with_app(config, source, async |app: &App| {
                let tenant = app.administration.tenant_of_token(token).await?;
                let record = app.calls.command_line_record();
                Ok(app.administration.revoke_token(tenant, token, record).await?)
            })
            .await?;
            let revoked = Revoked { id: token.to_string(), revoked: true };
            output::show(Style::of(*json), &revoked, || format!("revoked {token}"))
        }
    }
}

async fn create(
    tenant: &str,
    roles: Roles,
    expires_in: Option<TimeDelta>,
    config: &Config,
    source: &Source,
) -> Result<Made, Failure> {
    let slug = parse_slug(tenant)?;
    let expires_at = expires_in.map(|life| SystemClock.now() + life);
    with_app(config, source, async |app: &App| {
        let tenant = app.administration.find_tenant(&slug).await?;
        let request = TokenRequest { tenant: tenant.id, roles, expires_at };
        let record = app.calls.command_line_record();
        let new = app.administration.create_token(request, Grant::CommandLine, record).await?;
        Ok(Made {
            id: new.row.id.to_string(),
            tenant: tenant.slug,
            roles: new.row.roles.names(),
            expires_at: new.row.expires_at,
            token: new.text.to_string(),
        })
    })
    .await
}

fn line(token: &TokenLine) -> String {
    let state = match (token.revoked_at, token.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "no end".to_owned(),
    };
    format!("{}  {}  {state}", token.id, token.roles.join("+"))
}
