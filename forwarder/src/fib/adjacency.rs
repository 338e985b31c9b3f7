//! From what routes say to the next hops and groups of the program.
//!
//! A [`Plan`] is what a route does, in canonical form, and what takes over from it; equal plans share one group, however
//! many prefixes lead there. A group's members are next hops; a next hop is an egress interface and a neighbour, and its
//! words say at any moment whether and how packets can go there. So:
//! - a neighbour's MAC or a link's state changes: its next hops' words, and the buckets of groups that can do without it;
//! - a next-hop object changes: the buckets of its groups;
//! - an anchor is laid, withdrawn or gets another group: the buckets of the groups that hang on it;
//! - no prefix is touched in any case (prefix-independent convergence).

use std::{
    collections::{BTreeSet, HashMap},
    iter,
    net::IpAddr,
};

use forwarder_common::{
    directory::{GroupEntry, State},
    fib::GROUP_INDIRECT,
    reason::Reason,
};
use ipnet::IpNet;

use super::{
    anchors::Anchors,
    backup::{Tiers, default_route},
    family::prefix_of,
    group_words::{entry_of, write_entry, write_group},
    nexthops::{Member, NextHops},
    origin::origin,
    path::{Key, Path},
    plan::{Known, Others, Plan, Ways},
};
use crate::{dataplane::Tables, source::event::Ifindex};

/// The digest of groups that the next controller cannot claim.
const NAMELESS: u64 = 0;
/// How many groups asked for lately are remembered.
const RECENT: usize = 256;

pub(super) struct GroupState {
    /// `None` for one that an earlier controller left and no route has claimed.
    pub plan: Option<Plan>,
    /// Of such a one: what it stood for.
    pub inherited: Option<(u64, Option<IpNet>)>,
    pub tiers: Tiers,
    pub references: u32,
}

/// Next hops and groups in use.
pub struct Adjacencies {
    pub(super) nexthops: NextHops,
    pub(super) anchors: Anchors,
    groups: Vec<Option<GroupState>>,
    by_plan: HashMap<Plan, u32, foldhash::fast::RandomState>,
    /// Groups asked for lately, by where their paths stand in memory: hashing a plan means hashing all its next hops.
    recent: [u32; RECENT],
    /// Groups an earlier controller left, until a route claims them.
    adopted: HashMap<(u64, Option<IpNet>), u32>,
    free: BTreeSet<u32>,
    retired: Vec<u32>,
    waiting: Vec<u32>,
    /// Groups in use that stand for gateways.
    routed: usize,
    /// While groups of an earlier controller may still be claimed, nothing is given back.
    adopting: bool,
}

impl Adjacencies {
    /// None in use.
    pub fn new(tables: &Tables) -> Adjacencies {
        Adjacencies {
            nexthops: NextHops::new(tables),
            anchors: Anchors::default(),
            groups: (0..tables.sizes.groups).map(|_| None).collect(),
            by_plan: HashMap::default(),
            recent: [0; RECENT],
            adopted: HashMap::new(),
            // Group numbers that fit a leaf go to routes, the rest to neighbours.
            free: (1..tables.sizes.groups)
                .filter(|group| *group != GROUP_INDIRECT)
                .collect(),
            retired: Vec::new(),
            waiting: Vec::new(),
            routed: 0,
            adopting: false,
        }
    }

    /// Takes over what an earlier controller left. `references` counts the prefixes of each group.
    pub fn adopt(tables: &Tables, references: &HashMap<u32, u32>) -> Adjacencies {
        let mut all = Adjacencies::new(tables);
        all.adopting = true;
        all.nexthops = NextHops::adopt(tables);
        for group in 1..tables.sizes.groups {
            let entry = tables.group_directory.get(group as usize);
            if State::from_number(entry.state) != Some(State::Live) {
                continue;
            }
            let mut members: Vec<Member> = Vec::new();
            for id in tables.groups.get(group as usize).buckets {
                match members.iter_mut().find(|(known, _)| *known == id) {
                    Some((_, weight)) => *weight += 1,
                    None => members.push((id, 1)),
                }
            }
            let mut tiers = Tiers {
                active: usize::from(entry.on_backup != 0),
                ..Tiers::default()
            };
            tiers.members[1] = entry.backup.iter().map(|id| (*id, 1)).collect();
            tiers.members[tiers.active] = members;
            for members in &mut tiers.members {
                members.retain(|(id, _)| all.nexthops.hold_known(*id));
            }
            let anchor = prefix_of(entry.anchor_family, entry.anchor, entry.anchor_length);
            all.free.remove(&group);
            all.adopted.insert((entry.digest, anchor), group);
            all.groups[group as usize] = Some(GroupState {
                plan: None,
                inherited: Some((entry.digest, anchor)),
                tiers,
                references: references.get(&group).copied().unwrap_or(0),
            });
        }
        all
    }

