//! Verifies an export by itself, without the database it came from: the service must have written
//! each record as it is. Only the database and its seals can tell whether records are missing: an
//! export may be of one tenant or of a period.

use std::collections::HashMap;
use std::io::BufRead;

use serde_json::Value;

use crate::crypto::KeyProvider;
use crate::domain::audit_row::AuditRow;

use super::finding::{FindingKind, Verification};
use super::rows::RowChecker;

/// Verifies lines of NDJSON, each an [`AuditRow`].
///
/// # Errors
/// Returns an error if the lines cannot be read.
pub fn verify_lines(lines: impl BufRead, keys: &KeyProvider) -> std::io::Result<Verification> {
    let mut verification = Verification::default();
    let (mut judge, mut newest) = (RowChecker::new(keys), HashMap::new());
    for (index, line) in lines.split(b'\n').enumerate() {
        let line = line?;
        if line.is_empty() {
            continue;
        }
        verification.rows += 1;
        verification.unsealed += 1;
        let Some(row) = parse(&line) else {
            let detail = "it is no record".to_owned();
            verification.find(FindingKind::RowAltered, format!("line {}", index + 1), detail);
            continue;
        };
        if let Some((kind, why)) = judge.judge(&row).wrong {
            verification.find(kind, format!("row {}", row.id), why.to_owned());
        }
        // The export of a tenant runs by id, oldest first.
        let before = newest.insert(row.tenant_id, row.id);
        if before.is_some_and(|before| row.id <= before) {
            let detail = "it was there before, or is out of its order".to_owned();
            verification.find(FindingKind::RowExtra, format!("row {}", row.id), detail);
        }
    }
    Ok(verification)
}

/// Parses a line that has exactly the fields and values of a record. Returns `None` for any other
/// line.
fn parse(line: &[u8]) -> Option<AuditRow> {
    let row: AuditRow = serde_json::from_slice(line).ok()?;
    let said: Value = serde_json::from_slice(line).ok()?;
    (serde_json::to_value(&row).ok()? == said).then_some(row)
}
