//! The owner of the database changes the trail, and the verification names it (issue 3;
//! architecture.md §3 "Seals").

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ai_cache::audit::CheckpointFile;
use ai_cache::audit::verify::{FindingKind as Kind, Verification, Verifier};
use ai_cache::crypto::KeyProvider;
use ai_cache::domain::clock::{Clock as _, SystemClock};
use ai_cache::store::{Store, StoreSettings};
use ai_cache::telemetry::Metrics;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::Client;

use crate::resilience::hurt::Hurt;
use crate::support::app::MASTER_KEYS;
use crate::support::{rounds, wait_until};

use super::proof::{builder, checkpoint_file, sealed, write};

/// A trail that nobody adds to any more, with a copy to go back to.
struct Trail {
    hurt: Hurt,
    file: PathBuf,
    store: Store,
    owner: Client,
}

impl Trail {
    /// Makes a trail of this many rows in some seals.
    async fn of(rows: usize) -> Self {
        let hurt = Hurt::in_memory().await;
        let file = checkpoint_file();
        let app = builder(&hurt, &file).start().await;
        let tenant = app.tenant("acme").await;
        for part in 1..=5 {
            write(app.rooms().audit(), tenant.id, rows / 5).await;
            // Also what Postgres was too slow for, which came by the spool.
            wait_until("every record is in Postgres", || async {
                let there = "SELECT count(*) FROM ai_cache_audit_logs WHERE writer_id IS NOT NULL";
                let there = usize::try_from(hurt.count(there).await).unwrap();
                (there >= part * (rows / 5)).then_some(())
            })
            .await;
            sealed(&hurt).await;
        }
        app.stop().await;
        let settings = StoreSettings { pool_size: 2, limit: Duration::from_secs(5) };
        let store = Store::new(&hurt.url(), &settings, Arc::new(Metrics::new().unwrap())).unwrap();
        let owner = hurt.superuser().await;
        let keep = "CREATE TABLE kept_rows AS SELECT * FROM ai_cache_audit_logs;
                    CREATE TABLE kept_ledgers AS SELECT * FROM audit_ledgers;
                    CREATE TABLE kept_seals AS SELECT * FROM audit_seals;";
        owner.batch_execute(keep).await.unwrap();
        let trail = Self { hurt, file, store, owner };
        let whole = trail.verify(Some(&trail.file)).await;
        assert_eq!((&whole.findings[..], whole.unsealed), (&[][..], 0), "before anything was done");
        assert_eq!(whole.checkpoints, whole.seals, "each seal was kept outside");
        trail
    }

    async fn verify(&self, checkpoint: Option<&Path>) -> Verification {
        self.verify_at(checkpoint, SystemClock.now()).await
    }

    async fn verify_at(&self, checkpoint: Option<&Path>, now: DateTime<Utc>) -> Verification {
        let keys = KeyProvider::from_text(MASTER_KEYS).unwrap();
        let file = checkpoint.map(|path| CheckpointFile::new(path.to_owned()));
        let store = &self.store;
        let verifier =
            Verifier { store, keys: &keys, checkpoint: file.as_ref(), tenant: None, now };
        Box::pin(verifier.run()).await.unwrap()
    }

    /// Returns the findings after `change`, which is taken back then.
    async fn after(&self, change: &str) -> Verification {
        self.owner.batch_execute(change).await.unwrap();
        let found = self.verify(Some(&self.file)).await;
        let restore = "DELETE FROM ai_cache_audit_logs; DELETE FROM audit_seals;
                       DELETE FROM audit_ledgers;
                       INSERT INTO audit_ledgers SELECT * FROM kept_ledgers;
                       INSERT INTO ai_cache_audit_logs SELECT * FROM kept_rows;
                       INSERT INTO audit_seals SELECT * FROM kept_seals;";
        self.owner.batch_execute(restore).await.unwrap();
        found
    }

    async fn stop(self) {
        self.store.close().await;
        drop(self.owner);
        self.hurt.stop().await;
    }
}

pub(super) fn kinds(found: &Verification) -> BTreeSet<Kind> {
    found.findings.iter().map(|found| found.kind).collect()
}

