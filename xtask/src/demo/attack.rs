//! An amplification attack: answers of a time service that nobody asked for, large and many. A FlowSpec rule from a session
//! of router A cuts it; what else is for the same address goes on.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::operator::{self, Row};
use super::screen::{Screen, grouped};
use super::traffic::address;
use crate::lab::Lab;
use crate::lab::flowspec::{self, Rule};
use crate::net::udp::{self, Flow, Report, Running};
use crate::progress::{self, Poll};

const ROUTER: &str = "router-a";
/// NTP.
const SERVICE: u16 = 123;
const PORT: u16 = 22_300;
/// Datagrams a second, and octets of each.
const ATTACK: (u32, usize) = (3_000, 1_200);
const CLEAN: (u32, usize) = (500, 600);
/// How long packets are counted, before the rule and behind it.
const WINDOW: Duration = Duration::from_secs(1);
/// A rule must be in force, and counted, after this.
const SOON: Duration = Duration::from_secs(10);

/// The attack, then clean traffic to the same address.
fn flows(lab: &Lab, victim: IpAddr) -> [Flow; 2] {
    let flow = |name: &str, port, source_port, (rate, payload)| Flow {
        name: name.into(),
        from: lab.netns_path("internet-a"),
        to: vec![lab.netns_path("server-1")],
        destinations: vec![victim],
        port,
        source_port,
        rate,
        payload,
    };
    [
        flow("attack", PORT, SERVICE, ATTACK),
        flow("clean", PORT + 1, 0, CLEAN),
    ]
}

/// Packets of attack and clean traffic that arrived in each second.
type Rates = [u64; 2];

/// What was seen while the traffic ran.
struct Seen {
    before: Rates,
    after: Rates,
    /// The rules while it is cut.
    rules: String,
    /// From the announcement until the rule was in force.
    took: Duration,
}

/// Attacks, has the attack cut, and counts.
pub fn cut(lab: &Lab, screen: &mut Screen) -> Result<()> {
    let IpAddr::V4(victim) = address("server-1", false)? else {
        bail!("server-1 has no IPv4 address")
    };
    let rule = Rule {
        destination: victim,
        source_port: SERVICE,
    };
    let running = udp::start(flows(lab, victim.into()).to_vec())?;
    // The flows are stopped whatever happens in between.
    let seen = under_attack(lab, screen, rule, &running);
    let reports = running.stop()?;
    let Seen {
        before,
        after,
        rules,
        took,
    } = seen?;
    let [attack, clean] = reports.as_slice() else {
        bail!("two flows, and {} reports", reports.len())
    };
    let counted = counted(lab, attack);
    screen.say("  packets/s at server-1       before    after");
    for (name, at) in [
        ("attack, UDP from port 123", 0),
        ("clean, to the same address", 1),
    ] {
        screen.say(&format!(
            "  {name:26}{:>8}{:>9}",
            grouped(before[at]),
            grouped(after[at])
        ));
    }
    screen.session(ROUTER, "forwarder filter show", &rules, 4);
    screen.check(
        "attack on server-1: it arrives until there is a rule, and then nothing of it",
        Ok((
            before[0] > u64::from(ATTACK.0) / 2 && after[0] == 0,
            format!(
                "{} packets/s before, {} after; in force {:.1} s after BGP told it",
                grouped(before[0]),
                grouped(after[0]),
                took.as_secs_f32()
            ),
        )),
    )?;
    screen.check(
        "attack on server-1: clean traffic to the same address goes on",
        Ok((
            clean.sent > 0 && clean.lost() == 0 && after[1] > u64::from(CLEAN.0) / 2,
            format!(
                "{} sent, {} lost; {} packets/s before, {} after",
                grouped(clean.sent),
                clean.lost(),
                grouped(before[1]),
                grouped(after[1])
            ),
        )),
    )?;
    screen.check("attack on server-1: the rule counts what it cut", counted)?;
    flowspec::announce(lab, ROUTER, None).map(drop)
}

fn under_attack(lab: &Lab, screen: &Screen, rule: Rule, running: &Running) -> Result<Seen> {
    let before = rates(running, "the attack runs")?;
    let announced = flowspec::announce(lab, ROUTER, Some(rule))?;
    let told = Instant::now();
    let file = announced.file.file_name().unwrap_or_default();
    screen.session(
        ROUTER,
        &format!("grep route {}", file.display()),
        &announced.line,
        1,
    );
    screen.say(&format!("  {ROUTER}# {}", announced.command));
    progress::wait(
        "the FlowSpec rule in force",
        SOON,
        Duration::from_millis(50),
        || {
            Ok(match active(lab)? {
                Some(_) => Poll::Ready(()),
                None => Poll::Waiting("it is not".into()),
            })
        },
    )?;
    let took = told.elapsed();
    // What is on its way when the rule comes has been let through.
    progress::pause("what is on its way", Duration::from_millis(100))?;
    let after = rates(running, "the attack is cut")?;
    // The controller looks at the rules once a second.
    progress::wait("the rule's hits", SOON, Duration::from_millis(50), || {
        let hits = active(lab)?.map(|row| operator::number(&row, "packets_per_second"));
        Ok(match hits.transpose()? {
            None | Some(0) => Poll::Waiting("none yet".into()),
            Some(_) => Poll::Ready(()),
        })
    })?;
    let rules = operator::text(lab, ROUTER, "filter show")?;
    Ok(Seen {
        before,
        after,
        rules,
        took,
    })
}

/// What arrives in each second.
fn rates(running: &Running, what: &str) -> Result<Rates> {
    let (then, start) = (running.arrived(), Instant::now());
    progress::pause(what, WINDOW)?;
    let (now, seconds) = (running.arrived(), start.elapsed().as_secs_f64());
    let each = |at: usize| -> Result<u64> {
        let (now, then) = now.get(at).zip(then.get(at)).context("a flow is missing")?;
        Ok(((now - then) as f64 / seconds).round() as u64)
    };
    Ok([each(0)?, each(1)?])
}

/// The rule of the session, if it is in force.
fn active(lab: &Lab) -> Result<Option<Row>> {
    let rows = operator::rows(lab, ROUTER, "filter show")?;
    let ours = |row: &Row| {
        let is = |field: &str, value: &str| row.get(field).is_some_and(|found| found == value);
        is("origin", "flowspec") && is("state", "active")
    };
    Ok(rows.into_iter().find(ours))
}

/// What was sent and did not arrive must be what the rule says that it dropped, and what `drops` has under its reason. The
/// controller looks at the rules once a second.
fn counted(lab: &Lab, attack: &Report) -> Result<(bool, String)> {
    let mut last = String::new();
    let held = progress::wait("the rule's counters", SOON, Duration::from_millis(100), || {
        let Some(row) = active(lab)? else {
            bail!("the rule is gone")
        };
        let by_rule = operator::number(&row, "dropped_packets")?;
        let by_reason = operator::reason(lab, ROUTER, "flowspec")?;
        last = format!(
            "{} of {} sent did not arrive, the rule dropped {}, `drops` has {} as flowspec",
            grouped(attack.lost()),
            grouped(attack.sent),
            grouped(by_rule),
            grouped(by_reason)
        );
        let all = [by_rule, by_reason].iter().all(|count| *count == attack.lost());
        Ok(if all && attack.lost() > 0 {
            Poll::Ready(())
        } else {
            Poll::Waiting(last.clone())
        })
    });
    Ok((held.is_ok(), last))
}