    /// The first sync is over: groups and next hops that no route claimed are given back.
    pub fn adoption_ends(&mut self, tables: &Tables) {
        if !std::mem::take(&mut self.adopting) {
            return;
        }
        self.adopted.clear();
        for group in 1..self.groups.len() as u32 {
            if self.state(group).is_some_and(|state| state.references == 0) {
                self.retire(tables, group);
            }
        }
        self.nexthops.adoption_ends(tables);
    }

    pub(super) fn state(&self, group: u32) -> Option<&GroupState> {
        self.groups.get(group as usize)?.as_ref()
    }

    /// Whether there is room for plans that differ only in their anchor: leaves name few groups.
    pub(super) fn may_anchor(&self) -> bool {
        let direct = self.groups.len().min(GROUP_INDIRECT as usize);
        self.routed < direct - direct / 4
    }

    /// The group for a prefix with these ways, with one reference more; `have` is the one it has. `None`: no group or next
    /// hop is left.
    pub fn place(&mut self, known: Known<'_>, prefix: IpNet, ways: &Ways, have: Option<u32>) -> Option<u32> {
        if is_blackhole(&ways.path) && self.nexthops.has_room_for_victims() {
            let victim = Plan {
                ways: Ways {
                    account: ways.account,
                    ..Ways::only(Path::Victim(prefix))
                },
                anchor: None,
            };
            if let Some(found) = self.acquire(known, &victim) {
                return Some(found);
            }
        }
        let mut plan = self.plan(known, prefix, ways, have);
        let default = default_route(prefix);
        loop {
            let found = self.acquire(known, &plan);
            if found.is_some() {
                return found;
            }
            // No room: sources that come from where they may not, and a way without a backup, are better than none.
            let vague = plan.ways.others != Others::default() && plan.ways.others != Others::Unknown;
            if vague {
                plan.ways.others = Others::Unknown;
                continue;
            }
            match plan.anchor {
                Some(anchor) if anchor != default => plan.anchor = Some(default),
                Some(_) => plan.anchor = None,
                None => plan.ways.alternate.take().map(drop)?,
            }
        }
    }

    /// The group for a plan, with one reference more. `None`: no group or next hop is left.
    pub fn acquire(&mut self, known: Known<'_>, plan: &Plan) -> Option<u32> {
        let place = plan.place() % RECENT;
        let same = |state: &GroupState| state.plan.as_ref().is_some_and(|known| known.is(plan));
        let recent = Some(self.recent[place]).filter(|group| self.state(*group).is_some_and(same));
        if let Some(group) = recent.or_else(|| self.by_plan.get(plan).copied()) {
            self.recent[place] = group;
            if let Some(state) = &mut self.groups[group as usize] {
                state.references += 1;
            }
            return Some(group);
        }
        let digest = plan.ways.digest();
        let key = (digest.unwrap_or(NAMELESS), plan.anchor);
        let claimed = digest.and_then(|_| self.adopted.get(&key).copied());
        let on_backup = claimed
            .and_then(|group| self.state(group))
            .is_some_and(|state| state.tiers.active != 0);
        let tiers = self.fill(known, plan, on_backup)?;
        let Some(group) = claimed.or_else(|| self.free_group(&plan.ways.path)) else {
            self.let_go(known.tables, &tiers);
            return None;
        };
        if claimed.is_some() {
            self.adopted.remove(&key);
        }
        let (old, references) = match self.groups[group as usize].take() {
            Some(state) => (state.tiers, state.references),
            None => (Tiers::default(), 0),
        };
        write_group(known.tables, group, plan.ways.account, tiers.chosen());
        self.write_origin(known, group, &plan.ways, &tiers);
        write_entry(known.tables, group, entry_of(key), &tiers);
        self.let_go(known.tables, &old);
        self.groups[group as usize] = Some(GroupState {
            plan: Some(plan.clone()),
            inherited: None,
            tiers,
            references: references + 1,
        });
        self.by_plan.insert(plan.clone(), group);
        self.routed += usize::from(plan.ways.path.has_gateways());
        if let Some(anchor) = plan.anchor {
            self.anchors.attach(known, anchor, group);
        }
        if claimed.is_some() {
            // Groups that were claimed before it know it only by what it named.
            let mut hanging = BTreeSet::from([group]);
            self.anchors.spread(&mut hanging);
            hanging.remove(&group);
            self.refill_all(known, hanging);
        }
        Some(group)
    }

