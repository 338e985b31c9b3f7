//! A frame that shows a difference is made smaller and simpler, as long as it still does.

use crate::frame;

/// What nothing is cut from: no frame without an Ethernet header leaves the host.
const SHORTEST: usize = 14;

/// The frame that is left, and how often was asked for it.
#[derive(Debug)]
pub struct Shrunk {
    /// Its octets.
    pub frame: Vec<u8>,
    /// How many frames were tried.
    pub tries: usize,
}

/// Undoes damage, cuts octets off the end and makes octets 0, while `fails` says that the frame still shows the fault; asks
/// it `tries` times at most. `sound` is the frame before it was damaged.
///
/// What is right in a frame stays right, where that shows the fault: the length that its IP header says, and the checksum of
/// IPv4. Otherwise hardly anything could be cut from a sound packet.
///
/// # Errors
/// Those of `fails`.
pub fn shrink<E>(
    failing: &[u8],
    sound: &[u8],
    tries: usize,
    fails: impl FnMut(&[u8]) -> Result<bool, E>,
) -> Result<Shrunk, E> {
    let mut search = Search {
        best: failing.to_vec(),
        left: tries,
        fails,
    };
    search.undo(sound)?;
    loop {
        let before = search.best.clone();
        search.cut()?;
        search.clear()?;
        if search.best == before || search.left == 0 {
            break;
        }
    }
    Ok(Shrunk {
        frame: search.best,
        tries: tries - search.left,
    })
}

struct Search<F> {
    best: Vec<u8>,
    left: usize,
    fails: F,
}

