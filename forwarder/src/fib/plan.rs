//! What a group stands for: the way of a route, and where to turn when that has failed.
//!
//! A backup is what the packets of a prefix would follow without its best route: the next best route of the same prefix,
//! behind that whatever covers the prefix. The second is kept as a prefix, the *anchor*, and looked up whenever the group is
//! filled, so it is never stale, and few groups serve many prefixes.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

use forwarder_common::reason::Reason;
use ipnet::IpNet;

use super::{
    Fib,
    path::{Path, Topology},
};
use crate::{dataplane::Tables, link::Links, source::event::Ifindex};

/// The ways that the routes of one prefix offer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ways {
    /// The best route's.
    pub path: Arc<Path>,
    /// That of the next best route whose way is another; only where `path` can fail.
    pub alternate: Option<Arc<Path>>,
    /// Those of all other routes, where an interface checks sources by them.
    pub others: Others,
    /// The account of the prefix, 0 for none: groups are counted by it.
    pub account: u8,
}

/// Ways that count only for packets from a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Others {
    /// These.
    Known(Arc<Elsewhere>),
    /// There was no room for a group that knows.
    Unknown,
}

/// From where else packets may come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Elsewhere {
    /// The ways of the prefix's other routes, each once, in an order that does not depend on who came first.
    pub paths: Vec<Arc<Path>>,
    /// Interfaces that the AS of the prefix is behind.
    pub interfaces: Vec<Ifindex>,
}

impl Default for Others {
    fn default() -> Others {
        static NONE: LazyLock<Arc<Elsewhere>> = LazyLock::new(Arc::default);
        Others::Known(Arc::clone(&NONE))
    }
}

impl Others {
    /// These paths and interfaces.
    pub fn of<'a>(
        paths: impl Iterator<Item = &'a Arc<Path>>,
        interfaces: impl Iterator<Item = Ifindex>,
    ) -> Others {
        let mut paths: Vec<Arc<Path>> = paths.cloned().collect();
        let mut interfaces: Vec<Ifindex> = interfaces.collect();
        if paths.is_empty() && interfaces.is_empty() {
            return Others::default();
        }
        paths.sort_by_cached_key(|path| format!("{path:?}"));
        paths.dedup();
        interfaces.sort_unstable();
        interfaces.dedup();
        Others::Known(Arc::new(Elsewhere { paths, interfaces }))
    }

    /// The ways that are known.
    pub fn paths(&self) -> &[Arc<Path>] {
        match self {
            Others::Known(elsewhere) => &elsewhere.paths,
            Others::Unknown => &[],
        }
    }
}

impl Ways {
    /// One way, and no other route of the prefix.
    pub fn only(path: Path) -> Ways {
        Ways {
            path: Arc::new(path),
            alternate: None,
            others: Others::default(),
            account: 0,
        }
    }

    /// Whether what covers the prefix may be a backup.
    pub fn want_anchor(&self) -> bool {
        let fails = |path: &Arc<Path>| path.has_gateways();
        fails(&self.path) && self.alternate.as_ref().is_none_or(fails)
    }

    /// The same whatever the kernel says of hops whose link is down: it marks them dead some time after the link has told
    /// us, and clears that some time after the link is back. Were the mark part of a group's identity, every prefix would
    /// move to another group each time.
    pub fn beside_links(self, links: &Links) -> Ways {
        Ways {
            path: unmarked(self.path, links),
            alternate: self.alternate.map(|path| unmarked(path, links)),
            others: self.others,
            account: self.account,
        }
    }

    /// What names them in the pinned group directory: their printed form, hashed. `None` of ways that mean nothing to the
    /// next controller.
    pub fn digest(&self) -> Option<u64> {
        let lasting = |path: &Arc<Path>| path.is_lasting();
        if !lasting(&self.path) || !self.alternate.as_ref().is_none_or(lasting) {
            return None;
        }
        if !self.others.paths().iter().all(lasting) {
            return None;
        }
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        format!("{self:?}").hash(&mut hasher);
        Some(hasher.finish())
    }
}

fn unmarked(path: Arc<Path>, links: &Links) -> Arc<Path> {
    let Path::Hops { hops, mtu, family } = path.as_ref() else {
        return path;
    };
    let down = |ifindex| !links.is_up(ifindex);
    if !hops.iter().any(|hop| hop.dead && down(hop.ifindex)) {
        return path;
    }
    let mut hops = hops.clone();
    for hop in &mut hops {
        hop.dead &= !down(hop.ifindex);
    }
    hops.sort_unstable();
    Arc::new(Path::Hops {
        hops,
        mtu: *mtu,
        family: *family,
    })
}

/// Identity of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The prefix's own ways.
    pub ways: Ways,
    /// A shorter prefix, laid or not, whose next hops take over when all of them have failed.
    pub anchor: Option<IpNet>,
}

impl Plan {
    /// Whether the two are made of the very same paths, which is quicker to see than that they are equal.
    pub(super) fn is(&self, other: &Plan) -> bool {
        let same = match (&self.ways.alternate, &other.ways.alternate) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        let others = match (&self.ways.others, &other.ways.others) {
            (Others::Known(one), Others::Known(other)) => Arc::ptr_eq(one, other),
            (Others::Unknown, Others::Unknown) => true,
            _ => false,
        };
        let ends = self.anchor == other.anchor && self.ways.account == other.ways.account;
        same && others && Arc::ptr_eq(&self.ways.path, &other.ways.path) && ends
    }

    /// A number that spreads plans in use, by where their paths stand in memory.
    pub(super) fn place(&self) -> usize {
        let address = |path: &Arc<Path>| Arc::as_ptr(path) as usize / size_of::<Path>();
        let anchor = match self.anchor {
            Some(IpNet::V4(net)) => u32::from(net.network()) as usize >> 8,
            Some(IpNet::V6(net)) => (u128::from(net.network()) >> 80) as usize,
            None => 0,
        };
        let alternate = self.ways.alternate.as_ref().map_or(0, address);
        let account = usize::from(self.ways.account) << 1;
        address(&self.ways.path) ^ alternate.rotate_left(3) ^ anchor ^ anchor >> 8 ^ account
    }

    /// For prefixes that find no room: the kernel takes their packets.
    pub fn refused() -> Plan {
        Plan {
            ways: Ways::only(Path::Special(Reason::FibFull)),
            anchor: None,
        }
    }
}

/// What the members of groups follow from.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The tables.
    pub tables: &'a Tables,
    /// Links, neighbours and next-hop objects.
    pub world: &'a Topology,
    /// Which prefix has which group.
    pub fib: &'a Fib,
}

impl Known<'_> {
    /// Where packets of a prefix find a route now: at the prefix itself or at what covers it; and its group.
    pub fn route(&self, prefix: IpNet) -> Option<(IpNet, u32)> {
        match self.fib.group(self.tables, prefix) {
            Some(group) => Some((prefix, group)),
            None => self.fib.cover(self.tables, prefix),
        }
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
