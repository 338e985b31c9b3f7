//! A set of prefixes with a value each, and the longest match among them.
//!
//! A hash map over (network, length). Finding what covers a prefix probes the lengths in use from the longest down, which
//! happens on withdrawals and for neighbours only, never per packet.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, Hash, Hasher},
};

use super::family::Address;

/// A prefix, which hashes to a place near its neighbours': a dump comes in the order of addresses, and what covers a prefix
/// lies around it. Sixteen /24s (or /48s) in a row share a random place; in there the address decides.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key<A>(A, u8);

impl<A: Address> Hash for Key<A> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let (unit, inside) = self.0.unit();
        // Prefixes inside a unit, hosts above all, would all meet in one place.
        let row = if inside == 0 {
            unit >> ROW
        } else {
            mix(unit ^ mix(inside))
        };
        hasher.write_u64(row);
        hasher.write_u64((unit & ((1 << ROW) - 1)) << 8 | self.1 as u64);
    }
}

/// Bits of the place in a row: as many entries as the map looks at together.
const ROW: u32 = 4;

/// A seed, so that nobody who announces prefixes knows where they meet.
#[derive(Clone)]
struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Seeded {
        Seeded(foldhash::fast::RandomState::default().hash_one(0))
    }
}

impl BuildHasher for Seeded {
    type Hasher = RowHasher;

    fn build_hasher(&self) -> RowHasher {
        RowHasher {
            seed: self.0,
            row: 0,
            rest: None,
        }
    }
}

/// Takes the two words of a [`Key`].
struct RowHasher {
    seed: u64,
    row: u64,
    rest: Option<u64>,
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

impl Hasher for RowHasher {
    /// The map takes the low bits for the place and the top seven to tell entries apart.
    fn finish(&self) -> u64 {
        let rest = self.rest.unwrap_or_default();
        let tag = mix(self.row ^ rest.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.seed.rotate_left(32));
        (self.row.wrapping_add(rest >> 8) & (u64::MAX >> 7)) | tag << 57
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.write_u64(*octet as u64);
        }
    }

    fn write_u64(&mut self, word: u64) {
        if self.rest.is_none() {
            self.row = mix(word ^ self.seed);
            self.rest = Some(0);
        } else {
            self.rest = Some(word);
        }
    }
}

/// Parts of a set of IPv4 prefixes. The size of a map is a power of two, of which it fills seven eighths: a full table of a million
/// prefixes needs 2^21 places and fills half of them, or three times 2^19 and fills two thirds. That of IPv6 fits one.
const PARTS: usize = 3;

/// Prefixes of one family.
#[derive(Clone)]
pub struct Prefixes<A, V> {
    parts: [HashMap<Key<A>, V, Seeded>; PARTS],
    /// How many prefixes there are of each length: empty lengths are not probed.
    lengths: [u32; 129],
}

impl<A: Address, V> Default for Prefixes<A, V> {
    fn default() -> Self {
        Prefixes {
            parts: Default::default(),
            lengths: [0; 129],
        }
    }
}

/// The part that a prefix is in; neighbours are in the same.
fn part<A: Address>(network: A) -> usize {
    match A::FAMILY {
        4 => (mix(network.unit().0 >> ROW) >> 32) as usize % PARTS,
        _ => 0,
    }
}

impl<A: Address, V> Prefixes<A, V> {
    /// The value of exactly this prefix.
    pub fn get(&self, network: A, length: u8) -> Option<&V> {
        self.parts[part(network)].get(&Key(network, length))
    }

    /// The value of exactly this prefix.
    pub fn get_mut(&mut self, network: A, length: u8) -> Option<&mut V> {
        self.parts[part(network)].get_mut(&Key(network, length))
    }

    /// Adds or replaces; answers the old value.
    pub fn insert(&mut self, network: A, length: u8, value: V) -> Option<V> {
        let old = self.parts[part(network)].insert(Key(network, length), value);
        if old.is_none() {
            self.lengths[length as usize] += 1;
        }
        old
    }

    /// The value that is there; where none is, `value` is put there.
    pub fn get_or_insert(&mut self, network: A, length: u8, value: impl FnOnce() -> V) -> Option<&mut V> {
        match self.parts[part(network)].entry(Key(network, length)) {
            Entry::Occupied(there) => Some(there.into_mut()),
            Entry::Vacant(free) => {
                free.insert(value());
                self.lengths[length as usize] += 1;
                None
            }
        }
    }

