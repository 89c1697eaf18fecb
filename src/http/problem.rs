//! Errors as replies: the only place that knows status codes. Every kind stands in docs/ERRORS.md.
//! A problem never holds a query, an answer, a person, a token or a driver's words.

use std::fmt;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::AuditError;
use crate::auth::{AuthError, HasherError};
use crate::domain::fields::FieldError;
use crate::domain::ids::RequestId;
use crate::domain::json::JsonError;
use crate::keyring::KeyringError;
use crate::service::{
    EntriesError, InvalidateError, QueryError, ServiceError, TenantError, TokenError,
};
use crate::store::StoreError;
use crate::upstream::UpstreamError;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident => $slug:literal, $status:literal, $title:literal;)+) => {
        /// Every kind of error reply.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ProblemKind {
            $($(#[$doc])* $kind,)+
        }

        impl ProblemKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// The last part of the problem's `type`.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$kind => $slug,)+ }
            }

            /// HTTP status (RFC 9110 §15).
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)+ }
            }

            /// The same words for every problem of this kind.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)+ }
            }
        }
    };
}

kinds! {
    /// A header or the request line breaks a rule.
    MalformedRequest => "malformed-request", 400, "The request is malformed";
    /// The body is not JSON.
    MalformedBody => "malformed-body", 400, "The body is not JSON";
    /// An object names a key twice.
    DuplicateKey => "duplicate-key", 400, "The body names a key twice";
    /// The body is nested too deep.
    TooDeep => "too-deep", 400, "The body is nested too deep";
    /// The body is not UTF-8.
    NotUtf8 => "not-utf8", 400, "The body is not UTF-8";
    /// No caller.
    Unauthenticated => "unauthenticated", 401, "A valid bearer token is required";
    /// The caller's roles do not allow it.
    Forbidden => "forbidden", 403, "The token lacks the role for this";
    /// Not there, or another tenant's.
    NotFound => "not-found", 404, "There is no such thing";
    /// The route has other methods.
    MethodNotAllowed => "method-not-allowed", 405, "The route does not take this method";
    /// The state of the thing does not allow it.
    Conflict => "conflict", 409, "The present state does not allow this";
    /// The body is too long.
    BodyTooLarge => "body-too-large", 413, "The body is too large";
    /// The body is not declared as JSON.
    UnsupportedMediaType => "unsupported-media-type", 415, "The body must be application/json";
    /// Fields break rules.
    InvalidField => "invalid-field", 422, "A field breaks a rule";
    /// Too many requests.
    TooManyRequests => "too-many-requests", 429, "Too many requests";
    /// A bug or a broken value.
    Internal => "internal", 500, "The service failed";
    /// The upstream failed.
    UpstreamFailed => "upstream-failed", 502, "The upstream failed";
    /// No durable record, no data.
    AuditUnavailable => "audit-unavailable", 503, "Audit records cannot be made durable";
    /// The token cannot be looked up.
    AuthUnavailable => "auth-unavailable", 503, "The token cannot be verified now";
    /// Postgres cannot be reached.
    StorageUnavailable => "storage-unavailable", 503, "The storage cannot be reached";
    /// Committed here, not yet everywhere.
    NotPropagated => "not-propagated", 503, "The change is not yet in force everywhere";
    /// Too much waits.
    Overloaded => "overloaded", 503, "The service is overloaded";
    /// The upstream took too long.
    UpstreamTimeout => "upstream-timeout", 504, "The upstream took too long";
    /// Only a cached answer was acceptable.
    NotCached => "not-cached", 504, "No cached answer is available";
}

/// An error reply (RFC 9457). The request's own id and path are added where it leaves.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// What about this one; for the caller.
    pub detail: String,
    /// The fields that break rules.
    pub errors: Vec<FieldError>,
    /// Seconds after which to come back.
    pub retry_after: Option<u64>,
    /// The methods the route takes.
    pub allow: Vec<&'static str>,
}

