//! Makes records tamper-evident. A stamp is a hash over the canonical fields of a record and a MAC
//! of that hash, under a key that Postgres never sees.

use std::sync::Arc;

use crate::crypto::{KeyProvider, MacKey, sha256};
use crate::domain::audit_record::{AuditRecord, WriterPlace};
use crate::domain::ids::LedgerId;
use crate::store::audit::StampedRecord;

use super::classes::RetentionClasses;

/// Stamps the records of one ledger.
#[derive(Debug)]
pub struct Stamper {
    mac: MacKey,
    mac_key_id: String,
    ledger: LedgerId,
    classes: Arc<RetentionClasses>,
}

impl Stamper {
    /// Returns a stamper that uses the present audit key of the key provider.
    pub fn new(keys: &KeyProvider, ledger: LedgerId, classes: Arc<RetentionClasses>) -> Self {
        let mac_key_id = keys.active_id().as_str().to_owned();
        Self { mac: keys.audit_mac_key(), mac_key_id, ledger, classes }
    }

    /// Stamps one record, with the retention class that it gets now.
    pub fn stamp(&self, record: AuditRecord, place: Option<WriterPlace>) -> StampedRecord {
        let record = AuditRecord { class: self.classes.of(&record), ..record };
        let row_hash = sha256(&record.canonical(self.ledger, place));
        StampedRecord {
            row_mac: self.mac.mac(&row_hash),
            row_hash,
            record,
            ledger: self.ledger,
            place,
            mac_key_id: self.mac_key_id.clone(),
        }
    }
}
