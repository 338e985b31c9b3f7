//! The flow hash that picks a member of a next-hop group, and the hash of the own-address bitmap.

/// 64-bit words in the own-address bitmap: 8 KiB, small enough to stay in the first-level cache.
pub const SELF_WORDS: usize = 1024;

/// Mixes one word into a hash (the 64-bit finaliser of MurmurHash3, halved).
#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let x = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^ x >> 32
}

/// Hash of a flow. `ports` is source and destination port, or 0 for fragments and protocols without ports.
#[inline(always)]
pub const fn hash(seed: u32, source: u128, destination: u128, protocol: u8, ports: u32) -> u32 {
    let mut h = mix(seed as u64, source as u64 ^ (source >> 64) as u64);
    h = mix(
        h,
        (destination as u64 ^ (destination >> 64) as u64).rotate_left(17),
    );
    h = mix(h, (protocol as u64) << 32 | ports as u64);
    (h >> 16) as u32
}

/// Spreads a number over 32 bits.
#[inline(always)]
pub const fn spread(number: u64) -> u32 {
    (mix(0, number).wrapping_mul(0xc4ce_b9fe_1a85_ec53) >> 32) as u32
}

/// Bit of an IPv4 address (host order) in the own-address bitmap: word and bit.
#[inline(always)]
pub const fn self_bit(address: u32) -> (usize, u32) {
    let h = address.wrapping_mul(0x9e37_79b1) >> 16;
    ((h >> 6) as usize & (SELF_WORDS - 1), h & 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_spread_evenly_over_buckets() {
        let mut hits = [0u32; crate::nexthop::BUCKETS];
        for flow in 0..124_000u32 {
            let source = 0x0a00_0000u128 + (flow / 1000) as u128;
            let ports = (flow % 1000 + 1024) << 16 | 443;
            hits[crate::nexthop::bucket(hash(7, source, 0x0505_0505, 6, ports), 124)] += 1;
        }
        assert!(hits.iter().all(|n| (800..1200).contains(n)), "{hits:?}");
    }
}
