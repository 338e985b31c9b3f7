//! The data path's answer held against the kernel's.

use std::net::IpAddr;

use forwarder_common::reason::{Policy, Reason};

use crate::{
    netlink::lookup::{Refusal, RouteAnswer, RouteFound},
    source::event::{Action, Hop},
    stats::path::{self, Decision},
};

/// Whether the two agree about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They do the same.
    Same,
    /// The data path leaves it to the kernel: whatever that does is right.
    Punt,
    /// The route's own way has failed, and the data path goes by its backup, which the kernel does not do.
    Backup,
    /// They do not; why.
    Differs(String),
}

/// Compares what both do with packets to `address`.
pub fn compare(address: IpAddr, decision: &Decision, answer: &RouteAnswer) -> Agreement {
    let ours = &decision.hops;
    if ours.iter().any(path::Hop::is_usable) {
        return match forwards(address, decision, answer) {
            Agreement::Differs(_) if decision.backup.in_use && is_unicast(answer) => Agreement::Backup,
            agreement => agreement,
        };
    }
    let drops = |hop: &path::Hop| hop.reason().policy() == Policy::Drop;
    if ours.is_empty() || !ours.iter().all(drops) {
        return Agreement::Punt;
    }
    match answer {
        RouteAnswer::Refused(Refusal::Blackhole) => Agreement::Same,
        RouteAnswer::Route(found) if found.action == Action::Blackhole => Agreement::Same,
        _ => Agreement::Differs("the data path drops what the kernel does not".into()),
    }
}

fn forwards(address: IpAddr, decision: &Decision, answer: &RouteAnswer) -> Agreement {
    let RouteAnswer::Route(found) = answer else {
        return Agreement::Differs("the data path forwards, the kernel has no way".into());
    };
    let theirs = alive(found);
    if theirs.is_empty() {
        return Agreement::Differs("the data path forwards, the kernel does not".into());
    }
    let same = |ours: &path::Hop, theirs: &Hop| {
        ours.ifindex == theirs.ifindex && ours.via == Some(theirs.gateway.unwrap_or(address))
    };
    // A member that is not usable leaves its packets to the kernel, which is right whatever it does.
    for ours in decision.hops.iter().filter(|hop| hop.is_usable()) {
        if !theirs.iter().any(|hop| same(ours, hop)) {
            return Agreement::Differs("the data path uses a next hop that the kernel does not".into());
        }
    }
    let punts = decision.hops.iter().any(|hop| !hop.is_usable());
    for hop in &theirs {
        if !punts && !decision.hops.iter().any(|ours| same(ours, hop)) {
            return Agreement::Differs("the kernel uses a next hop that the data path does not".into());
        }
    }
    // A resolved neighbour is a prefix of its own in the data path, and part of the subnet's in the kernel.
    let connected = theirs.iter().all(|hop| hop.gateway.is_none());
    // IPv6 routes that share a next-hop object share what it caches, so the kernel names the prefix that was asked for first
    // (net/ipv6/route.c, rt6_get_pcpu_route: the cache is the fib6_nh's, and `from` stands in it).
    let unnamed = address.is_ipv6() && matches!(found.action, Action::Nexthop(_));
    // An account's prefix that is no route, inside the one that is.
    let counting = |prefix: &ipnet::IpNet| decision.is_counting() && found.prefix.contains(prefix);
    match decision.prefix {
        Some(prefix) if prefix == found.prefix || connected || unnamed || counting(&prefix) => {
            Agreement::Same
        }
        Some(prefix) => Agreement::Differs(format!("the data path counts it for {prefix}")),
        None => Agreement::Differs("the data path counts it for no prefix".into()),
    }
}

fn is_unicast(answer: &RouteAnswer) -> bool {
    matches!(answer, RouteAnswer::Route(found) if matches!(found.action, Action::Hops(_) | Action::Nexthop(_)))
}

/// The hops the kernel uses now; all where it calls all of them dead.
fn alive(found: &RouteFound) -> Vec<Hop> {
    let alive: Vec<Hop> = found.hops.iter().filter(|hop| !hop.dead).copied().collect();
    if alive.is_empty() {
        found.hops.clone()
    } else {
        alive
    }
}

