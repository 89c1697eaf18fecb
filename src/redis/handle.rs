//! Connections to a single Redis or to a cluster, behind one face.

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::cluster_async::ClusterConnection;
use deadpool_redis::redis::{Cmd, FromRedisValue};
use deadpool_redis::{Connection, Runtime, cluster};

use super::{RedisError, classify};

/// Where connections come from.
pub(super) enum Pool {
    Single(deadpool_redis::Pool),
    Cluster(cluster::Pool),
}

/// A connection that many commands share.
pub(super) enum Handle {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Pool {
    pub(super) fn new(urls: &[String]) -> Result<Self, RedisError> {
        let invalid = |_| RedisError::InvalidUrl;
        match urls {
            [] => Err(RedisError::InvalidUrl),
            [url] => {
                let config = deadpool_redis::Config::from_url(url.as_str());
                config.create_pool(Some(Runtime::Tokio1)).map(Self::Single).map_err(invalid)
            }
            many => {
                let config = cluster::Config::from_urls(many.to_vec());
                let pool = config.create_pool(Some(Runtime::Tokio1));
                pool.map(Self::Cluster).map_err(|_| RedisError::InvalidUrl)
            }
        }
    }

    pub(super) async fn connect(&self) -> Result<Handle, RedisError> {
        match self {
            Self::Single(pool) => {
                let connection = pool.get().await.map_err(|_| RedisError::Unreachable)?;
                Ok(Handle::Single(Connection::take(connection)))
            }
            Self::Cluster(pool) => {
                let connection = pool.get().await.map_err(|_| RedisError::Unreachable)?;
                Ok(Handle::Cluster(cluster::Connection::take(connection)))
            }
        }
    }
}

impl Handle {
    pub(super) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let result = match self {
            Self::Single(connection) => command.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => command.query_async(&mut connection.clone()).await,
        };
        result.map_err(|error| classify(&error))
    }
}
