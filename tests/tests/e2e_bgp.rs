//! BIRD feeds the controller by BGP while the kernel has other routes: packets follow the feed, whatever happens to BIRD, to
//! the session, to the controller, or to the routes under the next hops.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use forwarder_tests::{
    bird::Bird,
    controller::Controller,
    lab::Lab,
    operator::{candidates, figure, is, patient, settle, source, wait_source},
    overlap::{self, BOTH, STILL, follow, prefixes},
    table, traffic,
};

/// Prefixes of each family that only the feed has.
const MORE: usize = 1_500;

const CONFIG: &str = "[routes]\nsources = [\"bgp\", \"kernel\"]\nmax-age = \"0\"\n\
                      [routes.bgp]\nlisten = \"127.0.0.2:1179\"\nlocal-as = 64500\n";

/// The router, whose kernel sends every prefix of ours by c.
fn lab() -> Result<Lab> {
    overlap::lab(
        "route add 5.0.0.0/8 via 10.3.0.2\nroute add 2a05::/32 via fd00:3::2\n",
        "",
    )
}

/// BIRD beside the controller, with these of the common prefixes by b, more of its own, and what `more` says.
fn bird(numbers: std::ops::Range<u8>, more: &str) -> Result<String> {
    let mut text = String::from(
        "router id 10.2.0.1;\nprotocol device {}\n\
         protocol bgp feed { local 127.0.0.1 as 64500; neighbor 127.0.0.2 port 1179 as 64500; graceful restart on; \
         connect retry time 1; connect delay time 1; error wait time 1, 2; \
         ipv4 { import none; export all; next hop keep; }; ipv6 { import none; export all; next hop keep; }; }\n",
    );
    for (at, family, via, own) in [
        (0, "ipv4", "10.2.0.2", table::v4(MORE)?),
        (1, "ipv6", "fd00:2::2", table::v6(MORE)?),
    ] {
        writeln!(text, "protocol static {{ {family};")?;
        for prefix in own.iter().take(MORE) {
            writeln!(text, "route {prefix} via {via};")?;
        }
        for number in numbers.clone() {
            writeln!(
                text,
                "route {} via {via} {{ bgp_path.prepend(64501); bgp_community.add((64500,7)); }};",
                prefixes(number)[at]
            )?;
        }
        writeln!(text, "}}")?;
    }
    Ok(text + more)
}

/// As many routes of each family.
fn routes(numbers: usize) -> [usize; 2] {
    [MORE + numbers; 2]
}

#[test]
fn packets_follow_the_feed_where_the_kernel_has_another_route() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], CONFIG)?;
    follow(&lab, 0..0)?;
    let bird = Bird::start(&lab, "router", &bird(0..BOTH, "")?)?;
    let live = |numbers: usize| move |row: &serde_json::Value| is(row, "live", routes(numbers));
    let feed = wait_source(&lab, "bgp", "the whole table", live(BOTH.into()))?;
    ensure!(
        feed["end_of_rib_ipv4"] == true && feed["end_of_rib_ipv6"] == true && feed["errors"] == 0,
        "{feed}"
    );
    follow(&lab, 0..BOTH)?;
    // Both routes are told, and why one counts.
    let told = candidates(&lab, "5.1.3.0/24")?;
    ensure!(told.len() == 2, "{told:?}");
    ensure!(
        told[0]["by"] == "bgp" && told[0]["best"] == true && told[0]["resolved"] == "via 10.2.0.2 dev b",
        "{told:?}"
    );
    ensure!(
        told[0]["as_path"] == "64501" && told[0]["communities"] == "64500:7",
        "{told:?}"
    );
    ensure!(
        told[1]["by"] == "kernel" && told[1]["why"] == "lost: order of sources",
        "{told:?}"
    );

    // What the feed says is not held against the kernel, which has other routes, or none.
    patient(&lab, "the shadow check to leave the feed's routes out", || {
        let shadow = lab.json("status")?[0]["shadow"].clone();
        ensure!(shadow["differing"] == 0, "{shadow}");
        Ok((figure(&shadow, "left_out")? > 100).then_some(()))
    })?;
    ensure!(!controller.log().contains("disagree"), "{}", controller.log());

    // Some are withdrawn: the kernel's routes count.
    bird.configure(&self::bird(4..BOTH, "")?)?;
    wait_source(&lab, "bgp", "some to be withdrawn", live(usize::from(BOTH) - 4))?;
    follow(&lab, 4..BOTH)?;

    // The session is reset, and comes back: packets go by the kernel's routes meanwhile, and none is lost.
    let ((), arrived) = traffic::under(&lab, &["5.1.1.9", "5.1.5.9", "2a05:0:5::9"], |traffic| {
        traffic.flow(20)?;
        bird.ask("restart feed")?;
        wait_source(&lab, "bgp", "a second session", |row| {
            row["sessions"] == 2 && is(row, "live", routes(usize::from(BOTH) - 4))
        })?;
        settle(&lab, "5.1.5.9", &["10.2.0.2"])?;
        traffic.flow(20).map(drop)
    })?;
    ensure!(
        arrived[0][0] == 0,
        "one went by b, where only the kernel has it: {arrived:?}"
    );
    follow(&lab, 4..BOTH)?;

    // It says goodbye.
    bird.ask("disable feed")?;
    let feed = wait_source(&lab, "bgp", "the end", |row| is(row, "down", [0, 0]))?;
    ensure!(
        feed["last_error"] == "it says: cease, administrative shutdown",
        "{feed}"
    );
    follow(&lab, 0..0)?;
    drop(controller);
    Ok(())
}

