//! Links, and which of them the fast path serves.

use std::collections::HashMap;

use crate::source::event::{Ifindex, Link};

/// An interface that carries the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Number of its counters.
    pub port: u16,
    /// Generic mode.
    pub generic: bool,
    /// Its sources may come from wherever any route of their prefix leads (RFC 3704 2.3).
    pub feasible: bool,
    /// What is beyond it is not ours: transit or peer.
    pub outside: bool,
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
