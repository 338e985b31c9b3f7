//! Which of two FlowSpec rules is asked first (RFC 8955 5.1, RFC 8956 4).
//!
//! The order does not depend on who announced what when, so every router of a network asks in the same order. It is that of
//! a book: components from the left, and where they are the same, the next. A rule that has a component of a lower type, or
//! any at all where the other has ended, is the narrower one and comes first. Prefixes in a tree are asked children first,
//! then by address; lists of operators as strings.

use std::cmp::Ordering;

use super::components::{Component, Pattern, Value};

/// [`Ordering::Less`]: `a` is asked before `b`; both of one family. [`Ordering::Equal`] only where they mean the same
/// component for component: then their octets differ at most in bits that are ignored.
#[must_use]
pub fn precedence(a: &[Component<'_>], b: &[Component<'_>]) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        let order = a.kind.cmp(&b.kind).then_with(|| match (a.value, b.value) {
            (Value::Prefix(a), Value::Prefix(b)) => prefixes(a, b),
            (Value::List(a), Value::List(b)) => strings(a.0, b.0),
            // One type is always one of the two.
            (Value::Prefix(_), Value::List(_)) => Ordering::Less,
            (Value::List(_), Value::Prefix(_)) => Ordering::Greater,
        });
        if order != Ordering::Equal {
            return order;
        }
    }
    b.len().cmp(&a.len())
}

/// The lowest offset first; then what is inside the other, then the lowest address.
fn prefixes(a: Pattern, b: Pattern) -> Ordering {
    let common = a.length.min(b.length);
    let head = |pattern: Pattern| {
        let beyond = 128 - u32::from(common);
        pattern.bits.checked_shr(beyond).unwrap_or_default()
    };
    a.offset
        .cmp(&b.offset)
        .then_with(|| head(a).cmp(&head(b)))
        .then_with(|| b.length.cmp(&a.length))
}

