//! Every source's route for one prefix, which of them counts, and why.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    attributes::{as_path, communities, extended_communities, large_communities, origin},
    names,
    routes::Selection,
};
use crate::{
    fib::{
        path::Topology,
        recursion::{Resolution, Unresolved},
    },
    rib::{
        Rib,
        explain::{Outcome, Route},
        feeds::View,
        kernel::Shown,
    },
    source::{
        event::{Action, Hop, NexthopKind},
        feed::{Attributes, FeedId, Gateway, Target},
        route_tables::table_name,
    },
};

/// A route of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CandidateRow {
    /// Whose: "kernel", "bgp", "fpm".
    pub by: String,
    /// The prefix.
    pub prefix: String,
    /// The feed's neighbour; null of the kernel.
    pub peer: Option<String>,
    /// Packets follow this one.
    pub best: bool,
    /// The step that decided, in words.
    pub why: String,
    /// Next hops as they came.
    pub next_hops: String,
    /// The next hops that leads to; null where it leads nowhere, or packets leave with a reason.
    pub resolved: Option<String>,
    /// The route of the kernel that resolves the gateway, or why none does; null where nothing needs to be resolved.
    pub resolved_by: Option<String>,
    /// AS path, nearest first; sets in braces.
    pub as_path: Option<String>,
    /// "igp", "egp", "incomplete".
    pub origin: Option<String>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities: standard.
    pub communities: Option<String>,
    /// Extended ones.
    pub extended_communities: Option<String>,
    /// Large ones.
    pub large_communities: Option<String>,
    /// ORIGINATOR_ID, or the peer's identifier.
    pub originator: Option<String>,
    /// Learned over an external session.
    pub external: Option<bool>,
    /// Path identifier; null where the session has none.
    pub path_id: Option<u32>,
    /// Metric of the kernel or FPM.
    pub metric: Option<u32>,
    /// Who installed it.
    pub protocol: String,
    /// "local", "main" or the number, of the kernel.
    pub table: Option<String>,
    /// Its session is lost, and it was not announced again.
    pub stale: bool,
    /// Used only where there is nothing else (RFC 9494).
    pub least_preferred: bool,
    /// Seconds since it was announced first as it is; null of the kernel, which does not tell.
    pub age: Option<u64>,
}

/// What rows are made from.
pub struct Source<'a> {
    /// The routes.
    pub rib: &'a Rib,
    /// Links, gateways, next-hop objects.
    pub world: &'a Topology,
    /// Names of feeds.
    pub peer: &'a dyn Fn(FeedId) -> Option<String>,
    /// Now, seconds since 1970.
    pub now: u32,
}

