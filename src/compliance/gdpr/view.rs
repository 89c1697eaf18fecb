//! Requests as they are shown. The person, the reasons and the history are opened for the record of
//! the reading.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::audit::Receipt;
use crate::call::{OnWord, ServiceError};
use crate::compliance::Compliance;
use crate::crypto::Sealed;
use crate::domain::gdpr::{RequestEvent, RequestKind, RequestState};
use crate::domain::ids::{AuditId, GdprRequestId, TenantId, TokenId};
use crate::keyring::{Plaintext, TenantKeys, TextKind, TextPlace, open_texts};
use crate::store::gdpr::history::{self, EventRow};
use crate::store::gdpr::{RequestFilter, RequestRow};
use crate::store::{StoreError, gdpr};

use super::GdprError;

/// The reason of a filing, as it is sealed.
#[derive(Serialize)]
pub(super) struct Details<'a> {
    pub(super) reason: &'a str,
    pub(super) reference: Option<&'a str>,
}

#[derive(Deserialize)]
struct OpenedDetails {
    reason: String,
    reference: Option<String>,
}

/// A request in the clear.
#[derive(Debug, Clone)]
pub struct RequestView {
    /// The request.
    pub row: RequestRow,
    /// The person. `None` 90 days after the end of the request.
    pub subject: Option<String>,
    /// The reason why it was filed.
    pub reason: String,
    /// The name of the request in another system.
    pub reference: Option<String>,
    /// The events, oldest first. It is empty in lists.
    pub history: Vec<EventView>,
}

/// An event of a request.
#[derive(Debug, Clone)]
pub struct EventView {
    /// The audit record of it.
    pub id: AuditId,
    /// The event.
    pub event: RequestEvent,
    /// The request's state after it.
    pub state: RequestState,
    /// The time.
    pub at: DateTime<Utc>,
    /// The token that caused it. `None` for the service itself or the command line.
    pub by: Option<TokenId>,
    /// The reason given.
    pub reason: Option<String>,
}

/// A page of requests, newest first.
#[derive(Debug, Clone)]
pub struct RequestPage {
    /// The requests, without their histories.
    pub requests: Vec<RequestView>,
    /// The request after which the next page continues. `None` at the end.
    pub next: Option<GdprRequestId>,
}

impl Compliance {
    /// Returns a page of the requests of a tenant.
    pub async fn list_requests(
        &self,
        word: OnWord<'_>,
        filter: &RequestFilter,
        limit: u16,
    ) -> Result<RequestPage, GdprError> {
        let (store, limit) = (&self.parts.store, usize::from(limit));
        let most = i64::try_from(limit + 1).unwrap_or(i64::MAX);
        let rows = store.read("list requests", word.tenant(), async |mut tx| {
            gdpr::list(&mut tx, filter, most).await
        });
        let mut rows = rows.await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(|row| row.id) } else { None };
        let rows = rows.into_iter().map(|row| SealedRequest { row, events: Vec::new() }).collect();
        let requests = self.open(word, 200, rows).await?;
        Ok(RequestPage { requests, next })
    }

    /// Returns one request of a tenant with its history, shown with this HTTP status.
    pub async fn show_request(
        &self,
        word: OnWord<'_>,
        id: GdprRequestId,
        status: u16,
    ) -> Result<RequestView, GdprError> {
        let store = &self.parts.store;
        let found = store.read("read a request and its history", word.tenant(), async |mut tx| {
            let row = gdpr::find(&mut tx, id).await?;
            let events = history::list_events(&mut tx, id).await?;
            Ok::<_, StoreError>(row.map(|row| SealedRequest { row, events }))
        });
        let found = found.await?.ok_or(GdprError::NotFound)?;
        let shown = self.open(word, status, vec![found]).await?;
        shown.into_iter().next().ok_or(GdprError::NotFound)
    }

    /// Returns the certificate of an erasure of a tenant.
    pub async fn certificate(
        &self,
        mut word: OnWord<'_>,
        id: GdprRequestId,
    ) -> Result<String, GdprError> {
        let store = &self.parts.store;
        let row = self.find_request(word.tenant(), id).await?;
        if row.kind != RequestKind::Erase {
            return Err(GdprError::NotFound);
        }
        let body =
            store.read("find the certificate of an erasure", word.tenant(), async |mut tx| {
                history::find_certificate(&mut tx, id).await
            });
        let body = body.await?.ok_or(GdprError::NotExecuted(row.state))?;
        let _receipt = word
            .settle(200, |record| {
                record.count = 1;
                record.object = Some(id.0);
                record.subject_key = row.subject_key;
            })
            .await?;
        Ok(body)
    }

    /// Finds one request of a tenant, with its texts still sealed.
    pub(super) async fn find_request(
        &self,
        tenant: TenantId,
        id: GdprRequestId,
    ) -> Result<RequestRow, GdprError> {
        let store = &self.parts.store;
        let found =
            store.read("find a request", tenant, async |mut tx| gdpr::find(&mut tx, id).await);
        found.await?.ok_or(GdprError::NotFound)
    }

    /// Opens requests after their reading is recorded. The record of the reading of one request is
    /// a record about that request.
    async fn open(
        &self,
        mut word: OnWord<'_>,
        status: u16,
        requests: Vec<SealedRequest>,
    ) -> Result<Vec<RequestView>, GdprError> {
        let keys = self.parts.keyring.tenant_keys(word.tenant()).await?;
        let receipt = word
            .settle(status, |record| {
                record.count = i64::try_from(requests.len()).unwrap_or(i64::MAX);
                if let [only] = &requests[..] {
                    record.object = Some(only.row.id.0);
                    record.subject_key = only.row.subject_key;
                }
            })
            .await?;
        Ok(open_requests(receipt, &keys, &requests)?)
    }
}

