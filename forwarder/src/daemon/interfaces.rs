//! The interfaces of the configuration: attached, described to the program, and let go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Result, bail};
use forwarder_common::{
    interface::{
        CHECK_SOURCES, COUNT_PAIRS, COUNT_SOURCES, FILTER_SOURCES, FORWARD4, FORWARD6, GENERIC_MODE,
        IFINDEX_MAX, Interface, MACS, OUTSIDE, REDIRECTS4, RULES4, RULES6,
    },
    nexthop::mac_bits,
    origin::{ANYWHERE, UNCHECKED},
};
use ipnet::IpNet;
use tracing::{info, warn};

use super::{bypass, engine::Engine, ports};
use crate::{
    config::{Config, InterfaceConfig, Role, SourceCheck, XdpMode},
    dataplane::{
        Dataplane,
        attach::{Attached, Programs},
    },
    filter::sources::{self, FilterError, Sources},
    link::Served,
    netlink::command::Commander,
    source::{
        event::{Ifindex, Link},
        kernel::sysctl,
    },
};

/// What is said where packets should be counted by their source, and the maps have no room for it.
pub const NO_SOURCES: &str = "packets are not counted by source prefix: the pinned tables were made without `sources` in \
                              [statistics]. Run `forwarder detach` and start again";

/// Keeps the program on the interfaces of the configuration.
pub struct Interfaces {
    config: Config,
    programs: Programs,
    commands: Commander,
    sources: Option<Sources>,
    /// Bogons of lists.
    listed: Arc<Vec<IpNet>>,
    /// What keeps an interface from being served, by name.
    problems: BTreeMap<String, String>,
    /// `RULES4` and `RULES6` of every interface. At first both: what rules a controller before this one left stay in force.
    pub rules: u32,
    /// Whether the routes are whole, so that sources may be judged by them. At first as a controller before this one left it.
    pub checks: bool,
    /// Accounts that are not counted, and why.
    pub uncounted: Vec<String>,
}

impl Interfaces {
    /// For these interfaces, with these programs and bogons.
    ///
    /// # Errors
    /// No netlink socket.
    pub fn new(config: Config, programs: Programs, listed: Arc<Vec<IpNet>>) -> Result<Interfaces> {
        let commands = Commander::open()?;
        Ok(Interfaces {
            config,
            programs,
            commands,
            sources: None,
            listed,
            problems: BTreeMap::new(),
            rules: RULES4 | RULES6,
            checks: false,
            uncounted: Vec::new(),
        })
    }

    /// The loaded programs.
    pub fn programs(&mut self) -> &mut Programs {
        &mut self.programs
    }

    /// What keeps interfaces from being served.
    pub fn problems(&self) -> &BTreeMap<String, String> {
        &self.problems
    }

    /// Attaches to every interface, or to none: what was attached here is taken off again when one fails. Interfaces that
    /// an earlier controller served and that are not there now are left for later.
    ///
    /// # Errors
    /// The first interface that cannot be served, with what to do.
    pub fn start<D: Dataplane>(&mut self, engine: &mut Engine<D>, links: &[Link]) -> Result<()> {
        let adopted: BTreeSet<Ifindex> = self.programs.pinned().into_iter().collect();
        let interfaces = &engine.view().interfaces;
        let checked = |ifindex: &Ifindex| interfaces.get(*ifindex as usize).flags & CHECK_SOURCES != 0;
        self.checks = adopted.iter().any(checked);
        let mut fresh = Vec::new();
        for interface in self.config.interfaces.clone() {
            let link = links.iter().find(|link| link.name == interface.name);
            let result = match link {
                Some(link) => self.attach(engine, &interface, link),
                None => Err(anyhow::anyhow!(
                    "{}: there is no such interface. `ip -br link` lists those there are",
                    interface.name
                )),
            };
            match result {
                Ok(ifindex) => fresh.push(ifindex),
                Err(why) if !adopted.is_empty() => {
                    // The data path already runs: serving the others is better than serving none.
                    warn!("{why:#}");
                    self.problems.insert(interface.name.clone(), format!("{why:#}"));
                }
                Err(why) => {
                    for ifindex in fresh {
                        self.detach(engine, ifindex);
                    }
                    return Err(why);
                }
            }
        }
        let wanted: BTreeSet<Ifindex> = engine
            .world
            .links
            .all_served()
            .map(|(ifindex, _)| ifindex)
            .collect();
        for ifindex in adopted.difference(&wanted) {
            info!(
                ifindex,
                "an interface is no longer in the configuration: detached"
            );
            self.detach(engine, *ifindex);
        }
        self.programs.settle()
    }

