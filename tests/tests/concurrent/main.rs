//! No reader ever sees anything but the old or the new answer.
//!
//! The program that is shipped runs on one CPU, over and over, while the compiler lays, changes and takes away nested
//! prefixes of both families on another: blocks are made, collapse and are used again after grace periods. What may be
//! answered at any moment is known beforehand ([`script`]); an epoch tells the reader which moments a run can have seen
//! ([`progress`]). Every prefix has next hops of its own, so a frame says whose it was, and in the end the counters of
//! every slot, next hop and reason must say the same.

mod churner;
mod interrupter;
mod progress;
mod reader;
mod script;

use std::thread;

use anyhow::{Context, Result, ensure};
use forwarder::{cpus, dataplane::Sizes};
use forwarder_common::{
    nexthop::{EXACT_LENGTH, Group, NextHop},
    reason::Reason,
};
use forwarder_tests::{
    ledger::Ledger,
    sandbox::{Sandbox, mac},
};

use self::{
    progress::{Finish, Progress},
    reader::{Reader, Seen, Ways},
    script::{Answer, Script, VARIANTS},
};

const UPDATES: usize = 200_000;
const SEED: u64 = 0x0f0e_0d0c;

#[test]
fn no_reader_sees_anything_but_the_old_or_the_new_answer() -> Result<()> {
    let seed = match std::env::var("FORWARDER_TEST_SEED") {
        Ok(text) => text.parse().context("FORWARDER_TEST_SEED")?,
        Err(_) => SEED,
    };
    println!("FORWARDER_TEST_SEED={seed}");
    let script = Script::new(seed, UPDATES)?;
    let sizes = Sizes {
        slots: 4096,
        blocks4: 1024,
        blocks6: 4096,
        nexthops: 1024,
        ..Sizes::SMALL
    };
    let mut sandbox = Sandbox::new(sizes)?;
    sandbox.stamp(0, 0);
    let ways = lay_groups(&mut sandbox, &script)?;
    let view = sandbox.pins.open(false)?;

    let cpus = cpus::ours()?;
    if cpus.len() < 2 {
        println!("ONE CPU ONLY: reader and churner interleave by preemption alone, which finds far less");
    }
    let (first, second) = (cpus[0], cpus[cpus.len().min(2) - 1]);
    let progress = Progress::default();
    let programs = &sandbox.programs;
    let (accounts, seen) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let _finish = Finish(&progress);
            cpus::tie(&[first])?;
            Reader::new(&script, programs, &view, ways, seed + 1)?.read(&progress)
        });
        let accounts = cpus::tie(&[second])
            .map_err(Into::into)
            .and_then(|()| churner::play(&mut sandbox.engine, &script, &progress));
        progress.finish();
        (accounts, reader.join())
    });
    // A wrong answer explains why the churner stopped; so it comes first.
    let seen = seen.map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let mut accounts = accounts?;
    println!(
        "{} updates, {} runs, {} of them with more than one permissible answer",
        script.updates.len(),
        seen.runs,
        seen.open
    );

    churner::clear(&mut sandbox.engine, &mut accounts)?;
    settle(&script, &Ledger::read(&view), &accounts.packets, &seen)?;
    for reason in [
        Reason::Forwarded,
        Reason::NoRoute,
        Reason::Blackhole,
        Reason::Unreachable,
    ] {
        ensure!(seen.reasons[reason.index()] > 0, "never {}", reason.name());
    }
    ensure!(
        cpus.len() < 2 || seen.open > seen.runs / 1000,
        "the two sides hardly met: {} of {} runs",
        seen.open,
        seen.runs
    );
    Ok(())
}

/// A next hop and a group for every variant of every prefix, and a way in and out.
fn lay_groups(sandbox: &mut Sandbox, script: &Script) -> Result<Ways> {
    let inside = sandbox.interface("in0", 0, 1500)?;
    let outside = sandbox.interface("out0", 0, 1500)?;
    let port = |ifindex| {
        let served = sandbox.engine.world.links.served(ifindex);
        Ok::<_, anyhow::Error>(served.context("not served")?.port)
    };
    let (port_in, port_out) = (port(inside)?, port(outside)?);
    let tables = sandbox.engine.view();
    for prefix in 0..script.prefixes.len() {
        for variant in 0..VARIANTS {
            let hop = match script::answer(prefix, variant) {
                Answer::Left(reason) => NextHop::special(reason),
                Answer::Group(group) => NextHop {
                    destination: NextHop::destination_word(reader::mac_of(group), Reason::Forwarded),
                    source: NextHop::source_word(mac(outside), 0),
                    ifindex: outside,
                    mtu: 1500,
                    port: port_out,
                    flags: EXACT_LENGTH,
                    device: outside as u16,
                    inner: 0,
                },
            };
            let (id, group) = (script::nexthop(prefix, variant), script::group(prefix, variant));
            tables.nexthops.set(id as usize, &hop);
            tables.groups.set(group as usize, &Group::single(id as u16));
        }
    }
    Ok(Ways {
        inside,
        port: u32::from(port_in),
        outside,
    })
}

/// Every packet was counted once, and where it belongs.
fn settle(script: &Script, ledger: &Ledger, by_prefix: &[u64], seen: &Seen) -> Result<()> {
    let (totals, before) = (ledger.totals(), seen.before.totals());
    let forwarded = seen.reasons[Reason::Forwarded.index()];
    for (what, packets, now, then) in [
        ("the ports received", seen.runs, totals.received, before.received),
        (
            "the ports forwarded",
            forwarded,
            totals.forwarded,
            before.forwarded,
        ),
        ("the prefixes", forwarded, totals.prefixes, before.prefixes),
        ("the next hops", forwarded, totals.nexthops, before.nexthops),
        ("the egress", forwarded, totals.egress, before.egress),
    ] {
        let counted = now.since(then).packets;
        ensure!(counted == packets, "{packets} packets, {what} {counted}");
    }
    let mut discarded = 0;
    for (prefix, net) in script.prefixes.iter().enumerate() {
        let mut own = 0;
        for variant in 0..VARIANTS {
            let packets = seen.groups[script::group(prefix, variant) as usize];
            let counted = ledger.nexthops[script::nexthop(prefix, variant) as usize].packets;
            if script::answer(prefix, variant) == Answer::Left(Reason::Blackhole) {
                discarded += counted;
                continue;
            }
            ensure!(
                counted == packets,
                "{net}: {packets} went to next hop {variant}, which counted {counted}"
            );
            own += packets;
        }
        ensure!(
            by_prefix[prefix] == own,
            "{net}: {own} packets followed it, its slots counted {}",
            by_prefix[prefix]
        );
    }
    let blackholes = seen.reasons[Reason::Blackhole.index()];
    ensure!(
        discarded == blackholes,
        "{blackholes} packets met a blackhole, their next hops counted {discarded}"
    );
    Ok(())
}
