//! A set of prefixes with a value each, and the longest match among them.
//!
//! A hash map over (network, length). Finding what covers a prefix probes the lengths in use from the longest down, which
//! happens on withdrawals and for neighbours only, never per packet.

use std::collections::{HashMap, hash_map::Entry};

use super::family::Address;

/// Prefixes of one family.
#[derive(Clone)]
pub struct Prefixes<A, V> {
    entries: HashMap<(A, u8), V, foldhash::fast::RandomState>,
    /// How many prefixes there are of each length: empty lengths are not probed.
    lengths: [u32; 129],
}

impl<A: Address, V> Default for Prefixes<A, V> {
    fn default() -> Self {
        Prefixes {
            entries: HashMap::default(),
            lengths: [0; 129],
        }
    }
}

impl<A: Address, V> Prefixes<A, V> {
    /// The value of exactly this prefix.
    pub fn get(&self, network: A, length: u8) -> Option<&V> {
        self.entries.get(&(network, length))
    }

    /// The value of exactly this prefix.
    pub fn get_mut(&mut self, network: A, length: u8) -> Option<&mut V> {
        self.entries.get_mut(&(network, length))
    }

    /// Adds or replaces; answers the old value.
    pub fn insert(&mut self, network: A, length: u8, value: V) -> Option<V> {
        let old = self.entries.insert((network, length), value);
        if old.is_none() {
            self.lengths[length as usize] += 1;
        }
        old
    }

    /// The value that is there; where none is, `value` is put there.
    pub fn get_or_insert(&mut self, network: A, length: u8, value: impl FnOnce() -> V) -> Option<&mut V> {
        match self.entries.entry((network, length)) {
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
        let old = self.entries.remove(&(network, length));
        if old.is_some() {
            self.lengths[length as usize] -= 1;
        }
        old
    }

    /// The longest prefix that covers `address` and is no longer than `longest`.
    pub fn covering(&self, address: A, longest: u8) -> Option<(A, u8, &V)> {
        (0..=longest)
            .rev()
            .filter(|length| self.lengths[*length as usize] > 0)
            .find_map(|length| {
                let network = address.network(length);
                self.entries
                    .get(&(network, length))
                    .map(|value| (network, length, value))
            })
    }

    /// Every prefix, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (A, u8, &V)> {
        self.entries
            .iter()
            .map(|((network, length), value)| (*network, *length, value))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes room for as many more.
    pub fn reserve(&mut self, more: usize) {
        self.entries.reserve(more);
    }
}
