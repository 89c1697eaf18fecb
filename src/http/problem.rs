//! Owns the error replies. Only this file gives a kind of error its status code. docs/ERRORS.md
//! lists every kind. A problem never holds a query, an answer, a person, a token or a driver's
//! message.

use std::fmt;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::fields::FieldError;
use crate::domain::ids::RequestId;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident => $slug:literal, $status:literal, $title:literal;)+) => {
        /// Every kind of error reply.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ProblemKind {
            $($(#[$doc])* $kind,)+
        }

        impl ProblemKind {
            /// Every kind, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// Returns the last part of the problem's `type`.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$kind => $slug,)+ }
            }

            /// Returns the HTTP status (RFC 9110 §15).
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)+ }
            }

            /// Returns the title, which every problem of this kind has.
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
    /// The token is missing or not accepted.
    Unauthenticated => "unauthenticated", 401, "A valid bearer token is required";
    /// The caller's roles do not allow the request.
    Forbidden => "forbidden", 403, "The token lacks the role for this";
    /// The thing does not exist or belongs to another tenant.
    NotFound => "not-found", 404, "There is no such thing";
    /// The path takes other methods.
    MethodNotAllowed => "method-not-allowed", 405, "The route does not take this method";
    /// The body did not arrive in time.
    RequestTimeout => "request-timeout", 408, "The request took too long to arrive";
    /// The thing existed but is not kept any longer.
    Gone => "gone", 410, "This is no longer available";
    /// The state of the thing does not allow it.
    Conflict => "conflict", 409, "The present state does not allow this";
    /// The body is too long.
    BodyTooLarge => "body-too-large", 413, "The body is too large";
    /// The body is not declared as JSON.
    UnsupportedMediaType => "unsupported-media-type", 415, "The body must be application/json";
    /// A field of the body or of the query string breaks a rule.
    InvalidField => "invalid-field", 422, "A field breaks a rule";
    /// The person's data are restricted (GDPR Art. 18; RFC 7725).
    Restricted => "restricted", 451, "The person's data are restricted";
    /// The tenant or the network sent too many requests.
    TooManyRequests => "too-many-requests", 429, "Too many requests";
    /// The service has a bug or met a broken value.
    Internal => "internal", 500, "The service failed";
    /// The upstream failed.
    UpstreamFailed => "upstream-failed", 502, "The upstream failed";
    /// The audit record cannot be made durable, so no data may leave.
    AuditUnavailable => "audit-unavailable", 503, "Audit records cannot be made durable";
    /// The token cannot be looked up now.
    AuthUnavailable => "auth-unavailable", 503, "The token cannot be verified now";
    /// Postgres cannot be reached.
    StorageUnavailable => "storage-unavailable", 503, "The storage cannot be reached";
    /// The change is committed but not yet in force on every replica.
    NotPropagated => "not-propagated", 503, "The change is not yet in force everywhere";
    /// A restored database waits for its erasure ledger.
    ErasuresPending => "erasures-pending", 503, "What was erased may be here again";
    /// Too many requests wait already.
    Overloaded => "overloaded", 503, "The service is overloaded";
    /// The upstream took too long.
    UpstreamTimeout => "upstream-timeout", 504, "The upstream took too long";
    /// The request accepts only a cached answer, and there is none.
    NotCached => "not-cached", 504, "No cached answer is available";
}

/// An error reply (RFC 9457). The middleware `access::trace` adds the request's id and path.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The kind of the problem.
    pub kind: ProblemKind,
    /// The explanation of this problem for the caller.
    pub detail: String,
    /// The fields that break rules. The list is empty for every other kind.
    pub errors: Vec<FieldError>,
    /// The seconds after which the caller may try again.
    pub retry_after: Option<u64>,
    /// The methods that the path takes. The list is empty unless the kind is `MethodNotAllowed`.
    pub allow: Vec<&'static str>,
}

/// A field that breaks a rule.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemField {
    /// The JSON pointer to the field (RFC 6901).
    pub pointer: String,
    /// The rule that the field breaks.
    pub detail: String,
}

/// The body of an error reply (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemBody {
    /// `urn:ai-cache:problem:` and the kind, as listed in docs/ERRORS.md.
    #[serde(rename = "type")]
    pub kind: String,
    /// The title, which every problem of this kind has.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The explanation of this problem.
    pub detail: String,
    /// The path of the request.
    pub instance: String,
    /// The request's id, which logs and the audit trail show too.
    pub request_id: String,
    /// The fields that break rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemField>,
}

impl Problem {
    /// Makes a problem of the given kind. Every 503 asks the caller to try again after a second.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let retry_after = (kind.status() == 503).then_some(1);
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after, allow: Vec::new() }
    }

    /// Makes the problem of fields that break rules.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{} {}", name_of(&only.pointer), only.detail),
            many => format!("{} fields break a rule", many.len()),
        };
        Self { errors, ..Self::new(ProblemKind::InvalidField, detail) }
    }

    /// Makes the problem of one field that breaks a rule.
    pub fn invalid_field(pointer: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { pointer: pointer.to_owned(), detail: detail.into() }])
    }

    /// Returns the kind of the problem.
    pub const fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// Makes the problem of a thing that does not exist or belongs to another tenant.
    pub fn not_found() -> Self {
        Self::new(ProblemKind::NotFound, "nothing is known under this path")
    }

    /// Makes the whole reply to the request `request` for `path`.
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
        if matches!(self.kind, ProblemKind::BodyTooLarge | ProblemKind::RequestTimeout) {
            // The connection is closed, because the rest of the body is not read.
            reply.force_close();
        }
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

    /// Makes the reply without a body. The middleware `access::trace`, which knows the request,
    /// writes the body.
    fn error_response(&self) -> HttpResponse {
        self.builder().finish()
    }
}
