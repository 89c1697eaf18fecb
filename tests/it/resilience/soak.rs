//! The real program under full load for half an hour (`make soak`): its memory is flat. Some seconds of
//! the same in every run, which prove only that it works.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ai_cache::domain::token::BearerToken;
use ai_cache::loadgen::{self, Address, Amount, LoadOutcome, LoadPlan, LoadProgress, Request};
use serde_json::{Value, json};

use super::hurt::Hurt;
use super::redis::own_redis;
use crate::cli::program::{Program, Variables};
use crate::support::app::MASTER_KEYS;

const QUESTIONS: usize = 20_000;
const TAGS: usize = 20;

/// Returns the time of the test, and the time between two readings of memory.
fn times() -> (Duration, Duration) {
    match std::env::var_os("SOAK") {
        None => (Duration::from_secs(3), Duration::from_millis(250)),
        Some(minutes) => {
            let minutes: u64 = minutes.to_str().unwrap().parse().unwrap();
            (Duration::from_mins(minutes), Duration::from_mins(1))
        }
    }
}

/// Resident memory of a process in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

async fn token(program: &Program, variables: Variables<'_>, role: &str) -> BearerToken {
    let make = ["token", "create", "--tenant", "acme", "--role", role, "--json"];
    let made = program.run(&make, variables).await;
    let made: Value = serde_json::from_str(&made.out).unwrap();
    BearerToken::parse(made["token"].as_str().unwrap()).unwrap()
}

/// Questions, a fourth of which are asked half of the time, and for a thousand of them an invalidation
/// of a twentieth. More than memory holds.
fn requests(address: &Address, app: &BearerToken, admin: &BearerToken) -> Arc<[Request]> {
    let ask = |number: usize| {
        let tags = [format!("tag {}", number % TAGS)];
        let body = json!({ "query": format!("question {number}"), "cache": { "tags": tags } });
        Request::post_json(address, "/api/ai-cache/query", Some(app), body.to_string().as_bytes())
    };
    let invalidate = |number: usize| {
        let body = json!({ "tag": format!("tag {}", number % TAGS) });
        let path = "/api/ai-cache/invalidate";
        Request::post_json(address, path, Some(admin), body.to_string().as_bytes())
    };
    let often = (0..QUESTIONS / 4).cycle().take(QUESTIONS);
    often.chain(0..QUESTIONS).map(ask).chain((0..QUESTIONS / 500).map(invalidate)).collect()
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// Loads, and reads a process's memory now and then.
#[expect(clippy::print_stdout, reason = "who runs a soak follows it")]
async fn watch(plan: LoadPlan, each: Duration, pid: u32) -> (LoadOutcome, Vec<u64>) {
    let progress = Arc::new(LoadProgress::default());
    let load = loadgen::run(plan, Arc::clone(&progress));
    tokio::pin!(load);
    let mut ticks = tokio::time::interval(each);
    let mut resident = Vec::new();
    loop {
        tokio::select! {
            outcome = &mut load => return (outcome.unwrap(), resident),
            _ = ticks.tick() => {
                let kib = resident_kib(pid);
                println!(
                    "{:>5.1} min: {:>7} KiB resident, {} requests, {} failed",
                    each.as_secs_f64() / 60.0 * f64::from(u32::try_from(resident.len()).unwrap()),
                    kib,
                    progress.requests(),
                    progress.failures()
                );
                resident.push(kib);
            }
        }
    }
}

/// Hits of all tiers, misses that push others out of memory and Postgres, invalidations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_flat_under_full_load() {
    let (whole, each) = times();
    let (hurt, redis, program) = (Hurt::in_memory().await, own_redis().await, Program::new());
    let (database, redis_url) = (hurt.url(), redis.url());
    let variables = [
        ("DATABASE_URL", database.as_str()),
        ("AI_CACHE_MASTER_KEYS", MASTER_KEYS),
        ("AI_CACHE_REDIS_URL", redis_url.as_str()),
        ("AI_CACHE_UPSTREAM", "demo"),
        ("AI_CACHE_UPSTREAM_DEMO_DELAY_MS", "0"),
        ("AI_CACHE_MEMORY_SIZE_MB", "8"),
        ("AI_CACHE_MAX_ENTRIES", "4000"),
    ];
    let made = program.run(&["tenant", "create", "acme", "--name", "Acme"], &variables).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let app = token(&program, &variables, "app").await;
    let admin = token(&program, &variables, "admin").await;
    let serving = program.serve(&variables).await;
    let address = Address::parse(&serving.base()).unwrap();
    let target = serving.base().strip_prefix("http://").unwrap().parse().unwrap();
    let amount = Amount::For { warm_up: Duration::ZERO, measured: whole };
    let concurrency = NonZeroUsize::new(64).unwrap();
    let plan = LoadPlan::new(target, concurrency, amount, requests(&address, &app, &admin));
    let (outcome, resident) = watch(plan, each, serving.pid()).await;
    let thirds: Vec<u64> = resident.chunks(resident.len().div_ceil(3)).map(median).collect();
    let entries = hurt.count("SELECT count(*) FROM ai_cache_entries").await;
    let evicted = "SELECT coalesce(sum(item_count), 0)::bigint FROM ai_cache_audit_logs
                   WHERE action = 'evict'";
    let evicted = hurt.count(evicted).await;
    println!(
        "{} replies in {whole:?}, failures: {:?}; {entries} entries in Postgres, {evicted} evicted; medians of \
         the thirds {thirds:?} KiB",
        outcome.replies,
        outcome.failures.iter().collect::<Vec<_>>()
    );
    assert_eq!(serving.stop().await, Some(0));
    assert!(resident.len() >= 6 && outcome.replies > 100, "{} samples", resident.len());
    assert_eq!(outcome.failures.total(), 0);
    if std::env::var_os("SOAK").is_some() {
        assert!(thirds[2] * 10 <= thirds[1] * 11, "{thirds:?}");
        assert!(evicted > 0 && entries < 8_000, "{evicted} {entries}");
    }
    redis.stop().await.unwrap();
    hurt.stop().await;
}