/// What the kernel says, in a word: "unicast" or the type of the route.
pub fn word(answer: &RouteAnswer) -> &'static str {
    match answer {
        RouteAnswer::Refused(refusal) => match refusal {
            Refusal::NoRoute => "no-route",
            Refusal::Blackhole => "blackhole",
            Refusal::Unreachable => "unreachable",
            Refusal::Prohibit => "prohibit",
            Refusal::Other(_) => "refused",
        },
        RouteAnswer::Route(found) => match found.action {
            Action::Hops(_) | Action::Nexthop(_) => "unicast",
            Action::Local => "local",
            Action::Broadcast => "broadcast",
            Action::Blackhole => "blackhole",
            Action::Unreachable => "unreachable",
            Action::Prohibit => "prohibit",
            Action::Unsupported => "other",
        },
    }
}

/// The kernel's answer as a person would write it.
pub fn answer_text(answer: &RouteAnswer, ifname: &dyn Fn(u32) -> String) -> String {
    let RouteAnswer::Route(found) = answer else {
        return word(answer).to_string();
    };
    if found.hops.is_empty() {
        return format!("{} {}", word(answer), found.prefix);
    }
    let hops: Vec<String> = found
        .hops
        .iter()
        .map(|hop| {
            let via = hop.gateway.map(|via| format!("via {via} ")).unwrap_or_default();
            let dead = if hop.dead { " dead" } else { "" };
            format!("{via}dev {}{dead}", ifname(hop.ifindex))
        })
        .collect();
    format!("{} {}", found.prefix, hops.join(", "))
}

