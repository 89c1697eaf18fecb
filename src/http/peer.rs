//! Finds the network that a request comes from. It believes `X-Forwarded-For` only from a trusted
//! proxy.

use std::net::IpAddr;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::HeaderMap;
use ipnet::IpNet;

use crate::domain::network::Network;

/// Returns the network of the client. This is the network of the peer. If the peer is a trusted
/// proxy, it is the network of the last address in `X-Forwarded-For` that is not a trusted proxy.
pub fn network_of(request: &ServiceRequest, trusted: &[IpNet]) -> Network {
    let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
    Network::of(client_address(peer.to_canonical(), request.headers(), trusted))
}

fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    if !is_trusted(&peer) {
        return peer;
    }
    let mut client = peer;
    let lists: Vec<&str> =
        headers.get_all("x-forwarded-for").filter_map(|value| value.to_str().ok()).collect();
    for text in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
        // The client may have written anything here. The last known address is the one that was
        // read before it.
        let Ok(address) = text.trim().parse::<IpAddr>() else {
            break;
        };
        client = address.to_canonical();
        if !is_trusted(&client) {
            break;
        }
    }
    client
}
