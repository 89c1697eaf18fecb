//! Owns the errors of the embedded servers. Each message is one line that says what to do.
//! An error never carries a driver's message, because such a message may quote values.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The reason why an embedded server cannot be used. Every message is a single line for people.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "no Postgres 15 or newer is installed: apt-get install postgresql (Debian, Ubuntu), \
         dnf install postgresql-server (Fedora), brew install postgresql@17 (Homebrew), \
         or set DATABASE_URL"
    )]
    PostgresMissing,

    #[error(
        "the data in {} was made by Postgres {major}, whose programs are not installed: install \
         that version, or choose another AI_CACHE_DATA_DIR", cluster.display()
    )]
    PostgresVersionMissing { cluster: PathBuf, major: u32 },

    #[error(
        "no redis-server or valkey-server is installed: apt-get install redis-server (Debian, \
         Ubuntu), dnf install valkey (Fedora), brew install redis (Homebrew), \
         or set AI_CACHE_REDIS_URL"
    )]
    RedisMissing,

    #[error(
        "the data folder {} is in use by another ai-cache{}: stop it, or choose another \
         AI_CACHE_DATA_DIR", folder.display(), holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse { folder: PathBuf, holder: Option<u32> },

    #[error(
        "{server} refuses to run as root and there is no user for it ({tried}): install its \
         package, or run ai-cache as an ordinary user"
    )]
    NoUser { server: &'static str, tried: String },

    #[error("only root can run {server} as {user}")]
    NotRoot { server: &'static str, user: String },

    #[error(
        "{} belongs to another user: run ai-cache as that user, or choose another \
         AI_CACHE_DATA_DIR", folder.display()
    )]
    WrongOwner { folder: PathBuf },

    #[error("no folder short enough for a unix socket could be made under /run or /tmp")]
    NoSocketFolder,

    #[error("cannot {doing} {}: {}", path.display(), source.kind())]
    Folder {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("cannot run {}: {}", program.display(), source.kind())]
    Program {
        program: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("{server} ended while starting: see {}", log.display())]
    Ended { server: &'static str, log: PathBuf },

    #[error("{server} did not accept connections within {} s: see {}", waited.as_secs(), log.display())]
    NotAccepting { server: &'static str, log: PathBuf, waited: Duration },

    #[error("{server} (process {pid}) does not stop")]
    NotStopping { server: &'static str, pid: i32 },

    /// `code` is the SQLSTATE. The server's message is left out, because it may quote values.
    #[error("the embedded Postgres refused to {doing} (SQLSTATE {code})")]
    Refused { doing: &'static str, code: String },
}

impl EmbeddedError {
    /// Returns a closure for `map_err`. The closure adds to an I/O error the path and what was
    /// being done to it.
    pub(super) fn folder(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder { doing, path, source }
    }
}
