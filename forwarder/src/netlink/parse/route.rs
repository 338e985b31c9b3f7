//! `struct rtmsg`, `struct rtnexthop` and `RTA_*` (include/uapi/linux/rtnetlink.h).
//!
//! The one parser that has to be fast: a full table is a million of these, so nothing is allocated but the list of hops.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::nexthop::dead;
use crate::netlink::Malformed;
use crate::netlink::constants::{
    AF_INET, AF_INET6, RTA_DST, RTA_ENCAP, RTA_ENCAP_TYPE, RTA_GATEWAY, RTA_METRICS, RTA_MULTIPATH,
    RTA_NEWDST, RTA_NH_ID, RTA_OIF, RTA_PRIORITY, RTA_TABLE, RTA_VIA, RTAX_MTU, RTM_F_CLONED, RTN_ANYCAST,
    RTN_BLACKHOLE, RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, RTN_PROHIBIT, RTN_UNICAST, RTN_UNREACHABLE,
};
use crate::netlink::wire::{self, Attributes, aligned, u8_at, u16_at, u32_at};
use crate::source::event::{Action, Hop, Route};

/// Length of `struct rtmsg`.
pub(crate) const HEADER: usize = 12;

/// Length of `struct rtnexthop`.
const HOP_HEADER: usize = 8;

/// A route message.
pub(crate) struct Parsed {
    pub route: Route,
    /// The hops of a route by next-hop object ([`Action::Nexthop`]), as far as the kernel resolves them: not without
    /// `net.ipv4.nexthop_compat_mode`.
    pub resolved: Vec<Hop>,
}

/// A route of any table; `None` for other families, for the kernel's cached clones, and for multicast (`ff00::/8` on every
/// link), which is never forwarded by destination.
pub(crate) fn parse(body: &[u8]) -> Result<Option<Route>, Malformed> {
    let cloned = u32_at(body, 8)? & RTM_F_CLONED != 0;
    if cloned || u8_at(body, 7)? == RTN_MULTICAST {
        return Ok(None);
    }
    Ok(parse_any(body, false)?.map(|parsed| parsed.route))
}

/// The same, whatever its flags. `answer`: to the lookup of a packet's way, which repeats the packet's source.
pub(crate) fn parse_any(body: &[u8], answer: bool) -> Result<Option<Parsed>, Malformed> {
    let &[
        family,
        prefix_length,
        source_length,
        tos,
        table,
        protocol,
        _,
        kind,
        ..,
    ] = body
    else {
        return Err(Malformed("rtmsg"));
    };
    let mut destination = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(None),
    };
    let flags = u32_at(body, 8)?;
    let mut single = Hop {
        ifindex: 0,
        gateway: None,
        weight: 1,
        dead: dead(flags),
        unsupported: false,
    };
    let (mut table, mut metric, mut mtu) = (u32::from(table), 0, None);
    let (mut nexthop, mut hops) = (None, Vec::new());
    for attribute in Attributes::behind(body, HEADER)? {
        let (kind, value) = attribute?;
        match kind {
            RTA_DST => destination = wire::address(value)?,
            RTA_TABLE => table = u32_at(value, 0)?,
            RTA_PRIORITY => metric = u32_at(value, 0)?,
            RTA_OIF => single.ifindex = u32_at(value, 0)?,
            RTA_MULTIPATH => hops = multipath(value)?,
            RTA_NH_ID => nexthop = Some(u32_at(value, 0)?),
            RTA_METRICS => mtu = metrics_mtu(value)?,
            _ => hop_attribute(&mut single, kind, value)?,
        }
    }
    if hops.is_empty() && single.ifindex != 0 {
        hops = vec![single];
    }
    if destination.is_ipv4() != (family == AF_INET) {
        return Err(Malformed("RTA_DST is of another family"));
    }
    let prefix = IpNet::new(destination, prefix_length)
        .map_err(|_| Malformed("rtm_dst_len"))?
        .trunc();
    let action = match kind {
        // Source-specific: the destination alone does not tell whether it applies.
        _ if source_length != 0 && !answer => Action::Unsupported,
        RTN_UNICAST => match nexthop {
            Some(id) => Action::Nexthop(id),
            None if hops.is_empty() => Action::Unsupported,
            None => Action::Hops(std::mem::take(&mut hops)),
        },
        RTN_LOCAL => Action::Local,
        RTN_BROADCAST | RTN_ANYCAST => Action::Broadcast,
        RTN_BLACKHOLE => Action::Blackhole,
        RTN_UNREACHABLE => Action::Unreachable,
        RTN_PROHIBIT => Action::Prohibit,
        _ => Action::Unsupported,
    };
    Ok(Some(Parsed {
        route: Route {
            prefix,
            table,
            metric,
            protocol,
            tos,
            mtu,
            action,
        },
        resolved: hops,
    }))
}

/// The attributes that a hop has in `struct rtnexthop` and a single-hop route has beside the others.
#[inline]
fn hop_attribute(hop: &mut Hop, kind: u16, value: &[u8]) -> Result<(), Malformed> {
    match kind {
        RTA_GATEWAY => hop.gateway = Some(wire::address(value)?),
        // struct rtvia: family, then the address. Another family's gateway, RFC 8950; MPLS is of no family we know.
        RTA_VIA => match value.split_first_chunk::<2>() {
            Some((family, gateway))
                if [AF_INET, AF_INET6]
                    .map(u16::from)
                    .contains(&u16::from_ne_bytes(*family)) =>
            {
                hop.gateway = Some(wire::address(gateway)?);
            }
            Some(_) => hop.unsupported = true,
            None => return Err(Malformed("RTA_VIA")),
        },
        RTA_ENCAP | RTA_ENCAP_TYPE | RTA_NEWDST => hop.unsupported = true,
        _ => {}
    }
    Ok(())
}

/// `RTA_MULTIPATH`: `struct rtnexthop` {u16 length, u8 flags, u8 weight - 1, s32 interface} with attributes, repeated.
fn multipath(mut bytes: &[u8]) -> Result<Vec<Hop>, Malformed> {
    let mut hops = Vec::with_capacity(bytes.len() / (HOP_HEADER + 8));
    while !bytes.is_empty() {
        let length = usize::from(u16_at(bytes, 0)?);
        let hop = bytes
            .get(..length)
            .filter(|hop| hop.len() >= HOP_HEADER)
            .ok_or(Malformed("rtnh_len"))?;
        let mut parsed = Hop {
            ifindex: u32_at(hop, 4)?,
            gateway: None,
            weight: u16::from(hop[3]) + 1,
            dead: dead(u32::from(hop[2])),
            unsupported: false,
        };
        for attribute in Attributes::behind(hop, HOP_HEADER)? {
            let (kind, value) = attribute?;
            hop_attribute(&mut parsed, kind, value)?;
        }
        hops.push(parsed);
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
    }
    Ok(hops)
}

/// `RTAX_MTU` of `RTA_METRICS`. Its lock (`RTAX_LOCK`) is about what path MTU discovery may do at a sender; a router
/// has the same limit either way.
fn metrics_mtu(value: &[u8]) -> Result<Option<u32>, Malformed> {
    for attribute in Attributes::nested(value) {
        if let (RTAX_MTU, value) = attribute? {
            return u32_at(value, 0).map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "route_tests.rs"]
pub(crate) mod tests;
