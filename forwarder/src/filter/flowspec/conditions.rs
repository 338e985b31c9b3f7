//! What the components of a FlowSpec rule say about a packet, as a [`Match`] (RFC 8955 4.2.2, RFC 8956 3).

use super::super::ranges::Ranges;
use super::super::rule::{FRAGMENT_DF, FRAGMENT_MAX, Family, Match, TCP_FLAGS_MAX};
use super::Refusal;
use super::components::{Component, Kind, Pattern, Value};
use super::operators::Operators;

const ICMP: u32 = 1;
const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMPV6: u32 = 58;

/// The numbers that a list of numeric operators lets a field have.
pub(super) fn numbers(family: Family, kind: Kind, list: Operators<'_>) -> Ranges {
    match kind {
        Kind::Port | Kind::DestinationPort | Kind::SourcePort => list.numbers(0xffff, u64::MAX),
        // The payload length of IPv6 does not count the header.
        Kind::Length if family == Family::V6 => list.numbers(0xffff + 40, u64::MAX),
        Kind::Length => list.numbers(0xffff, u64::MAX),
        // "The six least significant bits": all others are treated as 0.
        Kind::Dscp => list.numbers(63, 63),
        Kind::FlowLabel => list.numbers(0xf_ffff, u64::MAX),
        _ => list.numbers(0xff, u64::MAX),
    }
}

