//! A dump of Postgres, of Redis and of the logs tells no question, no answer, no person (W9).

use ai_cache::crypto::sha256;
use ai_cache::embedded::{Listen, SUPERUSER};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use deadpool_redis::redis::cmd;
use serde_json::json;

use crate::support::services::start_redis;
use crate::support::{TestApp, wait_until};

const QUERIES: usize = 200;

/// Everything a marker may look like in a dump.
fn disguises(marker: &str) -> Vec<Vec<u8>> {
    let bytes = marker.as_bytes();
    let mut forms =
        vec![bytes.to_vec(), hex::encode(bytes).into(), hex::encode_upper(bytes).into()];
    for shift in 0..3 {
        // Three alignments; the characters at the ends depend on the neighbours and are cut off.
        let padded = [&vec![0; shift][..], bytes].concat();
        for engine in [&STANDARD, &URL_SAFE] {
            let text = engine.encode(&padded);
            let text = text.trim_end_matches('=');
            forms.push(text.as_bytes()[(shift * 2)..text.len() - 2].to_vec());
        }
    }
    let hash = sha256(bytes);
    forms.extend([hash.to_vec(), hex::encode(hash).into(), STANDARD.encode(hash).into()]);
    forms
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn hits(dump: &[u8], markers: &[String]) -> usize {
    let text = String::from_utf8_lossy(dump);
    markers
        .iter()
        .flat_map(|marker| disguises(marker))
        .filter(|form| match std::str::from_utf8(form) {
            Ok(form) => text.contains(form),
            Err(_) => contains(dump, form),
        })
        .count()
}

fn pg_dump(url: &str) -> Vec<u8> {
    let program = std::fs::read_dir("/usr/lib/postgresql").ok().and_then(|versions| {
        versions.filter_map(Result::ok).map(|folder| folder.path().join("bin/pg_dump")).max()
    });
    let program = program.unwrap_or_else(|| "pg_dump".into());
    let output = std::process::Command::new(program).arg(url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// 200 queries with markers everywhere: 0 of them in Postgres and Redis, in any disguise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dumps_of_postgres_and_redis_hold_no_marker() {
    let redis = start_redis(Listen::Unix).await;
    let app = TestApp::builder().redis_url(&redis.url()).start().await;
    app.upstream.answer_with(|asked| format!("the answer marker-answer-{}", asked.len()));
    let tenant = app.tenant("acme").await;
    for index in 0..QUERIES {
        let question = json!({
            "query": format!("marker-query-{index}"),
            "subjectId": format!("marker-subject-{}", index % 20),
            "parameters": { "marker": format!("marker-parameter-{index}") },
            "weddingContext": { "location": format!("marker-location-{index}"),
                                "vendorTypes": [format!("marker-vendor-{index}")],
                                "note": format!("marker-context-{index}") },
            "cache": { "tags": [format!("marker-tag-{index}")] },
        });
        tenant.app.query(&question).await.expect(200);
    }
    let names = ["query", "location", "vendor", "context", "tag", "parameter", "subject", "answer"];
    let mut markers: Vec<String> = names.iter().map(|name| format!("marker-{name}-")).collect();
    markers.extend((0..20).flat_map(|index| names.map(|name| format!("marker-{name}-{index}"))));

    let client = deadpool_redis::redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<Vec<u8>> = wait_until("every value is in Redis", || {
        let mut connection = connection.clone();
        async move {
            let keys: Vec<Vec<u8>> =
                cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
            (keys.len() == QUERIES).then_some(keys)
        }
    })
    .await;
    let mut redis_dump = Vec::new();
    for key in &keys {
        let value: Vec<u8> = cmd("GET").arg(key).query_async(&mut connection).await.unwrap();
        redis_dump.extend_from_slice(key);
        redis_dump.extend_from_slice(&value);
    }
    let postgres_dump = pg_dump(&app.db.url(SUPERUSER).await);
    let found = (hits(&postgres_dump, &markers), hits(&redis_dump, &markers));
    println!(
        "searched {} bytes of Postgres and {} of Redis for {} markers: {found:?} hits",
        postgres_dump.len(),
        redis_dump.len(),
        markers.len()
    );
    assert_eq!(app.db.count("SELECT count(*) FROM ai_cache_entries").await, 200);
    assert_eq!(found, (0, 0));
    app.stop().await;
    redis.stop().await.unwrap();
}

/// The search above can find.
#[test]
fn the_search_finds_a_marker_in_every_disguise() {
    let marker = vec!["marker-query-7".to_owned()];
    let plain = b"xx marker-query-7 yy".to_vec();
    let encoded = STANDARD.encode(b"some text with marker-query-7 inside").into_bytes();
    let hexed = hex::encode("marker-query-7").into_bytes();
    let hashed = sha256(b"marker-query-7").to_vec();
    for dump in [plain, encoded, hexed, hashed] {
        assert!(hits(&dump, &marker) > 0);
    }
    assert_eq!(hits(b"nothing of the kind", &marker), 0);
}
