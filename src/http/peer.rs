//! Which network a request comes from, through the proxies that may say so.

use std::net::IpAddr;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::HeaderMap;
use ipnet::IpNet;

use crate::domain::network::Network;

/// The client's network: the peer's, or, when the peer is a trusted proxy, that of the last address
/// in `X-Forwarded-For` which is not one.
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
        // What a client wrote itself may be anything; the hop before it is the last one known.
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
