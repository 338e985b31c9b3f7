//! Accounts while routes come and go: every packet forwarded is counted once by prefix, once by pair of accounts and once by its
//! source, and for whom it should be.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Result, ensure};
use forwarder::{
    dataplane::Sizes,
    fib::accounts::Accounts,
    source::event::{Action, Event, Route},
};
use forwarder_common::{
    account::pair,
    counters::Counter,
    interface::{COUNT_PAIRS, COUNT_SOURCES, Interface},
    origin::UNCHECKED,
    reason::Reason,
};
use forwarder_tests::{
    frame::{udp4, with},
    ledger::Ledger,
    random::Random,
    routes::{hop, route},
    sandbox::{Sandbox, mac},
};
use ipnet::{IpNet, Ipv4Net};

/// Where everything is, and how many different prefixes there are: few, so that they meet.
const NET: u32 = 0x0a40_0000;
const GATEWAYS: [&str; 2] = ["203.0.113.1", "203.0.113.2"];
const STEPS: usize = 600;

fn prefix(random: &mut Random) -> Ipv4Net {
    let length = 12 + random.below(17) as u8;
    let address = NET | (random.bits() as u32 & 0x000f_ffff);
    Ipv4Net::new(address.into(), length)
        .map(|net| net.trunc())
        .unwrap_or_default()
}

fn address(random: &mut Random) -> Ipv4Addr {
    (NET | (random.bits() as u32 & 0x000f_ffff)).into()
}

/// The longest of these prefixes around an address.
fn longest<'a, T>(all: impl Iterator<Item = (&'a Ipv4Net, T)>, address: Ipv4Addr) -> Option<T> {
    let around = all.filter(|(net, _)| net.contains(&address));
    around
        .max_by_key(|(net, _)| net.prefix_len())
        .map(|(_, what)| what)
}

#[derive(Default)]
struct Model {
    routes: BTreeMap<Ipv4Net, Route>,
    accounts: BTreeMap<Ipv4Net, u32>,
    /// What should have been counted, by cell; and by source or not.
    cells: BTreeMap<u32, Counter>,
    with_source: Counter,
}

impl Model {
    /// What becomes of a packet: whether it is forwarded.
    fn send(&mut self, from: Ipv4Addr, to: Ipv4Addr, octets: usize) -> bool {
        let found = longest(self.routes.iter(), to);
        let forwards = found.is_some_and(|route| matches!(route.action, Action::Hops(_)));
        if !forwards {
            return false;
        }
        let account = |address| longest(self.accounts.iter(), address).copied().unwrap_or(0);
        let routed = longest(self.routes.iter(), from).is_some();
        let from = if routed { account(from) } else { 0 };
        let once = Counter {
            packets: 1,
            bytes: octets as u64,
        };
        let cell = self.cells.entry(pair(0, from, account(to))).or_default();
        *cell = cell.plus(once);
        if routed {
            self.with_source = self.with_source.plus(once);
        }
        true
    }
}

fn step(random: &mut Random, model: &mut Model, sandbox: &mut Sandbox, out: u32) -> Result<()> {
    let known = |random: &mut Random, model: &Model| {
        let all: Vec<Ipv4Net> = model.routes.keys().copied().collect();
        (!all.is_empty()).then(|| *random.pick(&all))
    };
    match random.below(8) {
        // Routes of accounts' own prefixes come and go, too.
        kind @ 0..=4 => {
            let net = if kind == 0 {
                let owned: Vec<Ipv4Net> = model.accounts.keys().copied().collect();
                *random.pick(&owned)
            } else {
                prefix(random)
            };
            if let Some(old) = model.routes.remove(&net) {
                sandbox.engine.apply(Event::RouteGone(old), &mut Vec::new());
            }
            let action = match random.below(6) {
                0 => Action::Blackhole,
                1 => Action::Hops(vec![hop(out, GATEWAYS[0])?, hop(out, GATEWAYS[1])?]),
                _ => Action::Hops(vec![hop(out, GATEWAYS[random.below(2)])?]),
            };
            let new = route(&net.to_string(), action)?;
            model.routes.insert(net, new.clone());
            sandbox.announce(new);
        }
        _ => {
            if let Some(net) = known(random, model)
                && let Some(old) = model.routes.remove(&net)
            {
                sandbox.engine.apply(Event::RouteGone(old), &mut Vec::new());
            }
        }
    }
    // Slots are used again.
    while sandbox.engine.fib.wants_grace() || sandbox.engine.adjacencies.has_retired() {
        sandbox.engine.maintain();
        std::thread::yield_now();
        if random.below(4) == 0 {
            break;
        }
    }
    Ok(())
}

