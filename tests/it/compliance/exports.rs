//! The contents of an export: everything on the person at one moment, nothing of anybody else, and
//! one package whatever happens on the way (G3).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};

use ai_cache::crypto::sha256;
use ai_cache::domain::caller::Role;
use ai_cache::domain::entry::Windows;
use ai_cache::domain::token::BearerToken;
use chrono::TimeDelta;
use futures_util::StreamExt;
use futures_util::stream;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::support::services::pg_dump;
use crate::support::{Builder, Client, Tenant, TestApp, TestClock, TestDb, rounds, wait_until};

pub const REQUESTS: &str = "/api/ai-cache/gdpr/requests";

/// Files an export of a person; gives the request's id.
pub async fn file(compliance: &Client, subject: &str) -> String {
    let body = json!({ "type": "export", "subjectId": subject, "reason": "they asked by letter" });
    let filed = compliance.post(REQUESTS, &body).await.expect(202);
    filed.body["id"].as_str().unwrap().to_owned()
}

/// The request once it is completed.
pub async fn completed(compliance: &Client, id: &str) -> Value {
    let path = format!("{REQUESTS}/{id}");
    wait_until("the export is completed", async || {
        let shown = compliance.get(&path).await.expect(200).body;
        assert_ne!(shown["state"], "failed");
        (shown["state"] == "completed").then_some(shown)
    })
    .await
}

/// The result of a download.
pub struct Downloaded {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    /// Whether it ended before its end.
    pub cut: bool,
}