    fn attach<D: Dataplane>(
        &mut self,
        engine: &mut Engine<D>,
        interface: &InterfaceConfig,
        link: &Link,
    ) -> Result<Ifindex> {
        let (name, ifindex) = (&interface.name, link.ifindex);
        if !link.ethernet || link.mac == [0; 6] {
            bail!("{name}: not an Ethernet interface: forwarder serves Ethernet only");
        }
        if ifindex >= IFINDEX_MAX {
            bail!(
                "{name}: its index {ifindex} is beyond {IFINDEX_MAX}, the most that forwarder's tables hold"
            );
        }
        let generic = interface.xdp == XdpMode::Generic;
        let mode_now = self.commands.xdp_attached(ifindex).ok().flatten();
        let port = ports::claim(engine.dataplane.tables(), name, ifindex, generic)?;
        let attached = self.programs.attach(ifindex, name, generic);
        let attached = match attached {
            Ok(attached) => attached,
            Err(why) => {
                ports::release(engine.dataplane.tables(), port as u32);
                return Err(why);
            }
        };
        let is_generic = mode_now.is_some_and(|(mode, _)| mode == crate::netlink::command::XdpMode::Generic);
        if attached != Attached::New && is_generic != generic {
            bail!(
                "{name}: the program runs in {} mode and the configuration asks for the other. Changing it interrupts the \
                 link: run `forwarder detach`, then start again",
                if is_generic { "generic" } else { "native" }
            );
        }
        if engine.dataplane.tables().interfaces.get(ifindex as usize).port != u32::from(port) {
            // Whatever stood under this number belonged to another interface.
            engine
                .dataplane
                .tables()
                .interfaces
                .set(ifindex as usize, &Interface::default());
        }
        engine.dataplane.set_device(ifindex, true)?;
        let served = Served {
            port,
            generic,
            feasible: interface.source_check == SourceCheck::Feasible,
            outside: is_outside(interface),
        };
        engine.serve(ifindex, Some(served));
        self.problems.remove(name);
        info!(ifname = %name, ifindex, port, mode = if generic { "generic" } else { "native" }, ?attached, "serving");
        Ok(ifindex)
    }

    fn detach<D: Dataplane>(&mut self, engine: &mut Engine<D>, ifindex: Ifindex) {
        let port = engine.dataplane.tables().interfaces.get(ifindex as usize).port;
        engine.serve(ifindex, None);
        if let Err(why) = engine.dataplane.set_device(ifindex, false) {
            warn!("{why:#}");
        }
        if let Err(why) = self.programs.detach(ifindex) {
            warn!("{why:#}");
        }
        engine
            .dataplane
            .tables()
            .interfaces
            .set(ifindex as usize, &Interface::default());
        let by_index = |(_, entry): &(u32, forwarder_common::directory::PortEntry)| entry.ifindex == ifindex;
        let port = if port != 0 {
            Some(port)
        } else {
            ports::used(engine.dataplane.tables()).find(by_index).map(|p| p.0)
        };
        if let Some(port) = port {
            ports::release(engine.dataplane.tables(), port);
        }
    }

    /// Looks at every interface of the configuration again: one that came (back) is attached, one that went is let go.
    pub fn reconcile<D: Dataplane>(&mut self, engine: &mut Engine<D>) {
        let mut changed = false;
        for ifindex in self.programs.pinned() {
            let name = engine.world.links.get(ifindex).map(|link| link.name.clone());
            if name.is_none_or(|name| self.config.interface(&name).is_none()) {
                self.detach(engine, ifindex);
                changed = true;
            }
        }
        for interface in self.config.interfaces.clone() {
            let Some(link) = engine.world.links.by_name(&interface.name).cloned() else {
                self.problems.entry(interface.name.clone()).or_insert_with(|| {
                    format!(
                        "there is no interface {} now: it is served once it is there",
                        interface.name
                    )
                });
                continue;
            };
            if engine.world.links.served(link.ifindex).is_some() {
                continue;
            }
            match self.attach(engine, &interface, &link) {
                Ok(_) => changed = true,
                Err(why) => {
                    if self
                        .problems
                        .insert(interface.name.clone(), format!("{why:#}"))
                        .is_none()
                    {
                        warn!("{why:#}");
                    }
                }
            }
        }
        if changed {
            engine.served_changed();
            self.describe(engine);
        }
    }

