//! What makes two questions the same entry. Owns the canonical bytes; `keyring` turns them into a
//! blind key, so that nobody without the tenant's index key can tell which question a row answers.

use std::fmt;

use super::canonical::Encoder;
use super::context::Context;
use super::ids::SubjectKeyId;
use super::json::{Object, encode_object};
use super::operation::Operation;
use super::prompt::TEMPLATE_VERSION;
use super::query::QueryRequest;

/// Counts the versions of the encoding below.
const SCHEMA_VERSION: u64 = 1;

/// Everything an answer depends on.
#[derive(Clone, Copy)]
pub struct KeyParts<'a> {
    operation: Operation,
    subject_key: Option<SubjectKeyId>,
    model: &'a str,
    upstream: &'a str,
    parameters: &'a Object,
    query: &'a str,
    context: &'a Context,
}

impl<'a> KeyParts<'a> {
    /// The parts of `request` as `upstream` and `model` were resolved for it. `subject_key` is the
    /// key of the person the request names. Destructured whole, so that a new field of a request
    /// has to be put in or left out here by name.
    pub fn of(
        request: &'a QueryRequest,
        subject_key: Option<SubjectKeyId>,
        upstream: &'a str,
        model: &'a str,
    ) -> Self {
        let QueryRequest {
            query,
            context,
            operation,
            subject: _, // the key id stands for the person
            model: _,   // as resolved
            parameters,
            directives: _, // how to look, not what for
        } = request;
        Self { operation: *operation, subject_key, model, upstream, parameters, query, context }
    }

    /// The canonical bytes: different parts never give the same bytes.
    pub fn canonical(&self) -> Vec<u8> {
        let Self { operation, subject_key, model, upstream, parameters, query, context } = self;
        let mut out = Encoder::new("ai-cache key");
        out.u64(SCHEMA_VERSION).u64(TEMPLATE_VERSION).text(operation.name());
        out.option(*subject_key, |out, id| {
            out.bytes(id.0.as_bytes());
        });
        out.text(model).text(upstream);
        encode_object(parameters, &mut out);
        out.text(query);
        context.encode(&mut out);
        out.finish()
    }
}

/// The blind name of an entry within its tenant: HMAC-SHA-256 of the canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(pub [u8; 32]);

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey")
    }
}

/// The blind name of a location, vendor type, tag or person within its tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlindIndex(pub [u8; 32]);

impl fmt::Debug for BlindIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlindIndex")
    }
}
