//! Chooses and makes the folder and the socket folder of an embedded server, and chooses the user
//! that the server runs as. It never follows a link that another user could have made, and never
//! uses a folder of another user.

use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use sha2::{Digest, Sha256};

use super::error::EmbeddedError;

/// The folder for the servers' data if ai-cache runs as root and the server's user cannot reach
/// the data folder.
const SYSTEM_FOLDER: &str = "/var/lib/ai-cache";

/// The longest path of a socket. `sun_path` holds 104 bytes on macOS and 108 bytes on Linux, and
/// one of them is the closing zero.
const SOCKET_PATH_MAX_BYTES: usize = 103;

/// The room for the socket's own name, which is `/.s.PGSQL.5432` or `/redis.sock`.
const SOCKET_NAME_MAX_BYTES: usize = 14;

/// A kind of server: the name of its folder, and the users under which the server may run when
/// ai-cache is run by root.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerKind {
    pub(super) name: &'static str,
    pub(super) users: &'static [&'static str],
}

/// The user that a server runs as, if that is not the user of ai-cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

#[derive(Debug, Clone)]
pub(super) struct ServerPlace {
    /// The canonical path of the data folder. The folder holds the log and the lock, and belongs
    /// to the user that runs ai-cache.
    pub(super) data_dir: PathBuf,
    /// The server's folder, in the data folder or under /var/lib/ai-cache. It belongs to the
    /// server's user and has mode 0700.
    pub(super) server_dir: PathBuf,
    /// The folder of the socket. It belongs to the server's user and has mode 0700. Its path is
    /// short enough for a socket.
    pub(super) socket_dir: PathBuf,
    /// The user that the server runs as. `None` means the user of ai-cache.
    pub(super) user: Option<ServerUser>,
    kind: ServerKind,
}

impl ServerPlace {
    /// Finds or makes the folders. `run_as` names the user that the server runs as. A user other
    /// than the one that runs ai-cache needs root.
    pub(super) fn prepare(
        data_dir: &Path,
        kind: ServerKind,
        run_as: Option<&str>,
    ) -> Result<Self, EmbeddedError> {
        let data_dir = make_data_dir(data_dir)?;
        let wanted = choose_user(kind, run_as)?;
        let elsewhere = Path::new(SYSTEM_FOLDER).join(stable_name(&data_dir));
        let base = choose_base(&data_dir, &elsewhere, kind, wanted);
        let server_dir = base.join(kind.name);
        let user = existing_owner(&server_dir, wanted, run_as)?;
        make_own_dir_under(&base, &server_dir, user)?;
        let socket_dir = choose_socket_dir(&data_dir, &server_dir, kind, user)?;
        Ok(Self { data_dir, server_dir, socket_dir, user, kind })
    }

    pub(super) fn lock_file(data_dir: &Path, kind: ServerKind) -> Result<PathBuf, EmbeddedError> {
        Ok(make_data_dir(data_dir)?.join(format!("{}.lock", kind.name)))
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.data_dir.join(format!("{}.log", self.kind.name))
    }

    /// Returns the paths of everything that `prepare` and the server make. A caller removes them
    /// when the place is disposable.
    pub(super) fn belongings(&self) -> Vec<PathBuf> {
        let mut all = vec![self.server_dir.clone(), self.log_file()];
        all.push(self.data_dir.join(format!("{}.lock", self.kind.name)));
        if !self.socket_dir.starts_with(&self.server_dir) {
            all.push(self.socket_dir.clone());
        }
        all
    }

    /// Returns the folders that are removed after the belongings if nothing else is in them.
    pub(super) fn folders_if_empty(&self) -> Vec<PathBuf> {
        let base = self.server_dir.parent().map(Path::to_path_buf);
        base.into_iter().chain([self.data_dir.clone()]).collect()
    }
}

/// Makes the data folder and returns its canonical path. If root makes it, other users may enter
/// it, because the server's user has to pass through. Each file and folder in it is closed.
fn make_data_dir(data_dir: &Path) -> Result<PathBuf, EmbeddedError> {
    let mode = if Uid::effective().is_root() { 0o711 } else { 0o700 };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(data_dir)
        .map_err(EmbeddedError::folder("make", data_dir))?;
    fs::canonicalize(data_dir).map_err(EmbeddedError::folder("find", data_dir))
}

