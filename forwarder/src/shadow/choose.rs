//! Which prefixes are compared, and by which address of theirs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::{
    dataplane::Tables,
    fib::slots::RESERVED,
    stats::{path::Paths, prefixes},
};

/// Slots looked at in one turn at most: a table with room for a million and a few routes in it is not walked whole at once.
const SLOTS: u32 = 1 << 16;
/// Addresses tried for one prefix: a prefix whose longer ones leave little of it is left for another time.
const TRIES: usize = 8;

/// Numbers that differ, and need not be secret (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug)]
pub struct Draw(u64);

impl Draw {
    /// Begins with a seed.
    pub const fn new(seed: u64) -> Draw {
        Draw(seed)
    }

    /// The next number.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An address of a prefix.
    fn address(&mut self, prefix: IpNet) -> IpAddr {
        let random = u128::from(self.bits()) << 64 | u128::from(self.bits());
        match prefix {
            IpNet::V4(prefix) => {
                let host = random as u32 & !u32::from(prefix.netmask());
                IpAddr::V4(Ipv4Addr::from(u32::from(prefix.network()) | host))
            }
            IpNet::V6(prefix) => {
                let host = random & !u128::from(prefix.netmask());
                IpAddr::V6(Ipv6Addr::from(u128::from(prefix.network()) | host))
            }
        }
    }
}

/// An address that the prefix decides in the tables; none where longer ones leave none that was drawn.
pub fn witness(paths: &mut Paths<'_>, draw: &mut Draw, prefix: IpNet) -> Option<IpAddr> {
    (0..TRIES)
        .map(|_| draw.address(prefix))
        .find(|address| is_routed(*address) && paths.decide(*address).prefix == Some(prefix))
}

/// Whether routes decide about it, in the kernel as in the program: both have their own mind about the others.
fn is_routed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first != 0 && first != 127 && first < 224 && !v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            let unicast_link_local = v6.segments()[0] & 0xffc0 == 0xfe80;
            !(v6.is_multicast() || v6.is_loopback() || v6.is_unspecified() || unicast_link_local)
        }
    }
}

/// The next `count` prefixes in the order of their slots, from where `cursor` stands, which moves on.
pub fn next(tables: &Tables, cursor: &mut u32, count: usize) -> Vec<IpNet> {
    let mut chosen = Vec::with_capacity(count);
    let slots = tables.sizes.slots.saturating_sub(RESERVED);
    for _ in 0..slots.min(SLOTS) {
        if chosen.len() == count {
            break;
        }
        let slot = RESERVED + *cursor % slots;
        *cursor = (*cursor + 1) % slots;
        chosen.extend(prefixes::owner(&prefixes::entry(tables, slot)));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample;

    #[test]
    fn every_prefix_has_its_turn_and_an_address_that_it_decides() {
        let tables = sample::tables();
        let mut cursor = 0;
        let mut seen = Vec::new();
        for _ in 0..tables.sizes.slots {
            seen.extend(next(&tables, &mut cursor, 1));
        }
        let laid: Vec<IpNet> = prefixes::laid(&tables).map(|(_, prefix, _)| prefix).collect();
        assert!(!laid.is_empty());
        for prefix in &laid {
            assert!(seen.contains(prefix), "{prefix} has no turn");
        }
        let (mut paths, mut draw) = (Paths::new(&tables), Draw::new(1));
        let prefix: IpNet = "198.51.100.0/24".parse().unwrap();
        let address = witness(&mut paths, &mut draw, prefix).expect("an address");
        assert!(prefix.contains(&address));
        let absent: IpNet = "203.0.113.0/24".parse().unwrap();
        assert_eq!(witness(&mut paths, &mut draw, absent), None);
    }

    #[test]
    fn addresses_that_no_route_decides_are_not_asked_for() {
        for text in [
            "0.0.0.1",
            "127.0.0.1",
            "224.0.0.5",
            "255.255.255.255",
            "169.254.1.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
        ] {
            assert!(!is_routed(text.parse().unwrap()), "{text}");
        }
        for text in ["1.0.0.1", "198.51.100.7", "2001:db8::1", "fc00::1"] {
            assert!(is_routed(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_host_route_has_one_address() {
        let mut draw = Draw::new(7);
        for text in ["192.0.2.1/32", "2001:db8::1/128"] {
            let prefix: IpNet = text.parse().unwrap();
            assert_eq!(draw.address(prefix), prefix.addr());
        }
        let all: IpNet = "::/0".parse().unwrap();
        assert_ne!(draw.address(all), draw.address(all));
    }
}
