//! Holds the bodies of HTTP requests and replies about the requests of data subjects.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::compliance::{EventView, RequestView};

/// The request of a data subject to file.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; `parse` reads the body")]
pub struct FilingBody {
    /// export, erase, restrict or lift-restriction.
    #[schema(rename = "type")]
    kind: String,
    /// The person: 1 to 256 bytes of UTF-8.
    subject_id: String,
    /// The reason: 1 to 2,000 bytes.
    reason: String,
    /// The name of the request in another system: 1 to 200 bytes.
    reference: Option<String>,
    /// The time at which the person asked; now when absent. The deadline counts from it.
    received_at: Option<DateTime<Utc>>,
}

/// Why a request is approved.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape in the API document; `parse_reason` reads the body")]
pub struct ApprovalBody {
    /// 1 to 2,000 bytes.
    reason: Option<String>,
}

/// Why a request is rejected, cancelled or extended.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape in the API document; `parse_reason` reads the body")]
pub struct ReasonBody {
    /// 1 to 2,000 bytes.
    reason: String,
}

/// A request of a data subject.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GdprRequestBody {
    /// The request's id.
    id: String,
    /// export, erase, restrict or lift-restriction.
    #[serde(rename = "type")]
    kind: &'static str,
    /// received, awaiting_approval, approved, executing, completed, partially_completed, rejected,
    /// cancelled or failed.
    state: &'static str,
    /// The last completed step of its execution; null before the first.
    #[schema(required)]
    step: Option<String>,
    /// The number of executions that failed since it was approved.
    attempts: i32,
    /// The person; null from 90 days after the end of the request.
    #[schema(required)]
    subject_id: Option<String>,
    /// The reason why it was filed.
    reason: String,
    /// The name of the request in another system; null without one.
    #[schema(required)]
    reference: Option<String>,
    /// The id of the token that filed it; null: the command line did.
    #[schema(required)]
    filed_by: Option<String>,
    /// The time at which the person asked.
    received_at: DateTime<Utc>,
    /// The time until which it must be answered.
    due_at: DateTime<Utc>,
    /// The time at which its deadline was extended; null: it was not.
    #[schema(required)]
    extended_at: Option<DateTime<Utc>>,
    /// The time at which it was filed.
    created_at: DateTime<Utc>,
    /// The time at which its execution was completed; null before.
    #[schema(required)]
    completed_at: Option<DateTime<Utc>>,
    /// The time until which the package of an export can be downloaded; null: there is none.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
    /// The numbers of things that its execution touched; null before.
    #[schema(required)]
    counts: Option<serde_json::Value>,
    /// The events of the request, oldest first; absent in lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<GdprEventBody>,
}

/// An event in the history of a request.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GdprEventBody {
    /// The id of the event's audit record.
    audit_id: String,
    /// The name of the event.
    event: &'static str,
    /// The state of the request after the event.
    state: &'static str,
    /// The time of the event.
    at: DateTime<Utc>,
    /// The id of the token that caused it; null: the service itself or the command line did.
    #[schema(required)]
    by: Option<String>,
    /// The reason that was given; null: none was.
    #[schema(required)]
    reason: Option<String>,
}

/// A page of requests.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GdprRequestPageBody {
    /// The requests, newest first.
    pub(super) requests: Vec<GdprRequestBody>,
    /// The cursor of the next page; null on the last page.
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
    /// Returns the request in one line, without the person.
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
