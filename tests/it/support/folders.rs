//! Folders of this test run. Most are in memory: their tests promise nothing about what survives a
//! crash. Tests of durability, crashes and the spool take theirs on a disk (`scratch_on_disk`).

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::kill;
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;

/// The folder where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";

/// The bytes that must be free there: the databases of the tests that run at a time, with their
/// logs.
const NEEDED_BYTES: u64 = 3 * 1024 * 1024 * 1024;

/// The beginning of the name of each run's folder, before the id of its process.
const PREFIX: &str = "ai-cache-tests-";

static COUNT: AtomicU64 = AtomicU64::new(0);

/// This run's folder in memory. It is on a disk where the system has too little memory for files.
static IN_MEMORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new(MEMORY);
    let free = statvfs(memory).map_or(0, |fs| fs.blocks_available() * fs.fragment_size());
    if free >= NEEDED_BYTES { own_folder(memory) } else { ON_DISK.clone() }
});

/// This run's folder in the system's folder for temporary files.
static ON_DISK: LazyLock<PathBuf> = LazyLock::new(|| own_folder(&std::env::temp_dir()));

/// Makes this run's folder under `parent`, after removing those of runs that are over. Other users
/// may pass through it, because servers run as users of their own when the tests run as root.
fn own_folder(parent: &Path) -> PathBuf {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        if pid.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_err()) {
            // Another user's run may have left the folder.
            let _kept = std::fs::remove_dir_all(entry.path());
        }
    }
    let folder = parent.join(format!("{PREFIX}{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn make(parent: &Path, name: &str) -> PathBuf {
    let count = COUNT.fetch_add(1, Ordering::SeqCst);
    let folder = parent.join(format!("{count}-{name}"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Makes a new folder, in memory where the system has enough.
pub fn scratch(name: &str) -> PathBuf {
    make(&IN_MEMORY, name)
}

/// Makes a new folder on a disk, for tests of data that must survive a crash.
pub fn scratch_on_disk(name: &str) -> PathBuf {
    make(&ON_DISK, name)
}
