//! What `forwarder bench` runs is the program that forwards, and leaves no mark.

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use forwarder::dataplane::{
    Sizes,
    bencher::{Bencher, Called, Laid},
    program::XDP,
};
use forwarder_common::{harness::Packet, reason::Reason};
use forwarder_tests::{frame, memory::Memory};

use super::house::{Expect, House, records};

const PACKETS: usize = 64;

/// The packet of a frame, as the harness has it.
fn packet(frame: &[u8]) -> Result<Packet> {
    Ok(match frame[12] {
        0x86 => Packet::v6(frame[22..38].try_into()?, frame[38..54].try_into()?),
        _ => Packet::v4(
            frame[22..26].try_into()?,
            frame[26..30].try_into()?,
            frame[30..34].try_into()?,
        ),
    })
}

#[test]
fn the_measuring_program_is_the_live_one_and_moves_nothing() -> Result<()> {
    for sources in [false, true] {
        let mut house = House::of(Sizes {
            slots: 512,
            sources,
            ..Sizes::SMALL
        })?;
        let mut bencher = Bencher::open(&house.sandbox.pins, 2 * PACKETS)?;
        let live: &Xdp = house
            .sandbox
            .programs
            .ebpf()
            .program(XDP)
            .context("no program")?
            .try_into()?;
        let length = live.info()?.size_translated().context("no length")?;
        ensure!(
            bencher.length()? == length,
            "{} octets of program, the live one has {length}",
            bencher.length()?
        );
        // One in so many is sampled, into a ring of its own.
        house.sandbox.engine.view().set_samples(3, 128);
        let ring = forwarder::samples::ring::Ring::open(&house.sandbox.pins)?;
        let mut memory = Memory::open(&house.sandbox.pins)?;
        let (ingress, macs) = (house.ports.inside, house.macs(house.ports.inside));
        let mut frames = [Vec::new(), Vec::new()];
        for number in 0..PACKETS {
            let low = number as u8;
            let four = frame::udp4(macs, [5, 1, 2, low], 64, 30);
            let six = frame::udp6(macs, format!("2a05::{number:x}").parse()?, 64, 30);
            bencher.lay(number, packet(&four)?);
            bencher.lay(PACKETS + number, packet(&six)?);
            frames = [four, six];
        }
        let exits = bencher.exits();
        for (six, frame) in [false, true].into_iter().zip(&frames) {
            let laid = Laid {
                six,
                first: usize::from(six) * PACKETS,
                packets: PACKETS,
            };
            for called in [Called::Idle, Called::Forwarder] {
                let ns = bencher.run(called, laid, 7, ingress, frame, 10_000)?;
                ensure!(ns > 0.0, "{ns}");
            }
        }
        // And everything else that a packet can meet.
        for record in records(&house) {
            let verdict = bencher.once(record.ingress, &record.packet)?;
            let forwarded = matches!(record.expect, Expect::Forwarded { .. });
            ensure!(
                (verdict == 4) == forwarded,
                "{}: verdict {verdict}",
                record.sentence
            );
        }
        let after = bencher.exits();
        let left = |reason: Reason| after[reason.index()] - exits[reason.index()];
        ensure!(
            left(Reason::Forwarded) > 20_000,
            "not every packet of a course is forwarded: {:?}",
            Reason::ALL
                .iter()
                .map(|reason| (reason.name(), left(*reason)))
                .filter(|(_, count)| *count != 0)
                .collect::<Vec<_>>()
        );
        let written = memory.written();
        ensure!(written.is_empty(), "{written:?}");
        ensure!(
            { ring }.take().is_none(),
            "a sample of the bench in the live ring"
        );
    }
    Ok(())
}
