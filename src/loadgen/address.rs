//! Owns the address to which the load goes: `http://host[:port]`, resolved once. It refuses other
//! schemes and paths, so that nothing but the server's own work is measured.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

const SCHEME: &str = "http://";
const DEFAULT_PORT: u16 = 80;

/// A resolved server address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    authority: String,
    socket: SocketAddr,
}

/// The reason why load cannot be sent to a given address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The load client speaks plain HTTP/1.1 only.
    #[error(
        "{0:?} cannot be measured over https: name the service itself, behind the proxy, as http://host:port"
    )]
    Https(String),
    /// The scheme is neither http nor https, or the text has more than scheme, host and port.
    #[error("{0:?} is not of the form http://host:port")]
    Form(String),
    /// The resolver did not find the host.
    #[error("the host of {authority:?} cannot be found")]
    Unresolved {
        /// The host and port as given.
        authority: String,
        /// The resolver's error. It is `None` if the resolver answered without any address.
        #[source]
        source: Option<io::Error>,
    },
}

impl Address {
    /// Reads `http://host[:port]` and resolves the host. Blocks until the resolver answers.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        if has_prefix_ignoring_case(url, "https://") {
            return Err(AddressError::Https(url.to_owned()));
        }
        if !has_prefix_ignoring_case(url, SCHEME) {
            return Err(AddressError::Form(url.to_owned()));
        }
        let rest = &url[SCHEME.len()..];
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) =
            split_authority(authority).ok_or_else(|| AddressError::Form(url.to_owned()))?;
        let unresolved =
            |source| AddressError::Unresolved { authority: authority.to_owned(), source };
        let socket = (host, port)
            .to_socket_addrs()
            .map_err(|error| unresolved(Some(error)))?
            .min_by_key(SocketAddr::is_ipv6)
            .ok_or_else(|| unresolved(None))?;
        Ok(Self { authority: authority.to_owned(), socket })
    }

    /// Returns the value for the Host header.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the socket address to which connections are opened.
    pub fn socket(&self) -> SocketAddr {
        self.socket
    }
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        Self { authority: socket.to_string(), socket }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.authority)
    }
}

fn has_prefix_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn split_authority(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']')?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(plain) {
        return None;
    }
    let port = port.map_or(Ok(DEFAULT_PORT), str::parse).ok()?;
    Some((host, port))
}
