//! What the kernel's routes do: a full table is a million prefixes that do one of a few hundred things, each kept once.

use std::sync::Arc;

use forwarder_common::reason::Reason;

use super::interned::{Interned, Number};
use crate::{
    fib::path::Path,
    source::event::{Action, PROTOCOL_KERNEL},
};

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// What it does.
    pub action: Action,
    /// Route MTU.
    pub mtu: Option<u32>,
    /// TOS it is for; 0 = any.
    pub tos: u8,
}

impl Kind {
    /// Whether, from this protocol, it is a subnet that an address of ours is on.
    pub fn is_connected(&self, protocol: u8) -> bool {
        let direct = |action: &Action| match action {
            Action::Hops(hops) => hops.iter().all(|hop| hop.gateway.is_none()),
            _ => false,
        };
        protocol == PROTOCOL_KERNEL && direct(&self.action)
    }
}

/// Kinds in use. The first is always there: what the kernel must do.
pub(super) struct Kinds(Interned<Kind, [Arc<Path>; 2]>);

impl Default for Kinds {
    fn default() -> Kinds {
        let kernel = Kind {
            action: Action::Unsupported,
            mtu: None,
            tos: 0,
        };
        // Routes of one next hop come in runs.
        let mut kinds = Kinds(Interned::new(kernel.clone(), 1));
        kinds.hold(kernel);
        kinds
    }
}

impl Kinds {
    /// The number of a kind, with one reference more. What is beyond the numbers there are is left to the kernel.
    pub fn hold(&mut self, kind: Kind) -> Number {
        let paths = |kind: &Kind| [4, 6].map(|family| Arc::new(path_of(kind, family)));
        let number = self.0.hold(0, |known| *known == kind, || kind.clone(), paths);
        number.unwrap_or_else(|| {
            self.0.hold_again(Number::FIRST);
            Number::FIRST
        })
    }

    /// Whether no route has any.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.len() == 1
    }

    pub fn release(&mut self, number: Number) {
        self.0.release(number);
    }

    pub fn find(&self, kind: &Kind) -> Option<Number> {
        self.0.find(kind)
    }

    pub fn get(&self, number: Number) -> &Kind {
        self.0.get(number)
    }

    pub fn path(&self, number: Number, ipv6: bool) -> &Arc<Path> {
        &self.0.value(number)[usize::from(ipv6)]
    }
}

fn path_of(kind: &Kind, family: u8) -> Path {
    let mtu = kind.mtu.unwrap_or(0);
    match &kind.action {
        Action::Hops(hops) => {
            let mut hops = hops.clone();
            hops.sort_unstable();
            Path::Hops { hops, mtu, family }
        }
        Action::Nexthop(id) => Path::Object { id: *id, mtu, family },
        Action::Local => Path::Special(Reason::Local),
        Action::Broadcast => Path::Special(Reason::Broadcast),
        Action::Blackhole => Path::Special(Reason::Blackhole),
        Action::Unreachable => Path::Special(Reason::Unreachable),
        Action::Prohibit => Path::Special(Reason::Prohibit),
        Action::Unsupported => Path::Special(Reason::UnsupportedRoute),
    }
}
