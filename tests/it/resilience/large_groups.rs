//! Groups of more entries than one transaction removes (decision 0021).

use rstest::rstest;
use serde_json::{Value, json};

use super::size::add_rows;
use crate::support::TestApp;

/// The thing that is in the way of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InTheWay {
    Nothing,
    /// The second part fails.
    Failure,
    /// A legal hold keeps the rows.
    Hold,
}

impl InTheWay {
    /// Returns the number of entries that each part removes, of this many in all. The last part
    /// finds fewer than it might.
    fn parts(self, mut entries: i64) -> Vec<i64> {
        let most = if self == Self::Hold { 2_000 } else { 10_000 };
        let mut parts = Vec::new();
        while entries >= most {
            parts.push(most);
            entries -= most;
        }
        parts.push(entries);
        parts
    }
}

/// Every part has its record and its step in the stream, and the count is of all; what went before a
/// failure stays removed, and the next try goes on from there.
#[rstest]
#[case(InTheWay::Nothing, json!({ "operation": "workout-plan" }), 10_011)]
#[case(InTheWay::Nothing, json!({ "tag": "flowers" }), 10_000)]
#[case(InTheWay::Failure, json!({ "tag": "flowers" }), 10_011)]
#[case(InTheWay::Hold, json!({ "operation": "workout-plan" }), 4_011)]
#[case(InTheWay::Hold, json!({ "tag": "flowers" }), 4_000)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_group_goes_in_parts(
    #[case] in_the_way: InTheWay,
    #[case] selector: Value,
    #[case] entries: i64,
) {
    const PATH: &str = "/api/ai-cache/invalidate";
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let first = json!({ "query": "the first", "operation": "workout-plan", "cache": { "tags": ["flowers"] } });
    tenant.app.query(&first).await.expect(200);
    let db = app.db.superuser().await;
    add_rows(&db, entries - 1).await;
    let alike = "UPDATE ai_cache_entries SET operation = 'workout-plan', tag_indexes =
                     (SELECT tag_indexes FROM ai_cache_entries ORDER BY created_at DESC LIMIT 1)";
    db.batch_execute(alike).await.unwrap();
    let other = tenant.app.ask("another").await.expect(200);
    match in_the_way {
        InTheWay::Nothing => {}
        InTheWay::Failure => db.batch_execute(SECOND_FAILS).await.unwrap(),
        InTheWay::Hold => {
            let hold = json!({ "reason": "an inquiry" });
            let path = "/api/ai-cache/gdpr/legal-holds";
            tenant.compliance.send_json("PUT", path, &hold).await.expect(200);
        }
    }
    let mut dry = selector.clone();
    dry["dryRun"] = json!(true);
    let before = tenant.admin.post(PATH, &dry).await.expect(200).body["invalidatedCount"].clone();
    let mut counts = Vec::new();
    if in_the_way == InTheWay::Failure {
        tenant.admin.post(PATH, &selector).await.expect(500);
        counts.push(told(&app).await.iter().sum());
    }
    let removed = tenant.admin.post(PATH, &selector).await.expect(200);
    counts.push(removed.body["invalidatedCount"].as_i64().unwrap());
    let after = tenant.admin.post(PATH, &dry).await.expect(200).body["invalidatedCount"].clone();
    let told = told(&app).await;
    let steps = app.db.count("SELECT count(*) FROM invalidations").await;
    let withdrawn = "SELECT count(*) FROM ai_cache_entries WHERE withdrawn_at IS NOT NULL";
    let withdrawn = app.db.count(withdrawn).await;
    let left = app.db.count("SELECT count(*) FROM ai_cache_entries").await;
    println!(
        "{in_the_way:?}, {selector}: {before} there, {counts:?} removed, {after} left; records of {told:?}, \
         {steps} steps; {left} rows, {withdrawn} withdrawn"
    );
    let parts = in_the_way.parts(entries);
    assert_eq!((before, after), (json!(entries), json!(0)));
    assert_eq!((usize::try_from(steps).unwrap(), &told), (parts.len(), &parts));
    assert_eq!(counts, if in_the_way == InTheWay::Failure { parts } else { vec![entries] });
    let kept = if in_the_way == InTheWay::Hold { entries } else { 0 };
    assert_eq!((left, withdrawn), (kept + 1, kept));
    let gone = tenant.app.query(&first).await.expect(200);
    let kept = tenant.app.ask("another").await.expect(200);
    assert_eq!(
        (&gone.body["cached"], &kept.body["entryId"]),
        (&json!(false), &other.body["entryId"])
    );
    app.stop().await;
}

/// Makes the second statement fail that deletes.
const SECOND_FAILS: &str = "
    CREATE SEQUENCE deletions;
    CREATE FUNCTION fail_second() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF nextval('public.deletions') = 2 THEN RAISE EXCEPTION 'the second fails'; END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER fail_second AFTER DELETE ON ai_cache_entries EXECUTE FUNCTION fail_second()";

/// Returns the counts in the records of removals, in their order.
async fn told(app: &TestApp) -> Vec<i64> {
    let told = "SELECT item_count FROM ai_cache_audit_logs
                WHERE action = 'invalidate' AND outcome = 'done' AND writer_id IS NULL ORDER BY tx_id";
    let rows = app.db.superuser().await.query(told, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
