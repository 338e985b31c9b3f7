//! What a choice offers beside its best way.

use super::*;
use crate::filter::blackhole::BLACKHOLE;
use crate::source::{
    event::{Action, Change, Hop, Route},
    feed::{Attributes, FeedRoute, Target},
};

fn hop(gateway: &str) -> Hop {
    Hop {
        ifindex: 2,
        gateway: Some(gateway.parse().expect("address")),
        weight: 1,
        dead: false,
        unsupported: false,
    }
}

fn kernel(metric: u32, gateway: &str) -> Route {
    Route {
        prefix: prefix(),
        table: 254,
        metric,
        protocol: 12,
        tos: 0,
        mtu: None,
        action: Action::Hops(vec![hop(gateway)]),
    }
}

fn prefix() -> IpNet {
    "192.0.2.0/24".parse().expect("prefix")
}

fn announce(rib: &mut Rib, feed: FeedId, local_pref: u32, gateway: &str) {
    let attributes = Attributes {
        local_pref,
        ..Attributes::default()
    };
    let route = FeedRoute {
        target: Target::Hops(vec![hop(gateway)]),
        attributes: Arc::new(attributes),
    };
    rib.feeds.announce(feed, prefix(), 0, &route, 0);
}

/// The gateways of best and next.
fn offered(rib: &Rib) -> (String, Option<String>) {
    let text = |path: &Arc<Path>| match path.as_ref() {
        Path::Hops { hops, .. } => hops[0].gateway.expect("gateway").to_string(),
        other => format!("{other:?}"),
    };
    let ways = rib.choose(prefix()).expect("a choice").ways;
    (text(&ways.path), ways.alternate.as_ref().map(text))
}

fn rib(sources: &[Source]) -> Rib {
    let mut rib = Rib::new(sources, RouteTables::default());
    rib.register(1, Source::Bgp);
    rib.register(2, Source::Bgp);
    rib
}

#[test]
fn the_next_best_that_does_something_else_is_offered_whoever_has_it() {
    let mut all = rib(&[Source::Bgp, Source::Kernel]);
    announce(&mut all, 1, 200, "198.51.100.1");
    assert_eq!(offered(&all), ("198.51.100.1".into(), None));
    let _ = all.kernel.announce(kernel(0, "198.51.100.9"), Change::Add);
    assert_eq!(
        offered(&all),
        ("198.51.100.1".into(), Some("198.51.100.9".into()))
    );
    announce(&mut all, 2, 100, "198.51.100.1");
    assert_eq!(
        offered(&all),
        ("198.51.100.1".into(), Some("198.51.100.9".into())),
        "the second does the same"
    );
    announce(&mut all, 2, 100, "198.51.100.2");
    assert_eq!(
        offered(&all),
        ("198.51.100.1".into(), Some("198.51.100.2".into()))
    );

    let mut all = rib(&[Source::Kernel, Source::Bgp]);
    announce(&mut all, 1, 200, "198.51.100.1");
    let _ = all.kernel.announce(kernel(0, "198.51.100.9"), Change::Add);
    assert_eq!(
        offered(&all),
        ("198.51.100.9".into(), Some("198.51.100.1".into()))
    );
    let _ = all.kernel.announce(kernel(5, "198.51.100.8"), Change::Add);
    assert_eq!(
        offered(&all),
        ("198.51.100.9".into(), Some("198.51.100.8".into())),
        "the kernel's own next comes first"
    );
}

#[test]
fn a_full_tables_route_costs_what_the_kernels_costs_and_what_is_shared_is_kept_once() {
    let mut all = rib(&[Source::Bgp]);
    for number in 0..1000u32 {
        let prefix: IpNet = format!("10.{}.{}.0/24", number >> 8, number & 255)
            .parse()
            .expect("prefix");
        let attributes = Attributes {
            local_pref: 100 + number % 10,
            ..Attributes::default()
        };
        let route = FeedRoute {
            target: Target::Hops(vec![hop("198.51.100.1")]),
            attributes: Arc::new(attributes),
        };
        all.feeds.announce(1, prefix, 0, &route, 0);
    }
    assert_eq!(all.feeds.shared(), (10, 1));
    for number in 0..1000u32 {
        let prefix: IpNet = format!("10.{}.{}.0/24", number >> 8, number & 255)
            .parse()
            .expect("prefix");
        assert!(all.feeds.withdraw(1, prefix, 0));
    }
    assert_eq!(all.feeds.shared(), (0, 0));
}

