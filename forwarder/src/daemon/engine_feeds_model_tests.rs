//! Random news of three sources against what a person would say: after every batch, each address goes where the model sends
//! it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Nested, so that a withdrawal uncovers another; and one that covers the loopbacks.
const PREFIXES: [&str; 5] = [
    "20.0.0.0/8",
    "20.1.0.0/16",
    "20.1.2.0/24",
    "21.0.0.0/8",
    "10.0.0.0/8",
];
/// An address that each of them decides, the longer first.
const ADDRESSES: [(&str, &[usize]); 5] = [
    ("20.1.2.9", &[2, 1, 0]),
    ("20.1.9.9", &[1, 0]),
    ("20.9.9.9", &[0]),
    ("21.9.9.9", &[3]),
    ("10.9.9.9", &[4]),
];
const PATHS: u32 = 2;

/// A way of a route: 0 to 2 by a carrier, 3 a blackhole.
type Way = usize;
const BLACKHOLE: Way = 3;

/// What a BGP route carries; [`Attributes`] of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks {
    local_pref: u32,
    length: usize,
    med: u32,
    neighbour: u32,
    external: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Kernel(usize, u32, Way),
    KernelGone(usize, u32),
    /// A loopback moves to a carrier, or is gone.
    Loopback(usize, Option<usize>),
    Bgp(FeedId, usize, u32, usize, Marks),
    BgpGone(FeedId, usize, u32),
    /// FPM: by next hops, or by an object.
    Zebra(usize, Way, bool),
    ZebraGone(usize),
    Object(usize, Option<Way>),
    Mark(FeedId, bool),
    Sweep(FeedId),
    Dump,
}

fn step() -> impl Strategy<Value = Step> {
    let prefix = 0..PREFIXES.len();
    let way = prop_oneof![6 => 0..3usize, 1 => Just(BLACKHOLE)];
    let bgp = prop_oneof![Just(ONE), Just(TWO)];
    let any_feed = prop_oneof![Just(ONE), Just(TWO), Just(ZEBRA)];
    let marks =
        (1..3u32, 1..3usize, 0..3u32, 1..3u32, any::<bool>()).prop_map(|(p, length, med, n, external)| {
            Marks {
                local_pref: p * 100,
                length,
                med,
                neighbour: 64500 + n,
                external,
            }
        });
    let metric = prop_oneof![Just(10u32), Just(20)];
    prop_oneof![
        4 => (prefix.clone(), metric.clone(), way.clone()).prop_map(|(p, m, w)| Step::Kernel(p, m, w)),
        2 => (prefix.clone(), metric).prop_map(|(p, m)| Step::KernelGone(p, m)),
        3 => (0..3usize, prop::option::weighted(0.7, 0..3usize)).prop_map(|(l, c)| Step::Loopback(l, c)),
        8 => (bgp.clone(), prefix.clone(), 0..PATHS, 0..3usize, marks)
            .prop_map(|(f, p, i, l, m)| Step::Bgp(f, p, i, l, m)),
        3 => (bgp, prefix.clone(), 0..PATHS).prop_map(|(f, p, i)| Step::BgpGone(f, p, i)),
        4 => (prefix.clone(), way.clone(), any::<bool>()).prop_map(|(p, w, o)| Step::Zebra(p, w, o)),
        1 => prefix.prop_map(Step::ZebraGone),
        2 => (0..3usize, prop::option::weighted(0.7, way)).prop_map(|(o, w)| Step::Object(o, w)),
        1 => (any_feed.clone(), any::<bool>()).prop_map(|(f, l)| Step::Mark(f, l)),
        1 => any_feed.prop_map(Step::Sweep),
        1 => Just(Step::Dump),
    ]
}

#[derive(Clone, Debug)]
enum Lead {
    Loopback(usize),
    Way(Way),
    Object(usize),
}

#[derive(Clone, Debug)]
struct Known {
    lead: Lead,
    marks: Option<Marks>,
    stale: bool,
}

#[derive(Default)]
struct Model {
    kernel: BTreeMap<(usize, u32), Way>,
    loopbacks: BTreeMap<usize, usize>,
    /// By prefix, feed, path.
    feeds: BTreeMap<(usize, FeedId, u32), Known>,
    objects: BTreeMap<usize, Way>,
    for_long: BTreeMap<FeedId, bool>,
    order: Vec<Source>,
}

/// Whose route it is, where it leads if anywhere, and the rest of what the decision looks at.
struct Rival {
    class: usize,
    way: Option<Way>,
    for_long: bool,
    marks: Option<Marks>,
    feed: FeedId,
    path: u32,
}