    /// Gives back one reference.
    pub fn release(&mut self, tables: &Tables, group: u32) {
        let Some(Some(state)) = self.groups.get_mut(group as usize) else {
            return;
        };
        state.references = state.references.saturating_sub(1);
        if state.references == 0 && !self.adopting {
            self.retire(tables, group);
        }
    }

    /// Whether a group is one for these ways, whatever its anchor.
    pub fn serves(&self, group: u32, ways: &Ways) -> bool {
        let plan = self.state(group).and_then(|state| state.plan.as_ref());
        let victims = |plan: &Plan| {
            let blackholes = matches!(*plan.ways.path, Path::Victim(_)) && is_blackhole(&ways.path);
            blackholes && plan.ways.account == ways.account
        };
        plan.is_some_and(|plan| plan.ways == *ways || victims(plan))
    }

    /// What a group does as long as it can; `None` for one that is adopted and not claimed yet.
    pub fn path(&self, group: u32) -> Option<&Path> {
        Some(&*self.state(group)?.plan.as_ref()?.ways.path)
    }

    /// Groups and next hops in use.
    pub fn used(&self) -> (usize, usize) {
        (self.groups.iter().flatten().count(), self.nexthops.used())
    }

    /// Gateways the kernel must keep resolved, those of backups among them.
    pub fn gateways(&self) -> BTreeSet<(Ifindex, IpAddr)> {
        let of_routes = |state: &&GroupState| {
            let path = state.plan.as_ref().map(|plan| &*plan.ways.path);
            !matches!(path, None | Some(Path::Neighbour { .. }))
        };
        let states = self.groups.iter().flatten().filter(of_routes);
        let ids: BTreeSet<u16> = states
            .flat_map(|state| state.tiers.all().map(|(id, _)| *id))
            .collect();
        ids.into_iter()
            .filter_map(|id| match self.nexthops.key(id)? {
                Key::Neighbour { ifindex, address, .. } => Some((*ifindex, *address)),
                Key::Special(_) | Key::Victim(_) => None,
            })
            .collect()
    }

    /// Something about these interfaces, neighbours, objects or gateways changed: brings next hops and groups up to date.
    /// `matters` says which next hops are concerned, `leads` which paths lead elsewhere now.
    pub fn refresh(
        &mut self,
        known: Known<'_>,
        matters: impl Fn(&Key) -> bool,
        leads: impl Fn(&Path) -> bool,
    ) {
        let touched = self.nexthops.refresh(known.tables, known.world, matters);
        let concerned = |state: &GroupState| {
            let ways = state.plan.as_ref().map(|plan| &plan.ways);
            let by_path = ways.is_some_and(|ways| {
                let others = ways.others.paths();
                let mut all = iter::once(&ways.path).chain(&ways.alternate).chain(others);
                all.any(|path| leads(path))
            });
            by_path
                || state
                    .tiers
                    .all()
                    .any(|(id, _)| touched.get(*id as usize) == Some(&true))
        };
        let mut groups: BTreeSet<u32> = (1..self.groups.len() as u32)
            .filter(|group| self.state(*group).is_some_and(concerned))
            .collect();
        self.anchors.spread(&mut groups);
        groups.retain(|group| self.state(*group).is_some_and(has_choice));
        self.refill_all(known, groups);
    }

    /// Which interfaces are served changed: every group of routes is resolved anew.
    pub fn refresh_all(&mut self, known: Known<'_>) {
        self.nexthops.refresh(known.tables, known.world, |_| true);
        let special = |path: &Path| matches!(path, Path::Special(_) | Path::Victim(_));
        let leads = |group: &u32| self.path(*group).is_some_and(|path| !special(path));
        let groups = (1..self.groups.len() as u32).filter(leads).collect();
        self.refill_all(known, groups);
    }

