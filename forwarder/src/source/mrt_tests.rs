//! Dumps made by hand.

use std::io::Write;

use proptest::prelude::*;

use super::*;

fn record(kind: u16, subtype: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = 1_700_000_000u32.to_be_bytes().to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(subtype.to_be_bytes());
    bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Two peers: 192.0.2.1 of AS 64501, 2001:db8::2 of AS 4200000002.
fn peers() -> Vec<u8> {
    let mut body = vec![10, 0, 0, 1, 0, 0, 0, 2];
    body.extend([2, 10, 0, 0, 2, 192, 0, 2, 1]);
    body.extend(64_501u32.to_be_bytes());
    body.extend([3, 10, 0, 0, 3]);
    body.extend("2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
    body.extend(4_200_000_002u32.to_be_bytes());
    record(13, 1, &body)
}

fn attribute(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[0x40, kind, u8::try_from(value.len()).unwrap()], value].concat()
}

/// ORIGIN, AS_PATH of these.
fn path(ases: &[u32]) -> Vec<u8> {
    let mut value = vec![2, u8::try_from(ases.len()).unwrap()];
    ases.iter().for_each(|asn| value.extend(asn.to_be_bytes()));
    [attribute(1, &[0]), attribute(2, &value)].concat()
}

fn rib(subtype: u16, prefix: &[u8], entries: &[(u16, Option<u32>, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 9];
    body.extend(prefix);
    body.extend(u16::try_from(entries.len()).unwrap().to_be_bytes());
    for (peer, path_id, attributes) in entries {
        body.extend(peer.to_be_bytes());
        body.extend([0, 0, 0, 1]);
        body.extend(path_id.map(u32::to_be_bytes).into_iter().flatten());
        body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
        body.extend(attributes);
    }
    record(13, subtype, &body)
}

/// What is said of a file with these octets.
fn told(octets: &[u8]) -> Option<String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), octets).expect("written");
    let all: Result<Vec<Entry>, Error> = open(file.path()).expect("opened").collect();
    all.err().map(|why| why.to_string())
}

#[test]
fn a_file_that_is_empty_or_cut_is_no_dump_however_it_is_compressed() {
    let whole = dump();
    assert_eq!(told(&whole), None);
    assert_eq!(
        told(&[]).as_deref(),
        Some("record 1 at octet 0: the file is empty")
    );
    // In the header of the last record, and in its body.
    let last = whole.len() - 3;
    assert!(told(&whole[..last]).is_some());
    let header = peers().len() + 5;
    let why = told(&whole[..header]).expect("cut");
    assert!(
        why.contains("record 2") && why.contains("cut in this record"),
        "{why}"
    );
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&whole).expect("memory");
    let gz = gz.finish().expect("memory");
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&whole).expect("memory");
    let bz = bz.finish().expect("memory");
    for packed in [gz, bz] {
        assert_eq!(told(&packed), None);
        // Wherever it is cut: also where everything that can be unpacked is whole records.
        for cut in [5, packed.len() / 2, packed.len() - 1] {
            assert!(told(&packed[..cut]).is_some(), "cut to {cut} of {}", packed.len());
        }
    }
}

/// Peers; 198.51.100.0/24 by both; 2001:db8:7::/48 by the second; 10.0.0.0/8 with path ids.
fn dump() -> Vec<u8> {
    let first = [
        path(&[64_501, 64_510]),
        attribute(3, &[192, 0, 2, 1]),
        attribute(4, &[0, 0, 0, 50]),
        attribute(5, &[0, 0, 0, 200]),
        attribute(8, &[0xfb, 0xf5, 0, 7, 0xff, 0xff, 0xff, 1]),
        attribute(16, &[0, 2, 0xfb, 0xf5, 0, 0, 0, 9]),
        attribute(32, &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]),
    ]
    .concat();
    let second = [path(&[4_200_000_002]), attribute(3, &[192, 0, 2, 9])].concat();
    let mut next_hop = vec![32];
    next_hop.extend("2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
    next_hop.extend("fe80::2".parse::<Ipv6Addr>().unwrap().octets());
    let sixth = [path(&[4_200_000_002]), attribute(14, &next_hop)].concat();
    [
        peers(),
        rib(
            2,
            &[24, 198, 51, 100],
            &[(0, None, first), (1, None, second.clone())],
        ),
        rib(4, &[48, 0x20, 1, 0xd, 0xb8, 0, 7], &[(1, None, sixth)]),
        rib(8, &[8, 10], &[(0, Some(5), second.clone()), (0, Some(6), second)]),
    ]
    .concat()
}

fn read(bytes: &[u8]) -> Vec<Entry> {
    Dump::new(bytes).map(Result::unwrap).collect()
}

