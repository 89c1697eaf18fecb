//! Owns the settings of the server: its address, its data folder and its trusted proxies.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::reader::Reader;

/// The settings of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The address on which HTTP listens.
    pub bind: SocketAddr,
    /// The folder with the files of the service.
    pub data_dir: PathBuf,
    /// The networks of the proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

fn parse_networks(text: &str) -> Option<Vec<IpNet>> {
    let network = |item: &str| {
        let address = || item.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        item.parse::<IpNet>().ok().or_else(address)
    };
    text.split(',').map(|item| network(item.trim())).collect()
}

impl ServerConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let address = "an address and port such as 127.0.0.1:3000";
        let bind = reader.parsed("AI_CACHE_BIND", address, |text| text.parse().ok());
        let networks = "addresses or networks such as 10.0.0.0/8, separated by commas";
        let proxies = reader.parsed("AI_CACHE_TRUSTED_PROXIES", networks, parse_networks);
        Self {
            bind: bind.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 3000))),
            data_dir: PathBuf::from(reader.text("AI_CACHE_DATA_DIR").unwrap_or("./.ai-cache")),
            trusted_proxies: proxies.unwrap_or_default(),
        }
    }
}
