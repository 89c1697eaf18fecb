//! Requests that no well-behaved client sends, over a bare socket.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::TestApp;

/// The longest time in which a server answers or closes.
const PATIENCE: Duration = Duration::from_secs(15);

/// A reply as it came.
#[derive(Debug)]
pub struct RawReply {
    /// HTTP status; 0 when the connection was closed without a reply.
    pub status: u16,
    /// Header lines in lower case.
    pub head: String,
    /// The body that follows them.
    pub body: String,
}

impl RawReply {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| *key == name).map(|(_, value)| value.trim()).next()
    }
}

/// Sends bytes and reads one reply. A server may answer and close before it has read everything,
/// so a failed write is no fault; a server that neither answers nor closes is one.
pub async fn exchange(app: &TestApp, request: &[u8]) -> RawReply {
    let mut socket = connect(app).await;
    let (mut reader, mut writer) = socket.split();
    let send = async {
        let _sent = writer.write_all(request).await;
        std::future::pending::<()>().await;
    };
    let reply = tokio::select! {
        () = send => RawReply::of(&[]),
        reply = tokio::time::timeout(PATIENCE, read_reply(&mut reader)) => reply.unwrap(),
    };
    drop(socket);
    reply
}

async fn connect(app: &TestApp) -> TcpStream {
    let address = app.base().strip_prefix("http://").unwrap().to_owned();
    TcpStream::connect(address).await.unwrap()
}

/// Sends bytes and waits for nothing; [`receive`] takes what comes.
pub async fn send(app: &TestApp, request: &[u8]) -> TcpStream {
    let mut socket = connect(app).await;
    socket.write_all(request).await.unwrap();
    socket
}

/// Reads one reply.
pub async fn receive(mut socket: TcpStream) -> RawReply {
    tokio::time::timeout(PATIENCE, read_reply(&mut socket)).await.unwrap()
}

async fn read_reply(reader: &mut (impl AsyncReadExt + Unpin)) -> RawReply {
    let (mut bytes, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let count = reader.read(&mut part).await.unwrap_or(0);
        bytes.extend_from_slice(&part[..count]);
        let reply = RawReply::of(&bytes);
        let length = reply.header("content-length").and_then(|length| length.parse().ok());
        if count == 0 || length.is_some_and(|length: usize| reply.body.len() >= length) {
            return reply;
        }
    }
}

/// A question in words only, of a caller with this token.
pub fn question(token: &str, query: &str) -> Vec<u8> {
    let body = json!({ "query": query }).to_string();
    let headers = [
        &format!("Authorization: Bearer {token}"),
        "Content-Type: application/json",
        &format!("Content-Length: {}", body.len()),
    ];
    request("POST /api/ai-cache/query", &headers, body.as_bytes())
}

/// A request with a head of these lines, which asks to close the connection.
pub fn request(line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}
