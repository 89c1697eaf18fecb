//! Every name of a metric and of a label, once. Renaming one breaks dashboards and alert rules.

/// Requests by route and class of status.
pub const REQUESTS: &str = "ai_cache_requests_total";
/// Answers from a tier.
pub const HITS: &str = "ai_cache_hits_total";
/// Answers that were not in the cache.
pub const MISSES: &str = "ai_cache_misses_total";
/// Hits whose answer was past its time.
pub const STALE: &str = "ai_cache_stale_total";
/// Hits out of all answers since the process began, 0 to 1.
pub const HIT_RATE: &str = "ai_cache_hit_rate";
/// Time of a query's reply in milliseconds.
pub const RESPONSE_TIME: &str = "ai_cache_response_time";
/// Bytes of the hot tier.
pub const MEMORY_USAGE: &str = "ai_cache_memory_usage";
/// Bytes that the hot tier may take.
pub const MEMORY_LIMIT: &str = "ai_cache_memory_limit";
/// Entries of the hot tier.
pub const HOT_ENTRIES: &str = "ai_cache_hot_entries";
/// Walks through the hot tier that free the memory of invalidated entries.
pub const HOT_SWEEPS: &str = "ai_cache_hot_sweeps_total";
/// Whether it is proven that no invalidation was missed: 1 or 0.
pub const PROVEN: &str = "ai_cache_proven";
/// The seconds for which it has not been proven that no invalidation was missed. 0 means that it is
/// proven.
pub const UNPROVEN: &str = "ai_cache_unproven_seconds";
/// Calls of the upstream by their outcome.
pub const UPSTREAM_CALLS: &str = "ai_cache_upstream_calls_total";
/// Misses that another caller's fetch answered.
pub const COLLAPSED: &str = "ai_cache_collapsed_total";
/// Answers that were stored.
pub const STORED: &str = "ai_cache_stored_total";
/// Entries that invalidations removed.
pub const INVALIDATIONS: &str = "ai_cache_invalidations_total";
/// Entries that evictions removed from Postgres, by the reason.
pub const EVICTED: &str = "ai_cache_evicted_total";
/// US dollars that were not spent again.
pub const COST_SAVED: &str = "ai_cache_cost_saved_usd_total";
/// Tokens that were not bought again.
pub const TOKENS_SAVED: &str = "ai_cache_tokens_saved_total";
/// Audit records that were made durable.
pub const AUDIT_RECORDS: &str = "ai_cache_audit_records_total";
/// Batches of audit records that were made durable.
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
/// Age in seconds of the oldest audit record that is not sealed.
pub const AUDIT_SEAL_LAG: &str = "ai_cache_audit_seal_lag_seconds";
/// Findings of the last daily verification.
pub const AUDIT_FINDINGS: &str = "ai_cache_audit_findings";
/// The time at which the last daily verification ended, in seconds since 1970.
pub const AUDIT_VERIFIED: &str = "ai_cache_audit_verified_timestamp_seconds";
/// Rows in default partitions, which take the rows that find no partition of their month.
pub const AUDIT_DEFAULT_ROWS: &str = "ai_cache_audit_default_partition_rows";
/// Open requests of data subjects that are due within a number of days.
pub const GDPR_DUE: &str = "ai_cache_gdpr_requests_due";
/// Stored values that did not open.
pub const INTEGRITY_FAILURES: &str = "ai_cache_integrity_failures_total";
/// Failed commands of Redis.
pub const REDIS_ERRORS: &str = "ai_cache_redis_errors_total";
/// Time of a transaction with Postgres in milliseconds, by its name.
pub const TRANSACTION_TIME: &str = "ai_cache_transaction_ms";
/// Requests without a caller.
pub const AUTH_FAILURES: &str = "ai_cache_auth_failures_total";

/// The tier: hot, warm or cold.
pub const TIER: &str = "tier";
/// The path of a request's route, or `other`.
pub const ROUTE: &str = "route";
/// The class of a status: 2xx, 3xx, 4xx or 5xx.
pub const STATUS_CLASS: &str = "status_class";
/// The result of a query: hit, miss or other.
pub const RESULT: &str = "result";
/// The outcome of a call of the upstream: ok, error or timeout.
pub const OUTCOME: &str = "outcome";
/// The reason why a request has no caller (missing, malformed, refused, limited or unavailable), or
/// why entries were evicted (unusable or idle).
pub const REASON: &str = "reason";
/// The name of a transaction, as the code gives it.
pub const TRANSACTION: &str = "transaction";
/// The days within which requests are due: 7, 2, or 0 for requests past their time.
pub const WITHIN_DAYS: &str = "within_days";
