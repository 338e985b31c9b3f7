//! Law 2 over packets nobody thought of.

use anyhow::{Result, ensure};
use forwarder_common::{counters::Counter, reason::Reason};
use forwarder_tests::{ledger::Ledger, random::Random};

use super::house::{self, House};

/// Mutated packets in the test.
const PACKETS: usize = 20_000;

/// A frame of the records, with octets changed, cut or grown.
fn mutate(random: &mut Random, seed: &[u8]) -> Vec<u8> {
    let mut packet = seed.to_vec();
    for _ in 0..random.below(4) {
        match random.below(6) {
            0 => {
                let at = random.below(packet.len());
                packet[at] = random.bits() as u8;
            }
            1 => {
                let at = random.below(packet.len());
                packet[at] ^= 1 << random.below(8);
            }
            // Mostly headers, where it matters.
            2 | 3 => {
                let at = random.below(packet.len().min(60));
                packet[at] = *random.pick(&[0, 1, 2, 0x45, 0x60, 0x7f, 0x80, 0xfe, 0xff, 58, 133]);
            }
            4 => packet.truncate(14 + random.below(packet.len() - 13)),
            _ => packet.extend((0..random.below(64)).map(|octet| octet as u8)),
        }
    }
    // Half of the time the checksum is made right, so that the rest of the header is looked at.
    if random.below(2) == 0 && packet.len() >= 34 && packet[12..14] == [8, 0] {
        forwarder_tests::frame::fix_checksum(&mut packet);
    }
    packet
}

#[test]
fn every_packet_is_accounted_once_and_the_sums_agree() -> Result<()> {
    let mut house = House::new()?;
    let seeds = house::records(&house);
    let before = Ledger::read(house.sandbox.engine.view()).totals();
    let mut random = Random::new(2);
    let mut sent = Counter::default();
    let mut forwarded = Counter::default();
    for _ in 0..PACKETS {
        let seed = random.pick(&seeds);
        let packet = mutate(&mut random, &seed.packet);
        let traced = house.tracer.run(seed.ingress, &packet)?;
        let (action, out) = house.sandbox.programs.run(seed.ingress, &packet)?;
        ensure!(
            (traced.action, &traced.packet) == (action, &out),
            "trace and live differ for {packet:02x?}"
        );
        let once = Counter {
            packets: 1,
            bytes: packet.len() as u64,
        };
        sent = sent.plus(once);
        if action == 4 {
            forwarded = forwarded.plus(once);
            ensure!(traced.trace.reason == Reason::Forwarded as u32);
            ensure!(
                packet[12..14] != [8, 0] || forwarder_tests::frame::checksum_holds(&out),
                "a broken checksum goes out: {out:02x?} for {packet:02x?}"
            );
        } else {
            ensure!(
                out == packet,
                "touched without being forwarded: {out:02x?} for {packet:02x?}"
            );
        }
    }
    let now = Ledger::read(house.sandbox.engine.view()).totals();
    ensure!(now.received.since(before.received) == sent, "{now:?}");
    for (name, counter) in [
        ("forwarded", now.forwarded),
        ("prefixes", now.prefixes),
        ("next hops", now.nexthops),
        ("egress", now.egress),
    ] {
        ensure!(
            counter == forwarded,
            "{name}: {counter:?}, forwarded {forwarded:?}"
        );
    }
    ensure!(forwarded.packets > PACKETS as u64 / 10, "{forwarded:?}");
    ensure!(forwarded.packets < sent.packets * 9 / 10, "{forwarded:?}");
    Ok(())
}
