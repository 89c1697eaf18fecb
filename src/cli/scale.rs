//! Owns the command `ai-cache scale`: it puts a million small entries into the hot tier and
//! measures the memory that they take.

use std::process::ExitCode;

use chrono::TimeDelta;
use clap::Args;
use serde::Serialize;

use crate::crypto::Sealed;
use crate::domain::cache_key::CacheKey;
use crate::domain::candidate::LabelIndexes;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::entry::{EntryMeta, Place};
use crate::domain::ids::{EntryId, SystemIds, TenantId};
use crate::domain::money::{Usage, Usd};
use crate::domain::operation::Operation;
use crate::domain::selector::{Generation, Position};
use crate::tiers::{Hot, StoredAnswer};

use super::failure::Failure;
use super::output::{self, Style};

/// The number of sealed bytes of a small answer.
const SEALED_BYTES: usize = 200;

/// Arguments of `scale`.
#[derive(Args)]
pub(super) struct ScaleArgs {
    /// Entries offered to the hot tier
    #[arg(long, default_value_t = 1_000_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    entries: u32,
    /// Budget of the hot tier in MiB
    #[arg(long, default_value_t = 512)]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=16_384))]
    budget_mb: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScaleReport {
    offered: u32,
    kept: usize,
    budget_bytes: u64,
    counted_bytes: u64,
    resident_bytes: u64,
    within_budget: bool,
}

/// Fills a hot tier and measures the memory of this process. The exit code is 1 if the entries take
/// more memory than the budget.
pub(super) fn run(args: &ScaleArgs) -> Result<ExitCode, Failure> {
    let budget_bytes = u64::from(args.budget_mb) * 1024 * 1024;
    let before = resident_bytes()?;
    let (hot, _used) = Hot::new(budget_bytes);
    let tenant = TenantId::fresh(&SystemIds, SystemClock.now());
    for index in 0..args.entries {
        hot.insert(small_entry(tenant, index));
    }
    let resident_bytes = resident_bytes()?.saturating_sub(before);
    let report = ScaleReport {
        offered: args.entries,
        kept: hot.len(),
        budget_bytes,
        counted_bytes: hot.bytes(),
        resident_bytes,
        within_budget: resident_bytes <= budget_bytes,
    };
    output::show(Style::of(args.json), &report, || {
        format!(
            "{} entries offered, {} kept; budget {} MiB, counted {} MiB, resident {} MiB",
            report.offered,
            report.kept,
            budget_bytes >> 20,
            report.counted_bytes >> 20,
            report.resident_bytes >> 20,
        )
    })?;
    Ok(ExitCode::from(u8::from(!report.within_budget)))
}

fn small_entry(tenant: TenantId, index: u32) -> StoredAnswer {
    let now = SystemClock.now();
    let mut key = [0; 32];
    key[..4].copy_from_slice(&index.to_be_bytes());
    let meta = EntryMeta {
        id: EntryId::fresh(&SystemIds, now),
        operation: Operation::WeddingQuery,
        subject_key: None,
        key_version: 1,
        created_at: now,
        expires_at: now + TimeDelta::hours(1),
        usage: Usage::default(),
        cost: Usd::default(),
    };
    StoredAnswer {
        place: Place { tenant, key: CacheKey(key), generation: Generation(0) },
        meta,
        labels: LabelIndexes::default().prefixes(),
        answer: Sealed::from_bytes(vec![0; SEALED_BYTES]),
        position: Position(0),
    }
}

/// Returns the resident memory of this process in bytes (proc(5), `VmRSS`).
fn resident_bytes() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(Failure::internal)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| Failure::internal("memory cannot be read here"))
}
