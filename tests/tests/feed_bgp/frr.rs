//! FRR's bgpd, on a host of the lab: it refuses to peer with an address of its own host.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use forwarder::source::feed::FeedState;
use forwarder_tests::frr::Frr;
use forwarder_tests::lab::Lab;

use crate::feed::{Feed, address};

const NEIGHBOURS: &str = "listen = [\"10.2.0.1:1179\", \"[fd00:2::1]:1179\"]\nlocal-as = 64500\n\
                          [[routes.bgp.neighbour]]\naddress = \"10.2.0.2\"\n\
                          [[routes.bgp.neighbour]]\naddress = \"fd00:2::2\"\n";

/// bgpd as an internal neighbour by IPv4 for both families, with routes of these numbers.
fn config(neighbour: &str, numbers: std::ops::Range<usize>) -> Result<String> {
    let mut text = format!(
        "hostname b\nrouter bgp 64500\nbgp router-id 10.2.0.2\nno bgp default ipv4-unicast\nno bgp network import-check\n\
         bgp graceful-restart\nbgp graceful-restart restart-time 60\nbgp graceful-restart preserve-fw-state\n\
         neighbor {neighbour} remote-as 64500\nneighbor {neighbour} port 1179\nneighbor {neighbour} timers 3 9\n\
         neighbor {neighbour} timers connect 1\n"
    );
    if neighbour.contains(':') {
        writeln!(text, "neighbor {neighbour} capability extended-nexthop")?;
    }
    for (family, network) in [("ipv4", "198.18"), ("ipv6", "2001:db8")] {
        writeln!(text, "address-family {family} unicast")?;
        for number in numbers.clone() {
            match family {
                "ipv4" => writeln!(text, "network {network}.{number}.0/24")?,
                _ => writeln!(text, "network {network}:{number:x}::/48")?,
            }
        }
        writeln!(
            text,
            "neighbor {neighbour} activate\nneighbor {neighbour} route-map mark out\nexit-address-family"
        )?;
    }
    text += "route-map mark permit 10\nset community 64500:7\nset large-community 64500:1:2\nset metric 5\n";
    Ok(text)
}

/// bgpd on b with this configuration, which calls and does not listen.
fn bgpd<'a>(lab: &'a Lab, config: &str) -> Result<Frr<'a>> {
    let mut frr = Frr::new(lab, "b")?;
    frr.start("zebra", "hostname b\n", &[])?;
    frr.start("bgpd", config, &["-p", "0"])?;
    Ok(frr)
}

#[test]
fn frr_tells_its_tables_changes_them_and_resets() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NEIGHBOURS)?;
    let frr = bgpd(&lab, &config("fd00:2::1", 0..100)?)?;
    feed.wait(&lab, "its tables", |feed| feed.is_whole(100))?;
    let attributes = feed.attributes("198.18.7.0/24")?;
    ensure!(
        (attributes.med, attributes.local_pref, attributes.external) == (Some(5), 100, false),
        "{attributes:?}"
    );
    ensure!(
        attributes.communities == [64_500 << 16 | 7] && attributes.large == [[64_500, 1, 2]],
        "{attributes:?}"
    );
    // Both families by one IPv6 session: the link-local address stands beside the global one, and IPv4 leads there too.
    for prefix in ["198.18.7.0/24", "2001:db8:7::/48"] {
        let gateway = feed.gateways(prefix)?[0];
        ensure!(gateway.address == address("fd00:2::2"), "{prefix}: {gateway:?}");
        ensure!(
            gateway.link_local.is_some() && gateway.interface.is_some(),
            "{prefix}: {gateway:?}"
        );
    }
    let lines: Vec<String> = (0..10)
        .map(|number| format!("no network 198.18.{number}.0/24"))
        .collect();
    let mut change = vec!["router bgp 64500", "address-family ipv4 unicast"];
    change.extend(lines.iter().map(String::as_str));
    frr.configure("bgpd", &change)?;
    feed.wait(&lab, "a tenth to go", |feed| feed.prefixes(true).len() == 90)?;
    frr.show("bgpd", "clear bgp *")?;
    feed.wait(&lab, "a second session", |feed| {
        feed.state == FeedState::Live && feed.prefixes(true).len() == 90 && feed.stale() == 0
    })?;
    ensure!(feed.errors() == 0, "{}", feed.summary());
    feed.keep(1, "frr-extended-next-hop")
}

#[test]
fn frr_killed_and_back_with_another_table_is_swept() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NEIGHBOURS)?;
    let mut frr = bgpd(&lab, &config("10.2.0.1", 0..50)?)?;
    feed.wait(&lab, "its tables", |feed| feed.is_whole(50))?;
    frr.kill("bgpd")?;
    feed.wait(&lab, "the loss", |feed| feed.state == FeedState::Stale)?;
    ensure!(feed.stale() == 100, "{}", feed.summary());
    frr.start("bgpd", &config("10.2.0.1", 20..50)?, &["-p", "0"])?;
    feed.wait(&lab, "its return", |feed| feed.is_whole(30))?;
    ensure!(feed.stale() == 0 && feed.errors() == 0, "{}", feed.summary());
    Ok(())
}

#[test]
fn frr_sends_more_than_one_path() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NEIGHBOURS)?;
    let mut text = config("10.2.0.1", 0..3)?;
    text = text.replace(
        "neighbor 10.2.0.1 activate\n",
        "neighbor 10.2.0.1 activate\nneighbor 10.2.0.1 addpath-tx-all-paths\n",
    );
    let _frr = bgpd(&lab, &text)?;
    feed.wait(&lab, "its tables", |feed| feed.is_whole(3))?;
    let session = feed.handle()?.counts.session();
    ensure!(
        session.tables.len() == 2 && session.tables.iter().all(|table| table.add_path),
        "{session:?}"
    );
    ensure!(
        feed.routes.keys().all(|(_, path)| *path != 0),
        "each has its identifier: {:?}",
        feed.routes.keys()
    );
    feed.keep(0, "frr-add-path")
}
