//! What the tests of bonds and VLANs need and not every kernel has. They are called `ring_*`, are ignored outside, and run
//! under `cargo xtask vm`.

use anyhow::{Context, Result};

use crate::sandbox::{Home, ip, new_namespace};

/// Fails with what to do unless this kernel can make devices of these kinds, as `ip link add type` names them: bond,
/// vlan, dummy, macvlan, vrf, bridge.
///
/// # Errors
/// One of them is missing, or this is not root.
pub fn needs(kinds: &[&str]) -> Result<()> {
    let home = Home::here()?;
    new_namespace()?;
    let missing = ip("link add name probe type veth peer name probe-peer")
        .err()
        .or_else(|| kinds.iter().find_map(|kind| make(kind).err()));
    // What was made is gone with the namespace.
    home.enter()?;
    missing.map_or(Ok(()), Err)
}

fn make(kind: &str) -> Result<()> {
    let line = match kind {
        "vlan" => "link add link probe name probe-vlan type vlan id 2".to_owned(),
        "macvlan" => "link add link probe name probe-mac type macvlan".to_owned(),
        "vrf" => "link add name probe-vrf type vrf table 10".to_owned(),
        other => format!("link add name probe-{other} type {other}"),
    };
    ip(&line).with_context(|| format!("this kernel has no {kind} devices; run under: cargo xtask vm"))
}
