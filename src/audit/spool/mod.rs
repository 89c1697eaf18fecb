//! Keeps batches that Postgres cannot take now durable on the local disk: append-only segments in a
//! folder of this process, one fdatasync per batch. Adopts the segments of dead processes. Never
//! holds content. Its calls block: the audit's own threads and the blocking pool make them.

mod folder;
pub(super) mod frame;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::clock::Clock;
use crate::domain::ids::WriterId;
use crate::store::audit::StampedRecord;

use folder::{Adopted, Folder, adopt, sync_dir};

/// The length at which a segment is closed, so that drained segments can be removed.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// The room below which the spool counts as full, so that a look finds it full as well as an
/// append.
const ROOM: u64 = 4_096;

/// The extension of a segment's file.
const EXTENSION: &str = "spool";

/// The folder and the bounds of the spool.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// The folder in which each process has its own folder.
    pub dir: PathBuf,
    /// The most bytes that may wait for Postgres.
    pub max_bytes: u64,
    /// The longest time that a record may wait for Postgres before more records are refused.
    pub max_age: TimeDelta,
}

/// The reason why a batch is not in the spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// There is no spool: a command has none.
    #[error("there is no audit spool")]
    None,
    /// The spool holds as many bytes as it may.
    #[error("the audit spool is full")]
    Full,
    /// The oldest record has waited as long as it may.
    #[error("the audit spool's oldest record has waited too long for Postgres")]
    TooOld,
    /// The segment or its folder is not where it was, or is not open to its owner any more.
    #[error("the audit spool's {} is gone or closed", .0.display())]
    Gone(PathBuf),
    /// The disk refused.
    #[error("the audit spool cannot {verb} {}: {}", path.display(), source.kind())]
    Io {
        /// The operation that was tried.
        verb: &'static str,
        /// The path of the file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A batch cannot be written as JSON.
    #[error("an audit batch cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError::Io { verb, path, source }
}

/// A file of batches. It is held open until it is drained: unlinking it takes no records away.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Segment {
    /// Reads the whole segment.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata()?.len()).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Returns when the first record of the segment happened. Returns `None` if that cannot be
    /// read.
    fn begun(&self) -> Option<DateTime<Utc>> {
        match frame::decode(&self.read().ok()?) {
            frame::Frame::Batch(rows, _) => rows.first().map(|row| row.record.at),
            _ => None,
        }
    }

    /// Returns the path at which the segment is, or was.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The spool of this process.
pub(super) struct Spool {
    settings: SpoolSettings,
    clock: Arc<dyn Clock>,
    own: Folder,
    adopted: Vec<Folder>,
    /// The ids of the processes that were found dead.
    pub(super) dead: Vec<WriterId>,
    /// The segment that is written to. After a failure it is never written to again.
    open: Option<Segment>,
    /// The segments that wait to be drained, in the order of writing. Those of dead processes are
    /// first.
    closed: Vec<Arc<Segment>>,
    /// The files that nobody needs any more and that could not be removed.
    leftover: Vec<PathBuf>,
    next: u64,
    bytes: u64,
    oldest: Option<DateTime<Utc>>,
}

impl Spool {
    /// Adopts the segments of dead processes, makes the folder of this process, and tries that
    /// folder out.
    pub(super) fn open(
        settings: SpoolSettings,
        id: WriterId,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SpoolError> {
        let dir = &settings.dir;
        folder::make_dir(dir)?;
        let Adopted { folders: adopted, segments: closed, dead } = adopt(dir)?;
        let own = Folder::make(dir, &id.to_string())?;
        folder::try_out(&own.path)?;
        let bytes = closed.iter().map(|segment| segment.bytes).sum();
        let now = clock.now();
        let oldest = closed.iter().map(|segment| segment.begun().unwrap_or(now)).min();
        let (open, leftover, next) = (None, Vec::new(), 1);
        Ok(Self {
            settings,
            clock,
            own,
            adopted,
            dead,
            open,
            closed,
            leftover,
            next,
            bytes,
            oldest,
        })
    }

    /// Makes a batch durable. After an error it is unknown whether the batch is durable.
    pub(super) fn append(&mut self, rows: &[StampedRecord]) -> Result<(), SpoolError> {
        let frame = frame::encode(rows)?;
        let now = self.clock.now();
        self.check(frame.len() as u64, now)?;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin_segment()?,
        };
        let acknowledged = open.bytes > 0;
        open.bytes += frame.len() as u64;
        self.bytes += frame.len() as u64;
        self.oldest.get_or_insert(now);
        let written = write(&mut open, &frame);
        if written.is_ok() && open.bytes < SEGMENT_BYTES {
            self.open = Some(open);
            return written;
        }
        // A write that failed is not tried again on the same file, because the kernel may have
        // dropped the file's pages.
        let closed = Arc::new(open);
        self.closed.push(Arc::clone(&closed));
        if written.is_err() && !acknowledged {
            // No caller was answered for anything in the segment, and each later try makes another.
            let _stays = self.remove(&closed);
        }
        written
    }

