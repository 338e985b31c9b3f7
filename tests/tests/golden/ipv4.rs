//! Records about IPv4 headers and addresses.

use forwarder_common::reason::Reason;
use forwarder_tests::frame::{self, fix_checksum, udp4, with};

use super::house::{Expect, House, OUT4, Record, leaves, record};

/// Records that need no more than the house as it was built.
pub fn records(house: &House) -> Vec<Record> {
    [header(house), addresses(house)].concat()
}

/// Sent on by the virtual egress.
pub fn sent(house: &House, prefix: &'static str, length: usize) -> Expect {
    Expect::Forwarded {
        prefix,
        egress: house.ports.out,
        neighbour: OUT4,
        length,
    }
}

fn header(house: &House) -> Vec<Record> {
    let inside = house.ports.inside;
    let macs = house.macs(inside);
    let frame = || udp4(macs, [5, 1, 2, 3], 64, 20);
    let length = frame().len();
    let good = || sent(house, "5.0.0.0/8", length);
    let reason = |sentence: &str, packet, reason| leaves(sentence, inside, packet, reason);
    let protocol = |protocol: u8| {
        let (source, destination) = ([192, 0, 2, 1].into(), [5, 1, 2, 3].into());
        frame::ipv4(macs, source, destination, protocol, 64, &[8, 0, 1, 2, 3, 4, 5, 6])
    };
    // Total length and header length both right, so that nothing but the option speaks against it.
    let options = {
        let mut long = frame();
        let option = [7, 4, 4, 0];
        long.splice(34..34, option);
        long[14] = 0x46;
        long[17] += 4;
        fix_checksum(&mut long);
        long
    };
    let mut broken = frame();
    broken[24] ^= 0x80;
    let mut all = vec![
        record("UDP is forwarded", inside, frame(), good()),
        record(
            "TCP is forwarded",
            inside,
            protocol(6),
            sent(house, "5.0.0.0/8", 42),
        ),
        record(
            "an ICMP echo request is forwarded",
            inside,
            protocol(1),
            sent(house, "5.0.0.0/8", 42),
        ),
        record(
            "ESP is forwarded",
            inside,
            protocol(50),
            sent(house, "5.0.0.0/8", 42),
        ),
        record(
            "a protocol nobody knows is forwarded",
            inside,
            protocol(253),
            sent(house, "5.0.0.0/8", 42),
        ),
        record(
            "DSCP and ECN travel along",
            inside,
            with(frame(), 15, &[0xbb]),
            good(),
        ),
        record(
            "a first fragment is forwarded",
            inside,
            with(frame(), 20, &[0x20, 0]),
            good(),
        ),
        record(
            "a middle fragment is forwarded",
            inside,
            with(frame(), 20, &[0x20, 0xb9]),
            good(),
        ),
        record(
            "a last fragment is forwarded",
            inside,
            with(frame(), 20, &[0, 0xb9]),
            good(),
        ),
        record(
            "the reserved flag of RFC 3514 changes nothing",
            inside,
            with(frame(), 20, &[0x80, 0]),
            good(),
        ),
        record("a TTL of 2 leaves as 1", inside, with(frame(), 22, &[2]), good()),
        record(
            "a TTL of 255 leaves as 254",
            inside,
            with(frame(), 22, &[255]),
            good(),
        ),
        reason(
            "a TTL of 1 is the kernel's",
            with(frame(), 22, &[1]),
            Reason::TtlExpired,
        ),
        reason(
            "a TTL of 0 is the kernel's",
            with(frame(), 22, &[0]),
            Reason::TtlExpired,
        ),
        reason("a wrong checksum", broken, Reason::BadChecksum),
        reason(
            "version 6 in an IPv4 frame",
            with(frame(), 14, &[0x65]),
            Reason::BadVersion,
        ),
        reason("version 0", with(frame(), 14, &[0x05]), Reason::BadVersion),
        reason(
            "a header of 16 octets",
            with(frame(), 14, &[0x44]),
            Reason::BadHeaderLength,
        ),
        reason(
            "a header of 0 octets",
            with(frame(), 14, &[0x40]),
            Reason::BadHeaderLength,
        ),
        reason("options", options, Reason::Options),
        reason(
            "a total length of 19",
            with(frame(), 16, &[0, 19]),
            Reason::BadTotalLength,
        ),
        reason(
            "a total length of 0",
            with(frame(), 16, &[0, 0]),
            Reason::BadTotalLength,
        ),
        reason(
            "one octet more than came",
            with(frame(), 16, &[0, (length - 14 + 1) as u8]),
            Reason::BadTotalLength,
        ),
        reason(
            "a total length of 65535",
            with(frame(), 16, &[0xff, 0xff]),
            Reason::BadTotalLength,
        ),
        reason(
            "options that reach beyond the total length",
            with(with(frame(), 14, &[0x4f]), 16, &[0, 48]),
            Reason::BadTotalLength,
        ),
        record(
            "a total length of exactly the header goes, the rest is padding",
            inside,
            with(frame(), 16, &[0, 20]),
            sent(house, "5.0.0.0/8", 34),
        ),
    ];
    for octets in [[0x00u8, 0x00], [0xfe, 0xff], [0xff, 0xfe], [0x01, 0x00]] {
        // The identification makes the checksum whatever one likes.
        let mut edge = frame();
        for id in 0..=u16::MAX {
            edge = with(edge, 18, &id.to_be_bytes());
            if edge[24..26] == octets {
                break;
            }
        }
        assert_eq!(edge[24..26], octets);
        all.push(record(
            &format!("a checksum of {octets:02x?}"),
            inside,
            edge,
            good(),
        ));
    }
    all
}

