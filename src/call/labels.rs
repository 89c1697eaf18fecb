//! The labels by which an entry can be found, as they are sealed beside it.

use serde::{Deserialize, Serialize};

use crate::domain::candidate::LabelIndexes;
use crate::domain::query::QueryRequest;
use crate::keyring::{BlindKind, TenantKeys};

/// The location, vendor types and tags of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Labels {
    /// The location as the client gave it.
    pub location: Option<String>,
    /// The vendor types, normalized.
    pub vendor_types: Vec<String>,
    /// The tags as the client gave them, sorted.
    pub tags: Vec<String>,
}

impl Labels {
    /// Returns the labels of a question.
    pub fn of(request: &QueryRequest) -> Self {
        Self {
            location: request.context.location.clone(),
            vendor_types: request.context.vendor_types.clone(),
            tags: request.directives.tags.clone(),
        }
    }

    /// Makes the blind indexes of the labels.
    pub fn indexes(&self, keys: &TenantKeys) -> LabelIndexes {
        let index = |kind, text: &String| keys.blind_index(kind, text.as_bytes());
        let indexes = |kind, texts: &[String]| texts.iter().map(|text| index(kind, text)).collect();
        LabelIndexes {
            location: self.location.as_ref().map(|text| index(BlindKind::Location, text)),
            vendor_types: indexes(BlindKind::VendorType, &self.vendor_types),
            tags: indexes(BlindKind::Tag, &self.tags),
        }
    }
}

/// The question, as it is sealed for exports.
#[derive(Serialize)]
pub struct Question<'a> {
    query: &'a str,
    context: std::collections::BTreeMap<&'a str, String>,
    parameters: &'a crate::domain::json::Object,
}

/// The opened question.
#[derive(Deserialize)]
pub struct OpenedQuestion {
    /// The text of the query.
    pub query: String,
    /// The lines of the context, by name.
    pub context: std::collections::BTreeMap<String, String>,
    /// The parameters, a JSON object.
    pub parameters: Box<serde_json::value::RawValue>,
}

impl<'a> Question<'a> {
    /// Takes the question out of a request.
    pub fn of(request: &'a QueryRequest) -> Self {
        Self {
            query: &request.query,
            context: request.context.lines().into_iter().collect(),
            parameters: &request.parameters,
        }
    }
}