#[test]
fn a_killed_bird_loses_no_packet_and_its_next_table_is_compared() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], CONFIG)?;
    let mut bird = Bird::start(&lab, "router", &bird(0..BOTH, "")?)?;
    wait_source(&lab, "bgp", "the whole table", |row| {
        is(row, "live", routes(BOTH.into()))
    })?;
    follow(&lab, 0..BOTH)?;
    overlap::another_table(&lab, |traffic| {
        bird.kill()?;
        let feed = wait_source(&lab, "bgp", "the loss", |row| row["state"] == "stale")?;
        let stale = [figure(&feed, "stale_ipv4")?, figure(&feed, "stale_ipv6")?];
        ensure!(stale == routes(BOTH.into()).map(|n| n as i64), "{feed}");
        let told = candidates(&lab, "5.1.1.0/24")?;
        ensure!(told[0]["by"] == "bgp" && told[0]["stale"] == true, "{told:?}");
        overlap::kept(traffic, "stale routes are used no more")?;
        // It comes back with fewer.
        bird.write(&self::bird(STILL, "")?)?;
        bird.run(&["-R"])?;
        wait_source(&lab, "bgp", "its return", |row| {
            row["sessions"] == 2 && is(row, "live", routes(STILL.len())) && row["stale_ipv4"] == 0
        })
    })?;
    drop(controller);
    Ok(())
}

#[test]
fn a_restarted_controller_keeps_the_feeds_routes_until_they_are_told_again() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], CONFIG)?;
    let bird = Bird::start(&lab, "router", &bird(0..BOTH, "")?)?;
    wait_source(&lab, "bgp", "the whole table", |row| {
        is(row, "live", routes(BOTH.into()))
    })?;
    follow(&lab, 0..BOTH)?;
    let controller = overlap::another_table(&lab, |traffic| {
        controller.kill()?;
        // While nobody listens BIRD's table becomes another; and it does not call before the next has started.
        bird.configure(&self::bird(STILL, "")?)?;
        bird.pause(true);
        let controller = Controller::start(&lab, &lab.dir().join("forwarder.toml"))?;
        let status = lab.json("status")?;
        let problems = status[0]["problems"].to_string();
        ensure!(
            problems.contains("kept as they were until these have told theirs") && problems.contains("bgp"),
            "{problems}"
        );
        // The kernel has spoken, and would send them by c. What nobody had laid is laid at once.
        lab.ip("router", "route add 5.9.0.0/16 via 10.3.0.2")?;
        settle(&lab, "5.9.0.1", &["10.3.0.2"])?;
        overlap::kept(traffic, "what was adopted was not kept")?;
        bird.pause(false);
        wait_source(&lab, "bgp", "its table", |row| {
            is(row, "live", routes(STILL.len())) && row["awaited"] == false
        })?;
        Ok(controller)
    })?;
    let status = lab.json("status")?;
    ensure!(
        !status[0]["problems"].to_string().contains("kept as they were"),
        "{status}"
    );
    drop(controller);
    Ok(())
}

