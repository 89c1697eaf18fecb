//! A proxy between the service and Redis that holds each reply back for a while. Its tasks end when
//! it is dropped.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The proxy of one test.
pub struct RedisProxy {
    /// The URL at which it listens.
    pub url: String,
    /// Holds the accepting task, which holds the tasks of the connections. Dropping it aborts all
    /// of them.
    _tasks: JoinSet<()>,
}

impl RedisProxy {
    /// Starts a proxy before a port of loopback. `delay` says from the number of bytes that came
    /// how long the next ones are held back.
    pub async fn start(port: u16, delay: fn(usize) -> Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, port, delay));
        Self { url, _tasks: tasks }
    }
}

async fn accept(listener: TcpListener, port: u16, delay: fn(usize) -> Duration) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(serve(client, port, delay));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(client: TcpStream, port: u16, delay: fn(usize) -> Duration) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    // Replies keep their order: each is due no earlier than the one before.
    let (held, due) = mpsc::unbounded_channel();
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = read(from_server, held, delay) => {}
        () = write(due, to_client) => {}
    }
}

async fn read(
    mut server: OwnedReadHalf,
    held: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    delay: fn(usize) -> Duration,
) {
    let mut bytes = vec![0; 65_536];
    let mut total = 0;
    while let Ok(length @ 1..) = server.read(&mut bytes).await {
        total += length;
        if held.send((Instant::now() + delay(total), bytes[..length].to_vec())).is_err() {
            return;
        }
    }
}

async fn write(mut due: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>, mut client: OwnedWriteHalf) {
    while let Some((when, bytes)) = due.recv().await {
        sleep_until(when).await;
        if client.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
