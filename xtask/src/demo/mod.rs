//! `cargo xtask demo`: the whole thread in one command, as an operator would see it, ending with one line per check.

mod attack;
mod faults;
mod hostile;
mod operator;
mod paths;
mod screen;
mod traffic;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::lab::cli::NetworkArgs;
use crate::lab::topology::ROUTERS;
use crate::lab::{Lab, Options, routing};
use crate::table::{self, Route};
use crate::{interrupt, net};
use screen::{Screen, grouped};

/// The steady phase, over which the share of the fast path is measured.
const STEADY: Duration = Duration::from_secs(5);
/// The share that must take the fast path, percent.
const SHARE: f64 = 99.9;
const TCP_BYTES: usize = 4_000_000;

/// Options of `cargo xtask demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Print the checks as a JSON array on stdout, everything else on stderr
    #[arg(long)]
    json: bool,
    /// Leave the lab up at the end
    #[arg(long)]
    keep: bool,
    /// Take the binary as it was last built
    #[arg(long)]
    no_build: bool,
    /// Only what plain kernel forwarding can show: tells faults of the lab from faults of forwarder
    #[arg(long)]
    no_forwarder: bool,
    /// A second lab beside the first
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    network: NetworkArgs,
}

impl Args {
    /// Whether the binary is to be built first.
    pub fn builds(&self) -> bool {
        !self.no_build && !self.no_forwarder
    }
}

/// Runs the demo with a binary (by default the newest one built). An error when a check does not hold.
pub fn run(args: &Args, binary: Option<PathBuf>) -> Result<()> {
    interrupt::install()?;
    let started = Instant::now();
    let mut screen = Screen::new(args.json);
    let options = Options {
        name: args.name.clone(),
        forwarder: !args.no_forwarder,
        binary,
        ..args.network.options()
    };
    screen.title("Raising the lab");
    let lab = Lab::up(&options)?.guard();
    let outcome = show(&lab, &mut screen, &options, started);
    if args.keep {
        lab.keep();
        screen
            .say("\nThe lab stays up: cargo xtask lab exec router-a forwarder status; cargo xtask lab down");
    } else {
        interrupt::forget();
        lab.down()?;
    }
    let all_hold = match outcome {
        Ok(()) => screen.close()?,
        Err(error) => {
            screen.close()?;
            return Err(error);
        }
    };
    screen.say(&format!("{:.0} s in all", started.elapsed().as_secs_f32()));
    if !all_hold {
        bail!("not every check holds");
    }
    Ok(())
}

fn show(lab: &Lab, screen: &mut Screen, options: &Options, started: Instant) -> Result<()> {
    let tables = [table::v4(&options.table_v4)?, table::v6(&options.table_v6)?];
    let sizes = [tables[0].len(), tables[1].len()];
    screen.say(&format!(
        "  up after {:.1} s: cargo xtask lab status shows it",
        started.elapsed().as_secs_f32()
    ));
    screen.check("BGP sessions are established, tables learned", sessions(lab))?;
    let limit = Duration::from_secs(20) + faults::convergence(sizes) * 3;
    let flows = traffic::flows(lab, [&tables[0][..], &tables[1][..]] as [&[Route]; 2])?;
    // The first packets resolve neighbours; the kernel carries them, and they are not measured.
    traffic::run(&flows, Duration::from_secs(1))?;
    if options.forwarder {
        screen.check(
            "verify: the fast path does what the kernel would",
            operator::wait_in_sync(lab, limit),
        )?;
    }

    screen.title("Traffic, both ways, IPv4 and IPv6");
    steady(lab, screen, &flows, options.forwarder)?;
    screen.check("TCP over IPv4", traffic::transfers(lab, false, TCP_BYTES))?;
    screen.check("TCP over IPv6", traffic::transfers(lab, true, TCP_BYTES))?;

    screen.title("Paths");
    for (v6, family) in [(false, "IPv4"), (true, "IPv6")] {
        let result = paths::ping(lab, screen, v6);
        screen.check(&format!("ping, {family}"), result)?;
        let result = paths::traceroute(lab, screen, v6);
        screen.check(&format!("traceroute, {family}"), result)?;
        let result = paths::path_mtu(lab, screen, v6);
        screen.check(&format!("path MTU discovery, {family}"), result)?;
    }

    if options.forwarder {
        screen.title("Spoofed and bogon packets from carrier A");
        for kind in hostile::KINDS {
            screen.check(&format!("dropped: {}", kind.name), hostile::send(lab, kind))?;
        }
        for (v6, family) in [(false, "IPv4"), (true, "IPv6")] {
            let name = format!("comes in by A, is answered by B: nothing dropped, {family}");
            screen.check(&name, hostile::asymmetric(lab, v6))?;
        }
        screen.title("An amplification attack on server-1 from internet-a");
        step(screen, "attack cut by a FlowSpec rule", |screen| {
            attack::cut(lab, screen)
        })?;
        screen.title("What the operator of router A sees");
        look(lab, screen);
        screen.check("every packet accounted once", operator::sums(lab))?;

        screen.title("Router A's controller is killed");
        step(screen, "controller killed under traffic", |screen| {
            faults::kill_controller(lab, screen, &flows)
        })?;
    }
    screen.title("Carrier A is cut");
    step(screen, "carrier A cut", |screen| {
        faults::cut_carrier(lab, screen, &flows, sizes)
    })?;
    if options.forwarder {
        screen.check("carrier A cut: verify", operator::wait_in_sync(lab, limit))?;
    }
    step(screen, "carrier A back", |screen| {
        faults::restore_carrier(lab, screen, &flows, sizes)
    })?;
    if options.forwarder {
        screen.check("carrier A back: verify", operator::wait_in_sync(lab, limit))?;
        screen.check("every packet accounted once, at the end", operator::sums(lab))?;
    }
    Ok(())
}

