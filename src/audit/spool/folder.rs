//! Owns the folders of the spool, one per process. A process makes and locks its own folder, and
//! adopts the folder of a dead process under that folder's lock. Every name in a folder is synced
//! before a caller is answered for the records under that name.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::domain::ids::WriterId;

use super::{EXTENSION, Segment, SpoolError, failed};

/// The character that the name of a folder begins with until the folder is locked.
const UNNAMED: char = '.';

/// How often a folder that others remove is made again, and the pause between two tries.
const MOST_TRIES: usize = 1_000;
const PAUSE: Duration = Duration::from_millis(1);

/// The folder of one process. The kernel drops the lock when the process ends.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder of this process. The folder gets its name once it is locked, so that a
    /// process that looks for folders of dead processes never finds it unlocked under that name.
    pub(super) fn make(dir: &Path, name: &str) -> Result<Self, SpoolError> {
        let (unnamed, path) = (dir.join(format!("{UNNAMED}{name}")), dir.join(name));
        let made = make_locked(&unnamed)?;
        fs::rename(&unnamed, &path).map_err(failed("rename", &unnamed))?;
        sync_dir(dir)?;
        Ok(Self { path, ..made })
    }

    /// Removes the folder if it holds no segment. A segment that was put aside keeps the folder.
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

/// Makes a folder and locks it. Another process may take the folder for that of a dead process and
/// remove it before it is locked; then the folder is made again. The folder is not synced first: a
/// sync takes so long that each try would be in vain beside a process that keeps looking. Nothing
/// is in the folder until it has its name, and that name is synced.
fn make_locked(path: &Path) -> Result<Folder, SpoolError> {
    for _ in 0..MOST_TRIES {
        create(path)?;
        if let Some(folder) = lock(path)? {
            return Ok(folder);
        }
        // The process that holds the lock is about to remove the folder.
        thread::sleep(PAUSE);
    }
    Err(SpoolError::Gone(path.to_owned()))
}

/// The names of the files with which a folder is tried out.
const TRIALS: [&str; 2] = ["trial", "trial.renamed"];

/// The name of the file by which a folder is locked.
const LOCK: &str = "lock";

/// Makes a folder and its missing parents, and syncs the name of each.
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

/// Makes a folder for its owner alone, unless another process has made it in the meantime.
fn create(path: &Path) -> Result<(), SpoolError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed("make", path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn sync_dir(path: &Path) -> Result<(), SpoolError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

/// Locks the folder of a process. Returns `None` while that process lives, and if the folder is
/// gone.
fn lock(path: &Path) -> Result<Option<Folder>, SpoolError> {
    let name = path.join(LOCK);
    let mut options = OpenOptions::new();
    let file = match options.write(true).create(true).truncate(false).mode(0o600).open(&name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed("open", &name))?,
    };
    match file.try_lock() {
        Ok(()) if is_at(&file, &name) => Ok(Some(Folder { path: path.to_owned(), _lock: file })),
        // A lock that was taken on another file than `name` keeps no process out: the last holder
        // removed that file.
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed("lock", &name)(source)),
    }
}

/// Returns whether `file` is the file that has this name now.
fn is_at(file: &File, name: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), fs::metadata(name)) else { return false };
    (held.ino(), held.dev()) == (there.ino(), there.dev())
}

/// Writes, syncs, renames and removes a file in `folder`, as the spool will.
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

/// The folders and segments that dead processes left.
#[derive(Default)]
pub(super) struct Adopted {
    /// The folders that hold at least one segment.
    pub(super) folders: Vec<Folder>,
    /// The segments in these folders.
    pub(super) segments: Vec<Arc<Segment>>,
    /// The ids of all dead processes, also of those that left no segment.
    pub(super) dead: Vec<WriterId>,
}

/// Takes over the folders of dead processes. A folder without segments is removed, also one whose
/// process died before the folder had its name.
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
