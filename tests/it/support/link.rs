//! A network between the service and a server, which can be cut. Its tasks end when it is dropped.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One link.
pub struct Link {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    /// Holds the accepting task, which holds the tasks of the connections. Dropping it aborts all
    /// of them.
    _tasks: JoinSet<()>,
}

impl Link {
    /// Makes a link to the Redis of a URL.
    pub async fn to_redis(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, url.into(), cut.subscribe()));
        Self { address, cut, _tasks: tasks }
    }

    /// Returns the URL that leads through the link.
    pub fn redis_url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Cuts every connection, now and until the link is mended.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}

async fn accept(listener: TcpListener, url: Arc<str>, cut: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(serve(client, Arc::clone(&url), cut.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection. Dropping it cuts it.
async fn serve(client: TcpStream, url: Arc<str>, mut cut: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        _ = cut.wait_for(|cut| *cut) => {}
        () = async {
            if let Some(path) = url.strip_prefix("redis+unix://") {
                join(client, UnixStream::connect(path).await).await;
            } else {
                let address = url.strip_prefix("redis://").unwrap();
                join(client, TcpStream::connect(address).await).await;
            }
        } => {}
    }
}

async fn join(mut client: TcpStream, server: std::io::Result<impl AsyncRead + AsyncWrite + Unpin>) {
    if let Ok(mut server) = server {
        let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
