//! Golden packets through the live program: a sentence, a packet in, a packet out, a verdict, and exactly which counters
//! moved. The same packet through the tracing instance must come out the same and move nothing.

mod accounts;
mod bench;
mod budget;
mod buffers;
mod churn;
mod dry;
mod ecmp;
mod ethernet;
mod fuzz;
mod house;
mod ipv4;
mod ipv4_routes;
mod ipv6;
mod large;
mod law;
mod lines;
mod origin;
mod punt;
mod ring;
mod samples;
mod situations;

use anyhow::{Result, ensure};
use forwarder_common::reason::Reason;
use forwarder_tests::frame;

use self::house::House;

#[test]
fn every_record_holds_and_every_reason_is_reached() -> Result<()> {
    let mut house = House::new()?;
    let records = house::records(&house);
    let mut failures = house.hold_all(&records);
    failures.extend(situations::run(&mut house)?);
    failures.extend(punt::run(&mut house));
    failures.extend(dry::run(&mut house, &records)?);
    for reason in Reason::ALL {
        // In the kernel's test run there is always room in front of a frame; which member a bond uses is in `ring`, and frames in
        // several buffers in `buffers`.
        let elsewhere = matches!(
            reason,
            Reason::NoHeadroom | Reason::MemberInactive | Reason::MultiBuffer
        );
        if !elsewhere && !house.reached.contains(reason) {
            failures.push(format!("no record reached {}", reason.name()));
        }
    }
    ensure!(
        failures.is_empty(),
        "{} of {} records fail:\n{}",
        failures.len(),
        records.len(),
        failures.join("\n")
    );
    Ok(())
}

/// The kernel's own arithmetic and a computation from scratch agree for every checksum a header can have.
#[test]
fn the_kernels_checksum_is_the_right_one() {
    let macs = ([2; 6], [4; 6]);
    let mut packet = frame::udp4(macs, [5, 1, 2, 3], 64, 0);
    for id in 0..=u16::MAX {
        packet = frame::with(packet, 18, &id.to_be_bytes());
        let before = u16::from_be_bytes([packet[24], packet[25]]);
        let after = frame::routed(&packet, [2; 6], [4; 6], packet.len());
        // ip_decrease_ttl works on the octets as they lie; on a little-endian host 0x0100 is its 1.
        let kernel = frame::ip_decrease_ttl(before);
        assert_eq!(
            kernel.to_be_bytes(),
            after[24..26],
            "checksum {before:#06x}: scratch and kernel differ"
        );
    }
}
