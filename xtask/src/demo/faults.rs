//! The controller is killed under traffic; then a carrier is cut.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::screen::{Screen, grouped};
use super::{operator, traffic};
use crate::interrupt;
use crate::lab::Lab;
use crate::net::udp::{self, Flow, Report};
use crate::progress::{self, Poll};

const ROUTER: &str = "router-a";

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
    interrupt::sleep(Duration::from_millis(1_500))?;
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
pub fn cut_carrier(lab: &Lab, screen: &mut Screen, flows: &[Flow]) -> Result<()> {
    let running = udp::start(flows.to_vec())?;
    let cut = interrupt::sleep(Duration::from_secs(1)).and_then(|()| {
        screen.say("  transit-a# ip link set router0 down");
        lab.set_link("transit-a", "router0", false)?;
        interrupt::sleep(Duration::from_secs(3))
    });
    let reports = running.stop()?;
    cut?;
    let lost: u64 = reports.iter().map(Report::lost).sum();
    let sent: u64 = reports.iter().map(|r| r.sent).sum();
    let gap = reports.iter().map(|r| r.longest_gap_ms).max().unwrap_or(0);
    let silent: Vec<_> = reports
        .iter()
        .filter(|r| r.received == 0)
        .map(|r| r.name.as_str())
        .collect();
    let figure = format!(
        "{} sent, {} lost, longest silence {gap} ms",
        grouped(sent),
        grouped(lost)
    );
    let moved = traffic::run(flows, Duration::from_millis(1_500))?;
    let (clean, after) = traffic::figure(&moved);
    screen.check(
        "carrier A cut: packets lost while traffic moves to B",
        Ok((silent.is_empty() && gap < 2_500, figure)),
    )?;
    screen.check("carrier A cut: nothing lost once moved", Ok((clean, after)))
}

/// Plugs carrier A in again and waits until its routes are back.
pub fn restore_carrier(lab: &Lab, screen: &mut Screen, flows: &[Flow], tables: [usize; 2]) -> Result<()> {
    screen.say("  transit-a# ip link set router0 up");
    lab.set_link("transit-a", "router0", true)?;
    crate::lab::bird::wait_converged(lab, tables)?;
    let target = traffic::address("internet-a", false)?.to_string();
    progress::wait(
        "traffic back on carrier A",
        Duration::from_secs(60),
        Duration::from_millis(100),
        || {
            let route = crate::lab::run(lab.command(ROUTER, "ip")?.args(["route", "get", &target]))?;
            Ok(if route.contains("dev transit0") {
                Poll::Ready(())
            } else {
                Poll::Waiting("still by B".into())
            })
        },
    )?;
    let reports = traffic::run(flows, Duration::from_millis(1_500)).context("traffic after the repair")?;
    screen.check("carrier A back: nothing lost", Ok(traffic::figure(&reports)))
}
