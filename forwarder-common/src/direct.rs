//! Tables that the program reads and writes at an address it knows, instead of asking the map for each entry.
//!
//! A look-up in an array map, inlined though it is, costs a dozen instructions: the key goes over the stack, the answer may be
//! null. A map with a single element has an address that the kernel puts into the instruction (`BPF_PSEUDO_MAP_VALUE`, since
//! Linux 5.2), and a bound that is a number costs a comparison. So every table that fits the verifier's limit for offsets
//! into one element is one element, and an entry is an addition away.
//!
//! The compiler knows neither address nor length. It writes a 64-bit immediate with a mark and the table's number
//! ([`address_mark`], [`length_mark`]), and the loader replaces each by the map or the length before the kernel sees the object.

use crate::maps;

/// Octets that one element may have: the verifier bounds offsets (`BPF_MAX_VAR_OFF`, kernel/bpf/verifier.c).
pub const MAX_OCTETS: u64 = (1 << 29) - 1;

/// The upper half of a marked immediate.
pub const MARK: u32 = 0xf0d1_2ec7;

const LENGTH: u32 = 1 << 16;

/// The tables, by number. The program has the address of those that [`addressed`] says, and the length of all.
pub const TABLES: &[&str] = &[
    maps::FIB4_ROOT,
    maps::FIB4_POOL,
    maps::FIB6_ROOT,
    maps::FIB6_POOL,
    maps::SLOT_GROUP,
    maps::GROUPS,
    maps::NEXTHOPS,
    maps::INTERFACES,
    maps::SETTINGS,
    maps::SOURCES,
    maps::SELF_BITS,
    maps::REASON_COUNTERS,
    maps::PENDING,
    maps::NEXTHOP_COUNTERS,
    maps::EGRESS_COUNTERS,
    maps::PREFIX_COUNTERS,
    maps::SLOT_DIRECTORY,
    maps::NEXTHOP_DIRECTORY,
    maps::PORT_DIRECTORY,
    maps::RULES,
    maps::RULE_STATES,
    maps::LIMITERS,
    maps::ASKED,
    maps::RULE_DIRECTORY,
    maps::ORIGINS,
    maps::PUNT,
    maps::PUNT_STATES,
    maps::PUNT_LIMITERS,
    maps::PUNT_BUCKETS,
    maps::PUNT_SEEN,
    maps::SOURCE_COUNTERS,
    maps::PAIRS,
    maps::SAMPLE_COUNTERS,
    maps::TRUNKS,
    maps::LAGS,
    maps::PRESUMED_COUNTERS,
];

/// Whether the program has a table's address, so that it must be a single element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressed {
    /// It has.
    Always,
    /// It has where one element is enough; else the length is 0, and it asks the map.
    WhereItFits,
    /// It has the length alone, or nothing.
    Never,
}

/// How the program reaches a table.
pub fn addressed(name: &str) -> Addressed {
    match name {
        // Entries for every CPU and prefix: more than one element on machines with many of both.
        maps::PREFIX_COUNTERS | maps::SOURCE_COUNTERS => Addressed::WhereItFits,
        maps::SLOT_DIRECTORY | maps::NEXTHOP_DIRECTORY | maps::PORT_DIRECTORY | maps::RULE_DIRECTORY => {
            Addressed::Never
        }
        _ if TABLES.contains(&name) => Addressed::Always,
        _ => Addressed::Never,
    }
}

/// The number of a table.
///
/// # Panics
/// Where it is none of [`TABLES`]; for use at compile time.
pub const fn number(name: &str) -> u32 {
    let mut number = 0;
    while number < TABLES.len() {
        if equal(TABLES[number].as_bytes(), name.as_bytes()) {
            return number as u32;
        }
        number += 1;
    }
    panic!("no such table")
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// What stands for the address of a table.
#[inline(always)]
pub const fn address_mark(number: u32) -> u64 {
    (MARK as u64) << 32 | number as u64
}

/// What stands for the number of its entries.
#[inline(always)]
pub const fn length_mark(number: u32) -> u64 {
    address_mark(number) | LENGTH as u64
}

/// What a marked immediate stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// The address of the table of this number.
    Address(u32),
    /// The number of its entries.
    Length(u32),
}

/// Reads a marked immediate.
pub const fn read_mark(immediate: u64) -> Option<Marked> {
    if (immediate >> 32) as u32 != MARK {
        return None;
    }
    let low = immediate as u32;
    Some(if low & LENGTH == 0 {
        Marked::Address(low)
    } else {
        Marked::Length(low & !LENGTH)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_what_it_stands_for() {
        for number in 0..TABLES.len() as u32 {
            assert_eq!(read_mark(address_mark(number)), Some(Marked::Address(number)));
            assert_eq!(read_mark(length_mark(number)), Some(Marked::Length(number)));
        }
        assert_eq!(read_mark(0x1234_5678_0000_0001), None);
    }
}
