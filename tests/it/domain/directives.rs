//! The wishes of a body and of `Cache-Control` about the cache; the stricter one wins.

use ai_cache::domain::directives::{Directives, MAX_TTL_SECONDS, Mode};
use ai_cache::domain::json::Json;
use ai_cache::domain::query::QueryRequest;
use chrono::TimeDelta;
use rstest::rstest;

fn body(cache: &str) -> Directives {
    let text = format!("{{\"query\":\"q\",\"cache\":{cache}}}");
    QueryRequest::parse(Json::parse(text.as_bytes()).unwrap()).unwrap().directives
}

#[rstest]
#[case("default", "", Mode::Default)]
#[case("default", "no-store", Mode::Bypass)]
#[case("default", "no-cache", Mode::Refresh)]
#[case("default", "only-if-cached", Mode::OnlyIfCached)]
#[case("bypass", "no-cache", Mode::Bypass)]
#[case("bypass", "only-if-cached", Mode::Unanswerable)]
#[case("refresh", "no-store", Mode::Bypass)]
#[case("refresh", "only-if-cached", Mode::Unanswerable)]
#[case("only-if-cached", "no-cache", Mode::Unanswerable)]
#[case("only-if-cached", "no-store", Mode::Unanswerable)]
#[case("only-if-cached", "", Mode::OnlyIfCached)]
#[case("default", "no-cache, no-store, only-if-cached", Mode::Unanswerable)]
#[case("default", "only-if-cached,no-cache", Mode::Unanswerable)]
#[case("only-if-cached", "no-cache, no-store", Mode::Unanswerable)]
#[case("default", "  NO-Store ", Mode::Bypass)]
#[case("default", "no-transform, stale-while-revalidate=9", Mode::Default)]
#[case("default", "no-store-ever", Mode::Default)]
fn the_stricter_of_body_and_header_wins(
    #[case] mode: &str,
    #[case] header: &str,
    #[case] expected: Mode,
) {
    let directives = body(&format!("{{\"mode\":\"{mode}\"}}")).with_header(header);
    assert_eq!(directives.mode, expected);
}

#[rstest]
#[case("{}", "", None)]
#[case("{}", "max-age=60", Some(60))]
#[case("{\"maxAgeSeconds\":30}", "max-age=60", Some(30))]
#[case("{\"maxAgeSeconds\":90}", "max-age=60", Some(60))]
#[case("{\"maxAgeSeconds\":90}", "", Some(90))]
#[case("{\"maxAgeSeconds\":0}", "max-age=60", Some(0))]
#[case("{}", "max-age=60, max-age=5", Some(5))]
#[case("{}", "max-age=\"60\"", Some(60))]
#[case("{}", "Max-Age = 60", Some(60))]
#[case::no_number("{}", "max-age=soon", Some(0))]
#[case::no_value("{}", "max-age", Some(0))]
#[case::negative("{}", "max-age=-1", Some(0))]
#[case::signed("{}", "max-age=+60", Some(0))]
#[case::fraction("{}", "max-age=1.5", Some(0))]
#[case::large("{}", "max-age=99999999999", Some(31_536_000))]
#[case::overflow("{}", "max-age=99999999999999999999999", Some(31_536_000))]
fn the_lower_max_age_wins_and_garbage_counts_as_zero(
    #[case] cache: &str,
    #[case] header: &str,
    #[case] seconds: Option<i64>,
) {
    let directives = body(cache).with_header(header);
    assert_eq!(directives.max_age, seconds.map(TimeDelta::seconds));
}

#[test]
fn modes_say_whether_they_read_and_are_ordered_by_strictness() {
    let table = [
        (Mode::Default, true),
        (Mode::OnlyIfCached, true),
        (Mode::Refresh, false),
        (Mode::Bypass, false),
    ];
    for (mode, reads) in table {
        assert_eq!(mode.reads(), reads, "{mode:?}");
    }
    assert!(Mode::Bypass > Mode::Refresh && Mode::Refresh > Mode::OnlyIfCached);
    assert!(Mode::OnlyIfCached > Mode::Default);
}

#[rstest]
#[case("{\"ttlSeconds\":0}", "/cache/ttlSeconds")]
#[case("{\"ttlSeconds\":-1}", "/cache/ttlSeconds")]
#[case("{\"ttlSeconds\":1.5}", "/cache/ttlSeconds")]
#[case("{\"ttlSeconds\":31536001}", "/cache/ttlSeconds")]
#[case("{\"ttlSeconds\":1e400}", "/cache/ttlSeconds")]
#[case("{\"ttlSeconds\":\"60\"}", "/cache/ttlSeconds")]
#[case("{\"maxAgeSeconds\":-1}", "/cache/maxAgeSeconds")]
#[case("{\"mode\":\"Bypass\"}", "/cache/mode")]
#[case("{\"mode\":1}", "/cache/mode")]
#[case("{\"tags\":\"nyc\"}", "/cache/tags")]
#[case("{\"tags\":[\"nyc\",\"\"]}", "/cache/tags/1")]
#[case("{\"ttl\":1}", "/cache/ttl")]
#[case("[]", "/cache")]
fn a_bad_directive_is_refused_by_name(#[case] cache: &str, #[case] pointer: &str) {
    let text = format!("{{\"query\":\"q\",\"cache\":{cache}}}");
    let errors = QueryRequest::parse(Json::parse(text.as_bytes()).unwrap()).unwrap_err();
    let pointers: Vec<&str> = errors.iter().map(|error| &*error.pointer).collect();
    assert_eq!(pointers, [pointer]);
}

#[test]
fn a_year_is_the_longest_time_to_live() {
    let longest = body(&format!("{{\"ttlSeconds\":{MAX_TTL_SECONDS}}}"));
    assert_eq!(longest.ttl, Some(TimeDelta::days(365)));
}

/// RFC 9111 §5.2.1.1: who names a greatest age does not wish for a stale answer, wherever they say
/// it; nothing else a request says widens the window.
#[rstest]
#[case("{}", "", 60)]
#[case("{}", "max-stale=900, stale-while-revalidate=900, only-if-cached", 60)]
#[case("{\"ttlSeconds\":5}", "", 60)]
#[case("{\"maxAgeSeconds\":900}", "", 0)]
#[case("{}", "max-age=900", 0)]
fn a_greatest_age_refuses_stale_answers(
    #[case] cache: &str,
    #[case] header: &str,
    #[case] seconds: i64,
) {
    let directives = body(cache).with_header(header);
    let left = directives.accepts_stale_for(TimeDelta::seconds(60));
    assert_eq!(left, TimeDelta::seconds(seconds));
}