/// Routes by gateways that are not next door, one of each family.
const RECURSIVE: &str = "\
    protocol static { ipv4; route 5.2.0.0/16 blackhole { bgp_next_hop = 10.99.0.1; }; \
    route 5.3.0.0/16 blackhole { bgp_next_hop = 10.99.0.1; }; }\n\
    protocol static { ipv6; route 2a05:2::/32 blackhole { bgp_next_hop = fd99::1; }; }\n";

#[test]
fn routes_by_a_distant_gateway_follow_the_routes_under_it() -> Result<()> {
    let lab = lab()?;
    lab.ip("router", "route add 10.99.0.0/24 via 10.2.0.2")?;
    lab.ip("router", "route add fd99::/64 via fd00:2::2")?;
    lab.ip("router", "route add 5.3.0.0/16 via 10.3.0.2")?;
    let controller = lab.start(&["a", "b", "c"], CONFIG)?;
    let _bird = Bird::start(&lab, "router", &bird(0..0, RECURSIVE)?)?;
    wait_source(&lab, "bgp", "its table", |row| {
        is(row, "live", [MORE + 2, MORE + 1])
    })?;
    let both = |v4: &str, v6: &str| -> Result<()> {
        settle(&lab, "5.2.0.9", &[v4])?;
        settle(&lab, "2a05:2::9", &[v6])
    };
    both("10.2.0.2", "fd00:2::2")?;
    let groups = |lab: &Lab| -> Result<Vec<serde_json::Value>> {
        let slots = ["5.2.0.9", "2a05:2::9"].map(|address| -> Result<_> {
            let output = lab.forwarder(&format!("lookup {address} --json"))?;
            let rows: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            Ok(serde_json::json!([rows[0]["slot"], rows[0]["group"]]))
        });
        slots.into_iter().collect()
    };
    let at_first = groups(&lab)?;
    let ((), arrived) = traffic::under(&lab, &["5.2.0.9", "2a05:2::9", "5.3.0.9"], |traffic| {
        traffic.flow(20)?;
        // The way to the gateway moves, in one step.
        lab.ip("router", "route replace 10.99.0.0/24 via 10.3.0.2")?;
        lab.ip("router", "route replace fd99::/64 via fd00:3::2")?;
        both("10.3.0.2", "fd00:3::2")?;
        let moved = traffic.flow(20)?;
        ensure!(moved.iter().all(|[b, _]| *b == 0), "{moved:?}");
        ensure!(
            groups(&lab)? == at_first,
            "prefixes were moved, and not the gateway"
        );
        // A more specific route takes it back.
        lab.ip("router", "route add 10.99.0.1/32 via 10.2.0.2")?;
        lab.ip("router", "route add fd99::1/128 via fd00:2::2")?;
        both("10.2.0.2", "fd00:2::2")?;
        let moved = traffic.flow(20)?;
        ensure!(moved.iter().all(|[_, c]| *c == 0), "{moved:?}");
        Ok(())
    })?;
    traffic::all_forwarded(&lab, 0, &arrived)?;

    // Nothing leads to the gateway any more: the kernel's route counts where there is one, and it is told why.
    for route in ["10.99.0.1/32", "10.99.0.0/24"] {
        lab.ip("router", &format!("route del {route}"))?;
    }
    settle(&lab, "5.3.0.9", &["10.3.0.2"])?;
    let told = candidates(&lab, "5.3.0.0/16")?;
    ensure!(
        told[0]["by"] == "kernel" && told[1]["by"] == "bgp" && told[1]["resolved"].is_null(),
        "{told:?}"
    );
    settle(&lab, "5.2.0.9", &[])?;
    lab.ip("router", "route add 10.99.0.0/24 via 10.2.0.2")?;
    settle(&lab, "5.3.0.9", &["10.2.0.2"])?;
    settle(&lab, "5.2.0.9", &["10.2.0.2"])?;
    ensure!(source(&lab, "bgp")?["errors"] == 0);
    drop(controller);
    Ok(())
}
