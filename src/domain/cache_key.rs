//! Owns the canonical bytes of a question: questions with the same bytes have the same entry.
//! `keyring` turns the bytes into a cache key, so that nobody without the tenant's index key can
//! tell which question a row answers.

use std::fmt;

use super::canonical::Encoder;
use super::context::Context;
use super::ids::SubjectKeyId;
use super::json::{Object, encode_object};
use super::operation::Operation;
use super::prompt::TEMPLATE_VERSION;
use super::query::QueryRequest;

/// The version of the encoding in [`KeyParts::canonical`].
const SCHEMA_VERSION: u64 = 1;

/// Everything that an answer depends on.
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
    /// Takes the parts of `request`. `upstream` and `model` are the ones that were resolved for it,
    /// and `subject_key` is the key of the person whom it names. The function destructures the
    /// whole request, so that a new field has to be put in or left out here by name.
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
            subject: _, // `subject_key` stands for the person
            model: _,   // the resolved model is used
            parameters,
            directives: _, // they say how to look, not what to look for
        } = request;
        Self { operation: *operation, subject_key, model, upstream, parameters, query, context }
    }

    /// Returns the canonical bytes. Different parts never give the same bytes.
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

/// The cache key: the blind name of a question within its tenant. It is the HMAC-SHA-256 of the
/// canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(pub [u8; 32]);

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey")
    }
}

/// The blind index of a location, vendor type, tag or person within its tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlindIndex(pub [u8; 32]);

impl fmt::Debug for BlindIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlindIndex")
    }
}