/// memcmp() of what both have; then the longer one.
fn strings(a: &[u8], b: &[u8]) -> Ordering {
    let common = a.len().min(b.len());
    a[..common].cmp(&b[..common]).then_with(|| b.len().cmp(&a.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::components::components;
    use super::*;
    use crate::source::bgp::flow;
    use crate::source::feed::FeedTable::{self, FlowSpec4, FlowSpec6};

    fn compare(table: FeedTable, a: &[u8], b: &[u8]) -> Ordering {
        precedence(
            &components(table, a).expect("a rule"),
            &components(table, b).expect("a rule"),
        )
    }

    /// Each is asked before all that stand behind it.
    #[track_caller]
    fn in_order(table: FeedTable, rules: &[&[u8]]) {
        for (place, rule) in rules.iter().enumerate() {
            assert_eq!(compare(table, rule, rule), Ordering::Equal, "{rule:02x?}");
            for later in &rules[place + 1..] {
                assert_eq!(
                    compare(table, rule, later),
                    Ordering::Less,
                    "{rule:02x?} {later:02x?}"
                );
                assert_eq!(compare(table, later, rule), Ordering::Greater);
            }
        }
    }

    #[test]
    fn the_lowest_type_comes_first_and_a_rule_that_says_more() {
        in_order(
            FlowSpec4,
            &[
                &[1, 24, 192, 0, 2, 3, 0x81, 6, 4, 0x81, 25],
                &[1, 24, 192, 0, 2, 3, 0x81, 6],
                &[1, 24, 192, 0, 2, 4, 0x81, 25],
                &[1, 24, 192, 0, 2],
                &[2, 24, 192, 0, 2],
                &[3, 0x81, 6],
                &[4, 0x81, 25],
                &[5, 0x81, 25],
            ],
        );
    }

    #[test]
    fn a_prefix_inside_another_comes_before_it_and_a_lower_one_before_a_higher() {
        in_order(
            FlowSpec4,
            &[
                &[1, 24, 10, 0, 0],
                &[1, 16, 10, 0],
                &[1, 32, 10, 1, 1, 1],
                &[1, 24, 10, 1, 1],
                &[1, 24, 10, 1, 2],
                &[1, 8, 10],
                &[1, 8, 11],
                &[1, 0],
            ],
        );
    }

    #[test]
    fn lists_are_compared_as_strings_and_the_longer_comes_first() {
        in_order(
            FlowSpec4,
            &[
                &[4, 0x01, 1, 0x81, 2],
                &[4, 0x01, 2, 0x81, 1],
                &[4, 0x81, 1],
                &[4, 0x81, 2],
                &[4, 0x91, 0, 1],
            ],
        );
        assert_eq!(strings(&[4, 5, 6], &[4, 5]), Ordering::Less);
    }

    #[test]
    fn of_ipv6_prefixes_the_lowest_offset_comes_first_whatever_their_length() {
        in_order(
            FlowSpec6,
            &[
                &[1, 32, 0, 0x20, 1, 0x0d, 0xb8],
                &[1, 3, 0, 0x20],
                &[1, 0, 0],
                &[1, 72, 64, 0x12],
                &[1, 68, 64, 0x10],
                &[1, 104, 65, 0x24, 0x68, 0xac, 0xf1, 0x34],
            ],
        );
    }

    #[test]
    fn bits_that_are_ignored_make_no_order() {
        assert_eq!(
            compare(FlowSpec4, &[1, 20, 192, 0, 0x2f], &[1, 20, 192, 0, 0x20]),
            Ordering::Equal
        );
    }

    /// The comparison as RFC 8955 has it in its appendix, over networks as first and last address.
    fn by_the_book(a: &[Component<'_>], b: &[Component<'_>]) -> Ordering {
        let mut place = 0;
        loop {
            let (one, other) = match (a.get(place), b.get(place)) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Greater,
                (Some(_), None) => return Ordering::Less,
                (Some(one), Some(other)) => (one, other),
            };
            place += 1;
            if one.kind != other.kind {
                return one.kind.cmp(&other.kind);
            }
            match (one.value, other.value) {
                (Value::Prefix(a), Value::Prefix(b)) => {
                    if a.offset != b.offset {
                        return a.offset.cmp(&b.offset);
                    }
                    let end = |p: Pattern| p.bits | u128::MAX.checked_shr(p.length.into()).unwrap_or(0);
                    if a.bits <= end(b) && b.bits <= end(a) {
                        if a.length != b.length {
                            return b.length.cmp(&a.length);
                        }
                    } else {
                        return a.bits.cmp(&b.bits);
                    }
                }
                (Value::List(a), Value::List(b)) => {
                    let common = a.0.len().min(b.0.len());
                    for (a, b) in a.0.iter().zip(b.0) {
                        if a != b {
                            return a.cmp(b);
                        }
                    }
                    if a.0.len() != b.0.len() {
                        return if a.0.len() > common {
                            Ordering::Less
                        } else {
                            Ordering::Greater
                        };
                    }
                }
                _ => unreachable!("one type, two forms"),
            }
        }
    }

    /// Rules that have much in common.
    fn rules(ipv6: bool) -> impl Strategy<Value = Vec<u8>> {
        let prefix = move |kind: u8| {
            (0..=24u8, 0..3u8, any::<[u8; 3]>()).prop_map(move |(length, offset, octets)| {
                let octets = octets.map(|octet| octet & 0x81);
                let offset = if ipv6 && offset < length { offset } else { 0 };
                let mut rule = vec![kind, length];
                if ipv6 {
                    rule.push(offset);
                }
                rule.extend(&octets[..usize::from((length - offset).div_ceil(8))]);
                rule
            })
        };
        let list = |kind: u8| {
            prop::collection::vec((0..2u8, 0..3u8), 1..3).prop_map(move |list| {
                let mut rule = vec![kind];
                for (place, (code, value)) in list.iter().enumerate() {
                    rule.extend([u8::from(place + 1 == list.len()) << 7 | code, *value]);
                }
                rule
            })
        };
        let some = |one| prop::option::weighted(0.6, one).prop_map(Option::unwrap_or_default);
        let all = (
            some(prefix(1).boxed()),
            some(prefix(2).boxed()),
            some(list(3).boxed()),
            some(list(5).boxed()),
        );
        all.prop_map(|(a, b, c, d)| [a, b, c, d].concat())
            .prop_filter("a rule has components", |rule| !rule.is_empty())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn it_is_an_order_and_that_of_the_rfc(
            (ipv6, rules) in any::<bool>().prop_flat_map(|ipv6| (Just(ipv6), [rules(ipv6), rules(ipv6), rules(ipv6)]))
        ) {
            let table = if ipv6 { FlowSpec6 } else { FlowSpec4 };
            for rule in &rules {
                prop_assert_eq!(flow::check(table, rule), Ok(()));
            }
            let parsed: Vec<_> = rules.iter().map(|rule| components(table, rule).expect("a rule")).collect();
            for a in &parsed {
                for b in &parsed {
                    prop_assert_eq!(precedence(a, b), by_the_book(a, b));
                    prop_assert_eq!(precedence(a, b), precedence(b, a).reverse());
                    for c in &parsed {
                        if precedence(a, b).is_le() && precedence(b, c).is_le() {
                            prop_assert!(precedence(a, c).is_le());
                        }
                    }
                }
            }
        }
    }
}
