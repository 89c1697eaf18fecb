//! Owns the bare server that `bench --floor` compares with. It reads the request body and answers a
//! constant JSON body. It must stay without middleware, look-up or log, to show the speed of actix
//! alone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use actix_web::dev::{Server, ServerHandle};
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};

/// A bare server on a port of its own. It ends when it is stopped or dropped.
#[derive(Debug)]
pub struct FloorServer {
    addr: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Starts the bare server on 127.0.0.1 with as many workers as there are cores. It answers every
/// POST, whatever its path, with `body`.
pub fn start(body: Vec<u8>) -> io::Result<FloorServer> {
    let body = web::Bytes::from(body);
    // The channel carries one message, the started server. If the sender is dropped without it, the
    // start failed. After the message the thread serves until it is stopped.
    let (started, outcome) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("floor".to_owned()).spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let (server, addr) = bind(body)?;
            // Sending fails only if the caller of `start` is gone. Nobody else could use the
            // handle.
            let _unwanted = started.send((server.handle(), addr));
            server.await
        })
    })?;
    match outcome.recv() {
        Ok((handle, addr)) => Ok(FloorServer { addr, handle, thread: Some(thread) }),
        Err(mpsc::RecvError) => match ended(thread) {
            Ok(()) => Err(io::Error::other("the bare server ended before it began")),
            Err(error) => Err(error),
        },
    }
}

impl FloorServer {
    /// Returns the address on which the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the connections of the server and returns when its threads have ended.
    pub fn stop(mut self) -> io::Result<()> {
        drop(self.handle.stop(false));
        self.thread.take().map_or(Ok(()), ended)
    }
}

impl Drop for FloorServer {
    fn drop(&mut self) {
        // The call itself sends the command. Its future would only wait for the end.
        drop(self.handle.stop(false));
    }
}

fn bind(body: web::Bytes) -> io::Result<(Server, SocketAddr)> {
    let workers = thread::available_parallelism()?.get();
    let server = HttpServer::new(move || {
        App::new().app_data(web::Data::new(body.clone())).default_service(web::post().to(answer))
    })
    .workers(workers)
    .disable_signals()
    .bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = *server.addrs().first().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((server.run(), addr))
}

async fn answer(_question: web::Bytes, body: web::Data<web::Bytes>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(web::Bytes::clone(&body))
}

fn ended(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().map_err(|_| io::Error::other("the bare server's thread panicked"))?
}
