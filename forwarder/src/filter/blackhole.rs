//! Remotely triggered blackholes: routes that a neighbour marks with a community to have their packets dropped (RFC 7999,
//! RFC 5635 3).
//!
//! Whether a neighbour may do that, and for which prefixes of which length, is policy (RFC 7999 3.3), and was decided where
//! the routing daemon accepted the route. What comes with the mark is dropped.

use std::{fmt, str::FromStr};

use crate::source::feed::Attributes;

/// A community: of two numbers (RFC 1997) or of three (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Community {
    /// `65535:666`, as in the message.
    Plain(u32),
    /// `4200000000:666:0`.
    Large([u32; 3]),
}

/// BLACKHOLE, 65535:666 (RFC 7999 5).
pub const BLACKHOLE: Community = Community::Plain(0xffff_029a);

impl FromStr for Community {
    type Err = ();

    fn from_str(text: &str) -> Result<Community, ()> {
        // A sign would parse.
        if !text.bytes().all(|octet| octet.is_ascii_digit() || octet == b':') {
            return Err(());
        }
        let numbers: Vec<u32> = text
            .split(':')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| ())?;
        match numbers.as_slice() {
            [high @ 0..=0xffff, low @ 0..=0xffff] => Ok(Community::Plain(high << 16 | low)),
            [a, b, c] => Ok(Community::Large([*a, *b, *c])),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Community::Plain(number) => write!(f, "{}:{}", number >> 16, number & 0xffff),
            Community::Large([a, b, c]) => write!(f, "{a}:{b}:{c}"),
        }
    }
}

/// Whether a route carries one of these.
#[must_use]
pub fn is_blackhole(attributes: &Attributes, configured: &[Community]) -> bool {
    configured.iter().any(|community| match community {
        Community::Plain(number) => attributes.communities.contains(number),
        Community::Large(numbers) => attributes.large.contains(numbers),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_are_read_as_they_are_written() {
        for text in ["65535:666", "0:0", "65535:65535", "4200000000:666:0"] {
            assert_eq!(text.parse::<Community>().unwrap().to_string(), text);
        }
        assert_eq!("65535:666".parse(), Ok(BLACKHOLE));
        for text in [
            "",
            "666",
            "65536:1",
            "1:65536",
            "1:2:3:4",
            "a:b",
            "+1:2",
            "-1:2",
            "1:",
            "1:2:4294967296",
            " 1:2",
        ] {
            assert_eq!(text.parse::<Community>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_route_is_dropped_for_any_of_the_configured_communities_and_no_other() {
        let attributes = Attributes {
            communities: vec![64_500 << 16 | 1, 0xffff_029a],
            large: vec![[4_200_000_000, 666, 0]],
            ..Attributes::default()
        };
        let large = Community::Large([4_200_000_000, 666, 0]);
        let other = Community::Plain(64_500 << 16 | 666);
        assert!(is_blackhole(&attributes, &[other, BLACKHOLE]));
        assert!(is_blackhole(&attributes, &[large]));
        assert!(!is_blackhole(
            &attributes,
            &[other, Community::Large([4_200_000_000, 666, 1])]
        ));
        assert!(!is_blackhole(&attributes, &[]));
    }
}
