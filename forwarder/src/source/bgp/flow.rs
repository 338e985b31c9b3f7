//! FlowSpec NLRI: how long one is, and whether its components can be read (RFC 8955 4, RFC 8956 3).
//!
//! A rule is kept as it came: its octets are its name. What it means is found out where rules are made of it. Here only
//! its grammar is checked, so that a rule that nobody could read is refused and counted at the door: GoBGP 3.10, for one,
//! puts the path identifier of a unicast session inside the prefixes of its rules.

use crate::source::feed::FeedTable;

/// Splits off the first NLRI of a list, without its length: one octet, or two where the first nibble is all ones.
#[must_use]
pub fn first(list: &[u8]) -> Option<(&[u8], &[u8])> {
    match list {
        [high @ 0xf0..=0xff, low, rest @ ..] => {
            rest.split_at_checked(usize::from(u16::from_be_bytes([high & 0x0f, *low])))
        }
        [0xf0..=0xff, ..] | [] => None,
        [length, rest @ ..] => rest.split_at_checked(usize::from(*length)),
    }
}

/// Whether the components can be read: types in ascending order and each once, prefixes whole, every list of operators
/// with its end.
///
/// # Errors
/// What is wrong.
pub fn check(table: FeedTable, nlri: &[u8]) -> Result<(), &'static str> {
    each(table, nlri, |_, _| ())
}

/// The same, and hands over each component that is whole: its type, and the octets behind that.
///
/// # Errors
/// What is wrong.
pub fn each<'a>(
    table: FeedTable,
    nlri: &'a [u8],
    mut take: impl FnMut(u8, &'a [u8]),
) -> Result<(), &'static str> {
    let ipv6 = table == FeedTable::FlowSpec6;
    let mut rest = nlri;
    let mut last = 0;
    if nlri.is_empty() {
        return Err("a rule without components");
    }
    while let Some((kind, tail)) = rest.split_first() {
        if *kind <= last {
            return Err("components out of order");
        }
        last = *kind;
        rest = match kind {
            1 | 2 if ipv6 => prefix6(tail),
            1 | 2 => prefix4(tail),
            3..=12 => operators(*kind, tail),
            13 if ipv6 => operators(*kind, tail),
            _ => Err("a component of a type that is not known"),
        }?;
        take(*kind, &tail[..tail.len() - rest.len()]);
    }
    Ok(())
}

fn prefix4(rest: &[u8]) -> Result<&[u8], &'static str> {
    match rest.split_first() {
        Some((length @ ..=32, rest)) => rest
            .get(usize::from(length.div_ceil(8))..)
            .ok_or("a prefix that is cut off"),
        Some(_) => Err("a prefix longer than an address"),
        None => Err("a prefix that is cut off"),
    }
}

/// Length, offset, and the bits between them (RFC 8956 3.1).
fn prefix6(rest: &[u8]) -> Result<&[u8], &'static str> {
    let [length, offset, rest @ ..] = rest else {
        return Err("a prefix that is cut off");
    };
    if *length > 128 {
        return Err("a prefix longer than an address");
    }
    if offset >= length && (*offset, *length) != (0, 0) {
        return Err("a prefix whose offset lies behind its end");
    }
    rest.get(usize::from((length - offset).div_ceil(8))..)
        .ok_or("a prefix that is cut off")
}

/// Operators and values up to the one that says it is the last (RFC 8955 4.2.1).
fn operators(kind: u8, mut rest: &[u8]) -> Result<&[u8], &'static str> {
    // TCP flags have one or two octets, DSCP and fragment one (RFC 8955 4.2.2.9, .11, .12).
    let longest = match kind {
        9 => 2,
        11 | 12 => 1,
        _ => 8,
    };
    loop {
        let (operator, tail) = rest.split_first().ok_or("operators without an end")?;
        let length = 1 << ((operator >> 4) & 3);
        if length > longest {
            return Err("a value longer than its field");
        }
        rest = tail.get(length..).ok_or("a value that is cut off")?;
        if operator & 0x80 != 0 {
            return Ok(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FeedTable::{FlowSpec4, FlowSpec6};

    fn octets(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn rules_of_the_daemons_are_read() {
        for rule in [
            "0120cb007105020fc6120381110501351303e8d507d0090102c2100a030045649205780b810a0c8102",
            "0120cb007105020fc6120381110501351203e8d407d00980020a9205780c8002",
            "0120cb0071090381010781080b810a",
        ] {
            assert_eq!(check(FlowSpec4, &octets(rule)), Ok(()), "{rule}");
        }
        assert_eq!(check(FlowSpec4, &octets("0118cb0071038106")), Ok(()));
        assert_eq!(
            check(FlowSpec6, &octets("01300020010db8ffff03811105817b")),
            Ok(())
        );
        assert_eq!(
            check(FlowSpec6, &octets("018040112233445566778803811d0d8101")),
            Ok(())
        );
        assert_eq!(check(FlowSpec6, &[1, 0, 0]), Ok(()));
    }

    #[test]
    fn gobgps_path_identifiers_inside_a_rule_are_refused() {
        let rule = octets("010000000020cb00710502000000000fc6120381110501351303e8d507d00a9205780c8002");
        assert_eq!(check(FlowSpec4, &rule), Err("components out of order"));
        let rule = octets("010000000018cb0071038106098102");
        assert_eq!(check(FlowSpec4, &rule), Err("components out of order"));
    }

    #[test]
    fn each_way_of_being_malformed_has_its_words() {
        for (table, rule, why) in [
            (FlowSpec4, "", "a rule without components"),
            (FlowSpec4, "0381060118cb0071", "components out of order"),
            (FlowSpec4, "038106038106", "components out of order"),
            (FlowSpec4, "00", "components out of order"),
            (FlowSpec4, "0d8101", "a component of a type that is not known"),
            (FlowSpec6, "0e8101", "a component of a type that is not known"),
            (FlowSpec4, "01", "a prefix that is cut off"),
            (FlowSpec4, "0118cb00", "a prefix that is cut off"),
            (FlowSpec4, "0121cb00710101", "a prefix longer than an address"),
            (FlowSpec6, "018100", "a prefix longer than an address"),
            (FlowSpec6, "012020", "a prefix whose offset lies behind its end"),
            (FlowSpec6, "0120", "a prefix that is cut off"),
            (FlowSpec6, "01200020", "a prefix that is cut off"),
            (FlowSpec4, "03", "operators without an end"),
            (FlowSpec4, "030106", "operators without an end"),
            (FlowSpec4, "0381", "a value that is cut off"),
            (FlowSpec4, "05b10000", "a value that is cut off"),
            (FlowSpec4, "0cb10000", "a value longer than its field"),
            (FlowSpec4, "09a100000000", "a value longer than its field"),
        ] {
            assert_eq!(check(table, &octets(rule)), Err(why), "{rule}");
        }
    }

    #[test]
    fn lengths_of_one_and_two_octets() {
        assert_eq!(first(&[2, 7, 8, 9]), Some((&[7, 8][..], &[9][..])));
        let mut long = vec![0xf1, 0x00];
        long.extend([5; 256]);
        assert_eq!(first(&long).unwrap().0.len(), 256);
        for cut in [&[][..], &[3, 1, 2], &[0xf0], &[0xf0, 1], &[0xff, 0xff, 1]] {
            assert_eq!(first(cut), None, "{cut:?}");
        }
    }
}
