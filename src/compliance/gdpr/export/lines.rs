//! The lines of an export's files: entries, the processing log, requests. The log tells roles,
//! never who acted or from where.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::call::{Labels, OpenedQuestion};
use crate::compliance::gdpr::{EventView, RequestView};
use crate::domain::audit_row::AuditRow;
use crate::domain::ids::EntryId;
use crate::keyring::{KeyringError, OpenedEntry};
use crate::store::gdpr::exports::HeldEntry;

/// An answer as it is sealed.
#[derive(Deserialize)]
struct OpenedAnswer {
    response: String,
    model: String,
    usage: Option<Box<RawValue>>,
}

/// The texts of an entry.
pub struct EntryTexts {
    question: OpenedQuestion,
    answer: OpenedAnswer,
    labels: Labels,
}

impl EntryTexts {
    /// Reads the texts of an opened entry.
    pub fn read(opened: &OpenedEntry) -> Result<Self, KeyringError> {
        let malformed = |_| KeyringError::Malformed;
        Ok(Self {
            question: serde_json::from_slice(opened.question.as_bytes()).map_err(malformed)?,
            answer: serde_json::from_slice(opened.answer.as_bytes()).map_err(malformed)?,
            labels: serde_json::from_slice(opened.labels.as_bytes()).map_err(malformed)?,
        })
    }
}

/// A line of `entries.jsonl`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryLine<'a> {
    pub entry_id: EntryId,
    pub operation: &'static str,
    pub query: &'a str,
    pub context: &'a BTreeMap<String, String>,
    pub parameters: &'a RawValue,
    pub answer: &'a str,
    pub model: &'a str,
    pub usage: Option<&'a RawValue>,
    pub location: Option<&'a str>,
    pub vendor_types: &'a [String],
    pub tags: &'a [String],
    pub created_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub uses: i64,
    pub expires_at: DateTime<Utc>,
    pub withdrawn_at: Option<DateTime<Utc>>,
}

impl<'a> EntryLine<'a> {
    /// Makes the line of an entry.
    pub fn new(entry: &HeldEntry, texts: &'a EntryTexts) -> Self {
        let EntryTexts { question, answer, labels } = texts;
        Self {
            entry_id: entry.meta.id,
            operation: entry.meta.operation.name(),
            query: &question.query,
            context: &question.context,
            parameters: &question.parameters,
            answer: &answer.response,
            model: &answer.model,
            usage: answer.usage.as_deref(),
            location: labels.location.as_deref(),
            vendor_types: &labels.vendor_types,
            tags: &labels.tags,
            created_at: entry.meta.created_at,
            last_used_at: entry.last_accessed_at,
            uses: entry.access_count,
            expires_at: entry.meta.expires_at,
            withdrawn_at: entry.withdrawn_at,
        }
    }
}

/// A line of `processing-log.jsonl`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine<'a> {
    time: DateTime<Utc>,
    action: &'a str,
    outcome: &'a str,
    /// The roles of the token that acted, or the kind of another actor.
    role: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry_id: Option<EntryId>,
}

impl<'a> LogLine<'a> {
    /// Makes the line of a record.
    pub fn new(row: &'a AuditRow) -> Self {
        Self {
            time: row.occurred_at,
            action: &row.action,
            outcome: &row.outcome,
            role: row.actor.roles.as_deref().unwrap_or(&row.actor.kind),
            operation: row.operation.as_deref(),
            tier: row.tier.as_deref(),
            entry_id: row.entry_id,
        }
    }
}

/// A line of `requests.jsonl`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestLine<'a> {
    request_id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    state: &'static str,
    reason: &'a str,
    reference: Option<&'a str>,
    received_at: DateTime<Utc>,
    due_at: DateTime<Utc>,
    extended_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
    history: Vec<EventLine<'a>>,
}

/// An event of a request.
#[derive(Serialize)]
struct EventLine<'a> {
    event: &'static str,
    state: &'static str,
    at: DateTime<Utc>,
    reason: Option<&'a str>,
}

impl<'a> RequestLine<'a> {
    /// Makes the line of a request.
    pub fn new(view: &'a RequestView) -> Self {
        let RequestView { row, reason, reference, history, .. } = view;
        let event = |view: &'a EventView| EventLine {
            event: view.event.name(),
            state: view.state.name(),
            at: view.at,
            reason: view.reason.as_deref(),
        };
        Self {
            request_id: row.id.to_string(),
            kind: row.kind.name(),
            state: row.state.name(),
            reason,
            reference: reference.as_deref(),
            received_at: row.received_at,
            due_at: row.due_at,
            extended_at: row.extended_at,
            created_at: row.created_at,
            completed_at: row.completed_at,
            history: history.iter().map(event).collect(),
        }
    }
}
