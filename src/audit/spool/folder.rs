//! The folders of the spool, one a process: made and locked by it, adopted under that lock when it is
//! dead. Every name in them is synced before anybody is answered for what is under it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::domain::ids::WriterId;

use super::{EXTENSION, Segment, SpoolError, failed};

/// What the name of a folder begins with until it is locked.
const UNNAMED: char = '.';

/// How often a folder is made that others remove, and the pause between.
const MOST_TRIES: usize = 1_000;
const PAUSE: Duration = Duration::from_millis(1);

/// A process's folder. The kernel drops the lock with the process.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes this process's own. It gets its name once it is locked, so that nobody who looks for
    /// what dead processes left finds it unlocked.
    pub(super) fn make(dir: &Path, name: &str) -> Result<Self, SpoolError> {
        let (unnamed, path) = (dir.join(format!("{UNNAMED}{name}")), dir.join(name));
        let made = make_locked(&unnamed)?;
        fs::rename(&unnamed, &path).map_err(failed("rename", &unnamed))?;
        sync_dir(dir)?;
        Ok(Self { path, ..made })
    }

    /// Removes a folder without segments. What was put aside in it keeps it.
    pub(super) fn remove(&self) {
        for trial in TRIALS {
            let _none = fs::remove_file(self.path.join(trial));
        }
        let removed =
            fs::remove_file(self.path.join(LOCK)).and_then(|()| fs::remove_dir(&self.path));
        if removed.is_err() {
            tracing::debug!("a spool folder stays");
        }
    }
}

/// Makes a folder and locks it. Whoever takes it for a dead process's before it is locked removes it:
/// then it is made again. It is not synced before: that takes long enough for each try to be in vain
/// beside somebody who keeps looking, and nothing is in it until it has its name, which is synced.
fn make_locked(path: &Path) -> Result<Folder, SpoolError> {
    for _ in 0..MOST_TRIES {
        create(path)?;
        if let Some(folder) = lock(path)? {
            return Ok(folder);
        }
        // Whoever holds it is about to remove it.
        thread::sleep(PAUSE);
    }
    Err(SpoolError::Gone(path.to_owned()))
}

/// The files that a folder is tried out with.
const TRIALS: [&str; 2] = ["trial", "trial.renamed"];

/// The file in a folder that is locked.
const LOCK: &str = "lock";

/// Makes a folder, and those it is in, to stay.
pub(super) fn make_dir(path: &Path) -> Result<(), SpoolError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    make_dir(parent)?;
    create(path)?;
    sync_dir(parent)
}

/// Makes a folder for its owner alone, unless another process has made it meanwhile.
fn create(path: &Path) -> Result<(), SpoolError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed("make", path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn sync_dir(path: &Path) -> Result<(), SpoolError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

/// Locks a process's folder; `None` while its process lives, or when it is gone meanwhile.
fn lock(path: &Path) -> Result<Option<Folder>, SpoolError> {
    let name = path.join(LOCK);
    let mut options = OpenOptions::new();
    let file = match options.write(true).create(true).truncate(false).mode(0o600).open(&name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed("open", &name))?,
    };
    match file.try_lock() {
        Ok(()) if is_at(&file, &name) => Ok(Some(Folder { path: path.to_owned(), _lock: file })),
        // Who held it before removed the file: this lock keeps nobody out.
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed("lock", &name)(source)),
    }
}

/// Whether a file is the one under this name.
fn is_at(file: &File, name: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), fs::metadata(name)) else { return false };
    (held.ino(), held.dev()) == (there.ino(), there.dev())
}

/// Writes, syncs, renames and removes a file, as the spool will.
pub(super) fn try_out(folder: &Path) -> Result<(), SpoolError> {
    let [trial, renamed] = TRIALS.map(|name| folder.join(name));
    let tried = File::create(&trial)
        .and_then(|mut file| {
            file.write_all(b"trial")?;
            file.sync_data()
        })
        .and_then(|()| fs::rename(&trial, &renamed))
        .and_then(|()| fs::remove_file(&renamed));
    tried.map_err(failed("use", folder))?;
    sync_dir(folder)
}

/// What dead processes left.
#[derive(Default)]
pub(super) struct Adopted {
    /// The folders of those that left something.
    pub(super) folders: Vec<Folder>,
    /// What they left.
    pub(super) segments: Vec<Arc<Segment>>,
    /// All of the dead.
    pub(super) dead: Vec<WriterId>,
}

/// Takes over the folders of dead processes. Those that hold nothing go, also one whose process died
/// before it had a name.
pub(super) fn adopt(dir: &Path) -> Result<Adopted, SpoolError> {
    let mut adopted = Adopted::default();
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let entry = entry.map_err(failed("list", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let owner = WriterId::parse(name.strip_prefix(UNNAMED).unwrap_or(&name));
        paths.extend(owner.filter(|_| entry.path().is_dir()).map(|owner| (entry.path(), owner)));
    }
    paths.sort();
    for (path, owner) in paths {
        let Some(folder) = lock(&path)? else { continue };
        adopted.dead.push(owner);
        let segments = segments_in(&path)?;
        if segments.is_empty() {
            folder.remove();
        } else {
            adopted.segments.extend(segments.into_iter().map(Arc::new));
            adopted.folders.push(folder);
        }
    }
    Ok(adopted)
}

fn segments_in(folder: &Path) -> Result<Vec<Segment>, SpoolError> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let path = entry.map_err(failed("list", folder))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            let file = File::open(&path).map_err(failed("open", &path))?;
            let bytes = file.metadata().map_err(failed("look at", &path))?.len();
            segments.push(Segment { file, path, bytes });
        }
    }
    segments.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(segments)
}
