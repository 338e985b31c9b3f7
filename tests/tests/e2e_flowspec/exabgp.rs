//! ExaBGP of another AS: a few rules, and more than fit.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use forwarder_tests::{
    exabgp::{self, ExaBgp},
    lab::Lab,
    operator::settle,
};
use serde_json::Value;

use crate::scene::{NAMES, NEXT_DOOR, Scene};

/// Prefixes that it announces: 198.18.7.0/24 and so on, and 2001:db8:7::/48.
const PREFIXES: std::ops::Range<usize> = 7..8;

/// The attacks' rules, with this action.
fn attacks(action: &str) -> String {
    ["198.18.7.9/32", "2001:db8:7::9/128"]
        .iter()
        .map(|to| {
            let family = if to.contains(':') { 6 } else { 4 };
            format!(
                "route attack{family} {{ match {{ destination {to}; protocol udp; source-port =123; }} \
                 then {{ {action}; }} }}\n"
            )
        })
        .collect()
}

/// Has it announce these rules and no others. In one step it may withdraw a rule behind the same one with another action,
/// which is then gone (ExaBGP 4.2): so all go before.
fn announce(scene: &Scene<'_>, exabgp: &ExaBgp<'_>, rules: &str, count: [i64; 2]) -> Result<()> {
    exabgp.write(&exabgp::config(PREFIXES, false, "")?)?;
    exabgp.reload();
    scene.told("next door", [0, 0])?;
    scene.listed("no rules", <[_]>::is_empty)?;
    exabgp.write(&exabgp::config(PREFIXES, false, rules)?)?;
    exabgp.reload();
    scene.told("next door", count)
}

#[test]
fn rules_of_exabgp_cut_and_limit_what_they_name_and_go_with_its_session() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::new(&lab, NEXT_DOOR)?;
    let discard = attacks("discard");
    let mut exabgp = ExaBgp::start(&lab, &exabgp::config(PREFIXES, false, &discard)?)?;
    scene.told("next door", [1, 1])?;
    scene.both_cut("next door")?;

    announce(&scene, &exabgp, &attacks("rate-limit 200000"), [1, 1])?;
    scene.limited(NAMES[0], 200_000, 2_000, scene.attacks[0].bytes())?;

    // What cannot be applied is told, and touches nothing.
    let refused = [
        (
            "dst 198.18.7.9/32 proto udp src-port 123",
            "route a { match { destination 198.18.7.9/32; protocol udp; source-port =123; } then { redirect 65500:12345; } }",
            "redirect is not supported",
        ),
        (
            "dst 198.18.8.0/24",
            "route b { match { destination 198.18.8.0/24; } then { discard; } }",
            "no BGP route covers its destination 198.18.8.0/24, and it is not from our own AS (RFC 9117 4.1 b)",
        ),
        (
            "src 192.0.2.0/24",
            "route c { match { source 192.0.2.0/24; } then { discard; } }",
            "it names no destination (RFC 8955 6 a)",
        ),
    ];
    let text: String = refused.iter().map(|(_, rule, _)| format!("{rule}\n")).collect();
    announce(&scene, &exabgp, &text, [3, 0])?;
    for (name, _, wanted) in refused {
        let why = scene.refused(name)?;
        ensure!(why == wanted, "{name}: {why}");
    }
    scene.only_cut([false, false])?;

    announce(&scene, &exabgp, &discard, [1, 1])?;
    scene.both_cut("next door")?;
    exabgp.kill()?;
    scene.gone("next door")?;
    scene.only_cut([false, false])
}

/// Rules of the flood, and those of a family that fit.
const FLOOD: usize = 5_000;
const FIT: usize = 1_024;
/// Why the others are not.
const TOO_MANY: &str = "there is room for 1024 rules of its family, shared fairly between sessions";

#[test]
fn of_more_rules_than_fit_those_that_are_asked_first_are_in_force() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::new(&lab, NEXT_DOOR)?;
    // Each for an address of its own above the victim's.
    let mut rules = attacks("discard");
    for number in 0..FLOOD {
        let (third, fourth) = (8 + number / 250, number % 250);
        writeln!(
            rules,
            "route f{number} {{ match {{ destination 198.18.{third}.{fourth}/32; }} then {{ discard; }} }}"
        )?;
    }
    let config = |rules: &str| exabgp::config(7..28, false, rules);
    let mut exabgp = ExaBgp::start(&lab, &config(&attacks("discard"))?)?;
    scene.told("next door", [1, 1])?;
    scene.both_cut("next door")?;

    exabgp.write(&config(&rules)?)?;
    exabgp.reload();
    let over = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| -> Result<Duration> {
        // While they come: questions are answered, and what the kernel says is done.
        let asking = scope.spawn(|| -> Result<Duration> {
            let mut slowest = Duration::ZERO;
            while !over.load(Relaxed) {
                let start = Instant::now();
                lab.json("status")?;
                slowest = slowest.max(start.elapsed());
            }
            Ok(slowest)
        });
        let told = scene.told("next door", [FLOOD as i64 + 1, 1]);
        let moved = lab
            .ip("router", "route add 5.9.0.0/16 via 10.2.0.2")
            .and_then(|()| settle(&lab, "5.9.0.1", &["10.2.0.2"]));
        over.store(true, Relaxed);
        let asked = asking.join();
        told?;
        moved?;
        asked.map_err(|_| anyhow::anyhow!("asking panicked"))?
    })?;
    println!("`status` answered within {slowest:?}");

    let of = |rows: &[Value], state: &str| {
        rows.iter()
            .filter(|row| row["state"] == state && row["family"] == "ipv4")
            .count()
    };
    let rows = scene.listed("as many as fit", |rows| {
        of(rows, "active") == FIT && of(rows, "not-applied") == FLOOD + 1 - FIT
    })?;
    for row in rows.iter().filter(|row| row["state"] == "not-applied") {
        ensure!(row["why"] == TOO_MANY, "{row}");
    }
    // The one that is asked first is the attack's, and the last that fits the 1,023rd of the others.
    scene.both_cut("next door")?;
    scene.in_force("dst 198.18.12.22/32", "drop")?;
    scene.refused("dst 198.18.12.23/32")?;

    // They go, and what was in force before stays.
    exabgp.write(&config(&attacks("discard"))?)?;
    exabgp.reload();
    scene.told("next door", [1, 1])?;
    scene.listed("two rules", |rows| rows.len() == 2)?;
    scene.both_cut("next door")?;
    exabgp.kill()?;
    scene.gone("next door")
}
