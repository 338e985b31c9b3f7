//! A router that forwards, drops and passes known packets: what figures are compared with.

use anyhow::{Result, ensure};

use crate::{
    frame,
    lab::{LIMIT, Lab},
    traffic::MACS,
};

/// Packets that [`send`] sends of each family that are forwarded, and to a blackhole.
pub const PACKETS: usize = 300;
/// Those whose TTL ends: fewer than are let up to the kernel in a second.
pub const ENDING: usize = 30;

/// The router, with a route for each kind.
///
/// # Errors
/// No lab.
pub fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.0.0.0/8 via 10.2.0.2")?;
    lab.ip("router", "route add 2a05::/32 via fd00:2::2")?;
    lab.ip("router", "route add blackhole 5.128.0.0/16")?;
    for address in ["10.2.0.2", "fd00:2::2"] {
        lab.resolve("router", address)?;
    }
    Ok(lab)
}

/// Sends them and waits until those that are forwarded have arrived.
///
/// # Errors
/// Some are lost.
pub fn send(lab: &Lab) -> Result<()> {
    let (from, to) = (lab.wire("a")?, lab.wire("b")?);
    lab.wait("the next hops to be usable", || {
        let usable = |prefix: &str| -> Result<bool> {
            Ok(lab.json(&format!("routes {prefix}"))?[0]["state"] == "usable")
        };
        Ok((usable("5.0.0.0/8")? && usable("2a05::/32")?).then_some(()))
    })?;
    let ours = |frame: &[u8]| frame.get(6..12) == Some(&[2, 0, 0, 0, 2, 1]);
    let lots = PACKETS / 50;
    for lot in 0..lots {
        for number in 0..50 {
            from.send(&frame::udp4(MACS, [5, 1, lot as u8, number], 64, 100))?;
            from.send(&frame::udp6(MACS, "2a05::7".parse()?, 64, 90))?;
            from.send(&frame::udp4(MACS, [5, 128, 1, number], 64, 30))?;
        }
        for number in 0..ENDING / lots {
            from.send(&frame::udp4(MACS, [5, 1, 1, number as u8], 1, 30))?;
        }
        let arrived = to.collect(100, LIMIT, ours)?;
        ensure!(
            arrived.len() >= 100,
            "{} of 100 arrived\n{}",
            arrived.len(),
            lab.picture()
        );
    }
    Ok(())
}
