//! Every name of a metric and of a label, once. Renaming one breaks dashboards and alert rules.

/// Requests by route and class of status.
pub const REQUESTS: &str = "ai_cache_requests_total";
/// Answers from a tier.
pub const HITS: &str = "ai_cache_hits_total";
/// Answers that were not in the cache.
pub const MISSES: &str = "ai_cache_misses_total";
/// Hits whose answer was beyond its time.
pub const STALE: &str = "ai_cache_stale_total";
/// Hits out of all answers since the process began, 0 to 1.
pub const HIT_RATE: &str = "ai_cache_hit_rate";
/// Time of a query's reply in milliseconds.
pub const RESPONSE_TIME: &str = "ai_cache_response_time";
/// Bytes of the hot tier.
pub const MEMORY_USAGE: &str = "ai_cache_memory_usage";
/// Bytes the hot tier may take.
pub const MEMORY_LIMIT: &str = "ai_cache_memory_limit";
/// Entries of the hot tier.
pub const HOT_ENTRIES: &str = "ai_cache_hot_entries";
/// Walks through the hot tier that free what invalidations removed.
pub const HOT_SWEEPS: &str = "ai_cache_hot_sweeps_total";
/// Whether it is known that no invalidation was missed: 1 or 0.
pub const PROVEN: &str = "ai_cache_proven";
/// For how many seconds that has not been known; 0 while it is.
pub const UNPROVEN: &str = "ai_cache_unproven_seconds";
/// Calls of the upstream by how they ended.
pub const UPSTREAM_CALLS: &str = "ai_cache_upstream_calls_total";
/// Misses that another caller's fetch answered.
pub const COLLAPSED: &str = "ai_cache_collapsed_total";
/// Answers stored.
pub const STORED: &str = "ai_cache_stored_total";
/// Entries removed by invalidations.
pub const INVALIDATIONS: &str = "ai_cache_invalidations_total";
/// Entries removed from Postgres to keep it small, by why.
pub const EVICTED: &str = "ai_cache_evicted_total";
/// US dollars not spent again.
pub const COST_SAVED: &str = "ai_cache_cost_saved_usd_total";
/// Tokens not bought again.
pub const TOKENS_SAVED: &str = "ai_cache_tokens_saved_total";
/// Audit records made durable.
pub const AUDIT_RECORDS: &str = "ai_cache_audit_records_total";
/// Commits they were made durable in.
pub const AUDIT_BATCHES: &str = "ai_cache_audit_batches_total";
/// Tries that did not make a batch durable.
pub const AUDIT_FAILURES: &str = "ai_cache_audit_failures_total";
/// Time of a batch in milliseconds.
pub const AUDIT_COMMIT: &str = "ai_cache_audit_commit_ms";
/// Whether records can be made durable: 1 or 0.
pub const AUDIT_AVAILABLE: &str = "ai_cache_audit_available";
/// Records that went to the spool.
pub const AUDIT_SPOOLED: &str = "ai_cache_audit_spooled_total";
/// Bytes that wait in the spool.
pub const AUDIT_SPOOL_BYTES: &str = "ai_cache_audit_spool_bytes";
/// Torn or damaged ends of spool segments.
pub const AUDIT_SPOOL_TORN: &str = "ai_cache_audit_spool_torn_total";
/// Age in seconds of what is not sealed yet.
pub const AUDIT_SEAL_LAG: &str = "ai_cache_audit_seal_lag_seconds";
/// Findings of the last daily verification.
pub const AUDIT_FINDINGS: &str = "ai_cache_audit_findings";
/// When the last daily verification ended, in seconds since 1970.
pub const AUDIT_VERIFIED: &str = "ai_cache_audit_verified_timestamp_seconds";
/// Rows in partitions that are there for rows without a month's own.
pub const AUDIT_DEFAULT_ROWS: &str = "ai_cache_audit_default_partition_rows";
/// Open requests of data subjects that are due within so many days.
pub const GDPR_DUE: &str = "ai_cache_gdpr_requests_due";
/// Stored values that did not open.
pub const INTEGRITY_FAILURES: &str = "ai_cache_integrity_failures_total";
/// Failed commands of Redis.
pub const REDIS_ERRORS: &str = "ai_cache_redis_errors_total";
/// Time of a transaction with Postgres in milliseconds, by its name.
pub const TRANSACTION_TIME: &str = "ai_cache_transaction_ms";
/// Requests without a caller.
pub const AUTH_FAILURES: &str = "ai_cache_auth_failures_total";

/// hot, warm or cold.
pub const TIER: &str = "tier";
/// A path of ours.
pub const ROUTE: &str = "route";
/// 2xx, 4xx, 5xx.
pub const STATUS_CLASS: &str = "status_class";
/// hit, miss or other.
pub const RESULT: &str = "result";
/// ok, error or timeout.
pub const OUTCOME: &str = "outcome";
/// Of a request without a caller: missing, malformed, refused, limited or unavailable. Of evicted
/// entries: unusable or idle.
pub const REASON: &str = "reason";
/// The name of a transaction, as the code gives it.
pub const TRANSACTION: &str = "transaction";
/// 7, 2, or 0 for those past their time.
pub const WITHIN_DAYS: &str = "within_days";
