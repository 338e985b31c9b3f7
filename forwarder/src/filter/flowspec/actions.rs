//! What a FlowSpec rule does: its extended communities (RFC 8955 7).
//!
//! Where actions interfere (RFC 8955 7.7 leaves it to the implementation):
//!
//! - Of several rates of one unit the lowest counts, and a rate of 0 drops whatever else is asked.
//! - A rate in octets beside one in packets is refused: a rule keeps one.
//! - Two different markings are refused: neither is better.
//! - Redirects and samples are refused, and with them all else that the rule asks: it would do something else than was meant.
//!
//! Communities that are no actions mean nothing here, whatever they are.

use super::super::rule::{Action, Rate, Unit};
use super::Refusal;
use crate::source::feed::Attributes;

/// From so many octets or packets a second a rate is none: no interface carries as much.
const BEYOND_ANY_LINK: f32 = 1e12;
/// What may be let through at once: a hundredth of a second's worth.
const BURSTS_PER_SECOND: u64 = 100;
/// At least a frame of 1,500 octets with its header.
const LEAST_BURST: u64 = 1514;
/// By how much a rate that is no whole number may be missed: what the limiter may.
const PRECISION: f64 = 0.02;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions {
    /// What happens to its packets.
    pub action: Action,
    /// Later rules are asked too (7.3, the T bit).
    pub proceed: bool,
    /// DSCP that its packets are given (7.5).
    pub mark: Option<u8>,
}

/// Reads the actions. None at all is to accept.
///
/// # Errors
/// What cannot be done.
pub fn actions(attributes: &Attributes) -> Result<Actions, Refusal> {
    let (mut bytes, mut packets) = (None, None);
    let (mut proceed, mut mark) = (false, None);
    for community in &attributes.extended {
        match *community {
            [0x80, 0x06, _, _, rate @ ..] => bytes = lowest(bytes, read_rate(rate)?),
            [0x80, 0x0c, _, _, rate @ ..] => packets = lowest(packets, read_rate(rate)?),
            [0x80, 0x07, .., bits] => {
                proceed |= bits & 1 != 0;
                if bits & 2 != 0 {
                    return Err(Refusal::Samples);
                }
            }
            [0x80, 0x09, .., octet] => {
                let dscp = octet & 63;
                if mark.is_some_and(|other| other != dscp) {
                    return Err(Refusal::TwoMarks);
                }
                mark = Some(dscp);
            }
            // To a VRF; to an address (two drafts of draft-ietf-idr-flowspec-redirect-ip); to an indirection-id.
            [0x80..=0x82, 0x08, ..] => return Err(Refusal::Redirect),
            [0x08, 0x00 | 0x0c, ..] | [0x01, 0x0c, ..] | [0x09, 0x00, ..] => return Err(Refusal::Redirect),
            // The rule is for some interfaces only (draft-ietf-idr-flowspec-interfaceset).
            [0x07 | 0x47, 0x02, ..] => return Err(Refusal::InterfaceSet),
            // Flow classifier of a service function chain (RFC 9015 7.4).
            [0x80, 0x0d, ..] => return Err(Refusal::ServiceChain),
            _ => {}
        }
    }
    // IPv6-address-specific: redirect to a VRF (RFC 8956 6.1, and its early codepoint), to an address.
    let redirects = |community: &[u8; 20]| matches!(community, [0x00, 0x0b..=0x0d, ..]);
    if attributes.extended6.iter().any(redirects) {
        return Err(Refusal::Redirect);
    }
    let action = match (bytes, packets) {
        (Some(0), _) | (_, Some(0)) => Action::Drop,
        (None, None) => Action::Accept,
        (Some(per_second), None) => limit(Unit::Bytes, per_second),
        (None, Some(per_second)) => limit(Unit::Packets, per_second),
        (Some(_), Some(_)) => return Err(Refusal::TwoRates),
    };
    Ok(Actions {
        action,
        proceed,
        mark,
    })
}

fn lowest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// A rate in whole octets or packets; `None` where it limits nothing. Negative is zero (7.1).
fn read_rate(octets: [u8; 4]) -> Result<Option<u64>, Refusal> {
    let rate = f32::from_be_bytes(octets);
    if rate.is_nan() {
        return Err(Refusal::NoNumber);
    }
    if rate == f32::INFINITY {
        return Err(Refusal::Infinite);
    }
    if rate <= 0.0 {
        return Ok(Some(0));
    }
    if rate >= BEYOND_ANY_LINK {
        return Ok(None);
    }
    let (exact, whole) = (f64::from(rate), f64::from(rate).round());
    if (whole - exact).abs() > exact * PRECISION {
        return Err(Refusal::Fraction(rate));
    }
    Ok(Some(whole as u64))
}

