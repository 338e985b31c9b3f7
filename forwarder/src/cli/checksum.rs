//! The Internet checksum (RFC 1071), for packets that commands make and look at.

/// Sum of 16-bit words, the last padded with a zero octet (RFC 1071).
pub fn sum(octets: &[u8]) -> u64 {
    octets
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

/// A sum in sixteen bits. All ones where a checksum is in it and right; else a checksum is its complement.
pub fn folded(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
