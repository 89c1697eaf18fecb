//! Settings (W6, api.md "Settings"): every variable of this release sets its field, every bad value
//! is one line that names its variable, secrets are never shown.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

mod table;

use ai_cache::config::{Availability, Config, KNOWN, KeysConfig, Source};
use ai_cache::crypto::KeyProvider;
use rstest::rstest;
use serde_json::Value;

use crate::cli::program::{Done, Program};

use table::TABLE;

/// Every name of api.md "Settings" and of requirements.md W6.
const CONTRACT: [&str; 45] = [
    "AI_CACHE_ENABLED",
    "AI_CACHE_MEMORY_SIZE_MB",
    "AI_CACHE_REDIS_URL",
    "AI_CACHE_DEFAULT_TTL",
    "AI_CACHE_MAX_ENTRIES",
    "AI_CACHE_SEASONAL_SCALING_ENABLED",
    "AI_CACHE_AUTO_SCALE_THRESHOLD",
    "AI_CACHE_SCALE_UP_FACTOR",
    "AI_CACHE_SCALE_DOWN_FACTOR",
    "AI_CACHE_MONITORING_ENABLED",
    "AI_CACHE_ALERT_THRESHOLD_MS",
    "AI_CACHE_HIT_RATE_ALERT_THRESHOLD",
    "AI_CACHE_ENCRYPTION_ENABLED",
    "AI_CACHE_AUDIT_LOGGING_ENABLED",
    "AI_CACHE_GDPR_RETENTION_DAYS",
    "DATABASE_URL",
    "AI_CACHE_BIND",
    "AI_CACHE_DATA_DIR",
    "AI_CACHE_ADMIN_DATABASE_URL",
    "AI_CACHE_DATABASE_POOL",
    "AI_CACHE_UPSTREAM",
    "AI_CACHE_UPSTREAM_URL",
    "AI_CACHE_UPSTREAM_NAME",
    "AI_CACHE_UPSTREAM_API_KEY",
    "AI_CACHE_UPSTREAM_MODEL",
    "AI_CACHE_UPSTREAM_TIMEOUT_SECONDS",
    "AI_CACHE_MASTER_KEYS",
    "AI_CACHE_MASTER_KEY_FILE",
    "AI_CACHE_AUDIT_SPOOL_DIR",
    "AI_CACHE_AUDIT_SPOOL_MAX_MB",
    "AI_CACHE_AUDIT_SPOOL_MAX_MINUTES",
    "AI_CACHE_AUDIT_CHECKPOINT_FILE",
    "AI_CACHE_ERASURE_LEDGER_FILE",
    "AI_CACHE_STALE_WHILE_REVALIDATE_SECONDS",
    "AI_CACHE_STALE_IF_ERROR_SECONDS",
    "AI_CACHE_PRICE_PROMPT_USD_PER_MILLION",
    "AI_CACHE_PRICE_COMPLETION_USD_PER_MILLION",
    "AI_CACHE_REDIS_TIMEOUT_MS",
    "AI_CACHE_MEMORY_MAX_MB",
    "AI_CACHE_TRUSTED_PROXIES",
    "AI_CACHE_LOG",
    "AI_CACHE_LOG_FORMAT",
    "AI_CACHE_ALLOW_INSECURE",
    "OTEL_EXPORTER_OTLP_*",
    // Not in the contract's list: how long the demonstration upstream takes.
    "AI_CACHE_UPSTREAM_DEMO_DELAY_MS",
];

/// A master key of 32 bytes.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn load(pairs: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let source = Source::from_pairs(pairs.iter().copied());
    Config::load(&source).map_err(|errors| errors.0)
}

fn errors(pairs: &[(&str, &str)]) -> Vec<String> {
    load(pairs).map(|_| ()).unwrap_err()
}

/// The value and origin that the report gives a variable.
fn reported(config: &Config, name: &str) -> (String, String) {
    let mut all = config.report().iter();
    let found = all.find(|setting| setting.name == name).unwrap();
    (found.value.clone(), found.origin.clone())
}

/// W6: nothing of the contract is unknown, and nothing is known beside it.
#[test]
fn the_known_names_are_those_of_the_contract() {
    let mut known: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
    let mut contract = CONTRACT.to_vec();
    known.sort_unstable();
    contract.sort_unstable();
    assert_eq!(known, contract);
}

/// W6: what follows tries every variable of this release.
#[test]
fn the_table_has_every_available_variable() {
    let now = KNOWN.iter().filter(|known| known.availability == Availability::Now);
    let now: Vec<&str> = now.map(|known| known.name).collect();
    let table: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
    assert_eq!(table, now);
}

