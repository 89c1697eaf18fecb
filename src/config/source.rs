//! Owns the values of variables. They come from the environment, then `--config FILE`, then `.env`,
//! and the first value of a variable holds. It reads them once and never changes them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::known::KNOWN;

/// The place that a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    /// The value comes from the environment of the process.
    Environment,
    /// The value comes from a file of `NAME=value` lines.
    File(PathBuf),
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("environment"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The reason why settings cannot be read. Each message is one line and holds no value.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read.
    #[error("the settings file {} cannot be read: {}", .0.display(), .1.kind())]
    File(PathBuf, #[source] std::io::Error),
    /// A line of a file is not `NAME=value`.
    #[error("the settings file {} has a malformed line", .0.display())]
    Line(PathBuf),
    /// A variable is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(String),
}

/// The values of variables by name.
#[derive(Clone, Default)]
pub struct Source {
    values: BTreeMap<String, (String, ValueOrigin)>,
    search_path: String,
    temp_dir: PathBuf,
}

impl fmt::Debug for Source {
    /// Writes only the names, because values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("AI_CACHE_") || KNOWN.iter().any(|known| known.covers(name))
}

impl Source {
    /// Reads the environment of the process, then `file` if one is given, then `.env` in the
    /// working folder.
    pub fn read(file: Option<&Path>) -> Result<Self, SourceError> {
        let mut source = Self { temp_dir: std::env::temp_dir(), ..Self::default() };
        source.add_environment()?;
        if let Some(file) = file {
            source.add_file(file)?;
        }
        let dot_env = Path::new(".env");
        if dot_env.is_file() {
            source.add_file(dot_env)?;
        }
        Ok(source)
    }

    /// Makes a source of these values, as if they came from the environment.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut source = Self::default();
        for (name, value) in pairs {
            source.add(name.to_owned(), value.to_owned(), ValueOrigin::Environment);
        }
        source
    }

    fn add_environment(&mut self) -> Result<(), SourceError> {
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str() else { continue };
            if name == "PATH" {
                self.search_path = value.to_string_lossy().into_owned();
            } else if is_ours(name) {
                let text = value.into_string();
                let text = text.map_err(|_| SourceError::NotUtf8(name.to_owned()))?;
                self.add(name.to_owned(), text, ValueOrigin::Environment);
            }
        }
        Ok(())
    }

    /// Adds the lines of a file whose variables are not set yet.
    pub fn add_file(&mut self, path: &Path) -> Result<(), SourceError> {
        let failed = |error| SourceError::File(path.to_owned(), error);
        let lines = dotenvy::from_path_iter(path).map_err(|error| match error {
            dotenvy::Error::Io(error) => failed(error),
            _ => SourceError::Line(path.to_owned()),
        })?;
        for line in lines {
            let (name, value) = line.map_err(|_| SourceError::Line(path.to_owned()))?;
            if is_ours(&name) {
                self.add(name, value, ValueOrigin::File(path.to_owned()));
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, value: String, origin: ValueOrigin) {
        self.values.entry(name).or_insert((value, origin));
    }

    pub(super) fn get(&self, name: &str) -> Option<(&str, &ValueOrigin)> {
        self.values.get(name).map(|(value, origin)| (value.as_str(), origin))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Returns the folder for files that are removed when a command ends.
    pub fn temp_dir(&self) -> &Path {
        &self.temp_dir
    }

    /// Returns the search path for programs, which is `PATH`.
    pub fn search_path(&self) -> &str {
        &self.search_path
    }
}
