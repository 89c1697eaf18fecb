//! A Redis that answers, but not what was put there: flushed, read-only, full of garbage.

use ai_cache::domain::caller::Role;
use ai_cache::embedded::RedisServer;
use deadpool_redis::redis::{Cmd, cmd};
use rstest::rstest;
use serde_json::{Value, json};

use super::redis::{
    Process, count_values, first_process, list_values, own_redis, questions, run, wait_for_keys,
};
use crate::support::{TestApp, wait_until};

/// The number of bytes before the sealed ones in a value, and the place of the cost among them.
const FIXED: usize = 121;
const COST: usize = 71;

const VERY_LONG: usize = 4 * 1024 * 1024;

async fn stop(processes: impl IntoIterator<Item = Process>, redis: RedisServer) {
    for process in processes {
        process.app.stop().await;
    }
    redis.stop().await.unwrap();
}

/// Architecture §7: Redis is flushed in the middle: answers come from Postgres and are put back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_flushed_from_redis_is_answered_and_put_back() {
    let redis = own_redis().await;
    let first = first_process(&redis.url()).await;
    let known = questions("known", 40);
    first.ask_all(&known).await;
    wait_for_keys(&redis, 40).await;
    let second = first.another(&redis).await;
    let before = second.ask_all(&known[..20]).await;
    run::<()>(&redis, &cmd("FLUSHALL")).await;
    let after = second.ask_all(&known).await;
    wait_for_keys(&redis, 20).await;
    let third = first.another(&redis).await;
    let back = third.ask_all(&known[20..]).await;
    let bad = before.bad() + after.bad() + back.bad();
    let errors = second.redis_errors().await;
    let sources = [before.sources(), after.sources(), back.sources()];
    println!("before, after, put back: {sources:?}; {bad} bad, errors counted {errors}");
    assert_eq!(sources, [[0, 20, 0, 0], [20, 0, 20, 0], [0, 20, 0, 0]]);
    assert_eq!((bad, errors), (0, 0));
    stop([first, second, third], redis).await;
}

/// Architecture §7: a Redis that refuses writes is still read, refusals are counted, and it is
/// written to as soon as it takes writes again.
#[rstest]
#[case::without_replicas(&["CONFIG", "SET", "min-replicas-to-write", "1"],
    &["CONFIG", "SET", "min-replicas-to-write", "0"])]
#[case::replica_of_nobody(&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_redis_is_read(#[case] freeze: &[&str], #[case] thaw: &[&str]) {
    let command =
        |words: &[&str]| words.iter().fold(Cmd::new(), |mut made, word| made.arg(word).clone());
    let redis = own_redis().await;
    let first = first_process(&redis.url()).await;
    let (known, new) = (questions("known", 20), questions("new", 20));
    first.ask_all(&known).await;
    wait_for_keys(&redis, 20).await;
    let (second, third) = (first.another(&redis).await, first.another(&redis).await);
    run::<()>(&redis, &command(freeze)).await;

    // Nothing is read between these, so that a breaker that counts refusals would open.
    let written = second.ask_all_in("refresh", &new).await;
    let errors = wait_until("every refusal is counted", || async {
        let errors = second.redis_errors().await;
        (errors >= 40).then_some(errors)
    })
    .await;
    let read = second.ask_all(&known).await;
    let (elsewhere, below) = (third.ask_all(&known).await, third.ask_all(&new).await);
    let bad = written.bad() + read.bad() + elsewhere.bad() + below.bad();
    let sources = [written.sources(), read.sources(), elsewhere.sources(), below.sources()];
    println!(
        "80 asked: {bad} bad, from {sources:?}, 20 refusals each of values and leases, errors counted {errors}"
    );
    assert_eq!(sources, [[0, 0, 0, 20], [0, 20, 0, 0], [0, 20, 0, 0], [0, 0, 20, 0]]);
    assert_eq!((bad, errors), (0, 40));

    wait_until("every refusal is counted", || async {
        (third.redis_errors().await == 20).then_some(())
    })
    .await;
    run::<()>(&redis, &command(thaw)).await;
    third.ask_all(&questions("later", 5)).await;
    wait_for_keys(&redis, 25).await;
    stop([first, second, third], redis).await;
}

/// A source of bytes without a pattern, the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

