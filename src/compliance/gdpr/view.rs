//! What is told of requests: the person, the reasons and the history are opened for the record of
//! the reading.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::audit::Receipt;
use crate::call::{Call, ServiceError};
use crate::compliance::Compliance;
use crate::crypto::Sealed;
use crate::domain::audit_record::{Action, AuditRecord, Outcome};
use crate::domain::gdpr::{RequestEvent, RequestKind, RequestState};
use crate::domain::ids::{AuditId, GdprRequestId, TenantId, TokenId};
use crate::keyring::{Plaintext, TenantKeys, TextKind, TextPlace, open_texts};
use crate::store::gdpr::history::{self, EventRow};
use crate::store::gdpr::{RequestFilter, RequestRow};
use crate::store::{StoreError, gdpr};

use super::GdprError;

/// Why a request was filed, as it is sealed.
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
    /// The person; `None` 90 days after its end.
    pub subject: Option<String>,
    /// Why it was filed.
    pub reason: String,
    /// Its name elsewhere.
    pub reference: Option<String>,
    /// What became of it, oldest first; empty in lists.
    pub history: Vec<EventView>,
}

/// Something that happened to a request.
#[derive(Debug, Clone)]
pub struct EventView {
    /// The audit record of it.
    pub id: AuditId,
    /// What.
    pub event: RequestEvent,
    /// The request's state after it.
    pub state: RequestState,
    /// When.
    pub at: DateTime<Utc>,
    /// Who; `None`: the service itself or the command line.
    pub by: Option<TokenId>,
    /// The reason given.
    pub reason: Option<String>,
}

/// A page of requests, newest first.
#[derive(Debug, Clone)]
pub struct RequestPage {
    /// The requests, without their histories.
    pub requests: Vec<RequestView>,
    /// Where the next page continues; `None` at the end.
    pub next: Option<GdprRequestId>,
}

impl Compliance {
    /// A page of the requests of the caller's tenant.
    pub async fn list_requests(
        &self,
        call: &mut Call,
        filter: &RequestFilter,
        limit: u16,
    ) -> Result<RequestPage, GdprError> {
        let (rows, next) = self.read_page(call.caller.tenant, filter, limit).await?;
        let requests = self.show(call, rows, 200).await?;
        Ok(RequestPage { requests, next })
    }

    /// A page of the requests of the tenant of `record`, on the word of the command line.
    pub async fn list_requests_of(
        &self,
        record: AuditRecord,
        filter: &RequestFilter,
        limit: u16,
    ) -> Result<RequestPage, GdprError> {
        let (rows, next) = self.read_page(record.tenant, filter, limit).await?;
        let record = AuditRecord { action: Action::GdprList, ..record };
        let requests = self.show_recorded(record, rows).await?;
        Ok(RequestPage { requests, next })
    }

