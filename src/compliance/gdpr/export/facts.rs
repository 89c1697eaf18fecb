//! The facts that an export tells about itself: the manifest, and what GDPR Art. 15(1) wants to be
//! told besides the data.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::domain::audit_record::RetentionClass;
use crate::domain::gdpr_execution::PackageCounts;
use crate::domain::ids::{EntryId, GdprRequestId, TenantId};

use super::package::FileSummary;

/// The most models that are told by name.
const MOST_MODELS: usize = 1_000;

/// The facts about an export.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The tenant that keeps the data.
    pub tenant: TenantId,
    /// The tenant's name for people.
    pub tenant_name: String,
    /// The days that the tenant keeps data. 0 means the period of the installation.
    pub retention_days: u32,
    /// The request.
    pub request: GdprRequestId,
    /// The person, as the request names them.
    pub subject: Option<String>,
    /// The time of the snapshot that the package shows.
    pub snapshot_at: DateTime<Utc>,
    /// The time when the package was made.
    pub made_at: DateTime<Utc>,
    /// The time until which it can be downloaded.
    pub expires_at: DateTime<Utc>,
    /// The amounts in it.
    pub counts: PackageCounts,
    /// Entries that did not open.
    pub unreadable: Vec<EntryId>,
    /// The upstream that answers what is not cached. `None` means that there is none.
    pub upstream: Option<String>,
    /// The models that answered.
    pub models: BTreeSet<String>,
}

impl Facts {
    /// Adds the model of an answer.
    pub fn note_model(&mut self, model: &str) {
        if self.models.len() < MOST_MODELS && !self.models.contains(model) {
            self.models.insert(model.to_owned());
        }
    }

    /// Makes `manifest.json`.
    pub fn manifest(&self, files: &[FileSummary]) -> Value {
        json!({
            "format": "ai-cache export 1",
            "tenant": { "id": self.tenant, "name": self.tenant_name },
            "requestId": self.request.to_string(),
            "subjectId": self.subject,
            "snapshotAt": self.snapshot_at,
            "madeAt": self.made_at,
            "expiresAt": self.expires_at,
            "counts": self.counts,
            "files": files,
            "unreadable": self.unreadable,
        })
    }

    /// Makes `about.json`: GDPR Art. 15(1)(a) to (h) and (2), in their order.
    pub fn about(&self) -> Value {
        json!({
            "controller": self.tenant_name,
            "purposes": [
                "Answering questions that were asked in the person's name.",
                "Keeping an answer, so that the same question is answered at once, with what it was asked in.",
                "Proving who processed personal data, when and how (GDPR Art. 5(2) and 30).",
                "Handling the person's requests (GDPR Art. 12 to 20).",
            ],
            "categories": [
                "Questions with their context, parameters and labels, as they were asked.",
                "Answers, the models that gave them and the tokens they took.",
                "Times: made, served last, how often, until when it is good.",
                "Records of processing: time, action, outcome, role, tier; no content.",
                "The person's requests with the reasons given.",
            ],
            "recipients": self.recipients(),
            "retention": self.retention(),
            "rights": [
                "Rectification (Art. 16): ask the controller; answers are kept as they were given, and asking anew replaces them.",
                "Erasure (Art. 17), restriction (Art. 18) and portability (Art. 20): by a request to the controller.",
                "Objection (Art. 21): to the controller.",
                "Complaint to a supervisory authority (Art. 77).",
            ],
            "source": "The application of the controller that asked in the person's name; answers come from the recipients.",
            "automatedDecisions": "None: answers are text, and nothing here decides on the person (Art. 22).",
            "transfers": "Where the recipients process data, and under which safeguards (Art. 46), the controller tells.",
        })
    }

    fn recipients(&self) -> Value {
        let upstream = self.upstream.iter().map(|name| {
            json!({
                "name": name,
                "why": "Answers questions that are not cached; is sent the question and its context, never who asks.",
                "models": self.models,
            })
        });
        upstream.collect()
    }

    fn retention(&self) -> Value {
        let entries = match self.retention_days {
            0 => "Until each expires; afterwards as long as the installation says.".to_owned(),
            days => {
                format!("Until each expires; afterwards at most {days} days from when it was made.")
            }
        };
        let years = RetentionClass::SevenYears.years();
        json!({
            "entries": entries,
            "processingLog": format!("{years} years from each record."),
            "requests": "As proof of how they were handled; the person's id is removed from them 90 days after their end.",
            "package": format!("Until {}.", self.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true)),
        })
    }
}
