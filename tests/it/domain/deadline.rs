//! Until when data subjects' requests are due (GDPR Art. 12(3)).

use ai_cache::domain::deadline::Zone;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use proptest::prelude::*;
use rstest::rstest;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Month ends, leap years, daylight saving; each with the end of the extension.
#[rstest]
#[case("UTC", "2026-01-31T12:00:00Z", "2026-02-28T23:59:59Z", "2026-04-30T23:59:59Z")]
#[case("UTC", "2028-01-31T12:00:00Z", "2028-02-29T23:59:59Z", "2028-04-30T23:59:59Z")]
#[case("UTC", "2028-01-30T00:00:00Z", "2028-02-29T23:59:59Z", "2028-04-30T23:59:59Z")]
#[case("UTC", "2027-01-29T00:00:00Z", "2027-02-28T23:59:59Z", "2027-04-29T23:59:59Z")]
#[case("UTC", "2028-01-29T00:00:00Z", "2028-02-29T23:59:59Z", "2028-04-29T23:59:59Z")]
#[case("UTC", "2028-02-29T08:00:00Z", "2028-03-29T23:59:59Z", "2028-05-29T23:59:59Z")]
#[case("UTC", "2026-02-28T23:59:59Z", "2026-03-28T23:59:59Z", "2026-05-28T23:59:59Z")]
#[case("UTC", "2026-03-31T00:00:00Z", "2026-04-30T23:59:59Z", "2026-06-30T23:59:59Z")]
#[case("UTC", "2026-05-31T00:00:00Z", "2026-06-30T23:59:59Z", "2026-08-31T23:59:59Z")]
#[case("UTC", "2026-08-31T23:59:59Z", "2026-09-30T23:59:59Z", "2026-11-30T23:59:59Z")]
#[case("UTC", "2026-10-31T12:00:00Z", "2026-11-30T23:59:59Z", "2027-01-31T23:59:59Z")]
#[case("UTC", "2026-11-30T12:00:00Z", "2026-12-30T23:59:59Z", "2027-02-28T23:59:59Z")]
#[case("UTC", "2027-11-30T12:00:00Z", "2027-12-30T23:59:59Z", "2028-02-29T23:59:59Z")]
#[case("UTC", "2026-12-31T23:59:59Z", "2027-01-31T23:59:59Z", "2027-03-31T23:59:59Z")]
#[case("UTC", "2026-12-01T00:00:00Z", "2027-01-01T23:59:59Z", "2027-03-01T23:59:59Z")]
#[case("UTC", "2099-12-31T00:00:00Z", "2100-01-31T23:59:59Z", "2100-03-31T23:59:59Z")]
#[case("UTC", "2100-01-31T00:00:00Z", "2100-02-28T23:59:59Z", "2100-04-30T23:59:59Z")]
#[case("Europe/Berlin", "2026-01-31T22:59:59Z", "2026-02-28T22:59:59Z", "2026-04-30T21:59:59Z")]
#[case("Europe/Berlin", "2026-01-31T23:00:00Z", "2026-03-01T22:59:59Z", "2026-05-01T21:59:59Z")]
#[case("Europe/Berlin", "2026-02-28T23:30:00Z", "2026-04-01T21:59:59Z", "2026-06-01T21:59:59Z")]
#[case("Europe/Berlin", "2026-03-29T00:30:00Z", "2026-04-29T21:59:59Z", "2026-06-29T21:59:59Z")]
#[case("Europe/Berlin", "2026-02-27T23:30:00Z", "2026-03-28T22:59:59Z", "2026-05-28T21:59:59Z")]
#[case("Europe/Berlin", "2026-09-25T12:00:00Z", "2026-10-25T22:59:59Z", "2026-12-25T22:59:59Z")]
#[case("Europe/Berlin", "2026-10-25T00:30:00Z", "2026-11-25T22:59:59Z", "2027-01-25T22:59:59Z")]
#[case("America/New_York", "2026-02-01T04:59:59Z", "2026-03-01T04:59:59Z", "2026-05-01T03:59:59Z")]
#[case("America/New_York", "2026-02-08T12:00:00Z", "2026-03-09T03:59:59Z", "2026-05-09T03:59:59Z")]
#[case("America/New_York", "2026-10-01T12:00:00Z", "2026-11-02T04:59:59Z", "2027-01-02T04:59:59Z")]
#[case("Asia/Kathmandu", "2026-01-30T18:14:59Z", "2026-02-28T18:14:59Z", "2026-04-30T18:14:59Z")]
#[case(
    "Pacific/Kiritimati",
    "2026-01-31T09:59:59Z",
    "2026-02-28T09:59:59Z",
    "2026-04-30T09:59:59Z"
)]
#[case("America/Sao_Paulo", "2018-10-04T12:00:00Z", "2018-11-05T01:59:59Z", "2019-01-05T01:59:59Z")]
// Midnight came twice: the later one counts. A day that was left out ends when it would have begun.
#[case("America/Havana", "2026-10-01T12:00:00Z", "2026-11-02T04:59:59Z", "2027-01-02T04:59:59Z")]
#[case("Pacific/Apia", "2011-11-30T12:00:00Z", "2011-12-30T09:59:59Z", "2012-02-29T09:59:59Z")]
fn a_request_is_due_at_the_end_of_the_day_one_month_later(
    #[case] zone: &str,
    #[case] received: &str,
    #[case] due: &str,
    #[case] extended: &str,
) {
    let zone = Zone::parse(zone).unwrap();
    assert_eq!(zone.due(at(received)), at(due));
    assert_eq!(zone.extended_due(at(received)), at(extended));
}

#[test]
fn only_names_of_zones_are_zones() {
    for name in ["", "Berlin", "Europe/Nowhere", "+01:00", "CET/CEST", "europe/berlin"] {
        assert_eq!(Zone::parse(name), None, "{name}");
    }
    assert_eq!(Zone::parse("Europe/Berlin").unwrap().name(), "Europe/Berlin");
}

proptest! {
    /// Never less than 28 days and never more than a month of 31 and the day's rest, but for what the
    /// clocks are set by; the extension two months more.
    #[test]
    fn every_deadline_is_a_month_away(
        seconds in 1_514_764_800_i64..4_102_444_800,
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata",
            "Pacific/Auckland", "America/Sao_Paulo", "Africa/Casablanca"]),
    ) {
        let received = DateTime::from_timestamp(seconds, 0).unwrap();
        let zone = Zone::parse(zone).unwrap();
        let (due, extended) = (zone.due(received), zone.extended_due(received));
        let (set, took) = (TimeDelta::hours(2), due - received);
        prop_assert!(took >= TimeDelta::days(28) - set && took < TimeDelta::days(32) + set);
        prop_assert!(extended >= due + TimeDelta::days(58) && extended < due + TimeDelta::days(64));
        prop_assert!(due.year() <= received.year() + 1);
    }
}