impl<E, F: FnMut(&[u8]) -> Result<bool, E>> Search<F> {
    /// Takes a frame in place of the best one if it fails too: mended if that does, else as it is.
    fn take(&mut self, frame: Vec<u8>) -> Result<bool, E> {
        let right = Right::of(&self.best);
        let mended = right.mend(frame.clone());
        let plain = (mended != frame).then_some(frame);
        for frame in [Some(mended), plain].into_iter().flatten() {
            if frame == self.best || self.left == 0 {
                continue;
            }
            self.left -= 1;
            if (self.fails)(&frame)? {
                self.best = frame;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Damage that does not matter goes, from all of it down to single octets.
    fn undo(&mut self, sound: &[u8]) -> Result<(), E> {
        if sound.len() < SHORTEST || self.take(sound.to_vec())? {
            return Ok(());
        }
        let mut long = self.best.clone();
        long.truncate(sound.len());
        let rest = sound.get(long.len()..).unwrap_or_default();
        long.extend_from_slice(rest);
        self.take(long)?;
        self.replace(|at, _| sound.get(at).copied())
    }

    fn cut(&mut self) -> Result<(), E> {
        let mut size = self.best.len() / 2;
        while size > 0 {
            while self.best.len() >= SHORTEST + size {
                let mut frame = self.best.clone();
                frame.truncate(frame.len() - size);
                if !self.take(frame)? {
                    break;
                }
            }
            size /= 2;
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), E> {
        self.replace(|_, _| Some(0))
    }

    /// Puts other octets in the place of those that are there, many at once first.
    fn replace(&mut self, other: impl Fn(usize, u8) -> Option<u8>) -> Result<(), E> {
        let mut size = self.best.len().next_power_of_two();
        while size > 0 {
            for from in (0..self.best.len()).step_by(size) {
                let mut frame = self.best.clone();
                let to = frame.len().min(from + size);
                for (at, octet) in (from..).zip(&mut frame[from..to]) {
                    *octet = other(at, *octet).unwrap_or(*octet);
                }
                self.take(frame)?;
            }
            size /= 2;
        }
        Ok(())
    }
}

/// What of a frame is as it should be.
#[derive(Clone, Copy, Default)]
struct Right {
    length: bool,
    checksum: bool,
}

impl Right {
    fn of(frame: &[u8]) -> Right {
        match length(frame) {
            Some((at, said)) => Right {
                length: frame[at..at + 2] == said,
                checksum: header4(frame).is_some() && frame::checksum_holds(frame),
            },
            None => Right::default(),
        }
    }

    fn mend(self, mut frame: Vec<u8>) -> Vec<u8> {
        if self.length
            && let Some((at, said)) = length(&frame)
        {
            frame[at..at + 2].copy_from_slice(&said);
        }
        if self.checksum && header4(&frame).is_some() {
            frame::fix_checksum(&mut frame);
        }
        frame
    }
}

/// Where the IP header says how long the packet is, and what it should say.
fn length(frame: &[u8]) -> Option<(usize, [u8; 2])> {
    let (at, header) = match (frame.get(12..14)?, frame.get(14)? >> 4) {
        ([8, 0], 4) => header4(frame).map(|_| (16, 14))?,
        ([0x86, 0xdd], 6) if frame.len() >= 54 => (18, 54),
        _ => return None,
    };
    let long = u16::try_from(frame.len() - header).ok()?;
    Some((at, long.to_be_bytes()))
}

/// How long the IPv4 header is, if it is there as a whole.
fn header4(frame: &[u8]) -> Option<usize> {
    let first = *frame.get(14)?;
    let length = usize::from(first & 15) * 4;
    let whole = frame[12..14] == [8, 0] && first >> 4 == 4 && length >= 20 && frame.len() >= 14 + length;
    whole.then_some(length)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::differential::generate::{case, sound};

    fn shrunk(failing: &[u8], sound: &[u8], tries: usize, fails: impl Fn(&[u8]) -> bool) -> Shrunk {
        let Ok(shrunk) = shrink(failing, sound, tries, |frame| Ok::<_, Infallible>(fails(frame)));
        shrunk
    }

    #[test]
    fn what_does_not_matter_goes_and_the_packet_stays_sound() {
        // Sound packets with a hop limit of 64 to 8.x: a fault that needs whole headers.
        let fails = |frame: &[u8]| {
            header4(frame).is_some()
                && frame::checksum_holds(frame)
                && length(frame).is_some_and(|(at, said)| frame[at..at + 2] == said)
                && frame[22] == 64
                && frame[30] == 8
        };
        let frame = (0..).map(|index| case(1, index).frame).find(|frame| fails(frame));
        let frame = frame.expect("one of them");
        let small = shrunk(&frame, &frame, 1000, fails);
        let mut smallest = vec![0; 34];
        smallest[12] = 8;
        smallest[14] = 0x45;
        smallest[17] = 20;
        smallest[22] = 64;
        smallest[30] = 8;
        frame::fix_checksum(&mut smallest);
        assert_eq!(small.frame, smallest);
    }

    #[test]
    fn damage_that_does_not_matter_is_undone() {
        let mut sound = vec![7; 60];
        sound[12..14].copy_from_slice(&[0x88, 0xcc]);
        let mut frame = sound.clone();
        frame[20] = 1;
        frame[30] = 2;
        frame.extend([9; 40]);
        // Only with the octets that the sound frame has in front of it.
        let fails = |frame: &[u8]| frame.get(30) == Some(&2) && frame[..20] == sound[..20];
        let small = shrunk(&frame, &sound, 1000, fails).frame;
        assert_eq!((small.len(), &small[..20], small[20]), (31, &sound[..20], 0));
    }

    #[test]
    fn it_is_asked_as_often_as_it_may_be_and_no_more() {
        let frame = vec![1; 1000];
        let asked = std::cell::Cell::new(0);
        let small = shrunk(&frame, &frame, 5, |frame| {
            asked.set(asked.get() + 1);
            frame.len() > 900
        });
        assert_eq!((asked.get(), small.tries), (5, 5));
        assert!(small.frame.len() > 900);
    }

    proptest! {
        /// Whatever the fault: the answer shows it, is no longer than the question, and nothing more can be taken from it.
        #[test]
        fn the_smallest_shows_the_fault_and_nothing_else(index in 0u64..100_000, at in 0usize..90, more in 0usize..400) {
            let failing = case(3, index).frame;
            let at = at.min(failing.len() - 1);
            let (octet, least) = (failing[at], (at + 1).max(failing.len().saturating_sub(more)));
            let fails = |frame: &[u8]| frame.len() >= least && frame[at] == octet;
            let small = shrunk(&failing, &sound(3, index).frame, 4000, fails);
            prop_assert!(fails(&small.frame));
            prop_assert!(small.frame.len() == least.max(SHORTEST));
            // All others are 0, but for what is kept right.
            let right = Right::of(&small.frame);
            for (place, value) in small.frame.iter().enumerate() {
                let kept = right.length && matches!(place, 12..20) || right.checksum && matches!(place, 12..26);
                prop_assert!(*value == 0 || place == at || kept, "octet {place} of {:02x?}", small.frame);
            }
        }
    }
}
