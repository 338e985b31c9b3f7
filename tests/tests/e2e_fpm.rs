//! FRR feeds the controller by FPM while the kernel has other routes: packets follow zebra, whatever happens to zebra, to its
//! connection, to the controller, or to a member of a group.
//!
//! zebra lays its routes in the kernel, too, with metric 20. Those that the kernel prefers here have another metric, and are
//! the kernel's own, which zebra does not look at.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    bird::Bird,
    controller::Controller,
    frr::Frr,
    lab::Lab,
    operator::{candidates, figure, is, patient, settle, source, wait_source, ways},
    overlap::{self, BOTH, STILL, follow, prefixes},
    table, traffic,
};
use serde_json::Value;

/// Routes that a carrier tells bgpd.
const MORE: usize = 1_000;

const CONFIG: &str = "[routes]\nsources = [\"fpm\", \"kernel\"]\nmax-age = \"0\"\n\
                      [routes.fpm]\nquiet-time = \"2s\"\n";
const ZEBRA: &str = "hostname router\nfpm address 127.0.0.1 port 2620\n";
const FPM: &[&str] = &["-M", "dplane_fpm_nl"];

fn lab() -> Result<Lab> {
    overlap::lab("", "proto kernel metric 5")
}

/// staticd with these of the common prefixes by b.
fn statics(numbers: std::ops::Range<u8>) -> Result<String> {
    let mut text = String::new();
    for [v4, v6] in numbers.map(prefixes) {
        writeln!(text, "ip route {v4} 10.2.0.2")?;
        writeln!(text, "ipv6 route {v6} fd00:2::2")?;
    }
    Ok(text)
}

/// Takes these of the common prefixes from staticd.
fn withdraw(frr: &mut Frr<'_>, numbers: std::ops::Range<u8>) -> Result<()> {
    let text = statics(numbers)?;
    let gone: Vec<String> = text.lines().map(|line| format!("no {line}")).collect();
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    frr.configure("staticd", &gone)
}

fn live(routes: usize) -> impl FnMut(&Value) -> bool {
    move |row| is(row, "live", [routes; 2])
}

#[test]
fn packets_follow_zebra_where_the_kernel_has_another_route() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], CONFIG)?;
    follow(&lab, 0..0)?;
    let mut frr = Frr::new(&lab, "router")?;
    frr.start("zebra", ZEBRA, FPM)?;
    frr.start("staticd", &statics(0..BOTH)?, &[])?;
    // And a carrier's table by bgpd, which calls and listens nowhere.
    frr.start(
        "bgpd",
        "router bgp 64500\nbgp router-id 10.2.0.1\nno bgp ebgp-requires-policy\nneighbor 10.2.0.2 remote-as 64501\n\
         neighbor 10.2.0.2 timers connect 1\n",
        &["-p", "0"],
    )?;
    let mut carrier = String::from(
        "router id 10.2.0.2;\nprotocol device {}\n\
         protocol bgp { local 10.2.0.2 as 64501; neighbor 10.2.0.1 as 64500; ipv4 { import none; export all; }; \
         passive; }\nprotocol static { ipv4;\n",
    );
    for prefix in table::v4(MORE)?.iter().take(MORE) {
        writeln!(carrier, "route {prefix} blackhole;")?;
    }
    carrier += "}\n";
    let _carrier = Bird::start(&lab, "b", &carrier)?;
    let feed = wait_source(&lab, "fpm", "every route", |row| {
        is(row, "live", [usize::from(BOTH) + MORE, BOTH.into()])
    })?;
    ensure!(feed["errors"] == 0 && feed["end_of_rib_ipv4"] == true, "{feed}");
    follow(&lab, 0..BOTH)?;
    let told = candidates(&lab, "5.1.3.0/24")?;
    ensure!(
        told[0]["by"] == "fpm" && told[0]["best"] == true && told[0]["protocol"] == "zstatic",
        "{told:?}"
    );
    ensure!(
        told.iter()
            .any(|row| row["by"] == "kernel" && row["why"] == "lost: order of sources"),
        "{told:?}"
    );
    let far = table::v4(MORE)?[7].to_string();
    let told = candidates(&lab, &far)?;
    ensure!(told[0]["by"] == "fpm" && told[0]["protocol"] == "bgp", "{told:?}");

    // Some are withdrawn: the kernel's routes count.
    withdraw(&mut frr, 0..4)?;
    wait_source(&lab, "fpm", "some to be withdrawn", |row| {
        is(row, "live", [usize::from(BOTH) - 4 + MORE, usize::from(BOTH) - 4])
    })?;
    follow(&lab, 4..BOTH)?;

    // The connection is reset, and comes back with the same: nothing moves.
    let ((), arrived) = traffic::under(&lab, &["5.1.5.9", "2a05:0:5::9"], |traffic| {
        traffic.flow(20)?;
        frr.configure("zebra", &["no fpm address"])?;
        wait_source(&lab, "fpm", "the loss", |row| row["state"] == "stale")?;
        traffic.flow(20)?;
        frr.configure("zebra", &["fpm address 127.0.0.1 port 2620"])?;
        wait_source(&lab, "fpm", "a second session", |row| {
            row["sessions"] == 2
                && is(row, "live", [usize::from(BOTH) - 4 + MORE, usize::from(BOTH) - 4])
                && row["stale_ipv4"] == 0
        })?;
        traffic.flow(20).map(drop)
    })?;
    ensure!(arrived.iter().all(|[_, c]| *c == 0), "{arrived:?}");
    // The carrier's session is reset: its routes go, and come again.
    frr.show("bgpd", "clear bgp *")?;
    wait_source(&lab, "fpm", "the carrier's routes again", |row| {
        figure(row, "updates").is_ok_and(|updates| updates > 3 * MORE as i64)
            && is(row, "live", [usize::from(BOTH) - 4 + MORE, usize::from(BOTH) - 4])
    })?;
    follow(&lab, 4..BOTH)?;
    ensure!(source(&lab, "fpm")?["errors"] == 0);
    drop(controller);
    Ok(())
}