    async fn read_page(
        &self,
        tenant: TenantId,
        filter: &RequestFilter,
        limit: u16,
    ) -> Result<(Vec<Read>, Option<GdprRequestId>), GdprError> {
        let (store, limit) = (&self.parts.store, usize::from(limit));
        let most = i64::try_from(limit + 1).unwrap_or(i64::MAX);
        let rows = store
            .read("list requests", tenant, async |mut tx| gdpr::list(&mut tx, filter, most).await);
        let mut rows = rows.await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(|row| row.id) } else { None };
        Ok((rows.into_iter().map(|row| (row, Vec::new())).collect(), next))
    }

    /// One request of the caller's tenant with its history, told with this HTTP status.
    pub async fn show_request(
        &self,
        call: &mut Call,
        id: GdprRequestId,
        status: u16,
    ) -> Result<RequestView, GdprError> {
        let read = self.read_request(call.caller.tenant, id).await?;
        let shown = self.show(call, vec![read], status).await?;
        shown.into_iter().next().ok_or(GdprError::NotFound)
    }

    /// One request of the tenant of `record` with its history, on the word of the command line.
    pub async fn show_request_of(
        &self,
        record: AuditRecord,
        id: GdprRequestId,
    ) -> Result<RequestView, GdprError> {
        let read = self.read_request(record.tenant, id).await?;
        let record = AuditRecord { action: Action::GdprRead, ..record };
        let shown = self.show_recorded(record, vec![read]).await?;
        shown.into_iter().next().ok_or(GdprError::NotFound)
    }

    async fn read_request(&self, tenant: TenantId, id: GdprRequestId) -> Result<Read, GdprError> {
        let store = &self.parts.store;
        let found = store.read("read a request and its history", tenant, async |mut tx| {
            let row = gdpr::find(&mut tx, id).await?;
            let events = history::list_events(&mut tx, id).await?;
            Ok::<_, StoreError>(row.map(|row| (row, events)))
        });
        found.await?.ok_or(GdprError::NotFound)
    }

    /// The certificate of an erasure of the caller's tenant.
    pub async fn certificate(
        &self,
        call: &mut Call,
        id: GdprRequestId,
    ) -> Result<String, GdprError> {
        let (row, body) = self.find_certificate(call.caller.tenant, id).await?;
        let _receipt = call
            .settle(|record| {
                record.outcome = Outcome::Done;
                record.status = 200;
                record.count = 1;
                record.object = Some(id.0);
                record.subject_key = row.subject_key;
            })
            .await?;
        Ok(body)
    }

    /// The certificate of an erasure of the tenant of `record`, on the word of the command line.
    pub async fn certificate_of(
        &self,
        record: AuditRecord,
        id: GdprRequestId,
    ) -> Result<String, GdprError> {
        let (row, body) = self.find_certificate(record.tenant, id).await?;
        let record = AuditRecord {
            action: Action::GdprRead,
            object: Some(id.0),
            subject_key: row.subject_key,
            count: 1,
            ..record
        };
        let _receipt = self.parts.audit.record(record).await?;
        Ok(body)
    }

    /// An erasure and its certificate.
    async fn find_certificate(
        &self,
        tenant: TenantId,
        id: GdprRequestId,
    ) -> Result<(RequestRow, String), GdprError> {
        let store = &self.parts.store;
        let row = self.find_request(tenant, id).await?;
        if row.kind != RequestKind::Erase {
            return Err(GdprError::NotFound);
        }
        let body = store.read("find the certificate of an erasure", tenant, async |mut tx| {
            history::find_certificate(&mut tx, id).await
        });
        let body = body.await?.ok_or(GdprError::NotExecuted(row.state))?;
        Ok((row, body))
    }

    /// One request of a tenant, sealed as it is.
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

    async fn show(
        &self,
        call: &mut Call,
        rows: Vec<Read>,
        status: u16,
    ) -> Result<Vec<RequestView>, GdprError> {
        let keys = self.parts.keyring.tenant_keys(call.caller.tenant).await?;
        let receipt = call
            .settle(|record| {
                record.status = status;
                complete(record, &rows);
            })
            .await?;
        Ok(open_requests(receipt, &keys, &rows)?)
    }

    async fn show_recorded(
        &self,
        mut record: AuditRecord,
        rows: Vec<Read>,
    ) -> Result<Vec<RequestView>, GdprError> {
        let keys = self.parts.keyring.tenant_keys(record.tenant).await?;
        complete(&mut record, &rows);
        let receipt = self.parts.audit.record(record).await?;
        Ok(open_requests(receipt, &keys, &rows)?)
    }
}

/// A request and what became of it, as they are sealed.
type Read = (RequestRow, Vec<EventRow>);

/// What the record of a reading says of it. Telling of one request is a record about it.
fn complete(record: &mut AuditRecord, rows: &[Read]) {
    record.outcome = Outcome::Done;
    record.count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    if let [(only, _)] = rows {
        record.object = Some(only.id.0);
        record.subject_key = only.subject_key;
    }
}

/// Requests and their histories in the clear, for the receipt of their reading.
pub(super) fn open_requests(
    receipt: Receipt,
    keys: &TenantKeys,
    rows: &[Read],
) -> Result<Vec<RequestView>, ServiceError> {
    let texts: Vec<(TextPlace, &Sealed)> = rows.iter().flat_map(texts_of).collect();
    let mut opened = open_texts(receipt, keys, &texts)?.into_iter();
    rows.iter().map(|(row, events)| view_of(row, events, &mut opened)).collect()
}

/// The sealed texts of a request, in the order that [`view_of`] takes them.
fn texts_of((row, events): &Read) -> impl Iterator<Item = (TextPlace, &Sealed)> {
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
    row: &RequestRow,
    events: &[EventRow],
    texts: &mut impl Iterator<Item = Plaintext>,
) -> Result<RequestView, ServiceError> {
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