/// A bad field.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemField {
    /// JSON pointer to the field (RFC 6901).
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// The body of an error reply (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemBody {
    /// `urn:ai-cache:problem:` and the kind, as listed in docs/ERRORS.md.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same words for every problem of this kind.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What about this one.
    pub detail: String,
    /// The path that was asked for.
    pub instance: String,
    /// The request's id, as in logs and audit.
    pub request_id: String,
    /// The fields that break rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemField>,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let retry_after = (kind.status() == 503).then_some(1);
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after, allow: Vec::new() }
    }

    /// Fields break rules.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{} {}", name_of(&only.pointer), only.detail),
            many => format!("{} fields break a rule", many.len()),
        };
        Self { errors, ..Self::new(ProblemKind::InvalidField, detail) }
    }

    /// One field breaks a rule.
    pub fn invalid_field(pointer: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { pointer: pointer.to_owned(), detail: detail.into() }])
    }

    /// The thing is not there, or not the caller's.
    pub fn not_found() -> Self {
        Self::new(ProblemKind::NotFound, "nothing is known under this path")
    }

    /// The reply, complete.
    pub fn reply(&self, path: &str, request: RequestId) -> HttpResponse {
        let body = ProblemBody {
            kind: format!("urn:ai-cache:problem:{}", self.kind.slug()),
            title: self.kind.title().to_owned(),
            status: self.kind.status(),
            detail: self.detail.clone(),
            instance: path.to_owned(),
            request_id: request.to_string(),
            errors: self
                .errors
                .iter()
                .map(|error| ProblemField {
                    pointer: error.pointer.clone(),
                    detail: error.detail.clone(),
                })
                .collect(),
        };
        let mut reply = self.builder();
        reply.content_type("application/problem+json");
        reply.body(serde_json::to_vec(&body).unwrap_or_default())
    }

    fn builder(&self) -> HttpResponseBuilder {
        let mut reply = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.retry_after {
            reply.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if !self.allow.is_empty() {
            reply.insert_header((header::ALLOW, self.allow.join(", ")));
        }
        if self.kind == ProblemKind::Unauthenticated {
            reply.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        reply
    }
}

fn name_of(pointer: &str) -> &str {
    if pointer.is_empty() { "the body" } else { pointer }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.title())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Without a body: the outermost middleware, which knows the request, writes it.
    fn error_response(&self) -> HttpResponse {
        self.builder().finish()
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        let kind = match &error {
            JsonError::NotUtf8 { .. } => ProblemKind::NotUtf8,
            JsonError::Syntax { .. } | JsonError::NumberOutOfRange { .. } => {
                ProblemKind::MalformedBody
            }
            JsonError::DuplicateKey { .. } => ProblemKind::DuplicateKey,
            JsonError::TooDeep => ProblemKind::TooDeep,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Vec<FieldError>> for Problem {
    fn from(errors: Vec<FieldError>) -> Self {
        Self::invalid(errors)
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Malformed | AuthError::Refused => Self::unauthenticated(),
            AuthError::Limited { retry_after } => Self {
                retry_after: Some(retry_after.as_secs() + 1),
                ..Self::new(ProblemKind::TooManyRequests, "too many tokens to verify")
            },
            AuthError::Overloaded => {
                Self::new(ProblemKind::Overloaded, "too many tokens wait to be verified")
            }
            AuthError::Unavailable(_) => {
                Self::new(ProblemKind::AuthUnavailable, "the token cannot be looked up now")
            }
            AuthError::Hasher(error) => Self::internal(&error),
        }
    }
}

impl Problem {
    /// The one reply for every token that is not accepted.
    pub fn unauthenticated() -> Self {
        Self::new(ProblemKind::Unauthenticated, "the bearer token is missing or not accepted")
    }

    /// Logs the cause, once, and tells the caller nothing of it. A driver's own words stay out: they
    /// may hold row values.
    fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(ProblemKind::Internal, "the failure was logged under the request's id")
    }
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::QueueFull | AuditError::Unavailable => {
                Self::new(ProblemKind::AuditUnavailable, "no data is given without its record")
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        use StoreError as E;
        match error {
            E::Unreachable(_) | E::Refused { .. } | E::TimedOut | E::Contended(_) => {
                tracing::warn!(%error, "a request needed Postgres");
                Self::new(ProblemKind::StorageUnavailable, "the storage cannot be reached now")
            }
            E::Constraint(_) | E::UnknownValue(_) | E::ForeignRecord | E::Statement { .. } => {
                Self::internal(&error)
            }
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Audit(error) => error.into(),
            ServiceError::Store(error) | ServiceError::Keyring(KeyringError::Store(error)) => {
                error.into()
            }
            ServiceError::Keyring(_) | ServiceError::Malformed | ServiceError::TaskLost => {
                Self::internal(&error)
            }
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Service(error) => error.into(),
            QueryError::Upstream(error) => error.into(),
            QueryError::NotCached => {
                Self::new(ProblemKind::NotCached, "the question is not cached and was not fetched")
            }
        }
    }
}

impl From<UpstreamError> for Problem {
    fn from(error: UpstreamError) -> Self {
        let kind = match &error {
            UpstreamError::TimedOut => ProblemKind::UpstreamTimeout,
            UpstreamError::Unreachable
            | UpstreamError::Refused { .. }
            | UpstreamError::Failed { .. }
            | UpstreamError::RateLimited { .. }
            | UpstreamError::BadAnswer { .. }
            | UpstreamError::CircuitOpen { .. }
            | UpstreamError::NotConfigured => ProblemKind::UpstreamFailed,
        };
        let retry_after = match &error {
            UpstreamError::RateLimited { retry_after } => retry_after.map(|pause| pause.as_secs()),
            UpstreamError::CircuitOpen { retry_after } => Some(retry_after.as_secs()),
            _ => None,
        };
        Self { retry_after, ..Self::new(kind, error.to_string()) }
    }
}

impl From<InvalidateError> for Problem {
    fn from(error: InvalidateError) -> Self {
        match error {
            InvalidateError::Service(error) => error.into(),
            InvalidateError::NotPropagated(_) => {
                Self::new(ProblemKind::NotPropagated, "it is committed; repeating it is safe")
            }
        }
    }
}

impl From<EntriesError> for Problem {
    fn from(error: EntriesError) -> Self {
        match error {
            EntriesError::Service(error) => error.into(),
            EntriesError::NotFound => Self::not_found(),
        }
    }
}

impl From<TenantError> for Problem {
    fn from(error: TenantError) -> Self {
        match error {
            TenantError::Service(error) => error.into(),
            TenantError::SlugTaken => Self::new(ProblemKind::Conflict, error.to_string()),
            TenantError::NotFound => Self::not_found(),
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Service(error) => error.into(),
            TokenError::MayNotGrant => Self::new(ProblemKind::Forbidden, error.to_string()),
            TokenError::NotFound => Self::not_found(),
            TokenError::Hasher(HasherError::Busy) => {
                Self::new(ProblemKind::Overloaded, "too many tokens wait to be hashed")
            }
            TokenError::Hasher(_) | TokenError::Crypto(_) => Self::internal(&error),
        }
    }
}
