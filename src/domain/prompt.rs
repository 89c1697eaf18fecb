//! Owns the prompt for the upstream: one system message and one user message, with the same text
//! for the same question. A prompt never holds the subject.

use super::json::Object;
use super::query::QueryRequest;

/// The version of the templates in this file and in `operation`. It is part of the cache key, so
/// that a changed template never answers from an old template's entry.
pub const TEMPLATE_VERSION: u64 = 1;

/// A question ready for an upstream.
#[derive(Clone)]
pub struct Prompt {
    /// The operation's system message.
    pub system: &'static str,
    /// The question, followed by the context as labelled lines.
    pub user: String,
    /// The model that was resolved for the request.
    pub model: String,
    /// The parameters, as the client set them.
    pub parameters: Object,
}

impl Prompt {
    /// Makes the prompt of a request for `model`.
    pub fn of(request: &QueryRequest, model: &str) -> Self {
        let mut user = request.query.clone();
        let lines = request.context.lines();
        if !lines.is_empty() {
            user.push('\n');
        }
        for (label, value) in lines {
            user.push('\n');
            user.push_str(label);
            user.push_str(": ");
            user.push_str(&value);
        }
        Self {
            system: request.operation.system_message(),
            user,
            model: model.to_owned(),
            parameters: request.parameters.clone(),
        }
    }
}
