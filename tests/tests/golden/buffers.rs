//! Frames in several buffers: what is longer than the page that the kernel's test run puts a frame in.

use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use aya::maps::{DevMap, Map};
use forwarder::{
    dataplane::{Array, Region, Sizes, attach::Programs},
    samples::ring::Ring,
};
use forwarder_common::{
    directory::{Meta, SEVERAL_BUFFERS},
    maps,
    reason::Reason,
    sample::HEADER,
};
use forwarder_tests::{
    frame::{self, pad, with},
    kernel,
    ledger::{Ledger, Name},
    routes::via,
    sandbox::{Sandbox, Spec, index_of, ip},
};

use super::house::{Expect, House, Record, leaves, record};

/// Octets of a frame that fit the first buffer: a page without headroom (256) and `skb_shared_info`.
const FIRST: usize = 4096 - 256 - 320;
/// Octets of Ethernet, IPv4 and UDP headers.
const HEAD4: usize = 42;
/// The same of IPv6.
const HEAD6: usize = 62;
/// The longest frame of an MTU of 9000.
const LONGEST: usize = 9014;
/// Gateways by the interface that takes frames in several buffers, and by the one that does not.
const GATEWAYS: [[&str; 2]; 2] = [["203.0.113.20", "2a00:9::20"], ["203.0.113.21", "2a00:9::21"]];

/// Adds two interfaces of jumbo frames to the house; answers them.
pub fn furnish(house: &mut House) -> Result<[u32; 2]> {
    // However long it takes.
    house.sandbox.stamp(0, 0);
    let mut found = [0; 2];
    for (index, name) in ["big0", "big1"].into_iter().enumerate() {
        let sandbox = &mut house.sandbox;
        let ifindex = sandbox.interface_of(&Spec {
            name,
            mtu: 9000,
            several: index == 0,
            ..Spec::default()
        })?;
        let [v4, v6] = GATEWAYS[index];
        sandbox.neighbour(ifindex, v4);
        sandbox.neighbour(ifindex, v6);
        sandbox.announce(via(&format!("8.{index}.0.0/16"), ifindex, v4)?);
        sandbox.announce(via(&format!("2a08:{index}::/32"), ifindex, v6)?);
        found[index] = ifindex;
    }
    Ok(found)
}

/// A frame of so many octets, to the one interface or the other.
fn four(house: &House, to: u8, octets: usize) -> Vec<u8> {
    frame::udp4(house.macs(house.ports.inside), [8, to, 2, 3], 64, octets - HEAD4)
}

fn six(house: &House, to: u16, octets: usize) -> Vec<u8> {
    let destination = [0x2a08, to, 0, 0, 0, 0, 0, 1].into();
    frame::udp6(house.macs(house.ports.inside), destination, 64, octets - HEAD6)
}

/// Behind the packet there are octets up to this length.
fn behind(frame: Vec<u8>, octets: usize) -> Vec<u8> {
    pad(frame, octets)
}

