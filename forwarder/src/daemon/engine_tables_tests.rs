//! Tables that the kernel asks one after the other, laid as the one table that they are together.

use proptest::prelude::*;

use super::*;
use crate::source::route_tables::{TABLE_LOCAL, TABLE_MAIN};

/// Asked behind local: 100, then main.
const EARLY: u32 = 100;

fn in_table(table: u32, route: Route) -> Route {
    Route { table, ..route }
}

/// With the dump of the other tests in main.
fn following(tables: &[u32], routes: Vec<Route>) -> Engine<MemoryDataplane> {
    let dataplane = MemoryDataplane::new(Sizes::SMALL);
    let tables = RouteTables::behind_local(tables);
    let mut engine = Engine::with_sources(dataplane, &[Source::Kernel], tables).expect("empty tables");
    for (port, ifindex) in [IN, OUT].into_iter().enumerate() {
        let served = Served {
            port: port as u16 + 1,
            ..Served::default()
        };
        engine.serve(ifindex, Some(served));
    }
    let mut dump = dump();
    dump.routes = routes;
    engine.load(dump);
    engine
}

fn told(engine: &mut Engine<MemoryDataplane>, route: Route) {
    let change = Change::Add;
    tell(engine, Event::Route { route, change });
}

#[test]
fn the_first_table_with_any_route_answers_however_short_its_prefix() {
    let main = [
        via("5.0.0.0/8", OUT, "203.0.113.1"),
        via("5.1.0.0/16", OUT, "203.0.113.1"),
        via("6.0.0.0/8", OUT, "203.0.113.1"),
    ];
    let mut engine = following(&[EARLY, TABLE_MAIN], main.to_vec());
    assert_eq!(fate(&engine, "5.1.0.1"), Ok(1));
    let early = in_table(EARLY, via("5.0.0.0/9", OUT, "203.0.113.2"));
    told(&mut engine, early.clone());
    assert_eq!(fate(&engine, "5.1.0.1"), Ok(2), "main's /16 lies behind it");
    assert_eq!(fate(&engine, "5.200.0.1"), Ok(1), "no route of table 100");
    told(&mut engine, in_table(EARLY, via("0.0.0.0/0", OUT, "203.0.113.2")));
    assert_eq!(
        fate(&engine, "6.0.0.1"),
        Ok(2),
        "a default route leaves main nothing"
    );
    tell(&mut engine, Event::RouteGone(early));
    assert_eq!(fate(&engine, "5.1.0.1"), Ok(2));
    let default = in_table(EARLY, via("0.0.0.0/0", OUT, "203.0.113.2"));
    tell(&mut engine, Event::RouteGone(default));
    for (to, by) in [("5.1.0.1", 1), ("5.2.0.1", 1), ("6.0.0.1", 1)] {
        assert_eq!(fate(&engine, to), Ok(by), "{to}");
    }
    // Nobody asks this one.
    told(&mut engine, in_table(77, via("0.0.0.0/0", OUT, "203.0.113.2")));
    assert_eq!(fate(&engine, "9.0.0.1"), Err(Reason::NoRoute));
}

#[test]
fn a_prefix_of_table_local_takes_what_main_has_inside() {
    let main = via("5.1.0.0/16", OUT, "203.0.113.1");
    let mut engine = following(&[TABLE_MAIN], vec![main]);
    assert_eq!(fate(&engine, "5.1.0.1"), Ok(1));
    let any = in_table(TABLE_LOCAL, route("5.0.0.0/8", Action::Local));
    told(&mut engine, any.clone());
    assert_eq!(fate(&engine, "5.1.0.1"), Err(Reason::Local));
    tell(&mut engine, Event::RouteGone(any));
    assert_eq!(fate(&engine, "5.1.0.1"), Ok(1));
}

/// A prefix of few bits, so that they cover one another.
fn prefix() -> impl Strategy<Value = IpNet> {
    (0u8..16, 0u8..=6).prop_map(|(bits, length)| {
        let address = u32::from(bits) << 26 | u32::from(bits) << 10;
        let net = ipnet::Ipv4Net::new(address.into(), length.min(6) * 4).expect("a length");
        IpNet::V4(net.trunc())
    })
}

/// A route and whether it comes or goes.
fn news() -> impl Strategy<Value = (bool, usize, IpNet, u8)> {
    (any::<bool>(), 0usize..3, prefix(), 1u8..=2)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_address_goes_where_the_tables_asked_in_turn_send_it(
        first in prop::collection::vec(news(), 0..20),
        later in prop::collection::vec(news(), 0..60),
    ) {
        const ORDER: [u32; 3] = [EARLY, TABLE_MAIN, 7];
        let mut model: [BTreeMap<IpNet, u8>; 3] = Default::default();
        let of = |table: usize, prefix: IpNet, by: u8| {
            in_table(ORDER[table], via(&prefix.to_string(), OUT, &format!("203.0.113.{by}")))
        };
        for (_, table, prefix, by) in first {
            model[table].insert(prefix, by);
        }
        let routes = (0..3).flat_map(|table| {
            model[table].iter().map(move |(prefix, by)| of(table, *prefix, *by)).collect::<Vec<_>>()
        });
        let mut engine = following(&ORDER, routes.collect());
        for (comes, table, prefix, by) in later {
            match (comes, model[table].get(&prefix).copied()) {
                (true, None) => {
                    model[table].insert(prefix, by);
                    told(&mut engine, of(table, prefix, by));
                }
                (true, Some(_)) => {
                    model[table].insert(prefix, by);
                    let (route, change) = (of(table, prefix, by), Change::Replace);
                    tell(&mut engine, Event::Route { route, change });
                }
                (false, Some(by)) => {
                    model[table].remove(&prefix);
                    tell(&mut engine, Event::RouteGone(of(table, prefix, by)));
                }
                (false, None) => {}
            }
        }
        for address in (0..64u32).map(|bits| IpAddr::from((bits << 26 | (bits & 15) << 10 | 1).to_be_bytes())) {
            let asked = model.iter().find_map(|table| {
                let covers = table.iter().filter(|(prefix, _)| prefix.contains(&address));
                covers.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, by)| *by)
            });
            prop_assert_eq!(fate(&engine, &address.to_string()).ok(), asked, "{}", address);
        }
    }
}