/// W6
#[test]
fn a_good_value_changes_its_field_and_shows_in_the_report() {
    for row in TABLE {
        let without = load(row.beside).unwrap_or_else(|_| load(&[]).unwrap());
        assert!(!(row.is_set)(&without), "{} is so by default", row.name);

        let config = load(&[row.beside, &[(row.name, row.good)]].concat()).unwrap();
        assert!((row.is_set)(&config), "{} did nothing", row.name);
        let (value, origin) = reported(&config, row.name);
        let shown = if row.secret { "[set]" } else { row.good };
        assert_eq!((&*value, &*origin), (shown, "environment"), "{}", row.name);
    }
}

/// W6
#[test]
fn a_bad_value_is_one_line_that_begins_with_the_name_and_shows_what_was_given() {
    for row in TABLE {
        for bad in row.bad {
            let beside = if row.bad_alone { &[] } else { row.beside };
            let lines = errors(&[beside, &[(row.name, bad)]].concat());
            let [line] = &*lines else {
                panic!("{}={bad}: {lines:?}", row.name);
            };
            assert!(line.starts_with(&format!("{} ", row.name)), "{line}");
            assert!(!line.contains('\n'), "{line}");
            let shown = line.ends_with(&format!(", not {bad:?}"));
            assert_eq!(shown, row.bad_is_shown, "{line}");
            assert!(shown || !line.contains(&format!("{bad:?}")), "{line}");
        }
    }
}

/// W6
#[test]
fn a_variable_set_to_nothing_is_refused_by_name() {
    for row in TABLE {
        for nothing in ["", "  "] {
            let lines = errors(&[row.beside, &[(row.name, nothing)]].concat());
            let line = format!("{} is set to nothing; remove it or give it a value", row.name);
            assert!(lines.contains(&line), "{lines:?}");
        }
    }
}

#[test]
fn a_variable_of_a_later_release_is_refused_rather_than_ignored() {
    let later = KNOWN.iter().filter(|known| known.availability == Availability::Later);
    let mut count = 0;
    for known in later {
        let line = format!("{} is not available in this release", known.name);
        assert_eq!(errors(&[(known.name, "1")]), [line]);
        count += 1;
    }
    assert_eq!((count, TABLE.len()), (8, 37));
}

/// api.md "Settings": the standard names are known as a family.
#[rstest]
#[case("OTEL_EXPORTER_OTLP_ENDPOINT")]
#[case("OTEL_EXPORTER_OTLP_METRICS_HEADERS")]
fn a_standard_exporter_variable_is_refused_rather_than_ignored(#[case] name: &str) {
    let line = format!("{name} is not available in this release");
    assert_eq!(errors(&[(name, "http://collector:4317")]), [line]);
}

#[rstest]
#[case("AI_CACHE_DEFALT_TTL", "AI_CACHE_DEFAULT_TTL")]
#[case("AI_CACHE_MEMORY_SIZE", "AI_CACHE_MEMORY_SIZE_MB")]
#[case("AI_CACHE_MASTERKEYS", "AI_CACHE_MASTER_KEYS")]
#[case("AI_CACHE_UPSTREM_URL", "AI_CACHE_UPSTREAM_URL")]
fn an_unknown_name_is_refused_with_the_nearest_known_one(#[case] given: &str, #[case] near: &str) {
    let line = format!("{given} is not a setting; did you mean {near}?");
    assert_eq!(errors(&[(given, "a-value")]), [line]);
}

#[test]
fn every_fault_is_told_at_once() {
    let lines = errors(&[
        ("AI_CACHE_BIND", "nowhere"),
        ("AI_CACHE_DEFAULT_TTL", "soon"),
        ("AI_CACHE_MEMORY_MAX_MB", "5"),
        ("AI_CACHE_WHAT", "5"),
    ]);
    assert_eq!(lines.len(), 4, "{lines:?}");
}

/// W6: switches read as people write them.
#[rstest]
#[case("true", true)]
#[case("TRUE", true)]
#[case("1", true)]
#[case(" true ", true)]
#[case("false", false)]
#[case("False", false)]
#[case("0", false)]
fn a_switch_is_true_or_false(#[case] text: &str, #[case] enabled: bool) {
    let config = load(&[("AI_CACHE_ENABLED", text)]).unwrap();
    assert_eq!(config.cache.enabled, enabled);
}

