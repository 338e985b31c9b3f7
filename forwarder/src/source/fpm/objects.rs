//! Next-hop objects of zebra, by numbers of our own.
//!
//! zebra numbers its objects anew when it starts, and an old number may then mean something else while routes of the
//! session before still use it. So every session has its own space: an object gets a number of ours when it is first
//! mentioned, by itself or by what uses it, and keeps it until the session is over *and* no route uses it any more.
//!
//! Not every object that ends is taken back: when a link goes down zebra knows that the kernel drops what leads there and
//! says nothing. So routes and groups are counted as users, and what nobody has used for an hour is dropped: longer than
//! zebra keeps an unused object to use it again without another word (`zebra nexthop-group keep`, at most 3600 seconds).
//!
//! A group holds objects, never groups: zebra resolves them, as the kernel demands. That is enforced here, so nothing that
//! comes later has to think of circles.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use crate::source::event::{NexthopKind, NexthopObject};
use crate::source::feed::FeedEvent;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// How long an object may be unused before it is dropped.
pub const KEEP: Duration = Duration::from_secs(3_660);
/// Objects at most, used or not.
const MAX_OBJECTS: usize = 65_536;
/// Members of all groups together at most.
const MAX_MEMBERS: usize = 1 << 20;

/// Our number of an object; 0 is none.
pub type Id = u32;

#[derive(Debug, Default)]
struct Object {
    /// Announced, and not taken back.
    known: bool,
    /// What it holds, where it is a group.
    members: Vec<Id>,
    /// Routes that use it.
    routes: u32,
    /// Groups that hold it, as often as they do.
    groups: u32,
    /// zebra's number, in the session that is on.
    current: Option<u32>,
    /// Since when nobody uses it.
    idle: Option<Instant>,
}

impl Object {
    fn unused(&self) -> bool {
        self.routes == 0 && self.groups == 0
    }
}

/// All objects.
#[derive(Debug, Default)]
pub struct Objects {
    /// zebra's numbers in this session.
    ids: Map<u32, Id>,
    objects: Map<Id, Object>,
    /// Those announced.
    known: usize,
    members: usize,
    last: Id,
}

/// An announcement that was not taken as it stands; the sentence says why.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str);

impl Objects {
    /// Another session begins: its numbers mean something else.
    pub fn begin(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        self.ids.clear();
        for object in self.objects.values_mut() {
            object.current = None;
        }
        self.drop_where(Object::unused, now, events);
    }

    /// No route of an earlier session is left.
    pub fn end_of_old(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        self.drop_where(|object| object.current.is_none(), now, events);
    }

    /// A route uses this object of zebra's; our number for it.
    pub fn hold(&mut self, zebra: u32) -> Id {
        let id = self.id(zebra);
        if let Some(object) = self.objects.get_mut(&id) {
            object.routes += 1;
            object.idle = None;
        }
        id
    }

    /// Our number for an object of zebra's, where it has one.
    pub fn find(&self, zebra: u32) -> Option<Id> {
        self.ids.get(&zebra).copied()
    }

