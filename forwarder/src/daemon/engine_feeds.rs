//! What the engine does with what feeds say.
//!
//! Announcements and withdrawals are done at once. What concerns a whole table is work for later: it is listed once, and
//! [`Engine::work`] does as much of it as it is told to, so that the kernel's news never wait behind a million routes.
//! Such work is a sweep, a choice that must be made again because a gateway came or went, and the end of the gate.
//!
//! A gateway that leads elsewhere is a matter of the groups that stand for it: some stores each, whatever the number of
//! prefixes. That the choice of those prefixes may be another, because a gateway leads nowhere now or leads somewhere again,
//! is found out afterwards, prefix by prefix; meanwhile their groups use their backup.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Engine, known};
use crate::{
    config::Source,
    daemon::gate::{Awaited, Gate},
    dataplane::Dataplane,
    fib::{
        origin,
        path::{Path, leads_somewhere},
    },
    rib::{
        decision::{Class, UNLISTED},
        feeds::Effect,
        recursion,
    },
    source::feed::{Batch, FeedEvent, FeedId, FeedState, FeedTable, Gateway, Target},
};

/// What is known of a feed beside its routes.
#[derive(Clone, Debug, Default)]
pub struct FeedStatus {
    /// Its session.
    pub state: FeedState,
    /// Announcements and withdrawals of routes, rules and next hops taken from it.
    pub updates: u64,
    /// When it last said something, seconds since 1970; 0 = never.
    pub last_change: u64,
    /// End-of-RIB, or what stands for it, seen in this session: by table.
    pub synchronised: BTreeSet<FeedTable>,
    /// Whether it has been in step since the start: it has told all that it had to tell.
    pub has_told: bool,
    /// Routes that were not taken because their prefix has too many, since their table was last said from its beginning.
    pub refused: BTreeMap<FeedTable, u64>,
}

/// Work on a whole table.
pub(super) struct Work {
    kind: Kind,
    list: Vec<IpNet>,
    next: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Stale routes of a feed go; with `true` only those that must not be kept for long.
    Sweep(FeedId, FeedTable, bool),
    /// Each prefix chooses again.
    Choose,
    /// What was found laid and nobody spoke for.
    Release,
}

impl<D: Dataplane> Engine<D> {
    /// Feeds of this source will come. Before the first dump: if its routes count, that closes the gate.
    pub fn await_source(&mut self, source: Source) {
        let class = self.rib.class_of(source);
        if let Some(gate) = self.closed_gate(class) {
            gate.await_source(source, class);
        }
    }

    /// From now on there is this feed. Before the first dump: if its routes count, that closes the gate.
    pub fn register(&mut self, feed: FeedId, source: Source) {
        self.rib.register(feed, source);
        self.feeds.entry(feed).or_default();
        let class = self.rib.class_of(source);
        if let Some(gate) = self.closed_gate(class) {
            gate.await_feed(feed, source, class);
        }
    }

    /// The gate, where a source of this rank is waited for.
    fn closed_gate(&mut self, class: Class) -> Option<&mut Gate> {
        if class == UNLISTED {
            return None;
        }
        if self.gate.is_none() && self.activity.resyncs == 0 {
            let tables = self.dataplane.tables();
            let mut gate = Gate::new(tables.sizes.slots);
            self.fib.each(tables, |_, slot, _| gate.found(slot));
            self.gate = Some(gate);
        }
        self.gate.as_mut()
    }

    /// What a feed's session is like.
    pub fn feed(&self, feed: FeedId) -> Option<&FeedStatus> {
        self.feeds.get(&feed)
    }

    /// Whether work on a table of this feed is not done yet: what it says next should wait.
    pub fn is_busy(&self, feed: FeedId) -> bool {
        let of = |work: &Work| matches!(work.kind, Kind::Sweep(whose, ..) if whose == feed);
        self.work.iter().any(of)
    }

    /// Applies what a feed says, in its order.
    pub fn apply_feed(&mut self, batch: Batch) {
        self.apply_feed_events(batch.feed, batch.events);
    }

    /// The same, of a piece of a batch.
    pub fn apply_feed_events(&mut self, feed: FeedId, events: impl IntoIterator<Item = FeedEvent>) {
        if !self.feeds.contains_key(&feed) {
            tracing::error!(feed, "routes from a feed that was never registered");
            return;
        }
        let mut objects = BTreeSet::new();
        for event in events {
            self.apply_feed_event(feed, event, &mut objects);
        }
        if !objects.is_empty() {
            self.objects_changed(feed, &objects);
        }
        self.forget_idle();
    }

