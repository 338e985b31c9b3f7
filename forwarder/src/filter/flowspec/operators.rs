//! Lists of operators and values, and the numbers for which they hold (RFC 8955 4.2.1).
//!
//! A list is an OR of ANDs: an operator whose AND bit is set belongs to those before it, one whose bit is not begins anew. A
//! neighbour may send two thousand of them in a rule, so both kinds are worked out in the time of reading them, more or less:
//!
//! - Numbers are kept as ranges. Each operator rules out at most two; an AND is what none of its operators rules out, which
//!   is one sort, and an OR is the ranges of its ANDs together, which is another.
//! - Bits are looked at 64 numbers at a time. A word stands for 64 numbers in a row, a bit in it for whether the list holds
//!   for that number; "bit k of the number is set" is the same six words again and again for k below 6, and all or nothing
//!   above.

use std::ops::RangeInclusive;

use super::super::ranges::Ranges;

const END: u8 = 0x80;
const AND: u8 = 0x40;
const LESS: u8 = 4;
const GREATER: u8 = 2;
const EQUAL: u8 = 1;
const NOT: u8 = 2;
const MATCH: u8 = 1;

/// A list of operators and values as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operators<'a>(pub &'a [u8]);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    code: u8,
    first: bool,
    /// The value.
    pub value: u64,
}

impl Operator {
    /// Belongs to the one before it; "MUST be treated as always unset" in the first.
    #[must_use]
    pub fn and(self) -> bool {
        self.code & AND != 0 && !self.first
    }

    /// Bitmask: the contrary is meant.
    #[must_use]
    pub fn not(self) -> bool {
        self.code & NOT != 0
    }

    /// Bitmask: all bits of the value must be set, rather than any.
    #[must_use]
    pub fn all(self) -> bool {
        self.code & MATCH != 0
    }

    /// Numeric: the numbers up to `most` that it rules out.
    fn ruled_out(self, value: u64, most: u32) -> impl Iterator<Item = RangeInclusive<u32>> {
        let rules_out = |bit: u8| self.code & bit == 0;
        let at = u32::try_from(value).ok().filter(|at| *at <= most);
        let below = match at {
            Some(at) => at.checked_sub(1).map(|last| 0..=last),
            None => Some(0..=most),
        };
        let above = at.filter(|at| *at < most).map(|at| at + 1..=most);
        [
            below.filter(|_| rules_out(LESS)),
            at.map(|at| at..=at).filter(|_| rules_out(EQUAL)),
            above.filter(|_| rules_out(GREATER)),
        ]
        .into_iter()
        .flatten()
    }
}

impl Operators<'_> {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Operator> + '_ {
        let mut rest = self.0;
        let mut first = true;
        std::iter::from_fn(move || {
            let (code, tail) = rest.split_first()?;
            let (value, tail) = tail.split_at_checked(1 << ((code >> 4) & 3))?;
            rest = if code & END == 0 { tail } else { &[] };
            let value = value
                .iter()
                .fold(0, |value, octet| value << 8 | u64::from(*octet));
            Some(Operator {
                code: *code,
                first: std::mem::replace(&mut first, false),
                value,
            })
        })
    }

    /// The numbers up to `most` for which the list holds, read as numeric operators whose values have these bits (4.2.1.1).
    #[must_use]
    pub fn numbers(&self, most: u32, bits: u64) -> Ranges {
        let mut any: Vec<RangeInclusive<u32>> = Vec::new();
        let mut ruled_out: Vec<RangeInclusive<u32>> = Vec::new();
        for (index, operator) in self.iter().enumerate() {
            if index > 0 && !operator.and() {
                any.extend(Ranges::of(ruled_out.drain(..)).others(most).iter());
            }
            ruled_out.extend(operator.ruled_out(operator.value & bits, most));
        }
        any.extend(Ranges::of(ruled_out).others(most).iter());
        Ranges::of(any)
    }

    /// The numbers up to `most`, all bits of which can be set, for which the list holds, read as bitmask operators whose
    /// values have these bits (4.2.1.2).
    #[must_use]
    pub fn bits(&self, most: u32, bits: u64) -> Ranges {
        let words: Vec<u64> = (0..=most / 64).map(|word| self.holds(word, bits)).collect();
        Ranges::where_true(most, |number| {
            words[number as usize / 64] >> (number % 64) & 1 != 0
        })
    }

    /// For which of 64 numbers in a row it holds.
    fn holds(&self, word: u32, bits: u64) -> u64 {
        let (mut any, mut all) = (0, u64::MAX);
        for (index, operator) in self.iter().enumerate() {
            if index > 0 && !operator.and() {
                any |= std::mem::replace(&mut all, u64::MAX);
            }
            let value = operator.value & bits;
            let set = if operator.all() {
                each_bit(value).fold(u64::MAX, |set, bit| set & plane(bit, word))
            } else {
                each_bit(value).fold(0, |set, bit| set | plane(bit, word))
            };
            all &= if operator.not() { !set } else { set };
        }
        any | all
    }
}

