//! From what a route says to the next hops and groups of the program.
//!
//! A [`Path`] is what a route does, in canonical form; equal paths share one group, however many prefixes lead there. A
//! group's members are next hops; a next hop is an egress interface and a neighbour, and its words say at any moment
//! whether and how packets can go there. So:
//! - a neighbour's MAC or a link's state changes: its next hops' words (and, in groups of several, their buckets);
//! - a next-hop object changes: the buckets of its group;
//! - no prefix is touched in either case (prefix-independent convergence).

use std::{
    collections::{BTreeSet, HashMap},
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::atomic::Ordering,
};

use forwarder_common::{
    directory::{GroupEntry, NextHopEntry, State},
    fib::GROUP_INDIRECT,
    nexthop::BUCKETS,
    reason::Reason,
};

use super::{
    buckets,
    path::{Key, Path, Topology, entry_of, key_of, resolve, write_nexthop},
};
use crate::{dataplane::Tables, source::event::Ifindex};

struct GroupState {
    path: Option<Path>,
    members: Vec<(u16, u32)>,
    references: u32,
}

/// Next hops and groups in use.
pub struct Adjacencies {
    nexthops: Vec<Option<(Key, u32)>>,
    by_key: HashMap<Key, u16>,
    free_nexthops: Vec<u16>,
    groups: Vec<Option<GroupState>>,
    by_path: HashMap<Path, u32>,
    /// Groups an earlier controller left, by digest, until a route claims them.
    adopted: HashMap<u64, u32>,
    free_groups: BTreeSet<u32>,
    retired: (Vec<u16>, Vec<u32>),
    waiting: (Vec<u16>, Vec<u32>),
    /// While groups of an earlier controller may still be claimed, nothing is given back.
    adopting: bool,
}

impl Adjacencies {
    /// None in use.
    pub fn new(tables: &Tables) -> Adjacencies {
        let count = tables.sizes.nexthops.min(u16::MAX as u32) as u16;
        Adjacencies {
            nexthops: (0..count).map(|_| None).collect(),
            by_key: HashMap::new(),
            free_nexthops: (1..count).rev().collect(),
            groups: (0..tables.sizes.groups).map(|_| None).collect(),
            by_path: HashMap::new(),
            adopted: HashMap::new(),
            // Group numbers that fit a leaf go to routes, the rest to neighbours.
            free_groups: (1..tables.sizes.groups)
                .filter(|group| *group != GROUP_INDIRECT)
                .collect(),
            retired: Default::default(),
            waiting: Default::default(),
            adopting: false,
        }
    }

