//! Seeds for the fuzz targets: what daemons said, from the recordings under tests/data, and what this kernel says, cut to
//! what each target reads. `cargo xtask fuzz` runs it with the directory to write to.

use std::{
    fs,
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use forwarder::source::{
    bgp::{
        attributes,
        wire::{self, Kind as Type, LONGEST_EXTENDED},
    },
    record::Player,
    tap::Kind,
};
use forwarder_tests::frame;

/// A seed at most: what is longer teaches a fuzzer nothing that its beginning does not.
const LONGEST: usize = 16 * 1024;

/// A list of one peer, 192.0.2.1 of AS 64501 (RFC 6396 4.3.1).
const PEERS: [u8; 33] = [
    0, 0, 0, 0, 0, 13, 0, 1, 0, 0, 0, 21, 10, 0, 0, 1, 0, 0, 0, 1, 2, 10, 0, 0, 2, 192, 0, 2, 1, 0, 0, 251,
    245,
];

/// The action of most rules: a rate of 0 octets (RFC 8955 7.1).
const DISCARD: [u8; 8] = [0x80, 6, 0, 0, 0, 0, 0, 0];

fn main() -> Result<()> {
    let Some(to) = std::env::args_os().nth(1) else {
        bail!("fuzz-seeds DIRECTORY");
    };
    let mut seeds = Seeds {
        to: to.into(),
        written: 0,
    };
    recorded(&mut seeds)?;
    kernel(&mut seeds)?;
    stacked(&mut seeds)?;
    frames(&mut seeds)?;
    println!("{}", seeds.written);
    Ok(())
}

/// What every recording of the tree gives.
fn recorded(seeds: &mut Seeds) -> Result<()> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    for path in recordings(&data)? {
        recording(&path, seeds).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn recordings(data: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for kind in fs::read_dir(data).with_context(|| data.display().to_string())? {
        for entry in fs::read_dir(kind?.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rec") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

struct Seeds {
    to: PathBuf,
    written: usize,
}

impl Seeds {
    fn add(&mut self, target: &str, octets: &[u8]) -> Result<()> {
        let dir = self.to.join(target);
        fs::create_dir_all(&dir)?;
        self.written += 1;
        let octets = &octets[..octets.len().min(LONGEST)];
        Ok(fs::write(dir.join(format!("{:05}", self.written)), octets)?)
    }
}

fn recording(path: &Path, seeds: &mut Seeds) -> Result<()> {
    let whole = fs::read(path)?;
    seeds.add("record", &whole)?;
    let player = Player::open(BufReader::new(&whole[..]))?;
    let kind = player.kind.clone();
    if kind == "fpm" {
        seeds.add("fpm", &whole)?;
    }
    // Sessions one by one: what one of them was in the middle of is not gone on with in the next.
    let mut stream = Vec::new();
    for chunk in player {
        let chunk = chunk?;
        match chunk.kind {
            Kind::Read => stream.extend(chunk.bytes),
            Kind::Begin | Kind::End | Kind::Missed => {
                session(&kind, &std::mem::take(&mut stream), seeds)?;
            }
        }
    }
    session(&kind, &stream, seeds)
}

fn session(kind: &str, stream: &[u8], seeds: &mut Seeds) -> Result<()> {
    match kind {
        _ if stream.is_empty() => Ok(()),
        "bgp" => bgp(stream, seeds),
        "fpm" => fpm(stream, seeds),
        // Datagrams one behind the other are messages one behind the other.
        "kernel" => netlink(stream, seeds),
        other => bail!("a recording of {other}"),
    }
}

/// Frames of zebra are messages of netlink.
fn fpm(mut stream: &[u8], seeds: &mut Seeds) -> Result<()> {
    while let [_, _, high, low, ..] = stream {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((frame, rest)) = stream.split_at_checked(length.max(4)) else {
            break;
        };
        seeds.add("netlink", &frame[4..])?;
        stream = rest;
    }
    Ok(())
}

fn bgp(stream: &[u8], seeds: &mut Seeds) -> Result<()> {
    for external in [0, 1] {
        let mut pieces = vec![external];
        for piece in stream.chunks(255) {
            pieces.extend([0, piece.len() as u8]);
            pieces.extend(piece);
        }
        seeds.add("bgp_stream", &pieces)?;
    }
    let mut rest = stream;
    while let Ok(Some((message, length))) = wire::first(rest, LONGEST_EXTENDED) {
        rest = &rest[length..];
        if message.kind == Type::Update {
            update(message.body, seeds)?;
        }
    }
    Ok(())
}

fn update(body: &[u8], seeds: &mut Seeds) -> Result<()> {
    // Internal and external; four octets and IPv6; without and with ADD-PATH.
    for terms in [0b0_0110, 0b0_0111, 0b1_1110, 0b1_1111] {
        seeds.add("bgp_update", &[&[terms], body].concat())?;
    }
    let Some((withdrawn, rest)) = counted(body) else {
        return Ok(());
    };
    let Some((list, nlri)) = counted(rest) else {
        return Ok(());
    };
    let mut key = Vec::new();
    let Ok(parts) = attributes::split(list, &mut key) else {
        return Ok(());
    };
    for (value, head, withdrawn) in [(parts.reach, 5, 0), (parts.unreach, 3, 2)] {
        if let Some([0, afi @ 1..=2, 133, ..]) = value
            && let Some(rules) = value.and_then(|value| value.get(head..))
        {
            seeds.add("flowspec", &[&[afi - 1 + withdrawn], rules].concat())?;
            seeds.add("flow_rule", &[&[afi - 1 + 2], &DISCARD[..], rules].concat())?;
        }
    }
    // A table dump with the same attributes and the first prefix (RFC 6396 4.3.2, 4.3.4).
    for prefixes in [nlri, withdrawn] {
        let Some(prefix) = prefixes
            .first()
            .and_then(|bits| prefixes.get(..1 + usize::from(bits.div_ceil(8))))
        else {
            continue;
        };
        let mut route = vec![0; 4];
        route.extend(prefix);
        route.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        route.extend(u16::try_from(list.len())?.to_be_bytes());
        route.extend(list);
        let mut dump = PEERS.to_vec();
        dump.extend([0, 0, 0, 0, 0, 13, 0, 2]);
        dump.extend(u32::try_from(route.len())?.to_be_bytes());
        dump.extend(&route);
        seeds.add("mrt", &dump)?;
        seeds.add("mrt", &[&[2], &route[..]].concat())?;
    }
    Ok(())
}

/// A field with its length of two octets, and what follows it.
fn counted(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Sampled frames, behind their length, what became of them and where they went.
fn frames(seeds: &mut Seeds) -> Result<()> {
    let macs = ([2; 6], [4; 6]);
    let (four, six) = ("192.0.2.9".parse()?, "2001:db8::9".parse()?);
    let mut tcp = frame::udp(443, 50_000, 12);
    tcp[12..14].copy_from_slice(&[0x50, 0x12]);
    // Hop-by-hop options, a fragment, ICMPv6.
    let extended = [44, 0, 1, 4, 0, 0, 0, 0, 58, 0, 0, 1, 0, 0, 0, 7, 128, 0, 0, 0];
    let plain = frame::udp4(macs, [192, 0, 2, 1], 64, 40);
    let tagged = [&plain[..12], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6], &plain[12..]].concat();
    for octets in [
        &plain,
        &tagged,
        &frame::udp6(macs, six, 64, 40),
        &frame::ipv4(macs, four, four, frame::TCP, 64, &tcp),
        &frame::ipv6(macs, six, six, 0, 64, &extended),
        &frame::ethernet(macs.0, macs.1, 0x0806),
    ] {
        seeds.add("sample", &[&[2, 0, 1], &octets[..]].concat())?;
    }
    Ok(())
}

/// Links that the machine may be without: a VLAN with a map, a bond under LACP, a member of one. Numbers of attributes
/// are those of include/uapi/linux/if_link.h.
fn stacked(seeds: &mut Seeds) -> Result<()> {
    let attribute = |kind: u16, value: &[u8]| {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        let mut octets = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        octets.extend(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    };
    let map = attribute(1, &[6, 0, 0, 0, 5, 0, 0, 0]);
    let vlan = [
        attribute(5, &[0x88, 0xa8]),
        attribute(1, &[100, 0]),
        attribute(3, &map),
    ];
    let lacp = attribute(1, &[2, 0]);
    let bond = [
        attribute(1, &[4]),
        attribute(2, &[3, 0, 0, 0]),
        attribute(14, &[1]),
        attribute(23, &lacp),
    ];
    let member = [attribute(1, &[0]), attribute(2, &[0]), attribute(6, &[2, 0])];
    for (kind, data, of_kind, of_data) in [
        ("vlan", vlan.concat(), 1, 2),
        ("bond", bond.concat(), 1, 2),
        ("bond", member.concat(), 4, 5),
    ] {
        let info = [attribute(of_kind, kind.as_bytes()), attribute(of_data, &data)].concat();
        let mut body = vec![0, 0, 1, 0, 9, 0, 0, 0, 67, 0, 1, 0, 0, 0, 0, 0];
        body.extend(
            [
                attribute(3, b"up0\0"),
                attribute(5, &[5, 0, 0, 0]),
                attribute(18, &info),
            ]
            .concat(),
        );
        let length = u32::try_from(16 + body.len())?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(libc::RTM_NEWLINK.to_ne_bytes());
        message.resize(16, 0);
        message.extend(body);
        seeds.add("netlink", &message)?;
    }
    Ok(())
}

/// What this kernel answers when it is asked for links, addresses, neighbours, rules and next-hop objects.
fn kernel(seeds: &mut Seeds) -> Result<()> {
    const DUMPED: [u16; 6] = [
        libc::RTM_GETLINK,
        libc::RTM_GETADDR,
        libc::RTM_GETNEIGH,
        libc::RTM_GETROUTE,
        libc::RTM_GETRULE,
        106, // RTM_GETNEXTHOP (include/uapi/linux/rtnetlink.h)
    ];
    for kind in DUMPED {
        for datagram in dump(kind)? {
            netlink(&datagram, seeds)?;
        }
    }
    Ok(())
}

/// One by one: their kinds are what matters, not how many fit into a datagram.
fn netlink(datagram: &[u8], seeds: &mut Seeds) -> Result<()> {
    for message in messages(datagram).unwrap_or_default() {
        seeds.add("netlink", message)?;
    }
    Ok(())
}

/// The datagrams of a dump.
fn dump(kind: u16) -> Result<Vec<Vec<u8>>> {
    let failed = || std::io::Error::last_os_error();
    // SAFETY: plain numbers in, a descriptor out.
    let socket = unsafe {
        libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_ROUTE,
        )
    };
    if socket < 0 {
        return Err(failed()).context("cannot open a netlink socket");
    }
    // SAFETY: a descriptor that is ours alone.
    let socket = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket) };
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    let mut request = 36_u32.to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    request.resize(36, 0);
    // SAFETY: as many octets as it is told.
    if unsafe { libc::send(fd, request.as_ptr().cast(), request.len(), 0) } < 0 {
        return Err(failed()).context("cannot send a netlink request");
    }
    let mut datagrams = Vec::new();
    loop {
        let mut datagram = vec![0; 64 * 1024];
        // SAFETY: as much room as it is told.
        let length = unsafe { libc::recv(fd, datagram.as_mut_ptr().cast(), datagram.len(), 0) };
        let Ok(length) = usize::try_from(length) else {
            return Err(failed()).context("cannot read from a netlink socket");
        };
        datagram.truncate(length);
        // NLMSG_ERROR, NLMSG_DONE.
        let last =
            messages(&datagram).is_none_or(|all| all.iter().any(|message| matches!(message[4], 2 | 3)));
        datagrams.push(datagram);
        if last {
            return Ok(datagrams);
        }
    }
}

/// The messages of a datagram, each with its header of 16 octets; `None` where they cannot be told apart.
fn messages(mut datagram: &[u8]) -> Option<Vec<&[u8]>> {
    let mut all = Vec::new();
    while !datagram.is_empty() {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        all.push(datagram.get(..length).filter(|message| message.len() >= 16)?);
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cargo xtask fuzz` begins with them: a recording of a new kind must not end it.
    #[test]
    fn every_recording_of_the_tree_gives_seeds() {
        let to = std::env::temp_dir().join(format!("fuzz-seeds-{}", std::process::id()));
        let mut seeds = Seeds {
            to: to.clone(),
            written: 0,
        };
        let result = recorded(&mut seeds);
        let targets = [
            "bgp_stream",
            "bgp_update",
            "flow_rule",
            "flowspec",
            "fpm",
            "mrt",
            "netlink",
            "record",
        ];
        let there = targets.map(|target| to.join(target).is_dir());
        fs::remove_dir_all(&to).expect("its own directory");
        result.expect("seeds");
        assert_eq!(there, [true; 8], "{targets:?}");
    }
}
