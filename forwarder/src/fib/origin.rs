//! Where packets from the sources of a group may come in: what source validation asks (`forwarder_common::origin`).
//!
//! Strictly, by the interfaces that its route leads by, as Linux does (`fib_info_nh_uses_dev`: usable or not), and while it is
//! on its backup by those too. On interfaces that ask for feasible paths (RFC 3704 2.3), by those of any route of the prefix.

use forwarder_common::{
    origin::{ANYWHERE, BLACKHOLE, Origin, UNDECIDED},
    reason::Reason,
};

use super::{
    path::{Key, Path, Topology},
    plan::{Others, Ways},
    way::{Step, steps},
};
use crate::{link::Served, source::event::Ifindex};

/// The bits of a group with these ways whose packets are led by `chosen` now.
pub(super) fn origin<'a>(world: &Topology, ways: &Ways, chosen: impl Iterator<Item = &'a Key>) -> Origin {
    let mut origin = Origin::default();
    origin.set_account(ways.account);
    for step in steps(world, &ways.path).0 {
        match step {
            Step::Hop { hop, .. } if hop.ifindex != 0 => {
                origin.set(ANYWHERE);
                admit(world, hop.ifindex, &mut origin, |_| true);
            }
            Step::Hop { .. } => origin.set(UNDECIDED),
            Step::Special { reason, .. } => special(reason, &mut origin),
        }
    }
    for key in chosen {
        if let Key::Neighbour { ifindex, .. } = key {
            admit(world, *ifindex, &mut origin, |_| true);
        }
    }
    let feasible = |served: Served| served.feasible;
    match &ways.others {
        Others::Unknown => {
            for (_, served) in world.links.all_served().filter(|(_, served)| served.feasible) {
                origin.set(u32::from(served.port));
            }
        }
        Others::Known(elsewhere) => {
            let paths = ways.alternate.iter().chain(&elsewhere.paths);
            let by_paths = paths.flat_map(|path| interfaces(world, path));
            for ifindex in by_paths.chain(elsewhere.interfaces.iter().copied()) {
                admit(world, ifindex, &mut origin, feasible);
            }
        }
    }
    origin
}

/// The interfaces that a path leads by.
pub fn interfaces(world: &Topology, path: &Path) -> impl Iterator<Item = Ifindex> + use<> {
    steps(world, path).0.into_iter().filter_map(|step| match step {
        Step::Hop { hop, .. } => Some(hop.ifindex),
        Step::Special { .. } => None,
    })
}

/// What a route that leads nowhere says of packets from there; with the kernel (`__fib_validate_source`), only a unicast route
/// speaks for them.
fn special(reason: Reason, origin: &mut Origin) {
    match reason {
        Reason::Blackhole => origin.set(BLACKHOLE),
        Reason::Local | Reason::Broadcast | Reason::Unreachable | Reason::Prohibit => {}
        _ => origin.set(UNDECIDED),
    }
}

/// Sets the bits of an interface, and of those that are part of it: a route leads by the bond, frames come in on its members.
fn admit(world: &Topology, ifindex: Ifindex, origin: &mut Origin, which: impl Fn(Served) -> bool) {
    for (served_index, served) in world.links.all_served() {
        let part = || world.links.get(served_index).and_then(|link| link.master) == Some(ifindex);
        if (served_index == ifindex || part()) && which(served) {
            origin.set(u32::from(served.port));
        }
    }
}