#[test]
fn prefixes_come_with_every_peers_path_and_all_attributes() {
    let entries = read(&dump());
    let prefixes: Vec<String> = entries.iter().map(|entry| entry.prefix.to_string()).collect();
    assert_eq!(prefixes, ["198.51.100.0/24", "2001:db8:7::/48", "10.0.0.0/8"]);
    let [first, second] = &entries[0].paths[..] else {
        panic!()
    };
    assert_eq!((first.peer.index, first.peer.asn), (0, 64_501));
    assert_eq!(
        first.gateway.unwrap().address,
        "192.0.2.1".parse::<IpAddr>().unwrap()
    );
    let wanted = Attributes {
        as_path: vec![Segment::Sequence(vec![64_501, 64_510])],
        local_pref: 200,
        med: Some(50),
        communities: vec![0xfbf5_0007, 0xffff_ff01],
        extended: vec![[0, 2, 0xfb, 0xf5, 0, 0, 0, 9]],
        large: vec![[1, 2, 3]],
        originator: u32::from_be_bytes([10, 0, 0, 2]),
        external: true,
        protocol: 186,
        ..Attributes::default()
    };
    assert_eq!(*first.attributes, wanted);
    assert_eq!(second.attributes.origin_as(), Some(4_200_000_002));
    assert_eq!((second.attributes.local_pref, second.attributes.med), (100, None));
    let gateway = entries[1].paths[0].gateway.unwrap();
    assert_eq!(gateway.address, "2001:db8::2".parse::<IpAddr>().unwrap());
    assert_eq!(gateway.link_local, Some("fe80::2".parse().unwrap()));
    let ids: Vec<u32> = entries[2].paths.iter().map(|path| path.path_id).collect();
    assert_eq!(ids, [5, 6]);
}

#[test]
fn a_file_may_be_plain_gzip_or_bzip2_whatever_its_name() {
    let dir = std::env::temp_dir().join(format!("forwarder-mrt-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&dump()).unwrap();
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&dump()).unwrap();
    for bytes in [dump(), gz.finish().unwrap(), bz.finish().unwrap()] {
        let file = dir.join("rib");
        std::fs::write(&file, bytes).unwrap();
        let entries: Vec<Entry> = open(&file).unwrap().map(Result::unwrap).collect();
        assert_eq!(entries, read(&dump()));
    }
    std::fs::remove_dir_all(&dir).unwrap();
    let missing = open(&dir.join("none")).err().unwrap().to_string();
    assert!(
        missing.contains("none") && missing.contains("No such file"),
        "{missing}"
    );
}

/// What is said of the first thing that is wrong.
fn fails(bytes: &[u8]) -> String {
    let mut dump = Dump::new(bytes);
    let error = dump.find_map(Result::err).expect("nothing is wrong");
    assert!(dump.next().is_none(), "it ends there");
    error.to_string()
}

#[test]
fn an_error_names_record_and_offset() {
    let whole = dump();
    let (peers, route) = (peers(), rib(2, &[8, 10], &[(7, None, path(&[1]))]));
    let offset = peers.len();
    assert_eq!(
        fails(&[&peers[..], &route].concat()),
        format!("record 2 at octet {offset}: 10.0.0.0/8: peer 7 is not in the list of peers")
    );
    assert_eq!(
        fails(&route),
        "record 1 at octet 0: a route before the list of peers"
    );
    let cut = fails(&whole[..whole.len() - 1]);
    assert!(cut.starts_with("record 4 at octet "), "{cut}");
    let old = fails(&record(12, 1, &[0; 26]));
    assert!(old.contains("only TABLE_DUMP_V2 is read"), "{old}");
    let long = fails(
        &record(13, 2, &[0; 3])
            .iter()
            .copied()
            .take(8)
            .chain([255; 4])
            .collect::<Vec<_>>(),
    );
    assert!(long.starts_with("record 1 at octet 0: "), "{long}");
    // Two entries promised, one there.
    let mut short = rib(2, &[8, 10], &[(0, None, path(&[1]))]);
    short[12 + 4 + 2 + 1] = 2;
    let short = fails(&[&peers[..], &short].concat());
    assert!(
        short.ends_with("10.0.0.0/8: entry 2 of 2 cannot be read"),
        "{short}"
    );
}

#[test]
fn what_is_no_unicast_route_is_left_out_and_counted() {
    let bytes = [
        peers(),
        rib(3, &[8, 239], &[(0, None, path(&[1]))]),
        record(13, 6, &[0; 20]),
        record(16, 4, &[0; 40]),
        rib(2, &[0], &[]),
    ]
    .concat();
    let mut dump = Dump::new(&bytes[..]);
    let entry = dump.next().unwrap().unwrap();
    assert_eq!(
        (entry.prefix.to_string(), entry.paths.len()),
        ("0.0.0.0/0".into(), 0)
    );
    assert!(dump.next().is_none());
    assert_eq!(dump.left_out(), 3);
}

proptest! {
    #[test]
    fn a_dump_may_be_changed_in_any_way(
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8),
        end in any::<usize>(),
    ) {
        let mut bytes = dump();
        for (position, value) in changes {
            let position = position % bytes.len();
            bytes[position] = value;
        }
        bytes.truncate(1 + end % bytes.len());
        let read = Dump::new(&bytes[..]).count();
        prop_assert!(read <= 5);
    }
}
