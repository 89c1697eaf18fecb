//! ai-cache: a multi-tenant cache for answers that cost money and time. The modules stand in the
//! order of their layers: each may use only modules of a lower number.

pub mod administration; // 8 tenants, tokens, entries
pub mod answering; // 8 everything between a question and its answer
pub mod app; // 10 puts it together
pub mod audit; // 5 durable records, receipts
pub mod auth; // 6 bearer token → caller
pub mod call; // 7 what every use case needs
pub mod cli; // 11 the command line
pub mod coherence; // 5 what is still true
pub mod compliance; // 8 data subjects' requests, retention, the trail and its proof
pub mod config; // 2 settings, the only reader of the environment
pub mod crypto; // 3 sealing, MACs, master keys
pub mod domain; // 1 values and rules
pub mod embedded; // 4 private Postgres and Redis
pub mod http; // 9 everything actix
pub mod jobs; // 9 what runs beside the requests
pub mod keyring; // 6 keys of tenants and persons
pub mod lifecycle; // 3 stop signals and tasks
pub mod loadgen; // 3 HTTP load from outside
pub mod redis; // 4 Redis
pub mod store; // 4 Postgres
pub mod telemetry; // 3 logs and metrics
pub mod tiers; // 6 memory, Redis, Postgres
pub mod upstream; // 4 the model that answers what is not cached
