//! A single Redis or a cluster, behind one interface.

use std::time::Duration;

use deadpool_redis::cluster::{ClusterClient, ClusterClientBuilder, ClusterConnection};
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::io::tcp::TcpSettings;
use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, cmd,
};

use super::RedisError;
use super::division::Division;

/// The longest time that connecting may take. A task connects, so that no caller waits that long.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The times that a cluster's client tries a command again by itself. They are enough to reach the
/// successor of a lost master, and no more, because callers have other tiers.
const RETRIES: u32 = 2;
const RETRY_WAIT_MS: std::ops::Range<u64> = 2..10;

/// The source of connections.
pub(super) enum Servers {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// A connection that many commands share.
pub(super) enum Handle {
    /// A socket. It is of no use once a command on it failed.
    Single(MultiplexedConnection),
    /// A connection to every node. It mends itself and follows the changes of the cluster, as long
    /// as nodes close their connections when they end.
    Cluster(ClusterConnection),
}

impl Servers {
    /// Reads the URLs. One URL is a single server, unless it says that it is a cluster's. Several
    /// URLs are nodes of a cluster.
    pub(super) fn new(urls: &[String], timeout: Duration) -> Result<Self, RedisError> {
        let of_cluster = urls.len() > 1 || urls.iter().any(|url| is_cluster(url));
        let nodes: Vec<ConnectionInfo> =
            urls.iter().map(|url| parse(url)).collect::<Result<_, _>>()?;
        if !of_cluster {
            let node = nodes.into_iter().next().ok_or(RedisError::InvalidUrl)?;
            let client = Client::open(node).map_err(|_| RedisError::InvalidUrl)?;
            return Ok(Self::Single(Box::new(client)));
        }
        let client = ClusterClientBuilder::new(nodes)
            .tcp_settings(tcp_settings())
            .retries(RETRIES)
            .min_retry_wait(RETRY_WAIT_MS.start)
            .max_retry_wait(RETRY_WAIT_MS.end)
            .response_timeout(timeout)
            .overall_response_timeout(None)
            // This limit is longer than a command's, so that a command gives up on a silent node
            // before its client does. The client would look for all nodes anew, and every command
            // would wait meanwhile.
            .connection_timeout(timeout * 2)
            .build();
        client.map(|client| Self::Cluster(Box::new(client))).map_err(|_| RedisError::InvalidUrl)
    }

    /// Connects. Returns the connection and the division of a cluster. The division is `None` for a
    /// single server, and if the cluster does not tell it.
    pub(super) async fn connect(&self) -> Result<(Handle, Option<Division>), RedisError> {
        let connect = async {
            match self {
                Self::Single(client) => {
                    // The limits are ours: those of the library would cut ours short.
                    let config = AsyncConnectionConfig::new()
                        .set_connection_timeout(None)
                        .set_response_timeout(None);
                    let made = client.get_multiplexed_async_connection_with_config(&config).await;
                    Ok((Handle::Single(made?), None))
                }
                Self::Cluster(client) => {
                    let made = Handle::Cluster(client.get_async_connection().await?);
                    let slots = made.run(cmd("CLUSTER").arg("SLOTS")).await;
                    Ok((made, slots.ok().and_then(Division::of_slots)))
                }
            }
        };
        match tokio::time::timeout(CONNECT_LIMIT, connect).await {
            Ok(made) => made.map_err(|error: redis::RedisError| RedisError::of(&error)),
            Err(_) => Err(RedisError::TimedOut),
        }
    }
}

impl Handle {
    pub(super) const fn ends_with_its_socket(&self) -> bool {
        matches!(self, Self::Single(_))
    }

    pub(super) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let result = match self {
            Self::Single(connection) => command.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => command.query_async(&mut connection.clone()).await,
        };
        result.map_err(|error| RedisError::of(&error))
    }
}

const CLUSTER: &str = "+cluster://";

fn is_cluster(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| scheme.ends_with("+cluster"))
}

fn parse(url: &str) -> Result<ConnectionInfo, RedisError> {
    let plain = if is_cluster(url) { url.replacen(CLUSTER, "://", 1) } else { url.to_owned() };
    let node = plain.into_connection_info().map_err(|_| RedisError::InvalidUrl)?;
    // A URL must not switch the check of certificates off.
    if matches!(node.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Err(RedisError::InvalidUrl);
    }
    Ok(node.set_tcp_settings(tcp_settings()))
}

/// The settings of TCP. Commands are small, and each is waited for.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}
