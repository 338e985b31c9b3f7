//! What zebra's messages mean: routes by prefix, and which object each uses.
//!
//! One entry per prefix is kept here beside the RIB's, sixteen octets, because only so can objects be counted as used or
//! not (`objects.rs`), and a session be told how many routes it may have.
//!
//! What is left out, and why:
//! - tables other than main: the fast path has one;
//! - zebra's own view of the kernel's routes (`RTPROT_KERNEL`: connected, local, and those others put into the kernel).
//!   The kernel tells them itself, and FPM is not told when one of them goes (FRR issue 19637);
//! - MPLS and neighbours.
//!
//! What only the kernel can do (encapsulation, a route's own MTU or TOS, more next hops than a group may have) is a route
//! like others whose packets go to the kernel: leaving it out would send them by whatever covers it. The same for a prefix
//! of which some route holds for some sources only.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ipnet::IpNet;

use super::objects::{Id, Objects};
use crate::netlink::relayed::Relayed;
use crate::source::event::{Action, Hop, NexthopKind, PROTOCOL_KERNEL, Route};
use crate::source::feed::{Attributes, FeedCounts, FeedEvent, FeedRoute, Target};
use crate::source::route_tables::TABLE_MAIN;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Next hops of a route at most: what FRR is built with (`--enable-multipath`) is 256 at most.
const MAX_HOPS: usize = 256;
/// Different pairs of metric and protocol that are remembered.
const MAX_ATTRIBUTES: usize = 1_024;

/// A next hop that only the kernel can serve.
const KERNEL: Hop = Hop {
    ifindex: 0,
    gateway: None,
    weight: 1,
    dead: false,
    unsupported: true,
};

/// What is remembered of a route.
#[derive(Clone, Copy, Debug)]
struct Laid {
    /// The object that it uses; 0 = none.
    object: Id,
    /// The session that said it last.
    session: u32,
}

/// The routes of the feed.
#[derive(Debug)]
pub struct Table {
    /// By address, shifted left by eight, and length.
    ipv4: Map<u64, Laid>,
    /// By address and length.
    ipv6: Map<([u8; 16], u8), Laid>,
    /// Prefixes with a route that holds for some sources only, in this session.
    some_sources: HashSet<IpNet>,
    objects: Objects,
    attributes: Map<(u32, u8), Arc<Attributes>>,
    session: u32,
    limit: usize,
    counts: Arc<FeedCounts>,
}

/// More routes than may be.
#[derive(Debug, PartialEq, Eq)]
pub struct OverLimit;

impl Table {
    /// An empty one for `limit` routes.
    pub fn new(limit: usize, counts: Arc<FeedCounts>) -> Self {
        Self {
            ipv4: Map::default(),
            ipv6: Map::default(),
            some_sources: HashSet::new(),
            objects: Objects::default(),
            attributes: Map::default(),
            session: 0,
            limit,
            counts,
        }
    }

