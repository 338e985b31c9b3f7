//! A machine with so many CPUs that their prefix counters are more than one element of a map.

use anyhow::{Context, Result, ensure};
use forwarder::dataplane::Sizes;
use forwarder_common::{counters::Counter, direct::MAX_OCTETS};
use forwarder_tests::frame;

use super::house::House;

#[test]
fn prefixes_are_counted_where_the_counters_are_more_than_one_element() -> Result<()> {
    let sizes = Sizes {
        slots: 1 << 19,
        cpus: 64,
        ..Sizes::SMALL
    };
    let octets = u64::from(sizes.slots) * u64::from(sizes.cpus) * size_of::<Counter>() as u64;
    ensure!(octets > MAX_OCTETS, "{octets} octets are one element");
    let mut house = House::of(sizes)?;
    let (ingress, macs) = (house.ports.inside, house.macs(house.ports.inside));
    let packet = frame::udp4(macs, [5, 1, 2, 3], 64, 20);
    house.tracer.run(ingress, &packet)?;
    for _ in 0..3 {
        let (verdict, _) = house.sandbox.programs.run(ingress, &packet)?;
        ensure!(verdict == 4, "verdict {verdict}");
    }
    let engine = &house.sandbox.engine;
    let slot = engine
        .fib
        .slot(engine.view(), "5.0.0.0/8".parse()?)
        .context("no slot")?;
    let counted = engine.view().slot_counter(slot);
    let expected = Counter {
        packets: 3,
        bytes: 3 * packet.len() as u64,
    };
    ensure!(counted == expected, "{counted:?}");
    Ok(())
}
