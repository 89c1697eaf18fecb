//! An HTTP server that answers as the test says, a thread per connection. Knows nothing of the
//! service; ends with the test.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

use std::io::{BufRead, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// The server's answer to one request.
pub enum Answer {
    /// Writes these bytes.
    Bytes(Vec<u8>),
    /// Writes these bytes one by one, each in its own packet.
    Piecemeal(Vec<u8>),
    /// Writes these bytes after a time.
    Late(Vec<u8>, Duration),
    /// Never answers.
    Silence,
    /// Writes these bytes and closes.
    Close(Vec<u8>),
    /// Closes all connections and takes no more.
    Stop,
}

pub struct Canned {
    pub addr: SocketAddr,
    state: Arc<State>,
}

struct State {
    answer: Box<dyn Fn(u64) -> Answer + Send + Sync>,
    requests: AtomicU64,
    connections: AtomicU64,
    stopped: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    bodies: Mutex<Vec<Vec<u8>>>,
}

impl Canned {
    /// Answers request number n (from 0, over all connections) with `answer(n)`.
    pub fn start(answer: impl Fn(u64) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            answer: Box::new(answer),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            open: Mutex::default(),
            bodies: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                shared.connections.fetch_add(1, Ordering::SeqCst);
                shared.open.lock().unwrap().push(stream.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { addr, state }
    }

    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Counts the requests with this body.
    pub fn count_of(&self, body: &[u8]) -> usize {
        self.state.bodies.lock().unwrap().iter().filter(|came| *came == body).count()
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.state.stop(self.addr);
    }
}

impl State {
    fn stop(&self, addr: SocketAddr) {
        if self.stopped.swap(true, Ordering::SeqCst) {
            return;
        }
        // Wakes the accepting thread, which then sees that it is over.
        drop(TcpStream::connect(addr));
        for stream in self.open.lock().unwrap().drain(..) {
            let _already_closed = stream.shutdown(Shutdown::Both);
        }
    }

    fn serve(&self, stream: &TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(body) = read_request(&mut reader) {
            self.bodies.lock().unwrap().push(body);
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            if !self.act(stream, (self.answer)(number)) {
                let _already_closed = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    /// Answers. Returns whether the connection goes on.
    fn act(&self, mut stream: &TcpStream, answer: Answer) -> bool {
        match answer {
            Answer::Bytes(bytes) => stream.write_all(&bytes).is_ok(),
            Answer::Piecemeal(bytes) => bytes.iter().all(|byte| stream.write_all(&[*byte]).is_ok()),
            Answer::Late(bytes, delay) => {
                let (_never, nothing) = mpsc::channel::<()>();
                let _timeout = nothing.recv_timeout(delay);
                stream.write_all(&bytes).is_ok()
            }
            Answer::Silence => true,
            Answer::Close(bytes) => {
                stream.write_all(&bytes).unwrap();
                false
            }
            Answer::Stop => {
                self.stop(stream.local_addr().unwrap());
                false
            }
        }
    }
}

/// The body of the next request; none at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

/// A reply of `status` with these header lines and a body of JSON.
pub fn reply(status: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// A reply from the cache.
pub fn hit() -> Vec<u8> {
    reply("200 OK", &["X-Cache: HIT", "X-Audit-Id: 1"], r#"{"cached":true}"#)
}