/// Downloads a package. A connection that breaks before the head of the reply was written is a
/// download that was cut after no byte.
pub async fn download(app: &TestApp, token: &str, id: &str) -> Downloaded {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let path = format!("{}{REQUESTS}/{id}/export", app.base());
    let Ok(mut reply) = http.get(path).bearer_auth(token).send().await else {
        return Downloaded { status: 0, headers: HeaderMap::new(), bytes: Vec::new(), cut: true };
    };
    let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
    let mut bytes = Vec::new();
    let cut = loop {
        match reply.chunk().await {
            Ok(Some(chunk)) => bytes.extend(chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    Downloaded { status, headers, bytes, cut }
}

/// Files an export, waits for it and reads its package.
async fn exported(app: &TestApp, tenant: &Tenant, subject: &str) -> Package {
    let id = file(&tenant.compliance, subject).await;
    completed(&tenant.compliance, &id).await;
    let token = app.token(tenant.id, &[Role::Compliance]).await;
    let downloaded = download(app, &token, &id).await;
    assert_eq!((downloaded.status, downloaded.cut), (200, false));
    Package::read(&downloaded.bytes)
}

/// A package whose manifest is right.
pub struct Package {
    pub files: BTreeMap<String, Vec<u8>>,
    pub manifest: Value,
}

impl Package {
    /// Reads a zip; lines, bytes and SHA-256 of each file must be what the manifest says.
    pub fn read(zip: &[u8]) -> Self {
        let mut zip = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
        let mut files = BTreeMap::new();
        for index in 0..zip.len() {
            let mut file = zip.by_index(index).unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            files.insert(file.name().unwrap().into_owned(), bytes);
        }
        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let listed = manifest["files"].as_array().unwrap();
        assert_eq!(listed.len() + 1, files.len(), "the manifest names every other file");
        for told in listed {
            let bytes = &files[told["name"].as_str().unwrap()];
            let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
            let hash = hex::encode(sha256(bytes));
            let found = (json!(lines), json!(bytes.len()), json!(hash));
            let told = (told["lines"].clone(), told["bytes"].clone(), told["sha256"].clone());
            assert_eq!(told, found);
        }
        Self { files, manifest }
    }

    /// The lines of a file.
    pub fn lines(&self, name: &str) -> Vec<Value> {
        let text = std::str::from_utf8(&self.files[name]).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Counts a word in all files.
    pub fn count(&self, word: &str) -> usize {
        let word = word.as_bytes();
        let files = self.files.values();
        files.map(|file| file.windows(word.len()).filter(|part| *part == word).count()).sum()
    }

    fn ids(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> BTreeSet<String> {
        let lines = self.lines(name).into_iter().filter(wanted);
        lines.map(|line| line["entryId"].as_str().unwrap().to_owned()).collect()
    }
}

/// A question of a person, with a marker in each of its texts.
fn question(number: usize, marker: &str, subject: Option<&str>) -> Value {
    let mut body = json!({
        "query": format!("<b>{number}</b> & {marker}"),
        "weddingContext": { "location": format!("hall of {marker}"), "note": format!("'{marker}'") },
        "cache": { "tags": [format!("tag {marker}")] },
    });
    if let Some(subject) = subject {
        body["subjectId"] = json!(subject);
    }
    body
}

async fn ask_many(client: &Client, count: usize, marker: &str, subject: Option<&str>) {
    stream::iter(0..count)
        .for_each_concurrent(16, async |number| {
            client.query_quickly(&question(number, marker, subject)).await.expect(200);
        })
        .await;
}

const MINE: &str = "anna-at-acme";
const OTHERS: [&str; 4] = ["bert-at-acme", "anybody-at-acme", "anna-at-other", "bert-meanwhile"];

/// Issue 5: an export of 1,234 entries (240 outside `make chaos`) while the same and other persons
/// are answered: manifest, lines and the fills of the same snapshot are equal, 0 lines of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_holds_one_snapshot_of_one_person() {
    let app = TestApp::start().await;
    app.upstream.answer_with(|asked| format!("<i>answer</i> to {asked}"));
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let many = rounds(240, 1_234);
    ask_many(&acme.app, many, MINE, Some("anna")).await;
    ask_many(&acme.app, 40, OTHERS[0], Some("bert")).await;
    ask_many(&acme.app, 20, OTHERS[1], None).await;
    ask_many(&other.app, 40, OTHERS[2], Some("anna")).await;
    let hit = acme.app.query(&question(7, MINE, Some("anna"))).await.expect(200);
    assert_eq!(hit.body["cached"], true);
    let mine = "SELECT count(*) FROM ai_cache_entries e WHERE e.subject_key_id = (
                    SELECT subject_key_id FROM ai_cache_entries WHERE entry_id = '{}')";
    let mine = mine.replace("{}", hit.body["entryId"].as_str().unwrap());
    let before = app.db.count(&mine).await;
    let meanwhile = async {
        for round in 0.. {
            let (own, bert) = (format!("{MINE} {round}"), format!("{} {round}", OTHERS[3]));
            tokio::join!(
                ask_many(&acme.app, 8, &own, Some("anna")),
                ask_many(&acme.app, 8, &bert, Some("bert"))
            );
        }
    };
    let package = tokio::select! {
        () = meanwhile => unreachable!("it does not end"),
        package = exported(&app, &acme, "anna") => package,
    };
    let after = app.db.count(&mine).await;

    let entries = package.ids("entries.jsonl", |_| true);
    let filled = package.ids("processing-log.jsonl", |line| {
        (&line["action"], &line["outcome"]) == (&json!("fill"), &json!("stored"))
    });
    let (lines, counts) = (package.lines("entries.jsonl"), &package.manifest["counts"]);
    println!(
        "{before} entries before, {after} after; manifest {}, lines {}, fills in the log {}",
        counts["entries"],
        lines.len(),
        filled.len()
    );
    assert_eq!(counts["entries"], json!(lines.len()));
    assert_eq!(entries.len(), lines.len(), "none twice");
    assert_eq!(entries, filled, "entries and log are of one moment");
    let held = i64::try_from(entries.len()).unwrap();
    assert!(before <= held && held < after, "fills went on");
    assert_eq!(counts["unreadable"], 0);
    assert_eq!(counts["processingLog"], json!(package.lines("processing-log.jsonl").len()));
    assert_eq!(counts["requests"], json!(package.lines("requests.jsonl").len()));
    check_lines(&lines);
    let foreign: Vec<usize> = OTHERS.iter().map(|marker| package.count(marker)).collect();
    println!("lines of others: {foreign:?}");
    assert_eq!(foreign, [0; 4]);
    check_log(&app, &package).await;
    let page = String::from_utf8(package.files["README.html"].clone()).unwrap();
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"), "texts are escaped");
    assert!(!page.contains("<i>answer"));
    assert_eq!(page.matches("<article>").count(), 100);
    let about: Value = serde_json::from_slice(&package.files["about.json"]).unwrap();
    assert_eq!(about["recipients"][0]["name"], "openai");
    app.stop().await;
}

fn check_lines(lines: &[Value]) {
    for line in lines {
        for text in ["query", "answer", "location"] {
            assert!(line[text].as_str().unwrap().contains(MINE), "{line}");
        }
        assert!(line["context"]["note"].as_str().unwrap().contains(MINE));
        assert!(line["tags"][0].as_str().unwrap().contains(MINE));
        assert!(line["model"].is_string() && line["createdAt"].is_string());
        assert!(line["uses"].is_number() && line["expiresAt"].is_string());
    }
}

/// Nobody else is in the log: no token, no network.
async fn check_log(app: &TestApp, package: &Package) {
    let log = package.lines("processing-log.jsonl");
    let hit = log.iter().find(|line| line["outcome"] == "hit").unwrap();
    assert_eq!((&hit["role"], &hit["tier"]), (&json!("app"), &json!("hot")));
    let rows = app.db.superuser().await;
    let tokens = rows.query("SELECT token_id::text FROM api_tokens", &[]).await.unwrap();
    assert!(tokens.len() >= 6);
    for row in tokens {
        assert_eq!(package.count(row.get(0)), 0, "a token is in the package");
    }
    assert_eq!(package.count("127.0.0."), 0);
}

/// Also what nobody is served any more is held: past its time, of an older generation, withdrawn. And
/// what does not open is named, and a finding.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_and_no_longer_served_is_exported_and_what_does_not_open_is_named() {
    let clock = std::sync::Arc::<TestClock>::default();
    let days = TimeDelta::days(30);
    let stale = Windows { if_error: days, ..Windows::default() };
    let app = TestApp::builder().clock(clock.clone()).settings(|settings| settings.stale = stale);
    let app = app.start().await;
    let acme = app.tenant("acme").await;
    let mut keeper = app.db.superuser().await;
    // Nothing is evicted meanwhile.
    let turn = keeper.transaction().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(hashtext('ai-cache eviction'))";
    turn.query(lock, &[]).await.unwrap();
    ask_many(&acme.app, 8, MINE, Some("anna")).await;
    clock.advance(TimeDelta::days(2)); // beyond every time to live
    let sql = app.db.superuser().await;
    sql.batch_execute(
        "UPDATE invalidation_state SET generation = generation + 1;
         UPDATE ai_cache_entries SET withdrawn_at = now()
         WHERE entry_id = (SELECT min(entry_id::text)::uuid FROM ai_cache_entries);
         UPDATE ai_cache_entries SET answer_sealed = question_sealed
         WHERE entry_id = (SELECT max(entry_id::text)::uuid FROM ai_cache_entries)",
    )
    .await
    .unwrap();
    let package = exported(&app, &acme, "anna").await;
    turn.rollback().await.unwrap();
    let broken = "SELECT max(entry_id::text) FROM ai_cache_entries";
    let broken: String = sql.query_one(broken, &[]).await.unwrap().get(0);
    let lines = package.lines("entries.jsonl");
    let withdrawn = lines.iter().filter(|line| line["withdrawnAt"].is_string()).count();
    println!("{} of 8 are readable, {withdrawn} withdrawn", lines.len());
    assert_eq!((lines.len(), withdrawn), (7, 1));
    assert_eq!(package.manifest["counts"]["unreadable"], 1);
    assert_eq!(package.manifest["unreadable"], json!([broken]));
    let found = format!(
        "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'gdpr-export'
         AND outcome = 'integrity-failure' AND entry_id = '{broken}'"
    );
    assert_eq!(app.db.count(&found).await, 1);
    app.stop().await;
}

/// Nothing found is a valid package, too, under the tenant's key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_person_of_whom_nothing_is_held_the_package_says_so() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    ask_many(&acme.app, 3, MINE, Some("anna")).await;
    let package = exported(&app, &acme, "nobody").await;
    let counts = json!({ "entries": 0, "unreadable": 0, "processingLog": 0, "requests": 1 });
    assert_eq!(package.manifest["counts"], counts);
    assert_eq!(package.manifest["subjectId"], "nobody");
    assert_eq!(package.count(MINE), 0);
    let page = String::from_utf8(package.files["README.html"].clone()).unwrap();
    assert!(page.contains("None are kept."));
    let keys = "SELECT count(*) FROM subject_keys";
    assert_eq!(app.db.count(keys).await, 1, "asking makes no key");
    let parts = "SELECT count(*) FROM gdpr_export_parts WHERE subject_key_id IS NULL";
    assert_eq!(app.db.count(parts).await, 1);
    app.stop().await;
}

/// The marks of an unsealed zip: the beginning of each file, and a name.
const ZIPS: [&[u8]; 2] = [b"PK\x03\x04", b"entries.jsonl"];

/// G3: the file is itself encrypted at rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_with_a_package_in_it_shows_nothing_of_it() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    ask_many(&acme.app, 30, MINE, Some("anna")).await;
    let id = file(&acme.compliance, "anna").await;
    completed(&acme.compliance, &id).await;
    let token = app.token(acme.id, &[Role::Compliance]).await;
    let clear = download(&app, &token, &id).await.bytes;
    assert!(Package::read(&clear).count(MINE) > 100);
    let dump = pg_dump(&app.db.url(ai_cache::embedded::SUPERUSER).await, &[]);
    let parts = app.db.superuser().await;
    let parts = parts.query("SELECT sealed FROM gdpr_export_parts", &[]).await.unwrap();
    let sealed: Vec<u8> = parts.iter().flat_map(|row| row.get::<_, Vec<u8>>(0)).collect();
    let hits =
        |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).filter(|part| *part == word).count();
    let hex = hex::encode(MINE);
    let found = [
        hits(&dump, MINE.as_bytes()),
        hits(&dump, hex.as_bytes()),
        hits(&dump, b"anna"),
        hits(&sealed, ZIPS[0]),
        hits(&sealed, ZIPS[1]),
    ];
    assert_eq!(ZIPS.map(|word| hits(&clear, word)), [6, 2], "in the clear they are there");
    println!("{} bytes dumped, {} sealed, hits {found:?}", dump.len(), sealed.len());
    assert!(sealed.len() > 1_000);
    assert_eq!(found, [0; 5]);
    app.stop().await;
}

