//! Routing messages of netlink that did not come from the kernel: FRR's zebra speaks netlink over TCP (FPM).
//!
//! The octets are read by the same parsers as the kernel's, so the two cannot come to differ in what they understand.
//! What differs is the meaning around them: there is no sequence of sockets and flags here, a NEWROUTE is always the one
//! route of its prefix and table.
//!
//! What became of a route is said as the kernel says it of one that a driver offloads (`fib_alias_hw_flags_set`,
//! net/ipv4/fib_trie.c): the route again, with flags in `rtm_flags`.

use std::net::IpAddr;

use netlink_packet_core::NLM_F_REQUEST;

use super::Malformed;
use super::constants::{
    AF_INET, AF_INET6, RTA_DST, RTM_DELNEXTHOP, RTM_DELROUTE, RTM_F_OFFLOAD, RTM_F_OFFLOAD_FAILED,
    RTM_F_TRAP, RTM_NEWNEXTHOP, RTM_NEWROUTE, RTN_UNICAST,
};
use super::parse::{nexthop, route};
use super::wire::{Message, Messages, u8_at};
use crate::source::answers::{Answer, Fate};
use crate::source::event::{NexthopObject, Route};
use crate::source::route_tables::TABLE_MAIN;

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

/// Octets of the longest answer: that of an IPv6 prefix.
pub const LONGEST_ANSWER: usize = 16 + 12 + 20;

/// Appends what became of a route of table main, as zebra reads it (`netlink_route_read_unicast_ctx`,
/// zebra/rt_netlink.c): it finds the route by table, prefix and protocol, and looks at nothing else but the flags. A message that
/// is no request it throws away (`fpm_read`, zebra/dplane_fpm_nl.c).
pub fn answer(answer: &Answer, out: &mut Vec<u8>) {
    let flags = match answer.fate {
        Fate::Laid => RTM_F_OFFLOAD,
        Fate::Trapped => RTM_F_OFFLOAD | RTM_F_TRAP,
        Fate::Refused => RTM_F_OFFLOAD_FAILED,
    };
    let (v4, v6);
    let (family, address): (u8, &[u8]) = match answer.prefix.addr() {
        IpAddr::V4(address) => {
            v4 = address.octets();
            (AF_INET, &v4)
        }
        IpAddr::V6(address) => {
            v6 = address.octets();
            (AF_INET6, &v6)
        }
    };
    let attribute = 4 + address.len();
    let length = 16 + 12 + attribute;
    out.extend((length as u32).to_ne_bytes());
    out.extend(RTM_NEWROUTE.to_ne_bytes());
    out.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence and port: nobody answers this.
    out.extend([0; 8]);
    // Family, lengths of destination and source, TOS, table, protocol, scope, kind.
    let table = TABLE_MAIN as u8;
    let length = answer.prefix.prefix_len();
    out.extend([family, length, 0, 0, table, answer.protocol, 0, RTN_UNICAST]);
    out.extend(flags.to_ne_bytes());
    out.extend((attribute as u16).to_ne_bytes());
    out.extend(RTA_DST.to_ne_bytes());
    out.extend(address);
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    fn octets(prefix: &str, fate: Fate) -> Vec<u8> {
        let mut out = Vec::new();
        let prefix = prefix.parse().unwrap();
        let protocol = 186;
        answer(
            &Answer {
                prefix,
                protocol,
                fate,
            },
            &mut out,
        );
        out
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn an_answer_is_octet_by_octet_what_zebra_reads() {
        assert_eq!(
            octets("192.0.2.0/24", Fate::Laid),
            [
                36, 0, 0, 0, 24, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // NEWROUTE, NLM_F_REQUEST
                2, 24, 0, 0, 254, 186, 0, 1, 0, 0x40, 0, 0, // AF_INET, /24, main, BGP, RTM_F_OFFLOAD
                8, 0, 1, 0, 192, 0, 2, 0, // RTA_DST
            ]
        );
        let mut v6 = vec![48, 0, 0, 0, 24, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        v6.extend([10, 32, 0, 0, 254, 186, 0, 1, 0, 0, 0, 0x20, 20, 0, 1, 0]);
        v6.extend([0x20, 1, 0xd, 0xb8]);
        v6.extend([0; 12]);
        assert_eq!(octets("2001:db8::/32", Fate::Refused), v6);
        assert_eq!(v6.len(), LONGEST_ANSWER);
        let trapped = octets("0.0.0.0/0", Fate::Trapped);
        assert_eq!((trapped[17], &trapped[24..28]), (0, &[0, 0xc0, 0, 0][..]));
    }

    #[test]
    fn an_answer_is_a_route_to_the_parsers_of_the_kernels_messages() {
        for prefix in ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0"] {
            let both = [octets(prefix, Fate::Laid), octets(prefix, Fate::Refused)].concat();
            let read: Vec<Relayed> = messages(&both).map(Result::unwrap).collect();
            assert_eq!(read.len(), 2);
            for message in read {
                let Relayed::Route(route, false) = message else {
                    panic!("{message:?}")
                };
                assert_eq!(route.prefix, prefix.parse::<IpNet>().unwrap());
                assert_eq!((route.table, route.protocol), (TABLE_MAIN, 186));
            }
        }
    }
}
