//! Owns the reply headers about the tenant's limit. It writes the headers of
//! draft-ietf-httpapi-ratelimit-headers-10, and the three headers of its earlier versions that most
//! clients read.

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{HeaderName, HeaderValue};

use crate::call::{Allowance, WINDOW_SECONDS};

use super::problem::{Problem, ProblemKind};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Adds the headers that say how many requests the tenant may still send.
pub fn show(
    mut reply: ServiceResponse<BoxBody>,
    allowance: &Allowance,
) -> ServiceResponse<BoxBody> {
    let Allowance { limit, remaining, .. } = *allowance;
    let reset = allowance.reset_seconds();
    let headers = reply.headers_mut();
    let texts = [
        (POLICY, format!("\"requests\";q={limit};w={WINDOW_SECONDS}")),
        (STATE, format!("\"requests\";r={remaining};t={reset}")),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    headers.insert(LIMIT, HeaderValue::from(limit));
    headers.insert(REMAINING, HeaderValue::from(remaining));
    headers.insert(RESET, HeaderValue::from(reset));
    reply
}

impl Problem {
    /// Returns the refusal of a request that came after its tenant had spent the requests of the
    /// minute. Returns `None` if the tenant had requests left.
    pub fn spent(allowance: &Allowance) -> Option<Self> {
        let wait = allowance.retry_after?;
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let detail = format!("the tenant's {} requests a minute are spent", allowance.limit);
        let problem = Self::new(ProblemKind::TooManyRequests, detail);
        Some(Self { retry_after: Some(seconds.max(1)), ..problem })
    }
}
