//! The load generator against a server that answers as told: what it counts is exact, what it
//! meets that is no good reply is named, and nothing makes it hang or spin.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

pub mod canned;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ai_cache::domain::ids::TokenId;
use ai_cache::domain::token::BearerToken;
use ai_cache::http::floor;
use ai_cache::loadgen::{
    self, Address, AddressError, Amount, FailureKind, LoadOutcome, LoadPlan, LoadProgress, Request,
};
use canned::{Answer, Canned, hit, reply};
use rstest::rstest;
use uuid::Uuid;

fn plan(target: SocketAddr, concurrency: usize, amount: Amount) -> LoadPlan {
    let address = Address::from(target);
    let requests: Arc<[Request]> = ["one", "two", "three", "four"]
        .iter()
        .map(|body| Request::post_json(&address, "/ask", None, body.as_bytes()))
        .collect();
    LoadPlan::new(target, NonZeroUsize::new(concurrency).unwrap(), amount, requests)
}

async fn run(plan: LoadPlan) -> LoadOutcome {
    loadgen::run(plan, Arc::default()).await.unwrap()
}

#[rstest]
#[case(1)]
#[case(2)]
#[tokio::test]
async fn each_request_is_sent_once_and_counted_once(#[case] threads: usize) {
    let server = Canned::start(|_| Answer::Bytes(hit()));
    let progress = Arc::new(LoadProgress::default());
    let mut plan = plan(server.addr, 8, Amount::Requests(1_000));
    plan.threads = NonZeroUsize::new(threads).unwrap();

    let outcome = loadgen::run(plan, Arc::clone(&progress)).await.unwrap();

    assert_eq!((outcome.requests, outcome.replies), (1_000, 1_000));
    assert_eq!((server.requests(), progress.requests()), (1_000, 1_000));
    assert_eq!((outcome.failures.total(), progress.failures()), (0, 0));
    for body in ["one", "two", "three", "four"] {
        assert_eq!(server.count_of(body.as_bytes()), 250, "body {body}");
    }
    assert_eq!(server.connections(), 8, "connections are kept");
    assert_eq!(outcome.body_bytes, 1_000 * 15);
}

#[tokio::test]
async fn hits_and_audited_replies_are_told_from_the_others() {
    let server = Canned::start(|number| {
        Answer::Bytes(match number % 4 {
            0 => reply("200 OK", &["X-Cache: MISS", "x-audit-id: 7"], "{}"),
            1 => reply("200 OK", &["Cache-Status: ai-cache; hit; ttl=9"], "{}"),
            2 => reply("200 OK", &["Cache-Status: ai-cache; fwd=miss; stored"], "{}"),
            _ => hit(),
        })
    });
    let outcome = run(plan(server.addr, 4, Amount::Requests(400))).await;
    assert_eq!((outcome.replies, outcome.hits, outcome.audited), (400, 200, 200));
    assert!((outcome.hit_rate() - 0.5).abs() < f64::EPSILON);
}

#[rstest]
#[case(FailureKind::Redirection, Answer::Bytes(reply("302 Found", &[], "")), "status 302")]
#[case(FailureKind::ClientError, Answer::Bytes(reply("401 Unauthorized", &[], "{}")), "401")]
#[case(FailureKind::ServerError, Answer::Bytes(reply("503 Busy", &[], "{}")), "status 503")]
#[case(FailureKind::Disconnected, Answer::Close(Vec::new()), "closed")]
#[case(FailureKind::Disconnected, Answer::Close(hit()[..60].to_vec()), "closed")]
#[case(FailureKind::Protocol, Answer::Bytes(b"SSH-2.0-x\r\n\r\n".to_vec()), "status line")]
#[case(
    FailureKind::Protocol,
    Answer::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec()),
    "chunked"
)]
#[case(
    FailureKind::Protocol,
    Answer::Bytes(b"HTTP/1.1 200 OK\r\n\r\nbody".to_vec()),
    "no Content-Length"
)]
#[case(
    FailureKind::Protocol,
    Answer::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_vec()),
    "not one number"
)]
#[case(FailureKind::Protocol, Answer::Bytes([hit(), b"x".to_vec()].concat()), "more bytes")]
#[case(FailureKind::Protocol, Answer::Bytes(vec![b'x'; 20_000]), "longer than 16384")]
#[case(FailureKind::Timeout, Answer::Silence, "time allowed")]
#[tokio::test]
async fn a_failure_is_counted_under_its_kind_and_the_next_request_goes_on(
    #[case] kind: FailureKind,
    #[case] answer: Answer,
    #[case] text: &str,
) {
    let bad = std::sync::Mutex::new(Some(answer));
    let server = Canned::start(move |number| {
        let third = if number == 2 { bad.lock().unwrap().take() } else { None };
        third.unwrap_or_else(|| Answer::Bytes(hit()))
    });
    let mut plan = plan(server.addr, 1, Amount::Requests(10));
    plan.request_timeout = Duration::from_millis(200);

    let outcome = run(plan).await;

    assert_eq!((outcome.requests, outcome.replies), (10, 9));
    assert_eq!((outcome.failures.count(kind), outcome.failures.total()), (1, 1));
    let (_, _, example) = outcome.failures.iter().next().unwrap();
    assert!(example.contains(text), "{example}");
}

