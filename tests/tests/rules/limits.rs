//! Rates: what comes through a second of too much.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use forwarder::filter::rule::{Action, Match, Origin, Rate, Rule, Unit};
use forwarder_tests::{frame, sandbox::mac};

use super::{Bench, DROP};

fn limited(rate: Rate) -> Rule {
    Rule {
        name: "limited".into(),
        origin: Origin::Config(1),
        when: Match::default(),
        action: Action::Limit(rate),
        proceed: false,
        mark: None,
    }
}

/// Sends as much as it can for a second or so. Answers packets let through, and the seconds that took.
fn flood(bench: &Bench, packet: &[u8]) -> Result<(u64, f64)> {
    let start = Instant::now();
    let mut through = 0;
    while start.elapsed() < Duration::from_millis(1_500) {
        for _ in 0..16 {
            let (action, _) = bench.sandbox.programs.run(bench.interfaces[0].0, packet)?;
            through += u64::from(action != DROP);
        }
    }
    Ok((through, start.elapsed().as_secs_f64()))
}

#[test]
fn a_rate_lets_through_what_it_says_and_its_burst_once() -> Result<()> {
    let bench = Bench::new()?;
    let macs = (mac(bench.interfaces[0].0), [2, 0, 0, 0, 0, 9]);
    let packet = frame::udp4(macs, [203, 0, 113, 1], 64, 100);
    let bytes = packet.len() as u64;
    // Bursts of a second: a busy machine may keep the sender from sending for less than that, and nothing is lost.
    for (slot, unit, per_second, burst) in [
        (0, Unit::Packets, 2_000, 2_000),
        (1, Unit::Packets, 100, 100),
        (2, Unit::Bytes, 200_000, 200_000),
    ] {
        let rate = Rate {
            unit,
            per_second,
            burst,
        };
        bench.rules(&[limited(rate)], slot)?;
        let (through, seconds) = flood(&bench, &packet)?;
        let each = if unit == Unit::Bytes { bytes } else { 1 };
        let allowed = per_second as f64 * seconds + burst as f64;
        let came = (through * each) as f64;
        // A packet that is under way at either end, and two in a hundred.
        let slack = allowed * 0.02 + 2.0 * each as f64;
        ensure!(
            (came - allowed).abs() <= slack,
            "{rate:?}: {came} in {seconds} s, {allowed} are allowed"
        );
        let (matched, dropped) = bench.counted(slot);
        ensure!(
            matched.packets - dropped.packets == through,
            "counters: {matched:?} {dropped:?} {through}"
        );
        ensure!(dropped.packets > 0, "nothing was too much: {matched:?}");
    }
    Ok(())
}