    fn begin_segment(&mut self) -> Result<Segment, SpoolError> {
        let path = self.own.path.join(format!("{:020}.{EXTENSION}", self.next));
        self.next += 1;
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(failed("make", &path))?;
        if let Err(error) = sync_dir(&self.own.path) {
            // The segment is empty, and each later try makes another.
            let _stays = self.remove_file(&path);
            return Err(error);
        }
        Ok(Segment { file, path, bytes: 0 })
    }

    /// Checks whether a batch could be taken now, as far as can be known without writing.
    pub(super) fn usable(&self) -> Result<(), SpoolError> {
        self.check(0, self.clock.now())
    }

    fn check(&self, more: u64, now: DateTime<Utc>) -> Result<(), SpoolError> {
        if self.bytes + more.max(ROOM) > self.settings.max_bytes {
            return Err(SpoolError::Full);
        }
        if self.oldest.is_some_and(|oldest| now - oldest > self.settings.max_age) {
            return Err(SpoolError::TooOld);
        }
        let folder = fs::metadata(&self.own.path).map_err(failed("find", &self.own.path))?;
        if !folder.is_dir() || folder.mode() & 0o700 != 0o700 {
            return Err(SpoolError::Gone(self.own.path.clone()));
        }
        self.open.as_ref().map_or(Ok(()), check_open)
    }

    /// Closes the segment that is written to, so that it can be drained.
    pub(super) fn close_segment(&mut self) {
        self.closed.extend(self.open.take().map(Arc::new));
    }

    /// Returns the segments that wait to be drained, in the order of writing.
    pub(super) fn closed_segments(&self) -> Vec<Arc<Segment>> {
        self.closed.clone()
    }

    /// Removes a segment whose records nobody needs any more, and with the last segment of a dead
    /// process the folder of that process. The spool is done with the segment, even if its file
    /// stays for now.
    pub(super) fn remove(&mut self, drained: &Arc<Segment>) -> Result<(), SpoolError> {
        let removed = self.remove_file(&drained.path);
        self.forget(drained);
        removed
    }

    fn remove_file(&mut self, path: &Path) -> Result<(), SpoolError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                self.leftover.push(path.to_owned());
                Err(failed("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Tries again to remove the files that could not be removed.
    pub(super) fn sweep(&mut self) {
        for path in std::mem::take(&mut self.leftover) {
            let _stays = self.remove_file(&path);
        }
        self.release_folders();
    }

    /// Puts aside a segment that cannot be read to its end, so that a person can look at it. The
    /// spool is done with the segment. If its file keeps its name, the next process puts it aside
    /// too.
    pub(super) fn put_aside(&mut self, damaged: &Arc<Segment>) -> Result<(), SpoolError> {
        let aside = damaged.path.with_extension("damaged");
        let renamed = fs::rename(&damaged.path, aside).map_err(failed("rename", &damaged.path));
        self.forget(damaged);
        renamed
    }

    fn forget(&mut self, segment: &Arc<Segment>) {
        self.closed.retain(|other| !Arc::ptr_eq(other, segment));
        self.bytes = self.bytes.saturating_sub(segment.bytes);
        if self.is_empty() {
            self.oldest = None;
        }
        self.release_folders();
    }

    /// Removes the folders of dead processes that hold nothing any more.
    fn release_folders(&mut self) {
        let segments = self.closed.iter().map(|segment| segment.path.as_path());
        let held: Vec<&Path> = segments.chain(self.leftover.iter().map(PathBuf::as_path)).collect();
        let emptied = |folder: &mut Folder| !held.iter().any(|path| path.starts_with(&folder.path));
        for folder in self.adopted.extract_if(.., emptied) {
            folder.remove();
        }
    }

    /// Returns whether nothing waits for Postgres.
    pub(super) const fn is_empty(&self) -> bool {
        self.open.is_none() && self.closed.is_empty()
    }

    /// Returns how many bytes wait for Postgres.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Spool {
    /// Leaves no folder behind if there is nothing to adopt.
    fn drop(&mut self) {
        self.sweep();
        if self.is_empty() {
            self.own.remove();
        }
    }
}

fn write(open: &mut Segment, frame: &[u8]) -> Result<(), SpoolError> {
    open.file.write_all(frame).map_err(failed("write", &open.path))?;
    open.file.sync_data().map_err(failed("sync", &open.path))?;
    check_open(open)
}

fn check_open(open: &Segment) -> Result<(), SpoolError> {
    let gone = || SpoolError::Gone(open.path.clone());
    let held = open.file.metadata().map_err(failed("look at", &open.path))?;
    let there = fs::metadata(&open.path).map_err(|_| gone())?;
    let same = held.ino() == there.ino() && held.dev() == there.dev();
    if same && held.nlink() > 0 && held.mode() & 0o600 == 0o600 { Ok(()) } else { Err(gone()) }
}
