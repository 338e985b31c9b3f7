//! The writes to a packet that has no tags: MACs, TTL, checksum. Everything was decided before. Tags: [`crate::tag`].

use forwarder_common::nexthop::{MAC_MASK, NextHop};

use crate::packet::Head;
use crate::parse::{IPV4, IPV6};

/// MACs of the next hop, in two stores (a copy of `[u8; 6]` becomes a call).
#[inline(always)]
pub fn ethernet<const N: usize>(head: Head<N>, hop: &NextHop) {
    // 12 octets: destination 0..6, source 6..12.
    head.set_u64::<0>(hop.destination & MAC_MASK | hop.source << 48);
    head.set_u32::<8>((hop.source >> 16) as u32);
}

/// IPv4: MACs, TTL and checksum.
#[inline(always)]
pub fn ipv4(head: Head<IPV4>, hop: &NextHop) {
    ethernet(head, hop);
    ttl4(head);
}

/// IPv4: TTL and checksum.
#[inline(always)]
pub fn ttl4(head: Head<IPV4>) {
    head.set_u8::<22>(head.u8::<22>().wrapping_sub(1));
    head.set_u16::<24>(decrease_ttl(head.u16::<24>()));
}

/// IPv6: MACs and hop limit.
#[inline(always)]
pub fn ipv6(head: Head<IPV6>, hop: &NextHop) {
    ethernet(head, hop);
    ttl6(head);
}

/// IPv6: hop limit.
#[inline(always)]
pub fn ttl6(head: Head<IPV6>) {
    head.set_u8::<21>(head.u8::<21>().wrapping_sub(1));
}

/// The checksum after the TTL went down by one (RFC 1624 eqn. 3 for a change of -0x0100), computed as
/// `include/net/ip.h` `ip_decrease_ttl` does, so that the octets equal the kernel's.
#[inline(always)]
pub const fn decrease_ttl(checksum: u16) -> u16 {
    let sum = checksum as u32 + 0x0100u16.to_be() as u32;
    // One more where `sum` is 0xffff or more; without a branch.
    (sum + ((sum + 1) >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{packet::Packet, parse::fold};
    use forwarder_common::reason::Reason;

    #[test]
    fn the_checksum_stays_right_for_every_ttl_and_rest() {
        for rest in (0..=0xffffu64).step_by(7) {
            for ttl in [2u64, 64, 65, 128, 255] {
                let before = !(fold(rest + (ttl << 8 | 17)) as u16);
                let after = u16::from_be(decrease_ttl(before.to_be()));
                let sum = fold(rest + ((ttl - 1) << 8 | 17) + after as u64);
                assert_eq!(sum, 0xffff, "rest {rest:#x} ttl {ttl}");
            }
        }
    }

    #[test]
    fn the_macs_are_written_whole() {
        let mut frame = [0u8; IPV4];
        frame[22] = 64;
        let start = frame.as_mut_ptr() as usize;
        // SAFETY: the range is the array.
        let packet = unsafe { Packet::new(start, start + frame.len()) };
        let hop = NextHop {
            destination: NextHop::destination_word([1, 2, 3, 4, 5, 6], Reason::Forwarded),
            source: NextHop::source_word([7, 8, 9, 10, 11, 12], 0x0fff),
            ..NextHop::default()
        };
        ipv4(packet.head().expect("length"), &hop);
        assert_eq!(frame[..14], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0]);
        assert_eq!(frame[22], 63);
    }
}
