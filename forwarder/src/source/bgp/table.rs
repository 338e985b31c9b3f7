//! The tables of a session as BGP numbers them (RFC 4760, RFC 8955).

use netgauze_iana::address_family::AddressType;

use crate::source::feed::FeedTable;

/// All, in the order of their index (`table as usize`).
pub const TABLES: [FeedTable; 4] = [
    FeedTable::Ipv4,
    FeedTable::Ipv6,
    FeedTable::FlowSpec4,
    FeedTable::FlowSpec6,
];

/// One thing per table.
pub type PerTable<T> = [T; TABLES.len()];

/// AFI and SAFI of a table.
#[must_use]
pub const fn family(table: FeedTable) -> (u16, u8) {
    match table {
        FeedTable::Ipv4 => (1, 1),
        FeedTable::Ipv6 => (2, 1),
        FeedTable::FlowSpec4 => (1, 133),
        FeedTable::FlowSpec6 => (2, 133),
    }
}

/// The table of an AFI and SAFI, where it is one of ours.
#[must_use]
pub fn of_family(afi: u16, safi: u8) -> Option<FeedTable> {
    TABLES.into_iter().find(|table| family(*table) == (afi, safi))
}

/// As the library calls it.
#[must_use]
pub const fn address_type(table: FeedTable) -> AddressType {
    match table {
        FeedTable::Ipv4 => AddressType::Ipv4Unicast,
        FeedTable::Ipv6 => AddressType::Ipv6Unicast,
        FeedTable::FlowSpec4 => AddressType::Ipv4FlowSpec,
        FeedTable::FlowSpec6 => AddressType::Ipv6FlowSpec,
    }
}

/// For people.
#[must_use]
pub const fn name(table: FeedTable) -> &'static str {
    match table {
        FeedTable::Ipv4 => "IPv4",
        FeedTable::Ipv6 => "IPv6",
        FeedTable::FlowSpec4 => "FlowSpec IPv4",
        FeedTable::FlowSpec6 => "FlowSpec IPv6",
    }
}