/// A request and its history, with their texts still sealed.
pub(super) struct SealedRequest {
    pub(super) row: RequestRow,
    pub(super) events: Vec<EventRow>,
}

/// Opens requests and their histories, for the receipt of their reading.
pub(super) fn open_requests(
    receipt: Receipt,
    keys: &TenantKeys,
    requests: &[SealedRequest],
) -> Result<Vec<RequestView>, ServiceError> {
    let texts: Vec<(TextPlace, &Sealed)> = requests.iter().flat_map(texts_of).collect();
    let mut opened = open_texts(receipt, keys, &texts)?.into_iter();
    requests.iter().map(|request| view_of(request, &mut opened)).collect()
}

/// Returns the sealed texts of a request, in the order in which [`view_of`] takes them.
fn texts_of(request: &SealedRequest) -> impl Iterator<Item = (TextPlace, &Sealed)> {
    let SealedRequest { row, events } = request;
    let at = |kind, object| TextPlace { kind, object };
    let details = (at(TextKind::RequestDetails, row.id.0), &row.details);
    let subject = row.subject_sealed.iter();
    let subject = subject.map(move |sealed| (at(TextKind::RequestSubject, row.id.0), sealed));
    let notes = events.iter().filter_map(move |event| {
        event.note.as_ref().map(|note| (at(TextKind::EventNote, event.id.0), note))
    });
    std::iter::once(details).chain(subject).chain(notes)
}

fn view_of(
    request: &SealedRequest,
    texts: &mut impl Iterator<Item = Plaintext>,
) -> Result<RequestView, ServiceError> {
    let SealedRequest { row, events } = request;
    let details = texts.next().ok_or(ServiceError::Malformed)?;
    let details: OpenedDetails =
        serde_json::from_slice(details.as_bytes()).map_err(|_| ServiceError::Malformed)?;
    let mut next = |sealed: Option<&Sealed>| {
        sealed
            .map(|_| {
                let text = texts.next().ok_or(ServiceError::Malformed)?;
                let text = std::str::from_utf8(text.as_bytes());
                text.map(str::to_owned).map_err(|_| ServiceError::Malformed)
            })
            .transpose()
    };
    let subject = next(row.subject_sealed.as_ref())?;
    let mut history = Vec::with_capacity(events.len());
    for event in events {
        let EventRow { id, event: what, state, at, by, note } = event;
        let reason = next(note.as_ref())?;
        history.push(EventView { id: *id, event: *what, state: *state, at: *at, by: *by, reason });
    }
    let OpenedDetails { reason, reference } = details;
    Ok(RequestView { row: row.clone(), subject, reason, reference, history })
}