impl Model {
    fn class(&self, source: Source) -> Option<usize> {
        self.order.iter().position(|known| *known == source)
    }

    fn kernel_way(&self, prefix: usize) -> Option<Way> {
        let mut all = self.kernel.range((prefix, 0)..=(prefix, u32::MAX));
        all.next().map(|(_, way)| *way)
    }

    /// The way of a loopback: its own route's, else that of the prefix which covers it.
    fn resolved(&self, loopback: usize) -> Option<Way> {
        if let Some(carrier) = self.loopbacks.get(&loopback) {
            return Some(*carrier);
        }
        // A route of BIRD's that a feed announces with a gateway inside is the loop.
        let by_feed = self.feeds.iter().filter(|((prefix, ..), _)| *prefix == 4);
        let mut by_feed = by_feed.filter(|(_, known)| matches!(known.lead, Lead::Loopback(_)));
        if by_feed.next().is_some() {
            return None;
        }
        self.kernel_way(4)
    }

    fn rivals(&self, prefix: usize) -> Vec<Rival> {
        let mut rivals = Vec::new();
        let kernel = self.kernel_way(prefix).zip(self.class(Source::Kernel));
        rivals.extend(kernel.map(|(way, class)| Rival {
            class,
            way: Some(way),
            for_long: false,
            marks: None,
            feed: 0,
            path: 0,
        }));
        for ((_, feed, path), known) in self.feeds.range((prefix, 0, 0)..(prefix + 1, 0, 0)) {
            let source = if *feed == ZEBRA { Source::Fpm } else { Source::Bgp };
            let Some(class) = self.class(source) else { continue };
            rivals.push(Rival {
                class,
                way: match known.lead {
                    Lead::Loopback(loopback) => self.resolved(loopback),
                    Lead::Way(way) => Some(way),
                    Lead::Object(object) => self.objects.get(&object).copied(),
                },
                for_long: known.stale && self.for_long.get(feed).copied().unwrap_or(false),
                marks: known.marks,
                feed: *feed,
                path: *path,
            });
        }
        rivals
    }

    /// The steps one after the other, each on what the one before has left.
    fn winner(&self, prefix: usize) -> Option<Rival> {
        fn least<K: Ord + Copy>(left: &mut Vec<Rival>, key: impl Fn(&Rival) -> K) {
            let best = left.iter().map(&key).min();
            left.retain(|rival| Some(key(rival)) == best);
        }
        let mut left = self.rivals(prefix);
        least(&mut left, |r| r.way.is_none());
        least(&mut left, |r| r.class);
        least(&mut left, |r| r.for_long);
        least(&mut left, |r| r.marks.map(|m| u32::MAX - m.local_pref));
        least(&mut left, |r| r.marks.map(|m| m.length));
        let meds: Vec<Option<(u32, u32)>> = left
            .iter()
            .map(|r| r.marks.map(|m| (m.neighbour, m.med)))
            .collect();
        left.retain(|r| {
            let lower = |(neighbour, med): (u32, u32)| {
                r.marks
                    .is_some_and(|own| own.neighbour == neighbour && med < own.med)
            };
            !meds.iter().flatten().any(|other| lower(*other))
        });
        least(&mut left, |r| r.marks.map(|m| !m.external));
        least(&mut left, |r| r.feed);
        least(&mut left, |r| r.path);
        left.pop()
    }

    fn fate(&self, decides: &[usize]) -> Result<u8, Reason> {
        let winner = decides.iter().find_map(|prefix| self.winner(*prefix));
        match winner.map(|rival| rival.way) {
            None => Err(Reason::NoRoute),
            Some(None) => Err(Reason::GatewayUnresolved),
            Some(Some(BLACKHOLE)) => Err(Reason::Blackhole),
            Some(Some(way)) => Ok(CARRIERS[way].2),
        }
    }

    fn kernel_route(prefix: usize, metric: u32, way: Way) -> Route {
        let route = match CARRIERS.get(way) {
            Some(carrier) => via(PREFIXES[prefix], carrier.0, carrier.1),
            None => route(PREFIXES[prefix], Action::Blackhole),
        };
        Route {
            metric,
            protocol: BIRD,
            ..route
        }
    }

    fn loopback_route(loopback: usize, carrier: usize) -> Route {
        let (ifindex, gateway, _) = CARRIERS[carrier];
        via(&format!("{}/32", LOOPBACKS[loopback]), ifindex, gateway)
    }

