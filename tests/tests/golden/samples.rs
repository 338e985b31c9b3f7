//! Samples: exactly what the program says of a packet, that the packet goes its way all the same, and that what finds no room is
//! counted.

use anyhow::{Context, Result, ensure};
use forwarder::samples::ring::Ring;
use forwarder_common::{
    reason::Reason,
    sample::{HEADER, RING_OCTETS, Sample, SampleCounter},
};
use forwarder_tests::{frame, sandbox::mac};

use super::house::{Expect, House, OUT4, OUT6, Record, leaves, record};

/// What a sample says beside its time and its frame.
type Said = (u32, u32, u32, u32, u32, u16);

fn said(sample: &Sample) -> Said {
    (
        sample.ingress,
        sample.egress,
        sample.slot,
        sample.length,
        sample.port,
        sample.reason,
    )
}

fn counted(house: &House) -> SampleCounter {
    let tables = house.sandbox.engine.view();
    let mut sum = SampleCounter::default();
    for port in 0..tables.sizes.ports {
        let one = tables.samples(port);
        (sum.taken, sum.lost) = (sum.taken + one.taken, sum.lost + one.lost);
    }
    sum
}

fn forwarded(sentence: &str, ingress: u32, egress: u32, packet: Vec<u8>, length: usize) -> Record {
    let (prefix, neighbour) = if packet[12] == 0x86 {
        ("2a05::/32", OUT6)
    } else {
        ("5.0.0.0/8", OUT4)
    };
    let expect = Expect::Forwarded {
        prefix,
        egress,
        neighbour,
        length,
    };
    record(sentence, ingress, packet, expect)
}

#[test]
fn a_sample_says_what_was_decided_and_changes_nothing() -> Result<()> {
    let mut house = House::new()?;
    let mut ring = Ring::open(&house.sandbox.pins)?;
    let p = house.ports;
    let macs = house.macs(p.inside);
    let long = frame::udp4(macs, [5, 1, 2, 3], 64, 1000);
    let six = frame::udp6(macs, "2a05::7".parse()?, 64, 20);
    let mut padded = frame::udp4(macs, [5, 1, 2, 3], 64, 2);
    let whole = padded.len();
    padded.resize(60, 0);
    let bogon = frame::with(
        frame::udp4(house.macs(p.edge), [5, 1, 2, 3], 64, 20),
        26,
        &[10, 1, 1, 1],
    );
    let bogon = frame::with(bogon, 24, &[0, 0]);
    let arp = frame::with(long[..60].to_vec(), 12, &[8, 6]);
    let short = long[..14].to_vec();
    let records = [
        forwarded("IPv4", p.inside, p.out, long.clone(), long.len()),
        forwarded("IPv6", p.inside, p.out, six.clone(), six.len()),
        forwarded("padding that is cut", p.inside, p.out, padded.clone(), whole),
        leaves("ARP", p.inside, arp, Reason::Arp),
        leaves("nothing but Ethernet", p.inside, short, Reason::Truncated),
    ];
    // Off: nothing.
    for record in &records {
        house.hold(record).context(record.sentence.clone())?;
    }
    ensure!(ring.take().is_none() && counted(&house) == SampleCounter::default());
    for octets in [HEADER as u32, 80] {
        house.sandbox.engine.view().set_samples(1, octets);
        for record in &records {
            let before = forwarder::clock::monotonic_ns();
            house.hold(record).context(record.sentence.clone())?;
            let after = forwarder::clock::monotonic_ns();
            let sample = ring
                .take()
                .with_context(|| format!("{}: no sample", record.sentence))?;
            ensure!(ring.take().is_none(), "{}: a second sample", record.sentence);
            let engine = &house.sandbox.engine;
            let port = engine.view().interfaces.get(record.ingress as usize).port;
            let length = record.packet.len() as u32;
            let expected: Said = match &record.expect {
                Expect::Leaves(reason) => (record.ingress, 0, 0, length, port, reason.index() as u16),
                Expect::Forwarded { prefix, egress, .. } => {
                    let slot = engine
                        .fib
                        .slot(engine.view(), prefix.parse()?)
                        .context("no slot")?;
                    (record.ingress, *egress, slot, length, port, 0)
                }
            };
            ensure!(
                said(&sample) == expected,
                "{}: {sample:?}, not {expected:?}",
                record.sentence
            );
            ensure!(
                sample.rate == 1 && (before..=after).contains(&sample.time_ns),
                "{}: {sample:?} between {before} and {after}",
                record.sentence
            );
            let neighbour = match &record.expect {
                Expect::Forwarded { neighbour, .. } => Some(neighbour.parse()?),
                Expect::Leaves(_) => None,
            };
            let filled = forwarder::samples::fill::fill(engine.view(), sample, Default::default());
            ensure!(
                filled.next_hop == neighbour,
                "{}: {:?}",
                record.sentence,
                filled.next_hop
            );
            // Of padding that is cut there is none left.
            let there = if record.packet == padded {
                whole
            } else {
                record.packet.len()
            };
            let captured = there.min(octets as usize);
            ensure!(
                filled.header() == &record.packet[..captured],
                "{}: {:02x?}",
                record.sentence,
                filled.header()
            );
        }
    }
    ensure!(counted(&house).taken == 2 * records.len() as u64);
    // A dropped packet; then one of an interface that is not configured, which nobody asked to have sampled.
    let (verdict, out) = house.sandbox.programs.run(p.edge, &bogon)?;
    let sample = ring.take().context("no sample of what is dropped")?;
    let reason = Reason::from_index(sample.reason.into()).context("a reason")?;
    ensure!(
        (verdict, &out) == (1, &bogon) && reason == Reason::BogonSource && sample.egress == 0,
        "verdict {verdict}, {}",
        reason.name()
    );
    let stranger = frame::with(long, 0, &mac(p.unknown));
    house.hold(&leaves("unconfigured", p.unknown, stranger, Reason::Unconfigured))?;
    ensure!(ring.take().is_none(), "a sample of nobody's");
    Ok(())
}