fn limit(unit: Unit, per_second: u64) -> Action {
    let least = match unit {
        Unit::Bytes => LEAST_BURST,
        Unit::Packets => 1,
    };
    Action::Limit(Rate {
        unit,
        per_second,
        burst: (per_second / BURSTS_PER_SECOND).max(least),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extended: &[[u8; 8]]) -> Result<Actions, Refusal> {
        actions(&Attributes {
            extended: extended.to_vec(),
            ..Attributes::default()
        })
    }

    fn community(kind: u16, rate: f32) -> [u8; 8] {
        let mut octets = [0, 0, 0xfd, 0xe8, 0, 0, 0, 0];
        octets[..2].copy_from_slice(&kind.to_be_bytes());
        octets[4..].copy_from_slice(&rate.to_be_bytes());
        octets
    }

    fn bytes(rate: f32) -> [u8; 8] {
        community(0x8006, rate)
    }

    fn packets(rate: f32) -> [u8; 8] {
        community(0x800c, rate)
    }

    fn limit_of(unit: Unit, per_second: u64, burst: u64) -> Action {
        Action::Limit(Rate {
            unit,
            per_second,
            burst,
        })
    }

    #[test]
    fn rates_drop_limit_or_do_nothing() {
        for (communities, action) in [
            (&[][..], Action::Accept),
            // A route target says nothing about packets.
            (&[[0, 2, 0xfd, 0xe8, 0, 0, 0, 100]], Action::Accept),
            (&[bytes(0.0)], Action::Drop),
            (&[bytes(-0.0)], Action::Drop),
            (&[bytes(-5.0)], Action::Drop),
            (&[bytes(f32::NEG_INFINITY)], Action::Drop),
            (&[packets(0.0)], Action::Drop),
            // As ExaBGP, BIRD and FRR write 1,000,000 octets.
            (
                &[[0x80, 6, 0, 0, 0x49, 0x74, 0x24, 0]],
                limit_of(Unit::Bytes, 1_000_000, 10_000),
            ),
            (&[bytes(1.0)], limit_of(Unit::Bytes, 1, 1514)),
            (&[packets(1.0)], limit_of(Unit::Packets, 1, 1)),
            (&[packets(5e6)], limit_of(Unit::Packets, 5_000_000, 50_000)),
            (&[bytes(99.5)], limit_of(Unit::Bytes, 100, 1514)),
            (
                &[bytes(9.9e11)],
                limit_of(Unit::Bytes, 989_999_988_736, 9_899_999_887),
            ),
            (&[bytes(1e12)], Action::Accept),
            (&[bytes(f32::MAX)], Action::Accept),
        ] {
            let read = read(communities).unwrap();
            assert_eq!(
                (read.action, read.proceed, read.mark),
                (action, false, None),
                "{communities:?}"
            );
        }
    }

    #[test]
    fn the_strictest_of_several_rates_counts_in_any_order() {
        let million = limit_of(Unit::Bytes, 1_000_000, 10_000);
        for communities in [
            [bytes(1e6), bytes(1e9)],
            [bytes(1e9), bytes(1e6)],
            [bytes(1e6), bytes(1e30)],
        ] {
            assert_eq!(read(&communities).unwrap().action, million);
        }
        assert_eq!(read(&[bytes(1e6), packets(0.0)]).unwrap().action, Action::Drop);
        assert_eq!(read(&[bytes(1e6), packets(1e20)]).unwrap().action, million);
        assert_eq!(read(&[bytes(1e6), packets(1e3)]), Err(Refusal::TwoRates));
    }

    #[test]
    fn rates_that_cannot_be_kept_are_refused() {
        for rate in [f32::NAN, -f32::NAN] {
            assert_eq!(read(&[bytes(rate)]), Err(Refusal::NoNumber));
        }
        assert_eq!(read(&[bytes(f32::INFINITY)]), Err(Refusal::Infinite));
        for rate in [0.3, f32::MIN_POSITIVE, 1.5, 2.4] {
            assert_eq!(read(&[packets(rate)]), Err(Refusal::Fraction(rate)));
        }
    }

    #[test]
    fn the_last_two_bits_of_traffic_action_are_sample_and_go_on() {
        let with = |bits| read(&[[0x80, 7, 0xff, 0xff, 0xff, 0xff, 0xff, bits]]).map(|read| read.proceed);
        assert_eq!([with(0xfc), with(1)], [Ok(false), Ok(true)]);
        // Not applied at all: without the samples it would be another rule, and without its drop one that lets through.
        assert_eq!([with(2), with(3)], [Err(Refusal::Samples), Err(Refusal::Samples)]);
        let sampled = [0x80, 7, 0, 0, 0, 0, 0, 2];
        assert_eq!(read(&[bytes(0.0), sampled]), Err(Refusal::Samples));
    }

    #[test]
    fn marking_takes_six_bits_and_not_two_values() {
        let mark = |octet| [0x80, 9, 0xff, 0xff, 0xff, 0xff, 0xff, octet];
        assert_eq!(read(&[mark(0xee)]).unwrap().mark, Some(0x2e));
        assert_eq!(read(&[mark(0xee), mark(0x2e)]).unwrap().mark, Some(0x2e));
        assert_eq!(read(&[mark(1), mark(2)]), Err(Refusal::TwoMarks));
    }

    #[test]
    fn redirects_of_every_kind_are_refused_whatever_else_is_asked() {
        for head in [0x8008_u16, 0x8108, 0x8208, 0x0800, 0x080c, 0x010c, 0x0900] {
            let redirect = community(head, 1.0);
            assert_eq!(
                read(&[bytes(0.0), redirect]),
                Err(Refusal::Redirect),
                "{head:04x}"
            );
        }
        for kind in [0x0b, 0x0c, 0x0d] {
            let mut community = [0; 20];
            community[1] = kind;
            let attributes = Attributes {
                extended6: vec![community],
                ..Attributes::default()
            };
            assert_eq!(actions(&attributes), Err(Refusal::Redirect));
        }
        assert_eq!(read(&[community(0x4702, 1.0)]), Err(Refusal::InterfaceSet));
        assert_eq!(read(&[community(0x800d, 1.0)]), Err(Refusal::ServiceChain));
    }
}
