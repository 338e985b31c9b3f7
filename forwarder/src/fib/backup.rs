//! Where a group's packets go when the way of its route has failed.
//!
//! A group has three tiers of members: the route's own, those of the prefix's next best route, and those that its anchor
//! leads to. The buckets name one tier, the first that can be used. All three are held, so their ids, words and neighbours
//! are ready before they are needed, and a failure is answered by storing buckets.
//!
//! Failed is not the same as not resolved yet. A link without carrier and a gateway that does not answer have failed, and
//! the backup takes over. A gateway that nobody has asked for yet is the kernel's to resolve, so its packets go there; but a
//! group that is on its backup stays until its own way can be used again, not just until the link is back. What only the
//! kernel can do (an egress without XDP, a connected subnet) is left to it, failed or not.

use forwarder_common::reason::Reason;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    adjacency::Adjacencies,
    nexthops::Member,
    path::{Key, Path, Standing, Topology, is_nowhere, is_within, resolve, standing},
    plan::{Known, Plan, Ways},
};

/// How far anchors are followed: from the cover of a prefix to its cover and so on.
const DEPTH: usize = 4;

/// The members a group holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tiers {
    /// The route's, the next best route's, the anchor's.
    pub members: [Vec<Member>; 3],
    /// The tier that the buckets name.
    pub active: usize,
    /// The tier that takes over from the first, where one can be used.
    pub backup: Option<usize>,
}

impl Tiers {
    /// What the buckets name.
    pub fn chosen(&self) -> &[Member] {
        &self.members[self.active]
    }

    /// Every member.
    pub fn all(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }
}

impl Adjacencies {
    /// Resolves a plan and holds all its members. `None`: no next hop is left.
    pub(super) fn fill(&mut self, known: Known<'_>, plan: &Plan, on_backup: bool) -> Option<Tiers> {
        let world = known.world;
        let own = resolve(world, &plan.ways.path);
        let mut alternate = match &plan.ways.alternate {
            Some(path) => resolve(world, path),
            None => Vec::new(),
        };
        // By the same next hops it is no backup, and what the anchor leads to may be one.
        if is_within(&alternate, &own) {
            alternate.clear();
        }
        let anchored = match plan.anchor {
            // What leads nowhere is the kernel's: only what the prefix itself offers beside it is better.
            Some(anchor) if !ends(&alternate) && !is_nowhere(&own) => self.behind(known, anchor, &own),
            _ => Vec::new(),
        };
        let keys = [own, alternate, anchored];
        let alive = |tier: &usize| standing(world, &keys[*tier]) == Standing::Alive;
        let backup = (1..keys.len()).find(alive);
        let stays = match standing(world, &keys[0]) {
            Standing::Alive | Standing::Kernel => true,
            Standing::Unresolved => !on_backup,
            Standing::Failed => false,
        };
        let mut tiers = Tiers {
            active: backup.filter(|_| !stays).unwrap_or(0),
            backup,
            ..Tiers::default()
        };
        for (tier, keys) in keys.iter().enumerate() {
            match self.nexthops.hold(known.tables, world, keys) {
                Some(members) => tiers.members[tier] = members,
                None => {
                    self.let_go(known.tables, &tiers);
                    return None;
                }
            }
        }
        Some(tiers)
    }

    /// The next hops that an anchor leads to: the first way there, or behind it, that can be used and is not `own`.
    fn behind(&self, known: Known<'_>, mut anchor: IpNet, own: &[(Key, u32)]) -> Vec<(Key, u32)> {
        for _ in 0..DEPTH {
            let Some(state) = known.route(anchor).and_then(|(_, group)| self.state(group)) else {
                break;
            };
            let (found, further) = match &state.plan {
                Some(plan) => {
                    let paths = [Some(&plan.ways.path), plan.ways.alternate.as_ref()];
                    let ways = paths.into_iter().flatten();
                    let ways = ways.map(|path| resolve(known.world, path));
                    (first_way(known.world, ways, own), plan.anchor)
                }
                // Left by an earlier controller and not claimed yet: what that knew of it.
                None => {
                    let key = |(id, weight): &Member| Some((*self.nexthops.key(*id)?, *weight));
                    let ways = state.tiers.members.iter();
                    let ways = ways.map(|members| members.iter().filter_map(key).collect());
                    let anchor = state.inherited.and_then(|(_, anchor)| anchor);
                    (first_way(known.world, ways, own), anchor)
                }
            };
            match (found, further) {
                (Some(keys), _) => return keys,
                (None, Some(further)) => anchor = further,
                (None, None) => break,
            }
        }
        Vec::new()
    }

    /// The plan for a prefix that has no group, or one for other ways.
    pub(super) fn plan(&self, known: Known<'_>, prefix: IpNet, ways: &Ways, have: Option<u32>) -> Plan {
        let inherited = have
            .and_then(|group| self.state(group))
            .and_then(|state| state.inherited);
        let anchor = match inherited {
            Some((digest, anchor)) if Some(digest) == ways.digest() => anchor,
            _ if ways.want_anchor() => self.anchor_for(known, prefix, &ways.path),
            _ => None,
        };
        Plan {
            ways: ways.clone(),
            anchor,
        }
    }

    /// The nearest prefix around this one whose way is another.
    fn anchor_for(&self, known: Known<'_>, prefix: IpNet, path: &Path) -> Option<IpNet> {
        let default = default_route(prefix);
        if prefix == default {
            return None;
        }
        // Laid or not: a default route may yet come, and groups that hang on it are few.
        let (mut cover, mut group) = match known.fib.cover(known.tables, prefix) {
            Some(found) if self.may_anchor() => found,
            _ => return Some(default),
        };
        for _ in 0..DEPTH {
            let Some(plan) = self.state(group).and_then(|state| state.plan.as_ref()) else {
                break;
            };
            if *plan.ways.path != *path || plan.ways.alternate.is_some() {
                break;
            }
            let Some(next) = plan.anchor else { break };
            match known.route(next) {
                Some((_, behind)) => (cover, group) = (next, behind),
                None => return Some(default),
            }
        }
        // One anchor for all whose backup is the default route, whatever lies between.
        let like_default = || {
            let theirs = known.fib.group(known.tables, default)?;
            Some(self.path(theirs)? == self.path(group)?)
        };
        let distinct = self.anchors.admit(cover) && like_default() != Some(true);
        Some(if distinct { cover } else { default })
    }
}

/// The default route of a prefix's family.
pub(super) fn default_route(prefix: IpNet) -> IpNet {
    match prefix {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

/// The first of several ways that can be used and is another; an empty one where they end before. `None`: go on behind
/// them.
fn first_way(
    world: &Topology,
    ways: impl Iterator<Item = Vec<(Key, u32)>>,
    own: &[(Key, u32)],
) -> Option<Vec<(Key, u32)>> {
    for keys in ways {
        if ends(&keys) {
            return Some(Vec::new());
        }
        if keys != own && standing(world, &keys) == Standing::Alive {
            return Some(keys);
        }
    }
    None
}

/// Whether packets end there, or are the kernel's: a blackhole, a connected subnet. Nothing behind it is a backup; the
/// kernel's way out of an interface without XDP is no end, only none for us, and a gateway that does not resolve is no way.
fn ends(keys: &[(Key, u32)]) -> bool {
    let none = |reason: &Reason| matches!(reason, Reason::EgressWithoutXdp | Reason::GatewayUnresolved);
    let end = |key: &Key| match key {
        Key::Special(reason) => !none(reason),
        Key::Victim(_) => true,
        Key::Neighbour { .. } => false,
    };
    keys.iter().any(|(key, _)| end(key))
}