/// A text of which a zip makes little less.
pub fn noise(seed: u64, length: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 58).unwrap()
    };
    (0..length).map(|_| char::from(LETTERS[next()])).collect()
}

/// A service whose packages have parts of 16 KiB.
pub fn in_small_parts() -> Builder {
    TestApp::builder().settings(|settings| settings.part_bytes = 16 * 1024)
}

/// Fills entries of "anna" whose answers have this length in bytes.
pub async fn ask_for_noise(app: &TestApp, tenant: &Tenant, count: usize, length: usize) {
    app.upstream.answer_with(move |asked| {
        let digits = asked.bytes().rev().take_while(u8::is_ascii_digit).count();
        noise(asked[asked.len() - digits..].parse().unwrap(), length)
    });
    for number in 0..count {
        let body = json!({ "query": format!("noise {number}"), "subjectId": "anna" });
        wait_until("the answer is stored", async || {
            let reply = tenant.app.query_quickly(&body).await.expect(200);
            (reply.body["expiresIn"].as_i64() > Some(0)).then_some(())
        })
        .await;
    }
}

/// Stops whoever stores the second part of a package until the lock is given back.
const BARRIER: &str = "
    CREATE FUNCTION wait_at_part() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.part = 1 THEN PERFORM pg_advisory_xact_lock(4711); END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER wait_at_part BEFORE INSERT ON gdpr_export_parts
        FOR EACH ROW EXECUTE FUNCTION wait_at_part();
    SELECT pg_advisory_lock(4711)";

