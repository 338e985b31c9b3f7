//! The side that writes: the controller's own compiler on the live tables, with the controller's own grace periods.

use std::{collections::HashMap, thread};

use anyhow::{Result, bail, ensure};
use forwarder::{
    daemon::engine::Engine,
    dataplane::{Sizes, Tables, kernel::KernelDataplane},
    fib::{Outcome, Provenance},
};

use crate::{
    progress::{Finish, Progress},
    script::{self, Script, Update},
};

/// So often the churner waits until the reader has run the program [`RUNS`] times more: on a busy machine one side could
/// otherwise pass the other by.
const PACE: usize = 512;
const RUNS: u64 = 256;
/// Blocks that one prefix can need.
const DEEPEST: usize = 13;

/// Packets counted for each prefix, over all the slots it ever had.
pub struct Accounts {
    /// Prefix, and what the slot had counted before it, for each slot ever given out.
    holders: HashMap<u32, (usize, u64)>,
    /// Packets by prefix.
    pub packets: Vec<u64>,
}

impl Accounts {
    /// A prefix was laid: what its slot counted up to the baseline belongs to whoever held it before.
    fn open(&mut self, tables: &Tables, slot: u32, prefix: usize) {
        let baseline = tables.slot_directory.get(slot as usize).baseline.packets;
        if let Some((before, from)) = self.holders.insert(slot, (prefix, baseline)) {
            self.packets[before] += baseline - from;
        }
    }

    fn close(&mut self, tables: &Tables) {
        for (slot, (prefix, from)) in self.holders.drain() {
            self.packets[prefix] += tables.slot_counter(slot).packets - from;
        }
    }
}

/// Plays the script.
///
/// # Errors
/// The compiler answers what it should not, or the reader has failed.
pub fn play(engine: &mut Engine<KernelDataplane>, script: &Script, progress: &Progress) -> Result<Accounts> {
    let _finish = Finish(progress);
    let mut accounts = Accounts {
        holders: HashMap::new(),
        packets: vec![0; script.prefixes.len()],
    };
    for (index, update) in script.updates.iter().enumerate() {
        if index % PACE == 0 {
            let enough = progress.runs() + RUNS;
            wait(engine, progress, |_| progress.runs() >= enough)?;
        }
        wait(engine, progress, has_room)?;
        one(engine, script, *update, progress, &mut accounts)?;
    }
    Ok(accounts)
}

fn one(
    engine: &mut Engine<KernelDataplane>,
    script: &Script,
    update: Update,
    progress: &Progress,
    accounts: &mut Accounts,
) -> Result<()> {
    let Engine { dataplane, fib, .. } = engine;
    let tables = forwarder::dataplane::Dataplane::tables(dataplane);
    let prefix = script.prefixes[update.prefix];
    let Some(variant) = update.variant else {
        progress.begin();
        let withdrawn = fib.withdraw(tables, prefix);
        progress.end();
        ensure!(withdrawn.is_some(), "{prefix} was not there to withdraw");
        return Ok(());
    };
    let before = fib.slot(tables, prefix);
    let group = script::group(update.prefix, variant);
    progress.begin();
    let outcome = fib.announce(tables, prefix, group, Provenance::default());
    progress.end();
    ensure!(outcome == Outcome::Installed, "{prefix} found no room");
    match (before, fib.slot(tables, prefix)) {
        (None, Some(slot)) => accounts.open(tables, slot, update.prefix),
        (before, after) => ensure!(
            before == after,
            "{prefix} moved from slot {before:?} to {after:?}"
        ),
    }
    Ok(())
}

/// Whether the next update is sure to fit.
fn has_room(engine: &Engine<KernelDataplane>) -> bool {
    let Sizes {
        slots,
        blocks4,
        blocks6,
        ..
    } = engine.view().sizes;
    let usage = engine.fib.usage();
    usage.slots + (forwarder::fib::slots::RESERVED as usize) < slots as usize
        && usage.blocks4 < blocks4 as usize
        && usage.blocks6 + DEEPEST <= blocks6 as usize
}

/// Does the controller's chores, at least once, until `ready`.
fn wait(
    engine: &mut Engine<KernelDataplane>,
    progress: &Progress,
    ready: impl Fn(&Engine<KernelDataplane>) -> bool,
) -> Result<()> {
    loop {
        engine.maintain();
        if ready(engine) {
            return Ok(());
        }
        if progress.is_over() {
            bail!("the reader has ended");
        }
        thread::yield_now();
    }
}

/// Closes the accounts and takes everything away: nothing may be left.
///
/// # Errors
/// Something is.
pub fn clear(engine: &mut Engine<KernelDataplane>, accounts: &mut Accounts) -> Result<()> {
    accounts.close(engine.view());
    let mut left = Vec::new();
    engine.fib.each(engine.view(), |prefix, _, _| left.push(prefix));
    for prefix in left {
        let tables = forwarder::dataplane::Dataplane::tables(&engine.dataplane);
        engine.fib.withdraw(tables, prefix);
    }
    while engine.fib.wants_grace() || forwarder::dataplane::Dataplane::grace_pending(&engine.dataplane) {
        engine.maintain();
        thread::yield_now();
    }
    let usage = engine.fib.usage();
    ensure!(
        (usage.slots, usage.blocks4, usage.blocks6) == (0, 0, 0),
        "everything is withdrawn, and yet in use: {usage:?}"
    );
    Ok(())
}
