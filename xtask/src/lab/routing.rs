//! The routing daemons of the lab: BIRD on carriers, BIRD or FRR on our routers. What one wants of a daemon, whichever it is.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::process::Process;
use super::topology::ROUTERS;
use super::{Lab, Options, bird, exabgp, frr};
use crate::progress::{self, Poll};
use crate::table::Route;

/// The nodes that speak BGP.
pub const SPEAKERS: [&str; 4] = ["transit-a", "transit-b", "router-a", "router-b"];

/// What runs on the routers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Daemon {
    /// BIRD 2
    #[default]
    Bird,
    /// FRR: zebra, staticd and bgpd
    Frr,
}

/// A BGP session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name, or the neighbour's address.
    pub name: String,
    /// `Established`, or the reason why not.
    pub state: String,
    /// When it changed, or for how long it has been so.
    pub since: String,
}

/// What runs on a node of a lab that is up.
pub fn of(lab: &Lab, node: &str) -> Result<Daemon> {
    let frr = lab
        .processes()?
        .iter()
        .any(|process| process.node == node && process.what == "bgpd");
    Ok(if frr { Daemon::Frr } else { Daemon::Bird })
}

/// Writes the configurations of all, with this daemon on the routers.
pub fn write_configs(lab: &Lab, tables: [&[Route]; 2], options: &Options) -> Result<()> {
    bird::write_configs(lab, tables, options.forwarder)?;
    if options.daemon == Daemon::Frr {
        for node in ROUTERS {
            frr::write_configs(lab, node)?;
        }
    }
    Ok(())
}

/// Starts what speaks BGP on a node, where the routers have this daemon.
pub fn start(lab: &Lab, node: &str, routers: Daemon) -> Result<Vec<Process>> {
    if routers == Daemon::Frr && ROUTERS.contains(&node) {
        frr::start(lab, node)
    } else {
        Ok(vec![bird::start(lab, node)?])
    }
}

/// The BGP sessions of a node.
pub fn sessions(lab: &Lab, node: &str) -> Result<Vec<Session>> {
    match of(lab, node)? {
        Daemon::Bird => bird::sessions(lab, node),
        Daemon::Frr => frr::sessions(lab, node),
    }
}

/// Prefixes that a node's daemon knows, IPv4 and IPv6.
pub fn networks(lab: &Lab, node: &str) -> Result<[usize; 2]> {
    match of(lab, node)? {
        Daemon::Bird => bird::networks(lab, node),
        Daemon::Frr => frr::networks(lab, node),
    }
}

/// Prefixes that a router has learned from its carrier, IPv4 and IPv6.
fn learned(lab: &Lab, node: &str) -> Result<[usize; 2]> {
    match of(lab, node)? {
        Daemon::Bird => bird::learned(lab, node),
        Daemon::Frr => frr::learned(lab, node),
    }
}

fn log_path(lab: &Lab, process: &Process) -> std::path::PathBuf {
    match process.what.as_str() {
        "bird" => bird::log_path(lab, &process.node),
        "exabgp" => exabgp::log_path(lab, &process.node),
        daemon => frr::log_path(lab, &process.node, daemon),
    }
}

/// Waits until every BGP session between the nodes of the lab is established, both routers have the whole table from their carrier, and
/// their kernels hold it too.
pub fn wait_converged(lab: &Lab, tables: [usize; 2]) -> Result<()> {
    let total = (tables[0] + tables[1]) as u64;
    let limit = Duration::from_secs(60 + total / 2_000);
    let every = Duration::from_millis(100 + total / 2_000);
    progress::wait("BGP sessions and tables", limit, every, || {
        for process in lab.processes()?.iter().filter(|p| p.what != "forwarder") {
            if !process.alive() {
                let log = log_path(lab, process);
                bail!(
                    "{} on {} ended; its log: {}",
                    process.what,
                    process.node,
                    log.display()
                );
            }
        }
        for node in SPEAKERS {
            // A daemon that is still reading a million lines does not answer yet.
            let Ok(sessions) = sessions(lab, node) else {
                return Ok(Poll::Waiting(format!("{node} reads its table")));
            };
            // Forwarder may not run yet, and what the others know does not wait for it.
            let mut others = sessions.iter().filter(|session| session.name != bird::FEED);
            if let Some(down) = others.find(|session| session.state != "Established") {
                return Ok(Poll::Waiting(format!("{node}: {} is {}", down.name, down.state)));
            }
        }
        for node in ROUTERS {
            let have = learned(lab, node)?;
            if have[0] < tables[0] || have[1] < tables[1] {
                return Ok(Poll::Waiting(format!(
                    "{node} learned {} + {} prefixes",
                    have[0], have[1]
                )));
            }
        }
        for node in ROUTERS {
            let have = super::kernel_routes(lab, node)?;
            if have[0] < tables[0] || have[1] < tables[1] {
                return Ok(Poll::Waiting(format!(
                    "{node}: {} + {} routes in the kernel",
                    have[0], have[1]
                )));
            }
        }
        Ok(Poll::Ready(()))
    })
}
