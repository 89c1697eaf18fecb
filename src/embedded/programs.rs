//! Finds the system's server programs. It runs nothing but `postgres --version` and changes
//! nothing.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::EmbeddedError;

/// The oldest version that a new cluster may have. Postgres 15 is the first version that by default
/// lets only the database's owner create objects in the schema `public`.
const OLDEST_POSTGRES: u32 = 15;

/// The folders in which distributions keep versioned Postgres programs. Each row has the parent
/// folder, the start of the versioned folder's name, and the rest of the path.
const POSTGRES_FOLDERS: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
];

const REDIS_FOLDERS: [&str; 5] = [
    "/usr/bin",
    "/usr/local/bin",
    "/usr/sbin",
    "/opt/homebrew/bin",
    "/home/linuxbrew/.linuxbrew/bin",
];

/// A folder with `postgres` and `initdb` of one major version.
#[derive(Debug, Clone)]
pub(super) struct PostgresPrograms {
    folder: PathBuf,
}

impl PostgresPrograms {
    /// Finds the programs of the version that made `cluster`. If there is no cluster yet, finds
    /// the first fitting version in PATH, or else the newest one in `POSTGRES_FOLDERS`.
    pub(super) fn find(search_path: &str, cluster: &Path) -> Result<Self, EmbeddedError> {
        let made_by = fs::read_to_string(cluster.join("PG_VERSION"))
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok());
        let fits = |major: u32| made_by.map_or(major >= OLDEST_POSTGRES, |made| made == major);
        let found = candidates(search_path)
            .into_iter()
            .find(|folder| folder.join("initdb").is_file() && version(folder).is_some_and(fits));
        match (found, made_by) {
            (Some(folder), _) => Ok(Self { folder }),
            (None, None) => Err(EmbeddedError::PostgresMissing),
            (None, Some(major)) => {
                Err(EmbeddedError::PostgresVersionMissing { cluster: cluster.to_path_buf(), major })
            }
        }
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }
}

/// Finds `redis-server`, or `valkey-server` if there is no `redis-server`. Returns `None` if
/// neither is installed.
pub(super) fn find_redis(search_path: &str) -> Option<PathBuf> {
    let folders: Vec<PathBuf> =
        path_folders(search_path).chain(REDIS_FOLDERS.iter().map(PathBuf::from)).collect();
    ["redis-server", "valkey-server"]
        .iter()
        .find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|p| p.is_file()))
}

fn path_folders(search_path: &str) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(search_path).filter(|folder| folder.is_absolute())
}

fn candidates(search_path: &str) -> Vec<PathBuf> {
    let mut versioned: Vec<(u32, PathBuf)> = POSTGRES_FOLDERS
        .iter()
        .flat_map(|(parent, start, rest)| {
            let entries = fs::read_dir(parent).into_iter().flatten().flatten();
            entries.filter_map(move |entry| {
                let name = entry.file_name();
                let tail = name.to_str()?.strip_prefix(start)?;
                let major = tail.trim_start_matches(['-', '@']).parse().unwrap_or_default();
                Some((major, entry.path().join(rest)))
            })
        })
        .collect();
    versioned.sort_by_key(|(major, _)| Reverse(*major));
    let in_path = path_folders(search_path);
    in_path
        .chain(versioned.into_iter().map(|(_, folder)| folder))
        .filter(|folder| folder.join("postgres").is_file())
        .collect()
}

/// Returns the major version, which is 15 in the output `postgres (PostgreSQL) 15.14 (Debian …)`.
fn version(folder: &Path) -> Option<u32> {
    let output =
        Command::new(folder.join("postgres")).arg("--version").env_clear().output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
