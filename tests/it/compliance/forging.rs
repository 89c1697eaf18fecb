//! The owner of the database forges or removes rows that no seal covers yet (issue 3).

use std::collections::BTreeSet;

use ai_cache::audit::verify::FindingKind as Kind;
use ai_cache::domain::clock::{Clock as _, SystemClock};
use tokio_postgres::Client;

use crate::resilience::hurt::Hurt;

use super::proof::{builder, checkpoint_file, sealed, write};
use super::tampering::kinds;

/// Before a seal covers them rows are only known by their MACs and their writer's numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_forged_or_removed_before_its_seal_is_found() {
    let hurt = Hurt::in_memory().await;
    let file = checkpoint_file();
    let app = builder(&hurt, &file).start().await;
    let tenant = app.tenant("acme").await;
    let mut owner = hurt.superuser().await;
    let held = owner.transaction().await.unwrap();
    let hold = "SELECT pg_advisory_xact_lock(hashtext('ai-cache audit seals'))";
    held.batch_execute(hold).await.unwrap();
    write(app.rooms().audit(), tenant.id, 60).await;
    let other = hurt.superuser().await;
    // Well-formed in every column, its hash that of its fields: only the MAC cannot be made.
    let forged = forged_row(&other, tenant.id).await;
    let gone = "DELETE FROM ai_cache_audit_logs WHERE writer_seq = 30 RETURNING id";
    assert_eq!(other.query(gone, &[]).await.unwrap().len(), 1);
    held.commit().await.unwrap();
    sealed(&hurt).await;
    let found = super::proof::verify(app.rooms(), None).await;
    println!("{:?}", found.findings);
    assert_eq!(kinds(&found), BTreeSet::from([Kind::RowForged, Kind::SeqGap]));
    assert!(found.findings.iter().any(|found| found.place == format!("row {forged}")));
    app.stop().await;
    hurt.stop().await;
}

/// Adds a row whose hash is right.
async fn forged_row(owner: &Client, tenant: ai_cache::domain::ids::TenantId) -> String {
    let ledger = owner.query_one("SELECT ledger_id::text FROM audit_ledgers", &[]).await.unwrap();
    let ledger = ai_cache::domain::ids::LedgerId::parse(ledger.get(0)).unwrap();
    let now =
        chrono::DateTime::from_timestamp_micros(SystemClock.now().timestamp_micros()).unwrap();
    let mut record = super::proof::record(tenant, now);
    record.actor = ai_cache::domain::audit_record::Actor::Service;
    (record.operation, record.tier, record.entry) = (None, None, None);
    (record.subject_key, record.object) = (None, None);
    let hash = ai_cache::crypto::sha256(&record.canonical(ledger, None));
    let row = format!(
        "INSERT INTO ai_cache_audit_logs (retention_class, tenant_id, id, occurred_at, request_id,
             actor_kind, action, outcome, status, item_count, duration_us, cost_picousd, ledger_id,
             row_hash, row_mac, mac_key_id)
         SELECT 7, '{}', '{}', to_timestamp({}::numeric / 1000000), '{}', 'service', 'query', 'hit',
             200, 1, 1234, 5678, '{ledger}', '\\x{}', sha256('a guess'), mac_key_id
         FROM ai_cache_audit_logs LIMIT 1",
        record.tenant,
        record.id,
        now.timestamp_micros(),
        record.request,
        hex::encode(hash)
    );
    owner.batch_execute(&row).await.unwrap();
    record.id.to_string()
}
