//! The ring buffer that the program puts samples in.

use anyhow::{Context, Result};
use aya::maps::{Map, MapData, RingBuf};
use forwarder_common::{Plain, maps, sample::Sample};

use crate::dataplane::pins::Pins;

/// The reader's end. There is one reader: what it has taken is gone.
pub struct Ring(RingBuf<MapData>);

impl Ring {
    /// Opens the pinned one.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open(pins: &Pins) -> Result<Ring> {
        let map = Map::from_map_data(pins.data(maps::SAMPLES)?).context("SAMPLES")?;
        Ok(Ring(RingBuf::try_from(map).context("SAMPLES")?))
    }

    /// The next sample, if there is one.
    pub fn take(&mut self) -> Option<Sample> {
        loop {
            let item = self.0.next()?;
            // A record of another size is none of ours.
            if let Some(sample) = read(&item) {
                return Some(sample);
            }
        }
    }
}

/// A value of the ABI from as many octets.
fn read<T: Plain>(octets: &[u8]) -> Option<T> {
    if octets.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: as many octets as the type has, and any bit pattern of a Plain type is valid.
    Some(unsafe { octets.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_read_from_as_many_octets_as_it_has() {
        let mut octets = vec![0; size_of::<Sample>()];
        octets[..8].copy_from_slice(&7u64.to_ne_bytes());
        octets[40] = 0xaa;
        let sample: Sample = read(&octets).expect("a sample");
        assert_eq!((sample.time_ns, sample.header[0]), (7, 0xaa));
        assert!(read::<Sample>(&octets[1..]).is_none());
        octets.push(0);
        assert!(read::<Sample>(&octets).is_none());
    }
}