fn choose_user(
    kind: ServerKind,
    run_as: Option<&str>,
) -> Result<Option<ServerUser>, EmbeddedError> {
    let me = Uid::effective();
    let find = |name: &str| User::from_name(name).ok().flatten();
    if !me.is_root() {
        return match run_as {
            Some(name) if find(name).is_none_or(|user| user.uid != me) => {
                Err(EmbeddedError::NotRoot { server: kind.name, user: name.to_owned() })
            }
            _ => Ok(None),
        };
    }
    let tried: Vec<&str> = run_as.map_or_else(|| kind.users.to_vec(), |name| vec![name]);
    tried
        .iter()
        .filter_map(|name| find(name))
        .find(|user| !user.uid.is_root())
        .map(|user| Some(ServerUser { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
        .ok_or_else(|| EmbeddedError::NoUser { server: kind.name, tried: tried.join(", ") })
}

/// Chooses the data folder or `elsewhere` as the parent of the server's folder. An existing
/// server's folder decides, so that data does not seem to vanish when permissions change.
fn choose_base(
    data_dir: &Path,
    elsewhere: &Path,
    kind: ServerKind,
    user: Option<ServerUser>,
) -> PathBuf {
    let inside = data_dir.join(kind.name).exists();
    let outside = elsewhere.join(kind.name).exists();
    let reachable = user.is_none_or(|user| is_reachable(data_dir, user));
    if inside || (reachable && !outside) { data_dir.to_path_buf() } else { elsewhere.to_path_buf() }
}

/// Returns true if `user` may pass through `folder` and each folder above it.
fn is_reachable(folder: &Path, user: ServerUser) -> bool {
    folder.ancestors().all(|ancestor| {
        fs::metadata(ancestor).is_ok_and(|meta| {
            let bit = match meta {
                _ if meta.uid() == user.uid => 0o100,
                _ if meta.gid() == user.gid => 0o010,
                _ => 0o001,
            };
            meta.mode() & bit != 0
        })
    })
}

/// Returns the user that the server runs as. If ai-cache runs as root and the server's folder
/// exists, this is the owner of that folder. Returns `WrongOwner` if the owner may not be used.
fn existing_owner(
    server_dir: &Path,
    wanted: Option<ServerUser>,
    run_as: Option<&str>,
) -> Result<Option<ServerUser>, EmbeddedError> {
    let Ok(meta) = fs::symlink_metadata(server_dir) else {
        return Ok(wanted);
    };
    let owner = ServerUser { uid: meta.uid(), gid: meta.gid() };
    let wrong = || EmbeddedError::WrongOwner { folder: server_dir.to_path_buf() };
    match wanted {
        _ if !meta.is_dir() => Err(wrong()),
        None if owner.uid == Uid::effective().as_raw() => Ok(None),
        // Root owns the folder: a kill -9 came after ai-cache made it and before `lchown`.
        Some(_) if owner.uid == 0 => Ok(wanted),
        Some(user) if owner.uid == user.uid || run_as.is_none() => Ok(Some(owner)),
        None | Some(_) => Err(wrong()),
    }
}

fn make_own_dir_under(
    base: &Path,
    folder: &Path,
    user: Option<ServerUser>,
) -> Result<(), EmbeddedError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(base)
        .map_err(EmbeddedError::folder("make", base))?;
    make_own_dir(folder, user)
}

/// Makes `folder` with mode 0700 and gives it to the server's user. Returns `WrongOwner` if the
/// folder exists, and another user owns it or may enter it.
fn make_own_dir(folder: &Path, user: Option<ServerUser>) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.map_err(EmbeddedError::folder("make", folder))?,
    }
    let meta = fs::symlink_metadata(folder).map_err(EmbeddedError::folder("look at", folder))?;
    let me = Uid::effective().as_raw();
    if !meta.is_dir() || (meta.uid() != me && user.is_none_or(|user| user.uid != meta.uid())) {
        return Err(EmbeddedError::WrongOwner { folder: folder.to_path_buf() });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(EmbeddedError::WrongOwner { folder: folder.to_path_buf() });
    }
    match user {
        Some(user) => lchown(folder, Some(user.uid), Some(user.gid))
            .map_err(EmbeddedError::folder("give away", folder)),
        None => Ok(()),
    }
}

/// Chooses a folder inside the server's folder if its path is plain and short. Otherwise it chooses
/// a folder under /run or /tmp. The name of that folder is derived from the data folder, so that
/// the next start and other commands find it.
fn choose_socket_dir(
    data_dir: &Path,
    server_dir: &Path,
    kind: ServerKind,
    user: Option<ServerUser>,
) -> Result<PathBuf, EmbeddedError> {
    let near = server_dir.join("run");
    if is_plain_and_short(&near) {
        make_own_dir(&near, user)?;
        return Ok(near);
    }
    let parents: &[&str] = if user.is_some() { &["/run", "/tmp"] } else { &["/tmp"] };
    let name = format!("ai-cache-{}-{}", kind.name, stable_name(data_dir));
    // Another user may have taken a name in /tmp. Then the next name is tried.
    parents
        .iter()
        .flat_map(|parent| (0..8).map(|turn| Path::new(parent).join(format!("{name}-{turn}"))))
        .find(|folder| make_own_dir(folder, user).is_ok())
        .ok_or(EmbeddedError::NoSocketFolder)
}

/// Returns true if the path is short enough for a socket and plain. A plain path means the same in
/// a URL, in Postgres' list of folders and in a shell.
fn is_plain_and_short(folder: &Path) -> bool {
    let bytes = folder.as_os_str().as_bytes();
    bytes.len() + SOCKET_NAME_MAX_BYTES <= SOCKET_PATH_MAX_BYTES
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(byte))
}

/// Returns a name that is the same on each start for the same canonical path.
fn stable_name(data_dir: &Path) -> String {
    let digest = Sha256::digest(data_dir.as_os_str().as_bytes());
    hex::encode(&digest[..8])
}
