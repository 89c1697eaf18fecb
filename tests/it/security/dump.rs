//! A dump of Postgres, of Redis and of the logs tells no question, no answer, no person and no
//! secret (W9, issue 2 "Must show").

use std::path::{Path, PathBuf};

use ai_cache::domain::token::BearerToken;
use ai_cache::embedded::{Lifetime, Listen, RedisOptions, RedisServer, SUPERUSER};
use serde_json::{Value, json};

use crate::cli::program::{Program, Serving};
use crate::support::app::MASTER_KEYS;
use crate::support::folders::scratch;
use crate::support::services::pg_dump;
use crate::support::services::{postgres_log, search_path};
use crate::support::upstream::TestUpstream;
use crate::support::{Client, TestDb, rounds};

use super::disguise::{Search, with_bytea_decoded};
use super::{connect, everything_in_redis, set_in_redis};

const MARK: &str = "quokkaquartz";
const KINDS: [&str; 8] =
    ["query", "subject", "parameter", "location", "vendor", "context", "tag", "answer"];

fn marked(kind: &str, index: usize) -> String {
    format!("{MARK}-{kind}-{index}")
}

fn question(index: usize) -> Value {
    let mark = |kind| marked(kind, index);
    json!({
        "query": mark("query"),
        "subjectId": mark("subject"),
        "parameters": { "marker": mark("parameter") },
        "weddingContext": { "location": mark("location"), "vendorTypes": [mark("vendor")],
                            "note": mark("context") },
        "cache": { "tags": [mark("tag")] },
    })
}

/// Every file in a folder, one after another.
fn files(folder: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            out.extend(files(&path));
        } else if entry.file_type().unwrap().is_file() {
            out.extend(std::fs::read(path).unwrap());
        }
    }
    out
}

/// The world that is searched.
struct World {
    db: TestDb,
    redis: RedisServer,
    redis_folder: PathBuf,
    upstream: TestUpstream,
    program: Program,
}

impl World {
    async fn new() -> Self {
        let redis_folder = scratch("redis");
        let options = RedisOptions {
            lifetime: Lifetime::Disposable,
            listen: Listen::Unix,
            ..RedisOptions::new(search_path())
        };
        let redis = RedisServer::start(&redis_folder, options).await.unwrap();
        let upstream = TestUpstream::start().await;
        upstream.answer_with(|asked| {
            let (_, rest) = asked.split_once(&format!("{MARK}-query-")).unwrap();
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            marked("answer", rest[..digits].parse().unwrap())
        });
        let (db, program) = (TestDb::new().await, Program::new());
        Self { db, redis, redis_folder, upstream, program }
    }

    async fn serve(&self) -> Serving {
        let (url, redis) = (self.db.app_url().await, self.redis.url());
        let variables = [
            ("DATABASE_URL", url.as_str()),
            ("AI_CACHE_REDIS_URL", &redis),
            ("AI_CACHE_MASTER_KEYS", MASTER_KEYS),
            ("AI_CACHE_LOG", "trace"),
            ("AI_CACHE_UPSTREAM", "openai"),
            ("AI_CACHE_UPSTREAM_URL", self.upstream.url()),
            ("AI_CACHE_UPSTREAM_API_KEY", "quokkaquartz-upstream-key"),
        ];
        self.program.serve(&variables).await
    }

