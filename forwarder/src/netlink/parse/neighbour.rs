//! `struct ndmsg` and `NDA_*` (include/uapi/linux/neighbour.h).

use std::net::{IpAddr, Ipv4Addr};

use crate::netlink::Malformed;
use crate::netlink::constants::{
    AF_INET, AF_INET6, NDA_DST, NDA_FLAGS_EXT, NDA_LLADDR, NTF_EXT_MANAGED, NTF_PROXY, NUD_DELAY, NUD_FAILED,
    NUD_NOARP, NUD_PERMANENT, NUD_PROBE, NUD_REACHABLE, NUD_STALE,
};
use crate::netlink::wire::{self, Attributes, u8_at, u16_at, u32_at};
use crate::source::event::{Ifindex, Neighbour};

/// Length of `struct ndmsg`.
pub(crate) const HEADER: usize = 12;

/// `NUD_VALID` (net/neighbour.h): the states in which the kernel sends to the entry's hardware address.
const VALID: u16 = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;

/// An entry with the fields that commands need to put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub ifindex: Ifindex,
    pub address: IpAddr,
    pub state: u16,
    pub flags: u8,
    pub extended: u32,
    pub mac: Option<[u8; 6]>,
}

/// An entry of the IPv4 or IPv6 neighbour table; `None` for a bridge's forwarding entries and for proxies.
pub(crate) fn entry(body: &[u8]) -> Result<Option<Entry>, Malformed> {
    let (family, flags) = (u8_at(body, 0)?, u8_at(body, 10)?);
    if ![AF_INET, AF_INET6].contains(&family) || flags & NTF_PROXY != 0 {
        return Ok(None);
    }
    let (mut address, mut mac, mut extended) = (None, None, 0);
    for attribute in Attributes::behind(body, HEADER)? {
        match attribute? {
            (NDA_DST, value) => address = Some(wire::address(value)?),
            (NDA_LLADDR, value) => mac = value.try_into().ok(),
            (NDA_FLAGS_EXT, value) => extended = u32_at(value, 0)?,
            _ => {}
        }
    }
    let address = address.ok_or(Malformed("neighbour without NDA_DST"))?;
    if address.is_ipv4() != (family == AF_INET) {
        return Err(Malformed("NDA_DST is of another family"));
    }
    let (ifindex, state) = (u32_at(body, 4)?, u16_at(body, 8)?);
    Ok(Some(Entry {
        ifindex,
        address,
        state,
        flags,
        extended,
        mac,
    }))
}

/// A neighbour that packets may be sent to some day; `None` for what [`entry`] skips and for multicast and broadcast
/// addresses, to which the kernel gives computed entries (NOARP).
pub(crate) fn parse(body: &[u8]) -> Result<Option<Neighbour>, Malformed> {
    let Some(entry) = entry(body)? else {
        return Ok(None);
    };
    let mac = entry.mac.filter(|mac| entry.state & VALID != 0 && *mac != [0; 6]);
    let group = entry.address.is_multicast() || entry.address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let computed = entry.state & NUD_NOARP != 0 && mac.is_some_and(|mac| mac[0] & 1 != 0);
    if group || computed {
        return Ok(None);
    }
    Ok(Some(Neighbour {
        ifindex: entry.ifindex,
        address: entry.address,
        mac,
        failed: entry.state & NUD_FAILED != 0,
        stale: entry.state & NUD_STALE != 0,
        managed: entry.extended & NTF_EXT_MANAGED != 0,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::socket::push_attribute;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn body(family: u8, state: u16, flags: u8, address: &[u8], mac: &[u8]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        body.extend_from_slice(&4u32.to_ne_bytes());
        body.extend_from_slice(&state.to_ne_bytes());
        body.extend_from_slice(&[flags, 0]);
        push_attribute(&mut body, NDA_DST, address);
        push_attribute(&mut body, NDA_LLADDR, mac);
        body
    }

    #[test]
    fn only_valid_states_have_a_mac() {
        let states = [
            (0x00, false), // NONE
            (0x01, false), // INCOMPLETE
            (NUD_REACHABLE, true),
            (NUD_STALE, true),
            (NUD_DELAY, true),
            (NUD_PROBE, true),
            (NUD_FAILED, false),
            (NUD_NOARP, true),
            (NUD_PERMANENT, true),
        ];
        for (state, usable) in states {
            let neighbour = parse(&body(AF_INET, state, 0, &[192, 0, 2, 7], &MAC))
                .unwrap()
                .unwrap();
            assert_eq!(neighbour.mac, usable.then_some(MAC), "{state:#x}");
            assert_eq!(neighbour.stale, state == NUD_STALE);
            assert_eq!(neighbour.failed, state == NUD_FAILED);
            assert!(!neighbour.managed);
        }
    }

    #[test]
    fn managed_stands_in_the_extended_flags() {
        let mut body = body(AF_INET, NUD_STALE, 0, &[192, 0, 2, 7], &MAC);
        push_attribute(&mut body, NDA_FLAGS_EXT, &NTF_EXT_MANAGED.to_ne_bytes());
        assert!(parse(&body).unwrap().unwrap().managed);
    }

    #[test]
    fn fdb_entries_proxies_multicast_and_broadcast_are_skipped() {
        let mdns = "ff02::fb".parse::<std::net::Ipv6Addr>().unwrap().octets();
        for body in [
            body(7, NUD_PERMANENT, 0, &[192, 0, 2, 7], &MAC),
            body(AF_INET, NUD_PERMANENT, NTF_PROXY, &[192, 0, 2, 7], &MAC),
            body(AF_INET, NUD_NOARP, 0, &[224, 0, 0, 22], &[1, 0, 0x5e, 0, 0, 0x16]),
            body(AF_INET, NUD_NOARP, 0, &[192, 0, 2, 255], &[0xff; 6]),
            body(AF_INET6, NUD_NOARP, 0, &mdns, &[0x33, 0x33, 0, 0, 0, 0xfb]),
        ] {
            assert_eq!(parse(&body), Ok(None));
        }
    }

    #[test]
    fn an_entry_of_a_tunnel_or_the_loopback_has_no_mac() {
        assert_eq!(
            parse(&body(AF_INET, NUD_NOARP, 0, &[192, 0, 2, 7], &[0; 6]))
                .unwrap()
                .unwrap()
                .mac,
            None
        );
        assert_eq!(
            parse(&body(AF_INET, NUD_NOARP, 0, &[192, 0, 2, 7], &[1; 4]))
                .unwrap()
                .unwrap()
                .mac,
            None
        );
        assert!(parse(&body(AF_INET6, NUD_STALE, 0, &[192, 0, 2, 7], &MAC)).is_err());
    }
}
