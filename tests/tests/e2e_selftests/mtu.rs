//! pmtu.sh, pmtu_ipv4 and pmtu_ipv6: a host learns what a path takes from a router whose far links take less.

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    lab::Lab,
    operator::{forwarded, patient, settle},
};

use super::{counted, ping};

/// Destinations behind b and c, by family.
const TO: [[&str; 2]; 2] = [["10.2.0.2", "10.3.0.2"], ["fd00:2::2", "fd00:3::2"]];
/// Octets of IP and ICMP headers, likewise.
const HEADERS: [u32; 2] = [28, 48];

/// More than any path takes.
const LONG: &str = "-M want -s 1800";

fn mtu(lab: &Lab, cable: &str, mtu: u32) -> Result<()> {
    ["router", cable]
        .iter()
        .try_for_each(|node| lab.ip(node, &format!("link set dev {cable} mtu {mtu}")))
}

/// What the kernel of host a has learnt about a path.
fn learnt(lab: &Lab, to: &str) -> Result<Option<u64>> {
    let routes = lab.ip_json("a", &format!("route get {to}"))?;
    let metrics = routes[0]["metrics"]
        .as_array()
        .and_then(|all| all.first().cloned());
    Ok(metrics.and_then(|metrics| metrics["mtu"].as_u64()))
}

/// Host a sends more than a path takes until it has learnt how much that is.
fn learns(lab: &Lab, to: &str, what: &str, wanted: u64) -> Result<()> {
    let mut last = None;
    patient(lab, &format!("host a to learn that {to} takes {wanted}"), || {
        ping(lab, "a", &format!("-q {what} -i 0.1 -w 1 {to}"))?;
        last = learnt(lab, to)?;
        Ok((last == Some(wanted)).then_some(()))
    })
    .with_context(|| format!("it has learnt {last:?}"))
}

#[test]
fn a_host_learns_the_mtu_of_paths_and_what_fits_is_forwarded() -> Result<()> {
    let lab = Lab::new()?;
    mtu(&lab, "a", 2000)?;
    mtu(&lab, "b", 1400)?;
    lab.resolve_carriers()?;
    for address in ["10.1.0.2", "fd00:1::2"] {
        lab.resolve("router", address)?;
    }
    let controller = lab.start(&["a", "b", "c"], "")?;
    for to in TO.iter().flatten() {
        settle(&lab, to, &[to])?;
    }
    for (to, headers) in TO.iter().zip(HEADERS) {
        let before = counted(&lab, "a", "too-big")?;
        learns(&lab, to[0], LONG, 1400)?;
        learns(&lab, to[1], LONG, 1500)?;
        ensure!(counted(&lab, "a", "too-big")? > before, "{}", lab.picture());
        // What the path takes goes by the fast path, in one piece; an octet more does not go.
        let before = forwarded(&lab, "a")?;
        let fits = format!("-q -M do -c 5 -i 0.1 -w 10 -s {} {}", 1400 - headers, to[0]);
        let said = ping(&lab, "a", &fits)?;
        ensure!(said.contains(" 5 received"), "{said}");
        ensure!(forwarded(&lab, "a")? - before == 5, "{}", lab.picture());
        let more = format!("-q -M do -c 2 -i 0.1 -w 2 -s {} {}", 1401 - headers, to[0]);
        let said = ping(&lab, "a", &more)?;
        ensure!(
            !said.contains("bytes from") && !said.contains(" 2 received"),
            "{said}"
        );
    }
    // The far link takes less than before: the next that is too long says so.
    mtu(&lab, "c", 1350)?;
    for (to, headers) in TO.iter().zip(HEADERS) {
        settle(&lab, to[1], &[to[1]])?;
        // As long as it was; what is longer would go in pieces, which a router may cut again.
        learns(&lab, to[1], &format!("-M do -s {}", 1500 - headers), 1350)?;
        ensure!(learnt(&lab, to[0])? == Some(1400), "the other path is as it was");
    }
    drop(controller);
    Ok(())
}
