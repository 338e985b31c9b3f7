//! The controller's logic: what the kernel says goes in, what the data path should do comes out.
//!
//! No sockets and no clocks in here; with the in-memory data path it runs in any test. One rule serves start, change,
//! restart and loss alike: [`Engine::sync`] compares what a prefix should do with what it does, and mends the difference.

#[path = "engine_answers.rs"]
mod answers;
#[path = "engine_feeds.rs"]
mod feeds;
#[path = "engine_load.rs"]
mod load;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use anyhow::{Context, Result, anyhow};
use forwarder_common::reason::Reason;
use ipnet::IpNet;

use self::answers::Asking;
pub use self::feeds::FeedStatus;
use self::feeds::Work;
use super::gate::Gate;
use crate::{
    config::Source,
    dataplane::{Dataplane, Tables},
    fib::{
        Fib, Outcome, Provenance,
        accounts::Accounts,
        adjacency::Adjacencies,
        path::{Key, Path, Topology, adds_nothing},
        plan::{Known, Plan, Ways},
        slots,
    },
    link::Served,
    rib::{
        Choice, Rib,
        decision::{Class, FIRST},
        flows::Flows,
    },
    source::{
        event::{Action, Address, Event, Ifindex, Link},
        feed::{FeedId, Gateway},
        route_tables::RouteTables,
    },
};

/// What the engine leaves to whoever drives it.
#[derive(Debug, PartialEq, Eq)]
pub enum Demand {
    /// Dump again and call [`Engine::load`].
    Resync,
    /// A link appeared, changed or went: look at what is attached, and at what stands on what.
    Interface(Ifindex),
    /// Addresses or sysctls changed: interface flags and source filter must be written anew.
    Surroundings,
}

/// Counts of what happened, for `status`.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Activity {
    /// Route announcements and withdrawals of the kernel handled since start.
    pub updates: u64,
    /// Full dumps compared with what was there.
    pub resyncs: u64,
    /// Paths that found no group or next hop and were left to the kernel.
    pub paths_refused: u64,
}

/// State and logic of the controller.
pub struct Engine<D> {
    /// The data path.
    pub dataplane: D,
    /// Links, neighbours, next-hop objects.
    pub world: Topology,
    /// The routes of every source.
    pub rib: Rib,
    /// FlowSpec rules of every feed.
    pub flows: Flows,
    /// What is laid.
    pub fib: Fib,
    /// Groups and next hops.
    pub adjacencies: Adjacencies,
    /// Addresses on our interfaces.
    pub addresses: BTreeSet<(Ifindex, IpNet)>,
    /// Whose prefixes are whose. To be said before the first dump.
    pub accounts: Accounts,
    /// Counts.
    pub activity: Activity,
    /// Now, seconds since 1970, as whoever drives the engine says.
    pub clock: u32,
    feeds: BTreeMap<FeedId, FeedStatus>,
    gate: Option<Gate>,
    /// Feeds that hear what became of their routes.
    asking: Vec<Asking>,
    /// What the gate kept is being mended.
    releasing: bool,
    work: VecDeque<Work>,
    /// A first dump is being laid: routes that cover others are not complete.
    loading: bool,
    /// A gateway came or went: prefixes with several routes must choose again.
    choose_again: bool,
    punt: u32,
    gateways_changed: bool,
    /// Prefixes whose path found no group or next hop.
    unplaced: BTreeSet<IpNet>,
}

impl<D: Dataplane> Engine<D> {
    /// Takes over the tables of the data path, empty or left by an earlier controller; follows the kernel's tables
    /// local and main.
    ///
    /// # Errors
    /// Where the tables contradict themselves.
    pub fn new(dataplane: D) -> Result<Engine<D>> {
        Self::with_sources(dataplane, &[Source::Kernel], RouteTables::default())
    }