async fn parts(db: &TestDb) -> i64 {
    db.count("SELECT count(*) FROM gdpr_export_parts").await
}

/// Issue 5: an execution that ended anywhere is taken up by another replica: one package.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_whose_process_ends_in_the_middle_is_made_anew_by_another() {
    let app = in_small_parts().start().await;
    let (db, acme) = (app.db.clone(), app.tenant("acme").await);
    ask_for_noise(&app, &acme, 6, 15_000).await;
    let barrier = db.superuser().await;
    barrier.batch_execute(BARRIER).await.unwrap();
    let id = file(&acme.compliance, "anna").await;
    wait_until("a part is stored", async || (parts(&db).await == 1).then_some(())).await;
    app.stop().await;
    let state = "SELECT count(*) FROM ai_cache_gdpr_requests
                 WHERE state = 'executing' AND lease_until > now()";
    assert_eq!((db.count(state).await, parts(&db).await), (1, 1), "it ended in the middle");
    barrier
        .batch_execute(
            "DROP TRIGGER wait_at_part ON gdpr_export_parts;
             DROP FUNCTION wait_at_part();
             SELECT pg_advisory_unlock(4711);
             UPDATE ai_cache_gdpr_requests SET lease_until = now() - interval '1 second'",
        )
        .await
        .unwrap();
    let second = in_small_parts().db(&db).start().await;
    let compliance = acme.compliance.at(&second.base());
    let shown = completed(&compliance, &id).await;
    let token = second.token(acme.id, &[Role::Compliance]).await;
    assert!(BearerToken::parse(&token).is_some());
    let downloaded = download(&second, &token, &id).await;
    assert_eq!((downloaded.status, downloaded.cut), (200, false));
    let package = Package::read(&downloaded.bytes);
    let begun = "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'gdpr-begin'";
    let (begun, stored) = (db.count(begun).await, parts(&db).await);
    println!(
        "begun {begun} times, {stored} parts of {} bytes, counts {}",
        downloaded.bytes.len(),
        shown["counts"]
    );
    assert!(begun >= 2, "{begun}");
    assert_eq!(shown["counts"]["parts"], json!(stored));
    assert!(stored > 3);
    assert_eq!(package.lines("entries.jsonl").len(), 6);
    assert_eq!(package.manifest["counts"]["entries"], 6);
    second.stop().await;
}
