//! The controller is killed under traffic; then a carrier is cut.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::screen::{Screen, grouped};
use super::{operator, traffic};
use crate::interrupt;
use crate::lab::{self, Lab};
use crate::net::udp::{self, Flow, Report};
use crate::progress::{self, Poll};

const ROUTER: &str = "router-a";
/// Traffic may pause so long while a small table moves.
const SILENCE_MS: u64 = 2_500;
/// From the cut to the next measurement, at least.
const SETTLE: Duration = Duration::from_secs(3);

/// SIGKILL to router A's controller under traffic, a while without one, a new one: nothing is lost, nothing forgotten.
pub fn kill_controller(lab: &Lab, screen: &mut Screen, flows: &[Flow]) -> Result<()> {
    let before = operator::by_prefix(lab, ROUTER)?;
    let forwarded_before = operator::forwarded(lab, ROUTER)?;
    let running = udp::start(flows.to_vec())?;
    // The flows are stopped whatever happens in between.
    let outcome = kill_and_restart(lab, screen);
    let reports = running.stop()?;
    let restarted = outcome?;
    let (lossless, figure) = traffic::figure(&reports);
    screen.check(
        "controller killed and restarted under traffic: nothing lost",
        Ok((lossless, format!("{figure}; {restarted}"))),
    )?;
    let result = kept(lab, &before, forwarded_before, &reports);
    screen.check("controller killed and restarted: no counter was reset", result)
}

fn kill_and_restart(lab: &Lab, screen: &Screen) -> Result<String> {
    interrupt::sleep(Duration::from_secs(1))?;
    let controller = lab.controller(ROUTER)?;
    screen.say(&format!("  {ROUTER}# kill -KILL {}", controller.pid));
    controller.kill();
    let dead = Instant::now();
    progress::pause("traffic without a controller", Duration::from_millis(1_500))?;
    lab.start_controller(ROUTER)?;
    let without = dead.elapsed();
    screen.say(&format!(
        "  {ROUTER}# forwarder run   (answers {:.1} s after the kill)",
        without.as_secs_f32()
    ));
    interrupt::sleep(Duration::from_secs(1))?;
    Ok(format!("{:.1} s without a controller", without.as_secs_f32()))
}

/// Every prefix counts at least what it had, and the total grew by at least what must have crossed router A.
fn kept(
    lab: &Lab,
    before: &std::collections::HashMap<String, u64>,
    forwarded_before: u64,
    reports: &[Report],
) -> Result<(bool, String)> {
    let after = operator::by_prefix(lab, ROUTER)?;
    let lower: Vec<_> = before
        .iter()
        .filter(|(prefix, packets)| after.get(*prefix).copied().unwrap_or(0) < **packets)
        .map(|(prefix, packets)| format!("{prefix} had {packets}, has {:?}", after.get(prefix)))
        .collect();
    if let Some(first) = lower.first() {
        return Ok((
            false,
            format!("{} prefixes count less than before: {first}", lower.len()),
        ));
    }
    let forwarded = operator::forwarded(lab, ROUTER)?;
    let grown = forwarded.saturating_sub(forwarded_before);
    // server-1's gateway is router A: what server-1 sent crossed it.
    let crossed: u64 = reports
        .iter()
        .filter(|r| r.name.starts_with("server-1 "))
        .map(|r| r.received)
        .sum();
    // Law 4 lets the kernel forward a few while neighbours are confirmed; the share is checked elsewhere.
    let enough = grown * 1_000 >= crossed * 999;
    let figure = format!(
        "{} packets before, {} after, {} prefixes, none lower",
        grouped(forwarded_before),
        grouped(forwarded),
        grouped(before.len() as u64)
    );
    Ok((enough && crossed > 0, figure))
}