    fn dump(&self) -> Dump {
        let mut dump = world();
        dump.routes.truncate(CARRIERS.len());
        let loopbacks = self.loopbacks.iter();
        dump.routes
            .extend(loopbacks.map(|(l, c)| Self::loopback_route(*l, *c)));
        let routes = self.kernel.iter();
        dump.routes
            .extend(routes.map(|((p, m), w)| Self::kernel_route(*p, *m, *w)));
        dump
    }

    /// What a feed would say if it said everything again.
    fn replay(&self, feed: FeedId) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        if feed == ZEBRA {
            events.extend(self.objects.iter().map(|(object, way)| object_is(*object, *way)));
        }
        let own = self.feeds.iter().filter(|((_, whose, _), _)| *whose == feed);
        events.extend(own.map(|((prefix, _, path), known)| announced(*prefix, *path, known)));
        events
    }
}

fn target(lead: &Lead) -> Target {
    match lead {
        Lead::Loopback(loopback) => gateway(LOOPBACKS[*loopback]),
        Lead::Object(object) => Target::Nexthop(*object as u32 + 1),
        Lead::Way(way) => match CARRIERS.get(*way) {
            Some(carrier) => Target::Hops(vec![hop(carrier.0, carrier.1)]),
            None => Target::Blackhole,
        },
    }
}

fn object_is(object: usize, way: Way) -> FeedEvent {
    let kind = match CARRIERS.get(way) {
        Some(carrier) => NexthopKind::Hop(hop(carrier.0, carrier.1)),
        None => NexthopKind::Blackhole,
    };
    FeedEvent::Nexthop {
        id: object as u32 + 1,
        kind,
    }
}

fn announced(prefix: usize, path_id: u32, known: &Known) -> FeedEvent {
    let route = with(target(&known.lead), |a| {
        if let Some(marks) = known.marks {
            let tail = (1..marks.length).map(|n| 65000 + n as u32);
            let path = std::iter::once(marks.neighbour).chain(tail).collect();
            a.as_path = vec![Segment::Sequence(path)];
            (a.local_pref, a.med, a.external) = (marks.local_pref, Some(marks.med), marks.external);
        }
    });
    FeedEvent::Route {
        prefix: net(PREFIXES[prefix]),
        path_id,
        route,
    }
}

fn apply(model: &mut Model, engine: &mut Engine<MemoryDataplane>, step: &Step) {
    let tables = [FeedTable::Ipv4, FeedTable::Ipv6];
    match step.clone() {
        Step::Kernel(prefix, metric, way) => {
            model.kernel.insert((prefix, metric), way);
            let (route, change) = (Model::kernel_route(prefix, metric, way), Change::Replace);
            tell(engine, Event::Route { route, change });
        }
        Step::KernelGone(prefix, metric) => {
            if let Some(way) = model.kernel.remove(&(prefix, metric)) {
                tell(engine, Event::RouteGone(Model::kernel_route(prefix, metric, way)));
            }
        }
        Step::Loopback(loopback, carrier) => {
            let old = model.loopbacks.remove(&loopback);
            if let Some(carrier) = carrier {
                model.loopbacks.insert(loopback, carrier);
                let (route, change) = (Model::loopback_route(loopback, carrier), Change::Replace);
                tell(engine, Event::Route { route, change });
            } else if let Some(old) = old {
                tell(engine, Event::RouteGone(Model::loopback_route(loopback, old)));
            }
        }
        Step::Bgp(feed, prefix, path, loopback, marks) => {
            let known = Known {
                lead: Lead::Loopback(loopback),
                marks: Some(marks),
                stale: false,
            };
            engine.apply_feed(Batch {
                feed,
                events: vec![announced(prefix, path, &known)],
            });
            model.feeds.insert((prefix, feed, path), known);
        }
        Step::BgpGone(feed, prefix, path_id) => {
            model.feeds.remove(&(prefix, feed, path_id));
            let prefix = net(PREFIXES[prefix]);
            engine.apply_feed(Batch {
                feed,
                events: vec![FeedEvent::RouteGone { prefix, path_id }],
            });
        }
        Step::Zebra(prefix, way, by_object) => {
            let lead = if by_object {
                Lead::Object(way % 3)
            } else {
                Lead::Way(way)
            };
            let known = Known {
                lead,
                marks: None,
                stale: false,
            };
            engine.apply_feed(Batch {
                feed: ZEBRA,
                events: vec![announced(prefix, 0, &known)],
            });
            model.feeds.insert((prefix, ZEBRA, 0), known);
        }
        Step::ZebraGone(prefix) => {
            model.feeds.remove(&(prefix, ZEBRA, 0));
            engine.apply_feed(Batch {
                feed: ZEBRA,
                events: vec![gone(PREFIXES[prefix])],
            });
        }
        Step::Object(object, way) => {
            let event = match way {
                Some(way) => {
                    model.objects.insert(object, way);
                    object_is(object, way)
                }
                None => {
                    model.objects.remove(&object);
                    FeedEvent::NexthopGone(object as u32 + 1)
                }
            };
            engine.apply_feed(Batch {
                feed: ZEBRA,
                events: vec![event],
            });
        }
        Step::Mark(feed, least_preferred) => {
            model.for_long.insert(feed, least_preferred);
            for ((_, whose, _), known) in &mut model.feeds {
                known.stale |= *whose == feed;
            }
            let marks = tables.map(|table| FeedEvent::Mark {
                table,
                least_preferred,
            });
            let events = marks.to_vec();
            engine.apply_feed(Batch { feed, events });
        }
        Step::Sweep(feed) => {
            model
                .feeds
                .retain(|(_, whose, _), known| *whose != feed || !known.stale);
            let events = tables.map(FeedEvent::Sweep).to_vec();
            engine.apply_feed(Batch { feed, events });
        }
        Step::Dump => engine.load(model.dump()),
    }
    settle(engine);
}