#[test]
fn a_route_with_a_community_for_it_is_dropped_wherever_it_leads() {
    let mut rib = rib(&[Source::Bgp, Source::Kernel]);
    rib.feeds.drop_with(&[BLACKHOLE]);
    assert!(rib.kernel.announce(kernel(10, "10.0.0.9"), Change::Add));
    announce(&mut rib, 1, 100, "10.0.0.1");
    assert_eq!(offered(&rib).0, "10.0.0.1");
    let marked = |path: &[u32]| FeedRoute {
        target: Target::Hops(vec![hop("10.0.0.1")]),
        attributes: Arc::new(Attributes {
            local_pref: 100,
            communities: path.to_vec(),
            ..Attributes::default()
        }),
    };
    rib.feeds
        .announce(1, prefix(), 0, &marked(&[64_500 << 16, 0xffff_029a]), 0);
    let ways = rib.choose(prefix()).expect("a choice").ways;
    // A blackhole has no backup: what it drops must not be led around it.
    assert_eq!(
        (ways.path.as_ref(), &ways.alternate),
        (&Path::Special(Reason::Blackhole), &None)
    );
    // The attack is over, and the mark is gone.
    rib.feeds.announce(1, prefix(), 0, &marked(&[64_500 << 16]), 0);
    assert_eq!(offered(&rib).0, "10.0.0.1");
}

#[test]
fn attributes_take_no_more_memory_than_their_feed_may_and_no_route_outlives_its_word() {
    use crate::rib::feeds::Effect;
    let mut rib = rib(&[Source::Bgp]);
    // 8 kB each, of 8 MiB.
    let announce = |rib: &mut Rib, feed: FeedId, number: u32, communities: usize| {
        let mut attributes = Attributes {
            communities: vec![u32::from(feed); communities],
            ..Attributes::default()
        };
        attributes.communities[0] = number;
        let route = FeedRoute {
            target: Target::Blackhole,
            attributes: attributes.into(),
        };
        let prefix =
            IpNet::new(std::net::Ipv4Addr::from(20 << 24 | number << 8).into(), 24).expect("a prefix");
        rib.feeds.announce(feed, prefix, 0, &route, 0)
    };
    let count = |rib: &Rib, feed| rib.feeds.count(feed, crate::source::feed::FeedTable::Ipv4).0;
    for number in 0..1_200 {
        announce(&mut rib, 1, number, 2_000);
    }
    let fit = count(&rib, 1);
    assert!((980..1_020).contains(&fit), "{fit} of them fit");
    assert_eq!(
        announce(&mut rib, 2, 0, 2_000),
        Effect::Changed,
        "another feed has its own"
    );
    // What it said of a prefix before does not hold any more, whether there is room for what it says now or not.
    assert_eq!(announce(&mut rib, 1, 3, 1_900), Effect::Changed);
    assert_eq!(announce(&mut rib, 1, 3, 9_000), Effect::Ousted);
    assert_eq!(count(&rib, 1), fit - 1);
    assert_eq!(announce(&mut rib, 1, 3, 9_000), Effect::Refused);
    // Room that was left is there again, all of it.
    for round in 0..3 {
        for number in 0..1_200 {
            let prefix =
                IpNet::new(std::net::Ipv4Addr::from(20 << 24 | number << 8).into(), 24).expect("a prefix");
            rib.feeds.withdraw(1, prefix, 0);
        }
        assert_eq!(count(&rib, 1), 0);
        for number in 0..fit as u32 {
            let effect = announce(&mut rib, 1, number, 2_000);
            assert_eq!(effect, Effect::Changed, "round {round}, route {number}");
        }
    }
}
