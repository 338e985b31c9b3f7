//! Law 2 from the first packet: the sums close, although they began while packets came as fast as a cable takes them.

use std::time::Duration;

use anyhow::{Result, ensure};
use forwarder::{daemon::ports, dataplane::pins::Pins};
use forwarder_tests::{
    flood::Flood,
    frame::udp4,
    lab::Lab,
    operator::{patient, row},
};

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]);
/// Starts, each of which takes baselines anew.
const ROUNDS: usize = 4;
/// By how many packets a baseline may be wrong on a line that is never quiet: those of a few batches of a driver.
const MOST: u16 = 1_000;

#[test]
fn sums_that_begin_under_a_flood_close_when_it_is_over() -> Result<()> {
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.0.0.0/8 via 10.2.0.2")?;
    lab.resolve_carriers()?;
    let frames = (0..64u8)
        .map(|number| udp4(MACS, [5, 1, 0, number], 64, 40))
        .collect::<Vec<_>>();
    for _ in 0..ROUNDS {
        let flood = Flood::start(&lab, "a", frames.clone())?;
        let controller = lab.start(&["a", "b"], "")?;
        std::thread::sleep(Duration::from_millis(500));
        let report = flood.stop()?;
        for ifname in ["a", "b"] {
            patient(&lab, &format!("the sums of {ifname} to close"), || {
                let found = row(&lab, "interfaces", "ifname", ifname)?;
                Ok((found["ingress_residue"] == 0 && found["egress_residue"] == 0).then_some(()))
            })?;
        }
        let tables = Pins::new(&lab.pins()).open(false)?;
        let slacks: Vec<[u16; 2]> = ports::used(&tables).map(|(_, entry)| entry.slack).collect();
        println!(
            "{} packets in {:.1} s; baselines may be wrong by {slacks:?}",
            report.sent, report.seconds
        );
        ensure!(slacks.iter().flatten().all(|slack| *slack < MOST), "{slacks:?}");
        controller.stop()?;
        let detached = lab.forwarder("detach")?;
        ensure!(
            detached.status.success(),
            "{}",
            String::from_utf8_lossy(&detached.stderr)
        );
    }
    Ok(())
}
