//! Gateways of recursive routes, and what is known of each: a few for a million routes.

use std::{collections::BTreeMap, net::IpAddr};

use forwarder_common::reason::Reason;
use ipnet::IpNet;

use crate::{
    first_octets::FirstOctets,
    source::{event::Hop, feed::Gateway},
};

/// What a gateway leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Next hops.
    Hops {
        /// The prefix of the route that leads there.
        via: IpNet,
        /// Sorted.
        hops: Vec<Hop>,
        /// Its MTU; 0 = the interface's.
        mtu: u32,
    },
    /// A next-hop object of the kernel.
    Object {
        /// The prefix of the route that leads there.
        via: IpNet,
        /// Its id.
        id: u32,
        /// MTU of the route; 0 = the interface's.
        mtu: u32,
        /// Who is sent to where the object is a subnet.
        direct: IpAddr,
    },
    /// Every packet leaves with a reason.
    Special {
        /// The prefix of the route that says so.
        via: IpNet,
        /// The reason.
        reason: Reason,
    },
    /// Nothing.
    Unresolved(Unresolved),
}

/// Why a gateway leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// No route of the kernel covers it.
    NoRoute,
    /// It is an address of our own.
    Own,
    /// The route that covers it is a recursive one itself.
    Recursive(IpNet),
    /// The route that covers it says that it is unreachable.
    Unreachable(IpNet),
    /// A link-local address without an interface.
    NoInterface,
}

impl Resolution {
    /// Whether packets can be led there.
    pub fn is_usable(&self) -> bool {
        !matches!(self, Resolution::Unresolved(_))
    }
}

impl std::fmt::Display for Unresolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unresolved::NoRoute => write!(f, "no route of the kernel covers it"),
            Unresolved::Own => write!(f, "it is an address of this router"),
            Unresolved::Recursive(via) => write!(f, "{via}, which covers it, is a BGP route itself"),
            Unresolved::Unreachable(via) => write!(f, "{via}, which covers it, is unreachable"),
            Unresolved::NoInterface => write!(f, "a link-local address, and no interface is known for it"),
        }
    }
}

/// Every gateway that a route names.
#[derive(Default)]
pub struct Gateways {
    all: BTreeMap<Gateway, Resolution>,
    octets: FirstOctets,
}

impl Gateways {
    /// What is known of one.
    pub fn get(&self, gateway: &Gateway) -> Option<&Resolution> {
        self.all.get(gateway)
    }

    /// Says what one leads to; answers what was known.
    pub fn set(&mut self, gateway: Gateway, resolution: Resolution) -> Option<Resolution> {
        self.octets.note(gateway.address);
        self.all.insert(gateway, resolution)
    }

    /// No route names it any more.
    pub fn remove(&mut self, gateway: &Gateway) {
        self.all.remove(gateway);
    }

    /// Those inside a prefix.
    pub fn inside(&self, prefix: IpNet) -> Vec<Gateway> {
        if self.all.is_empty() || !self.octets.may_hold(prefix) {
            return Vec::new();
        }
        let last = match prefix {
            IpNet::V4(net) => IpAddr::V4(net.broadcast()),
            IpNet::V6(net) => IpAddr::V6(net.broadcast()),
        };
        let least = Gateway {
            address: prefix.network(),
            link_local: None,
            interface: None,
        };
        let from = self.all.range(least..);
        from.map(|(gateway, _)| *gateway)
            .take_while(|gateway| gateway.address <= last)
            .collect()
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = (&Gateway, &Resolution)> {
        self.all.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
