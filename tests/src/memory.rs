//! The memory of every pinned map that is memory, and which cache lines of it were written.

use std::{collections::BTreeSet, os::fd::AsFd, sync::atomic::Ordering};

use anyhow::{Context, Result};
use forwarder::dataplane::{Region, Sizes, pins::Pins};

/// Octets of a cache line.
pub const LINE: usize = 64;

/// A line: its map, and its number in there. Maps begin on a page.
pub type Line = (&'static str, usize);

/// The maps as they were when they were last looked at.
pub struct Memory {
    maps: Vec<(&'static str, Region, Vec<u64>)>,
}

impl Memory {
    /// Looks at all of them.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open(pins: &Pins) -> Result<Memory> {
        let sizes = Sizes::of(&pins.meta()?);
        let mut maps = Vec::new();
        for (name, entries, octets) in sizes.arrays()? {
            let length = entries as usize * (octets as usize).next_multiple_of(8);
            let map = pins.data(name)?;
            let region = Region::map(map.fd().as_fd(), length, false).context(name)?;
            maps.push((name, region, vec![0; length / 8]));
        }
        let mut memory = Memory { maps };
        memory.written();
        Ok(memory)
    }

    /// The lines that are other than when this was last asked. A line that was written and holds the same is none.
    pub fn written(&mut self) -> BTreeSet<Line> {
        let mut lines = BTreeSet::new();
        for (name, region, words) in &mut self.maps {
            for (number, word) in words.iter_mut().enumerate() {
                let now = region.u64(number * 8).load(Ordering::Acquire);
                if *word != now {
                    *word = now;
                    lines.insert((*name, number * 8 / LINE));
                }
            }
        }
        lines
    }
}