impl Source<'_> {
    /// The routes of the prefix that is selected: of that very one, or of the longest that covers an address.
    pub fn rows(&self, selection: Selection) -> Vec<CandidateRow> {
        let prefix = match selection {
            Selection::All => return Vec::new(),
            Selection::Within(prefix) => prefix,
            Selection::Covering(address) => {
                let host = IpNet::from(address);
                let kernel = self.rib.kernel.covering(address).map(|cover| cover.prefix);
                let feeds = self.rib.feeds.covering(address, host.prefix_len());
                match kernel.into_iter().chain(feeds).max_by_key(IpNet::prefix_len) {
                    Some(prefix) => prefix,
                    None => return Vec::new(),
                }
            }
        };
        let explained = self.rib.explain(prefix);
        let mut rows: Vec<CandidateRow> = explained
            .iter()
            .map(|(route, outcome)| self.row(prefix, route, *outcome))
            .collect();
        rows.sort_by_key(|row| !row.best);
        rows
    }

    fn row(&self, prefix: IpNet, route: &Route<'_>, outcome: Outcome) -> CandidateRow {
        let base = CandidateRow {
            prefix: prefix.to_string(),
            best: outcome.is_best(),
            why: outcome.to_string(),
            ..CandidateRow::default()
        };
        match route {
            Route::Kernel(shown) => self.of_kernel(shown, base),
            Route::Feed(view) => self.of_feed(view, base),
        }
    }

    fn of_kernel(&self, shown: &Shown, base: CandidateRow) -> CandidateRow {
        let (next_hops, resolved) = match &shown.kind.action {
            Action::Hops(hops) => (self.hops(hops), Some(self.hops(hops))),
            Action::Nexthop(id) => (format!("nhid {id}"), self.object(*id)),
            Action::Local => ("local".into(), None),
            Action::Broadcast => ("broadcast".into(), None),
            Action::Blackhole => ("blackhole".into(), None),
            Action::Unreachable => ("unreachable".into(), None),
            Action::Prohibit => ("prohibit".into(), None),
            Action::Unsupported => ("a kind that only the kernel understands".into(), None),
        };
        CandidateRow {
            by: "kernel".into(),
            next_hops,
            resolved,
            metric: Some(shown.metric),
            protocol: names::protocol(shown.protocol.into()),
            table: Some(table_name(shown.table)),
            ..base
        }
    }

    fn of_feed(&self, view: &View<'_>, base: CandidateRow) -> CandidateRow {
        let (next_hops, resolved, resolved_by) = self.target(view);
        let bgp = view.source == crate::config::Source::Bgp;
        let attributes: &Attributes = view.attributes;
        let text = |words: String| (!words.is_empty()).then_some(words);
        CandidateRow {
            by: view.source.name().into(),
            peer: (self.peer)(view.feed),
            next_hops,
            resolved,
            resolved_by,
            as_path: bgp.then(|| as_path(attributes)),
            origin: bgp.then(|| origin(attributes.origin).into()),
            local_pref: bgp.then_some(attributes.local_pref),
            med: attributes.med,
            communities: text(communities(attributes)),
            extended_communities: text(extended_communities(attributes)),
            large_communities: text(large_communities(attributes)),
            originator: bgp.then(|| Ipv4Addr::from(attributes.originator).to_string()),
            external: bgp.then_some(attributes.external),
            path_id: (view.path_id != 0).then_some(view.path_id),
            metric: (!bgp).then_some(attributes.metric),
            protocol: names::protocol(attributes.protocol.into()),
            stale: view.stale,
            least_preferred: view.least_preferred(),
            age: Some(self.now.saturating_sub(view.since).into()),
            ..base
        }
    }

    /// As given, as resolved, by what.
    fn target(&self, view: &View<'_>) -> (String, Option<String>, Option<String>) {
        match view.target {
            Target::Gateway(gateway) => {
                let (resolved, by) = self.resolution(self.world.gateways.get(gateway));
                (self.gateway(gateway), resolved, by)
            }
            Target::Hops(hops) => (self.hops(hops), Some(self.hops(hops)), None),
            Target::Nexthop(id) => {
                let mut hops = Vec::new();
                self.feed_object(view.feed, *id, 4, &mut hops);
                let by = hops.is_empty().then(|| "nobody has told of it".to_string());
                let resolved = (!hops.is_empty()).then(|| hops.join(", "));
                (format!("object {id}"), resolved, by)
            }
            Target::Blackhole => ("blackhole".into(), None, None),
            Target::Unreachable => ("unreachable".into(), None, None),
            Target::Prohibit => ("prohibit".into(), None, None),
        }
    }

    fn gateway(&self, gateway: &Gateway) -> String {
        let mut text = gateway.address.to_string();
        if let Some(link_local) = gateway.link_local {
            text += &format!(" {link_local}");
        }
        if let Some(ifindex) = gateway.interface {
            text += &format!(" dev {}", self.ifname(ifindex));
        }
        text
    }

    fn resolution(&self, resolution: Option<&Resolution>) -> (Option<String>, Option<String>) {
        match resolution {
            Some(Resolution::Hops { via, hops, .. }) => (Some(self.hops(hops)), Some(via.to_string())),
            Some(Resolution::Object { via, id, .. }) => (self.object(*id), Some(via.to_string())),
            Some(Resolution::Special { via, reason }) => {
                (None, Some(format!("{via}, which says {}", reason.name())))
            }
            Some(Resolution::Unresolved(why)) => (None, Some(why.to_string())),
            None => (None, Some(Unresolved::NoRoute.to_string())),
        }
    }

    fn object(&self, id: u32) -> Option<String> {
        match self.world.nexthops.get(&id)? {
            NexthopKind::Hop(hop) => Some(self.hop(hop)),
            NexthopKind::Group(members) => {
                let hops = members
                    .iter()
                    .filter_map(|(id, _)| match self.world.nexthops.get(id)? {
                        NexthopKind::Hop(hop) => Some(self.hop(hop)),
                        _ => None,
                    });
                Some(hops.collect::<Vec<_>>().join(", "))
            }
            NexthopKind::Blackhole => Some("blackhole".into()),
            NexthopKind::Unsupported => None,
        }
    }

    fn feed_object(&self, feed: FeedId, id: u32, depth: u32, into: &mut Vec<String>) {
        match self.world.feed_nexthops.get(&(feed, id)) {
            Some(NexthopKind::Hop(hop)) => into.push(self.hop(hop)),
            Some(NexthopKind::Group(members)) if depth > 0 && into.len() < 64 => {
                for (member, _) in members.iter().take(64) {
                    self.feed_object(feed, *member, depth - 1, into);
                }
            }
            Some(NexthopKind::Blackhole) => into.push("blackhole".into()),
            _ => {}
        }
    }

    fn hops(&self, hops: &[Hop]) -> String {
        hops.iter()
            .map(|hop| self.hop(hop))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn hop(&self, hop: &Hop) -> String {
        let via = hop.gateway.map(|via| format!("via {via} ")).unwrap_or_default();
        let weight = match hop.weight {
            0 | 1 => String::new(),
            weight => format!(" weight {weight}"),
        };
        let dead = if hop.dead { " dead" } else { "" };
        format!("{via}dev {}{weight}{dead}", self.ifname(hop.ifindex))
    }

    fn ifname(&self, ifindex: u32) -> String {
        let link = self.world.links.get(ifindex);
        link.map_or_else(|| format!("if{ifindex}"), |link| link.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        config::Source as Kind,
        source::{
            event::{Change, Route as KernelRoute},
            feed::{FeedRoute, Segment},
            route_tables::RouteTables,
        },
    };

    #[test]
    fn every_sources_route_is_told_with_what_decided_and_where_it_leads() {
        let mut rib = Rib::new(&[Kind::Bgp, Kind::Kernel], RouteTables::default());
        rib.register(1, Kind::Bgp);
        rib.register(2, Kind::Bgp);
        let prefix: IpNet = "192.0.2.0/24".parse().unwrap();
        let hop = Hop {
            ifindex: 3,
            gateway: Some("203.0.113.1".parse().unwrap()),
            weight: 1,
            dead: false,
            unsupported: false,
        };
        let kernel = KernelRoute {
            prefix,
            table: 254,
            metric: 32,
            protocol: 12,
            tos: 0,
            mtu: None,
            action: Action::Hops(vec![hop]),
        };
        let _ = rib.kernel.announce(kernel, Change::Add);
        let gateway = Gateway {
            address: "10.255.0.1".parse().unwrap(),
            link_local: None,
            interface: None,
        };
        let mut world = Topology::default();
        let via: IpNet = "10.255.0.1/32".parse().unwrap();
        let resolution = Resolution::Hops {
            via,
            hops: vec![hop],
            mtu: 0,
        };
        world.gateways.set(gateway, resolution);
        for (feed, local_pref) in [(1, 100), (2, 200)] {
            let attributes = Attributes {
                local_pref,
                as_path: vec![Segment::Sequence(vec![64500, 64501]), Segment::Set(vec![1, 2])],
                communities: vec![64500 << 16 | 7],
                extended: vec![
                    [0, 2, 0xfb, 0xf4, 0, 0, 0, 9],
                    [2, 3, 0, 1, 0, 0, 0, 5],
                    [0x43, 1, 0, 0, 0, 0, 0, 1],
                ],
                large: vec![[1, 2, 3]],
                protocol: 186,
                ..Attributes::default()
            };
            let route = FeedRoute {
                target: Target::Gateway(gateway),
                attributes: Arc::new(attributes),
            };
            rib.feeds.announce(feed, prefix, 0, &route, 100);
        }
        let source = Source {
            rib: &rib,
            world: &world,
            peer: &|feed| Some(format!("peer{feed}")),
            now: 160,
        };
        let rows = source.rows(Selection::Within(prefix));
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.by.as_str(), row.peer.as_deref(), row.best, row.why.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("bgp", Some("peer2"), true, "won: highest LOCAL_PREF"),
                ("kernel", None, false, "lost: order of sources"),
                ("bgp", Some("peer1"), false, "lost: highest LOCAL_PREF"),
            ]
        );
        let best = &rows[0];
        assert_eq!(best.next_hops, "10.255.0.1");
        assert_eq!(best.resolved.as_deref(), Some("via 203.0.113.1 dev if3"));
        assert_eq!(best.resolved_by.as_deref(), Some("10.255.0.1/32"));
        assert_eq!(best.as_path.as_deref(), Some("64500 64501 {1,2}"));
        assert_eq!(best.communities.as_deref(), Some("64500:7"));
        assert_eq!(
            best.extended_communities.as_deref(),
            Some("rt:64500:9 ro:65536:5 0x4301000000000001")
        );
        assert_eq!((best.age, best.origin.as_deref()), (Some(60), Some("igp")));
        let covering = source.rows(Selection::Covering("192.0.2.9".parse().unwrap()));
        assert_eq!(covering, rows);
        assert!(
            source
                .rows(Selection::Covering("198.51.100.1".parse().unwrap()))
                .is_empty()
        );
    }
}
