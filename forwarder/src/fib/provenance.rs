//! Where a route comes from: what people and figures want to know of a prefix and no packet does.

use std::{collections::HashMap, sync::atomic::Ordering};

use forwarder_common::directory::{NEIGHBOURS, SlotEntry};

use crate::dataplane::Tables;

/// Where a route comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Who installed it (`RTPROT_*`).
    pub protocol: u8,
    /// AS the prefix comes from; 0 where nobody says.
    pub origin_as: u32,
    /// AS it is heard from; 0 where nobody says.
    pub neighbour_as: u32,
}

impl Provenance {
    /// What a directory entry says.
    pub fn of(tables: &Tables, entry: &SlotEntry) -> Provenance {
        Provenance {
            protocol: entry.protocol,
            origin_as: entry.origin_as,
            neighbour_as: tables.neighbour_as(entry.neighbour),
        }
    }
}

/// The numbers that neighbouring networks have in directory entries: sixteen bits for a million entries, where the number of
/// an AS takes thirty-two.
#[derive(Default)]
pub(super) struct Neighbours {
    numbers: HashMap<u32, u16>,
}

impl Neighbours {
    /// Those that an earlier controller gave.
    pub fn adopt(tables: &Tables) -> Neighbours {
        let given = (1..=u16::MAX).map(|number| (tables.neighbour_as(number), number));
        Neighbours {
            numbers: given.take_while(|(asn, _)| *asn != 0).collect(),
        }
    }

    /// Writes what an entry is to say. Where there are more neighbours than numbers, which no router has, those are unknown.
    pub fn write(&mut self, tables: &Tables, provenance: Provenance, entry: &mut SlotEntry) {
        entry.protocol = provenance.protocol;
        entry.origin_as = provenance.origin_as;
        entry.neighbour = self.number(tables, provenance.neighbour_as);
    }

    fn number(&mut self, tables: &Tables, asn: u32) -> u16 {
        if asn == 0 {
            return 0;
        }
        if let Some(number) = self.numbers.get(&asn) {
            return *number;
        }
        let next = self.numbers.len() + 1;
        if next >= NEIGHBOURS {
            return 0;
        }
        // Before any entry names it.
        tables.neighbour_ases.u32(next * 4).store(asn, Ordering::Release);
        self.numbers.insert(asn, next as u16);
        next as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::Sizes;

    #[test]
    fn a_neighbour_keeps_its_number_over_a_restart_and_too_many_are_unknown() {
        let tables = Tables::heap(Sizes::SMALL);
        let mut neighbours = Neighbours::default();
        let told = |neighbours: &mut Neighbours, neighbour_as| {
            let mut entry = SlotEntry::default();
            let provenance = Provenance {
                protocol: 186,
                origin_as: 4_200_000_001,
                neighbour_as,
            };
            neighbours.write(&tables, provenance, &mut entry);
            Provenance::of(&tables, &entry)
        };
        for asn in [64_500, 4_200_000_000, 64_500, 0] {
            assert_eq!(told(&mut neighbours, asn).neighbour_as, asn);
        }
        let mut neighbours = Neighbours::adopt(&tables);
        assert_eq!(neighbours.numbers.len(), 2);
        for asn in 1..=70_000 {
            let known = told(&mut neighbours, asn);
            let expected = if asn <= 65_534 { asn } else { 0 };
            assert_eq!(
                (known.neighbour_as, known.origin_as, known.protocol),
                (expected, 4_200_000_001, 186)
            );
        }
    }
}
