//! What links tell of each other: members of bonds, and what stands on what.

use crate::{
    doctor::facts::Stacked,
    source::event::{Detail, Ifindex, Link},
};

/// Links that stand on each other, at most: the kernel allows 8 (`MAX_NEST_DEV`).
const MOST: usize = 16;

/// The members of a bond.
pub fn members<'a>(bond: &'a Link, links: &'a [Link]) -> impl Iterator<Item = &'a Link> {
    let is_bond = matches!(bond.detail, Detail::Bond(_));
    let members = links.iter().filter(|link| link.master == Some(bond.ifindex));
    members.filter(move |_| is_bond)
}

/// A link of its own that a VLAN or the like stands on; `None` for what stands on nothing, or on a link of another network
/// namespace.
pub fn base<'a>(link: &'a Link, links: &'a [Link]) -> Option<&'a Link> {
    down(link, links)?.last().copied()
}

/// The links below, from the nearest to one that stands on none; `None` where there are none.
fn down<'a>(link: &Link, links: &'a [Link]) -> Option<Vec<&'a Link>> {
    let of = |index: Ifindex| links.iter().find(|link| link.ifindex == index);
    let mut below = vec![of(link.lower?)?];
    while let Some(index) = below.last()?.lower {
        // No more than a dump that changed while it was read could make of it.
        below.push(of(index).filter(|_| below.len() < MOST)?);
    }
    Some(below)
}

/// What stands on links of these names.
pub fn on(links: &[Link], configured: &[&str]) -> Vec<Stacked> {
    let each = links.iter().filter_map(|link| {
        let mut below = down(link, links)?;
        let base = below.last().copied()?;
        let next = below.first().copied()?;
        below.pop();
        let chain = std::iter::once(link).chain(below).map(|link| link.detail);
        configured.contains(&base.name.as_str()).then(|| Stacked {
            name: link.name.clone(),
            kind: link.kind.clone(),
            chain: chain.collect(),
            base: (base.name.clone(), base.mtu),
            below: (next.name.clone(), next.mtu),
            mtu: link.mtu,
            forwarding4: None,
        })
    });
    each.collect()
}

/// The rate of LACP that /proc/net/bonding/NAME tells (drivers/net/bonding/bond_procfs.c).
pub fn lacp_is_slow(said: &str) -> Option<bool> {
    let rate = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("LACP rate: "))?;
    Some(rate.trim() == "slow")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::event::{Bond, BondMode, HashPolicy, MacvlanMode, Vlan};

    fn link(ifindex: Ifindex, name: &str, lower: Option<Ifindex>, detail: Detail) -> Link {
        Link {
            ifindex,
            name: name.into(),
            mtu: 1500 + ifindex,
            lower,
            detail,
            ..Link::default()
        }
    }

    #[test]
    fn what_stands_on_an_interface_is_found_with_all_between() {
        let vlan = |id| {
            Detail::Vlan(Vlan {
                id,
                service: false,
                maps_priority: false,
            })
        };
        let vrrp = Detail::Macvlan(MacvlanMode::Private);
        let links = [
            link(2, "eth0", None, Detail::Plain),
            link(3, "eth0.7", Some(2), vlan(7)),
            link(4, "eth0.7.8", Some(3), vlan(8)),
            link(5, "vrrp0", Some(4), vrrp),
            link(6, "eth1.9", Some(99), vlan(9)),
            link(7, "a", Some(8), vrrp),
            link(8, "b", Some(7), vrrp),
        ];
        let found = on(&links, &["eth0", "eth1", "a"]);
        let names: Vec<_> = found
            .iter()
            .map(|it| (it.name.as_str(), it.chain.len()))
            .collect();
        assert_eq!(names, [("eth0.7", 1), ("eth0.7.8", 2), ("vrrp0", 3)]);
        let last = found.last().expect("three");
        assert_eq!(last.chain, [vrrp, vlan(8), vlan(7)]);
        assert_eq!(
            (last.base.clone(), last.below.clone()),
            (("eth0".into(), 1502), ("eth0.7.8".into(), 1504))
        );
        assert_eq!(
            base(&links[3], &links).map(|base| base.name.as_str()),
            Some("eth0")
        );
        // On itself, on what is not there, on nothing.
        for index in [5, 4, 0] {
            assert_eq!(base(&links[index], &links), None);
        }
        assert!(on(&links, &["eth9"]).is_empty());
    }

    #[test]
    fn members_are_those_of_a_bond_and_not_of_a_bridge() {
        let bond = Detail::Bond(Bond {
            mode: BondMode::Lacp,
            policy: HashPolicy::Layer34,
            active: None,
            aggregator: None,
        });
        let mut links = [
            link(2, "bond0", None, bond),
            link(3, "br0", None, Detail::Plain),
            link(4, "eth0", None, Detail::Plain),
            link(5, "eth1", None, Detail::Plain),
        ];
        (links[2].master, links[3].master) = (Some(2), Some(3));
        let names = |of: &Link| {
            members(of, &links)
                .map(|link| link.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&links[0]), ["eth0"]);
        assert!(names(&links[1]).is_empty());
    }

    #[test]
    fn the_rate_of_lacp_is_read_where_there_is_one() {
        let said = "Bonding Mode: IEEE 802.3ad Dynamic link aggregation\n\n802.3ad info\nLACP active: on\nLACP rate: slow\n";
        assert_eq!(lacp_is_slow(said), Some(true));
        assert_eq!(lacp_is_slow(&said.replace("slow", "fast")), Some(false));
        assert_eq!(lacp_is_slow("Bonding Mode: load balancing (xor)\n"), None);
    }
}