/// The bits that are set, by their places.
pub(super) fn each_bit(mut value: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (value != 0).then(|| value.trailing_zeros())?;
        value &= value - 1;
        Some(bit)
    })
}

/// Which of 64 numbers in a row have this bit.
fn plane(bit: u32, word: u32) -> u64 {
    const LOW: [u64; 6] = [
        0xaaaa_aaaa_aaaa_aaaa,
        0xcccc_cccc_cccc_cccc,
        0xf0f0_f0f0_f0f0_f0f0,
        0xff00_ff00_ff00_ff00,
        0xffff_0000_ffff_0000,
        0xffff_ffff_0000_0000,
    ];
    match LOW.get(bit as usize) {
        Some(low) => *low,
        None if word.checked_shr(bit - 6).unwrap_or_default() & 1 != 0 => u64::MAX,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One operator for the tests: AND, the three low bits, value, log2 of its octets.
    type Written = (bool, u8, u64, u8);

    fn encode(list: &[Written]) -> Vec<u8> {
        let mut octets = Vec::new();
        for (index, (and, code, value, log)) in list.iter().enumerate() {
            let end = if index + 1 == list.len() { END } else { 0 };
            octets.push(end | u8::from(*and) << 6 | log << 4 | code);
            octets.extend(&value.to_be_bytes()[8 - (1 << log)..]);
        }
        octets
    }

    fn stored(value: u64, log: u8) -> u64 {
        value & (u64::MAX >> (64 - 8 * (1 << log)))
    }

    /// OR of ANDs, one number at a time, as 4.2.1.1 reads.
    fn evaluate(list: &[Written], one: impl Fn(u8, u64) -> bool) -> bool {
        let (mut any, mut all) = (false, true);
        for (index, (and, code, value, log)) in list.iter().enumerate() {
            if !and && index > 0 {
                any |= std::mem::replace(&mut all, true);
            }
            all &= one(*code, stored(*value, *log));
        }
        any || all
    }

    fn numeric(code: u8, data: u64, value: u64) -> bool {
        match code & 7 {
            0 => false,
            1 => data == value,
            2 => data > value,
            3 => data >= value,
            4 => data < value,
            5 => data <= value,
            6 => data != value,
            _ => true,
        }
    }

    fn bitmask(code: u8, data: u64, value: u64) -> bool {
        let holds = if code & 1 != 0 {
            data & value == value
        } else {
            data & value != 0
        };
        holds != (code & 2 != 0)
    }

    /// Values where something happens: ends of the field, and small ones that meet each other.
    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => 0..24u64,
            3 => any::<u16>().prop_map(u64::from),
            2 => prop_oneof![
                Just(255), Just(256), Just(0xffff), Just(0x1_0000), Just(0xf_ffff), Just(0x10_0000), Just(u64::from(u32::MAX)), Just(1 << 32), Just(u64::MAX)
            ],
            1 => any::<u64>(),
        ]
    }

    fn lists() -> impl Strategy<Value = Vec<Written>> {
        prop::collection::vec((any::<bool>(), 0..16u8, value(), 0..4u8), 1..9)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn numbers_hold_as_the_rfc_reads_for_every_port(list in lists()) {
            let octets = encode(&list);
            let ranges = Operators(&octets).numbers(0xffff, u64::MAX);
            for data in 0..=0xffff_u32 {
                let expected = evaluate(&list, |code, value| numeric(code, data.into(), value));
                prop_assert_eq!(ranges.contains(data), expected, "{}", data);
            }
            prop_assert!(!ranges.contains(0x1_0000));
        }

        #[test]
        fn numbers_hold_as_the_rfc_reads_at_the_edges_of_every_field(list in lists()) {
            let octets = encode(&list);
            for most in [63, 255, 65_575, 0xf_ffff, u32::MAX] {
                let ranges = Operators(&octets).numbers(most, u64::MAX);
                let around = list.iter().flat_map(|(_, _, value, log)| {
                    let value = stored(*value, *log);
                    [value.wrapping_sub(1), value, value.wrapping_add(1)]
                });
                for data in around.chain([0, 1, u64::from(most) - 1, u64::from(most), u64::from(most) + 1]) {
                    let Ok(data) = u32::try_from(data) else { continue };
                    let expected = data <= most && evaluate(&list, |code, value| numeric(code, data.into(), value));
                    prop_assert_eq!(ranges.contains(data), expected, "{} of {}", data, most);
                }
            }
        }

        #[test]
        fn bits_hold_as_the_rfc_reads_for_every_combination(list in lists()) {
            let octets = encode(&list);
            for (most, bits) in [(0xfff, 0xffff), (15, 15), (15, 14)] {
                let ranges = Operators(&octets).bits(most, bits);
                for data in 0..=most {
                    let expected = evaluate(&list, |code, value| bitmask(code, data.into(), value & bits));
                    prop_assert_eq!(ranges.contains(data), expected, "{:#x}", data);
                }
                prop_assert!(!ranges.contains(most + 1));
            }
        }

        #[test]
        fn octets_that_are_no_list_end_it(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            let list = Operators(&octets);
            prop_assert!(list.iter().count() <= octets.len());
            prop_assert!(!list.numbers(0xffff, u64::MAX).contains(0x1_0000));
            prop_assert!(!list.bits(0xfff, 0xffff).contains(0x1000));
        }
    }

    #[test]
    fn the_first_operator_has_no_and_before_it() {
        assert_eq!(
            Operators(&[0x41, 5, 0x81, 9]).numbers(255, u64::MAX).to_string(),
            "5,9"
        );
        assert_eq!(Operators(&[0xc1, 5]).numbers(255, u64::MAX).to_string(), "5");
        assert_eq!(Operators(&[0xc1, 5]).bits(15, 15).to_string(), "5,7,13,15");
    }

    /// RFC 8955 4.3.2: port {range [137, 139] or 8080}.
    #[test]
    fn the_ports_of_the_rfcs_example() {
        let list = [0x03, 0x89, 0x45, 0x8b, 0x91, 0x1f, 0x90];
        assert_eq!(
            Operators(&list).numbers(0xffff, u64::MAX).to_string(),
            "137-139,8080"
        );
    }

    #[test]
    fn two_thousand_operators_take_no_time() {
        let mut odd = Vec::new();
        for port in 0..1300u16 {
            // Not equal, each ANDed: the ranges between them are many.
            let [high, low] = (port * 2).to_be_bytes();
            odd.extend([0x56, high, low]);
        }
        odd.extend([0xd6, 0xff, 0xff]);
        let ranges = Operators(&odd).numbers(0xffff, u64::MAX);
        assert_eq!(ranges.iter().count(), 1300);
        let flags: Vec<u8> = (0..2000)
            .flat_map(|n| [0x42, n as u8])
            .chain([0xc0, 0xff])
            .collect();
        assert_eq!(Operators(&flags).bits(0xfff, 0xffff), Ranges::default());
    }
}
