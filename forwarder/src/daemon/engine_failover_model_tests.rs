//! Random routes and failures against what a person would say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const PREFIXES: [&str; 6] = [
    "0.0.0.0/0",
    "20.0.0.0/8",
    "20.1.0.0/16",
    "20.1.2.0/24",
    "20.1.2.128/25",
    "21.0.0.0/8",
];
/// An address that each of them alone decides when all are laid.
const ADDRESSES: [&str; 6] = [
    "9.9.9.9",
    "20.9.9.9",
    "20.1.9.9",
    "20.1.2.9",
    "20.1.2.199",
    "21.9.9.9",
];
const CARRIERS: [(Ifindex, &str, u8); 3] = [A, B, C];

/// A route's way: a carrier, or a blackhole.
type Way = usize;
const BLACKHOLE: Way = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Announce(usize, u32, Way),
    Withdraw(usize, u32),
    Carrier(usize, bool),
    Found(usize),
    InVain(usize),
    Flushed(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let prefix = 0..PREFIXES.len();
    let metric = prop_oneof![Just(100u32), Just(200)];
    let way = prop_oneof![8 => 0..CARRIERS.len(), 1 => Just(BLACKHOLE)];
    prop_oneof![
        6 => (prefix.clone(), metric.clone(), way).prop_map(|(p, m, w)| Step::Announce(p, m, w)),
        2 => (prefix, metric).prop_map(|(p, m)| Step::Withdraw(p, m)),
        4 => (0..3usize, any::<bool>()).prop_map(|(c, up)| Step::Carrier(c, up)),
        3 => (0..3usize).prop_map(Step::Found),
        2 => (0..3usize).prop_map(Step::InVain),
        1 => (0..3usize).prop_map(Step::Flushed),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gateway {
    Found,
    Failed,
    Unknown,
}

struct Model {
    routes: BTreeMap<(usize, u32), Way>,
    up: [bool; 3],
    gateways: [Gateway; 3],
}

impl Model {
    fn route(&self, prefix: usize, metric: u32, way: Way) -> Route {
        let route = match CARRIERS.get(way) {
            Some(carrier) => by(PREFIXES[prefix], *carrier),
            None => route(PREFIXES[prefix], Action::Blackhole),
        };
        Route { metric, ..route }
    }

    fn ways(&self, prefix: usize) -> Vec<Way> {
        let all = self.routes.range((prefix, 0)..=(prefix, u32::MAX));
        let mut ways: Vec<Way> = all.map(|(_, way)| *way).collect();
        ways.dedup();
        ways
    }

    fn alive(&self, way: Way) -> bool {
        way != BLACKHOLE && self.up[way] && self.gateways[way] == Gateway::Found
    }

    fn failed(&self, way: Way) -> bool {
        way != BLACKHOLE && (!self.up[way] || self.gateways[way] == Gateway::Failed)
    }

    /// Shorter prefixes that cover this one, the nearest first.
    fn covers(&self, prefix: usize) -> Vec<usize> {
        let inside =
            |cover: &usize| *cover != prefix && net(PREFIXES[*cover]).contains(&net(PREFIXES[prefix]));
        (0..PREFIXES.len())
            .rev()
            .filter(inside)
            .filter(|cover| !self.ways(*cover).is_empty())
            .collect()
    }

    /// Every fate that is right for packets which this prefix decides.
    fn check(&self, prefix: usize, fate: Result<u8, Reason>) -> Result<(), TestCaseError> {
        let ways = self.ways(prefix);
        let mac = |way: Way| Ok(CARRIERS[way].2);
        let best = ways[0];
        let covers = self.covers(prefix);
        let behind: Vec<Way> = covers.iter().flat_map(|cover| self.ways(*cover)).collect();
        let by_cover = behind.iter().any(|way| self.alive(*way) && fate == mac(*way));
        if best == BLACKHOLE {
            prop_assert_eq!(fate, Err(Reason::Blackhole));
        } else if self.alive(best) {
            prop_assert_eq!(fate, mac(best));
        } else if !self.failed(best) {
            let alternate = ways
                .get(1)
                .is_some_and(|way| self.alive(*way) && fate == mac(*way));
            prop_assert!(fate == Err(Reason::NextHopUnresolved) || alternate || by_cover);
        } else if let Some(alternate) = ways.get(1).filter(|way| self.alive(**way)) {
            prop_assert_eq!(fate, mac(*alternate));
        } else if ways.contains(&BLACKHOLE) {
            prop_assert!(fate.is_err(), "around a blackhole: {:?}", fate);
        } else {
            prop_assert!(fate.is_err() || by_cover, "{:?} is nobody's way", fate);
            let default = self.ways(0).iter().any(|way| self.alive(*way));
            if default && prefix != 0 && !behind.contains(&BLACKHOLE) {
                prop_assert!(fate.is_ok(), "{} has a backup: {:?}", PREFIXES[prefix], fate);
            }
        }
        Ok(())
    }

    fn dump(&self) -> Dump {
        let mut dump = carriers(Vec::new());
        for (index, (ifindex, _, _)) in CARRIERS.iter().enumerate() {
            let link = dump.links.iter_mut().find(|link| link.ifindex == *ifindex);
            if let Some(link) = link {
                (link.carrier, link.running) = (self.up[index], self.up[index]);
            }
        }
        dump.neighbours = self
            .gateways
            .iter()
            .zip(CARRIERS)
            .filter(|(state, _)| **state != Gateway::Unknown)
            .map(|(state, (ifindex, gateway, mac))| {
                let failed = *state == Gateway::Failed;
                Neighbour {
                    mac: (!failed).then_some([2, 0xbb, 0, 0, 0, mac]),
                    failed,
                    ..neighbour(ifindex, gateway, mac)
                }
            })
            .collect();
        let all = self.routes.iter();
        dump.routes = all
            .map(|((prefix, metric), way)| self.route(*prefix, *metric, *way))
            .collect();
        dump
    }

    fn apply(&mut self, engine: &mut Engine<MemoryDataplane>, step: Step) {
        match step {
            Step::Announce(prefix, metric, way) => {
                self.routes.insert((prefix, metric), way);
                let change = Change::Replace;
                let route = self.route(prefix, metric, way);
                tell(engine, Event::Route { route, change });
            }
            Step::Withdraw(prefix, metric) => {
                if let Some(way) = self.routes.remove(&(prefix, metric)) {
                    let route = self.route(prefix, metric, way);
                    tell(engine, Event::RouteGone(route));
                }
            }
            Step::Carrier(index, up) => {
                self.up[index] = up;
                carrier(engine, CARRIERS[index].0, up);
            }
            Step::Found(index) => {
                self.gateways[index] = Gateway::Found;
                back(engine, CARRIERS[index]);
            }
            Step::InVain(index) => {
                self.gateways[index] = Gateway::Failed;
                asked_in_vain(engine, CARRIERS[index]);
            }
            Step::Flushed(index) => {
                self.gateways[index] = Gateway::Unknown;
                flushed(engine, CARRIERS[index]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn packets_go_by_a_way_that_works_as_long_as_there_is_one(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut engine = with(Vec::new());
        let mut model = Model {
            routes: BTreeMap::new(),
            up: [true; 3],
            gateways: [Gateway::Found; 3],
        };
        for (index, step) in steps.iter().enumerate() {
            model.apply(&mut engine, *step);
            for (prefix, to) in ADDRESSES.iter().enumerate() {
                // Where it is not laid, a shorter one decides.
                let decides = std::iter::once(prefix).chain(model.covers(prefix)).find(|p| !model.ways(*p).is_empty());
                match decides {
                    Some(decides) => model.check(decides, fate(&engine, to))?,
                    None => prop_assert_eq!(fate(&engine, to), Err(Reason::NoRoute)),
                }
            }
            if index % 8 == 0 {
                engine.maintain();
            }
        }
        // What was mended piece by piece is what filling every group anew makes of it, and what the next controller does.
        let before = words(&engine);
        engine.served_changed();
        prop_assert!(words(&engine) == before, "a group was stale");
        let groups = |engine: &Engine<MemoryDataplane>| ADDRESSES.map(|to| (group(engine, to), fate(engine, to)));
        let known = groups(&engine);
        let engine = started(engine.dataplane, model.dump());
        prop_assert_eq!(groups(&engine), known);
    }
}
