//! A proxy between the service and Postgres. It cuts connections at the moment when a commit of
//! audit records was sent, and plays a Postgres that is out of reach. Its tasks end when it is
//! dropped.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The proxy of one test.
pub struct PgProxy {
    url: String,
    shared: Arc<Shared>,
    /// Holds the accepting task, which holds the tasks of the connections. Dropping it aborts all
    /// of them.
    _tasks: JoinSet<()>,
}

struct Shared {
    socket: PathBuf,
    down: watch::Sender<bool>,
    /// The number of the next commits that are cut, by what they commit.
    to_cut: [AtomicUsize; 2],
    cut: [AtomicUsize; 2],
}

/// The content of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// A batch of the writer: one statement that is committed by itself.
    Batch,
    /// A change with its record.
    Change,
}

impl PgProxy {
    /// Starts a proxy before the server of a URL that names a socket's folder.
    pub async fn start(url: &str) -> Self {
        let (role, rest) = url.split_once('@').unwrap();
        let (address, database) = rest.split_once('/').unwrap();
        let (folder, port) = address.split_once(':').unwrap();
        let socket = PathBuf::from(folder.replace("%2F", "/")).join(format!(".s.PGSQL.{port}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{role}@{}/{database}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            socket,
            down: watch::Sender::new(false),
            to_cut: Default::default(),
            cut: Default::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { url, shared, _tasks: tasks }
    }

    /// Returns the URL that leads through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Forwards the next `count` commits of this kind and cuts their connections at once.
    pub fn cut_next(&self, what: Commit, count: usize) {
        self.shared.to_cut[what as usize].store(count, Ordering::SeqCst);
    }

    /// Returns the number of commits of this kind that were cut.
    pub fn cuts(&self, what: Commit) -> usize {
        self.shared.cut[what as usize].load(Ordering::SeqCst)
    }

    /// Cuts every connection, now and until the proxy is up again.
    pub fn take_down(&self) {
        self.shared.down.send_replace(true);
    }

    /// Lets connections through again.
    pub fn bring_up(&self) {
        self.shared.down.send_replace(false);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(serve(client, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection. Dropping it cuts it: the server keeps what was sent, and its answer
/// reaches nobody.
async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = UnixStream::connect(&shared.socket).await else { return };
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let mut down = shared.down.subscribe();
    tokio::select! {
        biased;
        _ = down.wait_for(|down| *down) => {}
        _ = forward(BufReader::new(from_client), to_server, &shared) => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

/// Forwards what the client sends, up to the commit that must be cut.
async fn forward(
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWriteExt + Unpin,
    shared: &Shared,
) -> io::Result<()> {
    // The first message has no kind.
    let length = client.read_u32().await?;
    server.write_u32(length).await?;
    let mut startup = vec![0; length as usize - 4];
    client.read_exact(&mut startup).await?;
    server.write_all(&startup).await?;
    let mut session = Session::default();
    loop {
        let mut message = vec![0; 5];
        client.read_exact(&mut message).await?;
        let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
        message.resize(length as usize + 1, 0);
        client.read_exact(&mut message[5..]).await?;
        let cut = session.commit(message[0], &message[5..]).is_some_and(|what| shared.cuts(what));
        server.write_all(&message).await?;
        if cut {
            return Ok(());
        }
    }
}

impl Shared {
    /// Returns whether this commit is one that is cut.
    fn cuts(&self, what: Commit) -> bool {
        let take = |left: usize| left.checked_sub(1);
        let what = what as usize;
        let cut = self.to_cut[what].fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
        self.cut[what].fetch_add(usize::from(cut), Ordering::SeqCst);
        cut
    }
}

/// The state of a connection.
#[derive(Default)]
struct Session {
    /// Prepared statements that insert audit records.
    inserts: HashSet<Vec<u8>>,
    in_transaction: bool,
    /// Whether records were inserted that are not committed yet.
    pending: bool,
}

impl Session {
    /// Returns the content that a message commits, if that is audit records.
    fn commit(&mut self, kind: u8, body: &[u8]) -> Option<Commit> {
        let mut texts = body.split(|byte| *byte == 0);
        let first = texts.next().unwrap_or_default();
        match kind {
            // Parse: a statement's name and text.
            b'P' => {
                let text = texts.next().unwrap_or_default();
                if text.starts_with(b"INSERT INTO ai_cache_audit_logs") {
                    self.inserts.insert(first.to_vec());
                } else {
                    self.inserts.remove(first);
                }
                None
            }
            // Bind: a portal's name and a statement's.
            b'B' => {
                self.pending |= self.inserts.contains(texts.next().unwrap_or_default());
                None
            }
            // Sync ends a statement's own transaction.
            b'S' if !self.in_transaction => {
                std::mem::take(&mut self.pending).then_some(Commit::Batch)
            }
            b'Q' if first.starts_with(b"BEGIN") => {
                self.in_transaction = true;
                None
            }
            b'Q' if self.in_transaction => self.end_transaction(first),
            _ => None,
        }
    }

    fn end_transaction(&mut self, text: &[u8]) -> Option<Commit> {
        let commits = text.starts_with(b"COMMIT");
        if !commits && text != b"ROLLBACK" {
            return None;
        }
        self.in_transaction = false;
        (std::mem::take(&mut self.pending) && commits).then_some(Commit::Change)
    }
}
