//! The two address families, so that everything about tables is written once.

use std::{fmt::Debug, hash::Hash, net::IpAddr};

use forwarder_common::fib;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An address as a number, most significant bit first.
pub trait Address: Copy + Eq + Hash + Ord + Debug + Send + 'static {
    /// Bits in an address.
    const BITS: u8;
    /// 4 or 6.
    const FAMILY: u8;

    /// Words of the table's root.
    const ROOT_LEN: usize;

    /// The root word for the address, and the bits it stands for.
    fn root(self) -> (usize, u8);
    /// The runs of root words, as first and count, of a prefix that is no longer than what its root words stand for.
    fn root_runs(self, length: u8) -> impl Iterator<Item = (usize, usize)>;
    /// The address with all bits beyond `length` cleared.
    fn network(self, length: u8) -> Self;
    /// The address with all bits beyond `length` set.
    fn last(self, length: u8) -> Self;
    /// The network that a root word stands for: the inverse of [`Address::root`].
    fn of_root(index: usize) -> Self;
    /// The address with the octet that begins at this bit set to `octet`, where it was 0.
    fn with_octet(self, bit: u8, octet: u8) -> Self;
    /// The number of the /24 (IPv4) or /48 (IPv6) that the address is in, which is what most prefixes are; and the bits
    /// behind that, folded.
    fn unit(self) -> (u64, u64);
    /// The `index`th octet.
    fn octet(self, index: usize) -> usize;
    /// Octets in wire order; IPv4 in the first four.
    fn octets16(self) -> [u8; 16];
    /// The inverse of [`Address::octets16`].
    fn from_octets16(octets: [u8; 16]) -> Self;
    /// As a prefix.
    fn prefix(self, length: u8) -> Option<IpNet>;
    /// As an address.
    fn ip(self) -> IpAddr;
}

macro_rules! address {
    ($number:ty, $family:literal, $octets:literal, $ip:ty, $net:ty, $variant:ident, $root_len:expr, { $($root:item)+ }) => {
        impl Address for $number {
            const BITS: u8 = <$number>::BITS as u8;
            const FAMILY: u8 = $family;
            const ROOT_LEN: usize = $root_len;

            $($root)+

            fn network(self, length: u8) -> Self {
                if length == 0 {
                    0
                } else {
                    self & <$number>::MAX << (<Self as Address>::BITS - length)
                }
            }

            fn last(self, length: u8) -> Self {
                self | <$number>::MAX.checked_shr(length as u32).unwrap_or(0)
            }

            fn with_octet(self, bit: u8, octet: u8) -> Self {
                self | (octet as Self) << (<Self as Address>::BITS - 8 - bit)
            }

            fn octet(self, index: usize) -> usize {
                self.to_be_bytes()[index] as usize
            }

            fn octets16(self) -> [u8; 16] {
                let mut octets = [0; 16];
                octets[..$octets].copy_from_slice(&self.to_be_bytes());
                octets
            }

            fn from_octets16(octets: [u8; 16]) -> Self {
                let mut own = [0; $octets];
                own.copy_from_slice(&octets[..$octets]);
                <$number>::from_be_bytes(own)
            }

            fn prefix(self, length: u8) -> Option<IpNet> {
                <$net>::new(<$ip>::from(self), length)
                    .ok()
                    .map(IpNet::$variant)
            }

            fn ip(self) -> IpAddr {
                IpAddr::$variant(<$ip>::from(self))
            }
        }
    };
}
address! { u32, 4, 4, std::net::Ipv4Addr, Ipv4Net, V4, fib::ROOT4_LEN, {
    fn root(self) -> (usize, u8) {
        (fib::root4(self), 24)
    }

    fn unit(self) -> (u64, u64) {
        ((self >> 8) as u64, (self & 0xff) as u64)
    }

    fn of_root(index: usize) -> u32 {
        (index as u32) << 8
    }

    fn root_runs(self, length: u8) -> impl Iterator<Item = (usize, usize)> {
        let (first, bits) = self.root();
        std::iter::once((first, 1 << (bits - length)))
    }
} }
address! { u128, 6, 16, std::net::Ipv6Addr, Ipv6Net, V6, fib::ROOT6_LEN, {
    fn root(self) -> (usize, u8) {
        let (index, octets) = fib::root6(&self.to_be_bytes());
        (index, octets as u8 * 8)
    }

    fn unit(self) -> (u64, u64) {
        ((self >> 80) as u64, (self >> 64 & 0xffff) as u64 ^ (self as u64).rotate_left(16))
    }

    fn of_root(index: usize) -> u128 {
        fib::network6(index)
    }

    // One run for each value of the top three bits: the parts of the root are that large.
    fn root_runs(self, length: u8) -> impl Iterator<Item = (usize, usize)> {
        let eighths = 1u128 << 3u8.saturating_sub(length);
        (0..eighths).map(move |eighth| {
            let (first, bits) = (self | eighth << 125).root();
            (first, 1 << (bits - length.max(3)))
        })
    }
} }

/// The prefix that a directory entry's fields name.
pub fn prefix_of(family: u8, address: [u8; 16], length: u8) -> Option<IpNet> {
    match family {
        4 => u32::from_octets16(address).prefix(length),
        6 => u128::from_octets16(address).prefix(length),
        _ => None,
    }
}

/// Calls `$body` with the address number and length of a prefix, in its own family.
#[macro_export]
macro_rules! with_family {
    ($prefix:expr, |$v4:ident, $l4:ident| $body4:expr, |$v6:ident, $l6:ident| $body6:expr) => {
        match $prefix.trunc() {
            ipnet::IpNet::V4(net) => {
                let ($v4, $l4) = (u32::from(net.network()), net.prefix_len());
                $body4
            }
            ipnet::IpNet::V6(net) => {
                let ($v6, $l6) = (u128::from(net.network()), net.prefix_len());
                $body6
            }
        }
    };
}