    /// Forgets gateways that no route names any more.
    fn forget_idle(&mut self) {
        for gateway in self.rib.feeds.targets_mut().take_idle() {
            self.world.gateways.remove(&gateway);
        }
    }

    fn apply_feed_event(&mut self, feed: FeedId, event: FeedEvent, objects: &mut BTreeSet<u32>) {
        let now = self.clock;
        let Some(status) = self.feeds.get_mut(&feed) else {
            return;
        };
        status.last_change = now.into();
        match event {
            FeedEvent::State(state) => {
                if state != status.state && !matches!(state, FeedState::Live | FeedState::Stale) {
                    status.synchronised.clear();
                }
                status.state = state;
                if state == FeedState::Live {
                    status.has_told = true;
                    // Tables that the session does not have will not be told.
                    self.synchronised(feed, FeedTable::Ipv4);
                    self.synchronised(feed, FeedTable::Ipv6);
                }
            }
            FeedEvent::Route {
                prefix,
                path_id,
                route,
            } => {
                status.updates += 1;
                let prefix = prefix.trunc();
                self.make_room();
                let effect = self.rib.feeds.announce(feed, prefix, path_id, &route, now);
                if effect == Effect::Ousted {
                    self.look_for_fresh_targets();
                    self.route_changed(prefix);
                }
                match effect {
                    Effect::Changed => {
                        self.look_for_fresh_targets();
                        self.route_changed(prefix);
                        self.answer(prefix);
                    }
                    Effect::Same => {
                        self.spoken_for(prefix);
                        self.answer(prefix);
                    }
                    Effect::Refused | Effect::Ousted => {
                        self.answer_refused(feed, prefix, &route);
                        if let Some(status) = self.feeds.get_mut(&feed) {
                            let table = match prefix {
                                IpNet::V4(_) => FeedTable::Ipv4,
                                IpNet::V6(_) => FeedTable::Ipv6,
                            };
                            *status.refused.entry(table).or_default() += 1;
                        }
                    }
                    Effect::Unknown => {}
                }
            }
            FeedEvent::RouteGone { prefix, path_id } => {
                status.updates += 1;
                let prefix = prefix.trunc();
                let known = self.rib.feeds.withdraw(feed, prefix, path_id);
                let released = self.withdrawn(self.rib.feeds.source(feed), prefix);
                if known || released {
                    self.route_changed(prefix);
                }
            }
            FeedEvent::Nexthop { id, kind } => {
                status.updates += 1;
                let old = self.world.feed_nexthops.insert((feed, id), kind.clone());
                if old != Some(kind) {
                    objects.insert(id);
                }
            }
            FeedEvent::NexthopGone(id) => {
                status.updates += 1;
                if self.world.feed_nexthops.remove(&(feed, id)).is_some() {
                    objects.insert(id);
                }
            }
            FeedEvent::Flow(rule) => {
                status.updates += 1;
                let table = rule.table;
                if !self.flows.announce(feed, rule) {
                    *status.refused.entry(table).or_default() += 1;
                }
            }
            FeedEvent::FlowGone(table, nlri) => {
                status.updates += 1;
                self.flows.withdraw(feed, table, &nlri);
            }
            FeedEvent::Mark {
                table,
                least_preferred,
            } => {
                status.refused.remove(&table);
                self.mark(feed, table, least_preferred);
            }
            FeedEvent::Sweep(table) => self.sweep_feed(feed, table, false),
            FeedEvent::Synchronised(table) => {
                status.synchronised.insert(table);
                self.synchronised(feed, table);
            }
            FeedEvent::Forgotten => self.forget_feed(feed),
        }
    }

    /// There is no such feed any more. Where it was awaited its source is, unless that has others.
    fn forget_feed(&mut self, feed: FeedId) {
        self.feeds.remove(&feed);
        let Some(source) = self.rib.feeds.source(feed) else {
            return;
        };
        let class = self.rib.class_of(source);
        let others = self
            .feeds
            .keys()
            .any(|other| self.rib.feeds.source(*other) == Some(source));
        if let Some(gate) = &mut self.gate {
            gate.forget(feed, source, class, others);
            if gate.may_open() {
                self.open_gate();
            }
        }
    }

    fn mark(&mut self, feed: FeedId, table: FeedTable, least_preferred: bool) {
        // What an earlier sweep has listed is stale by that sweep's measure, not by the next.
        self.finish_sweeps(feed, table);
        self.flows.mark(feed, table);
        if self.rib.feeds.mark(feed, table, least_preferred) {
            self.choose_again = true;
        }
        if least_preferred {
            self.sweep_feed(feed, table, true);
        }
    }