/// The data path's decision as a person would write it.
pub fn decision_text(decision: &Decision) -> String {
    if decision.hops.is_empty() {
        let reason = if decision.leaf == 0 {
            Reason::NoRoute
        } else {
            Reason::Internal
        };
        return reason.name().to_string();
    }
    let hops: Vec<String> = decision
        .hops
        .iter()
        .map(|hop| match hop.via {
            None => hop.state.clone(),
            Some(via) => {
                let state = if hop.is_usable() {
                    String::new()
                } else {
                    format!(" {}", hop.state)
                };
                format!("via {via} dev {}{state}", hop.ifname.as_deref().unwrap_or("?"))
            }
        })
        .collect();
    match decision.prefix {
        Some(prefix) => format!("{prefix} {}", hops.join(", ")),
        None => hops.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{path::Paths, sample};

    fn hop(ifindex: u32, gateway: Option<&str>) -> Hop {
        Hop {
            ifindex,
            gateway: gateway.map(|text| text.parse().unwrap()),
            weight: 1,
            dead: false,
            unsupported: false,
        }
    }

    fn route(prefix: &str, hops: Vec<Hop>) -> RouteAnswer {
        RouteAnswer::Route(RouteFound {
            prefix: prefix.parse().unwrap(),
            table: 254,
            metric: 0,
            action: Action::Hops(hops.clone()),
            hops,
        })
    }

    fn against(answer: &RouteAnswer) -> Agreement {
        let tables = sample::tables();
        let address = "198.51.100.7".parse().unwrap();
        compare(address, &Paths::new(&tables).decide(address), answer)
    }

    fn difference(answer: &RouteAnswer) -> String {
        match against(answer) {
            Agreement::Differs(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_next_hop_for_the_same_prefix_is_agreement() {
        let prefix = "198.51.100.0/24";
        assert_eq!(
            against(&route(prefix, vec![hop(12, Some("192.0.2.9"))])),
            Agreement::Same
        );
        let dead = Hop {
            dead: true,
            ..hop(13, Some("192.0.2.77"))
        };
        assert_eq!(
            against(&route(prefix, vec![hop(12, Some("192.0.2.9")), dead])),
            Agreement::Same
        );
    }

    #[test]
    fn every_way_to_disagree_is_named() {
        let prefix = "198.51.100.0/24";
        assert!(difference(&RouteAnswer::Refused(Refusal::NoRoute)).contains("the kernel has no way"));
        assert!(
            difference(&route(prefix, vec![hop(11, Some("192.0.2.9"))])).contains("next hop that the kernel")
        );
        let more = vec![hop(12, Some("192.0.2.9")), hop(11, Some("192.0.2.10"))];
        assert!(difference(&route(prefix, more)).contains("next hop that the data path"));
        assert!(
            difference(&route("198.51.0.0/16", vec![hop(12, Some("192.0.2.9"))]))
                .contains("counts it for 198.51.100.0/24")
        );
        let local = RouteAnswer::Route(RouteFound {
            prefix: "198.51.100.7/32".parse().unwrap(),
            table: 255,
            metric: 0,
            action: Action::Local,
            hops: vec![],
        });
        assert!(difference(&local).contains("the kernel does not"));
    }

    #[test]
    fn the_prefix_that_the_kernel_names_for_a_shared_object_of_ipv6_is_not_held_against_us() {
        let ours = path::Hop {
            via: Some("fe80::2".parse().unwrap()),
            ifindex: 12,
            state: path::USABLE.into(),
            ..path::Hop::default()
        };
        let decision = Decision {
            leaf: 1,
            slot: 7,
            group: 5,
            prefix: Some("2001:db8::/48".parse().unwrap()),
            entry: Default::default(),
            hops: std::sync::Arc::new(vec![ours]),
            backup: Default::default(),
        };
        let asked_first = |action: fn(Vec<Hop>) -> Action| {
            let hops = vec![hop(12, Some("fe80::2"))];
            let found = RouteFound {
                prefix: "2001:db8:ffff::/48".parse().unwrap(),
                table: 254,
                metric: 0,
                action: action(hops.clone()),
                hops,
            };
            let address = "2001:db8::7".parse().unwrap();
            compare(address, &decision, &RouteAnswer::Route(found))
        };
        assert_eq!(asked_first(|_| Action::Nexthop(5)), Agreement::Same);
        assert!(matches!(asked_first(Action::Hops), Agreement::Differs(_)));
    }

    #[test]
    fn a_backup_in_use_is_no_difference_where_the_kernel_has_a_way_at_all() {
        let tables = sample::tables();
        let entry = tables.group_directory.get(5);
        let in_use = forwarder_common::directory::GroupEntry {
            on_backup: 1,
            ..entry
        };
        tables.group_directory.set(5, &in_use);
        let address = "198.51.100.7".parse().unwrap();
        let decision = Paths::new(&tables).decide(address);
        let other = route("198.51.100.0/24", vec![hop(11, Some("192.0.2.1"))]);
        assert_eq!(compare(address, &decision, &other), Agreement::Backup);
        let refused = RouteAnswer::Refused(Refusal::Blackhole);
        assert!(matches!(
            compare(address, &decision, &refused),
            Agreement::Differs(_)
        ));
    }

    #[test]
    fn a_prefix_that_is_only_counted_agrees_with_the_route_around_it() {
        let tables = sample::tables();
        let (address, slot) = ("198.51.100.7".parse().unwrap(), crate::fib::slots::RESERVED);
        crate::fib::slots::set_counting(&tables, slot, true);
        let decision = Paths::new(&tables).decide(address);
        let around = |prefix, via| route(prefix, vec![hop(12, Some(via))]);
        for prefix in ["198.51.0.0/16", "198.51.100.0/24"] {
            let answer = around(prefix, "192.0.2.9");
            assert_eq!(compare(address, &decision, &answer), Agreement::Same);
        }
        for (prefix, via) in [("198.51.100.0/25", "192.0.2.9"), ("198.51.0.0/16", "192.0.2.8")] {
            let answer = compare(address, &decision, &around(prefix, via));
            assert!(
                matches!(answer, Agreement::Differs(_)),
                "{prefix} {via}: {answer:?}"
            );
        }
    }

    #[test]
    fn what_is_left_to_the_kernel_agrees_with_anything() {
        let tables = sample::tables();
        let address = "203.0.113.1".parse().unwrap();
        let decision = Paths::new(&tables).decide(address);
        let answer = route("203.0.113.0/24", vec![hop(1, None)]);
        assert_eq!(compare(address, &decision, &answer), Agreement::Punt);
        assert_eq!(decision_text(&decision), "no-route");
        assert_eq!(
            answer_text(&answer, &|i| format!("if{i}")),
            "203.0.113.0/24 dev if1"
        );
    }
}
