//! A chat-completions server for tests, over real sockets. It counts and keeps the requests, and
//! answers as scripted. Its tasks end when it is dropped.
#![expect(clippy::unwrap_used, reason = "a test's server has nobody to report to but the test")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The longest wait for something that a test expects to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The tokens of the prompt, as a default answer tells them.
pub const PROMPT_TOKENS: u32 = 31;
/// The tokens of the completion, as a default answer tells them.
pub const COMPLETION_TOKENS: u32 = 412;

type AnswerFn = Box<dyn Fn(&str) -> String + Send>;

/// The server.
pub struct TestUpstream {
    url: String,
    shared: Arc<Shared>,
    /// Holds the accepting task, which holds the tasks of the connections. Dropping it aborts all
    /// of them.
    _tasks: JoinSet<()>,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method and the target.
    pub line: String,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it was sent.
    pub text: String,
    /// The body as JSON.
    pub body: Value,
}

impl Request {
    /// Returns the value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn last_user_message(&self) -> &str {
        let messages = self.body["messages"].as_array();
        let last = messages.and_then(|messages| {
            let mut of_user = messages.iter().filter(|message| message["role"] == "user");
            of_user.next_back()
        });
        last.and_then(|message| message["content"].as_str()).unwrap_or("")
    }
}

/// The reply that one call gets instead of an answer.
enum Behaviour {
    Json(Value),
    /// A status, with header lines of its own.
    Status(u16, String),
    Hang,
    Garbage,
    CutConnection,
    CutBody,
    Endless,
}

struct Shared {
    state: Mutex<State>,
    /// The calls so far. Waiters for a count look here.
    calls: watch::Sender<usize>,
    /// Whether calls wait before they are answered.
    held: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    script: VecDeque<Behaviour>,
    answer: Option<AnswerFn>,
    requests: Vec<Request>,
}

impl TestUpstream {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            calls: watch::Sender::new(0),
            held: watch::Sender::new(false),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { url, shared, _tasks: tasks }
    }

    /// Returns the base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the number of calls.
    pub fn calls(&self) -> usize {
        *self.shared.calls.borrow()
    }

    /// Returns the requests, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state.lock().unwrap().requests.clone()
    }

    /// From now on answers with what `answer` makes of the last user message.
    pub fn answer_with(&self, answer: impl Fn(&str) -> String + Send + 'static) {
        self.shared.state.lock().unwrap().answer = Some(Box::new(answer));
    }

    /// The next call not yet scripted gets this body.
    pub fn then_json(&self, body: Value) {
        self.then(Behaviour::Json(body));
    }

    /// The next call not yet scripted gets this status.
    pub fn then_status(&self, status: u16, retry_after: Option<&str>) {
        let header = retry_after.map(|value| format!("Retry-After: {value}\r\n"));
        self.then(Behaviour::Status(status, header.unwrap_or_default()));
    }

    /// The next call not yet scripted is told that the place is elsewhere.
    pub fn then_redirect(&self, location: &str) {
        self.then(Behaviour::Status(307, format!("Location: {location}\r\n")));
    }

    /// The next call not yet scripted gets nothing, for as long as it waits.
    pub fn then_hang(&self) {
        self.then(Behaviour::Hang);
    }

    /// The next call not yet scripted gets an answer that the length limit cut off.
    pub fn then_truncated(&self) {
        self.then_json(completion("a beginning", "length"));
    }

    /// The next call not yet scripted gets a body that is no JSON.
    pub fn then_garbage(&self) {
        self.then(Behaviour::Garbage);
    }

    /// The next call not yet scripted has its connection closed without a reply.
    pub fn then_cut_connection(&self) {
        self.then(Behaviour::CutConnection);
    }

    /// The next call not yet scripted gets half a body.
    pub fn then_cut_body(&self) {
        self.then(Behaviour::CutBody);
    }

    /// The next call not yet scripted gets a body without length and end.
    pub fn then_endless(&self) {
        self.then(Behaviour::Endless);
    }

    /// Calls wait from now on.
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Answers the calls that wait.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Waits until it was asked `count` times.
    pub async fn wait_for_calls(&self, count: usize) {
        let mut calls = self.shared.calls.subscribe();
        let reached = calls.wait_for(|calls| *calls >= count);
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{} of {count} calls after {PATIENCE:?}", self.calls());
    }

    fn then(&self, behaviour: Behaviour) {
        let mut state = self.shared.state.lock().unwrap();
        state.script.push_back(behaviour);
    }
}

/// Makes a completion as the protocol has it. The server adds the model that it was asked for.
pub fn completion(content: impl Into<Value>, finish_reason: &str) -> Value {
    json!({
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": content.into() },
            "logprobs": null,
            "finish_reason": finish_reason,
        }],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        },
        "error": null,
    })
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        connections.spawn(serve(BufReader::new(socket), Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection, which is kept alive until a side closes it.
async fn serve(mut socket: BufReader<TcpStream>, shared: Arc<Shared>) {
    while let Some(request) = receive(&mut socket).await {
        let behaviour = shared.admit(request);
        let mut held = shared.held.subscribe();
        if held.wait_for(|held| !held).await.is_err() {
            return;
        }
        if reply(socket.get_mut(), behaviour).await.is_none() {
            return;
        }
    }
}

impl Shared {
    /// Counts a request and decides what it gets, in one step, so that calls at the same time get
    /// the script in order.
    fn admit(&self, request: Request) -> Behaviour {
        let mut state = self.state.lock().unwrap();
        let number = state.requests.len() + 1;
        let mut behaviour = state.script.pop_front().unwrap_or_else(|| {
            let message = request.last_user_message();
            let text = match &state.answer {
                Some(answer) => answer(message),
                None => format!("answer {number} to {message}"),
            };
            Behaviour::Json(completion(text, "stop"))
        });
        if let Behaviour::Json(Value::Object(members)) = &mut behaviour {
            let model = members.entry("model");
            model.or_insert_with(|| request.body["model"].clone());
        }
        state.requests.push(request);
        // Told under the lock: a count told late would take the newest back.
        self.calls.send_replace(number);
        drop(state);
        behaviour
    }
}

/// Reads one request. Returns `None` when the connection has ended.
async fn receive(socket: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    let text = String::from_utf8(body).ok()?;
    let body = serde_json::from_str(&text).ok()?;
    Some(Request { line, headers, text, body })
}

/// Sends the reply to a call. Returns `None` if the connection must be closed.
async fn reply(socket: &mut TcpStream, behaviour: Behaviour) -> Option<()> {
    match behaviour {
        Behaviour::Json(body) => send(socket, 200, "", &body.to_string()).await,
        Behaviour::Status(status, header) => {
            let body = json!({ "error": { "message": "words of an error's body" } });
            send(socket, status, &header, &body.to_string()).await
        }
        Behaviour::Garbage => send(socket, 200, "", "<html>words of a bad body</html>").await,
        Behaviour::Hang => std::future::pending().await,
        Behaviour::CutConnection => None,
        Behaviour::CutBody => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"choices\":[";
            socket.write_all(head).await.ok()?;
            None
        }
        Behaviour::Endless => {
            let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"choices\":[";
            socket.write_all(head).await.ok()?;
            loop {
                socket.write_all(&[b' '; 16_384]).await.ok()?;
            }
        }
    }
}

async fn send(socket: &mut TcpStream, status: u16, headers: &str, body: &str) -> Option<()> {
    let length = body.len();
    let reply = format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(reply.as_bytes()).await.ok()
}