    /// Takes over what an earlier controller left. `references` counts the prefixes of each group.
    pub fn adopt(tables: &Tables, references: &HashMap<u32, u32>) -> Adjacencies {
        let mut all = Adjacencies::new(tables);
        all.adopting = true;
        for id in 1..all.nexthops.len() as u16 {
            let entry = tables.nexthop_directory.get(id as usize);
            let Some(key) = key_of(&entry) else { continue };
            all.nexthops[id as usize] = Some((key, 0));
            all.by_key.insert(key, id);
        }
        all.free_nexthops
            .retain(|id| all.nexthops[*id as usize].is_none());
        for group in 1..tables.sizes.groups {
            let entry = tables.group_directory.get(group as usize);
            if State::from_number(entry.state as u8) != Some(State::Live) {
                continue;
            }
            let mut members: Vec<(u16, u32)> = Vec::new();
            for id in tables.groups.get(group as usize).buckets {
                match members.iter_mut().find(|(known, _)| *known == id) {
                    Some((_, weight)) => *weight += 1,
                    None => members.push((id, 1)),
                }
            }
            for (id, _) in &members {
                if let Some(Some((_, held))) = all.nexthops.get_mut(*id as usize) {
                    *held += 1;
                }
            }
            all.free_groups.remove(&group);
            all.adopted.insert(entry.digest, group);
            let references = references.get(&group).copied().unwrap_or(0);
            all.groups[group as usize] = Some(GroupState {
                path: None,
                members,
                references,
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
            if self.groups[group as usize]
                .as_ref()
                .is_some_and(|state| state.references == 0)
            {
                self.retire_group(tables, group);
            }
        }
        for id in 1..self.nexthops.len() as u16 {
            if self.nexthops[id as usize].is_some_and(|(_, references)| references == 0) {
                self.retire_nexthop(tables, id);
            }
        }
    }

    /// The group for a path, with one reference more. `None`: no group or next hop is left.
    pub fn acquire(&mut self, tables: &Tables, world: &Topology, path: &Path) -> Option<u32> {
        if let Some(group) = self.by_path.get(path).copied() {
            if let Some(state) = &mut self.groups[group as usize] {
                state.references += 1;
            }
            return Some(group);
        }
        let members = self.hold_members(tables, world, path)?;
        let claimed = self.adopted.remove(&digest(path));
        let group = match claimed.or_else(|| self.free_group(path)) {
            Some(group) => group,
            None => {
                self.drop_members(tables, &members);
                return None;
            }
        };
        let (old, references) = match self.groups[group as usize].take() {
            Some(state) => (state.members, state.references),
            None => (Vec::new(), 0),
        };
        self.write_group(tables, group, &members);
        tables.group_directory.set(
            group as usize,
            &GroupEntry {
                state: State::Live as u32,
                reserved: 0,
                digest: digest(path),
            },
        );
        self.drop_members(tables, &old);
        self.groups[group as usize] = Some(GroupState {
            path: Some(path.clone()),
            members,
            references: references + 1,
        });
        self.by_path.insert(path.clone(), group);
        Some(group)
    }

    /// Gives back one reference.
    pub fn release(&mut self, tables: &Tables, group: u32) {
        let Some(Some(state)) = self.groups.get_mut(group as usize) else {
            return;
        };
        state.references = state.references.saturating_sub(1);
        if state.references == 0 && !self.adopting {
            self.retire_group(tables, group);
        }
    }

    /// What a group does; `None` for one that is adopted and not claimed yet.
    pub fn path(&self, group: u32) -> Option<&Path> {
        self.groups.get(group as usize)?.as_ref()?.path.as_ref()
    }

    /// Groups and next hops in use.
    pub fn used(&self) -> (usize, usize) {
        (
            self.groups.iter().flatten().count(),
            self.nexthops.iter().flatten().count(),
        )
    }

    /// Gateways the kernel must keep resolved.
    pub fn gateways(&self) -> BTreeSet<(Ifindex, IpAddr)> {
        let states = self.groups.iter().flatten();
        let routed = states.filter(|state| !matches!(state.path, None | Some(Path::Neighbour { .. })));
        let ids = routed.flat_map(|state| state.members.iter());
        ids.filter_map(|(id, _)| match self.nexthops.get(*id as usize)? {
            Some((Key::Neighbour { ifindex, address, .. }, _)) => Some((*ifindex, *address)),
            _ => None,
        })
        .collect()
    }

    /// Something about these interfaces, neighbours or objects changed: brings next hops and groups up to date. `matters`
    /// says which next hops are concerned; with `objects`, groups of next-hop objects are resolved anew.
    pub fn refresh(
        &mut self,
        tables: &Tables,
        world: &Topology,
        matters: impl Fn(&Key) -> bool,
        objects: bool,
    ) {
        let mut touched = BTreeSet::new();
        for (id, slot) in self.nexthops.iter().enumerate() {
            if let Some((key, _)) = slot
                && matters(key)
            {
                write_nexthop(tables, world, id as u16, key);
                touched.insert(id as u16);
            }
        }
        for group in 1..self.groups.len() as u32 {
            let Some(state) = &self.groups[group as usize] else {
                continue;
            };
            let resolve = match &state.path {
                Some(Path::Object { .. }) => {
                    objects || state.members.iter().any(|(id, _)| touched.contains(id))
                }
                Some(_) => {
                    state.members.len() > 1 && state.members.iter().any(|(id, _)| touched.contains(id))
                }
                None => false,
            };
            if resolve {
                self.refill(tables, world, group);
            }
        }
    }

    /// Which interfaces are served changed: every group of routes is resolved anew.
    pub fn refresh_all(&mut self, tables: &Tables, world: &Topology) {
        self.refresh(tables, world, |_| true, true);
        for group in 1..self.groups.len() as u32 {
            let with_hops =
                |state: &GroupState| matches!(state.path, Some(Path::Hops { .. } | Path::Neighbour { .. }));
            if self.groups[group as usize].as_ref().is_some_and(with_hops) {
                self.refill(tables, world, group);
            }
        }
    }

    fn refill(&mut self, tables: &Tables, world: &Topology, group: u32) {
        let Some(path) = self.groups[group as usize]
            .as_ref()
            .and_then(|state| state.path.clone())
        else {
            return;
        };
        // No next hop left for a new member: the group keeps what it has, which the next refresh mends.
        let Some(members) = self.hold_members(tables, world, &path) else {
            return;
        };
        self.write_group(tables, group, &members);
        if let Some(state) = &mut self.groups[group as usize] {
            let old = std::mem::replace(&mut state.members, members);
            self.drop_members(tables, &old);
        }
    }

    /// Whether anything waits for a grace period.
    pub fn has_retired(&self) -> bool {
        [&self.retired, &self.waiting]
            .iter()
            .any(|(hops, groups)| !hops.is_empty() || !groups.is_empty())
    }

    /// A grace period begins.
    pub fn grace_begins(&mut self) {
        self.waiting.0.append(&mut self.retired.0);
        self.waiting.1.append(&mut self.retired.1);
    }

    /// It is over.
    pub fn grace_over(&mut self, tables: &Tables) {
        for id in self.waiting.0.drain(..) {
            let entry = tables.nexthop_directory.get(id as usize);
            tables.nexthop_directory.set(
                id as usize,
                &NextHopEntry {
                    state: State::Free as u8,
                    ..entry
                },
            );
            self.free_nexthops.push(id);
        }
        for group in self.waiting.1.drain(..) {
            tables.group_directory.set(group as usize, &GroupEntry::default());
            self.free_groups.insert(group);
        }
    }

    fn free_group(&mut self, path: &Path) -> Option<u32> {
        match path {
            Path::Neighbour { .. } => {
                let beyond = self.free_groups.range(GROUP_INDIRECT..).next().copied();
                let group = beyond.or_else(|| self.free_groups.last().copied())?;
                self.free_groups.take(&group)
            }
            _ => self.free_groups.pop_first(),
        }
    }

    fn retire_group(&mut self, tables: &Tables, group: u32) {
        let Some(state) = self.groups[group as usize].take() else {
            return;
        };
        if let Some(path) = &state.path {
            self.by_path.remove(path);
        }
        let entry = tables.group_directory.get(group as usize);
        tables.group_directory.set(
            group as usize,
            &GroupEntry {
                state: State::Retired as u32,
                ..entry
            },
        );
        self.retired.1.push(group);
        self.drop_members(tables, &state.members);
    }

    fn hold_members(&mut self, tables: &Tables, world: &Topology, path: &Path) -> Option<Vec<(u16, u32)>> {
        let mut members = Vec::new();
        for (key, weight) in resolve(world, path) {
            match self.hold(tables, world, key) {
                Some(id) => members.push((id, weight)),
                None => {
                    self.drop_members(tables, &members);
                    return None;
                }
            }
        }
        Some(members)
    }

    fn hold(&mut self, tables: &Tables, world: &Topology, key: Key) -> Option<u16> {
        if let Some(id) = self.by_key.get(&key).copied() {
            if let Some((_, references)) = &mut self.nexthops[id as usize] {
                *references += 1;
            }
            if self.adopting {
                write_nexthop(tables, world, id, &key);
            }
            return Some(id);
        }
        let id = self.free_nexthops.pop()?;
        let baseline = tables.nexthop_counter(id as u32);
        let entry = NextHopEntry {
            baseline,
            state: State::Live as u8,
            ..entry_of(world, &key)
        };
        tables.nexthop_directory.set(id as usize, &entry);
        write_nexthop(tables, world, id, &key);
        self.nexthops[id as usize] = Some((key, 1));
        self.by_key.insert(key, id);
        Some(id)
    }

    fn drop_members(&mut self, tables: &Tables, members: &[(u16, u32)]) {
        for (id, _) in members {
            let Some(Some((_, references))) = self.nexthops.get_mut(*id as usize) else {
                continue;
            };
            *references = references.saturating_sub(1);
            if *references == 0 && !self.adopting {
                self.retire_nexthop(tables, *id);
            }
        }
    }

    fn retire_nexthop(&mut self, tables: &Tables, id: u16) {
        let Some((key, _)) = self.nexthops[id as usize].take() else {
            return;
        };
        self.by_key.remove(&key);
        let entry = tables.nexthop_directory.get(id as usize);
        tables.nexthop_directory.set(
            id as usize,
            &NextHopEntry {
                state: State::Retired as u8,
                ..entry
            },
        );
        self.retired.0.push(id);
    }

    /// Stores a group's buckets, then its width. Members that cannot be used now count only where none can.
    fn write_group(&self, tables: &Tables, group: u32, members: &[(u16, u32)]) {
        let usable = |id: u16| {
            let state = tables.nexthops.get(id as usize).state();
            state == Reason::Forwarded.index()
        };
        let alive: Vec<(u16, u32)> = members
            .iter()
            .filter(|(id, weight)| *weight > 0 && usable(*id))
            .copied()
            .collect();
        let chosen = if alive.is_empty() {
            members
                .iter()
                .map(|(id, weight)| (*id, (*weight).max(1)))
                .collect()
        } else {
            alive
        };
        let current = tables.groups.get(group as usize);
        let filled = buckets::fill(&current.buckets, &chosen);
        let region = tables.groups.region();
        let base = group as usize * 256;
        for (index, id) in filled.iter().enumerate() {
            if current.buckets[index] != *id {
                region.u16(base + 8 + index * 2).store(*id, Ordering::Release);
            }
        }
        let single = filled.iter().all(|id| *id == filled[0]);
        region
            .u32(base)
            .store(if single { 1 } else { BUCKETS as u32 }, Ordering::Release);
    }
}

/// FNV-1a: the digest must be the same in every run and every build, which `std`'s hashers do not promise.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ *byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// What names a path in the pinned group directory: its printed form, hashed.
fn digest(path: &Path) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    format!("{path:?}").hash(&mut hasher);
    hasher.finish()
}