#[test]
fn whatever_routes_do_the_sums_are_what_was_forwarded() -> Result<()> {
    let mut random = Random::new(6);
    let mut sandbox = Sandbox::new(Sizes {
        slots: 512,
        sources: true,
        ..Sizes::SMALL
    })?;
    let inside = sandbox.interface("in0", COUNT_PAIRS | COUNT_SOURCES, 1500)?;
    let out = sandbox.interface("out0", 0, 1500)?;
    let old = sandbox.engine.view().interfaces.get(inside as usize);
    let counting = Interface {
        origin: UNCHECKED,
        ..old
    };
    sandbox.engine.view().interfaces.set(inside as usize, &counting);
    for gateway in GATEWAYS {
        sandbox.neighbour(out, gateway);
    }
    let mut model = Model::default();
    while model.accounts.len() < 24 {
        let account = 1 + random.below(9) as u32;
        model.accounts.insert(prefix(&mut random), account);
    }
    let owned = model.accounts.iter();
    let owned = owned.map(|(net, account)| (IpNet::V4(*net), *account as u8));
    sandbox.engine.set_accounts(Accounts::new(owned));
    let macs = (mac(inside), [2, 0, 0, 0, 0, 9]);
    for number in 0..STEPS {
        step(&mut random, &mut model, &mut sandbox, out)?;
        for _ in 0..8 {
            let (from, to) = (address(&mut random), address(&mut random));
            let data = 20 + random.below(100);
            let packet = with(udp4(macs, to.octets(), 64, data), 26, &from.octets());
            let (action, _) = sandbox.programs.run(inside, &packet)?;
            let forwarded = model.send(from, to, packet.len());
            ensure!(
                (action == 4) == forwarded,
                "step {number}: {from} to {to}: verdict {action}, and the routes say {forwarded}"
            );
        }
        let laid = |net: &&Ipv4Net| {
            sandbox
                .engine
                .fib
                .slot(sandbox.engine.view(), IpNet::V4(**net))
                .is_some()
        };
        for net in model.accounts.keys().filter(laid) {
            let counting = sandbox
                .engine
                .fib
                .is_counting(sandbox.engine.view(), IpNet::V4(*net));
            ensure!(
                counting != model.routes.contains_key(net),
                "step {number}: {net} counting {counting}"
            );
        }
    }
    let ledger = Ledger::read(sandbox.engine.view());
    let totals = ledger.totals();
    let port = sandbox.engine.view().interfaces.get(inside as usize).port as usize;
    let forwarded = ledger.reasons[port][Reason::Forwarded.index()];
    ensure!(forwarded.packets > 1000, "{forwarded:?}");
    ensure!(
        (totals.prefixes, totals.pairs, totals.forwarded) == (forwarded, forwarded, forwarded),
        "{totals:?}"
    );
    ensure!(
        totals.sources == model.with_source,
        "{totals:?}, {:?}",
        model.with_source
    );
    let cells: BTreeMap<u32, Counter> = (0..)
        .zip(ledger.pairs)
        .filter(|(_, counter)| counter.packets > 0)
        .collect();
    ensure!(cells == model.cells, "{cells:?}\nnot {:?}", model.cells);
    Ok(())
}
