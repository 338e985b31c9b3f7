//! Where a generated prefix lies.
//!
//! IPv4 prefixes lie anywhere. IPv6 ones cluster, and what a table costs depends on how: the registries hand out their
//! blocks from the start; what is longer than a /32 lies inside an allocation, most of it in few of them; and what is
//! longer than a /40 fills some /40s of its allocation and leaves the others empty. With the numbers below the default
//! table holds something longer than its own length in 7,000 /24s, 12,400 /32s and 21,600 /40s; the real one of October
//! 2022 in 7,182, 11,731 and 20,395.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Route;
use super::shape::BLOCKS_V6;

/// The longest prefix that a registry hands out.
const ALLOCATION: u8 = 32;
/// Of the 4,096 /24s of a registry's block, those that it hands out from.
const OPENED: u64 = 1_843;
/// Percent of the allocations inside which more-specifics are announced.
const DIVIDED: usize = 40;
/// The first of them has its longer prefixes in so many /40s, in percent of their number, and at most in all 256; the
/// second in half as many, and so on down to one.
const WIDTH: usize = 14;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A rank below `limit`, as often as Zipf has it: 1 in every so many by its distance from the first. In whole numbers,
    /// for logarithms are not the same on every machine: an octave, then a number in it.
    fn rank(&mut self, limit: usize) -> usize {
        // Ranks count from 4, so that the first is not half of everything.
        let octaves = u64::from((limit + 4).ilog2()) - 1;
        loop {
            let first = 4 << self.below(octaves);
            let rank = (first + self.below(first)) as usize - 4;
            if rank < limit {
                return rank;
            }
        }
    }
}

/// A place for an IPv4 prefix.
pub fn v4(random: &mut Random, _: &[Route], _: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(random.next() as u32))
}

/// A place for an IPv6 prefix of this length, given all shorter ones, the shortest first.
pub fn v6(random: &mut Random, shorter: &[Route], length: u8) -> IpAddr {
    let allocations = shorter.partition_point(|route| route.length <= ALLOCATION);
    let divided = allocations * DIVIDED / 100;
    if length <= ALLOCATION || divided == 0 {
        return allocation(random);
    }
    let rank = random.rank(divided);
    // The allocations stand by length: a prime beyond their number deals them out.
    let parent = &shorter[(rank as u64 * 2_654_435_761 % allocations as u64) as usize];
    let IpAddr::V6(network) = parent.address else {
        return allocation(random);
    };
    let halves = if parent.length < ALLOCATION { 2 } else { 1 };
    let network = u128::from(network) | u128::from(random.below(halves)) << 96;
    let inside = if length <= 40 {
        random.below(1 << 32)
    } else {
        let width = (divided * WIDTH / 100 / (rank + 1)).clamp(1, 256) as u64;
        random.below(width) << 24 | random.below(1 << 24)
    };
    IpAddr::V6(Ipv6Addr::from(network | u128::from(inside) << 64))
}

fn allocation(random: &mut Random) -> IpAddr {
    let mut pick = random.below(100);
    let mut block = BLOCKS_V6[0].0;
    for (prefix, weight) in BLOCKS_V6 {
        block = *prefix;
        if pick < *weight {
            break;
        }
        pick -= weight;
    }
    let high = u128::from(block) << 112 | u128::from(random.below(OPENED)) << 104;
    IpAddr::V6(Ipv6Addr::from(high | u128::from(random.next()) << 40))
}
