//! Whether a FlowSpec rule is its announcer's to make (RFC 8955 6, RFC 9117 4).
//!
//! A neighbour may ask us to drop what goes to it, and nothing else: the rule must name a destination (a), the best BGP route
//! to that destination must come from who sent the rule (b), and nothing more specific may come from another AS (c).
//! Whoever is in our own AS may ask for anything under (b): an empty AS_PATH on an internal session says so (RFC 9117
//! 4.1 b.2; segments of a confederation are taken off where attributes are read).
//!
//! What the RFCs leave open, and what is done here:
//!
//! - Without any BGP route to the destination a rule from another AS fails, as (b) reads: nobody vouches for it. One of our
//!   own AS passes, and (c) is moot: a controller that brings nothing but rules needs no routes.
//! - The originator is ORIGINATOR_ID or the neighbour's address. [`Attributes::originator`] has the BGP identifier instead
//!   of the address, which is as good inside an AS, where it is unique (RFC 6286); between ASes it is not, and two external
//!   routes must be of the same session.
//! - RFC 9117 4.2 compares the first AS of rule and route where a rule comes by an external session. Here it is compared
//!   on internal ones too: the router at the other end may be a border router that validates nothing, as BIRD does unless it
//!   is told to, and every route of its neighbours has the same originator then. Where it has validated, this holds anyway.

use ipnet::IpNet;
use thiserror::Error;

use super::Flow;
use super::components::{Kind, Value};
use crate::source::feed::{Attributes, FeedId};

/// A destination, and the neighbour AS that has the best route to it.
pub type Destination = (IpNet, Option<u32>);

/// What is known of unicast routes of BGP sessions.
pub trait Unicast {
    /// The best route of the longest prefix that covers this one.
    fn best_match(&self, prefix: IpNet) -> Option<Best<'_>>;

    /// For each of these: the lowest prefix inside it, and longer, that has a route from another neighbour AS.
    fn others_inside(&self, of: &[Destination]) -> Vec<Option<IpNet>>;
}

/// A best-match unicast route.
#[derive(Clone, Copy, Debug)]
pub struct Best<'a> {
    /// Its prefix.
    pub prefix: IpNet,
    /// Whose.
    pub feed: FeedId,
    /// What it carries.
    pub attributes: &'a Attributes,
}

/// Why a rule is not its announcer's to make.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Infeasible {
    /// (a).
    #[error("it names no destination (RFC 8955 6 a)")]
    NoDestination,
    /// (a) of RFC 8956 5.
    #[error("its destination leaves the first bits open (RFC 8956 5)")]
    OpenDestination,
    /// (b): there is nothing to compare with.
    #[error("no BGP route covers its destination {0}, and it is not from our own AS (RFC 9117 4.1 b)")]
    NoRoute(IpNet),
    /// (b).
    #[error("the best BGP route to its destination, {0}, is not from who sent the rule (RFC 9117 4.1 b)")]
    OtherOriginator(IpNet),
    /// RFC 9117 4.2.
    #[error("the best BGP route to its destination, {0}, is from another AS than the rule (RFC 9117 4.2)")]
    OtherNeighbour(IpNet),
    /// (c).
    #[error("{0}, inside its destination, is from another AS (RFC 8955 6 c)")]
    OthersInside(IpNet),
}

