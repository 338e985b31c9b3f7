//! Routes and next hops, as the kernel would announce them.

use anyhow::{Context, Result};
use forwarder::source::event::{Action, Hop, Ifindex, Route};

/// One next hop of weight 1. An empty gateway is a connected subnet.
///
/// # Errors
/// The gateway is no address.
pub fn hop(ifindex: Ifindex, gateway: &str) -> Result<Hop> {
    let gateway = match gateway {
        "" => None,
        address => Some(address.parse().with_context(|| address.to_string())?),
    };
    Ok(Hop {
        ifindex,
        gateway,
        weight: 1,
        dead: false,
        unsupported: false,
    })
}

/// A route of table main that BIRD (`RTPROT_BIRD`, 12) would have made.
///
/// # Errors
/// The prefix is none.
pub fn route(prefix: &str, action: Action) -> Result<Route> {
    Ok(Route {
        prefix: prefix.parse().with_context(|| prefix.to_string())?,
        table: 254,
        metric: 0,
        protocol: 12,
        tos: 0,
        mtu: None,
        action,
    })
}

/// A route with one next hop.
///
/// # Errors
/// Prefix or gateway do not parse.
pub fn via(prefix: &str, ifindex: Ifindex, gateway: &str) -> Result<Route> {
    route(prefix, Action::Hops(vec![hop(ifindex, gateway)?]))
}
