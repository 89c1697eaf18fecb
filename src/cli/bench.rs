//! Owns the command `ai-cache bench`: it primes a set of questions and then measures how fast they
//! are answered from the cache. With `--floor` it measures a bare handler too. The slices of both
//! alternate, so that drift affects both.

mod meter;
mod report;

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::domain::token::BearerToken;
use crate::http::floor::{self, FloorServer};
use crate::loadgen::{
    self, Address, AddressError, Amount, FailureKind, LoadError, LoadOutcome, LoadPlan,
    LoadProgress, Request,
};
use meter::Meter;
use report::BenchReport;

const PATH: &str = "/api/ai-cache/query";
const QUESTIONS: u32 = 64;
const PRIMING_CONCURRENCY_MAX: usize = 16;
const PRIMING_TIMEOUT: Duration = Duration::from_mins(1);
const FIRST_WARM_UP: Duration = Duration::from_secs(2);
const LATER_WARM_UP: Duration = Duration::from_millis(500);
const SLICE_SECONDS: u32 = 5;
const SINGLE_CALLER_SECONDS_MAX: u32 = 3;
const SINGLE_CALLER_SLICES: u32 = 2;

/// Measure how many answers a second come from the cache.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Seconds measured, warm-up not counted
    #[arg(long = "duration", value_name = "SECONDS", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    duration_seconds: u32,
    /// Callers that ask at the same time
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    concurrency: u16,
    /// Measure this service (http://host:port) instead of one started for the purpose
    #[arg(long, requires = "token")]
    url: Option<String>,
    /// Token of the role app at the service of --url
    #[arg(long, requires = "url", value_parser = parse_token)]
    token: Option<BearerToken>,
    /// Measure a bare handler with bodies of the same size too, and print the ratio
    #[arg(long)]
    floor: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The service to measure.
#[derive(Debug, Clone)]
pub struct BenchTarget {
    /// The address at which it listens.
    pub address: Address,
    /// A token of the role app.
    pub token: BearerToken,
}