/// Flips one bit of one byte of each column; `{k}` is a number that differs from edit to edit.
const EDITS: &[(&str, &str)] = &[
    ("occurred_at", "'infinity'"),
    ("occurred_at", "occurred_at + ((1 << ({k} % 8)) || ' microseconds')::interval"),
    ("request_id", "FLIPPED"),
    ("actor_kind", "'service'"),
    ("actor_token_id", "FLIPPED"),
    ("actor_roles", "overlay(actor_roles PLACING 'b' FROM 1 + {k} % 3 FOR 1)"),
    ("actor_network", "overlay(actor_network PLACING '7' FROM 3 FOR 1)"),
    ("action", "overlay(action PLACING 'z' FROM 1 + {k} % 5 FOR 1)"),
    ("outcome", "'miss'"),
    ("operation", "NULL"),
    ("tier", "'warm'"),
    ("entry_id", "FLIPPED"),
    ("subject_key_id", "FLIPPED"),
    ("object_id", "FLIPPED"),
    ("tenant_id", "FLIPPED"),
    ("id", "FLIPPED"),
    ("retention_class", "3"),
    ("status", "(status # (1 << ({k} % 15)))::smallint"),
    ("item_count", "item_count # (1::bigint << ({k} % 62))"),
    ("duration_us", "duration_us # (1::bigint << ({k} % 62))"),
    ("cost_picousd", "cost_picousd # (1::bigint << ({k} % 64))"),
    ("ledger_id", "FLIPPED"),
    ("writer_id", "FLIPPED"),
    ("writer_seq", "writer_seq # (1::bigint << (32 + {k} % 30))"),
    ("row_hash", "set_byte(row_hash, {k} % 32, get_byte(row_hash, {k} % 32) # 1)"),
    ("row_mac", "set_byte(row_mac, {k} % 32, get_byte(row_mac, {k} % 32) # 128)"),
    ("mac_key_id", "mac_key_id || 'x'"),
    ("tx_id", "tx_id # (1::bigint << ({k} % 20))"),
];