    fn sweep_feed(&mut self, feed: FeedId, table: FeedTable, unwanted: bool) {
        if !unwanted {
            self.flows.sweep(feed, table);
        }
        let list = self.rib.feeds.stale(feed, table, unwanted);
        if !list.is_empty() {
            let kind = Kind::Sweep(feed, table, unwanted);
            self.work.push_back(Work { kind, list, next: 0 });
        }
    }

    fn finish_sweeps(&mut self, feed: FeedId, table: FeedTable) {
        let of = |work: &Work| matches!(work.kind, Kind::Sweep(f, t, _) if (f, t) == (feed, table));
        while let Some(at) = self.work.iter().position(of) {
            if let Some(mut work) = self.work.remove(at) {
                self.do_work(&mut work, usize::MAX);
            }
        }
    }

    /// Does at most so much of what concerns whole tables; answers whether anything is left.
    pub fn work(&mut self, limit: usize) -> bool {
        let mut left = limit;
        loop {
            let Some(mut work) = self.work.pop_front() else {
                if !std::mem::take(&mut self.choose_again) {
                    return false;
                }
                let list = self.rib.feeds.prefixes();
                let kind = Kind::Choose;
                self.work.push_back(Work { kind, list, next: 0 });
                continue;
            };
            left -= self.do_work(&mut work, left);
            if work.next < work.list.len() {
                self.work.push_front(work);
                return true;
            }
            if work.kind == Kind::Release {
                self.gate_is_open();
            }
        }
    }

    fn do_work(&mut self, work: &mut Work, limit: usize) -> usize {
        let end = work.next.saturating_add(limit).min(work.list.len());
        for index in work.next..end {
            let prefix = work.list[index];
            match work.kind {
                Kind::Sweep(feed, _, unwanted) => {
                    if self.rib.feeds.sweep(feed, prefix, unwanted) {
                        self.route_changed(prefix);
                    }
                }
                Kind::Choose => {
                    // Where there is one route, there is no choice.
                    let rib = &self.rib;
                    if rib.all_ways || rib.feeds.has_several(prefix) || rib.kernel.find(prefix).is_some() {
                        self.route_chosen(prefix);
                    }
                }
                Kind::Release => {
                    self.sync(prefix);
                    self.answer(prefix);
                }
            }
        }
        self.forget_idle();
        let done = end - work.next;
        work.next = end;
        done
    }

    /// Where the first route of a feed comes, there will be many.
    fn make_room(&mut self) {
        if self.rib.feeds.is_empty() {
            let (v4, v6) = self.room();
            self.rib.feeds.reserve(v4, v6);
        }
    }

    /// Prefixes, IPv4 and IPv6, of a full table that just fits: growing means to move them all, and room that is not used is
    /// not touched.
    pub(super) fn room(&self) -> (usize, usize) {
        let slots = self.dataplane.tables().sizes.slots as usize;
        (slots / 4 * 3, slots / 8)
    }

    /// Looks for the way of targets that nobody has looked for.
    fn look_for_fresh_targets(&mut self) {
        if !self.rib.feeds.targets().has_fresh() {
            return;
        }
        for number in self.rib.feeds.targets_mut().take_fresh() {
            if let Some(gateway) = self.rib.feeds.targets().gateway(number) {
                let resolution = self.resolve(&gateway);
                self.world.gateways.set(gateway, resolution);
            }
            let path = self.rib.feeds.targets().path(number, false).clone();
            let usable = leads_somewhere(&self.world, &path);
            self.rib.feeds.targets_mut().set_usable(number, usable);
        }
    }

    /// Which ASes the routes of a prefix show behind interfaces that ask for feasible paths. Where one is new, or gone, every
    /// prefix of it is concerned.
    pub(super) fn note_origins(&mut self, prefix: IpNet) {
        let mut says = Vec::new();
        for view in self.rib.feeds.routes(prefix) {
            let Some(origin) = view.attributes.origin_as() else {
                continue;
            };
            let by = origin::interfaces(&self.world, view.path);
            let feasible = |ifindex: &u32| {
                self.world
                    .links
                    .served(*ifindex)
                    .is_some_and(|served| served.feasible)
            };
            says.extend(by.filter(feasible).map(|ifindex| (ifindex, origin)));
        }
        if self.rib.cones.note(prefix, says) {
            self.choose_again = true;
        }
    }

    fn resolve(&self, gateway: &Gateway) -> crate::fib::recursion::Resolution {
        let exists = |ifindex| self.world.links.get(ifindex).is_some();
        recursion::resolve(&self.rib, gateway, exists)
    }