#[tokio::test]
async fn a_reply_in_pieces_or_larger_than_the_buffer_is_read_whole() {
    let large = "x".repeat(100_000);
    let pieces = "y".repeat(300);
    let server = Canned::start(move |number| match number {
        0 => Answer::Bytes(reply("200 OK", &["X-Cache: HIT"], &large)),
        _ => Answer::Piecemeal(reply("200 OK", &["X-Cache: HIT"], &pieces)),
    });
    let outcome = run(plan(server.addr, 1, Amount::Requests(3))).await;
    assert_eq!((outcome.replies, outcome.hits, outcome.body_bytes), (3, 3, 100_600));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_reply_that_closes_its_connection_is_no_failure() {
    let server = Canned::start(|_| {
        Answer::Close(reply("200 OK", &["Connection: close", "X-Cache: HIT"], "{}"))
    });
    let outcome = run(plan(server.addr, 2, Amount::Requests(20))).await;
    assert_eq!((outcome.replies, outcome.failures.total()), (20, 0));
    assert_eq!(server.connections(), 20);
}

#[tokio::test]
async fn percentiles_show_the_slow_replies_where_they_are() {
    let server = Canned::start(|number| match number % 10 {
        0 => Answer::Late(hit(), Duration::from_millis(60)),
        _ => Answer::Bytes(hit()),
    });
    let outcome = run(plan(server.addr, 1, Amount::Requests(100))).await;
    let [p50, p95, p99] = [0.50, 0.95, 0.99].map(|quantile| outcome.latency_ms(quantile));
    assert!(p50 > 0.0 && p50 < 60.0, "p50 {p50} ms");
    assert!((60.0..10_000.0).contains(&p95) && p95 <= p99, "p95 {p95} ms, p99 {p99} ms");
    assert!(outcome.elapsed >= Duration::from_millis(600), "{:?}", outcome.elapsed);
    assert!(outcome.replies_per_second() < 100.0 / 0.6);
}

#[tokio::test]
async fn the_warm_up_is_not_counted() {
    let server = Canned::start(|_| Answer::Bytes(hit()));
    let (warm_up, measured) = (Duration::from_millis(200), Duration::from_millis(300));
    let outcome = run(plan(server.addr, 4, Amount::For { warm_up, measured })).await;
    assert!(outcome.replies > 0 && outcome.replies < server.requests());
    assert_eq!(outcome.requests, outcome.replies);
    assert!(outcome.elapsed >= measured, "{:?}", outcome.elapsed);
}

/// Each of two callers may try once per pause of 50 ms.
#[tokio::test]
async fn a_port_nobody_listens_on_is_tried_at_a_walking_pace() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let measured = Duration::from_millis(400);
    let amount = Amount::For { warm_up: Duration::ZERO, measured };
    let outcome = run(plan(target, 2, amount)).await;
    assert_eq!(outcome.failures.count(FailureKind::Connect), outcome.requests);
    assert!((2..=16).contains(&outcome.requests), "{} attempts", outcome.requests);
    assert_eq!(outcome.replies, 0);
    assert!(outcome.replies_per_second() < f64::EPSILON && outcome.hit_rate() < f64::EPSILON);
}

