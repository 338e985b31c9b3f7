//! Routing messages of netlink that did not come from the kernel: FRR's zebra speaks netlink over TCP (FPM).
//!
//! The octets are read by the same parsers as the kernel's, so the two cannot come to differ in what they understand.
//! What differs is the meaning around them: there is no sequence of sockets and flags here, a NEWROUTE is always the one
//! route of its prefix and table.

use super::Malformed;
use super::constants::{RTM_DELNEXTHOP, RTM_DELROUTE, RTM_NEWNEXTHOP, RTM_NEWROUTE};
use super::parse::{nexthop, route};
use super::wire::{Message, Messages, u8_at};
use crate::source::event::{NexthopObject, Route};

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub enum Relayed {
    /// A route, and whether it is for some sources only (`rtm_src_len`).
    Route(Route, bool),
    /// A route is gone; of the route only prefix and table mean something.
    RouteGone(Route, bool),
    /// A next-hop object or group.
    Nexthop(NexthopObject),
    /// A next-hop object or group is gone.
    NexthopGone(u32),
    /// Anything else: MPLS, neighbours, what later versions add.
    Other,
}

/// The messages in `bytes`, until the first that cannot be read.
pub fn messages(bytes: &[u8]) -> impl Iterator<Item = Result<Relayed, Malformed>> {
    Messages(bytes).map(|message| message.and_then(|message| read(&message)))
}

fn read(message: &Message<'_>) -> Result<Relayed, Malformed> {
    let body = message.body;
    Ok(match message.kind {
        RTM_NEWROUTE | RTM_DELROUTE => match route::parse_any(body, false)? {
            Some(parsed) => {
                let some_sources = u8_at(body, 2)? != 0;
                if message.kind == RTM_NEWROUTE {
                    Relayed::Route(parsed.route, some_sources)
                } else {
                    Relayed::RouteGone(parsed.route, some_sources)
                }
            }
            None => Relayed::Other,
        },
        RTM_NEWNEXTHOP => Relayed::Nexthop(nexthop::parse(body)?),
        RTM_DELNEXTHOP => Relayed::NexthopGone(nexthop::id(body)?),
        _ => Relayed::Other,
    })
}