/// A command that leaves something else under a key than the service put there.
fn spoil(kind: usize, key: &[u8], value: &[u8], noise: &mut Noise) -> Cmd {
    let set = |spoilt: &[u8]| cmd("SET").arg(key).arg(spoilt).clone();
    let random_length = noise.below(2_000);
    match kind {
        0 => set(&noise.bytes(random_length)),
        // The first byte is the form's.
        1 => set(&[&value[..1], &noise.bytes(FIXED + random_length)].concat()),
        2 => set(b""),
        3 => cmd("RPUSH").arg(key).arg(value).arg(value).clone(),
        4 => cmd("HSET").arg(key).arg("field").arg(value).clone(),
        5 => set(&value[..noise.below(FIXED)]),
        6 => set(&value[..FIXED + noise.below(value.len() - FIXED)]),
        7 => set(&noise.bytes(1_024).repeat(VERY_LONG / 1_024)),
        8 => set(&[value, &vec![b'x'; VERY_LONG]].concat()),
        9 => set(&[&value[..COST], &[0xff; 8], &value[COST + 8..]].concat()),
        10 => set(&[&value[..FIXED], &noise.bytes(value.len() - FIXED)].concat()),
        _ => {
            let mut changed = value.to_vec();
            changed[FIXED + noise.below(value.len() - FIXED)] ^= 1 << noise.below(8);
            set(&changed)
        }
    }
}

/// Architecture §7, W9: whatever is found under the service's keys, each question gets its own
/// answer from Postgres, and a good value takes the place of the bad one.
#[rstest]
#[case::whatever_it_costs("default")]
#[case::without_the_upstream("only-if-cached")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_redis_never_becomes_an_answer(#[case] mode: &str) {
    const KINDS: usize = 12;
    const EACH: usize = 6;
    let redis = own_redis().await;
    let first = first_process(&redis.url()).await;
    let known = questions("known", KINDS * EACH);
    first.ask_all(&known).await;
    wait_for_keys(&redis, known.len()).await;
    let keys = list_values(&redis).await;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for (index, key) in keys.iter().enumerate() {
        let value: Vec<u8> = run(&redis, cmd("GETDEL").arg(key)).await;
        run::<()>(&redis, &spoil(index % KINDS, key, &value, &mut noise)).await;
    }

    let second = first.another(&redis).await;
    let spoilt = second.ask_all_in(mode, &known).await;
    println!("{} spoilt values: {spoilt:?}", keys.len());
    assert_eq!((spoilt.sources(), spoilt.bad()), ([0, 0, known.len(), 0], 0));
    // A larger cost than the column holds would be recorded otherwise than it is sealed.
    let capped =
        format!("SELECT count(*) FROM ai_cache_audit_logs WHERE cost_picousd = {}", i64::MAX);
    assert_eq!(second.app.db.count(&capped).await, 0);

    let mended = wait_until("good values are in the place of the bad ones", || async {
        let third = first.another(&redis).await;
        let mended = third.ask_all(&known).await;
        third.app.stop().await;
        (mended.warm == known.len()).then_some(mended)
    })
    .await;
    println!("{} values put in their place: {mended:?}", known.len());
    assert_eq!(mended.bad(), 0);
    stop([first, second], redis).await;
}

/// A process without Redis invalidates. A process that began before it refuses exactly the values
/// in Redis that are hit, which is no sign of tampering. The value that another tag's invalidation
/// leaves shows that it knows the labels.
#[rstest]
#[case::everything(json!({ "invalidateAll": true }), "openai")]
#[case::its_tag(json!({ "tag": "mine" }), "openai")]
#[case::another_tag(json!({ "tag": "other" }), "warm")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_holds_is_judged_by_its_labels_and_generation(
    #[case] selector: Value,
    #[case] source: &str,
) {
    let redis = own_redis().await;
    let first = first_process(&redis.url()).await;
    let question = json!({ "query": "a question", "cache": { "tags": ["mine"] } });
    first.caller.query(&question).await.expect(200);
    wait_for_keys(&redis, 1).await;
    // It knows the tenant before the invalidation.
    let second = first.another(&redis).await;
    second.ask_all_in("only-if-cached", &questions("unknown", 1)).await;
    let away = TestApp::builder().db(&first.app.db).start().await;
    let tenants = away.rooms().administration.list_tenants().await.unwrap();
    let tenant = tenants.iter().find(|tenant| tenant.slug == "acme").unwrap().id;
    let admin = away.client.with_token(&away.token(tenant, &[Role::Admin]).await);
    admin.post("/api/ai-cache/invalidate", &selector).await.expect(200);
    second.app.rooms().coherence().catch_up().await.unwrap();
    let held = count_values(&redis).await;
    let reply = second.caller.query(&question).await.expect(200);
    let failures = "SELECT count(*) FROM ai_cache_audit_logs WHERE outcome = 'integrity-failure'";
    let failures = away.db.count(failures).await;
    println!(
        "{selector}: {held} held, answered from {}, {failures} failures",
        reply.body["cacheSource"]
    );
    assert_eq!((held, failures), (1, 0));
    assert_eq!(reply.body["cacheSource"], source);
    away.stop().await;
    stop([first, second], redis).await;
}
