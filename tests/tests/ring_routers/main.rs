//! Two routers with BIRD, keepalived and forwarder on bonds with VLANs: one dies and comes back, and both may believe that they are
//! the gateway.

mod journey;

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    lab::{Lab, run},
    operator::{figure, patient, row, settle},
    ring::{self, CABLES},
    twins::{Running, Twins, held, keepalived},
};
use journey::{FLOWS, Tally};

/// Packets of each flow in a stretch during which nothing happens.
const STRETCH: u64 = 200;

/// Everything arrived, once.
fn whole(tallies: &[Tally]) -> Result<()> {
    for (flow, tally) in FLOWS.iter().zip(tallies) {
        ensure!(
            tally.lost() == 0,
            "{}: {} lost of {}",
            flow.name,
            tally.lost(),
            tally.sent
        );
    }
    once(tallies)
}

/// Nothing arrived twice.
fn once(tallies: &[Tally]) -> Result<()> {
    for (flow, tally) in FLOWS.iter().zip(tallies) {
        ensure!(tally.twice() == 0, "{}: {} twice", flow.name, tally.twice());
    }
    Ok(())
}

/// Waits until both routers send what goes to the nets by the carrier that is nearer to them.
fn routed(twins: &Twins) -> Result<()> {
    settle(&twins.a, "33.1.0.9", &["33.10.0.1"])?;
    settle(&twins.a, "33.2.0.9", &["10.10.9.2"])?;
    settle(&twins.a, "2a1f:2::9", &["fd00:10::2"])?;
    settle(&twins.b, "33.1.0.9", &["10.10.9.1"])?;
    settle(&twins.b, "33.2.0.9", &["33.20.0.1"])?;
    settle(&twins.b, "2a1f:2::9", &["2a1f:20::1"])?;
    // The net knows our prefixes by both.
    for (prefix, family) in [("192.0.2.0/24", "-4"), ("2001:db8::/32", "-6")] {
        patient(&twins.a, "the net to send by carrier A", || {
            let rows = twins.a.ip_json("a", &format!("{family} route show {prefix}"))?;
            Ok((rows[0]["dev"] == "ta").then_some(()))
        })?;
    }
    Ok(())
}

/// Both routers know who is around them: packets that wait for that go up to the kernel.
fn resolved(twins: &Twins) -> Result<()> {
    for (lab, addresses) in [
        (&twins.a, ["33.10.0.1", "10.10.9.2", "fd00:10::2", "2a1f:10::1"]),
        (&twins.b, ["33.20.0.1", "10.10.9.1", "fd00:10::1", "2a1f:20::1"]),
    ] {
        for address in
            addresses
                .iter()
                .chain(&["192.0.2.11", "192.0.2.12", "2001:db8:1::11", "2001:db8:1::12"])
        {
            lab.resolve("router", address)?;
        }
    }
    Ok(())
}

/// Nothing is missing from the sums of a router, in the end.
fn closed(lab: &Lab) -> Result<()> {
    ["bond0", "t0"]
        .iter()
        .try_for_each(|root| ring::closed(lab, root))
}

fn forwarded(lab: &Lab) -> Result<i64> {
    let of = |ifname: &str| figure(&row(lab, "interfaces", "ifname", ifname)?, "forwarded_packets");
    Ok(of("bond0.20")? + of("bond0.10")? + of("t0")?)
}

/// The power fails: no cable carries, no process runs, and nobody has said goodbye.
fn power_off(lab: &Lab, running: Running<'_>) -> Result<()> {
    for name in CABLES.iter().chain(&["t0"]) {
        lab.ip("router", &format!("link set dev {name} down"))?;
    }
    let Running {
        mut bird,
        keepalived,
        controller,
    } = running;
    let vrrp =
        std::fs::read_to_string(lab.dir().join("vrrp.pid")).context("keepalived left no process id")?;
    // SAFETY: a signal to keepalived's own child, which its parent has not waited for.
    unsafe { libc::kill(vrrp.trim().parse()?, libc::SIGKILL) };
    keepalived.context("keepalived does not run")?.kill()?;
    bird.kill()?;
    controller.kill()
}