fn addresses(house: &House) -> Vec<Record> {
    let p = house.ports;
    let from =
        |ingress: u32, source: [u8; 4]| with(udp4(house.macs(ingress), [5, 1, 2, 3], 64, 20), 26, &source);
    let to = |destination: [u8; 4]| udp4(house.macs(p.inside), destination, 64, 20);
    let good = || sent(house, "5.0.0.0/8", 62);
    let mut all = Vec::new();
    for (address, reason) in [
        ([224, 0, 0, 5], Reason::Multicast),
        ([239, 255, 255, 255], Reason::Multicast),
        ([169, 254, 0, 1], Reason::LinkLocal),
        ([127, 0, 0, 1], Reason::MartianAddress),
        ([0, 0, 0, 0], Reason::MartianAddress),
        ([0, 1, 2, 3], Reason::MartianAddress),
        ([255, 255, 255, 255], Reason::MartianAddress),
    ] {
        let name = format!("{address:?}");
        all.push(leaves(&format!("to {name}"), p.inside, to(address), reason));
        all.push(leaves(
            &format!("from {name}"),
            p.inside,
            from(p.inside, address),
            reason,
        ));
    }
    let neighbours = [
        [169, 253, 255, 255],
        [169, 255, 0, 0],
        [126, 255, 255, 255],
        [128, 0, 0, 0],
        [1, 0, 0, 0],
        [240, 0, 0, 1],
        [255, 255, 255, 254],
    ];
    for address in neighbours {
        all.push(record(
            &format!("from {address:?}, beside a special range"),
            p.inside,
            from(p.inside, address),
            good(),
        ));
    }
    for (source, reason) in [
        ([10, 0, 0, 1], Reason::BogonSource),
        ([100, 64, 0, 0], Reason::BogonSource),
        ([192, 168, 255, 255], Reason::BogonSource),
        ([240, 0, 0, 1], Reason::BogonSource),
        ([127, 0, 0, 1], Reason::BogonSource),
        ([198, 51, 100, 0], Reason::SpoofedSource),
        ([198, 51, 100, 255], Reason::SpoofedSource),
        ([203, 0, 113, 254], Reason::BogonSource),
    ] {
        all.push(leaves(
            &format!("from {source:?}, filtered"),
            p.edge,
            from(p.edge, source),
            reason,
        ));
    }
    for source in [
        [8, 8, 8, 8],
        [10, 9, 8, 2],
        [100, 128, 0, 0],
        [198, 51, 101, 0],
        [192, 0, 0, 9],
    ] {
        all.push(record(
            &format!("from {source:?}, not filtered"),
            p.edge,
            from(p.edge, source),
            good(),
        ));
    }
    all.push(record(
        "a bogon on an interface without a filter",
        p.inside,
        from(p.inside, [10, 0, 0, 1]),
        good(),
    ));
    all.push(leaves(
        "from our own address",
        p.inside,
        from(p.inside, [203, 0, 113, 254]),
        Reason::OwnSource,
    ));
    all
}
