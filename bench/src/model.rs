//! The longest match by asking every length in turn: slow, and with nothing in common with what is measured.

use std::collections::HashMap;

use crate::table::{Prefix, mask};

/// A table by prefix length.
pub struct Model {
    /// The longest length first; a prefix's position in the table by its network.
    levels: Vec<(u8, HashMap<u128, u32>)>,
}

impl Model {
    /// The model of these prefixes.
    pub fn new(prefixes: &[Prefix]) -> Model {
        let mut levels: Vec<(u8, HashMap<u128, u32>)> =
            (0..=128).rev().map(|length| (length, HashMap::new())).collect();
        for (position, prefix) in prefixes.iter().enumerate() {
            let (_, level) = &mut levels[128 - prefix.length as usize];
            level.insert(prefix.network, position as u32);
        }
        levels.retain(|(_, level)| !level.is_empty());
        Model { levels }
    }

    /// The position of the longest prefix that covers an address.
    pub fn lookup(&self, address: u128) -> Option<u32> {
        let mut levels = self.levels.iter();
        levels.find_map(|(length, level)| level.get(&(address & mask(*length))).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_answers() {
        let prefix = |network: u128, length| Prefix {
            network: network << 96,
            length,
        };
        let model = Model::new(&[
            prefix(0x0a00_0000, 8),
            prefix(0x0a01_0000, 16),
            prefix(0x0a01_0203, 32),
        ]);
        let lookup = |address: u128| model.lookup(address << 96);
        assert_eq!(lookup(0x0a01_0203), Some(2));
        assert_eq!(lookup(0x0a01_0204), Some(1));
        assert_eq!(lookup(0x0a02_0000), Some(0));
        assert_eq!(lookup(0x0b00_0000), None);
    }
}
