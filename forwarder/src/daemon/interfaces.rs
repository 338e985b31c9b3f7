//! The interfaces of the configuration: attached, described to the program, and let go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use forwarder_common::{
    directory::PortEntry,
    interface::{CHECK_SOURCES, Interface, MACS, RULES4, RULES6},
    nexthop::mac_bits,
};
use ipnet::IpNet;
use tracing::{info, warn};

use super::{
    bypass,
    describe::{self, Context},
    engine::Engine,
    ports,
    state::{BondState, GatewayState},
    stations,
};
use crate::{
    config::{Config, InterfaceConfig, Role, SourceCheck},
    dataplane::{
        Dataplane, Tables,
        attach::{Attached, Programs},
    },
    filter::sources::{self, FilterError, Sources},
    layout::{self, Aggregate, Device, Layout, Station, Takes},
    link::{Links, Served},
    netlink::{
        self,
        command::Commander,
        ethtool::Ethtool,
        netdev::{self, XdpFeatures},
    },
    source::{
        event::{Detail, Ifindex, Link},
        kernel::sysctl,
    },
    stats::names,
};

/// How long a member of a bond may take to send again after the program was attached to it.
const MEMBER_RETURNS: Duration = Duration::from_secs(15);
/// How often that is looked at.
const MEMBER_LOOK: Duration = Duration::from_millis(100);
/// Keeps the program on the interfaces of the configuration.
pub struct Interfaces {
    config: Config,
    programs: Programs,
    commands: Commander,
    sources: Option<Sources>,
    /// Bogons of lists.
    listed: Arc<Vec<IpNet>>,
    /// Which devices carry the program, and what they serve, as it was made so last.
    layout: Layout,
    /// Devices that carry the program, with the numbers of their counters.
    devices: BTreeMap<Ifindex, u16>,
    /// By device or bond what its sums are made of, and so when they begin anew.
    groups: BTreeMap<u32, Vec<Part>>,
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
            layout: Layout::default(),
            devices: BTreeMap::new(),
            groups: BTreeMap::new(),
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

    /// Roles of interfaces by name, those of VLANs that have no section of their own among them.
    pub fn roles(&self) -> impl Iterator<Item = (String, Role)> {
        let stations = self.layout.stations.values();
        stations.map(|station| (station.name.clone(), station.config.role))
    }

    /// Bonds, for people.
    pub fn bonds<D: Dataplane>(&self, engine: &Engine<D>) -> Vec<BondState> {
        let links = &engine.world.links;
        let of = |(ifindex, aggregate): (&Ifindex, &Aggregate)| {
            let link = links.get(*ifindex)?;
            let Detail::Bond(bond) = link.detail else {
                return None;
            };
            let members = self.layout.devices_of(*ifindex);
            let (sending, waiting): (Vec<_>, Vec<_>) =
                members.partition(|(member, _)| aggregate.members.contains(member));
            let names = |members: Vec<(Ifindex, &Device)>| -> Vec<String> {
                members
                    .into_iter()
                    .map(|(_, device)| device.name.clone())
                    .collect()
            };
            Some(BondState {
                ifname: link.name.clone(),
                mode: bond.mode.name().to_string(),
                policy: bond.policy.name().to_string(),
                sending: names(sending),
                waiting: names(waiting),
            })
        };
        self.layout.aggregates.iter().filter_map(of).collect()
    }

    /// Virtual gateways, for people.
    pub fn gateways(&self) -> Vec<GatewayState> {
        let name = |ifindex: Ifindex| {
            self.layout
                .stations
                .get(&ifindex)
                .map(|station| station.name.clone())
        };
        let gateways = self.layout.gateways.iter();
        gateways
            .map(|gateway| GatewayState {
                ifname: gateway.name.clone(),
                on: name(gateway.on).unwrap_or_default(),
                mac: names::mac(gateway.mac),
                held: gateway.held,
            })
            .collect()
    }

