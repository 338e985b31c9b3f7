//! Two edge routers, one of them ours. A route that is best through the twin reaches a feed only where the session is that of a
//! route-reflector client: what is learned from one internal neighbour is not told to another (RFC 4271 9.2, RFC 4456 6).

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use forwarder_tests::{
    bird::Bird,
    frr::Frr,
    lab::Lab,
    operator::{candidates, forwarded, is, settle, wait_source},
    traffic,
};

/// Prefixes of each family that are best through the twin, and as many that are not.
const EACH: usize = 8;

/// What either of the two is told of by somebody: 5.1.x and 2a05:1:x by the twin, 5.2.x and 2a05:2:x by the other.
fn prefixes(kind: u8) -> [Vec<String>; 2] {
    let numbers = 0..EACH;
    [
        numbers
            .clone()
            .map(|number| format!("5.{kind}.{number}.0/24"))
            .collect(),
        numbers
            .map(|number| format!("2a05:{kind}:{number:x}::/48"))
            .collect(),
    ]
}

/// A BIRD on a host of this cable that tells prefixes to each of these neighbours, behind the AS of a carrier of its own.
fn speaker(
    cable: u8,
    own_as: u32,
    neighbours: &[(&str, u32)],
    kinds: &[u8],
    preference: u32,
) -> Result<String> {
    let mut text = format!("router id 10.{cable}.0.2;\nprotocol device {{}}\n");
    for (neighbour, their_as) in neighbours {
        let (here, family) = match neighbour.contains(':') {
            true => (format!("fd00:{cable}::2"), "ipv6"),
            false => (format!("10.{cable}.0.2"), "ipv4"),
        };
        writeln!(
            text,
            "protocol bgp {{ local {here} as {own_as}; neighbor {neighbour} as {their_as}; multihop; \
             connect retry time 1; connect delay time 1; error wait time 1, 2; \
             {family} {{ import none; export all; next hop self; }}; }}"
        )?;
    }
    for kind in kinds {
        for (family, list) in ["ipv4", "ipv6"].into_iter().zip(prefixes(*kind)) {
            writeln!(text, "protocol static {{ {family};")?;
            for prefix in list {
                writeln!(
                    text,
                    "route {prefix} blackhole {{ bgp_path.prepend(64496); bgp_local_pref = {preference}; }};"
                )?;
            }
            writeln!(text, "}}")?;
        }
    }
    Ok(text)
}

/// Packets to what is best through the twin, by this end and these next hops, leave towards it, and the others by the others;
/// the program sends them all.
fn leave(lab: &Lab, twin: usize, by_twin: [&str; 2], by_other: [&str; 2]) -> Result<()> {
    let to = ["5.1.3.9", "2a05:1:3::9", "5.2.3.9", "2a05:2:3::9"];
    for (address, gateway) in to.into_iter().zip([by_twin, by_other].concat()) {
        settle(lab, address, &[gateway])?;
    }
    let before = forwarded(lab, "a")?;
    let ((), arrived) = traffic::under(lab, &to, |traffic| traffic.flow(5).map(drop))?;
    ensure!(
        arrived[..2].iter().all(|ends| ends[1 - twin] == 0),
        "not towards the twin: {arrived:?}"
    );
    ensure!(arrived[2..].iter().all(|ends| ends[twin] == 0), "{arrived:?}");
    traffic::all_forwarded(lab, before, &arrived)
}

#[test]
fn routes_best_through_birds_twin_arrive_where_we_are_a_reflectors_client() -> Result<()> {
    let lab = Lab::new()?;
    lab.resolve_carriers()?;
    let controller = lab.start(
        &["a", "b", "c"],
        "[routes]\nsources = [\"bgp\", \"kernel\"]\n[routes.bgp]\nlisten = \"127.0.0.2:1179\"\nlocal-as = 64500\n",
    )?;
    // The twin at b, a carrier at c, which has everything, too.
    let _twin = Bird::start(
        &lab,
        "b",
        &speaker(
            2,
            64_500,
            &[("10.2.0.1", 64_500), ("fd00:2::1", 64_500)],
            &[1],
            200,
        )?,
    )?;
    let _carrier = Bird::start(
        &lab,
        "c",
        &speaker(
            3,
            64_502,
            &[("10.3.0.1", 64_500), ("fd00:3::1", 64_500)],
            &[1, 2],
            100,
        )?,
    )?;
    // Nothing goes into the kernel: what packets follow came by the feed.
    let router = |client: &str| -> Result<String> {
        let mut text = format!(
            "router id 10.2.0.1;\nprotocol device {{}}\n\
             protocol bgp feed {{ local 127.0.0.1 as 64500; neighbor 127.0.0.2 port 1179 as 64500; {client} \
             connect retry time 1; connect delay time 1; error wait time 1, 2; \
             ipv4 {{ import none; export all; next hop keep; }}; ipv6 {{ import none; export all; next hop keep; }}; }}\n"
        );
        for (name, cable, neighbour_as) in [("twin", 2, 64_500), ("carrier", 3, 64_502)] {
            for (family, prefix, zero) in [
                ("ipv4", format!("10.{cable}.0"), "."),
                ("ipv6", format!("fd00:{cable}"), "::"),
            ] {
                writeln!(
                    text,
                    "protocol bgp {name}_{family} {{ local {prefix}{zero}1 as 64500; neighbor {prefix}{zero}2 as {neighbour_as}; \
                     multihop; connect retry time 1; connect delay time 1; error wait time 1, 2; \
                     {family} {{ import all; export none; }}; }}"
                )?;
            }
        }
        Ok(text)
    };
    let bird = Bird::start(&lab, "router", &router("")?)?;
    wait_source(&lab, "bgp", "the carrier's routes alone", |row| {
        is(row, "live", [EACH; 2])
    })?;
    // BIRD has chosen the twin, as its table says, and tells us nothing of it.
    lab.wait("BIRD to have the twin's routes", || {
        let text = bird.ask("show route for 5.1.3.9 primary")?;
        Ok(text.contains("[twin_ipv4").then_some(()))
    })?;
    ensure!(candidates(&lab, "5.1.3.0/24")?.is_empty(), "{}", lab.picture());
    bird.configure(&router("rr client;")?)?;
    wait_source(&lab, "bgp", "the twin's routes, too", |row| {
        is(row, "live", [2 * EACH; 2])
    })?;
    let told = candidates(&lab, "5.1.3.0/24")?;
    ensure!(
        told[0]["local_pref"] == 200 && told[0]["as_path"] == "64496" && told[0]["originator"] == "10.2.0.2",
        "{told:?}"
    );
    leave(&lab, 0, ["10.2.0.2", "fd00:2::2"], ["10.3.0.2", "fd00:3::2"])?;
    drop(controller);
    Ok(())
}

