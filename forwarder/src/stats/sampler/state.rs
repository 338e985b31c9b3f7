//! Up to where everything has been added up, as it is kept with the history: in the same transaction as the samples, so that
//! after a SIGKILL at any moment the next sampler goes on where the history ends. Of slots that came to stand for another prefix since
//! then [`crate::fib::Readings`] have the earlier prefix's part, in a file of their own: here is up to where samples have it.
//!
//! A *whole* state has every slot that was ever read; a *patch* those that moved since the state before it. Both have all the
//! rest. Read one after the other, the last word counts.

use forwarder_common::counters::Counter;
use forwarder_history::{Kind, SeriesId};

use super::{anchors::Anchors, prefixes::Both, schedule::Clocks};
use crate::fib::journal::Mark;

const MAGIC: &[u8; 8] = b"fwdanch3";
/// As it was before readings were written down.
const WITHOUT_READINGS: &[u8; 8] = b"fwdanch2";

/// What is kept beside the slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Which maps the slots and counters are of.
    pub maps: u64,
    /// Which start of the machine the clock and the drivers' counters are of.
    pub boot: String,
    /// When the last interval ended.
    pub ended: Clocks,
    /// Forwarded packets that were added up by prefix.
    pub attributed: Both,
    /// Those that could not be.
    pub unattributed: Both,
    /// Readings of slots up to here are added up.
    pub readings: Mark,
    /// Counters as they were read, by key, with what they counted.
    pub counters: Vec<(u64, SeriesId, Counter)>,
}

/// Writes a state.
pub fn encode<S>(kept: &Kept, slots: [S; 2]) -> Vec<u8>
where
    S: Iterator<Item = (u32, [u64; 2])>,
{
    let mut out = Writer(MAGIC.to_vec());
    out.number(kept.maps);
    out.number(kept.boot.len() as u64);
    out.0.extend_from_slice(kept.boot.as_bytes());
    out.number(kept.ended.wall as u64);
    out.number(kept.ended.boot);
    for both in [kept.attributed, kept.unattributed] {
        out.counter(both.to);
        out.counter(both.from);
    }
    out.number(kept.readings.journal);
    out.number(kept.readings.number);
    out.number(kept.counters.len() as u64);
    for (key, series, counter) in &kept.counters {
        out.number(*key);
        out.number(series.kind() as u64);
        out.number(series.id().into());
        out.counter(*counter);
    }
    for side in slots {
        let mut before = 0;
        for (slot, [first, second]) in side {
            // One more, so that 0 ends the list. Generation above, packets below: apart they are short.
            out.number(u64::from(slot - before) + 1);
            out.number(first >> 48);
            out.number(first & ((1 << 48) - 1));
            out.number(second);
            before = slot;
        }
        out.number(0);
    }
    out.0
}

/// Reads a state over what was read before it; slots into `anchors`. `None` where it is none of ours.
pub fn decode(state: &[u8], anchors: &mut [Anchors; 2]) -> Option<Kept> {
    let (mut state, with_readings) = match state.strip_prefix(MAGIC) {
        Some(rest) => (Reader(rest), true),
        None => (Reader(state.strip_prefix(WITHOUT_READINGS)?), false),
    };
    let maps = state.number()?;
    let length = usize::try_from(state.number()?).ok()?;
    let (boot, rest) = state.0.split_at_checked(length)?;
    state.0 = rest;
    let mut kept = Kept {
        maps,
        boot: String::from_utf8(boot.to_vec()).ok()?,
        ended: Clocks {
            wall: state.number()? as i64,
            boot: state.number()?,
        },
        attributed: state.both()?,
        unattributed: state.both()?,
        readings: Mark::default(),
        counters: Vec::new(),
    };
    if with_readings {
        kept.readings = Mark {
            journal: state.number()?,
            number: state.number()?,
        };
    }
    for _ in 0..state.number()? {
        let key = state.number()?;
        let kind = Kind::of(i64::try_from(state.number()?).ok()?)?;
        let id = u32::try_from(state.number()?).ok()?;
        kept.counters
            .push((key, SeriesId::new(kind, id), state.counter()?));
    }
    for side in anchors {
        let mut slot = 0u32;
        while let Some(step) = state.number()?.checked_sub(1) {
            slot = slot.checked_add(u32::try_from(step).ok()?)?;
            let first = state.number()? << 48 | state.number()?;
            side.put(slot, [first, state.number()?]);
        }
    }
    Some(kept)
}

/// Numbers in seven bits an octet, the low ones first (LEB128).
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn counter(&mut self, counter: Counter) {
        self.number(counter.packets);
        self.number(counter.bytes);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (octet, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn both(&mut self) -> Option<Both> {
        Some(Both {
            to: self.counter()?,
            from: self.counter()?,
        })
    }

    fn counter(&mut self) -> Option<Counter> {
        Some(Counter {
            packets: self.number()?,
            bytes: self.number()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counter() -> impl Strategy<Value = Counter> {
        (any::<u64>(), any::<u64>()).prop_map(|(packets, bytes)| Counter { packets, bytes })
    }

    fn kept() -> impl Strategy<Value = Kept> {
        let counters = prop::collection::vec((any::<u64>(), 1..=20i64, any::<u32>(), counter()), 0..5);
        (
            any::<u64>(),
            "[0-9a-f-]{0,40}",
            any::<i64>(),
            any::<u64>(),
            counter(),
            counters,
        )
            .prop_map(|(maps, boot, wall, since, attributed, counters)| Kept {
                maps,
                boot,
                ended: Clocks { wall, boot: since },
                attributed: Both {
                    to: attributed,
                    from: attributed.plus(attributed),
                },
                unattributed: Both {
                    to: attributed.plus(attributed),
                    from: attributed,
                },
                readings: Mark {
                    journal: maps.rotate_left(7),
                    number: since,
                },
                counters: counters
                    .into_iter()
                    .map(|(key, kind, id, counter)| {
                        (key, SeriesId::new(Kind::of(kind).expect("a kind"), id), counter)
                    })
                    .collect(),
            })
    }

    fn slots() -> impl Strategy<Value = std::collections::BTreeMap<u32, [u64; 2]>> {
        prop::collection::btree_map(0..500u32, any::<[u64; 2]>(), 0..20)
    }

    proptest! {
        #[test]
        fn a_state_and_its_patches_come_back(whole in (kept(), slots()), patch in (kept(), slots())) {
            let mut anchors = [Anchors::new(400), Anchors::new(400)];
            for (kept, slots) in [&whole, &patch] {
                let side = slots.iter().map(|(slot, words)| (*slot, *words));
                let written = encode(kept, [side.clone(), side]);
                let read = decode(&written, &mut anchors);
                prop_assert_eq!(read.as_ref(), Some(kept));
            }
            for slot in 0..400 {
                let expected = patch.1.get(&slot).or(whole.1.get(&slot)).copied().unwrap_or_default();
                prop_assert_eq!([anchors[0].get(slot), anchors[1].get(slot)], [expected; 2]);
            }
        }

        #[test]
        fn what_is_damaged_is_refused_or_read_and_never_a_panic(
            state in (kept(), slots()),
            cut in 0..200usize,
            at in 0..200usize,
            octet in any::<u8>(),
        ) {
            let mut written = encode(&state.0, [state.1.clone().into_iter(), state.1.into_iter()]);
            if let Some(place) = written.get_mut(at) {
                *place = octet;
            }
            written.truncate(written.len().saturating_sub(cut));
            let _ = decode(&written, &mut [Anchors::new(400), Anchors::new(0)]);
        }
    }
}