/// The reason why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The service that `--url` names cannot be measured.
    #[error("--url: {0}")]
    Address(#[from] AddressError),
    /// No service answers at the address.
    #[error("{address} is out of reach: {reason}")]
    Unreachable {
        /// The address.
        address: Address,
        /// The text of the first failure.
        reason: String,
    },
    /// A question of the priming was not answered.
    #[error("{address} did not answer the first questions ({kind}: {reason})")]
    Priming {
        /// The address of the service.
        address: Address,
        /// The kind of the first failure.
        kind: FailureKind,
        /// The text of the first failure.
        reason: String,
    },
    /// The load could not be made.
    #[error("the load could not be made")]
    Load(#[from] LoadError),
    /// The bare handler did not start, or its stop failed.
    #[error("the bare handler for --floor failed")]
    Floor(#[source] io::Error),
    /// The result could not be put into JSON.
    #[error("the result could not be put into JSON")]
    Json(#[from] serde_json::Error),
    /// The result could not be written.
    #[error("the result could not be written")]
    Output(#[source] io::Error),
}

impl BenchError {
    /// Returns the exit code of the process.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Address(AddressError::Https(_) | AddressError::Form(_)) => 2,
            Self::Address(AddressError::Unresolved { .. }) | Self::Unreachable { .. } => 3,
            Self::Priming { .. }
            | Self::Load(_)
            | Self::Floor(_)
            | Self::Json(_)
            | Self::Output(_) => 1,
        })
    }
}

impl BenchArgs {
    /// Returns the service that `--url` and `--token` name. Returns `None` if they are absent and a
    /// service must be started. Blocks until the resolver answers.
    pub fn target(&self) -> Result<Option<BenchTarget>, BenchError> {
        match (&self.url, &self.token) {
            (Some(url), Some(token)) => {
                Ok(Some(BenchTarget { address: Address::parse(url)?, token: token.clone() }))
            }
            _ => Ok(None),
        }
    }
}

/// Measures `target` and prints the result. The exit code is 0 if every request was answered.
pub async fn run(args: &BenchArgs, target: &BenchTarget) -> Result<ExitCode, BenchError> {
    let cache = Side::new("cache", &target.address, &target.token);
    prime(target, &cache).await?;
    let body_bytes = reply_size(target, &cache).await?;
    let floor = if args.floor { Some(start_floor(body_bytes, target)?) } else { None };
    let measured = measure(args, &cache, floor.as_ref().map(|(_, side)| side)).await?;
    if let Some((server, _)) = floor {
        server.stop().map_err(BenchError::Floor)?;
    }
    let report = BenchReport::new(&measured);
    let text = if args.json { report.to_json()? } else { report.to_table() };
    writeln!(io::stdout(), "{text}").map_err(BenchError::Output)?;
    let failures = report::failure_lines(&measured);
    for line in &failures {
        writeln!(io::stderr(), "{line}").map_err(BenchError::Output)?;
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All outcomes of a measurement.
struct Measured {
    cache: LoadOutcome,
    compared: Option<Compared>,
}

/// The outcomes that are measured only with `--floor`.
struct Compared {
    floor: LoadOutcome,
    cache_single: LoadOutcome,
    floor_single: LoadOutcome,
}

/// One of the two servers that are measured in turn.
struct Side {
    name: &'static str,
    plan: LoadPlan,
}

impl Side {
    fn new(name: &'static str, address: &Address, token: &BearerToken) -> Self {
        let requests: Arc<[Request]> = (0..QUESTIONS)
            .map(|number| {
                Request::post_json(address, PATH, Some(token), question(number).as_bytes())
            })
            .collect();
        let amount = Amount::Requests(u64::from(QUESTIONS));
        let plan = LoadPlan::new(address.socket(), NonZeroUsize::MIN, amount, requests);
        Self { name, plan }
    }
}

fn question(number: u32) -> String {
    serde_json::json!({
        "query": format!("Benchmark question {number}: which photographers are free in June?"),
        "operation": "wedding-query",
        "weddingContext": {
            "location": "New York, NY",
            "vendorTypes": ["photographer"],
            "budget": 5000,
        },
    })
    .to_string()
}

/// Asks each question once, so that the cache holds its answer. A failure ends the benchmark,
/// because it would not measure the cache.
async fn prime(target: &BenchTarget, cache: &Side) -> Result<LoadOutcome, BenchError> {
    let concurrency = NonZeroUsize::MIN.saturating_add(PRIMING_CONCURRENCY_MAX - 1);
    let plan = LoadPlan { concurrency, request_timeout: PRIMING_TIMEOUT, ..cache.plan.clone() };
    let outcome = loadgen::run(plan, Arc::new(LoadProgress::default())).await?;
    let address = target.address.clone();
    let first = outcome.failures.iter().next().map(|(kind, _, why)| (kind, why.to_owned()));
    match first {
        None => Ok(outcome),
        Some((FailureKind::Connect, reason)) => Err(BenchError::Unreachable { address, reason }),
        Some((kind, reason)) => Err(BenchError::Priming { address, kind, reason }),
    }
}

/// Asks each question once more and returns the mean size of a cached reply's body, in bytes.
async fn reply_size(target: &BenchTarget, cache: &Side) -> Result<usize, BenchError> {
    let cached = prime(target, cache).await?;
    let mean = cached.body_bytes.checked_div(cached.replies).unwrap_or(0);
    Ok(usize::try_from(mean).unwrap_or(usize::MAX))
}

/// Starts the bare server, which answers a JSON string of exactly `body_bytes`, and of two bytes at
/// least. It gets the same requests and the same token as the cache, so that both read the same
/// number of bytes.
fn start_floor(body_bytes: usize, target: &BenchTarget) -> Result<(FloorServer, Side), BenchError> {
    let body = format!("\"{}\"", "x".repeat(body_bytes.saturating_sub(2)));
    let server = floor::start(body.into_bytes()).map_err(BenchError::Floor)?;
    let side = Side::new("floor", &server.addr().into(), &target.token);
    Ok((server, side))
}

async fn measure(
    args: &BenchArgs,
    cache: &Side,
    floor: Option<&Side>,
) -> Result<Measured, BenchError> {
    let concurrency = NonZeroUsize::MIN.saturating_add(usize::from(args.concurrency) - 1);
    let load = Turns::of(args.duration_seconds, concurrency);
    let mut on_cache = LoadOutcome::empty().map_err(LoadError::from)?;
    let Some(floor) = floor else {
        let meter = Meter::new(args, load.length());
        load.run(&mut [(cache, &mut on_cache)], &meter).await?;
        return Ok(Measured { cache: on_cache, compared: None });
    };
    let single = Turns::single_caller(args.duration_seconds);
    let meter = Meter::new(args, 2 * (load.length() + single.length()));
    let mut compared = Compared {
        floor: LoadOutcome::empty().map_err(LoadError::from)?,
        cache_single: LoadOutcome::empty().map_err(LoadError::from)?,
        floor_single: LoadOutcome::empty().map_err(LoadError::from)?,
    };
    load.run(&mut [(cache, &mut on_cache), (floor, &mut compared.floor)], &meter).await?;
    let singles = &mut [(cache, &mut compared.cache_single), (floor, &mut compared.floor_single)];
    single.run(singles, &meter).await?;
    Ok(Measured { cache: on_cache, compared: Some(compared) })
}

/// A plan of equal slices of load, which the sides get in turn.
struct Turns {
    count: u32,
    slice: Duration,
    first_warm_up: Duration,
    concurrency: NonZeroUsize,
}

impl Turns {
    /// Plans `seconds` of load for each side. A slice lasts 5 to 10 seconds, or less if `seconds`
    /// is less.
    fn of(seconds: u32, concurrency: NonZeroUsize) -> Self {
        let count = (seconds / SLICE_SECONDS).max(1);
        let slice = Duration::from_secs(seconds.into()) / count;
        Self { count, slice, first_warm_up: FIRST_WARM_UP.min(slice), concurrency }
    }

    /// Plans a few seconds of load by one caller for each side. Earlier load must have warmed both
    /// sides.
    fn single_caller(seconds: u32) -> Self {
        let seconds = seconds.min(SINGLE_CALLER_SECONDS_MAX);
        Self {
            count: SINGLE_CALLER_SLICES,
            slice: Duration::from_secs(seconds.into()) / SINGLE_CALLER_SLICES,
            first_warm_up: LATER_WARM_UP,
            concurrency: NonZeroUsize::MIN,
        }
    }

    /// Returns the time that one side takes, with its warm-ups.
    fn length(&self) -> Duration {
        self.first_warm_up + LATER_WARM_UP * (self.count - 1) + self.slice * self.count
    }

    /// Runs the slices and adds the outcome of each to the total of its side.
    async fn run(
        &self,
        sides: &mut [(&Side, &mut LoadOutcome)],
        meter: &Meter,
    ) -> Result<(), LoadError> {
        for turn in 0..self.count {
            let warm_up = if turn == 0 { self.first_warm_up } else { LATER_WARM_UP };
            for (side, total) in &mut *sides {
                let plan = LoadPlan {
                    concurrency: self.concurrency,
                    amount: Amount::For { warm_up, measured: self.slice },
                    seed: turn.into(),
                    ..side.plan.clone()
                };
                let slice = loadgen::run(plan, meter.progress());
                total.append(&meter.follow(side.name, slice).await?);
            }
        }
        Ok(())
    }
}

fn parse_token(text: &str) -> Result<BearerToken, &'static str> {
    BearerToken::parse(text)
        .ok_or("this is no token of the form aic_<id>_<secret>, or it is mistyped")
}