    /// Takes a prefix out.
    pub fn remove(&mut self, network: A, length: u8) -> Option<V> {
        let old = self.parts[part(network)].remove(&Key(network, length));
        if old.is_some() {
            self.lengths[length as usize] -= 1;
        }
        old
    }

    /// The longest prefix that covers `address` and is no longer than `longest`.
    pub fn covering(&self, address: A, longest: u8) -> Option<(A, u8, &V)> {
        self.all_covering(address, longest).next()
    }

    /// Every prefix that covers `address` and is no longer than `longest`, the longest first.
    pub fn all_covering(&self, address: A, longest: u8) -> impl Iterator<Item = (A, u8, &V)> {
        (0..=longest)
            .rev()
            .filter(|length| self.lengths[*length as usize] > 0)
            .filter_map(move |length| {
                let network = address.network(length);
                self.get(network, length).map(|value| (network, length, value))
            })
    }

    /// How many prefixes inside one of this length, and longer, there could be, of lengths that are in use.
    pub fn possible_inside(&self, length: u8) -> usize {
        self.lengths_inside(length)
            .map(|longer| 1usize.checked_shl((longer - length).into()).unwrap_or(usize::MAX))
            .fold(0, usize::saturating_add)
    }

    /// Every prefix inside this one, and longer. Looks for each that there could be.
    pub fn inside(&self, network: A, length: u8) -> impl Iterator<Item = (A, u8, &V)> {
        let first = u128::from_be_bytes(network.octets16());
        self.lengths_inside(length)
            .flat_map(move |longer| {
                let count = 1u128.checked_shl((longer - length).into()).unwrap_or(u128::MAX);
                (0..count).map(move |number| {
                    let octets = (first | number << (128 - u32::from(longer))).to_be_bytes();
                    (A::from_octets16(octets), longer)
                })
            })
            .filter_map(|(network, length)| self.get(network, length).map(|value| (network, length, value)))
    }

    fn lengths_inside(&self, length: u8) -> impl Iterator<Item = u8> {
        (length + 1..=A::BITS).filter(|longer| self.lengths[*longer as usize] > 0)
    }

    /// Every prefix, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (A, u8, &V)> {
        self.parts
            .iter()
            .flatten()
            .map(|(Key(network, length), value)| (*network, *length, value))
    }

    /// Every value, in no order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.parts.iter_mut().flat_map(HashMap::values_mut)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.parts.iter().map(HashMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(HashMap::is_empty)
    }

    /// Makes room for as many more.
    pub fn reserve(&mut self, more: usize) {
        match A::FAMILY {
            // They are not equally full, but nearly.
            4 => self
                .parts
                .iter_mut()
                .for_each(|part| part.reserve(more / PARTS + more / 64)),
            _ => self.parts[0].reserve(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_filled_alike_and_together_they_are_the_set() {
        let mut all = Prefixes::default();
        for number in 0..100_000u32 {
            all.insert(number << 8, 24, number);
        }
        let counts: Vec<usize> = all.parts.iter().map(HashMap::len).collect();
        assert!(
            counts.iter().all(|count| (32_000..35_000).contains(count)),
            "{counts:?}"
        );
        assert_eq!((all.len(), all.iter().count()), (100_000, 100_000));
        for number in 0..100_000u32 {
            assert_eq!(
                all.covering(number << 8 | 7, 32),
                Some((number << 8, 24, &number))
            );
            assert_eq!(all.remove(number << 8, 24), Some(number));
        }
        assert!(all.is_empty());
    }

    #[test]
    fn neighbours_stand_together_and_hosts_apart() {
        let seeded = Seeded::default();
        let hash = |address: u128, length| seeded.hash_one(Key(address, length));
        let row = |hash: u64| hash & (u64::MAX >> 7);
        let first = 0x2001_0db8_0000_u128 << 80;
        for place in 0..16 {
            assert_eq!(
                row(hash(first + (place << 80), 48)),
                row(hash(first, 48)) + place as u64
            );
        }
        let hosts: std::collections::HashSet<u64> = (1..=10_000)
            .map(|host| row(hash(first + host, 128)) & 0xffff)
            .collect();
        assert!(
            hosts.len() > 8_000,
            "10,000 hosts of a subnet in {} places",
            hosts.len()
        );
    }
}