#[test]
fn a_full_ring_loses_samples_and_no_packet() -> Result<()> {
    let house = House::new()?;
    let mut ring = Ring::open(&house.sandbox.pins)?;
    let p = house.ports;
    house.sandbox.engine.view().set_samples(1, HEADER as u32);
    let packet = frame::udp4(house.macs(p.inside), [5, 1, 2, 3], 64, 100);
    // A record has a head of eight octets.
    let room = u64::from(RING_OCTETS) / (size_of::<Sample>() as u64 + 8);
    let packets = room + 500;
    for _ in 0..packets {
        let (verdict, _) = house.sandbox.programs.run(p.inside, &packet)?;
        ensure!(verdict == 4, "verdict {verdict}");
    }
    let count = counted(&house);
    ensure!(
        count.taken + count.lost == packets && (room - 1..=room).contains(&count.taken),
        "{count:?} of {packets}"
    );
    let mut read = 0;
    while ring.take().is_some() {
        read += 1;
    }
    ensure!(read == count.taken, "{read} read, {count:?}");
    house.sandbox.programs.run(p.inside, &packet)?;
    ensure!(ring.take().is_some(), "there is room again");
    Ok(())
}

#[test]
fn one_in_ten_is_one_in_ten() -> Result<()> {
    const PACKETS: u64 = 20_000;
    let house = House::new()?;
    let mut ring = Ring::open(&house.sandbox.pins)?;
    let p = house.ports;
    let tables = house.sandbox.engine.view();
    // What a CPU has drawn for another rate does not keep it from this one.
    tables.set_samples(1_000_000_000, HEADER as u32);
    let packet = frame::udp4(house.macs(p.inside), [5, 1, 2, 3], 64, 100);
    let arp = frame::with(packet.clone(), 12, &[8, 6]);
    for _ in 0..100 {
        house.sandbox.programs.run(p.inside, &packet)?;
    }
    ensure!(ring.take().is_none(), "one in a thousand million");
    tables.set_samples(10, HEADER as u32);
    let port = tables.interfaces.get(p.inside as usize).port;
    let before = forwarder::daemon::ports::received(tables, port);
    let mut reasons = [0u64; 2];
    for number in 0..PACKETS {
        let packet = if number % 2 == 0 { &packet } else { &arp };
        house.sandbox.programs.run(p.inside, packet)?;
        while let Some(sample) = ring.take() {
            reasons[usize::from(sample.reason != 0)] += 1;
        }
    }
    let pool = forwarder::daemon::ports::received(tables, port) - before;
    ensure!(pool == PACKETS, "a pool of {pool}");
    // Gaps are even in 1..=19: variance 30, so that of their number is 20,000 x 30 / 10^3, and a deviation is 25. Each packet of
    // a regular stream is as likely to be taken as another: of the two kinds each has half of the samples, a deviation of 22.
    let taken = reasons[0] + reasons[1];
    ensure!(taken.abs_diff(PACKETS / 10) <= 5 * 25, "{taken} samples");
    ensure!(reasons[0].abs_diff(reasons[1]) <= 5 * 45, "{reasons:?}");
    ensure!(counted(&house).lost == 0);
    Ok(())
}
