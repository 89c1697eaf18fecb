//! Writes the result of a measurement as a table, as JSON, and as lines about failures. The names
//! of the JSON fields are a contract with the programs that read them, so they must not change.

use std::fmt::Write as _;

use serde::Serialize;

use super::Measured;
use crate::loadgen::LoadOutcome;

const LABEL_WIDTH: usize = 26;
const VALUE_WIDTH: usize = 14;

/// The report that `bench` prints. Fields in `_ms` are milliseconds, rates are per second, and
/// `hit_rate` is a share from 0 to 1.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BenchReport {
    requests: u64,
    errors: u64,
    seconds: f64,
    replies_per_second: f64,
    hit_rate: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    #[serde(flatten)]
    compared: Option<Comparison>,
}

/// The part of the report that `--floor` adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Comparison {
    floor_replies_per_second: f64,
    ratio_to_floor: f64,
    floor_p50_ms: f64,
    single_caller_p50_ms: f64,
    floor_single_caller_p50_ms: f64,
    single_caller_ratio: f64,
}

impl BenchReport {
    pub fn new(measured: &Measured) -> Self {
        let cache = &measured.cache;
        let compared = measured.compared.as_ref().map(|compared| {
            let floor_rate = compared.floor.replies_per_second();
            let single = compared.cache_single.latency_ms(0.5);
            let floor_single = compared.floor_single.latency_ms(0.5);
            Comparison {
                floor_replies_per_second: rounded(floor_rate),
                ratio_to_floor: rounded(quotient(cache.replies_per_second(), floor_rate)),
                floor_p50_ms: compared.floor.latency_ms(0.5),
                single_caller_p50_ms: single,
                floor_single_caller_p50_ms: floor_single,
                single_caller_ratio: rounded(quotient(single, floor_single)),
            }
        });
        Self {
            requests: cache.requests,
            errors: cache.failures.total(),
            seconds: rounded(cache.elapsed.as_secs_f64()),
            replies_per_second: rounded(cache.replies_per_second()),
            hit_rate: cache.hit_rate(),
            p50_ms: cache.latency_ms(0.50),
            p95_ms: cache.latency_ms(0.95),
            p99_ms: cache.latency_ms(0.99),
            compared,
        }
    }

    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    pub fn to_table(&self) -> String {
        let mut table = String::new();
        let mut row = |label: &str, value: String| {
            // Writing to a String cannot fail.
            let _infallible = writeln!(table, "{label:LABEL_WIDTH$}{value:>VALUE_WIDTH$}");
        };
        row("requests", self.requests.to_string());
        row("errors", self.errors.to_string());
        row("seconds", format!("{:.1}", self.seconds));
        row("replies per second", format!("{:.0}", self.replies_per_second));
        row("hit rate", format!("{:.2} %", self.hit_rate * 100.0));
        row("p50", format!("{:.3} ms", self.p50_ms));
        row("p95", format!("{:.3} ms", self.p95_ms));
        row("p99", format!("{:.3} ms", self.p99_ms));
        if let Some(compared) = &self.compared {
            row("bare handler per second", format!("{:.0}", compared.floor_replies_per_second));
            row("bare handler p50", format!("{:.3} ms", compared.floor_p50_ms));
            row("ratio to bare handler", format!("{:.3}", compared.ratio_to_floor));
            row("single caller p50", format!("{:.3} ms", compared.single_caller_p50_ms));
            let floor_single = compared.floor_single_caller_p50_ms;
            row("bare single caller p50", format!("{floor_single:.3} ms"));
            row("single caller ratio", format!("{:.2}", compared.single_caller_ratio));
        }
        table.truncate(table.trim_end().len());
        table
    }
}

/// Returns one line for each kind of failure of each measured part. Returns no lines if every
/// request was answered.
pub fn failure_lines(measured: &Measured) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |part: &str, outcome: &LoadOutcome| {
        lines.extend(outcome.failures.iter().map(|(kind, count, example)| {
            format!("{part}: {count} × {kind}, the first: {example}")
        }));
    };
    add("cache", &measured.cache);
    if let Some(compared) = &measured.compared {
        add("bare handler", &compared.floor);
        add("cache, single caller", &compared.cache_single);
        add("bare handler, single caller", &compared.floor_single);
    }
    lines
}

/// Rounds to three decimals.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn quotient(value: f64, by: f64) -> f64 {
    if by > 0.0 { value / by } else { 0.0 }
}
