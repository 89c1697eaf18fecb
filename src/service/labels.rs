//! The words an entry can be found by, as they are sealed beside it.

use serde::{Deserialize, Serialize};

use crate::domain::query::QueryRequest;

/// Location, vendor types and tags of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Labels {
    /// As given.
    pub location: Option<String>,
    /// Normalized.
    pub vendor_types: Vec<String>,
    /// As given, sorted.
    pub tags: Vec<String>,
}

impl Labels {
    /// The labels of a question.
    pub(super) fn of(request: &QueryRequest) -> Self {
        Self {
            location: request.context.location.clone(),
            vendor_types: request.context.vendor_types.clone(),
            tags: request.directives.tags.clone(),
        }
    }
}

/// What was asked, as it is sealed for exports.
#[derive(Serialize)]
pub(super) struct Question<'a> {
    query: &'a str,
    context: std::collections::BTreeMap<&'a str, String>,
    parameters: &'a crate::domain::json::Object,
}

impl<'a> Question<'a> {
    pub(super) fn of(request: &'a QueryRequest) -> Self {
        Self {
            query: &request.query,
            context: request.context.lines().into_iter().collect(),
            parameters: &request.parameters,
        }
    }
}
