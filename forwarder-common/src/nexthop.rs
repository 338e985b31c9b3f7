//! Next hops (adjacencies) and next-hop groups.
//!
//! A next hop never moves: its id is its identity (egress interface and neighbour) for as long as it lives, and what
//! changes in it changes one aligned word at a time. So a neighbour's new MAC, its loss, or a link going down is one store
//! for however many prefixes lead there.

use crate::{plain, reason::Reason};

/// Low 48 bits of the MAC words.
pub const MAC_MASK: u64 = (1 << 48) - 1;
/// Buckets in a group: how finely weights are kept, and the most members a group can have.
pub const BUCKETS: usize = 124;
/// Id that names nothing.
pub const NONE: u16 = 0;

/// A next hop: the whole rewrite, in half a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct NextHop {
    /// Low 48 bits: destination MAC. High 16: [`Reason`] its packets leave with; 0, `Forwarded`, when it is usable.
    pub destination: u64,
    /// Low 48 bits: source MAC. High 16: identifier of the VLAN in the outer tag, where it has [`TAGS`].
    pub source: u64,
    /// Egress interface as routes name it: a VLAN, a bond or a device.
    pub ifindex: u32,
    /// Largest IP packet it takes, octets.
    pub mtu: u32,
    /// Egress port, for its counters.
    pub port: u16,
    /// [`EXACT_LENGTH`], [`GENERIC`], [`OUTSIDE`], [`SEVERAL_BUFFERS`], [`TAGGED`] and what follows it.
    pub flags: u16,
    /// The device its frames leave by, the key in the redirect map; with [`AGGREGATED`] the port of the bond in `LAGS`.
    pub device: u16,
    /// Identifier of the VLAN in the inner tag, with [`TWICE`].
    pub inner: u16,
}
plain!(NextHop, 32);

/// The egress is a virtual device that carries frames as they are: Ethernet padding is cut off, as the kernel does.
pub const EXACT_LENGTH: u16 = 1;
/// The egress runs XDP in generic mode: only generic ingress can redirect to it.
pub const GENERIC: u16 = 2;
/// Octets of tags in front of its packets: none, one tag ([`TAGGED`]) or two ([`TWICE`], without it).
pub const TAGS: u16 = TAGGED | TWICE;
/// A tag.
pub const TAGGED: u16 = 4;
/// Two tags.
pub const TWICE: u16 = 8;
/// The outer tag, or the only one, is a service tag.
pub const OUTER_SERVICE: u16 = 16;
/// The inner tag is a service tag.
pub const INNER_SERVICE: u16 = 32;
/// The egress is a bond: [`crate::lag`].
pub const AGGREGATED: u16 = 64;
/// Frames in several buffers may be sent there (`NETDEV_XDP_ACT_NDO_XMIT_SG`).
pub const SEVERAL_BUFFERS: u16 = 128;
/// What is beyond the egress is not ours: transit or peer.
pub const OUTSIDE: u16 = 1024;
const _: () = assert!(OUTSIDE as u32 == crate::interface::OUTSIDE);

impl NextHop {
    /// The first word: destination MAC and the reason packets leave with.
    pub const fn destination_word(mac: [u8; 6], state: Reason) -> u64 {
        mac_bits(mac) | (state as u64) << 48
    }

    /// The second word: source MAC and the outer VLAN's identifier.
    pub const fn source_word(mac: [u8; 6], vlan: u16) -> u64 {
        mac_bits(mac) | (vlan as u64) << 48
    }

    /// A next hop that sends every packet away with `state`.
    pub const fn special(state: Reason) -> NextHop {
        NextHop {
            destination: Self::destination_word([0; 6], state),
            source: 0,
            ifindex: 0,
            mtu: 0,
            port: 0,
            flags: 0,
            device: 0,
            inner: 0,
        }
    }

    /// The reason its packets leave with.
    #[inline(always)]
    pub const fn state(&self) -> usize {
        (self.destination >> 48) as usize
    }

    /// Octets of tags in front of its packets.
    #[inline(always)]
    pub const fn tags(&self) -> u32 {
        (self.flags & TAGS) as u32
    }

    /// Identifier of the outer VLAN.
    #[inline(always)]
    pub const fn outer(&self) -> u16 {
        (self.source >> 48) as u16
    }

    /// Destination MAC.
    pub const fn destination_mac(&self) -> [u8; 6] {
        mac_bytes(self.destination)
    }

    /// Source MAC.
    pub const fn source_mac(&self) -> [u8; 6] {
        mac_bytes(self.source)
    }
}

/// A MAC address as the low 48 bits of a word, so that storing the word little-endian writes the address.
pub const fn mac_bits(mac: [u8; 6]) -> u64 {
    u64::from_le_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0])
}

/// The MAC address in the low 48 bits of a word.
pub const fn mac_bytes(bits: u64) -> [u8; 6] {
    let bytes = bits.to_le_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]
}

/// A next-hop group: four cache lines, of which a group of one member touches one.
///
/// Every bucket is always filled, so that `width` may change before or after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Group {
    /// 1: the first bucket is the answer and no hash is needed; else [`BUCKETS`].
    pub width: u32,
    /// Account of the prefixes that lead here, 0 for none ([`crate::account`]).
    pub account: u32,
    /// Next-hop ids; a member of weight w has about w of them.
    pub buckets: [u16; BUCKETS],
}
plain!(Group, 256);

impl Group {
    /// A group whose every packet goes to `nexthop`.
    pub const fn single(nexthop: u16) -> Group {
        Group {
            width: 1,
            account: 0,
            buckets: [nexthop; BUCKETS],
        }
    }
}

/// The bucket for a flow hash in a group of this width.
#[inline(always)]
pub const fn bucket(hash: u32, width: u32) -> usize {
    if width <= 1 {
        0
    } else {
        ((hash as u64 * BUCKETS as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_survives_its_word() {
        let mac = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];
        let hop = NextHop {
            destination: NextHop::destination_word(mac, Reason::NextHopDown),
            source: NextHop::source_word(mac, 0x0abc),
            ..NextHop::special(Reason::Forwarded)
        };
        assert_eq!(hop.destination_mac(), mac);
        assert_eq!(hop.source_mac(), mac);
        assert_eq!(hop.state(), Reason::NextHopDown.index());
        assert_eq!(&hop.source.to_le_bytes()[..6], &mac);
    }

    #[test]
    fn every_hash_lands_in_a_bucket() {
        assert_eq!(bucket(u32::MAX, BUCKETS as u32), BUCKETS - 1);
        assert_eq!(bucket(0, BUCKETS as u32), 0);
        assert_eq!(bucket(u32::MAX, 1), 0);
    }
}
