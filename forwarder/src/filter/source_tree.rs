//! The tree of source classes (`forwarder-common/src/filter.rs`): made of prefixes, and put in force.
//!
//! A table is made of the prefixes inside it, which come in order, so that what covers others comes before them. It is a class
//! for each octet, and below an octet where longer prefixes are, another table. One that turns out to be of one class is
//! none: its class stands in the table above. So a prefix inside another of its class takes nothing, and neither do two
//! halves that are one.

use std::{net::IpAddr, sync::atomic::Ordering};

use forwarder_common::filter::{
    CLASSES, LEAF, LEAF_LEN, LEAVES, NODE, NODE_LEN, NODES, ROOT4, ROOT6, SourceClass, SourceTable,
};
use ipnet::IpNet;

use crate::dataplane::Tables;

/// A prefix and its class.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The address, its first bit the highest.
    bits: u128,
    length: u32,
    class: u16,
}

impl Entry {
    /// Of a prefix without bits beyond its length.
    pub fn new(net: IpNet, class: SourceClass) -> Entry {
        Entry {
            bits: match net.addr() {
                IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
                IpAddr::V6(address) => address.to_bits(),
            },
            length: net.prefix_len().into(),
            class: class as u16,
        }
    }

    fn octet(&self, depth: u32) -> usize {
        (self.bits >> (120 - depth * 8)) as usize & 0xff
    }
}

/// The words of a tree.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    nodes: Vec<[u16; NODE_LEN]>,
    leaves: Vec<[u32; LEAF_LEN]>,
}

impl Compiled {
    /// Nodes and leaves in use.
    pub fn used(&self) -> [usize; 2] {
        [self.nodes.len(), self.leaves.len()]
    }
}

/// Makes a tree of both families' prefixes, each in ascending order with the shorter first. None: it has no room for them.
pub fn tree(v4: &[Entry], v6: &[Entry]) -> Option<Compiled> {
    let mut tree = Compiled {
        nodes: vec![[0; NODE_LEN]; 2],
        leaves: Vec::new(),
    };
    for (root, entries) in [(ROOT4, v4), (ROOT6, v6)] {
        let (words, _) = tree.table(0, SourceClass::Ordinary as u16, entries)?;
        tree.nodes[root as usize] = words;
    }
    Some(tree)
}

impl Compiled {
    /// The words of a table, and whether all of them are classes. `outside` is the class around its prefixes.
    fn table(&mut self, depth: u32, outside: u16, entries: &[Entry]) -> Option<([u16; NODE_LEN], bool)> {
        let mut words = [outside; NODE_LEN];
        let mut flat = true;
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let octet = first.octet(depth);
            let left = (depth + 1) * 8;
            if first.length <= left {
                words[octet..octet + (1 << (left - first.length))].fill(first.class);
                rest = &rest[1..];
                continue;
            }
            // What covers them came before; what is not below this octet comes behind.
            let below = rest.partition_point(|entry| entry.octet(depth) == octet);
            let (inside, behind) = rest.split_at(below);
            words[octet] = self.below(depth + 1, words[octet], inside)?;
            flat &= words[octet] & (NODE | LEAF) == 0;
            rest = behind;
        }
        Some((words, flat))
    }

    /// The word that leads to a table: the table's class where it has only one.
    fn below(&mut self, depth: u32, outside: u16, entries: &[Entry]) -> Option<u16> {
        let (words, flat) = self.table(depth, outside, entries)?;
        if !flat {
            let number = self.nodes.len();
            self.nodes.push(words);
            return (number < NODES).then_some(number as u16 | NODE);
        }
        if words.iter().all(|class| *class == words[0]) {
            return Some(words[0]);
        }
        let mut leaf = [0; LEAF_LEN];
        for (octet, class) in words.iter().enumerate() {
            leaf[octet / CLASSES] |= u32::from(*class) << (octet % CLASSES * 2);
        }
        let number = self.leaves.len();
        self.leaves.push(leaf);
        (number < LEAVES).then_some(number as u16 | LEAF)
    }
}