/// FRR 8.4 of Debian 12 throws away what it reads, and must not mind: the octets themselves are compared with what later versions
/// read in unit tests.
#[test]
fn a_zebra_that_is_told_what_became_of_its_routes_goes_on_as_before() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], &format!("{CONFIG}offload = true\n"))?;
    let mut frr = Frr::new(&lab, "router")?;
    frr.start("zebra", ZEBRA, FPM)?;
    frr.start("staticd", &statics(0..BOTH)?, &[])?;
    wait_source(&lab, "fpm", "every route", live(BOTH.into()))?;
    let all = i64::from(BOTH) * 2;
    let answered = |at_least: i64| {
        wait_source(&lab, "fpm", "answers", move |row| {
            figure(row, "answered").is_ok_and(|answered| answered >= at_least)
        })
    };
    let feed = answered(all)?;
    // zebra has read them: 12 of 40 octets, 12 of 52.
    let read = patient(&lab, "zebra to read its answers", || {
        let counters = frr.show("zebra", "show fpm counters")?;
        let input = counters.lines().find(|line| line.contains("Input bytes"));
        let octets: u64 = input
            .and_then(|line| line.split(": ").nth(1)?.trim().parse().ok())
            .with_context(|| counters.clone())?;
        Ok((octets >= u64::from(BOTH) * (40 + 52)).then_some(octets))
    })?;
    ensure!(feed["answers_dropped"] == 0, "{feed}");
    follow(&lab, 0..BOTH)?;
    // Later changes are answered, too.
    let gone: Vec<String> = statics(0..4)?.lines().map(|line| format!("no {line}")).collect();
    frr.configure("staticd", &gone.iter().map(String::as_str).collect::<Vec<_>>())?;
    wait_source(&lab, "fpm", "some to be withdrawn", live(usize::from(BOTH) - 4))?;
    let again = statics(0..4)?;
    frr.configure("staticd", &again.lines().collect::<Vec<_>>())?;
    wait_source(&lab, "fpm", "them again", live(BOTH.into()))?;
    answered(all + 8)?;
    follow(&lab, 0..BOTH)?;
    let feed = source(&lab, "fpm")?;
    ensure!(
        feed["sessions"] == 1 && feed["errors"] == 0,
        "{feed}, {read} read"
    );
    drop(controller);
    Ok(())
}

#[test]
fn a_killed_zebra_loses_no_packet_and_its_next_table_is_compared() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], CONFIG)?;
    let mut frr = Frr::new(&lab, "router")?;
    frr.start("zebra", ZEBRA, FPM)?;
    frr.start("staticd", &statics(0..BOTH)?, &[])?;
    wait_source(&lab, "fpm", "every route", live(BOTH.into()))?;
    follow(&lab, 0..BOTH)?;
    overlap::another_table(&lab, |traffic| {
        frr.kill("zebra")?;
        frr.kill("staticd")?;
        frr.clear_kernel()?;
        let feed = wait_source(&lab, "fpm", "the loss", |row| row["state"] == "stale")?;
        ensure!(figure(&feed, "stale_ipv4")? == i64::from(BOTH), "{feed}");
        overlap::kept(traffic, "stale routes are used no more")?;
        frr.start("zebra", ZEBRA, FPM)?;
        frr.start("staticd", &statics(STILL)?, &[])?;
        wait_source(&lab, "fpm", "its return", |row| {
            row["sessions"] == 2 && is(row, "live", [STILL.len(); 2])
        })
    })?;
    drop(controller);
    Ok(())
}

