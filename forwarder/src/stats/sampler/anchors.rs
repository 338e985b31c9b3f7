//! Up to where every slot's counter has been added up: what makes sums exact across restarts.
//!
//! Sixteen octets a slot, and none for slots that never counted (pages that were never touched cost nothing).

use forwarder_common::counters::Counter;

/// The lower bits of a generation tell one prefix of a slot from the next.
const PACKETS: u32 = 48;
const MASK: u64 = (1 << PACKETS) - 1;

/// By slot: packets, 48 bits, and above them 16 bits of the generation; octets. Wrapping counters: differences are right as
/// long as fewer than 2^48 packets come between two readings.
pub struct Anchors(Vec<[u64; 2]>);

impl Anchors {
    /// Nothing was added up yet.
    pub fn new(slots: u32) -> Anchors {
        Anchors(vec![[0; 2]; slots as usize])
    }

    /// Whether a slot stands where it was read last.
    #[inline]
    pub fn is_at(&self, slot: u32, counter: Counter) -> bool {
        let [packets, bytes] = self.0[slot as usize];
        packets & MASK == counter.packets & MASK && bytes == counter.bytes
    }

    /// What a slot of this generation has counted since it was read last; since `baseline` if it stood for another prefix then.
    /// `None` where it was read later already.
    pub fn since(&self, slot: u32, generation: u32, baseline: Counter, counter: Counter) -> Option<Counter> {
        let [packets, bytes] = self.0[slot as usize];
        let known = (packets >> PACKETS) as u16 == generation as u16 && [packets, bytes] != [0; 2];
        if !known {
            return Some(counter.since(baseline));
        }
        let more = counter.packets.wrapping_sub(packets) & MASK;
        (more <= MASK / 2).then(|| Counter {
            packets: more,
            bytes: counter.bytes.wrapping_sub(bytes),
        })
    }

    /// A slot of this generation was read.
    #[inline]
    pub fn set(&mut self, slot: u32, generation: u32, counter: Counter) {
        self.0[slot as usize] = [
            counter.packets & MASK | u64::from(generation as u16) << PACKETS,
            counter.bytes,
        ];
    }

    /// How many slots there are.
    pub fn slots(&self) -> u32 {
        self.0.len() as u32
    }

    /// Slots that were read, with their two words.
    pub fn words(&self) -> impl Iterator<Item = (u32, [u64; 2])> {
        let numbered = self.0.iter().enumerate();
        numbered
            .filter(|(_, words)| **words != [0; 2])
            .map(|(slot, words)| (slot as u32, *words))
    }

    /// The two words of a slot.
    pub fn get(&self, slot: u32) -> [u64; 2] {
        self.0[slot as usize]
    }

    /// Nothing was added up.
    pub fn clear(&mut self) {
        self.0 = vec![[0; 2]; self.0.len()];
    }

    /// Puts them back; a slot that there is not is left out.
    pub fn put(&mut self, slot: u32, words: [u64; 2]) {
        if let Some(place) = self.0.get_mut(slot as usize) {
            *place = words;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(packets: u64) -> Counter {
        Counter {
            packets,
            bytes: packets.wrapping_mul(100),
        }
    }

    #[test]
    fn differences_are_of_one_prefix_and_never_counted_twice() {
        let mut anchors = Anchors::new(4);
        assert!(anchors.is_at(2, count(0)));
        assert_eq!(anchors.since(2, 1, count(0), count(7)), Some(count(7)));
        anchors.set(2, 1, count(7));
        assert!(anchors.is_at(2, count(7)) && !anchors.is_at(2, count(8)));
        assert_eq!(anchors.since(2, 1, count(0), count(10)), Some(count(3)));
        // Another prefix has the slot: what it counted before its baseline is not its.
        assert_eq!(anchors.since(2, 2, count(9), count(10)), Some(count(1)));
        // A reading that is older than what was added up.
        assert_eq!(anchors.since(2, 1, count(0), count(5)), None);
    }

    #[test]
    fn counters_and_generations_may_wrap() {
        let mut anchors = Anchors::new(1);
        let before = count(u64::MAX - 1);
        anchors.set(0, 0x1_0005, before);
        let after = before.plus(count(5));
        assert_eq!(anchors.since(0, 0x2_0005, count(0), after), Some(count(5)));
    }

    #[test]
    fn what_was_read_comes_back() {
        let mut anchors = Anchors::new(3);
        anchors.set(1, 3, count(9));
        let kept: Vec<_> = anchors.words().collect();
        let mut other = Anchors::new(3);
        for (slot, words) in kept.into_iter().chain([(77, [1, 1])]) {
            other.put(slot, words);
        }
        assert_eq!(other.since(1, 3, count(0), count(11)), Some(count(2)));
    }
}
