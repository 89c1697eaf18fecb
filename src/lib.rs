//! ai-cache: a multi-tenant cache for answers that cost money and time. Modules stand in the order
//! of their layers: each may use only those above it, and none of its own number.

pub mod app; // 9 puts it together
pub mod audit; // 5 durable records, receipts
pub mod auth; // 6 bearer token → caller
pub mod cli;
pub mod coherence; // 5 what is still true
pub mod config; // 2 settings, the only reader of the environment
pub mod crypto; // 3 sealing, MACs, master keys
pub mod domain; // 1 values and rules
pub mod embedded; // 4 private Postgres and Redis
pub mod http;
pub mod keyring; // 6 keys of tenants and persons
pub mod lifecycle; // 3 stop signals and tasks
pub mod loadgen; // 3 HTTP load from outside
pub mod redis; // 4 Redis
pub mod service; // 7 the use cases
pub mod store; // 4 Postgres
pub mod telemetry; // 3 logs and metrics
pub mod tiers; // 6 memory, Redis, Postgres
pub mod upstream; // 4 who answers what is not cached // 8 everything actix // 10 the command line
