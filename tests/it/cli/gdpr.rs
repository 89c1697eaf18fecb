//! `ai-cache gdpr …` (issue 5, api.md "Command line").

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{TestDb, wait_until};

use super::program::Program;

const PERSON: &str = "quokkaquartz-couple-1";

fn filing<'a>(kind: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let file = ["gdpr", "file", "--tenant", "acme", "--type", kind, "--subject", PERSON];
    [&file[..], &["--reason", "the person asked", "--json"], more].concat()
}

/// Filed, listed, shown and decided on from the command line; executed by the service; its certificate
/// verified without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_filed_and_certificates_verified_from_the_command_line() {
    let (program, db) = (Program::new(), TestDb::new().await);
    program.json_on(&db, &["tenant", "create", "acme", "--name", "Acme", "--json"]).await;
    let withdrawn = program.json_on(&db, &filing("export", &["--reference", "letter 1"])).await;
    assert_eq!(
        (&withdrawn["state"], &withdrawn["reference"]),
        (&json!("approved"), &json!("letter 1"))
    );
    let id = withdrawn["id"].as_str().unwrap();
    let cancel = ["gdpr", "cancel", id, "--tenant", "acme", "--reason", "withdrawn", "--json"];
    assert_eq!(program.json_on(&db, &cancel).await["state"], "cancelled");
    let again = program.run_on(&db, &cancel).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert_eq!(again.err, "ai-cache: a request that is cancelled does not take cancel\n");

    let key = ["--idempotency-key", "letter-2"];
    let filed = program.json_on(&db, &filing("erase", &key)).await;
    let id = filed["id"].as_str().unwrap();
    assert_eq!(program.json_on(&db, &filing("erase", &key)).await["id"], id);
    let serving = program.serve_on(&db).await;
    let show = ["gdpr", "show", id, "--tenant", "acme", "--json"];
    let shown = wait_until("the service executes it", || async {
        let shown = program.json_on(&db, &show).await;
        (shown["state"] == "completed").then_some(shown)
    })
    .await;
    assert_eq!((&shown["subjectId"], &shown["filedBy"]), (&json!(PERSON), &Value::Null));
    let list = ["gdpr", "list", "--tenant", "acme", "--state", "completed", "--json"];
    assert_eq!(program.json_on(&db, &list).await.as_array().unwrap().len(), 1);

    let (_, genuine) = download(&program, &db, id, "certificate.json", 0).await;
    let body = std::fs::read_to_string(&genuine).unwrap();
    let changed = body.replace("\"postgresEntries\": 0", "\"postgresEntries\": 1");
    assert_ne!(changed, body);
    let changed = program.write("changed.json", &changed, 0o600);
    let other = program.write("other.json", "{}", 0o600);
    let mut codes = Vec::new();
    for file in [genuine, changed, other, program.path("missing.json")] {
        let verify = ["gdpr", "verify-certificate", file.to_str().unwrap()];
        codes.push(program.run_on(&db, &verify).await.code.unwrap());
    }
    println!("genuine, changed, no certificate, no file: exit codes {codes:?}");
    assert_eq!(codes, [0, 1, 1, 2]);
    assert_eq!(serving.stop().await, Some(0));
}

async fn download(
    program: &Program,
    db: &TestDb,
    id: &str,
    file: &str,
    code: i32,
) -> (String, PathBuf) {
    let path = program.path(file);
    let arguments = ["gdpr", "download", id, "--tenant", "acme", "--output"];
    let output = path.display().to_string();
    let done = program.run_on(db, &[&arguments[..], &[output.as_str()]].concat()).await;
    assert_eq!(done.code, Some(code), "{done:?}");
    (if code == 0 { done.out } else { done.err }, path)
}

/// A package comes into a new file of its user's alone, with two records; nothing that is
/// there is written over, and nothing is left of what could not be had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_is_downloaded_from_the_command_line() {
    let (program, db) = (Program::new(), TestDb::new().await);
    program.json_on(&db, &["tenant", "create", "acme", "--name", "Acme", "--json"]).await;
    let filed = program.json_on(&db, &filing("export", &[])).await;
    let id = filed["id"].as_str().unwrap();
    let (line, path) = download(&program, &db, id, "early.zip", 1).await;
    assert!(line.contains("approved"), "{line}");
    assert!(!path.exists());
    let serving = program.serve_on(&db).await;
    let show = ["gdpr", "show", id, "--tenant", "acme", "--json"];
    wait_until("the service executes it", || async {
        (program.json_on(&db, &show).await["state"] == "completed").then_some(())
    })
    .await;
    assert_eq!(serving.stop().await, Some(0));

    let (line, path) = download(&program, &db, id, "export.zip", 0).await;
    let package = std::fs::read(&path).unwrap();
    assert_eq!(line, format!("{} bytes in {}\n", package.len(), path.display()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let archive = zip::ZipArchive::new(std::io::Cursor::new(&package)).unwrap();
    assert!(archive.index_for_name("manifest.json").is_some());
    let (line, path) = download(&program, &db, id, "export.zip", 2).await;
    assert_eq!(line, format!("ai-cache: {} is there already\n", path.display()));
    assert_eq!(std::fs::read(&path).unwrap(), package);

    let of = |action: &str| {
        format!("SELECT count(*) FROM ai_cache_audit_logs WHERE action = '{action}'")
    };
    let told = [db.count(&of("gdpr-download")).await, db.count(&of("gdpr-download-end")).await];
    println!("one download, and one that found a file there: records begun, ended: {told:?}");
    assert_eq!(told, [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_words_are_refused_in_one_line() {
    let (program, db) = (Program::new(), TestDb::new().await);
    for (arguments, line) in [
        (&["gdpr", "show", "x", "--tenant", "acme"][..], "that is no request's id"),
        (
            &["gdpr", "list", "--tenant", "Acme!"][..],
            "a tenant's slug must be 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit",
        ),
    ] {
        let done = program.run_on(&db, arguments).await;
        assert_eq!((done.code, done.err), (Some(2), format!("ai-cache: {line}\n")));
    }
    let nobody = ["gdpr", "list", "--tenant", "nobody"];
    let done = program.run_on(&db, &nobody).await;
    assert_eq!((done.code, &*done.err), (Some(1), "ai-cache: there is no such tenant\n"));
}
