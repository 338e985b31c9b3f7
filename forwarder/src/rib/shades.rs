//! What one of the kernel's tables hides of those behind it.
//!
//! The first table that has any route for a destination answers, however short its prefix. So a prefix of one table shades what
//! lies inside it in the tables that are asked later.

use ipnet::IpNet;

use crate::{
    fib::{family::Address, prefixes::Prefixes},
    with_family,
};

/// Prefixes of all tables but the last that is asked, with the place of the first table that has each. Hosts cover nothing but
/// themselves, and 127.0.0.0/8 nothing that is forwarded: so with tables local and main this is empty.
#[derive(Default)]
pub(super) struct Shades {
    v4: Prefixes<u32, u8>,
    v6: Prefixes<u128, u8>,
}

impl Shades {
    /// The first table that has this prefix is now this one, by its place; `None` where no table but the last has it.
    pub fn note(&mut self, prefix: IpNet, first: Option<u8>) {
        with_family!(
            prefix,
            |address, length| note(&mut self.v4, address, length, first),
            |address, length| note(&mut self.v6, address, length, first)
        );
    }

    /// The first table in which a prefix covers what lies inside it in the tables behind, by its place.
    pub fn of(&self, prefix: IpNet) -> Option<u8> {
        with_family!(
            prefix,
            |address, length| self.v4.get(address, length).copied(),
            |address, length| self.v6.get(address, length).copied()
        )
    }

    /// Whether a table before this one has a prefix that covers this prefix and is shorter.
    pub fn over(&self, prefix: IpNet, table: u8) -> bool {
        table > 0
            && !(self.v4.is_empty() && self.v6.is_empty())
            && with_family!(
                prefix,
                |address, length| over(&self.v4, address, length, table),
                |address, length| over(&self.v6, address, length, table)
            )
    }
}

fn note<A: Address>(shades: &mut Prefixes<A, u8>, address: A, length: u8, first: Option<u8>) {
    let loopback = address.ip().is_loopback();
    match first {
        Some(first) if length < A::BITS && !loopback => shades.insert(address, length, first),
        _ => shades.remove(address, length),
    };
}

fn over<A: Address>(shades: &Prefixes<A, u8>, address: A, length: u8, table: u8) -> bool {
    length > 0
        && shades
            .all_covering(address, length - 1)
            .any(|(.., first)| *first < table)
}
