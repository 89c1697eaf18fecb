//! Runs a private Postgres and a private Redis in a data folder, with the system's programs. Owns
//! their folders, sockets, processes and locks. It never touches a server that it did not start or
//! adopt, never opens a TCP port of Postgres, and never gives its own environment to a server.

mod error;
mod folder_lock;
mod place;
mod postgres_server;
mod postmaster;
mod process;
mod programs;
mod redis_server;
mod roles;

pub use error::EmbeddedError;
pub use postgres_server::PostgresServer;
pub use postmaster::{PostgresOptions, SUPERUSER};
pub use process::Lifetime;
pub use redis_server::{Listen, RedisOptions, RedisServer};
pub use roles::{APP_ROLE, DATABASE, OWNER_ROLE};