fn records(house: &House, big: [u32; 2]) -> Vec<Record> {
    let inside = house.ports.inside;
    let mut all = Vec::new();
    let prefixes = [["8.0.0.0/16", "2a08:0::/32"], ["8.1.0.0/16", "2a08:1::/32"]];
    for octets in [
        1023,
        1024,
        1025,
        1514,
        FIRST - 1,
        FIRST,
        FIRST + 1,
        4095,
        4096,
        4097,
        7616,
        8192,
        LONGEST,
    ] {
        for to in [0, 1] {
            for (family, packet) in [four(house, to as u8, octets), six(house, to as u16, octets)]
                .into_iter()
                .enumerate()
            {
                let expect = if to == 0 || octets <= FIRST {
                    Expect::Forwarded {
                        prefix: prefixes[to][family],
                        egress: big[to],
                        neighbour: GATEWAYS[to][family],
                        length: octets,
                    }
                } else {
                    Expect::Leaves(Reason::MultiBuffer)
                };
                let sentence = format!("{octets} octets by big{to}");
                all.push(record(&sentence, inside, packet, expect));
            }
        }
    }
    let whole = four(house, 0, LONGEST);
    let short = four(house, 0, 60);
    let with_length = |length: u16| with(whole.clone(), 16, &length.to_be_bytes());
    all.extend([
        leaves(
            "longer than the MTU",
            inside,
            four(house, 0, LONGEST + 1),
            Reason::TooBig,
        ),
        leaves(
            "the same of IPv6",
            inside,
            six(house, 0, LONGEST + 1),
            Reason::TooBig,
        ),
        leaves(
            "longer than an MTU of 1500",
            inside,
            frame::udp4(house.macs(inside), [5, 1, 2, 3], 64, 8000),
            Reason::TooBig,
        ),
        leaves(
            "a short packet, and octets behind it in other buffers",
            inside,
            behind(short, LONGEST),
            Reason::TrailingBytes,
        ),
        leaves(
            "a packet that ends with the first buffer, and octets behind it",
            inside,
            behind(four(house, 0, FIRST), LONGEST),
            Reason::TrailingBytes,
        ),
        leaves(
            "the same of IPv6",
            inside,
            behind(six(house, 0, FIRST), FIRST + 1),
            Reason::TrailingBytes,
        ),
        leaves(
            "four octets behind a long one",
            inside,
            with_length(8996),
            Reason::TrailingBytes,
        ),
        leaves(
            "longer than all of its buffers",
            inside,
            with_length(9001),
            Reason::BadTotalLength,
        ),
        leaves(
            "its TTL ends here",
            inside,
            with(whole.clone(), 22, &[1]),
            Reason::TtlExpired,
        ),
        leaves(
            "for this router",
            inside,
            with(whole.clone(), 30, &[7, 1, 0, 1]),
            Reason::Local,
        ),
        leaves(
            "a bogon",
            house.ports.edge,
            with(
                frame::udp4(house.macs(house.ports.edge), [8, 0, 2, 3], 64, LONGEST - HEAD4),
                26,
                &[10, 1, 1, 1],
            ),
            Reason::BogonSource,
        ),
        leaves(
            "no IP",
            inside,
            with(whole.clone(), 12, &[0x88, 0xb5]),
            Reason::OtherProtocol,
        ),
        leaves("another's", inside, with(whole, 5, &[0x77]), Reason::OtherMac),
    ]);
    all
}

#[test]
fn frames_in_several_buffers_are_sent_where_they_are_taken_and_counted_whole() -> Result<()> {
    let mut house = House::new()?;
    let big = furnish(&mut house)?;
    let records = records(&house, big);
    let failures = house.hold_all(&records);
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    ensure!(house.reached.contains(&Reason::MultiBuffer));
    Ok(())
}

#[test]
fn a_sample_of_a_long_frame_tells_its_length() -> Result<()> {
    let mut house = House::new()?;
    furnish(&mut house)?;
    let inside = house.ports.inside;
    let mut ring = Ring::open(&house.sandbox.pins)?;
    house.sandbox.engine.view().set_samples(1, HEADER as u32);
    for to in [0, 1] {
        let packet = four(&house, to, LONGEST);
        house.sandbox.programs.run(inside, &packet)?;
        let sample = ring.take().context("no sample")?;
        ensure!(
            (sample.length as usize, sample.captured as usize) == (LONGEST, HEADER),
            "{sample:?}"
        );
        ensure!(sample.header[..] == packet[..HEADER], "{sample:?}");
    }
    Ok(())
}