/// A step with checks of its own: when it cannot even be done, that is a failed check, and the demo goes on.
fn step(screen: &mut Screen, what: &str, work: impl FnOnce(&mut Screen) -> Result<()>) -> Result<()> {
    match work(screen) {
        Ok(()) => Ok(()),
        Err(error) => screen.check(what, Err(error)),
    }
}

fn sessions(lab: &Lab) -> Result<(bool, String)> {
    let (mut up, mut all) = (0, 0);
    for node in routing::SPEAKERS {
        let sessions = routing::sessions(lab, node)?;
        all += sessions.len();
        up += sessions
            .iter()
            .filter(|session| session.state == "Established")
            .count();
    }
    let [v4, v6] = routing::networks(lab, ROUTERS[0])?;
    let figure = format!(
        "{up} of {all} sessions, {} + {} prefixes",
        grouped(v4 as u64),
        grouped(v6 as u64)
    );
    Ok((up == all && all > 0, figure))
}

fn steady(lab: &Lab, screen: &mut Screen, flows: &[net::udp::Flow], forwarder: bool) -> Result<()> {
    let ours = |lab: &Lab| {
        ROUTERS
            .iter()
            .map(|node| operator::forwarded(lab, node))
            .sum::<Result<u64>>()
    };
    let before = if forwarder { ours(lab).ok() } else { None };
    let kernel_before = operator::kernel_forwarded(lab)?;
    let reports = traffic::run(flows, STEADY)?;
    screen.check(
        "UDP over IPv4 and IPv6: nothing lost, nothing doubled",
        Ok(traffic::figure(&reports)),
    )?;
    if !forwarder {
        return Ok(());
    }
    let share = || {
        let kernel = operator::kernel_forwarded(lab)? - kernel_before;
        let Some(before) = before else {
            bail!("no counters before the traffic")
        };
        let ours = ours(lab)?.saturating_sub(before);
        let all = ours + kernel;
        let percent = ours as f64 * 100.0 / all.max(1) as f64;
        let figure = format!(
            "{percent:.2} %: {} by us, {} by the kernel",
            grouped(ours),
            grouped(kernel)
        );
        Ok((percent >= SHARE, figure))
    };
    screen.check("fast path carries at least 99.9 % of steady traffic", share())
}

/// The screens an operator would open; that they cannot be shown is told, not hidden.
fn look(lab: &Lab, screen: &Screen) {
    let screens = [
        ("status", 30),
        ("interfaces", 12),
        ("counters --by prefix --top 10", 12),
        ("drops", 16),
        ("lookup 33.20.1.10", 8),
        (
            "trace --interface core0 --src 192.0.2.11 --dst 33.10.1.10 --proto udp --dport 53",
            16,
        ),
    ];
    for (words, lines) in screens {
        match operator::text(lab, "router-a", words) {
            Ok(text) => screen.session("router-a", &format!("forwarder {words}"), &text, lines),
            Err(error) => screen.session(
                "router-a",
                &format!("forwarder {words}"),
                &format!("{error:#}"),
                lines,
            ),
        }
    }
}