/// Cuts carrier A under traffic: what went through it must find carrier B.
pub fn cut_carrier(lab: &Lab, screen: &mut Screen, flows: &[Flow], tables: [usize; 2]) -> Result<()> {
    let running = udp::start(flows.to_vec())?;
    let outcome = cut_and_wait(lab, screen, flows, tables);
    let reports = running.stop()?;
    let converged = outcome?;
    let lost: u64 = reports.iter().map(Report::lost).sum();
    let sent: u64 = reports.iter().map(|r| r.sent).sum();
    let gap = reports.iter().map(|r| r.longest_gap_ms).max().unwrap_or(0);
    let silent: Vec<_> = reports
        .iter()
        .filter(|r| r.received == 0)
        .map(|r| r.name.as_str())
        .collect();
    let figure = format!(
        "{} sent, {} lost, longest silence {gap} ms, routes moved after {:.1} s",
        grouped(sent),
        grouped(lost),
        converged.as_secs_f32()
    );
    let held = silent.is_empty() && gap < SILENCE_MS + convergence(tables).as_millis() as u64;
    screen.check(
        "carrier A cut: packets lost while traffic moves to B",
        Ok((held, figure)),
    )?;
    let moved = traffic::run(flows, Duration::from_millis(1_500))?;
    screen.check(
        "carrier A cut: nothing lost once moved",
        Ok(traffic::figure(&moved)),
    )
}

fn cut_and_wait(lab: &Lab, screen: &Screen, flows: &[Flow], tables: [usize; 2]) -> Result<Duration> {
    interrupt::sleep(Duration::from_secs(1))?;
    screen.say("  transit-a# ip link set router0 down");
    lab.set_link("transit-a", "router0", false)?;
    let cut = Instant::now();
    wait_moved(lab, tables, flows, "twin0")?;
    let converged = cut.elapsed();
    progress::pause("traffic by carrier B", SETTLE.saturating_sub(converged))?;
    Ok(converged)
}

/// Plugs carrier A in again and waits until its routes are back.
pub fn restore_carrier(lab: &Lab, screen: &mut Screen, flows: &[Flow], tables: [usize; 2]) -> Result<()> {
    screen.say("  transit-a# ip link set router0 up");
    lab.set_link("transit-a", "router0", true)?;
    lab::routing::wait_converged(lab, tables)?;
    wait_moved(lab, tables, flows, "transit0")?;
    interrupt::sleep(Duration::from_millis(500))?;
    let reports = traffic::run(flows, Duration::from_millis(1_500)).context("traffic after the repair")?;
    screen.check("carrier A back: nothing lost", Ok(traffic::figure(&reports)))
}

/// Waits until router A's kernel sends what servers send to carrier A and to the table out of the wanted interface, and
/// router B's agrees.
fn wait_moved(lab: &Lab, tables: [usize; 2], flows: &[Flow], ifname: &str) -> Result<()> {
    // Carrier A's own networks are reached through router A when its carrier is there.
    let by_b = if ifname == "twin0" { "transit0" } else { "twin0" };
    let mut left = Vec::new();
    for flow in flows
        .iter()
        .filter(|f| f.name.starts_with("server-") && !f.name.contains("internet-b"))
    {
        // A sample over the whole table: it arrives in no order.
        left.extend(
            flow.destinations
                .iter()
                .step_by(10)
                .map(|target| (ROUTER, *target, ifname)),
        );
        if flow.name.contains("internet-a") {
            left.extend(flow.destinations.iter().map(|target| ("router-b", *target, by_b)));
        }
    }
    let limit = Duration::from_secs(30) + convergence(tables) * 3;
    progress::wait(
        "routes of carrier A move",
        limit,
        Duration::from_millis(100),
        || {
            while let Some((node, target, wanted)) = left.last() {
                let mut command = lab.command(node, "ip")?;
                let answer = command
                    .args(["route", "get", &target.to_string()])
                    .output()?
                    .stdout;
                if !String::from_utf8_lossy(&answer).contains(&format!("dev {wanted} ")) {
                    return Ok(Poll::Waiting(format!("{node}: {target} not by {wanted} yet")));
                }
                left.pop();
            }
            Ok(Poll::Ready(()))
        },
    )
}

/// How long BIRD and the kernel may take to move a table, measured generously: 25,000 routes a second.
pub fn convergence(tables: [usize; 2]) -> Duration {
    Duration::from_millis((tables[0] + tables[1]) as u64 / 25)
}