    /// Writes what the program must know of each interface: own addresses and filter first, flags and MACs last.
    pub fn describe<D: Dataplane>(&mut self, engine: &mut Engine<D>) {
        let own = engine.own_addresses4();
        if let Err(why) = engine.dataplane.set_own_addresses(&own) {
            warn!("{why:#}");
        }
        let filtered = match self.install_filter(engine) {
            Ok(()) => {
                self.problems.remove("filter");
                true
            }
            Err(why) => {
                let said = format!("{why}: the source filter in force stays in force");
                if self.problems.get("filter") != Some(&said) {
                    warn!("{said}");
                    self.problems.insert("filter".into(), said);
                }
                // The table in force stays in force.
                self.sources.is_some()
            }
        };
        self.number(engine);
        let forward6 = sysctl::forwarding6().unwrap_or(false);
        for (ifindex, served) in engine.world.links.all_served().collect::<Vec<_>>() {
            let Some(link) = engine.world.links.get(ifindex) else {
                continue;
            };
            let Some(interface) = self.config.interface(&link.name) else {
                continue;
            };
            let mut flags = 0;
            if filtered && self.filters(interface) {
                flags |= FILTER_SOURCES;
            }
            if sysctl::forwarding4(&link.name).unwrap_or(false) {
                flags |= FORWARD4;
            }
            if forward6 {
                flags |= FORWARD6;
            }
            // Where it cannot be read, take it that the kernel owes redirects.
            if sysctl::send_redirects4(&link.name).unwrap_or(true) {
                flags |= REDIRECTS4;
            }
            flags |= self.rules;
            let checks = self.checks && interface.source_check != SourceCheck::Off;
            if checks {
                flags |= CHECK_SOURCES;
            }
            flags |= counts(&self.config, interface, engine.view().sizes.sources);
            if served.generic {
                flags |= GENERIC_MODE;
            }
            let macs = [mac_bits(link.mac); MACS];
            let origin = match interface.source_check {
                _ if !checks => UNCHECKED,
                SourceCheck::Off | SourceCheck::Loose => ANYWHERE,
                SourceCheck::Strict | SourceCheck::Feasible => served.port as u32,
            };
            let new = Interface {
                port: served.port as u32,
                flags,
                macs,
                origin,
                ..Interface::default()
            };
            let tables = engine.dataplane.tables();
            let old = tables.interfaces.get(ifindex as usize);
            if old == new {
                continue;
            }
            tables.interfaces.set(ifindex as usize, &new);
        }
    }

    /// Gives every interface that has none yet its number, with forwarding still off: from then on it counts, and the
    /// tracepoint programs know it as an egress before the first frame is sent there.
    fn number<D: Dataplane>(&mut self, engine: &Engine<D>) {
        let tables = engine.dataplane.tables();
        for (ifindex, served) in engine.world.links.all_served() {
            let Some(link) = engine.world.links.get(ifindex) else {
                continue;
            };
            if tables.interfaces.get(ifindex as usize).port != 0 {
                continue;
            }
            let macs = [mac_bits(link.mac); MACS];
            let entry = Interface {
                port: served.port as u32,
                macs,
                ..Interface::default()
            };
            tables.interfaces.set(ifindex as usize, &entry);
            if let Ok(stats) = self.commands.link_stats(ifindex) {
                ports::rebase_ingress(tables, served.port as u32, stats.rx_packets);
            }
        }
    }

    /// Whether any interface looks for the routes of sources.
    pub fn check_sources(&self) -> bool {
        let checks = |interface: &InterfaceConfig| interface.source_check != SourceCheck::Off;
        self.config.interfaces.iter().any(checks)
    }

    /// Sources are looked at where packets come in from outside.
    fn filters(&self, interface: &InterfaceConfig) -> bool {
        let filter = &self.config.filter;
        let lists = [&filter.bogon_prefixes, &filter.own_prefixes];
        let any =
            filter.bogons || !filter.bogon_files.is_empty() || lists.iter().any(|list| !list.is_empty());
        is_outside(interface) && any
    }

    /// Whether that is so on any interface of the configuration.
    pub fn filters_any(&self) -> bool {
        self.config
            .interfaces
            .iter()
            .any(|interface| self.filters(interface))
    }

    /// Puts other bogons of lists in force.
    ///
    /// # Errors
    /// There is no room for them: those before stay in force.
    pub fn set_bogons<D: Dataplane>(
        &mut self,
        engine: &Engine<D>,
        listed: Arc<Vec<IpNet>>,
    ) -> Result<(), FilterError> {
        let before = std::mem::replace(&mut self.listed, listed);
        self.install_filter(engine).inspect_err(|_| self.listed = before)
    }

    fn own_prefixes_configured(&self) -> &[IpNet] {
        &self.config.filter.own_prefixes
    }

