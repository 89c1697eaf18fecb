//! Verifying takes time by the row and memory by the window: a million rows with `make scale`.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use crate::resilience::hurt::Hurt;
use crate::support::app::MASTER_KEYS;
use crate::support::folders::scratch;

use super::proof::{builder, checkpoint_file, sealed, write};

/// The most that a verification may take of memory, in MiB.
const MOST_MIB: u64 = 200;

/// Returns the most memory that a process took so far, in MiB. Returns `None` once it has ended.
fn peak_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifying_needs_little_memory_however_many_rows_there_are() {
    let rows = if std::env::var_os("SCALE").is_some() { 1_000_000 } else { 20_000 };
    let hurt = Hurt::in_memory().await;
    let file = checkpoint_file();
    let app = builder(&hurt, &file).start().await;
    let tenant = app.tenant("acme").await;
    write(app.rooms().audit(), tenant.id, rows).await;
    sealed(&hurt).await;
    app.stop().await;

    let begun = Instant::now();
    let mut verify = Command::new(env!("CARGO_BIN_EXE_ai-cache"));
    verify.args(["audit", "verify", "--json", "--checkpoint"]).arg(&file).env_clear();
    verify.env("DATABASE_URL", hurt.url()).env("AI_CACHE_MASTER_KEYS", MASTER_KEYS);
    verify.current_dir(scratch("verify")).stdout(Stdio::piped()).kill_on_drop(true);
    let verify = verify.spawn().unwrap();
    let pid = verify.id().unwrap();
    let done = verify.wait_with_output();
    tokio::pin!(done);
    let mut peak = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let done = loop {
        tokio::select! {
            done = &mut done => break done.unwrap(),
            _ = ticks.tick() => peak = peak.max(peak_mib(pid).unwrap_or(0)),
        }
    };
    let took = begun.elapsed();
    let found: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    println!("{} rows and {} seals in {took:?}, {peak} MiB", found["rows"], found["seals"]);
    assert_eq!(found["findings"], serde_json::json!([]));
    assert!(found["rows"].as_u64().unwrap() >= rows as u64);
    assert!(peak > 0 && peak < MOST_MIB);
    hurt.stop().await;
}