#[test]
fn a_restarted_controller_keeps_zebras_routes_until_they_are_told_again() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], CONFIG)?;
    let mut frr = Frr::new(&lab, "router")?;
    frr.start("zebra", ZEBRA, FPM)?;
    frr.start("staticd", &statics(0..BOTH)?, &[])?;
    wait_source(&lab, "fpm", "every route", live(BOTH.into()))?;
    follow(&lab, 0..BOTH)?;
    let controller = overlap::another_table(&lab, |traffic| {
        controller.kill()?;
        withdraw(&mut frr, STILL.end..BOTH)?;
        frr.pause("zebra", true);
        let controller = Controller::start(&lab, &lab.dir().join("forwarder.toml"))?;
        ensure!(source(&lab, "fpm")?["awaited"] == true, "{}", lab.picture());
        overlap::kept(traffic, "what was adopted was not kept")?;
        frr.pause("zebra", false);
        wait_source(&lab, "fpm", "its table", |row| {
            is(row, "live", [STILL.len(); 2]) && row["awaited"] == false
        })?;
        Ok(controller)
    })?;
    drop(controller);
    Ok(())
}

#[test]
fn a_group_loses_a_member_with_its_carrier_and_takes_it_back() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], CONFIG)?;
    let mut frr = Frr::new(&lab, "router")?;
    frr.start("zebra", ZEBRA, FPM)?;
    frr.start(
        "staticd",
        "ip route 5.2.0.0/16 10.2.0.2\nip route 5.2.0.0/16 10.3.0.2\nip route 5.3.0.0/16 10.2.0.2\n\
         ip route 5.3.0.0/16 10.3.0.2\n",
        &[],
    )?;
    wait_source(&lab, "fpm", "both routes", |row| is(row, "live", [2, 0]))?;
    let both = ["10.2.0.2", "10.3.0.2"];
    settle(&lab, "5.2.0.1", &both)?;
    let to: Vec<String> = (0..24)
        .map(|number| format!("5.{}.0.{number}", 2 + number % 2))
        .collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    traffic::under_losses(&lab, &to, |traffic| {
        let split = traffic.flow(5)?;
        // A flow stays where it is; flows are spread over both.
        ensure!(
            split.iter().all(|ends| ends.contains(&0)),
            "a flow takes two ways: {split:?}"
        );
        ensure!(
            split.iter().any(|[b, _]| *b > 0) && split.iter().any(|[_, c]| *c > 0),
            "{split:?}"
        );
        ensure!(traffic.lost() == 0, "{} are lost", traffic.lost());
        lab.ip("b", "link set dev b down")?;
        settle(&lab, "5.2.0.1", &both[1..])?;
        settle(&lab, "5.3.0.1", &both[1..])?;
        // zebra has said so, too.
        patient(&lab, "zebra to tell of one member", || {
            let told = candidates(&lab, "5.2.0.0/16")?;
            Ok((told[0]["by"] == "fpm" && told[0]["resolved"] == "via 10.3.0.2 dev c").then_some(()))
        })?;
        let lost = traffic.lost();
        let moved = traffic.flow(5)?;
        ensure!(moved.iter().all(|[b, _]| *b == 0), "{moved:?}");
        for (index, [_, c]) in split.iter().enumerate() {
            ensure!(
                *c == 0 || moved[index][1] > 0,
                "flow {index} was on c and is gone"
            );
        }
        ensure!(
            traffic.lost() <= lost + 1,
            "packets are lost after the group has closed: {} and {lost}",
            traffic.lost()
        );
        lab.ip("b", "link set dev b up")?;
        settle(&lab, "5.2.0.1", &both)?;
        settle(&lab, "5.3.0.1", &both)?;
        let lost = traffic.lost();
        let again = traffic.flow(5)?;
        ensure!(
            again.iter().all(|ends| ends.contains(&0)),
            "a flow takes two ways: {again:?}"
        );
        ensure!(
            again.iter().any(|[b, _]| *b > 0) && again.iter().any(|[_, c]| *c > 0),
            "{again:?}"
        );
        ensure!(
            traffic.lost() <= lost + 1,
            "packets are lost with both members back"
        );
        Ok(())
    })?;
    ensure!(ways(&lab, "5.3.0.7")? == both);
    ensure!(source(&lab, "fpm")?["errors"] == 0, "{}", lab.picture());
    drop(controller);
    Ok(())
}