    /// A prefix was laid, taken away or given another group: groups that hang on it follow.
    pub fn moved(&mut self, known: Known<'_>, prefix: IpNet) {
        let mut groups = self.anchors.moved(known, prefix);
        if !groups.is_empty() {
            self.anchors.spread(&mut groups);
            self.refill_all(known, groups);
        }
    }

    fn refill_all(&mut self, known: Known<'_>, groups: BTreeSet<u32>) {
        for group in groups {
            self.refill(known, group);
        }
    }

    fn refill(&mut self, known: Known<'_>, group: u32) {
        let Some(state) = self.state(group) else { return };
        let Some(plan) = state.plan.clone() else { return };
        let on_backup = state.tiers.active != 0;
        // No next hop left for a new member: the group keeps what it has, which the next refresh mends.
        let Some(tiers) = self.fill(known, &plan, on_backup) else {
            return;
        };
        write_group(known.tables, group, plan.ways.account, tiers.chosen());
        self.write_origin(known, group, &plan.ways, &tiers);
        let entry = known.tables.group_directory.get(group as usize);
        write_entry(known.tables, group, entry, &tiers);
        if let Some(state) = &mut self.groups[group as usize] {
            let old = std::mem::replace(&mut state.tiers, tiers);
            self.let_go(known.tables, &old);
        }
    }

    fn write_origin(&self, known: Known<'_>, group: u32, ways: &Ways, tiers: &Tiers) {
        let chosen = tiers.chosen().iter().filter_map(|(id, _)| self.nexthops.key(*id));
        let origin = origin(known.world, ways, chosen);
        if known.tables.origins.get(group as usize) != origin {
            known.tables.origins.set(group as usize, &origin);
        }
    }

    pub(super) fn let_go(&mut self, tables: &Tables, tiers: &Tiers) {
        for members in &tiers.members {
            self.nexthops.release(tables, members);
        }
    }

    /// Whether anything waits for a grace period.
    pub fn has_retired(&self) -> bool {
        self.nexthops.has_retired() || !self.retired.is_empty() || !self.waiting.is_empty()
    }

    /// A grace period begins.
    pub fn grace_begins(&mut self) {
        self.nexthops.grace_begins();
        self.waiting.append(&mut self.retired);
    }

    /// It is over.
    pub fn grace_over(&mut self, tables: &Tables) {
        self.nexthops.grace_over(tables);
        for group in self.waiting.drain(..) {
            tables.group_directory.set(group as usize, &GroupEntry::default());
            self.free.insert(group);
        }
    }

    fn free_group(&mut self, path: &Path) -> Option<u32> {
        match path {
            Path::Neighbour { .. } | Path::Victim(_) => {
                let beyond = self.free.range(GROUP_INDIRECT..).next().copied();
                let group = beyond.or_else(|| self.free.last().copied())?;
                self.free.take(&group)
            }
            _ => self.free.pop_first(),
        }
    }

    fn retire(&mut self, tables: &Tables, group: u32) {
        let Some(state) = self.groups[group as usize].take() else {
            return;
        };
        if let Some(plan) = &state.plan {
            self.by_plan.remove(plan);
            self.routed -= usize::from(plan.ways.path.has_gateways());
            if let Some(anchor) = plan.anchor {
                self.anchors.detach(anchor, group);
            }
        }
        let entry = tables.group_directory.get(group as usize);
        tables.group_directory.set(
            group as usize,
            &GroupEntry {
                state: State::Retired as u8,
                ..entry
            },
        );
        self.retired.push(group);
        self.let_go(tables, &state.tiers);
    }
}

fn is_blackhole(path: &Path) -> bool {
    *path == Path::Special(Reason::Blackhole)
}

/// Whether the state of a next hop can change what the buckets of a group name.
fn has_choice(state: &GroupState) -> bool {
    let Some(plan) = &state.plan else { return false };
    let alone = plan.ways.alternate.is_none() && plan.anchor.is_none();
    !alone
        || plan.ways.others != Others::default()
        || state.tiers.members[0].len() > 1
        || plan.ways.path.is_indirect()
}
