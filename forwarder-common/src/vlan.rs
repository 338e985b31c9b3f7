//! VLAN tags (IEEE 802.1Q): from the tags of a frame to the interface it came in on, and to the tags it leaves with.
//!
//! A VLAN is an interface like any other: it has an entry of `INTERFACES` under its own ifindex, with its own number, role and
//! MAC addresses, and only the way to it is different. Every port has two *rows* of `TRUNKS`, one for each kind of tag, in which
//! the identifier of a VLAN on it leads to that VLAN's ifindex. A VLAN is a port, and may have VLANs itself (QinQ).

/// VLAN identifiers: an entry of a row for each.
pub const VLANS: usize = 4096;
/// A row: by identifier the ifindex, 0 for a VLAN that is not served.
pub type Trunk = [u16; VLANS];
/// Rows of a port.
pub const ROWS: u32 = 2;

/// Octets of a tag.
pub const TAG: u32 = 4;
/// Most tags that are understood: an outer and an inner one.
pub const MOST_TAGS: usize = 2;
/// EtherType of a customer tag, 802.1Q, host order.
pub const CUSTOMER: u16 = 0x8100;
/// EtherType of a service tag, 802.1ad, host order.
pub const SERVICE: u16 = 0x88a8;
/// VLAN identifier in a tag.
pub const VID: u16 = 0x0fff;
/// Priority and drop eligibility in a tag: they stay what they are when a packet changes its VLAN.
pub const PRIORITY: u16 = 0xf000;

/// The row of a port for tags of this kind.
#[inline(always)]
pub const fn row(port: u32, service: bool) -> u32 {
    port * ROWS + service as u32
}