/// Writes a tree into the half not in force and puts it in force with one store. The half it replaces must have been out of
/// force for a grace period.
pub fn install(tables: &Tables, tree: &Compiled) {
    let settings = tables.settings.word(0, 16);
    let old = settings.load(Ordering::Acquire);
    let next = (old as u32 & 1) ^ 1;
    let base = next as usize * size_of::<SourceTable>();
    let pairs = tree.nodes.as_flattened().chunks_exact(2).map(|pair| {
        let ([a, b], [c, d]) = (pair[0].to_ne_bytes(), pair[1].to_ne_bytes());
        u32::from_ne_bytes([a, b, c, d])
    });
    let leaves = tree.leaves.as_flattened().iter().copied();
    let write = |offset: usize, words: &mut dyn Iterator<Item = u32>| {
        for (index, word) in words.enumerate() {
            let at = tables.sources.u32(base + offset + index * 4);
            at.store(word, Ordering::Release);
        }
    };
    write(0, &mut { pairs });
    write(std::mem::offset_of!(SourceTable, leaves), &mut { leaves });
    settings.store(old & !0xffff_ffff | u64::from(next), Ordering::Release);
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use forwarder_common::filter::classify;
    use proptest::prelude::*;

    use super::*;
    use crate::dataplane::Sizes;

    /// A tree as the program sees it.
    pub struct Seen {
        nodes: Box<[u16; NODES * NODE_LEN]>,
        leaves: Box<[u32; LEAVES * LEAF_LEN]>,
    }

    impl Seen {
        pub fn new(tree: &Compiled) -> Seen {
            let mut nodes = tree.nodes.as_flattened().to_vec();
            nodes.resize(NODES * NODE_LEN, u16::MAX);
            let mut leaves = tree.leaves.as_flattened().to_vec();
            leaves.resize(LEAVES * LEAF_LEN, u32::MAX);
            Seen {
                nodes: nodes.try_into().expect("length"),
                leaves: leaves.try_into().expect("length"),
            }
        }

        pub fn class(&self, address: IpAddr) -> u32 {
            match address {
                IpAddr::V4(a) => classify(&self.nodes, &self.leaves, &a.octets()),
                IpAddr::V6(a) => classify(&self.nodes, &self.leaves, &a.octets()),
            }
        }
    }

    const BOGON: SourceClass = SourceClass::Bogon;

    fn of(nets: &BTreeMap<IpNet, SourceClass>) -> Option<Compiled> {
        let half = |ipv6: bool| -> Vec<Entry> {
            let of = nets.iter().filter(|(net, _)| net.addr().is_ipv6() == ipv6);
            of.map(|(net, class)| Entry::new(*net, *class)).collect()
        };
        tree(&half(false), &half(true))
    }

    fn bogons(nets: impl IntoIterator<Item = IpNet>) -> Option<Compiled> {
        of(&nets.into_iter().map(|net| (net, BOGON)).collect())
    }

    /// Prefix number `i` of IPv4, each in a /16 of its own.
    fn apart(i: u32, length: u8) -> IpNet {
        IpNet::new(IpAddr::V4((0x0100_0000 + (i << 16)).into()), length).expect("length")
    }

    #[test]
    fn a_prefix_inside_another_of_its_class_takes_no_table_and_neither_do_halves() {
        let used = |list: &[&str]| {
            let nets = list.iter().map(|text| text.parse().expect("prefix"));
            bogons(nets).expect("fits").used()
        };
        assert_eq!(used(&[]), [2, 0]);
        assert_eq!(used(&["10.0.0.0/8"]), [2, 0]);
        assert_eq!(used(&["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32"]), [2, 0]);
        assert_eq!(used(&["5.0.0.0/9", "5.128.0.0/9"]), [2, 0]);
        assert_eq!(used(&["5.1.0.0/17", "5.1.128.0/17"]), [2, 1]);
        assert_eq!(used(&["5.1.0.0/16", "5.1.3.0/24"]), [2, 1]);
        assert_eq!(used(&["5.1.3.0/24", "5.1.4.0/24"]), [3, 1]);
        assert_eq!(used(&["2001:db8::1/128"]), [2 + 14, 1]);
        let every_24: Vec<String> = (0..=255).map(|i| format!("5.1.{i}.0/24")).collect();
        let every_24: Vec<&str> = every_24.iter().map(String::as_str).collect();
        assert_eq!(used(&every_24), used(&["5.1.0.0/16"]));
    }

    #[test]
    fn what_has_no_room_is_none_and_never_half_of_it() {
        let leaves = |many: u32| bogons((0..many).map(|i| apart(i, 24)));
        // The list of all IPv4 that is nobody's has some 1,500 prefixes.
        assert_eq!(leaves(1_500).expect("fits").used()[1], 1_500);
        let most = LEAVES as u32;
        assert_eq!(
            leaves(most).expect("fits").used(),
            [2 + most as usize / 256, LEAVES]
        );
        assert!(leaves(most + 1).is_none());
        let nodes = |many: u32| bogons((0..many).map(|i| apart(i, 32)));
        assert!(nodes(NODES as u32 - 2 - NODES as u32 / 256).is_some());
        assert!(nodes(NODES as u32 - 1 - NODES as u32 / 256).is_none());
    }

    #[test]
    fn a_new_tree_takes_effect_by_the_other_half() {
        let tables = Tables::heap(Sizes::SMALL);
        let word = |half: usize, octet: usize| {
            let at = half * size_of::<SourceTable>() + octet / 2 * 4;
            (tables.sources.u32(at).load(Ordering::Acquire) >> (octet % 2 * 16)) as u16
        };
        let leaf = |half: usize| {
            let at = half * size_of::<SourceTable>() + std::mem::offset_of!(SourceTable, leaves);
            tables.sources.u32(at).load(Ordering::Acquire)
        };
        let nets = ["10.0.0.0/8", "11.2.0.0/16"].map(|text| text.parse().expect("prefix"));
        install(&tables, &bogons(nets).expect("fits"));
        assert_eq!(tables.settings.get(0).active_filter, 1);
        assert_eq!([word(1, 10), word(1, 11), word(0, 10)], [BOGON as u16, LEAF, 0]);
        assert_eq!([leaf(1), leaf(0)], [1 << 4, 0]);
        install(&tables, &bogons([]).expect("fits"));
        assert_eq!(tables.settings.get(0).active_filter, 0);
        assert_eq!(word(0, 10), 0);
    }

    fn prefixes() -> impl Strategy<Value = BTreeMap<IpNet, SourceClass>> {
        // Close together, so that they nest.
        let near = prop_oneof![Just(0u8), Just(1), Just(0x80), Just(0xff)];
        let four = (prop::array::uniform4(near.clone()), 0..=32u8);
        let four = four.prop_map(|(octets, length)| IpNet::new(octets.into(), length).expect("length"));
        let six = (prop::array::uniform16(near), 0..=128u8);
        let six = six.prop_map(|(octets, length)| IpNet::new(octets.into(), length).expect("length"));
        let class = prop_oneof![Just(SourceClass::Ordinary), Just(BOGON), Just(SourceClass::Own)];
        let one = (prop_oneof![four, six], class);
        prop::collection::vec(one, 0..40).prop_map(|list| {
            list.into_iter()
                .map(|(net, class)| (net.trunc(), class))
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_address_is_of_the_class_of_the_longest_prefix_around_it(nets in prefixes()) {
            let seen = Seen::new(&of(&nets).expect("fits"));
            let step = |address: IpAddr, by: i8| match address {
                IpAddr::V4(a) => IpAddr::V4(a.to_bits().wrapping_add_signed(by.into()).into()),
                IpAddr::V6(a) => IpAddr::V6(a.to_bits().wrapping_add_signed(by.into()).into()),
            };
            for net in nets.keys() {
                let ends = [net.network(), net.broadcast()];
                for address in ends.into_iter().flat_map(|end| [-1, 0, 1].map(|by| step(end, by))) {
                    let around = nets.iter().filter(|(net, _)| net.contains(&address));
                    let longest = around.max_by_key(|(net, _)| net.prefix_len());
                    let class = longest.map_or(SourceClass::Ordinary, |(_, class)| *class);
                    prop_assert_eq!(seen.class(address), class as u32, "{}", address);
                }
            }
        }
    }
}
