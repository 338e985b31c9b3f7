//! The devices that carry the program: where packets may seem to come in, and what their links carry.

use anyhow::{Context, Result, bail};
use forwarder_common::{
    interface::{
        CHECK_SOURCES, COUNT_PAIRS, COUNT_SOURCES, FILTER_SOURCES, FORWARD4, FORWARD6, INACTIVE, Interface,
        RULES4, RULES6,
    },
    settings::Settings,
};

use super::everywhere;
use crate::{
    daemon::ports,
    dataplane::Tables,
    netlink::{dump, ethtool},
    source::event::Ifindex,
    stats::names,
};

/// A device that carries the program.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: Ifindex,
    /// What the program knows of it.
    pub interface: Interface,
    /// Bits each second, where it is up and its driver tells.
    pub speed: Option<u64>,
}

/// What is asked of a packet that comes in, and its name.
const ASKED: [(u32, &str); 5] = [
    (FILTER_SOURCES, "source filter"),
    (CHECK_SOURCES, "source validation"),
    (RULES4 | RULES6, "rules"),
    (COUNT_PAIRS, "accounts"),
    (COUNT_SOURCES, "counters by source"),
];

impl Served {
    /// How much is asked of packets there.
    fn weight(&self) -> usize {
        let asked = ASKED
            .iter()
            .filter(|(flags, _)| self.interface.flags & flags != 0);
        asked.count()
    }

    /// Where packets seemed to come in, as a sentence.
    pub fn told(&self, settings: Settings) -> String {
        let flags = self.interface.flags;
        let here = ASKED.iter().filter(|(asked, _)| flags & asked != 0);
        let mut asked: Vec<String> = here.map(|(_, name)| (*name).to_string()).collect();
        asked.extend(everywhere(settings));
        let asked = match asked.is_empty() {
            true => "nothing beside forwarding".to_string(),
            false => asked.join(", "),
        };
        format!("as if packets came in on {}: {asked}", self.name)
    }

    /// Whether it forwards this version of IP.
    pub const fn forwards(&self, six: bool) -> bool {
        self.interface.flags & if six { FORWARD6 } else { FORWARD4 } != 0
    }
}

/// The devices that carry the program: interfaces, and members of bonds. What stands on them has no link of its own.
///
/// # Errors
/// The kernel does not list its links.
pub fn links(tables: &Tables) -> Result<Vec<Served>> {
    let links = dump::dump_links().context("cannot list the interfaces")?;
    let mut found: Vec<Served> = Vec::new();
    for (_, entry) in names::ports(tables).filter(|(_, entry)| ports::is_attached(entry)) {
        let index = entry.ifindex as usize;
        let link = links.iter().find(|link| link.ifindex == entry.ifindex);
        let Some(link) = link.filter(|_| index < tables.interfaces.len()) else {
            continue;
        };
        let interface = tables.interfaces.get(index);
        if interface.port != 0 {
            found.push(Served {
                name: link.name.clone(),
                ifindex: link.ifindex,
                interface,
                speed: ethtool::speed(link.ifindex),
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Where packets may seem to come in: the interface that is named, or all, those first where most is asked.
///
/// # Errors
/// There is none, or none of that name.
pub fn candidates(tables: &Tables, links: &[Served], name: Option<&str>) -> Result<Vec<Served>> {
    if links.is_empty() {
        bail!(
            "no interface of this network namespace is served by these pins: is this where the controller runs? \
             `forwarder interfaces` lists those it knew ({} ports)",
            names::ports(tables).count()
        );
    }
    let mut candidates = links.to_vec();
    match name {
        Some(name) => {
            candidates.retain(|link| link.name == name);
            if candidates.is_empty() {
                let known: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
                bail!("interface {name:?} is not served: {} are", known.join(", "));
            }
        }
        None => {
            // Of what a bond does not use nothing comes in.
            candidates.retain(|link| link.interface.flags & INACTIVE == 0);
            candidates.sort_by_key(|link| std::cmp::Reverse(link.weight()));
        }
    }
    Ok(candidates)
}
