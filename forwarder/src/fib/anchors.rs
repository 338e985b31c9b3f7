//! Which groups hang on which anchors, and which group each anchor leads to now.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;

use super::plan::Known;

/// Distinct anchors in use at a time: each multiplies the groups there may be.
pub const LIMIT: usize = 256;

#[derive(Default)]
struct Anchor {
    /// Groups that hang on it.
    groups: BTreeSet<u32>,
    /// The route found there: of the anchor itself, or of what covers it.
    route: Option<(IpNet, u32)>,
}

/// Every anchor in use.
#[derive(Default)]
pub struct Anchors {
    all: HashMap<IpNet, Anchor, foldhash::fast::RandomState>,
    /// Anchors that are not laid themselves: what covers them matters.
    loose: BTreeSet<IpNet>,
}

impl Anchors {
    /// Whether one may be used: it is already, or there is room for one more.
    pub fn admit(&self, anchor: IpNet) -> bool {
        self.all.len() < LIMIT || self.all.contains_key(&anchor)
    }

    /// A group hangs on an anchor from now on.
    pub fn attach(&mut self, known: Known<'_>, anchor: IpNet, group: u32) {
        let entry = self.all.entry(anchor).or_default();
        if entry.groups.is_empty() {
            entry.route = known.route(anchor);
            if entry.route.is_none_or(|(at, _)| at != anchor) {
                self.loose.insert(anchor);
            }
        }
        entry.groups.insert(group);
    }

    /// It no longer does.
    pub fn detach(&mut self, anchor: IpNet, group: u32) {
        if let Some(entry) = self.all.get_mut(&anchor) {
            entry.groups.remove(&group);
            if entry.groups.is_empty() {
                self.all.remove(&anchor);
                self.loose.remove(&anchor);
            }
        }
    }

    /// A prefix was laid, taken away or given another group: the groups whose anchor leads elsewhere now.
    pub fn moved(&mut self, known: Known<'_>, prefix: IpNet) -> BTreeSet<u32> {
        let mut concerned: Vec<IpNet> = Vec::new();
        if self.all.contains_key(&prefix) {
            concerned.push(prefix);
        }
        // What covers a loose anchor came, went or changed.
        let inside = |anchor: &&IpNet| prefix.contains(*anchor) && **anchor != prefix;
        concerned.extend(self.loose.iter().filter(inside));
        let mut groups = BTreeSet::new();
        for anchor in concerned {
            let Some(entry) = self.all.get_mut(&anchor) else {
                continue;
            };
            let route = known.route(anchor);
            let group = |route: Option<(IpNet, u32)>| route.map(|(_, group)| group);
            if group(entry.route) != group(route) {
                groups.extend(&entry.groups);
            }
            entry.route = route;
            if route.is_some_and(|(at, _)| at == anchor) {
                self.loose.remove(&anchor);
            } else {
                self.loose.insert(anchor);
            }
        }
        groups
    }

    /// Adds to groups whose ways changed all that hang on them, on those, and so on.
    pub fn spread(&self, groups: &mut BTreeSet<u32>) {
        let mut fresh = groups.clone();
        while !fresh.is_empty() {
            let mut next = BTreeSet::new();
            for anchor in self.all.values() {
                if anchor.route.is_some_and(|(_, group)| fresh.contains(&group)) {
                    next.extend(anchor.groups.iter().filter(|group| groups.insert(**group)));
                }
            }
            fresh = next;
        }
    }
}
