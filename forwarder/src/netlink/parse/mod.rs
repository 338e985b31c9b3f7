//! Octets of the kernel into our types. Pure: no socket, no state.
//!
//! A parser answers `Ok(None)` for what is none of our business (another table, a bridge's fdb, a cached route) and
//! [`Malformed`] for what it should have understood.

pub(crate) mod address;
pub(crate) mod link;
mod link_info;
pub(crate) mod neighbour;
pub(crate) mod nexthop;
pub(crate) mod route;
pub(crate) mod rule;

#[cfg(test)]
mod robustness;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_EXCL, NLM_F_REPLACE};

use super::Malformed;
use super::constants::{
    RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH, RTM_DELNETCONF, RTM_DELNEXTHOP, RTM_DELROUTE, RTM_NEWADDR,
    RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWNETCONF, RTM_NEWNEXTHOP, RTM_NEWROUTE,
};
use super::wire::Message;
use crate::source::event::{Action, Change, Event, PROTOCOL_KERNEL, Route};

/// What one notification says, appended to `events`.
pub(crate) fn notification(message: &Message<'_>, events: &mut Vec<Event>) -> Result<(), Malformed> {
    let body = message.body;
    match message.kind {
        RTM_NEWLINK => events.extend(link::parse(body)?.map(Event::Link)),
        RTM_DELLINK => events.extend(link::index(body)?.map(Event::LinkGone)),
        RTM_NEWADDR => events.extend(address::parse(body)?.map(Event::Address)),
        RTM_DELADDR => events.extend(address::parse(body)?.map(Event::AddressGone)),
        RTM_NEWNEIGH => events.extend(neighbour::parse(body)?.map(Event::Neighbour)),
        RTM_DELNEIGH => events.extend(neighbour::parse(body)?.map(|n| Event::NeighbourGone {
            ifindex: n.ifindex,
            address: n.address,
        })),
        RTM_NEWNEXTHOP => events.push(Event::Nexthop(nexthop::parse(body)?)),
        RTM_DELNEXTHOP => events.push(Event::NexthopGone(nexthop::id(body)?)),
        RTM_NEWROUTE => {
            if let Some(route) = route::parse(body)? {
                let change = change(message.flags, &route);
                let unknown = order_unknown(message.flags, &route);
                events.push(Event::Route { route, change });
                events.extend(unknown.then_some(Event::Resync));
            }
        }
        RTM_DELROUTE => events.extend(route::parse(body)?.map(Event::RouteGone)),
        RTM_NEWNETCONF | RTM_DELNETCONF => events.push(Event::SysctlChanged),
        _ => {} // resilient buckets and what later kernels add to these groups
    }
    Ok(())
}

/// What the message did to routes of the same prefix and metric.
///
/// IPv4 says it by flag: REPLACE takes the first one's place, APPEND comes last, EXCL had none beside it, and none of
/// these is `ip route prepend`, comes first ([`Change::Add`] either way). IPv6 joins routes with a gateway into one set,
/// and every message about one of them carries the *whole* set as it is afterwards, whatever the flag (seen on 6.18,
/// `inet6_rt_notify` and `ip6_route_mpath_notify` in net/ipv6/route.c): more than one hop replaces.
fn change(flags: u16, route: &Route) -> Change {
    let whole_set =
        route.prefix.addr().is_ipv6() && matches!(&route.action, Action::Hops(hops) if hops.len() > 1);
    if flags & NLM_F_REPLACE != 0 || whole_set {
        Change::Replace
    } else if flags & NLM_F_APPEND != 0 {
        Change::Append
    } else {
        Change::Add
    }
}

/// Routes that cannot join an IPv6 set (no gateway) stand beside it in an order the message does not tell; only an
/// operator's `append` or `prepend` makes them. The kernel's own (fe80::/64 on every link) do not forward.
fn order_unknown(flags: u16, route: &Route) -> bool {
    let joins = match &route.action {
        Action::Hops(hops) => hops.iter().any(|hop| hop.gateway.is_some()),
        Action::Nexthop(_) => true,
        _ => false,
    };
    let alone = flags & (NLM_F_EXCL | NLM_F_REPLACE) != 0;
    route.prefix.addr().is_ipv6() && !joins && !alone && route.protocol != PROTOCOL_KERNEL
}