#[test]
fn routes_best_through_frrs_twin_arrive_where_we_are_a_reflectors_client() -> Result<()> {
    let lab = Lab::new()?;
    lab.resolve_carriers()?;
    let controller = lab.start(
        &["a", "b", "c"],
        "[routes]\nsources = [\"bgp\", \"kernel\"]\n\
         [routes.bgp]\nlisten = \"10.2.0.1:1179\"\nlocal-as = 64500\n\
         [[routes.bgp.neighbour]]\nname = \"reflector\"\naddress = \"10.2.0.2\"\n",
    )?;
    // FRR on b has routes of its own, and those of its twin on c by an internal session across the router.
    // FRR takes no next hop that only the default route leads to.
    lab.ip("b", "route add 10.3.0.0/24 via 10.2.0.1")?;
    lab.ip("b", "route add fd00:3::/64 via fd00:2::1")?;
    let mut frr = Frr::new(&lab, "b")?;
    frr.start("zebra", "hostname b\n", &[])?;
    let mut text = String::from(
        "hostname b\nrouter bgp 64500\nbgp router-id 10.2.0.2\nno bgp default ipv4-unicast\nno bgp network import-check\n\
         neighbor 10.2.0.1 remote-as 64500\nneighbor 10.2.0.1 port 1179\nneighbor 10.2.0.1 timers connect 1\n\
         neighbor 10.3.0.2 remote-as 64500\nneighbor 10.3.0.2 timers connect 1\n\
         neighbor fd00:3::2 remote-as 64500\nneighbor fd00:3::2 timers connect 1\n",
    );
    for ((family, twin), own) in [("ipv4", "10.3.0.2"), ("ipv6", "fd00:3::2")]
        .into_iter()
        .zip(prefixes(2))
    {
        writeln!(
            text,
            "address-family {family} unicast\nneighbor 10.2.0.1 activate\nneighbor {twin} activate"
        )?;
        for prefix in own {
            writeln!(text, "network {prefix}")?;
        }
        writeln!(text, "exit-address-family")?;
    }
    frr.start("bgpd", &text, &["-p", "0"])?;
    let _twin = Bird::start(
        &lab,
        "c",
        &speaker(
            3,
            64_500,
            &[("10.2.0.2", 64_500), ("fd00:2::2", 64_500)],
            &[1],
            200,
        )?,
    )?;
    wait_source(&lab, "bgp", "FRR's own routes alone", |row| {
        is(row, "live", [EACH; 2])
    })?;
    lab.wait("FRR to have the twin's routes", || {
        let text = frr.show("bgpd", "show bgp ipv4 unicast 5.1.3.0/24")?;
        Ok(text.contains("best").then_some(()))
    })?;
    ensure!(candidates(&lab, "5.1.3.0/24")?.is_empty(), "{}", lab.picture());
    frr.configure(
        "bgpd",
        &[
            "router bgp 64500",
            "address-family ipv4 unicast",
            "neighbor 10.2.0.1 route-reflector-client",
            "exit-address-family",
            "address-family ipv6 unicast",
            "neighbor 10.2.0.1 route-reflector-client",
        ],
    )?;
    wait_source(&lab, "bgp", "the twin's routes, too", |row| {
        is(row, "live", [2 * EACH; 2])
    })?;
    let told = candidates(&lab, "5.1.3.0/24")?;
    ensure!(
        told[0]["peer"] == "reflector"
            && told[0]["originator"] == "10.3.0.2"
            && told[0]["as_path"] == "64496",
        "{told:?}"
    );
    // What FRR originates has its link-local address as next hop, too, and that is the one to use (RFC 2545 3).
    leave(
        &lab,
        1,
        ["10.3.0.2", "fd00:3::2"],
        ["10.2.0.2", "fe80::ff:fe00:202"],
    )?;
    drop(controller);
    Ok(())
}