/// What a packet must be like.
///
/// # Errors
/// What cannot be asked, and what no packet is like.
pub fn conditions(family: Family, components: &[Component<'_>]) -> Result<Match, Refusal> {
    let mut when = Match {
        family: Some(family),
        ..Match::default()
    };
    for component in components {
        let kind = component.kind;
        match component.value {
            Value::Prefix(pattern) if pattern.is_all() => {}
            Value::Prefix(pattern) => {
                let prefixes = Some(pattern.prefixes().ok_or_else(|| open(kind, pattern))?);
                match kind {
                    Kind::Source => when.source = prefixes,
                    _ => when.destination = prefixes,
                }
            }
            Value::List(list) => {
                let ranges = match kind {
                    Kind::TcpFlags => list.bits(TCP_FLAGS_MAX, 0xffff),
                    // There is no such bit in IPv6: it is ignored (RFC 8956 3.6).
                    Kind::Fragment if family == Family::V6 => {
                        list.bits(FRAGMENT_MAX, u64::from(FRAGMENT_MAX & !FRAGMENT_DF))
                    }
                    Kind::Fragment => list.bits(FRAGMENT_MAX, FRAGMENT_MAX.into()),
                    _ => numbers(family, kind, list),
                };
                if ranges.is_empty() {
                    return Err(Refusal::NoValue(kind.word()));
                }
                require(&mut when, family, kind, ranges)?;
            }
        }
    }
    Ok(when)
}

/// Adds a condition, and the protocol without which a packet has no such field.
fn require(when: &mut Match, family: Family, kind: Kind, ranges: Ranges) -> Result<(), Refusal> {
    let protocols: &[u32] = match kind {
        Kind::Port | Kind::DestinationPort | Kind::SourcePort => &[TCP, UDP],
        Kind::IcmpType | Kind::IcmpCode if family == Family::V4 => &[ICMP],
        Kind::IcmpType | Kind::IcmpCode => &[ICMPV6],
        Kind::TcpFlags => &[TCP],
        _ => &[],
    };
    if !protocols.is_empty() {
        let with_field = Ranges::of(protocols.iter().map(|number| *number..=*number));
        let left = match &when.protocol {
            Some(named) => named.and(&with_field),
            None => with_field,
        };
        if left.is_empty() {
            return Err(Refusal::NoProtocol(kind.word()));
        }
        when.protocol = Some(left);
    }
    let field = match kind {
        Kind::Protocol => &mut when.protocol,
        Kind::Port => &mut when.port,
        Kind::DestinationPort => &mut when.destination_port,
        Kind::SourcePort => &mut when.source_port,
        Kind::IcmpType => &mut when.icmp_type,
        Kind::IcmpCode => &mut when.icmp_code,
        Kind::TcpFlags => &mut when.tcp_flags,
        Kind::Length => &mut when.length,
        Kind::Dscp => &mut when.dscp,
        Kind::Fragment => &mut when.fragment,
        Kind::FlowLabel => &mut when.flow_label,
        Kind::Destination | Kind::Source => return Ok(()),
    };
    *field = Some(ranges);
    Ok(())
}

fn open(kind: Kind, pattern: Pattern) -> Refusal {
    Refusal::OpenBits {
        which: kind.word(),
        pattern: pattern.to_string(),
        open: pattern.offset,
    }
}

#[cfg(test)]
mod tests {
    use super::super::components::{components, family};
    use super::*;
    use crate::source::feed::FeedTable::{self, FlowSpec4, FlowSpec6};

    fn read(table: FeedTable, nlri: &[u8]) -> Result<Match, Refusal> {
        conditions(family(table), &components(table, nlri).unwrap())
    }

    fn text(ranges: &Option<Ranges>) -> String {
        ranges.as_ref().map(Ranges::to_string).unwrap_or_default()
    }

    #[test]
    fn every_component_has_its_condition() {
        let all = [
            1, 24, 192, 0, 2, 2, 24, 203, 0, 113, // prefixes
            3, 0x81, 6, 4, 0x81, 25, 5, 0x91, 1, 0xbb, 6, 0x92, 3, 0xff, // tcp, ports
            9, 0x80, 2, 10, 0x94, 0, 100, 11, 0x81, 0xee, 12, 0x80, 2, // flags, length, DSCP, fragment
        ];
        let when = read(FlowSpec4, &all).unwrap();
        assert_eq!(when.family, Some(Family::V4));
        assert_eq!(when.destination, Some(vec!["192.0.2.0/24".parse().unwrap()]));
        assert_eq!(when.source, Some(vec!["203.0.113.0/24".parse().unwrap()]));
        assert_eq!(
            (text(&when.protocol), text(&when.port)),
            ("6".into(), "25".into())
        );
        assert_eq!(text(&when.destination_port), "443");
        assert_eq!(text(&when.source_port), "1024-65535");
        assert!(text(&when.tcp_flags).starts_with("2-3,6-7,10-11,"));
        assert_eq!(
            (text(&when.length), text(&when.dscp)),
            ("0-99".into(), "46".into())
        );
        assert_eq!(text(&when.fragment), "2-3,6-7,10-11,14-15");
        assert_eq!((when.icmp_type, when.flow_label), (None, None));
        let when = read(
            FlowSpec6,
            &[
                7, 0x81, 128, 8, 0x81, 0, 10, 0x93, 0xff, 0xff, 13, 0xa1, 0, 0xf, 0xff, 0xff,
            ],
        )
        .unwrap();
        assert_eq!(
            (text(&when.icmp_type), text(&when.icmp_code)),
            ("128".into(), "0".into())
        );
        assert_eq!(
            (text(&when.length), text(&when.flow_label)),
            ("65535-65575".into(), "1048575".into())
        );
        assert_eq!(
            (when.family, text(&when.protocol)),
            (Some(Family::V6), "58".into())
        );
    }

    #[test]
    fn a_field_comes_with_the_protocol_that_has_it() {
        for (nlri, protocol) in [
            (&[5, 0x81, 53][..], "6,17"),
            (&[3, 0x86, 6, 5, 0x81, 53], "17"),
            (&[5, 0x81, 53, 9, 0x80, 2], "6"),
            (&[7, 0x81, 8], "1"),
            // Whatever the port is, there must be one.
            (&[4, 0x87, 0], "6,17"),
            (&[10, 0x81, 53], ""),
        ] {
            assert_eq!(
                text(&read(FlowSpec4, nlri).unwrap().protocol),
                protocol,
                "{nlri:?}"
            );
        }
    }

    #[test]
    fn what_no_packet_is_like_is_refused() {
        for (nlri, why) in [
            (&[4, 0x81, 25, 7, 0x81, 8][..], Refusal::NoProtocol("icmp-type")),
            (&[3, 0x81, 1, 9, 0x80, 2], Refusal::NoProtocol("tcp-flags")),
            (&[3, 0x81, 58, 7, 0x81, 128], Refusal::NoProtocol("icmp-type")),
            (&[5, 0xa1, 0, 1, 0, 0], Refusal::NoValue("dst-port")),
            (&[3, 0x80, 6], Refusal::NoValue("proto")),
            (&[9, 0x91, 0x10, 0x02], Refusal::NoValue("tcp-flags")),
        ] {
            assert_eq!(read(FlowSpec4, nlri), Err(why), "{nlri:?}");
        }
    }

    #[test]
    fn a_prefix_of_no_bits_is_no_condition() {
        let when = read(FlowSpec4, &[1, 0, 2, 0]).unwrap();
        let expected = Match {
            family: Some(Family::V4),
            ..Match::default()
        };
        assert_eq!(when, expected);
        assert_eq!(read(FlowSpec6, &[1, 0, 0]).unwrap().destination, None);
    }

    #[test]
    fn open_bits_are_prefixes_or_refused() {
        let when = read(FlowSpec6, &[2, 12, 4, 0xd0]).unwrap();
        assert_eq!(when.source.map(|prefixes| prefixes.len()), Some(16));
        let why = read(FlowSpec6, &[2, 0x68, 0x40, 0x12, 0x34, 0x56, 0x78, 0x9a]).unwrap_err();
        assert_eq!(
            why.to_string(),
            "src ::1234:5678:9a00:0/64-104 leaves the first 64 bits open, and at most 8 can be"
        );
    }

    /// RFC 8955 4.2.2.9: one octet is the flags without the four bits before them, two are all of them with the data
    /// offset taken for 0.
    #[test]
    fn flags_of_one_octet_leave_the_bits_before_them_alone() {
        let flags = |nlri: &[u8]| read(FlowSpec4, nlri).unwrap().tcp_flags.unwrap();
        let one = flags(&[9, 0x81, 0x12]);
        assert!(one.contains(0x012) && one.contains(0xf12) && !one.contains(0x010));
        let two = flags(&[9, 0x91, 0x01, 0x12]);
        assert!(two.contains(0x112) && two.contains(0xf12) && !two.contains(0x012));
        assert_eq!(flags(&[9, 0x90, 0xf0, 0x02]), flags(&[9, 0x80, 0x02]));
    }

    /// RFC 8956 3.6.
    #[test]
    fn df_is_ignored_in_ipv6_and_bits_without_a_name_everywhere() {
        let fragment = |table, nlri: &[u8]| read(table, nlri).map(|when| text(&when.fragment));
        assert_eq!(fragment(FlowSpec4, &[12, 0x81, 0xf5]).unwrap(), "5,7,13,15");
        assert_eq!(fragment(FlowSpec6, &[12, 0x81, 0xf5]).unwrap(), "4-7,12-15");
        assert_eq!(fragment(FlowSpec6, &[12, 0x81, 1]).unwrap(), "0-15");
        assert_eq!(
            fragment(FlowSpec6, &[12, 0x80, 1]),
            Err(Refusal::NoValue("fragment"))
        );
    }
}