/// Hardware may put headers in a buffer of their own, and a driver may leave the first one empty.
#[test]
fn what_is_hardly_in_its_first_buffer_goes_up_and_is_counted_whole() -> Result<()> {
    let mut house = House::new()?;
    furnish(&mut house)?;
    let inside = house.ports.inside;
    let packet = four(&house, 0, 900);
    let tag = [0x81, 0, 0, 77];
    let tagged = [&packet[..12], &tag, &packet[12..]].concat();
    let cases = [
        ("no IP header", packet.clone(), 14, Reason::MultiBuffer),
        ("half of it", packet.clone(), 30, Reason::MultiBuffer),
        ("the headers", packet.clone(), HEAD4, Reason::MultiBuffer),
        ("nearly all", packet.clone(), 899, Reason::MultiBuffer),
        (
            "the headers of IPv6",
            six(&house, 0, 900),
            HEAD6,
            Reason::MultiBuffer,
        ),
        ("a VLAN's that is not served", tagged, 46, Reason::Tagged),
        (
            "no IP",
            with(packet.clone(), 12, &[0x88, 0xb5]),
            60,
            Reason::OtherProtocol,
        ),
        (
            "another's",
            with(packet.clone(), 5, &[0x77]),
            60,
            Reason::OtherMac,
        ),
    ];
    let is_new = kernel::version()? >= (6, 18);
    for (sentence, packet, first, reason) in cases {
        let before = Ledger::read(house.sandbox.engine.view());
        let ran = house.sandbox.programs.run_split(inside, &packet, first);
        // Kernels before 6.18 may refuse to lay a frame so; some have had it added.
        if ran.is_err() && !is_new {
            continue;
        }
        let (verdict, out) = ran.with_context(|| sentence.to_string())?;
        let moved = Ledger::read(house.sandbox.engine.view()).since(&before);
        ensure!(
            verdict == 2 && out == packet,
            "{sentence}: verdict {verdict}, {out:02x?}"
        );
        let [(Name::Reason(_, index), counter)] = moved[..] else {
            anyhow::bail!("{sentence}: {moved:?}");
        };
        ensure!(
            Reason::from_index(index) == Some(reason) && counter.bytes == packet.len() as u64,
            "{sentence}: {moved:?}"
        );
    }
    Ok(())
}

/// As those that an earlier version made, whose redirect map the kernel does not let this program use.
#[test]
fn pins_of_an_earlier_version_get_another_redirect_map_with_the_same_entries() -> Result<()> {
    let sandbox = Sandbox::new(Sizes::SMALL)?;
    let pins = &sandbox.pins;
    let id = || -> Result<u32> { Ok(pins.data(maps::DEVICES)?.info()?.id()) };
    let first = id()?;
    pins.renew_devices()?;
    ensure!(id()? == first, "another one where none is needed");

    ip("link add left type veth peer name right")?;
    let (left, right) = (index_of("left")?, index_of("right")?);
    // A link that is pinned by its name; and one whose device has gone.
    std::fs::create_dir_all(pins.links())?;
    let mut programs = Programs::load(pins, sandbox.engine.view().sizes)?;
    programs.attach(left, "left", false)?;
    let gone = pins.links().join("xdp-4711");
    pins.data(maps::SETTINGS)?.pin(&gone)?;
    let meta = pins.meta()?;
    let region = Region::map(pins.data(maps::META)?.fd().as_fd(), size_of::<Meta>(), true)?;
    let old = Meta {
        features: meta.features & !SEVERAL_BUFFERS,
        ..meta
    };
    Array::new(region, 1).set(0, &old);
    let refused = Programs::load(pins, sandbox.engine.view().sizes).err();
    ensure!(
        refused.is_some_and(|why| why.to_string().contains("restart the controller")),
        "loaded beside an earlier version"
    );
    pins.renew_devices()?;
    ensure!(id()? != first && pins.meta()? == meta);
    let devices = DevMap::try_from(Map::from_map_data(pins.data(maps::DEVICES)?)?)?;
    ensure!(devices.get(left, 0)?.if_index == left, "its entry is lost");
    ensure!(devices.get(right, 0).is_err(), "an entry that nobody asked for");
    let second = id()?;
    pins.renew_devices()?;
    ensure!(id()? == second);
    drop(Programs::load(pins, sandbox.engine.view().sizes)?);
    Ok(())
}
