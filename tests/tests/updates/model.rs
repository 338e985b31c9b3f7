//! The model: longest match bit by bit.

use std::net::IpAddr;

use ipnet::IpNet;

/// A binary trie of numbered prefixes.
pub struct Trie {
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Default)]
struct Node {
    below: [u32; 2],
    /// One more than the number of the prefix that ends here.
    prefix: u32,
}

/// An address as 128 bits, the first of them first.
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => v6.into(),
    }
}

impl Default for Trie {
    fn default() -> Self {
        Trie {
            nodes: vec![Node::default()],
        }
    }
}

impl Trie {
    /// Notes the number of a prefix, or takes it out.
    pub fn set(&mut self, prefix: IpNet, number: Option<usize>) {
        let address = bits(prefix.network());
        let mut at = 0;
        for bit in 0..prefix.prefix_len() {
            let side = (address >> (127 - bit) & 1) as usize;
            if self.nodes[at].below[side] == 0 {
                self.nodes[at].below[side] = self.nodes.len() as u32;
                self.nodes.push(Node::default());
            }
            at = self.nodes[at].below[side] as usize;
        }
        self.nodes[at].prefix = number.map_or(0, |number| number as u32 + 1);
    }

    /// Number of the longest prefix that covers an address.
    pub fn find(&self, address: IpAddr) -> Option<usize> {
        let address = bits(address);
        let mut found = None;
        let (mut at, mut bit) = (0, 0);
        loop {
            let node = self.nodes[at];
            found = (node.prefix as usize).checked_sub(1).or(found);
            if bit == 128 {
                return found;
            }
            at = node.below[(address >> (127 - bit) & 1) as usize] as usize;
            if at == 0 {
                return found;
            }
            bit += 1;
        }
    }
}
