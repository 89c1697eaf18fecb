//! Money, networks, roles, the breaker and times to live.

use std::net::IpAddr;

use ai_cache::domain::breaker::Breaker;
use ai_cache::domain::caller::{Role, Roles, grantable};
use ai_cache::domain::entry::jittered;
use ai_cache::domain::money::{Prices, Usage, Usd};
use ai_cache::domain::network::Network;
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rstest::rstest;

#[rstest]
#[case(0, "0")]
#[case(1, "0.000000000001")]
#[case(252_000_000, "0.000252")]
#[case(1_500_000_000_000, "1.5")]
#[case(2_000_000_000_000, "2")]
#[case(u64::MAX, "18446744.073709551615")]
fn money_is_shown_as_exact_dollars(#[case] pico: u64, #[case] shown: &str) {
    assert_eq!(Usd(pico).to_string(), shown);
}

/// 31 and 412 tokens at 0.15 and 0.60 dollars a million.
#[test]
fn an_answer_costs_its_tokens_and_sums_stop_at_the_largest() {
    let prices = Prices { prompt: Usd(150_000), completion: Usd(600_000) };
    let usage = Usage { prompt_tokens: 31, completion_tokens: 412 };
    assert_eq!(prices.cost(usage).to_string(), "0.00025185");
    assert_eq!(Usd(u64::MAX) + Usd(1), Usd(u64::MAX));
}

#[rstest]
#[case("203.0.113.77", "203.0.113.0/24")]
#[case("203.0.113.0", "203.0.113.0/24")]
#[case("::ffff:203.0.113.77", "203.0.113.0/24")]
#[case("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48")]
#[case("2001:db8:1::", "2001:db8:1::/48")]
#[case("::1", "::/48")]
fn an_address_is_kept_as_its_network(#[case] address: &str, #[case] network: &str) {
    let address: IpAddr = address.parse().unwrap();
    assert_eq!(Network::of(address).to_string(), network);
}

proptest! {
    #[test]
    fn hosts_of_one_network_cannot_be_told_apart(
        network in any::<[u8; 3]>(), host in any::<u8>(), other in any::<u8>(),
        prefix in any::<[u16; 3]>(), rest in any::<[u16; 5]>(),
    ) {
        let [a, b, c] = network;
        let of = |host| Network::of(IpAddr::from([a, b, c, host]));
        prop_assert_eq!(of(host), of(other));
        // Outside the range of IPv4 written as IPv6.
        let mut segments = [0x2001, prefix[1], prefix[2], 0, 0, 0, 0, 0];
        let first = Network::of(IpAddr::from(segments));
        segments[3..].copy_from_slice(&rest);
        prop_assert_eq!(Network::of(IpAddr::from(segments)), first);
    }

    #[test]
    fn a_jittered_time_is_at_most_the_time_and_at_least_95_percent_of_it(
        seconds in 1_i64..=31_536_000,
        spread in any::<u8>(),
    ) {
        let ttl = TimeDelta::seconds(seconds);
        let jittered = jittered(ttl, spread);
        prop_assert!(jittered <= ttl);
        prop_assert!(jittered * 100 >= ttl * 95);
    }
}

#[test]
fn the_jitter_spreads_from_none_to_five_percent() {
    let ttl = TimeDelta::seconds(1_000);
    assert_eq!(jittered(ttl, 0), ttl);
    assert_eq!(jittered(ttl, 255), TimeDelta::seconds(950));
}

fn roles(names: &str) -> Roles {
    names
        .split('+')
        .filter(|name| !name.is_empty())
        .map(|name| Role::parse(name).unwrap())
        .collect()
}

#[rstest]
#[case("", "")]
#[case("app", "")]
#[case("compliance", "")]
#[case("app+compliance", "")]
#[case("admin", "app+admin")]
#[case("admin+compliance", "app+admin")]
#[case("operator", "admin+compliance")]
#[case("operator+app", "admin+compliance")]
#[case("operator+admin", "app+admin+compliance")]
#[case("app+admin+compliance+operator", "app+admin+compliance")]
fn a_role_grants_only_what_the_contract_says(#[case] by: &str, #[case] may: &str) {
    let grantable = grantable(roles(by));
    assert_eq!(grantable, roles(may));
    assert!(!grantable.has(Role::Operator));
    assert_eq!(grantable.to_string(), may);
}

#[test]
fn a_set_covers_its_subsets_only() {
    let sets = || {
        (0..16).map(|bits| {
            Role::ALL
                .into_iter()
                .filter(move |role| {
                    bits & (1 << Role::ALL.iter().position(|r| r == role).unwrap()) != 0
                })
                .collect::<Roles>()
        })
    };
    for one in sets() {
        for other in sets() {
            let subset = other.iter().all(|role| one.has(role));
            assert_eq!(one.covers(other), subset, "{one} over {other}");
        }
        assert_eq!(one.is_empty(), one.names().is_empty());
    }
}

const PAUSE: TimeDelta = TimeDelta::seconds(10);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

#[test]
fn a_breaker_opens_at_the_threshold_of_failures_in_a_row() {
    let breaker = Breaker::new(3, PAUSE);
    breaker.failed(at(0));
    breaker.failed(at(0));
    breaker.succeeded();
    breaker.failed(at(1));
    breaker.failed(at(1));
    assert!(breaker.permits(at(1)) && !breaker.is_open(at(1)));
    breaker.failed(at(1));
    assert!(!breaker.permits(at(1)) && breaker.is_open(at(1)));
    assert!(!breaker.permits(at(10)));
}

#[test]
fn after_the_pause_one_caller_tries_and_its_report_decides() {
    let breaker = Breaker::new(1, PAUSE);
    breaker.failed(at(0));
    assert!(!breaker.is_open(at(10)), "asking takes no try");
    assert!(breaker.permits(at(10)));
    assert!(!breaker.permits(at(10)), "only one");
    breaker.failed(at(11));
    assert!(!breaker.permits(at(20)), "the pause begins anew");
    assert!(breaker.permits(at(21)));
    breaker.succeeded();
    assert!(breaker.permits(at(21)) && breaker.permits(at(21)));
}

#[test]
fn a_try_that_never_reports_is_given_to_another_after_a_pause() {
    let breaker = Breaker::new(1, PAUSE);
    breaker.failed(at(0));
    assert!(breaker.permits(at(10)));
    assert!(!breaker.permits(at(19)));
    assert!(breaker.permits(at(20)));
}

#[test]
fn of_many_threads_one_gets_the_try() {
    let breaker = Breaker::new(1, PAUSE);
    breaker.failed(at(0));
    let permitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..100).filter(|_| breaker.permits(at(10))).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(permitted, 1);
}