/// Answers for each rule, in their order. Rules are asked together because (c) may have to look at every route there is.
pub fn validate(flows: &[(FeedId, &Flow<'_>)], routes: &impl Unicast) -> Vec<Result<(), Infeasible>> {
    let mut answers: Vec<Result<Option<Destination>, Infeasible>> = flows
        .iter()
        .map(|(feed, flow)| originated(*feed, flow, routes))
        .collect();
    let mut inside: Vec<Destination> = answers.iter().flatten().flatten().copied().collect();
    inside.sort_unstable();
    inside.dedup();
    let others = routes.others_inside(&inside);
    for answer in &mut answers {
        if let Ok(Some(wanted)) = answer
            && let Ok(at) = inside.binary_search(wanted)
            && let Some(Some(other)) = others.get(at)
        {
            *answer = Err(Infeasible::OthersInside(*other));
        }
    }
    answers.into_iter().map(|answer| answer.map(|_| ())).collect()
}

/// (a) and (b); answers what (c) is to be asked of.
fn originated(
    feed: FeedId,
    flow: &Flow<'_>,
    routes: &impl Unicast,
) -> Result<Option<Destination>, Infeasible> {
    let destination = match flow.components.first().map(|first| (first.kind, first.value)) {
        Some((Kind::Destination, Value::Prefix(pattern))) => {
            pattern.prefix().ok_or(Infeasible::OpenDestination)?
        }
        _ => return Err(Infeasible::NoDestination),
    };
    let rule = flow.attributes();
    let own = !rule.external && rule.as_path.is_empty();
    let Some(best) = routes.best_match(destination) else {
        return if own {
            Ok(None)
        } else {
            Err(Infeasible::NoRoute(destination))
        };
    };
    let neighbour = best.attributes.neighbour_as();
    if !own {
        let same = match (rule.external, best.attributes.external) {
            (true, true) => feed == best.feed,
            (false, false) => rule.originator == best.attributes.originator,
            _ => false,
        };
        if !same {
            return Err(Infeasible::OtherOriginator(best.prefix));
        }
        if neighbour.is_none() || rule.neighbour_as() != neighbour {
            return Err(Infeasible::OtherNeighbour(best.prefix));
        }
    }
    Ok(Some((destination, neighbour)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::source::feed::{FeedTable, FlowRule, Segment};

    /// Routes as a list; the first of a prefix is the best.
    struct Known(Vec<(IpNet, FeedId, Attributes)>);

    impl Unicast for Known {
        fn best_match(&self, prefix: IpNet) -> Option<Best<'_>> {
            let covering = self.0.iter().filter(|(net, ..)| net.contains(&prefix));
            let longest = covering.clone().map(|(net, ..)| net.prefix_len()).max()?;
            let (prefix, feed, attributes) = covering
                .into_iter()
                .find(|(net, ..)| net.prefix_len() == longest)?;
            Some(Best {
                prefix: *prefix,
                feed: *feed,
                attributes,
            })
        }

        fn others_inside(&self, of: &[Destination]) -> Vec<Option<IpNet>> {
            let other = |(of, neighbour): &Destination| {
                let inside = self.0.iter().filter(|(net, ..)| of.contains(net) && net != of);
                inside
                    .filter(|(.., a)| a.neighbour_as() != *neighbour)
                    .map(|(net, ..)| *net)
                    .min()
            };
            of.iter().map(other).collect()
        }
    }

    fn attributes(external: bool, originator: u32, path: &[u32]) -> Attributes {
        Attributes {
            external,
            originator,
            as_path: if path.is_empty() {
                vec![]
            } else {
                vec![Segment::Sequence(path.to_vec())]
            },
            ..Attributes::default()
        }
    }

    fn route(prefix: &str, feed: FeedId, attributes: Attributes) -> (IpNet, FeedId, Attributes) {
        (prefix.parse().unwrap(), feed, attributes)
    }

    fn ask(known: &Known, feed: FeedId, attributes: &Attributes, nlri: &[u8]) -> Result<(), Infeasible> {
        ask_of(FeedTable::FlowSpec4, known, feed, attributes, nlri)
    }

    fn ask_of(
        table: FeedTable,
        known: &Known,
        feed: FeedId,
        attributes: &Attributes,
        nlri: &[u8],
    ) -> Result<(), Infeasible> {
        let rule = FlowRule {
            table,
            nlri: nlri.to_vec(),
            attributes: Arc::new(attributes.clone()),
        };
        let flow = Flow::read(&rule).unwrap();
        validate(&[(feed, &flow)], known).remove(0)
    }

    const VICTIM: [u8; 6] = [1, 32, 192, 0, 2, 5];
    const NET: [u8; 5] = [1, 24, 192, 0, 2];

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_controller_of_our_own_as_needs_no_routes() {
        let none = Known(vec![]);
        assert_eq!(ask(&none, 1, &attributes(false, 9, &[]), &VICTIM), Ok(()));
        // From outside an empty path is no proof (RFC 9117 4.2).
        let why = Infeasible::NoRoute(net("192.0.2.5/32"));
        assert_eq!(
            ask(&none, 1, &attributes(true, 9, &[]), &VICTIM),
            Err(why.clone())
        );
        assert_eq!(ask(&none, 1, &attributes(false, 9, &[64501]), &VICTIM), Err(why));
        let known = Known(vec![route("192.0.2.0/24", 1, attributes(true, 9, &[64501]))]);
        let why = Infeasible::OtherNeighbour(net("192.0.2.0/24"));
        assert_eq!(ask(&known, 1, &attributes(true, 9, &[]), &VICTIM), Err(why));
    }

    #[test]
    fn a_rule_without_a_destination_is_nobodys() {
        let own = attributes(false, 9, &[]);
        let none = Known(vec![]);
        assert_eq!(
            ask(&none, 1, &own, &[2, 24, 192, 0, 2]),
            Err(Infeasible::NoDestination)
        );
        assert_eq!(
            ask(&none, 1, &own, &[3, 0x81, 17]),
            Err(Infeasible::NoDestination)
        );
        let open = ask_of(FeedTable::FlowSpec6, &none, 1, &own, &[1, 12, 4, 0xd0]);
        assert_eq!(open, Err(Infeasible::OpenDestination));
        // Every address is a destination.
        assert_eq!(ask(&none, 1, &own, &[1, 0]), Ok(()));
    }

    #[test]
    fn who_has_the_best_route_to_the_victim_may_ask() {
        let customer = attributes(true, 5, &[64501, 64502]);
        let known = Known(vec![
            route("192.0.0.0/16", 2, attributes(true, 5, &[64999])),
            route("192.0.2.0/24", 1, customer.clone()),
        ]);
        assert_eq!(ask(&known, 1, &attributes(true, 5, &[64501]), &VICTIM), Ok(()));
        // Another session, whatever identifier it claims to have.
        let why = Infeasible::OtherOriginator(net("192.0.2.0/24"));
        assert_eq!(ask(&known, 2, &attributes(true, 5, &[64501]), &VICTIM), Err(why));
        // The same session, and behind it another AS: a route server's.
        let why = Infeasible::OtherNeighbour(net("192.0.2.0/24"));
        assert_eq!(ask(&known, 1, &attributes(true, 5, &[64777]), &VICTIM), Err(why));
    }

    #[test]
    fn behind_a_border_router_originator_and_first_as_count() {
        let known = Known(vec![route("192.0.2.0/24", 1, attributes(false, 5, &[64501]))]);
        assert_eq!(
            ask(&known, 1, &attributes(false, 5, &[64501, 64502]), &VICTIM),
            Ok(())
        );
        // By another route reflector, from the same router.
        assert_eq!(ask(&known, 2, &attributes(false, 5, &[64501]), &VICTIM), Ok(()));
        let why = Infeasible::OtherOriginator(net("192.0.2.0/24"));
        assert_eq!(
            ask(&known, 1, &attributes(false, 6, &[64501]), &VICTIM),
            Err(why.clone())
        );
        assert_eq!(ask(&known, 1, &attributes(true, 5, &[64501]), &VICTIM), Err(why));
        let why = Infeasible::OtherNeighbour(net("192.0.2.0/24"));
        assert_eq!(ask(&known, 1, &attributes(false, 5, &[64502]), &VICTIM), Err(why));
        // A path that begins with a set names no neighbour.
        let set = Attributes {
            as_path: vec![Segment::Set(vec![64501])],
            ..attributes(false, 5, &[])
        };
        let why = Infeasible::OtherNeighbour(net("192.0.2.0/24"));
        assert_eq!(ask(&known, 1, &set, &VICTIM), Err(why));
    }

    #[test]
    fn what_is_anothers_inside_the_destination_forbids_the_rule() {
        let from = |neighbour| attributes(false, 5, &[neighbour]);
        let mut known = Known(vec![
            route("192.0.2.0/24", 1, from(64501)),
            route("192.0.2.0/26", 1, from(64501)),
        ]);
        assert_eq!(ask(&known, 1, &from(64501), &NET), Ok(()));
        known.0.push(route("192.0.2.128/25", 1, from(64502)));
        known.0.push(route("192.0.2.64/26", 1, from(64503)));
        let why = Infeasible::OthersInside(net("192.0.2.64/26"));
        assert_eq!(ask(&known, 1, &from(64501), &NET), Err(why.clone()));
        assert_eq!(ask(&known, 1, &from(64501), &VICTIM), Ok(()));
        // (c) is asked of our own AS too, where there is a route to compare with.
        assert_eq!(ask(&known, 1, &attributes(false, 7, &[]), &NET), Err(why));
    }
}