    /// A route does not use this object any more.
    pub fn release(&mut self, id: Id, now: Instant, events: &mut Vec<FeedEvent>) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.routes -= 1;
            self.let_go(id, now, events);
        }
    }

    /// An object appeared or changed.
    pub fn announced(
        &mut self,
        object: NexthopObject,
        now: Instant,
        events: &mut Vec<FeedEvent>,
    ) -> Result<(), Refused> {
        let NexthopObject { id: zebra, mut kind } = object;
        let mut refused = Ok(());
        if !self.find(zebra).is_some_and(|id| self.is_known(id)) && self.known >= MAX_OBJECTS {
            self.drop_where(|object| object.idle.is_some(), now, events);
            if self.known >= MAX_OBJECTS {
                return Err(Refused("more than 65,536 next-hop objects"));
            }
        }
        let id = self.id(zebra);
        let mut members = Vec::new();
        if let NexthopKind::Group(group) = &mut kind {
            match self.group(id, group) {
                Ok(()) => members = group.iter().map(|(member, _)| *member).collect(),
                Err(why) => {
                    refused = Err(why);
                    kind = NexthopKind::Unsupported;
                }
            }
        }
        for member in &members {
            if let Some(object) = self.objects.get_mut(member) {
                object.groups += 1;
                object.idle = None;
            }
        }
        self.members += members.len();
        let Some(object) = self.objects.get_mut(&id) else {
            return refused;
        };
        let before = std::mem::replace(&mut object.members, members);
        self.known += usize::from(!std::mem::replace(&mut object.known, true));
        if object.unused() {
            object.idle = Some(now);
        }
        events.push(FeedEvent::Nexthop { id, kind });
        self.leave(before, now, events);
        refused
    }

    /// zebra took an object back.
    pub fn gone(&mut self, zebra: u32, now: Instant, events: &mut Vec<FeedEvent>) {
        if let Some(id) = self.find(zebra) {
            self.withdraw(id, now, events);
            self.let_go(id, now, events);
        }
    }

    /// Drops what nobody has used for long.
    pub fn collect(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        self.drop_where(
            |object| {
                object
                    .idle
                    .is_some_and(|idle| now.saturating_duration_since(idle) >= KEEP)
            },
            now,
            events,
        );
    }

    /// Objects announced now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known
    }

    /// Numbers in use, whether announced or not yet.
    #[cfg(test)]
    pub fn numbers(&self) -> usize {
        self.objects.len()
    }

    fn is_known(&self, id: Id) -> bool {
        self.objects.get(&id).is_some_and(|object| object.known)
    }

    /// Our number for an object of this session, a new one at its first mention.
    fn id(&mut self, zebra: u32) -> Id {
        match self.ids.entry(zebra) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                loop {
                    self.last = self.last.checked_add(1).unwrap_or(1);
                    if !self.objects.contains_key(&self.last) {
                        break;
                    }
                }
                let object = Object {
                    current: Some(zebra),
                    ..Object::default()
                };
                self.objects.insert(self.last, object);
                *vacant.insert(self.last)
            }
        }
    }

    /// Checks a group and puts our numbers in it.
    fn group(&mut self, id: Id, group: &mut [(u32, u16)]) -> Result<(), Refused> {
        let before = self.objects.get(&id).map_or(0, |object| object.members.len());
        if self.members - before + group.len() > MAX_MEMBERS {
            return Err(Refused("groups with more than a million members together"));
        }
        if self.objects.get(&id).is_some_and(|object| object.groups > 0) {
            return Err(Refused("a group in a group"));
        }
        let nested = |zebra: &u32| {
            let member = self.find(*zebra);
            member.is_some_and(|member| {
                member == id || self.objects.get(&member).is_some_and(|o| !o.members.is_empty())
            })
        };
        if group.iter().any(|(zebra, _)| nested(zebra)) {
            return Err(Refused("a group in a group"));
        }
        for (member, _) in group {
            *member = self.id(*member);
        }
        Ok(())
    }

    /// Members of a group that is no more, or has others now.
    fn leave(&mut self, members: Vec<Id>, now: Instant, events: &mut Vec<FeedEvent>) {
        self.members -= members.len();
        for member in members {
            if let Some(object) = self.objects.get_mut(&member) {
                object.groups -= 1;
                self.let_go(member, now, events);
            }
        }
    }

    /// It is not announced any more; whoever uses it has a number that stands for nothing.
    fn withdraw(&mut self, id: Id, now: Instant, events: &mut Vec<FeedEvent>) {
        let Some(object) = self.objects.get_mut(&id).filter(|object| object.known) else {
            return;
        };
        object.known = false;
        let members = std::mem::take(&mut object.members);
        self.known -= 1;
        events.push(FeedEvent::NexthopGone(id));
        self.leave(members, now, events);
    }

    /// After a user went: what nobody can come back to is forgotten now, the rest when it has been unused for long.
    fn let_go(&mut self, id: Id, now: Instant, events: &mut Vec<FeedEvent>) {
        let Some(object) = self.objects.get_mut(&id).filter(|object| object.unused()) else {
            return;
        };
        if object.known && object.current.is_some() {
            object.idle.get_or_insert(now);
        } else {
            self.withdraw(id, now, events);
            self.forget(id);
        }
    }

    fn forget(&mut self, id: Id) {
        let zebra = self.objects.remove(&id).and_then(|object| object.current);
        if let Some(zebra) = zebra {
            self.ids.remove(&zebra);
        }
    }

    /// Drops all that are so, in the order of their numbers.
    fn drop_where(&mut self, so: impl Fn(&Object) -> bool, now: Instant, events: &mut Vec<FeedEvent>) {
        let mut ids: Vec<Id> = self
            .objects
            .iter()
            .filter(|(_, object)| so(object))
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        for id in ids {
            self.withdraw(id, now, events);
            self.forget(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::event::Hop;

    fn hop(ifindex: u32) -> NexthopKind {
        NexthopKind::Hop(Hop {
            ifindex,
            gateway: None,
            weight: 1,
            dead: false,
            unsupported: false,
        })
    }

    struct World {
        objects: Objects,
        now: Instant,
        events: Vec<FeedEvent>,
    }

    impl World {
        fn new() -> Self {
            Self {
                objects: Objects::default(),
                now: Instant::now(),
                events: Vec::new(),
            }
        }

        fn announce(&mut self, id: u32, kind: NexthopKind) -> Result<(), Refused> {
            self.objects
                .announced(NexthopObject { id, kind }, self.now, &mut self.events)
        }

        fn release(&mut self, id: Id) {
            self.objects.release(id, self.now, &mut self.events);
        }

        fn said(&mut self) -> Vec<FeedEvent> {
            std::mem::take(&mut self.events)
        }
    }

    #[test]
    fn a_number_that_comes_again_in_another_session_is_another_object() {
        let mut world = World::new();
        world.announce(5, hop(1)).unwrap();
        let old = world.objects.hold(5);
        world.objects.begin(world.now, &mut world.events);
        world.announce(5, hop(2)).unwrap();
        let new = world.objects.hold(5);
        assert_ne!(old, new);
        assert_eq!(
            world.said(),
            [
                FeedEvent::Nexthop {
                    id: old,
                    kind: hop(1)
                },
                FeedEvent::Nexthop {
                    id: new,
                    kind: hop(2)
                }
            ]
        );
        world.release(old);
        assert_eq!(world.said(), [FeedEvent::NexthopGone(old)]);
        world.release(new);
        assert_eq!(world.said(), [], "zebra may use it again without another word");
    }

    #[test]
    fn what_nobody_uses_is_dropped_after_an_hour_and_not_before() {
        let mut world = World::new();
        world.announce(1, hop(1)).unwrap();
        world.announce(2, hop(2)).unwrap();
        world
            .announce(9, NexthopKind::Group(vec![(1, 1), (2, 1)]))
            .unwrap();
        let group = world.objects.hold(9);
        world.release(group);
        world.said();
        world.now += KEEP - Duration::from_secs(1);
        world.objects.collect(world.now, &mut world.events);
        assert_eq!(world.said(), []);
        world.now += Duration::from_secs(1);
        world.objects.collect(world.now, &mut world.events);
        assert_eq!(world.said(), [FeedEvent::NexthopGone(group)]);
        assert_eq!(world.objects.len(), 2, "its members were in use until then");
    }

    #[test]
    fn a_group_may_come_before_its_members() {
        let mut world = World::new();
        world
            .announce(9, NexthopKind::Group(vec![(1, 1), (2, 3)]))
            .unwrap();
        world.announce(2, hop(2)).unwrap();
        let said = world.said();
        let FeedEvent::Nexthop {
            kind: NexthopKind::Group(members),
            ..
        } = &said[0]
        else {
            panic!("{said:?}")
        };
        assert_eq!(
            said[1],
            FeedEvent::Nexthop {
                id: members[1].0,
                kind: hop(2)
            }
        );
        assert_eq!(members[1].1, 3);
    }

    #[test]
    fn no_group_holds_a_group_whatever_comes_first() {
        let mut world = World::new();
        let group = |ids: &[u32]| NexthopKind::Group(ids.iter().map(|id| (*id, 1)).collect());
        let nested = Err(Refused("a group in a group"));
        assert_eq!(world.announce(1, group(&[1])), nested);
        assert_eq!(world.announce(2, group(&[3])), Ok(()));
        assert_eq!(world.announce(3, group(&[4])), nested);
        assert_eq!(world.announce(5, group(&[2])), nested);
        let unsupported = |event: &FeedEvent| {
            matches!(
                event,
                FeedEvent::Nexthop {
                    kind: NexthopKind::Unsupported,
                    ..
                }
            )
        };
        assert_eq!(world.said().iter().filter(|event| unsupported(event)).count(), 3);
    }

    #[test]
    fn an_object_taken_back_while_in_use_keeps_its_number_for_when_it_comes_again() {
        let mut world = World::new();
        let id = world.objects.hold(7);
        world.announce(7, hop(1)).unwrap();
        world.objects.gone(7, world.now, &mut world.events);
        world.announce(7, hop(2)).unwrap();
        assert_eq!(
            world.said(),
            [
                FeedEvent::Nexthop { id, kind: hop(1) },
                FeedEvent::NexthopGone(id),
                FeedEvent::Nexthop { id, kind: hop(2) }
            ]
        );
        world.objects.gone(7, world.now, &mut world.events);
        world.release(id);
        assert_eq!(world.objects.numbers(), 0);
    }

    #[test]
    fn a_flood_of_objects_ends_at_the_limit_and_leaves_those_in_use() {
        let mut world = World::new();
        world.announce(1, hop(1)).unwrap();
        let used = world.objects.hold(1);
        for id in 2..200_000 {
            world.announce(id, hop(1)).unwrap();
            world.events.clear();
        }
        assert!(world.objects.len() <= MAX_OBJECTS);
        assert!(world.objects.is_known(used));
        let mut world = World::new();
        for id in 0..70_000 {
            let _ = world.announce(id, hop(1));
            world.objects.hold(id);
        }
        assert_eq!(world.objects.len(), MAX_OBJECTS);
        assert!(world.announce(1_000_000, hop(1)).is_err());
    }
}