#[rstest]
#[case("CACHE_ENABLED", "false", "AI_CACHE_ENABLED")]
#[case("REDIS_URL", "redis://old:6379", "AI_CACHE_REDIS_URL")]
#[case("CACHE_TIMEOUT", "77", "AI_CACHE_DEFAULT_TTL")]
fn the_replaced_systems_names_are_understood(
    #[case] alias: &str,
    #[case] value: &str,
    #[case] name: &str,
) {
    let row = TABLE.iter().find(|row| row.name == name).unwrap();
    let config = load(&[(alias, value)]).unwrap();
    let (shown, origin) = reported(&config, name);
    assert_eq!(shown, if row.secret { "[set]" } else { value });
    assert_eq!(origin, format!("environment (as {alias})"));

    let both = load(&[(alias, value), (name, row.good)]).unwrap();
    assert!((row.is_set)(&both), "{alias} won over {name}");
    assert_eq!(reported(&both, name).1, "environment");
}

/// W6: a fault is told of the name that somebody wrote.
#[rstest]
#[case("CACHE_ENABLED", "perhaps")]
#[case("REDIS_URL", "http://old")]
#[case("REDIS_URL", "")]
#[case("CACHE_TIMEOUT", "soon")]
fn a_fault_of_a_replaced_systems_name_is_told_of_that_name(
    #[case] alias: &str,
    #[case] value: &str,
) {
    let lines = errors(&[(alias, value)]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with(&format!("{alias} ")), "{lines:?}");
}

#[test]
fn a_replaced_systems_name_sets_the_same_field() {
    let enabled = load(&[("CACHE_ENABLED", "false")]).unwrap().cache.enabled;
    assert!(!enabled);
    let urls = load(&[("REDIS_URL", "redis://old:6379")]).unwrap().redis;
    assert_eq!(urls.urls[0].reveal(), "redis://old:6379");
    let ttl = load(&[("CACHE_TIMEOUT", "77")]).unwrap().cache.default_ttl;
    assert_eq!(ttl.num_seconds(), 77);
}

/// architecture.md §4: no plaintext and no unaudited service by one slip.
#[rstest]
#[case("AI_CACHE_ENCRYPTION_ENABLED")]
#[case("AI_CACHE_AUDIT_LOGGING_ENABLED")]
fn an_insecure_switch_needs_a_second_one(#[case] name: &str) {
    let line = format!("{name} may be false only together with AI_CACHE_ALLOW_INSECURE=true");
    assert_eq!(errors(&[(name, "false")]), [&*line]);
    let half = [(name, "false"), ("AI_CACHE_ALLOW_INSECURE", "false")];
    assert_eq!(errors(&half), [line]);
    assert!(load(&[(name, "false"), ("AI_CACHE_ALLOW_INSECURE", "true")]).is_ok());
}

#[test]
fn both_kinds_of_master_keys_at_once_are_refused() {
    let lines = errors(&[
        ("AI_CACHE_MASTER_KEYS", &format!("k1:{KEY}")),
        ("AI_CACHE_MASTER_KEY_FILE", "/etc/keys"),
    ]);
    assert_eq!(
        lines,
        ["AI_CACHE_MASTER_KEY_FILE and AI_CACHE_MASTER_KEYS are both set; only one may be"]
    );
}

/// The service starts with every configuration that `config check` accepts, and with no other.
#[rstest]
#[case("KEY", false)]
#[case("k1:KEY", true)]
#[case(" k1:KEY , k-2:KEY\nabcdefghijklmno3:KEY,", true)]
#[case("k1:KEY,k1:KEY", false)]
#[case("K1:KEY", false)]
#[case(":KEY", false)]
#[case("abcdefghijklmnop3:KEY", false)]
#[case("k1:AAAA", false)]
#[case("k1:KEYKEY", false)]
#[case(",", false)]
#[case("wrap-1:KEY", false)]
#[case("wrap-1:KEY,k1:KEY,wrap-0:KEY", true)]
fn master_keys_are_judged_as_the_service_will(#[case] shape: &str, #[case] good: bool) {
    let text = shape.replace("KEY", KEY);
    assert_eq!(load(&[("AI_CACHE_MASTER_KEYS", &text)]).is_ok(), good);
    assert_eq!(KeyProvider::from_text(&text).is_ok(), good);
}

#[test]
fn the_openai_upstream_needs_its_address() {
    let lines = errors(&[("AI_CACHE_UPSTREAM", "openai")]);
    assert_eq!(lines, ["AI_CACHE_UPSTREAM_URL is needed with AI_CACHE_UPSTREAM=openai"]);
}

