//! Redis as the program finds it (issue 4): over TLS it trusts what the system trusts, or what
//! SSL_CERT_FILE names; each change of Redis' state is one line of the log.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use ai_cache::domain::caller::Role;
use serde_json::json;

use crate::cli::program::{Program, Serving};
use crate::support::app::MASTER_KEYS;
use crate::support::folders::scratch;
use crate::support::redis_servers::{RedisProcess, own_port};
use crate::support::services::COUNT_VALUES;
use crate::support::{Client, TestApp, TestDb, wait_until};

/// Runs the system's openssl in a folder.
fn openssl(folder: &Path, words: &str) {
    let mut command = Command::new("openssl");
    let output = command.args(words.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Starts a Redis with a certificate for `localhost`. Returns it, its port with TLS, and files with
/// the authority that signed the certificate and with another one.
async fn tls_redis() -> (RedisProcess, u16, [String; 2]) {
    let folder = scratch("tls");
    let new_key = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for name in ["ca", "other"] {
        let made = format!("-x509 -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem");
        openssl(&folder, &format!("{new_key} {made}"));
    }
    openssl(&folder, &format!("{new_key} -subj /CN=redis -keyout redis.key -out redis.csr"));
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
    let sign = "x509 -req -days 2 -in redis.csr -CA ca.pem -CAkey ca.key -set_serial 1";
    openssl(&folder, &format!("{sign} -extfile names -out redis.pem"));
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let port = own_port();
    let server = RedisProcess::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &path("redis.pem"),
        "--tls-key-file",
        &path("redis.key"),
        "--tls-ca-cert-file",
        &path("ca.pem"),
        "--tls-auth-clients",
        "no",
    ])
    .await;
    (server, port, ["ca.pem", "other.pem"].map(path))
}

async fn serve(program: &Program, db: &TestDb, redis_url: &str, authority: &str) -> Serving {
    let variables = [
        ("DATABASE_URL", &*db.app_url().await),
        ("AI_CACHE_MASTER_KEYS", MASTER_KEYS),
        ("AI_CACHE_REDIS_URL", redis_url),
        ("AI_CACHE_REDIS_TIMEOUT_MS", "2000"),
        ("AI_CACHE_UPSTREAM", "demo"),
        ("AI_CACHE_UPSTREAM_DEMO_DELAY_MS", "0"),
        ("SSL_CERT_FILE", authority),
    ];
    program.serve(&variables).await
}

async fn ask(caller: &Client, number: usize) -> String {
    let body = json!({ "query": format!("question {number}") });
    let reply = caller.query(&body).await.expect(200);
    reply.body["cacheSource"].as_str().unwrap().to_owned()
}

/// Returns what it logged about Redis.
fn lines(serving: &Serving) -> Vec<String> {
    serving.log().lines().filter(|line| line.contains("Redis")).map(str::to_owned).collect()
}

/// Redis goes and comes back: a line each, however many ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_of_state_is_one_line() {
    let mut server = RedisProcess::start(&[]).await;
    let app = TestApp::start().await;
    let token = app.token(app.tenant("acme").await.id, &[Role::App]).await;
    let program = Program::new();
    let serving = serve(&program, &app.db, &server.url(), "/dev/null").await;
    let caller = serving.client().with_token(&token);
    for number in 0..10 {
        ask(&caller, number).await;
    }
    assert_eq!(lines(&serving), [""; 0]);
    server.kill();
    for number in 10..60 {
        ask(&caller, number).await;
    }
    let down = lines(&serving);
    server.start_again().await;
    let next = AtomicUsize::new(60);
    wait_until("Redis is used again", || async {
        ask(&caller, next.fetch_add(1, Ordering::SeqCst)).await;
        (server.run::<usize>(&["DBSIZE"]).await > 5).then_some(())
    })
    .await;
    let after = lines(&serving);
    println!("50 asked without Redis, then {} with it: {after:#?}", next.into_inner() - 60);
    assert_eq!((down.len(), after.len()), (1, 2));
    assert!(after[0].contains("Redis fails and is left alone"));
    assert!(after[1].contains("Redis is used again"));
    assert_eq!(serving.stop().await, Some(0));
    app.stop().await;
}

/// A program finds what another one keeps in Redis over TLS. A program that trusts another
/// authority works without Redis, and says so once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_used_over_tls_and_not_with_a_certificate_of_anybody() {
    let (server, port, [authority, other]) = tls_redis().await;
    let app = TestApp::start().await;
    let token = app.token(app.tenant("acme").await.id, &[Role::App]).await;
    let url = format!("rediss://localhost:{port}");
    let programs = [Program::new(), Program::new(), Program::new()];
    let first = serve(&programs[0], &app.db, &url, &authority).await;
    let caller = first.client().with_token(&token);
    for number in 0..20 {
        assert_eq!(ask(&caller, number).await, "demo");
    }
    wait_until("every value is in Redis", || async {
        (server.run::<usize>(&["EVAL", COUNT_VALUES, "0"]).await == 20).then_some(())
    })
    .await;
    let second = serve(&programs[1], &app.db, &url, &authority).await;
    let third = serve(&programs[2], &app.db, &url, &other).await;
    let (mut warm, mut cold) = (0, 0);
    for number in 0..20 {
        let source = ask(&second.client().with_token(&token), number).await;
        warm += usize::from(source == "warm");
        let source = ask(&third.client().with_token(&token), number).await;
        cold += usize::from(source == "cold");
    }
    println!(
        "{warm} of 20 warm; without trust {cold} of 20 cold, which logged {:#?}",
        lines(&third)
    );
    assert_eq!((warm, cold), (20, 20));
    assert_eq!((lines(&first).len(), lines(&second).len()), (0, 0));
    let [line] = &lines(&third)[..] else { panic!("one line") };
    assert!(line.contains("the certificate of Redis is not trusted"), "{line}");
    for serving in [first, second, third] {
        assert_eq!(serving.stop().await, Some(0));
    }
    app.stop().await;
}