fn power_on(lab: &Lab) -> Result<()> {
    // A machine that starts has none of this.
    for name in ["keepalived.pid", "vrrp.pid"] {
        std::fs::remove_file(lab.dir().join(name)).with_context(|| name.to_owned())?;
    }
    let detached = lab.forwarder("detach")?;
    ensure!(
        detached.status.success(),
        "{}",
        String::from_utf8_lossy(&detached.stderr)
    );
    for name in ["vrrp4.7", "vrrp6.7"] {
        lab.ip("router", &format!("link del dev {name}"))?;
    }
    for name in CABLES.iter().chain(&["t0"]) {
        lab.ip("router", &format!("link set dev {name} up"))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs bonding and 8021q: cargo xtask vm"]
fn a_router_dies_and_comes_back() -> Result<()> {
    let twins = Twins::new()?;
    let (_net, [a, b]) = twins.start(true)?;
    twins.gateway_at(&twins.a)?;
    routed(&twins)?;
    resolved(&twins)?;

    let before = [forwarded(&twins.a)?, forwarded(&twins.b)?];
    println!("nothing happens:");
    let ((), tallies) = journey::under(&twins, |journey| journey.flows(STRETCH))?;
    whole(&tallies)?;
    let sent: u64 = tallies.iter().map(|tally| tally.sent).sum();
    let by_xdp = forwarded(&twins.a)? - before[0];
    println!(
        "  {sent} packets, forwarded by the program of A {by_xdp}, of B {}",
        forwarded(&twins.b)? - before[1]
    );
    // Everything passes A, and what the kernel was given is not forwarded.
    ensure!(
        by_xdp >= sent as i64,
        "{by_xdp} of {sent} by the program\n{}",
        twins.a.picture()
    );

    println!("router A dies:");
    let ((), tallies) = journey::under(&twins, |journey| {
        journey.flows(STRETCH / 4)?;
        power_off(&twins.a, a)?;
        patient(&twins.b, "B to be the gateway", || {
            Ok((held(&twins.b)? == 2).then_some(()))
        })?;
        settle(&twins.b, "33.1.0.9", &["33.20.0.1"])?;
        journey.flows(STRETCH)
    })?;
    once(&tallies)?;
    println!("B is alone:");
    let ((), tallies) = journey::under(&twins, |journey| journey.flows(STRETCH / 2))?;
    whole(&tallies)?;

    println!("router A comes back:");
    let (a, tallies) = journey::under(&twins, |journey| {
        journey.flows(STRETCH / 4)?;
        power_on(&twins.a)?;
        let a = twins.router(&twins.a, 1, true)?;
        twins.gateway_at(&twins.a)?;
        journey.flows(STRETCH)?;
        Ok(a)
    })?;
    once(&tallies)?;
    routed(&twins)?;
    resolved(&twins)?;
    println!("as before:");
    let ((), tallies) = journey::under(&twins, |journey| journey.flows(STRETCH / 2))?;
    whole(&tallies)?;
    closed(&twins.a)?;
    closed(&twins.b)?;
    drop((a, b));
    Ok(())
}

/// A firewall that keeps the routers from hearing each other makes two gateways with one MAC address.
#[test]
#[ignore = "needs bonding and 8021q: cargo xtask vm"]
fn two_gateways_at_once_are_said_and_loop_nothing() -> Result<()> {
    let twins = Twins::new()?;
    let (_net, [a, b]) = twins.start(true)?;
    twins.gateway_at(&twins.a)?;
    routed(&twins)?;
    resolved(&twins)?;
    let nft = |line: &str| run(twins.b.command("router", "nft").args(line.split_whitespace()));
    println!("B hears nothing of A:");
    let ((), tallies) = journey::under(&twins, |journey| {
        journey.flows(STRETCH / 4)?;
        nft("add table inet deaf")?;
        nft("add chain inet deaf in { type filter hook input priority 0 ; }")?;
        nft("add rule inet deaf in meta l4proto vrrp drop")?;
        patient(&twins.b, "B to be a gateway, too", || {
            Ok((held(&twins.b)? == 2).then_some(()))
        })?;
        ensure!(held(&twins.a)? == 2, "A gave up\n{}", twins.a.picture());
        journey.flows(STRETCH)?;
        nft("delete table inet deaf")?;
        twins.gateway_at(&twins.a)?;
        journey.flows(STRETCH / 2)
    })?;
    // The switches learn now one, now the other; none of them sends a frame to both.
    once(&tallies)?;
    println!("one gateway again:");
    let ((), tallies) = journey::under(&twins, |journey| journey.flows(STRETCH / 2))?;
    whole(&tallies)?;
    closed(&twins.a)?;
    closed(&twins.b)?;
    drop((a, b));
    Ok(())
}

/// Without `use_vmac` the address moves from one router's MAC address to the other's.
#[test]
#[ignore = "needs bonding and 8021q: cargo xtask vm"]
fn a_gateway_without_a_virtual_mac_moves_for_maintenance_and_returns() -> Result<()> {
    let twins = Twins::new()?;
    let (_net, [mut a, b]) = twins.start(false)?;
    let has = |lab: &Lab| -> Result<bool> {
        let rows = lab.ip_json("router", "addr show dev bond0.20 to 192.0.2.1")?;
        Ok(rows[0]["addr_info"].is_array())
    };
    let at = |wanted: [bool; 2]| {
        patient(&twins.b, &format!("the gateway at {wanted:?}"), || {
            Ok(([has(&twins.a)?, has(&twins.b)?] == wanted).then_some(()))
        })
    };
    at([true, false])?;
    routed(&twins)?;
    resolved(&twins)?;
    println!("A's keepalived is stopped and started:");
    let ((), tallies) = journey::under(&twins, |journey| {
        journey.flows(STRETCH / 4)?;
        a.keepalived.take().context("keepalived does not run")?.stop()?;
        at([false, true])?;
        journey.flows(STRETCH)?;
        a.keepalived = Some(keepalived(&twins.a, 1, false)?);
        at([true, false])?;
        journey.flows(STRETCH)
    })?;
    once(&tallies)?;
    for (lab, running) in [(&twins.a, &a), (&twins.b, &b)] {
        closed(lab).with_context(|| running.controller.log())?;
    }
    Ok(())
}
