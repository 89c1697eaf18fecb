//! Owns a question as a client asked it. A request is parsed once and is trusted from then on.

use std::fmt;

use zeroize::Zeroizing;

use super::context::Context;
use super::directives::Directives;
use super::fields::{FieldError, Fields};
use super::json::{Json, Object};
use super::normalize;
use super::operation::Operation;

/// The length of the longest question, in bytes of UTF-8.
pub const MAX_QUERY_BYTES: usize = 16_384;

/// The upstream parameters that the service sets itself, so that a client may not set them.
const RESERVED_PARAMETERS: [&str; 5] = ["model", "messages", "stream", "n", "user"];

/// The id of the subject, who is the person whom an answer is about or for. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SubjectId(Zeroizing<String>);

impl SubjectId {
    /// Normalizes an id. It is composed (NFC), so that one person is found however the id was
    /// typed. Returns `None` if the normalized id has no bytes or more than 256.
    pub fn parse(raw: &str) -> Option<Self> {
        let text = normalize::text(raw);
        (1..=256).contains(&text.len()).then(|| Self(Zeroizing::new(text)))
    }

    /// Returns the bytes that the blind index of the subject is made of.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A parsed query request.
#[derive(Clone)]
pub struct QueryRequest {
    /// The normalized question, at least one character.
    pub query: String,
    /// The context of the question.
    pub context: Context,
    /// The kind of question.
    pub operation: Operation,
    /// The person whom the answer is about or for. `None` means that the whole tenant shares it.
    pub subject: Option<SubjectId>,
    /// The model that the client asks for. `None` means the configured model.
    pub model: Option<String>,
    /// Parameters for the upstream.
    pub parameters: Object,
    /// The wishes of the client for the cache.
    pub directives: Directives,
}

impl fmt::Debug for QueryRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryRequest").field("operation", &self.operation).finish_non_exhaustive()
    }
}

impl QueryRequest {
    /// Reads a request body. The error holds all faults together.
    pub fn parse(body: Json) -> Result<Self, Vec<FieldError>> {
        let mut fields = Fields::root(body)?;
        let query = read_query(&mut fields);
        let request = Self {
            query: query.unwrap_or_default(),
            context: read_child(&mut fields, "weddingContext", Context::read),
            operation: read_operation(&mut fields),
            subject: read_subject(&mut fields),
            model: fields.parsed("model", "1 to 128 visible ASCII characters", parse_model),
            parameters: read_parameters(&mut fields),
            directives: read_child(&mut fields, "cache", Directives::read),
        };
        if fields.flag("stream") == Some(true) {
            fields.refuse("stream", "streaming is not available in this release");
        }
        fields.finish()?;
        Ok(request)
    }
}

fn read_query(fields: &mut Fields) -> Option<String> {
    let Some(value) = fields.take("query") else {
        fields.refuse("query", "is required");
        return None;
    };
    let rule = format!("must be a string of 1 to {MAX_QUERY_BYTES} bytes of UTF-8");
    match value {
        Json::Text(raw) if raw.len() <= MAX_QUERY_BYTES => {
            let query = normalize::text(&raw);
            if query.is_empty() {
                fields.refuse("query", rule);
            }
            Some(query)
        }
        _ => {
            fields.refuse("query", rule);
            None
        }
    }
}

fn read_child<T: Default>(
    fields: &mut Fields,
    name: &str,
    read: impl FnOnce(&mut Fields) -> T,
) -> T {
    let Some(mut child) = fields.child(name) else {
        return T::default();
    };
    let value = read(&mut child);
    fields.absorb(child.finish());
    value
}

fn read_operation(fields: &mut Fields) -> Operation {
    let names: Vec<&str> = Operation::ALL.iter().map(|operation| operation.name()).collect();
    let rule = format!("one of {}", names.join(", "));
    fields.parsed("operation", &rule, Operation::parse).unwrap_or(Operation::WeddingQuery)
}

/// Takes the `subjectId` member. Returns `None` if it is absent or breaks a rule; the second case
/// adds a fault to `fields`.
pub fn read_subject(fields: &mut Fields) -> Option<SubjectId> {
    fields.parsed("subjectId", "1 to 256 bytes of UTF-8, not only white space", SubjectId::parse)
}

fn parse_model(text: &str) -> Option<String> {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    (visible && (1..=128).contains(&text.len())).then(|| text.to_owned())
}

fn read_parameters(fields: &mut Fields) -> Object {
    read_child(fields, "parameters", |parameters| {
        for name in RESERVED_PARAMETERS {
            if parameters.take(name).is_some() {
                parameters.refuse(name, "is set by the service and may not be a parameter");
            }
        }
        parameters.rest()
    })
}
