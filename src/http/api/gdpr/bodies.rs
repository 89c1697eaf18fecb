//! What clients send and get about data subjects' requests.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::compliance::{EventView, RequestView};

/// A request of a data subject.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; `parse` reads the body")]
pub struct FilingBody {
    /// export, erase, restrict or lift-restriction.
    #[schema(rename = "type")]
    kind: String,
    /// The person: 1 to 256 bytes of UTF-8.
    subject_id: String,
    /// Why: 1 to 2,000 bytes.
    reason: String,
    /// The request's name elsewhere: 1 to 200 bytes.
    reference: Option<String>,
    /// When the person asked, where that was before now. The deadline counts from it.
    received_at: Option<DateTime<Utc>>,
}

/// Why something is decided.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape in the API document; `parse_reason` reads the body")]
pub struct ReasonBody {
    /// 1 to 2,000 bytes. May be absent on an approval.
    reason: Option<String>,
}

/// A request of a data subject.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GdprRequestBody {
    /// Its id.
    id: String,
    /// export, erase, restrict or lift-restriction.
    #[serde(rename = "type")]
    kind: &'static str,
    /// received, awaiting_approval, approved, executing, completed, partially_completed, rejected,
    /// cancelled or failed.
    state: &'static str,
    /// The last step of its execution that is done.
    #[schema(required)]
    step: Option<String>,
    /// Executions that failed since it was approved.
    attempts: i32,
    /// The person; null 90 days after its end.
    #[schema(required)]
    subject_id: Option<String>,
    /// Why it was filed.
    reason: String,
    /// Its name elsewhere.
    #[schema(required)]
    reference: Option<String>,
    /// The token that filed it; null: the command line.
    #[schema(required)]
    filed_by: Option<String>,
    /// When the person asked.
    received_at: DateTime<Utc>,
    /// Until when it is to be answered.
    due_at: DateTime<Utc>,
    /// When its time was extended.
    #[schema(required)]
    extended_at: Option<DateTime<Utc>>,
    /// When it was filed.
    created_at: DateTime<Utc>,
    /// When it was executed.
    #[schema(required)]
    completed_at: Option<DateTime<Utc>>,
    /// Until when the package of an export can be had.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
    /// What its execution touched.
    #[schema(required)]
    counts: Option<serde_json::Value>,
    /// What became of it, oldest first; absent in lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<GdprEventBody>,
}

/// Something that happened to a request.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GdprEventBody {
    /// The audit record of it.
    audit_id: String,
    /// What.
    event: &'static str,
    /// The request's state after it.
    state: &'static str,
    /// When.
    at: DateTime<Utc>,
    /// The token that did it; null: the service itself or the command line.
    #[schema(required)]
    by: Option<String>,
    /// The reason given.
    #[schema(required)]
    reason: Option<String>,
}

/// A page of requests.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GdprRequestPageBody {
    /// Newest first.
    pub(super) requests: Vec<GdprRequestBody>,
    /// Where the next page continues; null at the end.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

impl From<RequestView> for GdprRequestBody {
    fn from(view: RequestView) -> Self {
        let RequestView { row, subject, reason, reference, history } = view;
        Self {
            id: row.id.to_string(),
            kind: row.kind.name(),
            state: row.state.name(),
            step: row.step.map(|step| step.name().to_owned()),
            attempts: row.attempts,
            subject_id: subject,
            reason,
            reference,
            filed_by: row.filed_by.map(|id| id.to_string()),
            received_at: row.received_at,
            due_at: row.due_at,
            extended_at: row.extended_at,
            created_at: row.created_at,
            completed_at: row.completed_at,
            expires_at: row.expires_at,
            counts: row.counts.and_then(|counts| serde_json::to_value(counts).ok()),
            history: history.into_iter().map(GdprEventBody::from).collect(),
        }
    }
}

impl GdprRequestBody {
    /// In one line, without the person.
    pub fn line(&self) -> String {
        format!("{}  {}  {}  due {}", self.id, self.kind, self.state, self.due_at)
    }
}

impl From<EventView> for GdprEventBody {
    fn from(view: EventView) -> Self {
        let EventView { id, event, state, at, by, reason } = view;
        Self {
            audit_id: id.to_string(),
            event: event.name(),
            state: state.name(),
            at,
            by: by.map(|id| id.to_string()),
            reason,
        }
    }
}
