//! Owns the bytes of a request, which are made once before the load begins. The bytes hold the
//! bearer token in plaintext, so a request must never be printed.

use std::fmt;

use zeroize::Zeroizing;

use super::Address;
use crate::domain::token::BearerToken;

/// A complete HTTP/1.1 request that can be written to a socket.
#[derive(Clone)]
pub struct Request {
    bytes: Zeroizing<Vec<u8>>,
}

impl Request {
    /// Makes a POST of a JSON body to `path`, which must begin with `/` and need no escaping.
    pub fn post_json(
        address: &Address,
        path: &str,
        token: Option<&BearerToken>,
        body: &[u8],
    ) -> Self {
        let mut head = Zeroizing::new(format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n",
            address.authority(),
            body.len(),
        ));
        if let Some(token) = token {
            head.push_str("Authorization: Bearer ");
            head.push_str(&token.reveal());
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + body.len()));
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(body);
        Self { bytes }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} bytes, [redacted])", self.bytes.len())
    }
}