#[tokio::test]
async fn a_server_that_stops_midway_neither_hangs_nor_spins_the_load() {
    let server = Canned::start(|number| match number {
        0..100 => Answer::Bytes(hit()),
        _ => Answer::Stop,
    });
    let measured = Duration::from_secs(1);
    let amount = Amount::For { warm_up: Duration::ZERO, measured };
    let begun = Instant::now();
    let outcome = run(plan(server.addr, 4, amount)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(outcome.replies >= 96, "{} replies", outcome.replies);
    let failures = outcome.failures.total();
    assert!((4..=4 * 20 + 4).contains(&failures), "{failures} failures");
    assert_eq!(outcome.requests, outcome.replies + failures);
}

#[tokio::test]
async fn dropping_the_load_ends_it() {
    let server = Canned::start(|_| Answer::Bytes(hit()));
    let amount = Amount::For { warm_up: Duration::ZERO, measured: Duration::from_hours(1) };
    let progress = Arc::new(LoadProgress::default());
    let load = loadgen::run(plan(server.addr, 2, amount), Arc::clone(&progress));
    let dropped = tokio::time::timeout(Duration::from_millis(300), load).await;
    assert!(dropped.is_err());
    // The load's thread holds the last clone; it lets go of it when it has ended.
    let gone = Instant::now() + Duration::from_secs(5);
    while Arc::strong_count(&progress) > 1 && Instant::now() < gone {
        std::thread::yield_now();
    }
    assert_eq!(Arc::strong_count(&progress), 1, "the load's thread still runs");
}

#[tokio::test]
async fn a_plan_that_asks_nothing_is_refused() {
    let mut plan = plan("127.0.0.1:1".parse().unwrap(), 1, Amount::Requests(1));
    plan.requests = Arc::new([]);
    let refused = loadgen::run(plan, Arc::default()).await;
    assert!(matches!(refused, Err(loadgen::LoadError::NoRequests)));
}

#[rstest]
#[case("http://127.0.0.1:8080", "127.0.0.1:8080")]
#[case("HTTP://127.0.0.1:8080/", "127.0.0.1:8080")]
#[case("http://[::1]:8080", "[::1]:8080")]
#[case("http://127.0.0.1", "127.0.0.1:80")]
fn an_address_is_scheme_host_and_port(#[case] url: &str, #[case] socket: &str) {
    assert_eq!(Address::parse(url).unwrap().socket(), socket.parse().unwrap());
}

#[rstest]
#[case("https://127.0.0.1:8443")]
#[case("HTTPS://example.org")]
fn https_is_refused_by_name(#[case] url: &str) {
    let refused = Address::parse(url).unwrap_err();
    assert!(matches!(refused, AddressError::Https(_)));
    assert!(refused.to_string().contains("https"), "{refused}");
}

#[rstest]
#[case("127.0.0.1:8080")]
#[case("ftp://127.0.0.1")]
#[case("http://")]
#[case("http://127.0.0.1:8080/api")]
#[case("http://user@127.0.0.1:8080")]
#[case("http://127.0.0.1:80\r\nX: y")]
#[case("http://127.0.0.1:99999")]
#[case("http://[::1")]
#[case("http://[::1]8080")]
#[case("http://[[::1]]:80")]
#[case("")]
fn what_is_more_or_less_than_scheme_host_and_port_is_refused(#[case] url: &str) {
    assert!(matches!(Address::parse(url), Err(AddressError::Form(_))), "{url:?}");
}

#[test]
fn a_request_does_not_print_its_token() {
    let token = BearerToken::new(TokenId(Uuid::nil()), [7; 32]);
    let address = Address::parse("http://127.0.0.1:80").unwrap();
    let request = Request::post_json(&address, "/ask", Some(&token), b"{}");
    let printed = format!("{request:?}");
    assert!(printed.contains("[redacted]") && !printed.contains("aic_"), "{printed}");
}

#[tokio::test]
async fn the_bare_server_answers_json_of_the_size_asked() {
    let server = floor::start(vec![b'1'; 2_345]).unwrap();
    let outcome = run(plan(server.addr(), 4, Amount::Requests(200))).await;
    assert_eq!((outcome.replies, outcome.failures.total()), (200, 0));
    assert_eq!(outcome.body_bytes, 200 * 2_345);

    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        )
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("content-type: application/json"), "{text}");

    let addr = server.addr();
    server.stop().unwrap();
    assert!(TcpStream::connect(addr).is_err(), "the port is still open");
}
