//! `ai-cache purge` (api.md "Command line"): tells what is due, waits for `--confirm`, removes.

use crate::support::{TestApp, TestDb};

use super::program::Program;

async fn entries(db: &TestDb) -> i64 {
    db.count("SELECT count(*) FROM ai_cache_entries").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_is_tried_confirmed_and_done_from_the_command_line() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("a question").await.expect(200);
    let old = "UPDATE ai_cache_entries SET entry_id = first_uuidv7_of(now() - interval '8 years')";
    app.db.superuser().await.batch_execute(old).await.unwrap();
    let program = Program::new();

    let dry = program.json_on(&app.db, &["purge", "--dry-run", "--json"]).await;
    assert_eq!((dry["state"].as_str(), dry["entries"].as_u64()), (Some("dry-run"), Some(1)));
    let waits = program.run_on(&app.db, &["purge"]).await;
    println!("without --confirm, exit {:?}: {}", waits.code, waits.out.trim());
    assert_eq!(waits.code, Some(1));
    assert!(waits.out.contains("nothing removed (many-entries), repeat with --confirm"));
    assert_eq!(entries(&app.db).await, 1);

    let done = program.json_on(&app.db, &["purge", "--confirm", "--json"]).await;
    assert_eq!((done["state"].as_str(), done["entries"].as_u64()), (Some("done"), Some(1)));
    assert_eq!(entries(&app.db).await, 0);
    let both = program.run_on(&app.db, &["purge", "--confirm", "--dry-run"]).await;
    assert_eq!(both.code, Some(2));
    app.stop().await;
}