fn check(model: &Model, engine: &Engine<MemoryDataplane>, after: &str) -> Result<(), TestCaseError> {
    for (to, decides) in ADDRESSES {
        prop_assert_eq!(fate(engine, to), model.fate(decides), "{} after {}", to, after);
    }
    // What is told of a prefix is what was chosen.
    for prefix in PREFIXES.map(net) {
        let told = engine
            .rib
            .explain(prefix)
            .into_iter()
            .filter(|(_, outcome)| outcome.is_best());
        let told: Vec<u8> = told
            .map(|(route, _)| match route {
                crate::rib::explain::Route::Kernel(_) => engine.rib.class_of(Source::Kernel),
                crate::rib::explain::Route::Feed(view) => view.class,
            })
            .collect();
        let chosen = engine.rib.choose(prefix).map(|choice| choice.class);
        prop_assert_eq!(
            told,
            chosen.into_iter().collect::<Vec<_>>(),
            "{} after {}",
            prefix,
            after
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn after_every_batch_of_three_sources_each_address_goes_where_the_model_sends_it(
        order in Just(vec![Source::Kernel, Source::Bgp, Source::Fpm]).prop_shuffle(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut model = Model { order: order.clone(), ..Model::default() };
        let mut engine = following(&order, model.dump());
        for (index, step) in steps.iter().enumerate() {
            apply(&mut model, &mut engine, step);
            check(&model, &engine, &format!("step {index}, {step:?}"))?;
            if index % 8 == 0 {
                engine.maintain();
            }
        }
        // What was mended piece by piece is what filling every group anew makes of it.
        let before = group_words(&engine);
        engine.served_changed();
        prop_assert!(group_words(&engine) == before, "a group was stale");
        // The next controller keeps every address as it was until it has heard everything again, in any order.
        for ((_, feed, _), known) in &mut model.feeds {
            known.stale = false;
            model.for_long.insert(*feed, false);
        }
        let kept: Vec<_> = ADDRESSES.iter().map(|(to, _)| fate(&engine, to)).collect();
        let mut engine = on(engine.dataplane, &order);
        register(&mut engine);
        engine.load(model.dump());
        let objects = model.feeds.values().any(|known| matches!(known.lead, Lead::Object(_)));
        let first = order[0] == Source::Kernel;
        if !first && !objects {
            for ((to, _), kept) in ADDRESSES.iter().zip(kept) {
                if kept != Err(Reason::NoRoute) {
                    prop_assert_eq!(fate(&engine, to), kept, "{} at the restart", to);
                }
            }
        }
        for feed in [ZEBRA, TWO, ONE] {
            let mut events = model.replay(feed);
            events.extend([FeedTable::Ipv4, FeedTable::Ipv6].map(FeedEvent::Synchronised));
            engine.apply_feed(Batch { feed, events });
            settle(&mut engine);
        }
        prop_assert!(!engine.is_gated());
        check(&model, &engine, "the restart")?;
        // And nothing is left when everything is gone.
        for feed in [ONE, TWO, ZEBRA] {
            let events = [mark(FeedTable::Ipv4), FeedEvent::Sweep(FeedTable::Ipv4)];
            say(&mut engine, feed, events.to_vec());
        }
        prop_assert_eq!(engine.rib.feeds.shared(), (0, 0));
        prop_assert!(engine.world.gateways.is_empty());
    }
}
