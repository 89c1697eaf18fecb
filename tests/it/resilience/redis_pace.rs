//! Redis keeps up with a busy service, though each of its replies takes its time.

use std::time::Duration;

use ai_cache::embedded::Listen;
use futures_util::future::join_all;

use super::redis::{first_process_within, questions, wait_for_keys};
use crate::support::redis_proxy::RedisProxy;
use crate::support::redis_servers::own_port;
use crate::support::services::start_redis;

/// A busy service fills faster than round trips follow one another. Written one by one, most of these
/// values would find the queue full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_a_busy_service_is_kept() {
    const COUNT: usize = 960;
    let port = own_port();
    let redis = start_redis(Listen::Tcp(port)).await;
    let late = RedisProxy::start(port, |_| Duration::from_millis(50)).await;
    // A busy machine makes a round trip longer than the limit that a service has.
    let process = first_process_within(&late.url, Duration::from_secs(10)).await;
    let asked = questions("busy", COUNT);
    let asking = asked.chunks(COUNT / 64).map(|some| process.ask_all(some));
    let bought: usize = join_all(asking).await.iter().map(|tally| tally.upstream).sum();
    wait_for_keys(&redis, COUNT).await;
    let errors = process.redis_errors().await;
    println!("{bought} answers stored, all of them in Redis, {errors} failures of it");
    assert_eq!((bought, errors), (COUNT, 0));
    process.app.stop().await;
}