    /// The same, following these sources, the preferred one first, and these tables of the kernel.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_sources(dataplane: D, sources: &[Source], route_tables: RouteTables) -> Result<Engine<D>> {
        let tables = dataplane.tables();
        let mut references: HashMap<u32, u32> = HashMap::new();
        // Group 1 is always the punt group: it is the first ever acquired.
        let fib = Fib::adopt(tables, PUNT_GROUP)
            .map_err(|why| anyhow!("the pinned tables are not sound: {why}"))?;
        fib.each(tables, |_, _, group| *references.entry(group).or_default() += 1);
        let mut adjacencies = Adjacencies::adopt(tables, &references);
        let world = Topology::default();
        let known = Known {
            tables,
            world: &world,
            fib: &fib,
        };
        let punt = adjacencies
            .acquire(known, &Plan::refused())
            .context("no next-hop group is left for packets that the table has no room for")?;
        if punt != PUNT_GROUP {
            return Err(anyhow!(
                "the pinned tables are not sound: group {PUNT_GROUP} is taken"
            ));
        }
        Ok(Engine {
            dataplane,
            world,
            rib: Rib::new(sources, route_tables),
            flows: Flows::default(),
            fib,
            adjacencies,
            addresses: BTreeSet::new(),
            accounts: Accounts::default(),
            activity: Activity::default(),
            clock: 0,
            feeds: BTreeMap::new(),
            gate: None,
            asking: Vec::new(),
            releasing: false,
            loading: false,
            work: VecDeque::new(),
            choose_again: false,
            punt,
            gateways_changed: true,
            unplaced: BTreeSet::new(),
        })
    }

    /// Says whose prefixes are whose, before the first dump. What an earlier controller laid to be counted and is no account's
    /// any more is from now on what nobody has a route for.
    pub fn set_accounts(&mut self, accounts: Accounts) {
        let tables = self.dataplane.tables();
        for (prefix, slot) in self.fib.take_found_counting() {
            if !accounts.has(prefix) {
                slots::set_counting(tables, slot, false);
            }
        }
        self.accounts = accounts;
    }

    /// Says that an interface carries the program, or no longer does.
    pub fn serve(&mut self, ifindex: Ifindex, served: Option<Served>) {
        self.world.links.serve(ifindex, served);
    }

    /// Brings every next hop and every neighbour's host route up to date, after [`Engine::serve`].
    pub fn served_changed(&mut self) {
        self.adjacencies
            .refresh_all(known(&self.dataplane, &self.world, &self.fib));
        let hosts: Vec<IpAddr> = self.world.neighbours.iter().map(|n| n.address).collect();
        for address in hosts {
            self.sync(IpNet::from(address));
        }
        self.gateways_changed = true;
    }

    /// Applies one event.
    pub fn apply(&mut self, event: Event, demands: &mut Vec<Demand>) {
        match event {
            Event::Route { route, change } => {
                let prefix = route.prefix.trunc();
                let shade = self.rib.kernel.shade(prefix);
                if !self.rib.kernel.announce(route, change) {
                    demands.push(Demand::Resync);
                }
                self.activity.updates += 1;
                self.kernel_changed(prefix, shade);
            }
            Event::RouteGone(route) => {
                let prefix = route.prefix.trunc();
                let shade = self.rib.kernel.shade(prefix);
                if self.rib.kernel.withdraw(&route) {
                    self.activity.updates += 1;
                    self.withdrawn(Some(Source::Kernel), prefix);
                    self.kernel_changed(prefix, shade);
                }
            }
            Event::Neighbour(neighbour) => {
                if self.world.neighbours.insert(neighbour) {
                    self.neighbour_changed(neighbour.ifindex, neighbour.address);
                }
            }
            Event::NeighbourGone { ifindex, address } => {
                if self.world.neighbours.remove(ifindex, address) {
                    self.neighbour_changed(ifindex, address);
                }
            }
            Event::Nexthop(object) => {
                self.world.nexthops.insert(object.id, object.kind);
                self.kernel_objects_changed();
            }
            Event::NexthopGone(id) => {
                self.world.nexthops.remove(&id);
                self.kernel_objects_changed();
            }
            Event::Link(link) => self.link_changed(link, demands),
            Event::LinkGone(ifindex) => {
                if self.world.links.remove(ifindex).is_some() {
                    self.world.links.serve(ifindex, None);
                    self.resolve_on(ifindex);
                    self.served_changed();
                    demands.push(Demand::Interface(ifindex));
                }
            }
            Event::Address(Address { ifindex, address }) => {
                self.addresses.insert((ifindex, address));
                demands.push(Demand::Surroundings);
            }
            Event::AddressGone(Address { ifindex, address }) => {
                self.addresses.remove(&(ifindex, address));
                demands.push(Demand::Surroundings);
            }
            Event::SysctlChanged => demands.push(Demand::Surroundings),
            Event::Resync => demands.push(Demand::Resync),
        }
    }

    fn link_changed(&mut self, link: Link, demands: &mut Vec<Demand>) {
        let ifindex = link.ifindex;
        let old = self.world.links.insert(link.clone());
        if old.as_ref() == Some(&link) {
            return;
        }
        if old.is_none() {
            self.resolve_on(ifindex);
        }
        if self.world.links.served(ifindex).is_some() {
            let concerned = |key: &Key| matches!(key, Key::Neighbour { ifindex: i, .. } if *i == ifindex);
            self.adjacencies
                .refresh(known(&self.dataplane, &self.world, &self.fib), concerned, |_| {
                    false
                });
        }
        demands.push(Demand::Interface(ifindex));
    }

    fn kernel_objects_changed(&mut self) {
        let leads = |path: &Path| matches!(path, Path::Object { .. } | Path::Recursive { .. });
        self.adjacencies
            .refresh(known(&self.dataplane, &self.world, &self.fib), |_| false, leads);
        self.gateways_changed = true;
    }

    /// Finds the way of gateways that are on an interface again.
    fn resolve_on(&mut self, ifindex: Ifindex) {
        let on = |(gateway, _): &(&Gateway, _)| gateway.interface == Some(ifindex);
        let gateways = self.world.gateways.iter().filter(on);
        let gateways = gateways.map(|(gateway, _)| *gateway).collect();
        self.resolve_again(gateways);
    }

    fn neighbour_changed(&mut self, ifindex: Ifindex, address: IpAddr) {
        let concerned = |key: &Key| matches!(key, Key::Neighbour { ifindex: i, address: a, .. } if *i == ifindex && *a == address);
        self.adjacencies
            .refresh(known(&self.dataplane, &self.world, &self.fib), concerned, |_| {
                false
            });
        self.sync(IpNet::from(address));
    }

    /// A prefix of the kernel has other routes; `shade` is what it covered before in tables that are asked later.
    fn kernel_changed(&mut self, prefix: IpNet, shade: Option<u8>) {
        self.route_changed(prefix);
        if self.rib.kernel.shade(prefix) != shade {
            for inside in self.rib.kernel.inside(prefix) {
                self.route_changed(inside);
            }
        }
    }

    fn route_changed(&mut self, prefix: IpNet) {
        self.route_chosen(prefix);
        let gateways = self.world.gateways.inside(prefix);
        if !gateways.is_empty() {
            self.resolve_again(gateways);
        }
    }

    /// Another route may count for a prefix, and so for the hosts inside.
    fn route_chosen(&mut self, prefix: IpNet) {
        self.sync(prefix);
        for address in self.world.neighbours.inside(prefix) {
            self.sync(IpNet::from(address));
        }
    }

    /// What packets to a prefix should do.
    fn wanted(&self, prefix: IpNet) -> Option<Choice> {
        if prefix.prefix_len() == prefix.max_prefix_len()
            && let Some(path) = self.host_path(prefix.addr())
        {
            return Some(Choice {
                ways: Ways::only(path),
                provenance: Provenance::default(),
                by_kernel: false,
                class: FIRST,
            });
        }
        self.rib.choose_apart(prefix, &self.alike())
    }

    /// See [`Alike`](crate::rib::Alike).
    fn alike(&self) -> impl Fn(&Path, &Path) -> bool {
        |other, own| adds_nothing(&self.world, other, own)
    }

    /// The neighbour an address is, if the route that covers it is a connected one on that neighbour's interface.
    fn host_path(&self, address: IpAddr) -> Option<Path> {
        let mut candidates = self
            .world
            .neighbours
            .at(address)
            .filter(|n| n.mac.is_some())
            .peekable();
        candidates.peek()?;
        let special = match address {
            IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local(),
        };
        if special {
            return None;
        }
        let kind = self.rib.kernel_cover(address)?.kind;
        let Action::Hops(hops) = &kind.action else {
            return None;
        };
        // More than one next hop: the kernel chooses among them by flow, so no single neighbour is the answer.
        let [hop] = hops.as_slice() else { return None };
        if hop.gateway.is_some() || hop.unsupported || kind.mtu.is_some() || kind.tos != 0 {
            return None;
        }
        let ifindex = hop.ifindex;
        self.world.links.served(ifindex)?;
        candidates
            .find(|n| n.ifindex == ifindex)
            .map(|_| Path::Neighbour { ifindex, address })
    }

    /// Makes a prefix do what it should.
    pub fn sync(&mut self, prefix: IpNet) {
        if self.rib.all_ways {
            self.note_origins(prefix);
        }
        self.sync_one(prefix, None);
        self.follow(prefix);
    }

    /// `changed` is what around it may have changed.
    fn sync_one(&mut self, prefix: IpNet, changed: Option<IpNet>) {
        match self.wanted(prefix) {
            None if self.accounts.has(prefix) => self.count(prefix, changed),
            wanted => self.bring(prefix, wanted, false),
        }
    }

    /// A prefix may do something else: so may prefixes of accounts inside it that have no route of their own.
    fn follow(&mut self, prefix: IpNet) {
        if self.loading {
            return;
        }
        for inside in self.accounts.inside(prefix) {
            self.sync_one(inside, Some(prefix));
        }
    }

    /// What a prefix of an account that has no route of its own should do: what the route that covers it does. What is
    /// thrown away there is counted for that route.
    fn counted(&self, prefix: IpNet) -> Option<Choice> {
        let around = (0..prefix.prefix_len()).rev();
        let covers = around.filter_map(|length| Some(IpNet::new(prefix.addr(), length).ok()?.trunc()));
        let (cover, mut choice) = covers
            .filter_map(|cover| Some((cover, self.rib.choose_apart(cover, &self.alike())?)))
            .next()?;
        if *choice.ways.path == Path::Special(Reason::Blackhole) {
            choice.ways.path = Arc::new(Path::Victim(cover));
        }
        Some(choice)
    }

    /// Makes a prefix of an account that has no route of its own do what covers it does. `changed` is what else may have
    /// changed around it.
    ///
    /// While the gate keeps what covers it as an earlier controller laid it, nobody knows what that does. Then the prefix stays
    /// as it was found with it; and one that was not is taken away, so that its packets follow what covers it.
    fn count(&mut self, prefix: IpNet, changed: Option<IpNet>) {
        let tables = self.dataplane.tables();
        if let Some(gate) = &mut self.gate {
            let around = self.fib.route_around(tables, prefix);
            let slot = self.fib.slot(tables, prefix);
            let found = slot.filter(|slot| gate.holds(*slot));
            if let Some(around) = around.filter(|around| gate.holds(*around)) {
                let length = tables.slot_directory.get(around as usize).length;
                let gone = changed.is_some_and(|changed| changed.prefix_len() > length);
                if found.is_none() || gone {
                    slot.into_iter().for_each(|slot| gate.clear(slot));
                    self.bring(prefix, None, true);
                }
                return;
            }
            if let Some(slot) = found {
                // A route of its own, as it was found: nobody has spoken for it yet.
                if !slots::is_counting(tables, slot) {
                    return;
                }
                gate.clear(slot);
            }
        }
        self.bring(prefix, self.counted(prefix), true);
    }

    /// Whether a prefix may be brought to do what a source of this rank wants; `None`: what nobody wants. If so, it has
    /// been spoken for.
    fn passes_gate(&mut self, prefix: IpNet, class: Option<Class>) -> bool {
        let Some(gate) = &mut self.gate else { return true };
        match self.fib.slot(self.dataplane.tables(), prefix) {
            Some(slot) if gate.holds(slot) => {
                let passes = class.is_some_and(|class| gate.admits(class, prefix.addr().is_ipv6()));
                if passes {
                    gate.clear(slot);
                }
                passes
            }
            _ => true,
        }
    }

    /// Makes a prefix do what is `wanted`; `counting`: by the word of what covers it.
    fn bring(&mut self, prefix: IpNet, wanted: Option<Choice>, counting: bool) {
        if self.gate.is_some() && !self.passes_gate(prefix, wanted.as_ref().map(|choice| choice.class)) {
            return;
        }
        let tables = self.dataplane.tables();
        let slot = self.fib.slot(tables, prefix);
        let have = slot.map(|slot| self.fib.group_of(tables, slot));
        let Some(Choice { ways, provenance, .. }) = wanted else {
            self.unplaced.remove(&prefix);
            if let Some(group) = self.fib.withdraw(tables, prefix) {
                self.adjacencies.release(tables, group);
                self.moved(prefix);
            }
            return;
        };
        let mut ways = ways.beside_links(&self.world.links);
        ways.account = self.accounts.of(prefix);
        if let (Some(slot), Some(group)) = (slot, have)
            && self.adjacencies.serves(group, &ways)
        {
            self.fib.note(tables, slot, provenance);
            self.unplaced.remove(&prefix);
            self.say_counting(prefix, counting);
            return;
        }
        let known = known(&self.dataplane, &self.world, &self.fib);
        // What was refused and is again is no news.
        let mut news = true;
        let group = match self.adjacencies.place(known, prefix, &ways, have) {
            Some(group) => {
                self.unplaced.remove(&prefix);
                group
            }
            None => {
                news = self.unplaced.insert(prefix);
                self.activity.paths_refused += u64::from(news);
                // Never the next hop of another path: the kernel takes these.
                self.adjacencies
                    .acquire(known, &Plan::refused())
                    .unwrap_or(self.punt)
            }
        };
        match self.fib.announce(tables, prefix, group, provenance) {
            Outcome::Installed => {}
            Outcome::Refused => {
                self.adjacencies.release(tables, group);
                news &= have.is_some();
            }
        }
        if let Some(old) = have {
            self.adjacencies.release(tables, old);
        }
        self.say_counting(prefix, counting);
        self.moved(prefix);
        if news {
            self.answer(prefix);
        }
    }

    /// Says in the directory whether a prefix is there only to be counted.
    fn say_counting(&self, prefix: IpNet, counting: bool) {
        if self.accounts.has(prefix) || counting {
            self.fib.set_counting(self.dataplane.tables(), prefix, counting);
        }
    }

    /// A prefix has another group, or none: what hangs on it follows.
    fn moved(&mut self, prefix: IpNet) {
        self.adjacencies
            .moved(known(&self.dataplane, &self.world, &self.fib), prefix);
        self.gateways_changed = true;
    }

    /// The gateways to keep resolved, if they may have changed since they were asked for last.
    pub fn gateways(&mut self) -> Option<BTreeSet<(Ifindex, IpAddr)>> {
        std::mem::take(&mut self.gateways_changed).then(|| self.adjacencies.gateways())
    }

    /// Whatever takes time: grace periods, refused prefixes for which there may be room now, and answers that found none.
    pub fn maintain(&mut self) {
        self.answer_again();
        if self.dataplane.grace_over() {
            self.fib.grace_over(self.dataplane.tables());
            self.adjacencies.grace_over(self.dataplane.tables());
            let unplaced: Vec<IpNet> = self.unplaced.iter().take(1024).copied().collect();
            for prefix in self.fib.take_refused(1024).into_iter().chain(unplaced) {
                self.sync(prefix);
            }
        }
        let waiting = self.fib.wants_grace() || self.adjacencies.has_retired();
        if waiting && !self.dataplane.grace_pending() {
            self.fib.grace_begins();
            self.adjacencies.grace_begins();
            self.dataplane.begin_grace();
        }
    }

    /// Our own IPv4 addresses, host order, and the broadcast addresses of their subnets: with a policy rule or a local
    /// route that is no interface's, the kernel takes those for martians too (`__fib_validate_source`).
    pub fn own_addresses4(&self) -> BTreeSet<u32> {
        let mut own = BTreeSet::new();
        for (_, net) in &self.addresses {
            let IpNet::V4(net) = net else {
                continue;
            };
            own.insert(net.addr().into());
            if net.prefix_len() < 31 {
                own.insert(net.broadcast().into());
            }
        }
        own
    }

    /// The subnets connected to an interface.
    pub fn subnets(&self, ifindex: Ifindex) -> Vec<IpNet> {
        self.addresses
            .iter()
            .filter(|(i, _)| *i == ifindex)
            .map(|(_, net)| net.trunc())
            .collect()
    }

    /// The memory of the tables, for reading.
    pub fn view(&self) -> &Tables {
        self.dataplane.tables()
    }
}

fn known<'a, D: Dataplane>(dataplane: &'a D, world: &'a Topology, fib: &'a Fib) -> Known<'a> {
    Known {
        tables: dataplane.tables(),
        world,
        fib,
    }
}

const PUNT_GROUP: u32 = 1;

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