    /// Attaches to every interface, or to none: what was attached here is taken off again when one fails. Interfaces that
    /// an earlier controller served and that are not there now are left for later.
    ///
    /// # Errors
    /// The first interface that cannot be served, with what to do.
    pub fn start<D: Dataplane>(&mut self, engine: &mut Engine<D>, links: &[Link]) -> Result<()> {
        let adopted: BTreeSet<Ifindex> = self.programs.pinned().into_iter().collect();
        let tables = engine.view();
        let checked = |ifindex: &Ifindex| tables.interfaces.get(*ifindex as usize).flags & CHECK_SOURCES != 0;
        self.checks = adopted.iter().any(checked);
        self.groups = groups(tables);
        let mut layout = layout::of(&self.config.interfaces, links.iter(), |_| false);
        layout.refuse_stripped(strips_tags);
        let mut fresh = Vec::new();
        for interface in self.config.interfaces.clone() {
            let result = match layout.problems.get(&interface.name) {
                Some(why) => Err(anyhow!("{why}")),
                None => self.attach_all(engine, &interface, &mut layout, &mut fresh),
            };
            match result {
                Ok(()) => {}
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
        ask_egress(&mut layout);
        self.layout = layout;
        self.say_closed();
        self.serve(engine)?;
        for ifindex in &adopted {
            if !self.devices.contains_key(ifindex) {
                info!(
                    ifindex,
                    "an interface is no longer in the configuration: detached"
                );
                self.detach(engine, *ifindex);
            }
        }
        self.programs.settle()
    }

    /// Attaches to every device of an interface of the configuration. Those that had no program before are added to `fresh`.
    fn attach_all<D: Dataplane>(
        &mut self,
        engine: &mut Engine<D>,
        interface: &InterfaceConfig,
        layout: &mut Layout,
        fresh: &mut Vec<Ifindex>,
    ) -> Result<()> {
        let Some((root, devices)) = layout.root(&interface.name) else {
            return Ok(());
        };
        for (ifindex, device) in &devices {
            match self.attach(engine, *ifindex, device, root) {
                Ok(attached) => {
                    if attached == Attached::New {
                        fresh.push(*ifindex);
                        if devices.len() > 1 && device.active {
                            self.wait_for(*ifindex, device);
                        }
                    }
                }
                Err(why) => {
                    layout.remove(root);
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// Attaching resets many NICs. The next member's turn comes when this one sends again, so that its bond never loses all.
    fn wait_for(&mut self, ifindex: Ifindex, device: &Device) {
        let until = Instant::now() + MEMBER_RETURNS;
        while Instant::now() < until {
            let links = netlink::dump::dump_links().unwrap_or_default();
            let link = links.iter().find(|link| link.ifindex == ifindex);
            let sends =
                |link: &Link| link.carrier && link.member.is_some_and(|member| member.active && member.up);
            if link.is_none_or(sends) {
                return;
            }
            thread::sleep(MEMBER_LOOK);
        }
        warn!(
            "{}: its bond has not used it again for {} s since the program was attached; going on with the next member",
            device.name,
            MEMBER_RETURNS.as_secs()
        );
    }

    fn attach<D: Dataplane>(
        &mut self,
        engine: &mut Engine<D>,
        ifindex: Ifindex,
        device: &Device,
        root: Ifindex,
    ) -> Result<Attached> {
        let (name, generic) = (&device.name, device.generic);
        let mode_now = self.commands.xdp_attached(ifindex).ok().flatten();
        let attached = self.programs.attach(ifindex, name, generic)?;
        let is_generic = mode_now.is_some_and(|(mode, _)| mode == crate::netlink::command::XdpMode::Generic);
        if attached != Attached::New && is_generic != generic {
            bail!(
                "{name}: the program runs in {} mode and the configuration asks for the other. Changing it interrupts the \
                 link: run `forwarder detach`, then start again",
                if is_generic { "generic" } else { "native" }
            );
        }
        engine.dataplane.set_device(ifindex, true)?;
        self.devices.insert(ifindex, 0);
        self.problems.remove(name);
        info!(ifname = %name, ifindex, root, mode = if generic { "generic" } else { "native" }, ?attached, "attached");
        Ok(attached)
    }

    fn detach<D: Dataplane>(&mut self, engine: &mut Engine<D>, ifindex: Ifindex) {
        self.devices.remove(&ifindex);
        if let Err(why) = engine.dataplane.set_device(ifindex, false) {
            warn!("{why:#}");
        }
        if let Err(why) = self.programs.detach(ifindex) {
            warn!("{why:#}");
        }
        let tables = engine.dataplane.tables();
        tables.interfaces.set(ifindex as usize, &Interface::default());
        let by_index = |(_, entry): &(u32, PortEntry)| entry.ifindex == ifindex && ports::is_attached(entry);
        if let Some((port, _)) = ports::used(tables).find(by_index) {
            ports::release(tables, port);
        }
    }

    /// Gives every interface of the layout its number, and tells the engine which are served. What is served no longer loses its
    /// entries.
    ///
    /// # Errors
    /// There are more interfaces than numbers.
    fn serve<D: Dataplane>(&mut self, engine: &mut Engine<D>) -> Result<()> {
        let stations = &self.layout.stations;
        let served: Vec<Ifindex> = engine
            .world
            .links
            .all_served()
            .map(|(ifindex, _)| ifindex)
            .collect();
        for ifindex in served
            .into_iter()
            .filter(|ifindex| !stations.contains_key(ifindex))
        {
            engine.serve(ifindex, None);
        }
        // By the directory, and not by what was served: a link that is gone is served no longer, and an earlier controller may have
        // served others.
        let tables = engine.dataplane.tables();
        let gone = |(_, entry): &(u32, PortEntry)| {
            let counted = entry.state == ports::STACKED || ports::is_attached(entry);
            counted
                && !stations.contains_key(&entry.ifindex)
                && !self.layout.devices.contains_key(&entry.ifindex)
        };
        for (port, entry) in ports::used(tables).filter(gone).collect::<Vec<_>>() {
            stations::forget(tables, entry.ifindex, port);
        }
        let served = stations::claim(engine.dataplane.tables(), &self.layout, &mut self.devices)?;
        for (ifindex, served) in served {
            engine.serve(ifindex, Some(served));
        }
        stations::write_bonds(engine.dataplane.tables(), &self.layout, &self.devices);
        Ok(())
    }

    /// Looks at every interface of the configuration again: one that came (back) is attached, one that went is let go, and so are
    /// members of bonds and VLANs. [`Self::describe`] comes next.
    pub fn reconcile<D: Dataplane>(&mut self, engine: &mut Engine<D>) {
        let addresses = &engine.addresses;
        let holds = |ifindex| {
            let of_it = |(at, net): &&(Ifindex, IpNet)| *at == ifindex && !describe::is_link_local(net);
            addresses.iter().find(of_it).is_some()
        };
        let mut layout = layout::of(&self.config.interfaces, engine.world.links.iter(), holds);
        layout.refuse_stripped(strips_tags);
        for ifindex in self.programs.pinned() {
            if !layout.devices.contains_key(&ifindex) {
                self.detach(engine, ifindex);
            }
        }
        let mut problems = layout.problems.clone();
        for interface in self.config.interfaces.clone() {
            if problems.contains_key(&interface.name) {
                continue;
            }
            if let Err(why) = self.attach_missing(engine, &interface, &mut layout) {
                problems.insert(interface.name.clone(), format!("{why:#}"));
            }
        }
        self.report(problems);
        ask_egress(&mut layout);
        if layout == self.layout {
            return;
        }
        self.layout = layout;
        self.say_closed();
        let all = |engine: &Engine<D>| engine.world.links.all_served().collect::<BTreeMap<_, _>>();
        let before = all(engine);
        let refused = self.serve(engine).err();
        self.say("interfaces", refused.map(|why| format!("{why:#}")));
        if all(engine) != before {
            engine.served_changed();
        }
        if let Err(why) = self.programs.settle() {
            warn!("{why:#}");
        }
    }

    /// Attaches where the program is missing. Of a bond that sends one member at a time, when all that have it are back.
    fn attach_missing<D: Dataplane>(
        &mut self,
        engine: &mut Engine<D>,
        interface: &InterfaceConfig,
        layout: &mut Layout,
    ) -> Result<()> {
        let Some((root, devices)) = layout.root(&interface.name) else {
            return Ok(());
        };
        let (have, missing): (Vec<_>, Vec<_>) = devices
            .iter()
            .partition(|(ifindex, _)| self.devices.contains_key(ifindex));
        let mut refused = None;
        for (ifindex, device) in &missing {
            match self.attach(engine, *ifindex, device, root) {
                // The rest when it is back: its news bring us here again.
                Ok(Attached::New) if device.active && !have.is_empty() => break,
                Ok(_) => {}
                Err(why) => refused = Some(why),
            }
        }
        let any = devices
            .iter()
            .any(|(ifindex, _)| self.devices.contains_key(ifindex));
        if !any {
            layout.remove(root);
        }
        // Frames leave only by members that carry the program.
        if let Some(aggregate) = layout.aggregates.get_mut(&root) {
            aggregate
                .members
                .retain(|member| self.devices.contains_key(member));
        }
        layout
            .devices
            .retain(|ifindex, device| device.root != root || self.devices.contains_key(ifindex));
        refused.map_or(Ok(()), Err)
    }

    /// Which interfaces send nothing of ours.
    fn say_closed(&mut self) {
        let closed = self.layout.closed().join(", ");
        let sentence = format!(
            "the driver takes no frames from the fast path on {closed}: the kernel forwards what leaves there, reason \
             egress-without-xdp. A veth takes them once its peer has a program or GRO: `ethtool -K PEER gro on`, at the other end"
        );
        self.say("egress", (!closed.is_empty()).then_some(sentence));
    }

    /// What is in the way of interfaces now, each said once in the log.
    fn report(&mut self, found: BTreeMap<String, String>) {
        let ours = |name: &String| self.config.interface(name).is_some();
        self.problems
            .retain(|name, _| !ours(name) || found.contains_key(name));
        for (name, why) in found {
            self.say(&name, Some(why));
        }
    }

    /// Writes what the program knows of every interface: own addresses and filter first, flags and MACs last.
    pub fn describe<D: Dataplane>(&mut self, engine: &mut Engine<D>) {
        let own = engine.own_addresses4();
        if let Err(why) = engine.dataplane.set_own_addresses(&own) {
            warn!("{why:#}");
        }
        let refused = self.install_filter(engine).err();
        // The table in force stays in force.
        let filtered = refused.is_none() || self.sources.is_some();
        let sentence = refused.map(|why| format!("{why}: the source filter in force stays in force"));
        self.say("filter", sentence);
        self.number(engine);
        let context = Context {
            config: &self.config,
            rules: self.rules,
            checks: self.checks,
            filtered,
            sources: engine.view().sizes.sources,
            forward6: sysctl::forwarding6().unwrap_or(false),
        };
        let tables = engine.dataplane.tables();
        let mut many = None;
        for (ifindex, station, link, served) in receiving(&self.layout, &engine.world.links) {
            let entry = context.entry(station, link, served);
            if station.virtual_macs.len() >= MACS {
                many = Some(format!(
                    "{}: {} virtual MAC addresses, of which the fast path knows {}: the kernel takes what is for the others",
                    station.name,
                    station.virtual_macs.len(),
                    MACS - 1
                ));
            }
            stations::write(tables, &self.layout, &self.devices, ifindex, &entry);
        }
        self.say("virtual-macs", many);
    }

    /// Gives every interface that has none yet its number, with forwarding still off: from then on it counts, and the
    /// tracepoint programs know it as an egress before the first frame is sent there. Sums whose parts have changed begin anew.
    fn number<D: Dataplane>(&mut self, engine: &Engine<D>) {
        let tables = engine.dataplane.tables();
        let now = groups(tables);
        // Before it counts: what stands on a device may come and go while packets do.
        let stacked: Vec<u32> = now
            .iter()
            .filter(|(root, parts)| self.shift_stacked(tables, **root, parts))
            .map(|(root, _)| *root)
            .collect();
        for (ifindex, station, link, served) in receiving(&self.layout, &engine.world.links) {
            let entry = Interface {
                port: u32::from(served.port),
                macs: [mac_bits(link.mac); MACS],
                ifindex,
                ..Interface::default()
            };
            stations::number(tables, &self.layout, &self.devices, (ifindex, station), &entry);
        }
        for (root, parts) in &now {
            if self.groups.get(root) == Some(parts) || stacked.contains(root) {
                continue;
            }
            let devices: Vec<Ifindex> = ports::group(tables, *root)
                .filter(|(_, entry)| ports::is_attached(entry))
                .map(|(_, entry)| entry.ifindex)
                .collect();
            let commands = &mut self.commands;
            ports::rebase_ingress(tables, *root, || {
                let counts = devices
                    .iter()
                    .filter_map(|ifindex| commands.link_stats(*ifindex).ok());
                counts.fold(0u64, |sum, stats| sum.wrapping_add(stats.rx_packets))
            });
            ports::rebase_egress_of(tables, *root);
        }
        self.groups = now;
    }

    /// The sums of every device begin here: its packets come by these tables from now on.
    pub fn begin_sums<D: Dataplane>(&mut self, engine: &mut Engine<D>) {
        self.groups.clear();
        self.describe(engine);
    }

    /// Where the same devices carry the program as before, and only what stands on them differs, the baselines are moved by what that had
    /// counted by itself. Answers whether it was so.
    fn shift_stacked(&self, tables: &Tables, root: u32, parts: &[Part]) -> bool {
        let Some(before) = self.groups.get(&root).filter(|before| **before != parts) else {
            return false;
        };
        let only = |these: &[Part], those: &[Part]| -> Vec<Part> {
            let only = these.iter().filter(|part| !those.contains(part));
            only.copied().collect()
        };
        let (gone, new) = (only(before, parts), only(parts, before));
        if gone.iter().chain(&new).any(|part| !part.stacked) {
            return false;
        }
        for (parts, joins) in [(gone, false), (new, true)] {
            for part in parts {
                ports::shift_baselines(tables, root, part.port, joins);
            }
        }
        true
    }

    /// Whether any interface looks for the routes of sources.
    pub fn check_sources(&self) -> bool {
        let checks = |interface: &InterfaceConfig| interface.source_check != SourceCheck::Off;
        self.config.interfaces.iter().any(checks)
    }

    /// Whether sources are looked at on any interface of the configuration.
    pub fn filters_any(&self) -> bool {
        let mut interfaces = self.config.interfaces.iter();
        interfaces.any(|interface| describe::filters(&self.config, interface))
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
        for (ifindex, station) in &self.layout.stations {
            let subnets = engine.subnets(*ifindex).into_iter();
            let subnets = subnets.filter(|net| !describe::is_link_local(net));
            if describe::filters(&self.config, &station.config) {
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

    /// Looks for what the fast path bypasses: nobody shall find that out by surprise.
    pub fn survey(&mut self) {
        let bypassed = self
            .commands
            .rules()
            .ok()
            .and_then(|rules| bypass::rules(&rules, &self.config.routes.tables));
        self.say("rules", bypassed);
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
        self.say("rp_filter", (!less.is_empty()).then_some(sentence));
    }

    /// Whether policy rules make packets go another way than the tables say, as it was surveyed last.
    pub fn bypasses_rules(&self) -> bool {
        self.problems.contains_key("rules")
    }

    /// What is in the way under this name now, if anything is: once in the log, and for as long as it lasts in `status`.
    fn say(&mut self, key: &str, sentence: Option<String>) {
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

/// The interfaces that packets come in by, as far as their links are known and served.
fn receiving<'a>(
    layout: &'a Layout,
    links: &'a Links,
) -> impl Iterator<Item = (Ifindex, &'a Station, &'a Link, Served)> {
    let stations = layout.stations.iter().filter(|(_, station)| station.receives);
    stations.filter_map(|(ifindex, station)| {
        Some((*ifindex, station, links.get(*ifindex)?, links.served(*ifindex)?))
    })
}

/// Whether a device takes tags off frames before the program sees them.
fn strips_tags(ifindex: Ifindex) -> bool {
    has_feature(ifindex, |name| {
        name.starts_with("rx-vlan-") && name.ends_with("hw-parse")
    })
}

/// Whether a feature of this name is on.
fn has_feature(ifindex: Ifindex, wanted: impl Fn(&str) -> bool) -> bool {
    let features = Ethtool::of(ifindex).and_then(|device| device.features());
    let is_on = |(name, on): &(String, bool)| *on && wanted(name);
    features.unwrap_or_default().iter().any(is_on)
}

/// What may be sent by each interface, as the drivers tell it now: of a veth it changes with the program of its peer.
///
/// Before Linux 6.3 the kernel does not tell; those kernels redirect no frame in several buffers (`xdp_do_redirect`, net/core/filter.c). In
/// generic mode nothing between the program and the driver sees to it that the driver can send such a packet (`generic_xdp_tx`).
fn ask_egress(layout: &mut Layout) {
    let devices: Vec<Ifindex> = layout.devices.keys().copied().collect();
    let told = netdev::xdp_features(&devices).unwrap_or_default();
    let told: BTreeMap<Ifindex, XdpFeatures> = told.into_iter().collect();
    let any_generic = layout.devices.values().any(|device| device.generic);
    layout.ask_egress(|ifindex, device| {
        let told = told.get(&ifindex);
        let gathers = || has_feature(ifindex, |name| name == "tx-scatter-gather");
        Takes {
            frames: device.generic || told.is_none_or(|told| told.transmits()),
            several: (device.generic || told.is_some_and(|told| told.transmits_fragments()))
                && (!any_generic || gathers()),
        }
    });
}

/// What a sum is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    port: u32,
    ifindex: Ifindex,
    /// It stands on devices, and carries no program itself.
    stacked: bool,
}

/// By device or bond the numbers and devices that its sums are made of.
fn groups(tables: &Tables) -> BTreeMap<u32, Vec<Part>> {
    let roots: Vec<u32> = ports::used(tables)
        .filter(|(_, entry)| entry.root == 0 && entry.state != ports::DETACHED)
        .map(|(port, _)| port)
        .collect();
    let parts = |root| {
        ports::group(tables, root)
            .map(|(port, entry)| Part {
                port,
                ifindex: entry.ifindex,
                stacked: entry.state == ports::STACKED,
            })
            .collect()
    };
    roots.into_iter().map(|root| (root, parts(root))).collect()
}