/// The statement of the edit `number` of a row.
fn edit(number: usize, id: &str) -> String {
    let (column, to) = EDITS[number % EDITS.len()];
    // The last eight bytes: the time in an id, which chooses the partition, stays.
    let flipped = format!(
        "encode(set_byte(uuid_send({column}), 8 + {{k}} % 8,
                         get_byte(uuid_send({column}), 8 + {{k}} % 8) # 1), 'hex')::uuid"
    );
    let to = to.replace("FLIPPED", &flipped).replace("{k}", &number.to_string());
    format!("UPDATE ai_cache_audit_logs SET {column} = {to} WHERE id = '{id}' RETURNING id::text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_edits_are_two_hundred_findings() {
    let trail = Box::pin(Trail::of(rounds(10_000, 100_000))).await;
    let clean = trail.verify(Some(&trail.file)).await;
    assert_eq!(clean.findings, []);
    let rows = "SELECT id::text FROM ai_cache_audit_logs
                WHERE writer_id IS NOT NULL AND action = 'query' ORDER BY md5(id::text) LIMIT 200";
    let rows = trail.owner.query(rows, &[]).await.unwrap();
    let mut edited = BTreeSet::new();
    for (number, row) in rows.iter().enumerate() {
        let row = trail.owner.query_one(&edit(number, row.get(0)), &[]).await.unwrap();
        edited.insert(format!("row {}", row.get::<_, String>(0)));
    }
    let found = trail.verify(Some(&trail.file)).await;
    let about_rows = |kind: Kind| matches!(kind, Kind::RowAltered | Kind::RowForged);
    let named: BTreeSet<String> = found
        .findings
        .iter()
        .filter(|found| about_rows(found.kind) && found.place.starts_with("row "))
        .map(|found| found.place.clone())
        .collect();
    println!(
        "{} rows: 0 findings; {} edited, {} named of {} findings",
        clean.rows,
        edited.len(),
        named.len(),
        found.findings.len()
    );
    assert_eq!(edited.len(), 200);
    assert_eq!(named, edited);

    // All findings are told one by one, however many there are.
    let all = "UPDATE ai_cache_audit_logs SET item_count = item_count + 1";
    trail.owner.batch_execute(all).await.unwrap();
    let found = trail.verify(Some(&trail.file)).await;
    let told = found.findings.iter().filter(|found| found.kind == Kind::RowAltered).count();
    println!("every row edited: {} findings, {told} rows told of", found.found());
    assert!(!found.ok && found.kinds[&Kind::RowAltered] > 10_000);
    assert_eq!(told, 10_000);
    trail.stop().await;
}

/// The rows from `offset` on, in the order they were written.
fn fifty(offset: &str) -> String {
    format!(
        "DELETE FROM ai_cache_audit_logs WHERE id IN
             (SELECT id FROM ai_cache_audit_logs ORDER BY tx_id, id
              OFFSET greatest({offset}, 0) LIMIT 50)"
    )
}

const ROWS: &str = "(SELECT count(*) FROM kept_rows)";
const LAST: &str = "(SELECT max(seq) FROM kept_seals)";

/// The name of a change, its statements, and the findings that it must cause. `{n}` differs from
/// trial to trial.
type Trial = (&'static str, String, Kind);

fn removals() -> Vec<Trial> {
    let newest = format!("(SELECT from_tx FROM kept_seals WHERE seq = {LAST})");
    vec![
        ("the first 50 rows", fifty("{n}"), Kind::RowMissing),
        ("50 rows of the middle", fifty(&format!("{ROWS} / 2 + {{n}}")), Kind::RowMissing),
        ("the last 50 rows", fifty(&format!("{ROWS} - 50 - {{n}}")), Kind::RowMissing),
        (
            "a seal",
            format!("DELETE FROM audit_seals WHERE seq = {LAST} / 2 + {{n}} % 2"),
            Kind::SealGap,
        ),
        (
            "the last seal",
            format!("DELETE FROM audit_seals WHERE seq = {LAST}"),
            Kind::CheckpointMismatch,
        ),
        (
            "the end of rows and seals",
            format!(
                "DELETE FROM ai_cache_audit_logs WHERE tx_id >= {newest};
                 DELETE FROM audit_seals WHERE seq = {LAST}"
            ),
            Kind::CheckpointMismatch,
        ),
        ("all seals", "DELETE FROM audit_seals".to_owned(), Kind::CheckpointMismatch),
        (
            "all seals but the last, and an edit below it",
            format!(
                "DELETE FROM audit_seals WHERE seq < {LAST};
                 UPDATE ai_cache_audit_logs SET item_count = 7 WHERE writer_seq = 30 + {{n}}"
            ),
            Kind::RowAltered,
        ),
        (
            "a ledger with its seals, for another",
            "DELETE FROM audit_seals; DELETE FROM audit_ledgers;
             INSERT INTO audit_ledgers (ledger_id, system_identifier, timeline, begun_at)
             SELECT 'ffffffff-ffff-7fff-bfff-ffffffffffff', system_identifier, timeline, begun_at
             FROM kept_ledgers"
                .to_owned(),
            Kind::SealGap,
        ),
    ]
}

fn changes_of_rows() -> Vec<Trial> {
    let other_rows = "(SELECT id FROM kept_rows WHERE writer_seq = 20 + {n})";
    vec![
        (
            "a copied row",
            format!(
                "CREATE TEMPORARY TABLE copied AS SELECT * FROM kept_rows WHERE id = {other_rows};
                 UPDATE copied SET id = encode(
                     set_byte(uuid_send(id), 15, get_byte(uuid_send(id), 15) # 1), 'hex')::uuid;
                 INSERT INTO ai_cache_audit_logs SELECT * FROM copied; DROP TABLE copied"
            ),
            Kind::RowExtra,
        ),
        (
            "two rows swapped",
            "UPDATE ai_cache_audit_logs a
             SET action = b.action, row_hash = b.row_hash, row_mac = b.row_mac,
                 writer_seq = b.writer_seq, request_id = b.request_id
             FROM kept_rows b
             WHERE a.writer_seq IN (20 + {n}, 40 + {n}) AND b.id <> a.id
               AND b.writer_seq IN (20 + {n}, 40 + {n})"
                .to_owned(),
            Kind::RowAltered,
        ),
        (
            "a row moved to another transaction",
            format!("UPDATE ai_cache_audit_logs SET tx_id = tx_id - 1 WHERE id = {other_rows}"),
            Kind::RowAltered,
        ),
        (
            "a row that names no transaction",
            format!(
                "ALTER TABLE ai_cache_audit_logs ALTER tx_id DROP NOT NULL;
                 UPDATE ai_cache_audit_logs SET tx_id = NULL WHERE id = {other_rows}"
            ),
            Kind::RowAltered,
        ),
        (
            "a row of the last transaction of all",
            format!(
                "UPDATE ai_cache_audit_logs SET tx_id = 9223372036854775807 WHERE id = {other_rows}"
            ),
            Kind::RowAltered,
        ),
        (
            "a row of a transaction below 0",
            format!("UPDATE ai_cache_audit_logs SET tx_id = -tx_id WHERE id = {other_rows}"),
            Kind::RowAltered,
        ),
        (
            "a row without a status",
            format!(
                "ALTER TABLE ai_cache_audit_logs ALTER status DROP NOT NULL;
                 UPDATE ai_cache_audit_logs SET status = NULL WHERE id = {other_rows}"
            ),
            Kind::RowAltered,
        ),
    ]
}

fn changes_of_seals() -> Vec<Trial> {
    vec![
        (
            "a seal's count",
            format!(
                "UPDATE audit_seals SET part_counts[1] = part_counts[1] - 1 WHERE seq = {LAST}"
            ),
            Kind::SealBroken,
        ),
        (
            "a seal's part without a name",
            format!("UPDATE audit_seals SET part_names[1] = NULL WHERE seq = {LAST}"),
            Kind::SealBroken,
        ),
        (
            "a name without a seal's part",
            format!(
                "UPDATE audit_seals SET part_names = part_names || 'y'::text WHERE seq = {LAST}"
            ),
            Kind::SealBroken,
        ),
        (
            "a seal's signature",
            format!(
                "UPDATE audit_seals
                 SET signature = set_byte(signature, {{n}}, get_byte(signature, {{n}}) # 1)
                 WHERE seq = {LAST}"
            ),
            Kind::BadSignature,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_added_or_moved_is_found() {
    let trail = Box::pin(Trail::of(rounds(1_500, 5_000))).await;
    let times = rounds(1, 5);
    for (what, change, kind) in
        removals().iter().chain(&changes_of_rows()).chain(&changes_of_seals())
    {
        let mut found_in = 0;
        for trial in 0..times {
            let found = trail.after(&change.replace("{n}", &(trial * 7).to_string())).await;
            found_in += usize::from(kinds(&found).contains(kind));
        }
        println!("{what}: {times} times, found {found_in} times");
        assert_eq!(found_in, times, "{what}");
    }
    assert_eq!(trail.verify(Some(&trail.file)).await.findings, []);
    trail.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_partition_needs_a_purge_that_was_due() {
    let trail = Box::pin(Trail::of(500)).await;
    let month = SystemClock.now().format("audit_logs_y7_%Y_%m").to_string();
    let drop = format!("DROP TABLE {month}");
    trail.owner.batch_execute(&drop).await.unwrap();
    assert!(kinds(&trail.verify(None).await).contains(&Kind::PurgeUnjustified));
    // The owner of the database writes down a purge; the month itself says that none was due.
    let forbidden = format!(
        "INSERT INTO audit_purges
         SELECT ledger_id, '{month}', 500, now() - interval '8 years', now(), gen_random_uuid()
         FROM audit_ledgers"
    );
    let refused = trail.owner.batch_execute(&forbidden).await.unwrap_err();
    assert!(refused.to_string().contains("db error"), "{refused}");
    let purge = format!(
        "SET session_replication_role = replica;
         INSERT INTO audit_purges
         SELECT ledger_id, '{month}', 500, now() - interval '8 years', now(), gen_random_uuid()
         FROM audit_ledgers"
    );
    trail.owner.batch_execute(&purge).await.unwrap();
    assert!(kinds(&trail.verify(None).await).contains(&Kind::PurgeUnjustified));
    let in_eight_years = "UPDATE audit_purges SET purged_at = now() + interval '8 years'";
    trail.owner.batch_execute(in_eight_years).await.unwrap();
    assert!(kinds(&trail.verify(None).await).contains(&Kind::PurgeUnjustified), "not yet");
    let later = SystemClock.now() + TimeDelta::days(9 * 365);
    let found = kinds(&trail.verify_at(None, later).await);
    assert!(found.contains(&Kind::PurgeUnjustified), "nothing in the trail says so");
    trail.stop().await;
}
