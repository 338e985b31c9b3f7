//! Where the gateway of a BGP route is: the recursive next hop of RFC 4271 5.1.3 and 9.1.2.1.
//!
//! The kernel's routes tell: the longest that covers the gateway, be it connected, static, of an IGP, or the default route.
//! That is BIRD's rule (`rt_update_hostentry`, nest/rt-table.c), whose others are kept too: a recursive route is not resolved
//! by another recursive one, and then not by a shorter one either; a gateway that is an address of our own is none; what
//! the covering route does with packets (blackhole, prohibit) the routes by that gateway do as well, which is how a
//! blackhole by next hop (RFC 5635) works; unreachable is unresolved.
//!
//! The kernel does not tell which of its routes are recursive. FRR's have RTPROT_BGP. BIRD gives all of its routes
//! RTPROT_BIRD, an OSPF route to a router's loopback and a BGP route alike; there the one that must not count is known by
//! the feed: the same prefix is announced there by a gateway inside that very prefix, which is the loop. (By any gateway at
//! all would be too much: with `export all` BIRD announces its OSPF routes as well.) The kernel's own, the administrator's
//! and those of IGPs that say so are never doubted.

use std::net::IpAddr;

use forwarder_common::reason::Reason;
use ipnet::IpNet;

use super::{Rib, feeds::FeedRoutes, kernel::Cover};
use crate::{
    fib::recursion::{Resolution, Unresolved},
    source::{
        event::{Action, Hop, PROTOCOL_BGP},
        feed::{Gateway, Target},
    },
};

/// Protocols that are never BGP: kernel redirects to RA, DHCP, and the interior ones that have a number of their own.
const NOT_BGP: [u8; 13] = [1, 2, 3, 4, 9, 16, 18, 42, 187, 188, 189, 192, 196];

/// Finds the next hops of a gateway. `exists` says which interfaces there are.
pub fn resolve(rib: &Rib, gateway: &Gateway, exists: impl Fn(u32) -> bool) -> Resolution {
    if is_link_local(gateway.address) {
        return on_link(gateway, exists);
    }
    let Some(cover) = rib.kernel.covering(gateway.address) else {
        return Resolution::Unresolved(Unresolved::NoRoute);
    };
    let via = cover.prefix;
    if is_recursive(&rib.feeds, &cover) {
        return Resolution::Unresolved(Unresolved::Recursive(via));
    }
    if cover.undecided || cover.kind.tos != 0 {
        return Resolution::Special {
            via,
            reason: Reason::UnsupportedRoute,
        };
    }
    let special = |reason| Resolution::Special { via, reason };
    let mtu = cover.kind.mtu.unwrap_or(0);
    match &cover.kind.action {
        Action::Hops(hops) => {
            let direct = on_subnet(gateway);
            let mut hops: Vec<Hop> = hops.iter().map(|hop| through(*hop, direct)).collect();
            hops.sort_unstable();
            Resolution::Hops { via, hops, mtu }
        }
        Action::Nexthop(id) => Resolution::Object {
            via,
            id: *id,
            mtu,
            direct: on_subnet(gateway),
        },
        Action::Local | Action::Broadcast => Resolution::Unresolved(Unresolved::Own),
        Action::Unreachable => Resolution::Unresolved(Unresolved::Unreachable(via)),
        Action::Blackhole => special(Reason::Blackhole),
        Action::Prohibit => special(Reason::Prohibit),
        Action::Unsupported => special(Reason::UnsupportedRoute),
    }
}

/// The next hop itself where it is on a connected subnet: by its link-local address where it told one (RFC 2545 3).
fn on_subnet(gateway: &Gateway) -> IpAddr {
    gateway.link_local.map_or(gateway.address, IpAddr::V6)
}

/// A hop of the covering route, with the gateway itself where that is on its subnet.
fn through(hop: Hop, direct: IpAddr) -> Hop {
    Hop {
        gateway: hop.gateway.or(Some(direct)),
        ..hop
    }
}

fn on_link(gateway: &Gateway, exists: impl Fn(u32) -> bool) -> Resolution {
    match gateway.interface.filter(|ifindex| exists(*ifindex)) {
        None => Resolution::Unresolved(Unresolved::NoInterface),
        Some(ifindex) => Resolution::Hops {
            via: IpNet::from(gateway.address),
            hops: vec![Hop {
                ifindex,
                gateway: Some(gateway.address),
                weight: 1,
                dead: false,
                unsupported: false,
            }],
            mtu: 0,
        },
    }
}

fn is_link_local(address: IpAddr) -> bool {
    // 169.254.0.0/16 has routes like any other subnet, and some carriers number their links from it.
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn is_recursive(feeds: &FeedRoutes, cover: &Cover<'_>) -> bool {
    if cover.protocol == PROTOCOL_BGP {
        return true;
    }
    if cover.first || NOT_BGP.contains(&cover.protocol) || feeds.is_empty() {
        return false;
    }
    let inside = |target: &Target| match target {
        Target::Gateway(gateway) => cover.prefix.contains(&gateway.address),
        _ => false,
    };
    feeds.routes(cover.prefix).any(|view| inside(view.target))
}
