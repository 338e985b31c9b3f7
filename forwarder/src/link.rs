//! Links, and which of them the fast path serves.

use std::collections::HashMap;

use forwarder_common::vlan::MOST_TAGS;

use crate::source::event::{Ifindex, Link};

/// How frames leave by an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The device they leave by; 0: the interface itself. With `aggregated` the port of the bond.
    pub device: u16,
    /// By a member of a bond.
    pub aggregated: bool,
    /// Tags, the outer one first.
    pub tags: [Option<Tag>; MOST_TAGS],
    /// The largest packet that the redirect takes with those tags; 0: any that the interface takes.
    pub most: u32,
    /// The interface whose wire it is: another than itself for a macvlan, 0 for itself.
    pub wire: Ifindex,
    /// The devices carry frames as they are: they do not pad.
    pub exact: bool,
    /// They take frames in several buffers.
    pub several: bool,
    /// One of them takes no frames from XDP: the kernel sends what leaves there.
    pub closed: bool,
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// VLAN identifier.
    pub id: u16,
    /// 802.1ad, else 802.1Q.
    pub service: bool,
}

/// An interface that is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Number of its counters.
    pub port: u16,
    /// Generic mode.
    pub generic: bool,
    /// Its sources may come from wherever any route of their prefix leads (RFC 3704 2.3).
    pub feasible: bool,
    /// What is beyond it is not ours: transit or peer.
    pub outside: bool,
    /// How frames leave by it.
    pub frame: Frame,
}

/// Every link the kernel told of.
#[derive(Default)]
pub struct Links {
    links: HashMap<Ifindex, Link>,
    served: HashMap<Ifindex, Served>,
}

impl Links {
    /// A link, if it exists.
    pub fn get(&self, ifindex: Ifindex) -> Option<&Link> {
        self.links.get(&ifindex)
    }

    /// A link by name.
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Adds or changes a link; answers the old one.
    pub fn insert(&mut self, link: Link) -> Option<Link> {
        self.links.insert(link.ifindex, link)
    }

    /// A link is gone.
    pub fn remove(&mut self, ifindex: Ifindex) -> Option<Link> {
        self.links.remove(&ifindex)
    }

    /// Every link.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Every link's index.
    pub fn indices(&self) -> Vec<Ifindex> {
        self.links.keys().copied().collect()
    }

    /// Says that an interface carries the program, or no longer does.
    pub fn serve(&mut self, ifindex: Ifindex, served: Option<Served>) {
        match served {
            Some(served) => self.served.insert(ifindex, served),
            None => self.served.remove(&ifindex),
        };
    }

    /// How an interface is served.
    pub fn served(&self, ifindex: Ifindex) -> Option<Served> {
        self.served.get(&ifindex).copied()
    }

    /// Every interface that is served.
    pub fn all_served(&self) -> impl Iterator<Item = (Ifindex, Served)> {
        self.served.iter().map(|(ifindex, served)| (*ifindex, *served))
    }

    /// Whether frames can leave by it.
    pub fn is_up(&self, ifindex: Ifindex) -> bool {
        self.links
            .get(&ifindex)
            .is_some_and(|link| link.admin_up && link.carrier)
    }
}