    fn install_filter<D: Dataplane>(&mut self, engine: &Engine<D>) -> Result<(), FilterError> {
        let mut sources = Sources {
            bogons: self.config.filter.bogons,
            listed: Arc::clone(&self.listed),
            own: self.own_prefixes_configured().to_vec(),
            on_link: Vec::new(),
        };
        for (ifindex, _) in engine.world.links.all_served() {
            let Some(link) = engine.world.links.get(ifindex) else {
                continue;
            };
            let Some(interface) = self.config.interface(&link.name) else {
                continue;
            };
            let subnets = engine.subnets(ifindex).into_iter().filter(|net| match net {
                IpNet::V4(net) => !net.network().is_link_local(),
                IpNet::V6(net) => !net.network().is_unicast_link_local(),
            });
            if self.filters(interface) {
                sources.on_link.extend(subnets);
            } else {
                // What is connected on our side of the edge is ours, said or not.
                sources.own.extend(subnets);
            }
        }
        sources.own.sort_unstable();
        sources.own.dedup();
        sources.on_link.sort_unstable();
        sources.on_link.dedup();
        if self.sources.as_ref() == Some(&sources) {
            return Ok(());
        }
        let compiled = sources::compile(&sources)?;
        // The half about to be written may have been in force a moment ago.
        engine.dataplane.wait_grace();
        sources::install(engine.dataplane.tables(), &compiled);
        self.sources = Some(sources);
        Ok(())
    }

    /// Why packets are not counted by source prefix, where they should be.
    pub fn no_sources<D: Dataplane>(&self, engine: &Engine<D>) -> Option<String> {
        let wanted = self.config.statistics.sources;
        (wanted && !engine.view().sizes.sources).then(|| NO_SOURCES.to_string())
    }

    /// Looks for what the fast path bypasses: nobody shall find that out by surprise.
    pub fn survey(&mut self) {
        let bypassed = self
            .commands
            .rules()
            .ok()
            .and_then(|rules| bypass::rules(&rules, &self.config.routes.tables));
        self.bypassed("rules", bypassed);
        let less = |interface: &&InterfaceConfig| {
            interface.source_check != SourceCheck::Strict
                && sysctl::strict_sources4(&interface.name).unwrap_or(false)
        };
        let less: Vec<&str> = self
            .config
            .interfaces
            .iter()
            .filter(less)
            .map(|i| i.name.as_str())
            .collect();
        let sentence = format!(
            "net.ipv4.conf.*.rp_filter asks for strict source checks on {}, and the configuration for less: write \
             source-check = \"strict\" there, or set rp_filter to 0 or 2",
            less.join(", ")
        );
        self.bypassed("rp_filter", (!less.is_empty()).then_some(sentence));
    }

    /// Whether policy rules make packets go another way than the tables say, as it was surveyed last.
    pub fn bypasses_rules(&self) -> bool {
        self.problems.contains_key("rules")
    }

    fn bypassed(&mut self, key: &str, sentence: Option<String>) {
        let Some(sentence) = sentence else {
            self.problems.remove(key);
            return;
        };
        if self.problems.get(key) != Some(&sentence) {
            warn!("{sentence}");
            self.problems.insert(key.into(), sentence);
        }
    }

    /// The netlink commands.
    pub fn commands(&mut self) -> &mut Commander {
        &mut self.commands
    }
}

/// Whether what is beyond an interface is not ours.
fn is_outside(interface: &InterfaceConfig) -> bool {
    matches!(interface.role, Role::Transit | Role::Peer)
}

/// What is counted of packets that come in by an interface, as flags. Accounts send from inside: only there their sources are
/// looked for. `sources`: the maps have counters by source prefix.
fn counts(config: &Config, interface: &InterfaceConfig, sources: bool) -> u32 {
    let accounts = !config.accounts.is_empty();
    let outside = is_outside(interface);
    let mut flags = 0;
    if outside {
        flags |= OUTSIDE;
    }
    if accounts {
        flags |= COUNT_PAIRS;
    }
    if accounts && !outside || config.statistics.sources && sources {
        flags |= COUNT_SOURCES;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn sources_are_looked_for_where_accounts_send_or_everywhere() {
        let of = |more: &str, role: &str, sources| {
            let text = format!("[[interface]]\nname = \"a\"\nrole = \"{role}\"\n{more}");
            let config = config::parse("f", &text).expect("sound");
            counts(&config, &config.interfaces[0], sources)
        };
        let account = "[[account]]\nname = \"a\"\nprefixes = [\"192.0.2.0/24\"]\n";
        let statistics = "[statistics]\nsources = true\n";
        for role in ["core", "customer"] {
            assert_eq!(of("", role, true), 0);
            assert_eq!(of(account, role, false), COUNT_PAIRS | COUNT_SOURCES);
            assert_eq!(of(statistics, role, true), COUNT_SOURCES);
            assert_eq!(of(statistics, role, false), 0);
        }
        for role in ["transit", "peer"] {
            assert_eq!(of("", role, true), OUTSIDE);
            assert_eq!(of(account, role, false), OUTSIDE | COUNT_PAIRS);
            assert_eq!(of(statistics, role, true), OUTSIDE | COUNT_SOURCES);
        }
    }
}
