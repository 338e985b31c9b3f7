//! Rates: what comes through a second of too much, from one CPU and from several.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use forwarder::{
    clock::monotonic_ns,
    cpus,
    filter::rule::{Action, Match, Origin, Rate, Rule, Unit},
};
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

/// CPUs that offer packets at once.
const CPUS: usize = 2;
/// For how long what comes through is held against the rate, nanoseconds of the program's clock.
const SPAN: u64 = 1_500_000_000;

/// A call of the program: from when to when, and whether the packet went on.
#[derive(Clone, Copy)]
struct Offer {
    from: u64,
    to: u64,
    through: bool,
}

/// Offers as many packets as it can from each of the first CPUs at once, for more than [`SPAN`]. Answers every offer, in the
/// order of time.
fn flood_from_all(bench: &Bench, packet: &[u8]) -> Result<Vec<Offer>> {
    let (programs, ifindex) = (&bench.sandbox.programs, bench.interfaces[0].0);
    let together = &Barrier::new(CPUS);
    let one = move |cpu: usize| -> Result<Vec<Offer>> {
        let pinned = cpus::tie(&[cpu]);
        // Whoever cannot be where it should be must not keep the others waiting.
        together.wait();
        pinned?;
        let until = monotonic_ns() + SPAN + SPAN / 3;
        let mut offers = Vec::new();
        loop {
            let from = monotonic_ns();
            if from > until {
                return Ok(offers);
            }
            let (action, _) = programs.run(ifindex, packet)?;
            let (to, through) = (monotonic_ns(), action != DROP);
            offers.push(Offer { from, to, through });
        }
    };
    let mut offers = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let each: Vec<_> = (0..CPUS).map(|cpu| scope.spawn(move || one(cpu))).collect();
        for (cpu, thread) in each.into_iter().enumerate() {
            let own = thread.join().map_err(|_| anyhow!("CPU {cpu} panicked"))??;
            let through = own.iter().filter(|offer| offer.through).count();
            ensure!(through > 0, "CPU {cpu} got nothing through of {}", own.len());
            offers.extend(own);
        }
        Ok(())
    })?;
    offers.sort_by_key(|offer| offer.from);
    Ok(offers)
}

/// A call that takes longer was interrupted, and when in it the rule was asked nobody knows.
const INTERRUPTED: u64 = 1_000_000;

/// Time until `end` in which, for all that is known, no CPU offered anything, beyond what the burst keeps: what could have come
/// through then is lost.
fn lost(offers: &[Offer], burst: u64, end: u64) -> u64 {
    let mut asked = offers.first().map_or(end, |offer| offer.from);
    let mut lost = 0;
    for offer in offers {
        if offer.to - offer.from <= INTERRUPTED {
            lost += offer.from.saturating_sub(asked).saturating_sub(burst);
            asked = asked.max(offer.to);
        }
    }
    lost + end.saturating_sub(asked).saturating_sub(burst)
}

#[test]
fn cpus_that_offer_packets_at_once_share_one_rate() -> Result<()> {
    let bench = Bench::new()?;
    let macs = (mac(bench.interfaces[0].0), [2, 0, 0, 0, 0, 9]);
    let packet = frame::udp4(macs, [203, 0, 113, 1], 64, 958);
    ensure!(packet.len() == 1_000);
    // The burst of a rule that names none, and one of a quarter of a second.
    for (slot, unit, per_second, parts) in [
        (0, Unit::Packets, 5_000, 100),
        (1, Unit::Packets, 5_000, 4),
        (2, Unit::Bytes, 5_000_000, 100),
        (3, Unit::Bytes, 5_000_000, 4),
    ] {
        let rate = Rate {
            unit,
            per_second,
            burst: per_second / parts,
        };
        bench.rules(&[limited(rate)], slot)?;
        let offers = flood_from_all(&bench, &packet)?;
        let each = if unit == Unit::Bytes { 1_000.0 } else { 1.0 };
        let start = offers[0].from;
        let within: Vec<Offer> = offers
            .iter()
            .take_while(|offer| offer.from < start + SPAN)
            .copied()
            .collect();
        let came = within.iter().filter(|offer| offer.through).count() as f64 * each;
        let end = within.iter().map(|offer| offer.to).max().unwrap_or(start);
        let missed = lost(&within, 1_000_000_000 / parts, start + SPAN);
        let rated =
            [end - start, SPAN.saturating_sub(missed)].map(|time| per_second as f64 * time as f64 / 1e9);
        // Two in a hundred, and a packet that each CPU owes.
        let slack = rated[0] * 0.02 + CPUS as f64 * each;
        let words = || {
            format!(
                "{rate:?}: {came} came through of {}, in {} ns, of which nobody offered any for {missed}; with the \
                 burst {:?} may",
                within.len(),
                end - start,
                rated.map(|rated| rated + rate.burst as f64)
            )
        };
        ensure!(
            came <= rated[0] + rate.burst as f64 + slack,
            "too much, {}",
            words()
        );
        ensure!(
            came >= rated[1] + rate.burst as f64 - slack,
            "too little, {}",
            words()
        );
        let through = offers.iter().filter(|offer| offer.through).count() as u64;
        let (matched, dropped) = bench.counted(slot);
        ensure!(
            matched.packets == offers.len() as u64 && matched.packets - dropped.packets == through,
            "counters: {matched:?} {dropped:?}, and {through} of {} came through",
            offers.len()
        );
        // That nothing was too much would prove nothing.
        ensure!(dropped.packets > through, "{matched:?} {dropped:?}");
        println!("{}", words());
    }
    Ok(())
}