    /// Routes known, of this session and of earlier ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ipv4.len() + self.ipv6.len()
    }

    /// Next-hop objects known.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.objects.len()
    }

    /// Another session begins: everything is to be said again.
    pub fn begin(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        self.session = self.session.wrapping_add(1);
        self.some_sources.clear();
        self.objects.begin(now, events);
    }

    /// What this session has not said is gone. Says only which objects go with it: the sweep itself is the RIB's too.
    pub fn sweep(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        let session = self.session;
        let objects = &mut self.objects;
        let mut gone = Vec::new();
        let mut keep = |laid: &Laid| {
            if laid.session != session {
                objects.release(laid.object, now, &mut gone);
            }
            laid.session == session
        };
        self.ipv4.retain(|_, laid| keep(laid));
        self.ipv6.retain(|_, laid| keep(laid));
        // The order of a hash table is another one every time; what is said is not.
        gone.sort_unstable_by_key(|event| match event {
            FeedEvent::NexthopGone(id) => *id,
            _ => 0,
        });
        events.append(&mut gone);
        self.objects.end_of_old(now, events);
    }

    /// Nothing is known any more.
    pub fn clear(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        self.begin(now, events);
        self.ipv4 = Map::default();
        self.ipv6 = Map::default();
        self.objects.end_of_old(now, events);
    }

    /// Drops objects that nobody has used for long.
    pub fn collect(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        self.objects.collect(now, events);
    }

    /// What one message says. Answers whether it was about a route.
    pub fn apply(
        &mut self,
        message: Relayed,
        now: Instant,
        events: &mut Vec<FeedEvent>,
    ) -> Result<bool, OverLimit> {
        match message {
            Relayed::Route(route, _) | Relayed::RouteGone(route, _) if route.table != TABLE_MAIN => {
                self.counts.left_out.fetch_add(1, Relaxed);
                return Ok(false);
            }
            Relayed::Route(route, _) if route.protocol == PROTOCOL_KERNEL => {
                self.counts.left_out.fetch_add(1, Relaxed);
                self.gone(route.prefix, now, events);
            }
            Relayed::Route(route, some_sources) => {
                self.counts.updates.fetch_add(1, Relaxed);
                if some_sources {
                    self.some_sources.insert(route.prefix);
                }
                self.route(route, now, events)?;
            }
            // The prefix stays with the kernel until the next session.
            Relayed::RouteGone(route, _) if self.some_sources.contains(&route.prefix) => {
                self.counts.updates.fetch_add(1, Relaxed);
            }
            Relayed::RouteGone(route, _) => {
                self.counts.updates.fetch_add(1, Relaxed);
                self.gone(route.prefix, now, events);
            }
            Relayed::Nexthop(mut object) => {
                if matches!(&object.kind, NexthopKind::Group(group) if group.len() > MAX_HOPS) {
                    object.kind = NexthopKind::Unsupported;
                }
                if let Err(why) = self.objects.announced(object, now, events) {
                    self.counts.errors.fetch_add(1, Relaxed);
                    self.counts.note(why.0.to_string());
                }
                return Ok(false);
            }
            Relayed::NexthopGone(id) => {
                self.objects.gone(id, now, events);
                return Ok(false);
            }
            Relayed::Other => {
                self.counts.left_out.fetch_add(1, Relaxed);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn route(&mut self, route: Route, now: Instant, events: &mut Vec<FeedEvent>) -> Result<(), OverLimit> {
        let prefix = route.prefix;
        let attributes = self.attributes(route.metric, route.protocol);
        let kernel_only = route.tos != 0 || route.mtu.is_some() || self.some_sources.contains(&prefix);
        let mut object = 0;
        let target = match route.action {
            _ if kernel_only => Target::Hops(vec![KERNEL]),
            Action::Nexthop(id) if id != 0 => {
                object = self.objects.hold(id);
                Target::Nexthop(object)
            }
            Action::Hops(hops) if hops.len() <= MAX_HOPS => Target::Hops(hops),
            Action::Blackhole => Target::Blackhole,
            Action::Unreachable => Target::Unreachable,
            Action::Prohibit => Target::Prohibit,
            Action::Nexthop(_)
            | Action::Hops(_)
            | Action::Local
            | Action::Broadcast
            | Action::Unsupported => Target::Hops(vec![KERNEL]),
        };
        let laid = Laid {
            object,
            session: self.session,
        };
        let before = match key(prefix) {
            Key::V4(key) => self.ipv4.insert(key, laid),
            Key::V6(key) => self.ipv6.insert(key, laid),
        };
        events.push(FeedEvent::Route {
            prefix,
            path_id: 0,
            route: FeedRoute { target, attributes },
        });
        match before {
            Some(before) => self.objects.release(before.object, now, events),
            None if self.len() > self.limit => return Err(OverLimit),
            None => {}
        }
        Ok(())
    }

    fn gone(&mut self, prefix: IpNet, now: Instant, events: &mut Vec<FeedEvent>) {
        let before = match key(prefix) {
            Key::V4(key) => self.ipv4.remove(&key),
            Key::V6(key) => self.ipv6.remove(&key),
        };
        if let Some(before) = before {
            events.push(FeedEvent::RouteGone { prefix, path_id: 0 });
            self.objects.release(before.object, now, events);
        }
    }

    fn attributes(&mut self, metric: u32, protocol: u8) -> Arc<Attributes> {
        if let Some(known) = self.attributes.get(&(metric, protocol)) {
            return Arc::clone(known);
        }
        if self.attributes.len() >= MAX_ATTRIBUTES {
            self.attributes.clear();
        }
        let new = Arc::new(Attributes {
            metric,
            protocol,
            ..Attributes::default()
        });
        self.attributes.insert((metric, protocol), Arc::clone(&new));
        new
    }
}

enum Key {
    V4(u64),
    V6(([u8; 16], u8)),
}

fn key(prefix: IpNet) -> Key {
    match prefix.addr() {
        IpAddr::V4(address) => Key::V4(u64::from(u32::from(address)) << 8 | u64::from(prefix.prefix_len())),
        IpAddr::V6(address) => Key::V6((address.octets(), prefix.prefix_len())),
    }
}
