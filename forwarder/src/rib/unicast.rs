//! What FlowSpec rules are validated against: unicast routes of BGP sessions, whether they forward or only tell attributes.

use ipnet::IpNet;

use super::{Candidate, FeedRoutes};
use crate::{
    config::Source,
    fib::{family::Address, prefixes::Prefixes},
    filter::flowspec::validate::{Best, Destination, Unicast},
    rib::{contend, decision, entry::Entry},
    with_family,
};

/// Prefixes that are looked for one by one; where more are possible, every route is looked at once for all.
const PROBES: usize = 2048;

impl Unicast for FeedRoutes {
    fn best_match(&self, prefix: IpNet) -> Option<Best<'_>> {
        with_family!(
            prefix,
            |address, length| self.best_covering(&self.v4, address, length),
            |address, length| self.best_covering(&self.v6, address, length)
        )
    }

    fn others_inside(&self, of: &[Destination]) -> Vec<Option<IpNet>> {
        let mut others = vec![None; of.len()];
        self.find_inside::<u32>(&self.v4, of, &mut others);
        self.find_inside::<u128>(&self.v6, of, &mut others);
        others
    }
}

impl FeedRoutes {
    fn is_bgp(&self, candidate: &Candidate) -> bool {
        self.feeds[usize::from(candidate.feed)].source == Source::Bgp
    }

    fn best_covering<A: Address>(
        &self,
        prefixes: &Prefixes<A, Entry<Candidate>>,
        address: A,
        length: u8,
    ) -> Option<Best<'_>> {
        for (network, length, entry) in prefixes.all_covering(address, length) {
            let views: Vec<_> = entry
                .as_slice()
                .iter()
                .filter(|candidate| self.is_bgp(candidate))
                .map(|candidate| self.view(candidate, A::FAMILY == 6))
                .filter(|view| view.usable)
                .collect();
            let contenders: Vec<_> = views.iter().map(contend).collect();
            if let Some(best) = decision::best(&contenders) {
                return Some(Best {
                    prefix: network.prefix(length)?,
                    feed: views[best].feed,
                    attributes: views[best].attributes,
                });
            }
        }
        None
    }

    fn find_inside<A: Address>(
        &self,
        routes: &Prefixes<A, Entry<Candidate>>,
        of: &[Destination],
        others: &mut [Option<IpNet>],
    ) {
        let mut note = |at: usize, network: A, length, entry: &Entry<Candidate>| {
            let other = |candidate: &Candidate| {
                self.is_bgp(candidate) && self.attributes.get(candidate.attributes).neighbour_as() != of[at].1
            };
            if let Some(prefix) = network.prefix(length)
                && others[at].is_none_or(|lower| prefix < lower)
                && entry.as_slice().iter().any(other)
            {
                others[at] = Some(prefix);
            }
        };
        let mut many: Prefixes<A, Vec<usize>> = Prefixes::default();
        let mut shortest = A::BITS;
        for (at, (prefix, _)) in of.iter().enumerate() {
            let Some((network, length)) = number::<A>(*prefix) else {
                continue;
            };
            if routes.possible_inside(length) <= PROBES {
                for (inside, length, entry) in routes.inside(network, length) {
                    note(at, inside, length, entry);
                }
            } else {
                shortest = shortest.min(length);
                match many.get_mut(network, length) {
                    Some(list) => list.push(at),
                    None => drop(many.insert(network, length, vec![at])),
                }
            }
        }
        if many.is_empty() {
            return;
        }
        for (network, length, entry) in routes.iter().filter(|(_, length, _)| *length > shortest) {
            for (.., list) in many.all_covering(network, length - 1) {
                for at in list {
                    note(*at, network, length, entry);
                }
            }
        }
    }
}