    /// Postgres, Redis, logs and files, and their names.
    async fn dumps(&self, keys: usize, serving: &Serving) -> [(&'static str, Vec<u8>); 4] {
        let values = everything_in_redis(&connect(&self.redis).await, keys).await;
        let logs = [
            serving.log().into_bytes(),
            serving.announced.join("\n").into_bytes(),
            files(&self.redis_folder),
            postgres_log(),
        ];
        [
            ("Postgres", with_bytea_decoded(&pg_dump(&self.db.url(SUPERUSER).await, &[]))),
            ("Redis", values.into_iter().flat_map(|(key, value)| [key, value].concat()).collect()),
            ("the logs", logs.concat()),
            ("the data folder", files(&self.program.path("data"))),
        ]
    }
}

/// The markers, the exact values, the prompts as sent, the tokens' secrets and the master key.
async fn search_for(world: &World, queries: usize, tokens: &[String]) -> Search {
    let mut search = Search::default();
    search.marker(MARK.as_bytes());
    search.marker(b"words of an error's body");
    search.marker(b"words of a bad body");
    search.marker(b"0123456789abcdef0123456789abcdef");
    let mut values: Vec<String> =
        (0..queries).flat_map(|index| KINDS.map(|kind| marked(kind, index))).collect();
    for request in world.upstream.requests() {
        let messages = request.body["messages"].as_array().unwrap();
        let user = messages.iter().filter(|message| message["role"] == "user");
        values.extend(user.map(|message| message["content"].as_str().unwrap().to_owned()));
    }
    for token in tokens {
        let (_, secret) = token.strip_prefix("aic_").unwrap().split_once('_').unwrap();
        let raw = BearerToken::parse(token).unwrap();
        search.marker(secret.as_bytes());
        search.marker(raw.secret());
        values.extend([secret.to_owned(), token.clone()]);
        search.hash(&ai_cache::crypto::sha256(raw.secret()), "a token's secret bytes");
    }
    for value in &values {
        search.hashes_of(value);
    }
    // MD5 is not among our crates; Postgres has it.
    let md5 = "SELECT decode(md5(value), 'hex') FROM unnest($1::text[]) AS value";
    for row in world.db.superuser().await.query(md5, &[&values]).await.unwrap() {
        search.hash(row.get(0), "a value");
    }
    search
}

/// Requests that fail with markers in every part that a log line might quote.
async fn fail_with_markers(caller: &Client, upstream: &TestUpstream) {
    let stranger = "stray request with quokkaquartz";
    caller.post("/api/ai-cache/query", &json!({ "query": "x", MARK: MARK })).await.expect(422);
    caller.query(&json!({ "query": 1, "subjectId": [MARK] })).await.expect(422);
    let cut = format!("{{\"query\": \"{stranger}").into_bytes();
    caller.send_raw("POST", "/api/ai-cache/query", cut).await.expect(400);
    let twice = format!("{{\"{MARK}\": 1, \"{MARK}\": 2}}").into_bytes();
    caller.send_raw("POST", "/api/ai-cache/query", twice).await.expect(400);
    caller.get(&format!("/api/ai-cache/{MARK}")).await.expect(404);
    caller.get(&format!("/api/ai-cache/entries?location={MARK}")).await.expect(403);
    caller.with_token(&format!("aic_{MARK}_{MARK}")).ask(stranger).await.expect(401);
    let named = caller.with_header("x-request-id", MARK).with_header("user-agent", MARK);
    named.with_header("cookie", MARK).send("PUT", "/api/ai-cache/query").await.expect(405);
    upstream.then_status(400, None);
    caller.ask(&format!("{MARK}-query-0 refused")).await.expect(502);
    upstream.then_garbage();
    caller.ask(&format!("{MARK}-query-0 garbled")).await.expect(502);
}

/// 60 queries (200 in `make chaos`) with markers in every field, answered from the upstream and again from the cache, and
/// failures of all kinds: 0 markers in Postgres, Redis, the logs at trace level and the files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dumps_of_postgres_redis_and_the_logs_hold_no_marker() {
    let (queries, world) = (rounds(60, 200), World::new().await);
    let create = ["tenant", "create", "acme", "--name", "Acme", "--json"];
    world.program.json_on(&world.db, &create).await;
    let mut tokens = Vec::new();
    for role in ["app", "admin"] {
        let create = ["token", "create", "--tenant", "acme", "--role", role, "--json"];
        let made = world.program.json_on(&world.db, &create).await;
        tokens.push(made["token"].as_str().unwrap().to_owned());
    }
    let serving = world.serve().await;
    let caller = serving.client().with_token(&tokens[0]);
    let admin = serving.client().with_token(&tokens[1]);
    for cached in [false, true] {
        for index in 0..queries {
            let reply = caller.query(&question(index)).await.expect(200);
            let answer = &reply.body["data"]["response"];
            assert_eq!(
                (answer, &reply.body["cached"]),
                (&marked("answer", index).into(), &cached.into())
            );
        }
    }
    fail_with_markers(&caller, &world.upstream).await;
    let made = admin.post("/api/ai-cache/tokens", &json!({ "roles": ["app"] })).await.expect(201);
    tokens.push(made.body["token"].as_str().unwrap().to_owned());
    let listed = admin.get("/api/ai-cache/entries?limit=500").await.expect(200);
    assert_eq!(listed.body["entries"].as_array().unwrap().len(), queries);

    let search = search_for(&world, queries, &tokens).await;
    let mut hits = Vec::new();
    for (name, dump) in world.dumps(queries, &serving).await {
        let found = search.hits(&dump);
        println!("{name}: {} bytes, {} needles, {} hits", dump.len(), search.len(), found.len());
        hits.extend(found.into_iter().map(|found| format!("{found} in {name}")));
    }
    assert_eq!(hits, Vec::<String>::new());
    let log = serving.log();
    let access = log.lines().filter(|line| line.contains("ai_cache::access")).count();
    println!("{} lines of log, {access} of them of requests", log.lines().count());
    assert!(access > 2 * queries, "the log is at trace level");

    // The dumps are able to show what is there.
    let plant = "CREATE TABLE planted AS SELECT convert_to('quokkaquartz', 'UTF8') AS it";
    world.db.superuser().await.batch_execute(plant).await.unwrap();
    set_in_redis(&connect(&world.redis).await, b"planted", MARK.as_bytes()).await;
    let [(_, postgres), (_, redis), _, _] = world.dumps(queries + 1, &serving).await;
    assert_eq!((search.hits(&postgres).len(), search.hits(&redis).len()), (2, 1));
    assert_eq!(serving.stop().await, Some(0));
    world.redis.stop().await.unwrap();
}
