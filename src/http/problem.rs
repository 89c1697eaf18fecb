//! Errors as replies: the only place that knows status codes. Every kind stands in docs/ERRORS.md.
//! A problem never holds a query, an answer, a person, a token or a driver's words.

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
    /// The body did not arrive in time.
    RequestTimeout => "request-timeout", 408, "The request took too long to arrive";
    /// It was there, and is not kept any longer.
    Gone => "gone", 410, "This is no longer available";
    /// The state of the thing does not allow it.
    Conflict => "conflict", 409, "The present state does not allow this";
    /// The body is too long.
    BodyTooLarge => "body-too-large", 413, "The body is too large";
    /// The body is not declared as JSON.
    UnsupportedMediaType => "unsupported-media-type", 415, "The body must be application/json";
    /// Fields break rules.
    InvalidField => "invalid-field", 422, "A field breaks a rule";
    /// The person's data are restricted (GDPR Art. 18; RFC 7725).
    Restricted => "restricted", 451, "The person's data are restricted";
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
    /// A restored database waits for its erasure ledger.
    ErasuresPending => "erasures-pending", 503, "What was erased may be here again";
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

    /// What kind it is.
    pub const fn kind(&self) -> ProblemKind {
        self.kind
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
        if matches!(self.kind, ProblemKind::BodyTooLarge | ProblemKind::RequestTimeout) {
            // The rest of the body is not waited for.
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

    /// Without a body: the outermost middleware, which knows the request, writes it.
    fn error_response(&self) -> HttpResponse {
        self.builder().finish()
    }
}