/// W9: a secret goes where it is needed and nowhere else.
#[test]
fn secrets_are_in_neither_debug_output_nor_report_nor_errors() {
    const MARK: &str = "s3cr3tm4rk";
    let good = [
        ("DATABASE_URL", "postgres://app:s3cr3tm4rk@db/ai"),
        ("AI_CACHE_ADMIN_DATABASE_URL", "postgres://o:s3cr3tm4rk@db/ai"),
        ("AI_CACHE_REDIS_URL", "redis://:s3cr3tm4rk@cache:6379"),
        ("AI_CACHE_UPSTREAM_API_KEY", MARK),
        ("AI_CACHE_MASTER_KEYS", "k1:s3cr3tm4rkAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ];
    let source = Source::from_pairs(good);
    let config = Config::load(&source).unwrap();
    assert!(matches!(&config.keys, KeysConfig::Text(text) if text.reveal().contains(MARK)));
    for text in [
        format!("{config:?}"),
        format!("{source:?}"),
        serde_json::to_string(config.report()).unwrap(),
    ] {
        assert!(!text.contains(MARK), "{text}");
    }

    // Three URLs of no known scheme; each time malformed keys, and the two kinds of keys at once.
    let mut refused = 0;
    for (name, _) in good {
        let file = ("AI_CACHE_MASTER_KEY_FILE", "/etc/keys");
        let beside = [(name, MARK), file, ("AI_CACHE_MASTER_KEYS", MARK)];
        let lines = errors(&beside);
        assert!(lines.iter().all(|line| !line.contains(MARK)), "{lines:?}");
        refused += lines.len();
    }
    assert_eq!(refused, 13);

    let url = format!("https://u:{MARK}@model/v1");
    let lines = errors(&[("AI_CACHE_UPSTREAM_URL", &*url)]);
    assert!(lines.len() == 1 && !lines[0].contains(MARK), "{lines:?}");
}

fn setting<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report.as_array().unwrap();
    all.iter().find(|setting| setting["name"] == name).unwrap()
}

fn report(done: &Done) -> Value {
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.out).unwrap()
}

/// api.md "Settings": the environment, then `--config FILE`, then `.env`.
#[tokio::test]
async fn the_environment_comes_before_the_file_and_the_file_before_dot_env() {
    let program = Program::new();
    let dot_env = "AI_CACHE_BIND=127.0.0.1:1\nAI_CACHE_DEFAULT_TTL=1\nAI_CACHE_MEMORY_SIZE_MB=1\n";
    program.write(".env", dot_env, 0o600);
    let file = "AI_CACHE_BIND=127.0.0.1:2\nAI_CACHE_DEFAULT_TTL=2\n# a remark\n\nOTHER=ignored\n";
    program.write("own.env", file, 0o600);
    let arguments = ["config", "check", "--json", "--config", "own.env"];
    let environment = [("AI_CACHE_BIND", "127.0.0.1:3"), ("OTHER", "ignored")];

    let report = report(&program.run(&arguments, &environment).await);

    let expected = [
        ("AI_CACHE_BIND", "127.0.0.1:3", "environment"),
        ("AI_CACHE_DEFAULT_TTL", "2", "own.env"),
        ("AI_CACHE_MEMORY_SIZE_MB", "1", ".env"),
        ("AI_CACHE_LOG_FORMAT", "text", "default"),
    ];
    for (name, value, origin) in expected {
        let found = setting(&report, name);
        assert_eq!((&found["value"], &found["origin"]), (&value.into(), &origin.into()), "{name}");
    }
}

/// A file that is asked for must be there and whole; no value of it is printed.
#[tokio::test]
async fn a_settings_file_that_is_missing_or_malformed_is_refused_in_one_line() {
    let program = Program::new();
    let check = ["--config", "own.env", "config", "check"];
    let line = "the settings file own.env cannot be read: entity not found";
    assert_eq!(program.run(&check, &[]).await.refused(2), line);

    program.write("own.env", "AI_CACHE_MASTER_KEYS 's3cr3t-m4rk\n", 0o600);
    let line = "the settings file own.env has a malformed line";
    assert_eq!(program.run(&check, &[]).await.refused(2), line);

    program.write("own.env", "AI_CACHE_TTL=5\n", 0o600);
    let done = program.run(&check, &[]).await;
    let beginning = "AI_CACHE_TTL is not a setting; did you mean ";
    assert!(done.refused(2).starts_with(beginning), "{done:?}");
}
