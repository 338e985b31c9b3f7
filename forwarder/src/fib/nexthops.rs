//! Next hops in use: an id for each identity, how many groups hold it, and the words the program reads.

use std::collections::HashMap;

use forwarder_common::directory::{NextHopEntry, State};

use super::path::{Key, Topology, entry_of, key_of, write_nexthop};
use crate::dataplane::Tables;

/// A member of a group: next hop and weight, 0 for one that the kernel does not use now.
pub type Member = (u16, u32);

/// All next hops.
pub struct NextHops {
    /// Identity and holders, by id.
    all: Vec<Option<(Key, u32)>>,
    by_key: HashMap<Key, u16>,
    free: Vec<u16>,
    retired: Vec<u16>,
    waiting: Vec<u16>,
    /// While those of an earlier controller may still be claimed, none is given back.
    adopting: bool,
}

impl NextHops {
    /// None in use.
    pub fn new(tables: &Tables) -> NextHops {
        let count = tables.sizes.nexthops.min(u16::MAX as u32) as u16;
        NextHops {
            all: (0..count).map(|_| None).collect(),
            by_key: HashMap::new(),
            free: (1..count).rev().collect(),
            retired: Vec::new(),
            waiting: Vec::new(),
            adopting: false,
        }
    }

    /// Takes over what an earlier controller left; nobody holds any yet.
    pub fn adopt(tables: &Tables) -> NextHops {
        let mut hops = NextHops::new(tables);
        hops.adopting = true;
        for id in 1..hops.all.len() as u16 {
            let entry = tables.nexthop_directory.get(id as usize);
            let Some(key) = key_of(&entry) else { continue };
            hops.all[id as usize] = Some((key, 0));
            hops.by_key.insert(key, id);
        }
        hops.free.retain(|id| hops.all[*id as usize].is_none());
        hops
    }

    /// Those that nobody claimed are given back.
    pub fn adoption_ends(&mut self, tables: &Tables) {
        self.adopting = false;
        for id in 1..self.all.len() as u16 {
            if self.all[id as usize].is_some_and(|(_, holders)| holders == 0) {
                self.retire(tables, id);
            }
        }
    }

    /// The identity of one in use.
    pub fn key(&self, id: u16) -> Option<&Key> {
        self.all.get(id as usize)?.as_ref().map(|(key, _)| key)
    }

    /// How many are in use.
    pub fn used(&self) -> usize {
        self.all.iter().flatten().count()
    }

    /// Whether one more blackhole may have a next hop of its own: gateways come first.
    pub fn has_room_for_victims(&self) -> bool {
        self.free.len() > self.all.len() / 2
    }

    /// Holds the next hops of these keys, their words written. `None`, and none held: no id is left.
    pub fn hold(&mut self, tables: &Tables, world: &Topology, keys: &[(Key, u32)]) -> Option<Vec<Member>> {
        let mut members = Vec::with_capacity(keys.len());
        for (key, weight) in keys {
            match self.hold_one(tables, world, *key) {
                Some(id) => members.push((id, *weight)),
                None => {
                    self.release(tables, &members);
                    return None;
                }
            }
        }
        Some(members)
    }

    fn hold_one(&mut self, tables: &Tables, world: &Topology, key: Key) -> Option<u16> {
        if let Some(id) = self.by_key.get(&key).copied() {
            self.hold_known(id);
            if self.adopting {
                write_nexthop(tables, world, id, &key);
            }
            return Some(id);
        }
        let id = self.free.pop()?;
        let baseline = tables.nexthop_counter(id as u32);
        let entry = NextHopEntry {
            baseline,
            state: State::Live as u8,
            ..entry_of(world, &key)
        };
        tables.nexthop_directory.set(id as usize, &entry);
        write_nexthop(tables, world, id, &key);
        self.all[id as usize] = Some((key, 1));
        self.by_key.insert(key, id);
        Some(id)
    }

    /// One holder more for a next hop; answers whether it is in use.
    pub fn hold_known(&mut self, id: u16) -> bool {
        match self.all.get_mut(id as usize) {
            Some(Some((_, holders))) => {
                *holders += 1;
                true
            }
            _ => false,
        }
    }

    /// One holder less for each.
    pub fn release(&mut self, tables: &Tables, members: &[Member]) {
        for (id, _) in members {
            let Some(Some((_, holders))) = self.all.get_mut(*id as usize) else {
                continue;
            };
            *holders = holders.saturating_sub(1);
            if *holders == 0 && !self.adopting {
                self.retire(tables, *id);
            }
        }
    }

    /// Brings the words of those that matter up to date; says which those were, by id.
    pub fn refresh(&self, tables: &Tables, world: &Topology, matters: impl Fn(&Key) -> bool) -> Vec<bool> {
        let mut touched = vec![false; self.all.len()];
        for (id, slot) in self.all.iter().enumerate() {
            if let Some((key, _)) = slot
                && matters(key)
            {
                write_nexthop(tables, world, id as u16, key);
                touched[id] = true;
            }
        }
        touched
    }

    fn retire(&mut self, tables: &Tables, id: u16) {
        let Some((key, _)) = self.all[id as usize].take() else {
            return;
        };
        self.by_key.remove(&key);
        set_state(tables, id, State::Retired);
        self.retired.push(id);
    }

    /// Whether any waits for a grace period.
    pub fn has_retired(&self) -> bool {
        !self.retired.is_empty() || !self.waiting.is_empty()
    }

    /// A grace period begins.
    pub fn grace_begins(&mut self) {
        self.waiting.append(&mut self.retired);
    }

    /// It is over.
    pub fn grace_over(&mut self, tables: &Tables) {
        for id in self.waiting.drain(..) {
            set_state(tables, id, State::Free);
            self.free.push(id);
        }
    }
}

fn set_state(tables: &Tables, id: u16, state: State) {
    let entry = tables.nexthop_directory.get(id as usize);
    tables.nexthop_directory.set(
        id as usize,
        &NextHopEntry {
            state: state as u8,
            ..entry
        },
    );
}
