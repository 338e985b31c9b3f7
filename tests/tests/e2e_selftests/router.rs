//! router.sh: echoes of both families, odd sources and destinations, multicast to another MAC.

use anyhow::{Result, ensure};
use forwarder_tests::{
    frame::{self, UDP},
    lab::Lab,
    mroute,
    operator::{forwarded, settle},
};

use super::{MACS, PACKETS, TO_B, counted, crosses, pings};

/// Hosts a and b, and a router that knows both.
fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.resolve_carriers()?;
    for address in ["10.1.0.2", "fd00:1::2"] {
        lab.resolve("router", address)?;
    }
    Ok(lab)
}

fn settled(lab: &Lab) -> Result<()> {
    ["10.1.0.2", "10.2.0.2", "fd00:1::2", "fd00:2::2"]
        .iter()
        .try_for_each(|address| settle(lab, address, &[address]))
}

#[test]
fn echoes_cross_the_router() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    settled(&lab)?;
    pings(&lab, "10.2.0.2", &["b"])?;
    pings(&lab, "fd00:2::2", &["b"])?;
    drop(controller);
    Ok(())
}

#[test]
fn odd_sources_and_destinations_are_forwarded() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    settled(&lab)?;
    let (a, b) = (lab.wire("a")?, lab.wire("b")?);
    let wires = [&a, &b];
    let udp = frame::udp(54_321, 12_345, 10);
    let four = |from: [u8; 4], to: [u8; 4]| frame::ipv4(MACS, from.into(), to.into(), UDP, 255, &udp);
    let own = "fd00:2::2".parse()?;
    // Class E (sip_in_class_e), and the destination itself as source (ipv4_sip_equal_dip, ipv6_sip_equal_dip).
    for (sent, name) in [
        (four([240, 0, 0, 1], [10, 2, 0, 2]), "from class E"),
        (four([10, 2, 0, 2], [10, 2, 0, 2]), "from the destination"),
        (
            frame::ipv6(MACS, own, own, UDP, 255, &udp),
            "from the destination, IPv6",
        ),
    ] {
        let before = forwarded(&lab, "a")?;
        crosses(&lab, wires, &sent, TO_B)?;
        let moved = forwarded(&lab, "a")? - before;
        ensure!(
            moved == PACKETS as i64,
            "{name}: forwarded {moved}\n{}",
            lab.picture()
        );
    }
    // A link-local destination (ipv4_dip_link_local) is the kernel's.
    lab.ip("router", "neigh add 169.254.1.1 lladdr 00:11:22:33:44:55 dev b")?;
    lab.ip("router", "route add 169.254.1.0/24 dev b")?;
    let before = (forwarded(&lab, "a")?, counted(&lab, "a", "link-local")?);
    let sent = four([10, 1, 0, 2], [169, 254, 1, 1]);
    crosses(&lab, wires, &sent, ([0, 0x11, 0x22, 0x33, 0x44, 0x55], TO_B.1))?;
    let moved = (
        forwarded(&lab, "a")? - before.0,
        counted(&lab, "a", "link-local")? - before.1,
    );
    ensure!(moved == (0, PACKETS as i64), "{moved:?}\n{}", lab.picture());
    drop(controller);
    Ok(())
}

#[test]
fn multicast_to_another_mac_is_routed_as_multicast() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    settled(&lab)?;
    let (a, b) = (lab.wire("a")?, lab.wire("b")?);
    let odd = ([1, 2, 3, 4, 5, 6], MACS.1);
    let udp = frame::udp(54_321, 12_345, 10);
    let (from4, group4) = ([10, 1, 0, 2].into(), [225, 1, 2, 3].into());
    let (from6, group6) = ("fd00:1::2".parse()?, "ff0e::3".parse()?);
    let routers = lab.inside("router", || {
        Ok((
            mroute::route4("a", "b", from4, group4)?,
            mroute::route6("a", "b", from6, group6)?,
        ))
    })?;
    for (sent, mac) in [
        (
            frame::ipv4(odd, from4, group4, UDP, 255, &udp),
            [1, 0, 0x5e, 1, 2, 3],
        ),
        (
            frame::ipv6(odd, from6, group6, UDP, 255, &udp),
            [0x33, 0x33, 0, 0, 0, 3],
        ),
    ] {
        let before = (forwarded(&lab, "a")?, counted(&lab, "a", "link-multicast")?);
        crosses(&lab, [&a, &b], &sent, (mac, TO_B.1))?;
        let moved = (
            forwarded(&lab, "a")? - before.0,
            counted(&lab, "a", "link-multicast")? - before.1,
        );
        // Hosts have multicast of their own to tell.
        ensure!(
            moved.0 == 0 && moved.1 >= PACKETS as i64,
            "{moved:?}\n{}",
            lab.picture()
        );
    }
    drop((controller, routers));
    Ok(())
}
