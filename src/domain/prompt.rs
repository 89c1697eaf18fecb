//! What the upstream model is told: one system message and one user message, the same text for the
//! same question. Never the subject.

use super::json::Object;
use super::query::QueryRequest;

/// Counts the versions of the templates below and in `operation`. It is part of the cache key, so
/// that a changed template never answers from an old template's entry.
pub const TEMPLATE_VERSION: u64 = 1;

/// A question ready for an upstream.
#[derive(Clone)]
pub struct Prompt {
    /// The operation's system message.
    pub system: &'static str,
    /// The question, then the context as labelled lines.
    pub user: String,
    /// The model, as resolved.
    pub model: String,
    /// Parameters as the client set them.
    pub parameters: Object,
}

impl Prompt {
    /// Puts a request into words for `model`.
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
