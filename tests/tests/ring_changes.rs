//! What becomes of a bond's members and of VLANs while packets cross: a cable that flaps, another tag, another parent.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use forwarder_tests::{
    lab::Lab,
    operator::{figure, patient, row},
    packets::Wire,
    ring::{self, CABLES, LACP, cable_of, closed, cross, far, flow, sends},
};

const FLOWS: u16 = 60;
/// How long a cable flaps, and how long it is as it is.
const FLAPPING: Duration = Duration::from_secs(60);
const HALF: Duration = Duration::from_millis(50);

/// How many packets of each flow of VLAN 10 were sent and arrived while something was done.
fn under(lab: &Lab, work: impl FnOnce() -> Result<()>) -> Result<BTreeMap<u16, [u64; 2]>> {
    let (from, to) = (lab.wire("a")?, far(lab, "bond0.10")?);
    let (stop, quiet) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<u64> {
            let mut rounds = 0;
            while !stop.load(Relaxed) {
                for number in 0..FLOWS {
                    from.send(&flow(10, number))?;
                    std::thread::sleep(Duration::from_millis(1));
                }
                rounds += 1;
            }
            Ok(rounds)
        });
        let receiver = scope.spawn(|| -> Result<BTreeMap<u16, u64>> {
            let mut arrived = BTreeMap::new();
            let ours = |frame: &[u8]| frame.get(30..32) == Some(&[5, 10]);
            while !quiet.load(Relaxed) {
                if let Some(frame) = to.receive(Duration::from_millis(100), ours)? {
                    *arrived
                        .entry(u16::from_be_bytes([frame[32], frame[33]]))
                        .or_default() += 1;
                }
            }
            Ok(arrived)
        });
        let result = work();
        stop.store(true, Relaxed);
        let rounds = sender.join().map_err(|_| anyhow!("the sender panicked"))??;
        std::thread::sleep(Duration::from_secs(2));
        quiet.store(true, Relaxed);
        let arrived = receiver.join().map_err(|_| anyhow!("the receiver panicked"))??;
        result?;
        let both = |number| (number, [rounds, arrived.get(&number).copied().unwrap_or(0)]);
        Ok((0..FLOWS).map(both).collect())
    })
}

#[test]
#[ignore = "needs bonding and 8021q: cargo xtask vm"]
fn a_cable_that_flaps_for_a_minute_disturbs_its_own_flows_and_no_others() -> Result<()> {
    let lab = ring::lab(LACP)?;
    let mut controller = lab.start(&["a", "bond0"], "")?;
    let from = lab.wire("a")?;
    let by_cable: Vec<Wire> = CABLES
        .iter()
        .map(|cable| far(&lab, cable))
        .collect::<Result<_>>()?;
    let ends: Vec<&Wire> = by_cable.iter().collect();
    let first: Vec<usize> = (0..FLOWS)
        .map(|number| cable_of(&from, &ends, number))
        .collect::<Result<_>>()
        .with_context(|| lab.picture())?;
    drop(by_cable);
    let mut flaps = 0;
    let flows = under(&lab, || {
        let until = Instant::now() + FLAPPING;
        while Instant::now() < until {
            for state in ["down", "up"] {
                lab.ip("b", &format!("link set dev m2 {state}"))?;
                std::thread::sleep(HALF);
            }
            flaps += 1;
        }
        Ok(())
    })?;
    let mut lost = [0; 2];
    for (number, [sent, arrived]) in &flows {
        let flapped = first[usize::from(*number)] == 1;
        lost[usize::from(flapped)] += sent - arrived;
        ensure!(arrived <= sent, "flow {number}: {arrived} of {sent} arrived");
    }
    println!(
        "the cable went down {flaps} times: lost of its flows {}, of others {}",
        lost[1], lost[0]
    );
    ensure!(
        lost[0] == 0,
        "{} packets of other cables' flows lost\n{}",
        lost[0],
        lab.picture()
    );
    ensure!(controller.alive()?, "{}", controller.log());
    // And it is used again when it has come to rest.
    sends(&lab, "m2")?;
    let before = figure(&row(&lab, "interfaces", "ifname", "m2")?, "transmitted_packets")?;
    patient(&lab, "the cable to be used again", || {
        cross(
            &from,
            &far(&lab, "bond0.10")?,
            &(0..FLOWS).map(|number| flow(10, number)).collect::<Vec<_>>(),
        )?;
        let now = figure(&row(&lab, "interfaces", "ifname", "m2")?, "transmitted_packets")?;
        Ok((now > before).then_some(()))
    })?;
    closed(&lab, "bond0")?;
    drop(controller);
    Ok(())
}

/// A VLAN keeps its name and gets another tag, and then another parent; packets of another VLAN notice nothing.
#[test]
#[ignore = "needs bonding and 8021q: cargo xtask vm"]
fn a_vlan_gets_another_tag_and_another_parent_while_its_neighbour_carries_on() -> Result<()> {
    let lab = ring::lab(LACP)?;
    let controller = lab.start(&["a", "bond0", "c"], "")?;
    let from = lab.wire("a")?;
    let make = |node: &str, lower: &str, id: u16, last: u8| -> Result<()> {
        lab.ip(
            node,
            &format!("link add link {lower} name members type vlan id {id}"),
        )?;
        lab.ip(node, &format!("addr add 10.50.0.{last}/24 dev members"))?;
        lab.ip(node, "link set dev members up")
    };
    let carries = |far: &str, id: u16, lower: &str| -> Result<()> {
        lab.ip("router", "route replace 5.50.0.0/16 via 10.50.0.2")?;
        lab.resolve("router", "10.50.0.2")?;
        let frames: Vec<Vec<u8>> = (0..FLOWS).map(|number| flow(50, number)).collect();
        let to = lab.inside(far, || Wire::open("members"))?;
        patient(
            &lab,
            &format!("VLAN {id} on {lower} to be forwarded by the program"),
            || {
                let before = figure(&row(&lab, "interfaces", "ifname", "a")?, "forwarded_packets")?;
                cross(&from, &to, &frames)?;
                let now = figure(&row(&lab, "interfaces", "ifname", "a")?, "forwarded_packets")?;
                Ok((now - before >= i64::from(FLOWS)).then_some(()))
            },
        )
    };
    let flows = under(&lab, || {
        for (id, lower, far, last) in [(50, "bond0", "b", 2), (60, "bond0", "b", 2), (60, "c", "c", 2)] {
            make(far, lower, id, last)?;
            make("router", lower, id, 1)?;
            carries(far, id, lower)?;
            lab.ip("router", "link del dev members")?;
            lab.ip(far, "link del dev members")?;
        }
        Ok(())
    })?;
    for (number, [sent, arrived]) in flows {
        ensure!(
            sent == arrived,
            "flow {number} of the other VLAN: {arrived} of {sent}\n{}",
            lab.picture()
        );
    }
    // Gone for good: the route went with it, and nothing is left of it but its figures.
    patient(&lab, "the VLAN to be gone", || {
        Ok((row(&lab, "interfaces", "ifname", "members")?["mode"] == "detached").then_some(()))
    })?;
    for root in ["bond0", "c", "a"] {
        closed(&lab, root)?;
    }
    drop(controller);
    Ok(())
}
