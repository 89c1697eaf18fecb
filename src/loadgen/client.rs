//! Owns one caller of the load: it has one connection and sends the next request as soon as it has
//! read the reply to the last one. It must never retry a request and never spin, so it pauses after
//! a failure.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Request;
use super::deadline::{Expired, Watched};
use super::outcome::{FailureKind, LoadOutcome};
use super::reply::{HEAD_BYTES_MAX, Head, ReplyError, Reuse, parse_head};
use super::schedule::Schedule;

const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// The reason why a request brought no complete reply.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no connection could be opened: {0}")]
    Connect(#[source] io::Error),
    #[error("nothing complete arrived within the time allowed")]
    Timeout,
    #[error("the connection broke: {0}")]
    Broken(#[source] io::Error),
    #[error("the server closed the connection before its reply was complete")]
    Closed,
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

impl From<Expired> for CallError {
    fn from(Expired: Expired) -> Self {
        Self::Timeout
    }
}

impl CallError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Connect(_) => FailureKind::Connect,
            Self::Timeout => FailureKind::Timeout,
            Self::Broken(_) | Self::Closed => FailureKind::Disconnected,
            Self::Reply(_) => FailureKind::Protocol,
        }
    }
}

/// The values that all callers of a thread share.
pub struct SharedLoad<'a> {
    /// The address to which connections are opened.
    pub target: SocketAddr,
    /// The requests that callers choose from.
    pub requests: &'a [Request],
    /// The time at which counting begins. Requests that began earlier are not counted.
    pub measured_from: Instant,
    /// The counts of the thread. No borrow may be held across an `await`.
    pub outcome: &'a RefCell<LoadOutcome>,
}

/// Sends the requests that `schedule` gives, one after the other, until it gives no more.
pub async fn run(shared: &SharedLoad<'_>, watched: &Watched, mut schedule: Schedule) {
    let mut caller = HttpCaller {
        target: shared.target,
        watched,
        connection: None,
        buffer: vec![0; HEAD_BYTES_MAX].into_boxed_slice(),
    };
    let mut now = Instant::now();
    while let Some(index) = schedule.next(now, shared.requests.len()) {
        let called = caller.call(shared.requests[index].bytes(), now).await;
        let begun = now;
        now = Instant::now();
        match called {
            Ok(reply) if reply.asked >= shared.measured_from => {
                shared.outcome.borrow_mut().count_reply(&reply.head, now - reply.asked);
            }
            Ok(_) => {}
            Err(error) => {
                if begun >= shared.measured_from {
                    let mut outcome = shared.outcome.borrow_mut();
                    outcome.count_failure(error.kind(), || error.to_string());
                }
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                now = Instant::now();
            }
        }
    }
}

struct HttpCaller<'a> {
    target: SocketAddr,
    watched: &'a Watched,
    connection: Option<TcpStream>,
    buffer: Box<[u8]>,
}

struct TimedReply {
    /// The time at which the request began, after its connection was open.
    asked: Instant,
    head: Head,
}

impl HttpCaller<'_> {
    /// Sends one request and reads its whole reply, over the open connection or a new one. Keeps
    /// the connection only if the reply allows that.
    async fn call(&mut self, request: &[u8], now: Instant) -> Result<TimedReply, CallError> {
        let (mut stream, asked) = match self.connection.take() {
            Some(stream) => (stream, now),
            None => (self.watched.watch(now, connect(self.target)).await??, Instant::now()),
        };
        let exchange = exchange(&mut stream, request, &mut self.buffer);
        let head = self.watched.watch(asked, exchange).await??;
        if head.reuse == Reuse::KeepAlive {
            self.connection = Some(stream);
        }
        Ok(TimedReply { asked, head })
    }
}

async fn connect(target: SocketAddr) -> Result<TcpStream, CallError> {
    let stream = TcpStream::connect(target).await.map_err(CallError::Connect)?;
    stream.set_nodelay(true).map_err(CallError::Connect)?;
    Ok(stream)
}

async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut [u8],
) -> Result<Head, CallError> {
    stream.write_all(request).await.map_err(CallError::Broken)?;
    let mut filled = 0;
    let head = loop {
        filled += read_some(stream, &mut buffer[filled..]).await?;
        if let Some(head) = parse_head(&buffer[..filled])? {
            break head;
        }
    };
    let mut body_read = filled - head.length_bytes;
    while body_read < head.body_bytes {
        body_read += read_some(stream, buffer).await?;
    }
    if body_read > head.body_bytes {
        return Err(ReplyError::Surplus.into());
    }
    Ok(head)
}

async fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, CallError> {
    match stream.read(buffer).await.map_err(CallError::Broken)? {
        0 => Err(CallError::Closed),
        read => Ok(read),
    }
}
