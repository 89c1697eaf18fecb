//! A private Postgres and a private Redis under a data folder, run from the system's programs.
//! Owns their folders, sockets, processes and locks; never touches a server it did not start or
//! adopt, never opens a port of Postgres, and never hands our environment to a server.

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
