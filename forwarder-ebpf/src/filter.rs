//! What must not come in: bogon sources and our own prefixes as sources, on interfaces that ask for it.

use forwarder_common::{
    filter::{SourceClass, SourceTable, classify},
    flow::self_bit,
    interface::{FILTER_SOURCES, Interface},
    reason::Reason,
};

use crate::maps;

/// Whether a class of source may come in.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn admit(class: u32) -> Result<(), Reason> {
    if class == SourceClass::Ordinary as u32 {
        Ok(())
    } else if class == SourceClass::Own as u32 {
        Err(Reason::SpoofedSource)
    } else {
        Err(Reason::BogonSource)
    }
}

/// The class of a source address (octets in wire order), a [`SourceClass`] as a number.
#[inline(always)]
pub fn class<const OCTETS: usize>(interface: &Interface, address: &[u8; OCTETS]) -> u32 {
    if interface.flags & FILTER_SOURCES == 0 {
        return SourceClass::Ordinary as u32;
    }
    let table: &SourceTable = &maps::SOURCES.get()[(maps::SETTINGS.get().active_filter & 1) as usize];
    classify(&table.nodes, &table.leaves, address)
}

/// IPv4 from one of our own addresses: the kernel takes it for a martian (`fib_validate_source`), so it must see it.
///
/// # Errors
/// [`Reason::OwnSource`].
#[inline(always)]
pub fn own_source(address: u32) -> Result<(), Reason> {
    let bits = maps::SELF_BITS.get();
    let (word, bit) = self_bit(address);
    if bits[word] >> bit & 1 == 0 {
        return Ok(());
    }
    // SAFETY: the value is not looked at.
    if unsafe { maps::SELF_ADDRESSES.get(&address) }.is_some() {
        Err(Reason::OwnSource)
    } else {
        Ok(())
    }
}