    /// Finds the way of these gateways again; what hangs on those that lead elsewhere now follows.
    pub(super) fn resolve_again(&mut self, gateways: Vec<Gateway>) {
        let mut changed = BTreeSet::new();
        for gateway in gateways {
            let resolution = self.resolve(&gateway);
            let usable = resolution.is_usable();
            if self.world.gateways.get(&gateway) == Some(&resolution) {
                continue;
            }
            self.world.gateways.set(gateway, resolution);
            changed.insert(gateway);
            if self.rib.feeds.targets_mut().set_gateway_usable(gateway, usable) {
                self.choose_again = true;
            }
        }
        if changed.is_empty() {
            return;
        }
        // Another interface, another AS behind it.
        self.choose_again |= self.rib.all_ways;
        let leads =
            |path: &Path| matches!(path, Path::Recursive { gateway, .. } if changed.contains(gateway));
        self.adjacencies
            .refresh(known(&self.dataplane, &self.world, &self.fib), |_| false, leads);
        self.gateways_changed = true;
    }

    /// Next-hop objects of a feed changed: the groups that stand for them follow.
    fn objects_changed(&mut self, feed: FeedId, objects: &BTreeSet<u32>) {
        let of_feed = |space: Option<FeedId>, target: &Target| {
            space == Some(feed) && matches!(target, Target::Nexthop(_))
        };
        for number in self.rib.feeds.targets().select(of_feed) {
            let path = self.rib.feeds.targets().path(number, false).clone();
            let usable = leads_somewhere(&self.world, &path);
            if self.rib.feeds.targets_mut().set_usable(number, usable) {
                self.choose_again = true;
            }
        }
        let world = &self.world;
        let leads = |path: &Path| match path {
            Path::FeedObject { feed: whose, id, .. } => *whose == feed && world.names(feed, *id, objects),
            _ => false,
        };
        self.adjacencies
            .refresh(known(&self.dataplane, world, &self.fib), |_| false, leads);
        self.gateways_changed = true;
    }

    /// A source says that a prefix is gone. Where it was found laid and nobody spoke for it, that counts as a word for it if
    /// nobody who comes before that source is awaited; answers whether it did.
    pub(super) fn withdrawn(&mut self, source: Option<Source>, prefix: IpNet) -> bool {
        let Some(gate) = &mut self.gate else { return false };
        let class = source.map_or(UNLISTED, |source| self.rib.class_of(source));
        let slot = self.fib.slot(self.dataplane.tables(), prefix);
        match slot {
            Some(slot) if gate.holds(slot) && gate.admits(class, prefix.addr().is_ipv6()) => {
                gate.clear(slot);
                true
            }
            _ => false,
        }
    }

    /// What was said of a prefix is what was known.
    fn spoken_for(&mut self, prefix: IpNet) {
        if self.gate.is_some() {
            self.sync(prefix);
        }
    }

    fn synchronised(&mut self, feed: FeedId, table: FeedTable) {
        let Some(gate) = &mut self.gate else { return };
        match table {
            FeedTable::Ipv4 => gate.synchronised(feed, false),
            FeedTable::Ipv6 => gate.synchronised(feed, true),
            FeedTable::FlowSpec4 | FeedTable::FlowSpec6 => {}
        }
        if gate.may_open() {
            self.open_gate();
        }
    }

    /// Whose first synchronisation the gate waits for.
    pub fn awaited(&self) -> Vec<Awaited> {
        self.gate
            .as_ref()
            .map_or_else(Vec::new, |gate| gate.awaited().collect())
    }

    /// Whether what an earlier controller laid is still kept.
    pub fn is_gated(&self) -> bool {
        self.gate.is_some()
    }

    /// Whether there is anything of that: not at the first start, nor where somebody has spoken for all of it.
    pub fn keeps_found(&self) -> bool {
        self.gate.as_ref().is_some_and(Gate::holds_any)
    }

    /// Ends the waiting: what was found laid and nobody spoke for is mended or taken away.
    pub fn open_gate(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        if self.activity.resyncs == 0 {
            // The kernel has not been heard yet: its dump does it all.
            return;
        }
        let mut list = Vec::new();
        self.fib.each(self.dataplane.tables(), |prefix, slot, _| {
            if gate.holds(slot) {
                list.push(prefix);
            }
        });
        list.sort_unstable();
        let kind = Kind::Release;
        self.work.push_back(Work { kind, list, next: 0 });
        self.releasing = true;
    }

    fn gate_is_open(&mut self) {
        self.releasing = false;
        self.adoption_ends();
        self.gateways_changed = true;
    }

    /// What was found laid has been compared with what should be.
    pub(super) fn adoption_ends(&mut self) {
        let tables = self.dataplane.tables();
        self.fib.adoption_ends(tables);
        self.adjacencies.adoption_ends(tables);
    }
}