/// A prefix as a number, where it is of this family.
fn number<A: Address>(prefix: IpNet) -> Option<(A, u8)> {
    let mut octets = [0; 16];
    match prefix.trunc() {
        IpNet::V4(net) if A::FAMILY == 4 => octets[..4].copy_from_slice(&net.network().octets()),
        IpNet::V6(net) if A::FAMILY == 6 => octets = net.network().octets(),
        _ => return None,
    }
    Some((A::from_octets16(octets), prefix.prefix_len()))
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        rib::decision::UNLISTED,
        source::feed::{Attributes, FeedId, FeedRoute, Segment, Target},
    };

    fn routes() -> FeedRoutes {
        let mut routes = FeedRoutes::default();
        routes.register(1, Source::Bgp, UNLISTED);
        routes.register(2, Source::Bgp, UNLISTED);
        routes.register(3, Source::Fpm, UNLISTED);
        routes
    }

    fn announce(routes: &mut FeedRoutes, feed: FeedId, prefix: IpNet, path: &[u32]) {
        let attributes = Arc::new(Attributes {
            as_path: vec![Segment::Sequence(path.to_vec())],
            local_pref: 100,
            ..Attributes::default()
        });
        let route = FeedRoute {
            target: Target::Blackhole,
            attributes,
        };
        routes.announce(feed, prefix, 0, &route, 0);
    }

    fn net(text: &str) -> IpNet {
        text.parse().expect("prefix")
    }

    #[test]
    fn the_best_match_is_the_best_of_the_longest_prefix_with_a_bgp_route() {
        let mut routes = routes();
        assert!(routes.best_match(net("192.0.2.5/32")).is_none());
        announce(&mut routes, 1, net("192.0.0.0/16"), &[64501]);
        announce(&mut routes, 1, net("192.0.2.0/24"), &[64501, 64502]);
        announce(&mut routes, 2, net("192.0.2.0/24"), &[64503]);
        announce(&mut routes, 3, net("192.0.2.4/30"), &[64504]);
        announce(&mut routes, 1, net("2001:db8::/32"), &[64505]);
        for (of, prefix, feed) in [
            ("192.0.2.5/32", "192.0.2.0/24", 2),
            ("192.0.2.0/24", "192.0.2.0/24", 2),
            ("192.0.2.0/23", "192.0.0.0/16", 1),
            ("2001:db8:1::/48", "2001:db8::/32", 1),
        ] {
            let best = routes.best_match(net(of)).expect("a route");
            assert_eq!((best.prefix, best.feed), (net(prefix), feed), "{of}");
        }
        assert!(routes.best_match(net("192.0.0.0/15")).is_none());
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<[u8; 4]>(), 0..=32u8).prop_map(|(octets, length)| {
            let [a, b, c, d] = octets.map(|octet| octet & 0x83);
            IpNet::new(IpAddr::from([a & 1, b & 1, c, d]), length)
                .expect("prefix")
                .trunc()
        });
        let v6 = (any::<u128>(), 0..=128u8).prop_map(|(bits, length)| {
            let address = std::net::Ipv6Addr::from(bits & (1 << 127 | 0x8101 << 64 | 0x83));
            IpNet::new(address.into(), length).expect("prefix").trunc()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn others_inside_are_found_whether_looked_for_or_come_upon(
            announced in prop::collection::vec((prefix(), 1..4u16, 64501..64503u32), 0..40),
            asked in prop::collection::vec((prefix(), prop::option::of(64501..64503u32)), 1..12),
        ) {
            let mut routes = routes();
            let mut known = std::collections::BTreeMap::new();
            for (prefix, feed, neighbour) in announced {
                announce(&mut routes, feed, prefix, &[neighbour]);
                known.insert((prefix, feed), neighbour);
            }
            for (asked, found) in asked.iter().zip(routes.others_inside(&asked)) {
                let (of, from) = asked;
                let expected = known
                    .iter()
                    .filter(|((prefix, feed), neighbour)| {
                        *feed != 3 && of.contains(prefix) && prefix != of && Some(**neighbour) != *from
                    })
                    .map(|((prefix, _), _)| *prefix)
                    .min();
                prop_assert_eq!(found, expected, "{:?}", asked);
            }
        }
    }
}
