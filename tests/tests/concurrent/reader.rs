//! The side that reads: packets through the live program, every answer held against the script.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use forwarder::dataplane::{Tables, attach::Programs};
use forwarder_common::{counters::Counter, reason::Reason};
use forwarder_tests::{frame, ledger::Ledger, random::Random, sandbox::mac};

use crate::{
    interrupter::Interrupter,
    progress::Progress,
    script::{Answer, Script, Update},
};

const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// Destinations are drawn from the prefixes of updates this close to the one under way.
const AHEAD: usize = 4;
const BEHIND: usize = 2;

/// The MAC of a group's only next hop says which group it is.
pub fn mac_of(group: u32) -> [u8; 6] {
    let [high, low] = (group as u16).to_be_bytes();
    [0x02, 0xcd, 0, 0, high, low]
}

/// Where packets come in and where they leave.
#[derive(Clone, Copy)]
pub struct Ways {
    /// Index of the ingress interface.
    pub inside: u32,
    /// Its counters.
    pub port: u32,
    /// Index of the egress interface.
    pub outside: u32,
}

/// What was seen.
pub struct Seen {
    /// Runs of the program that were asked something.
    pub runs: u64,
    /// What the counters stood at before the first of them.
    pub before: Ledger,
    /// Those for which more than one answer was permissible.
    pub open: u64,
    /// Runs by group.
    pub groups: Vec<u64>,
    /// Runs by reason.
    pub reasons: [u64; Reason::SLOTS],
}

/// A packet, and what is to become of it.
struct Probe {
    packet: Vec<u8>,
    /// As it leaves, but for the destination MAC.
    routed: Vec<u8>,
}

/// The reader.
pub struct Reader<'a> {
    script: &'a Script,
    programs: &'a Programs,
    tables: &'a Tables,
    ways: Ways,
    probes: Vec<Probe>,
    /// The ingress port's counters after the last run.
    counted: [Counter; Reason::SLOTS],
    interrupter: Interrupter,
    random: Random,
    seen: Seen,
}

impl<'a> Reader<'a> {
    /// A reader that has run nothing yet. `tables` are its own view of the maps.
    ///
    /// # Errors
    /// The kernel has no timer for it.
    pub fn new(
        script: &'a Script,
        programs: &'a Programs,
        tables: &'a Tables,
        ways: Ways,
        seed: u64,
    ) -> Result<Reader<'a>> {
        let macs = (mac(ways.inside), [2, 0, 0, 0, 0, 9]);
        let probes: Vec<Probe> = script
            .destinations
            .iter()
            .map(|destination| {
                let packet = match destination.address {
                    IpAddr::V4(v4) => frame::udp4(macs, v4.octets(), 64, 8),
                    IpAddr::V6(v6) => frame::udp6(macs, v6, 64, 8),
                };
                let routed = frame::routed(&packet, [0; 6], mac(ways.outside), packet.len());
                Probe { packet, routed }
            })
            .collect();
        let packet = &probes[0].packet;
        let interrupter = Interrupter::new(|| programs.run(ways.inside, packet).map(|_| ()))?;
        Ok(Reader {
            script,
            programs,
            tables,
            ways,
            probes,
            counted: tables.reasons(ways.port),
            interrupter,
            random: Random::new(seed),
            seen: Seen {
                runs: 0,
                before: Ledger::read(tables),
                open: 0,
                groups: vec![0; tables.sizes.groups as usize],
                reasons: [0; Reason::SLOTS],
            },
        })
    }

    /// Asks until the churner is through, then once for everything.
    ///
    /// # Errors
    /// An answer that was never right while the program ran.
    pub fn read(mut self, progress: &Progress) -> Result<Seen> {
        while !progress.is_over() {
            let destination = self.choose(Progress::complete(progress.epoch()));
            self.ask(destination, progress)?;
            progress.ran();
        }
        for destination in 0..self.probes.len() {
            self.ask(destination, progress)?;
        }
        Ok(self.seen)
    }

    /// Mostly where the churner writes now, has just written or will write next.
    fn choose(&mut self, complete: usize) -> usize {
        let random = &mut self.random;
        let near = (complete + random.below(AHEAD + BEHIND)).saturating_sub(BEHIND);
        match self.script.updates.get(near) {
            Some(Update { prefix, .. }) if random.below(8) != 0 => *random.pick(&self.script.inside[*prefix]),
            _ => random.below(self.probes.len()),
        }
    }

    fn ask(&mut self, number: usize, progress: &Progress) -> Result<()> {
        let destination = &self.script.destinations[number];
        let before = progress.epoch();
        self.interrupter.strike(&mut self.random)?;
        let (action, out) = self.programs.run(self.ways.inside, &self.probes[number].packet)?;
        let after = progress.epoch();
        let answer = self
            .answer(number, action, &out)
            .with_context(|| format!("{}: verdict {action}", destination.address))?;
        let (first, last) = (Progress::complete(before), Progress::begun(after));
        let permitted = destination.permitted(first, last);
        ensure!(
            permitted.iter().any(|(_, right)| *right == answer),
            "{}: {answer:?} after {first} to {last} updates, when only these were right (from so many updates on): \
             {permitted:?}. The updates: {:?}",
            destination.address,
            self.script.updates[first.saturating_sub(3)..last.min(self.script.updates.len())]
                .iter()
                .map(|update| (self.script.prefixes[update.prefix], update))
                .collect::<Vec<_>>(),
        );
        self.seen.runs += 1;
        self.seen.open += u64::from(permitted.len() > 1);
        if let Answer::Group(group) = answer {
            self.seen.groups[group as usize] += 1;
        }
        Ok(())
    }

    /// What the verdict, the frame and the one counter that moved say together.
    fn answer(&mut self, number: usize, action: u32, out: &[u8]) -> Result<Answer> {
        let probe = &self.probes[number];
        let now = self.tables.reasons(self.ways.port);
        let moved = (0..Reason::SLOTS).filter(|index| now[*index] != self.counted[*index]);
        let moved: Vec<usize> = moved.collect();
        let [index] = moved[..] else {
            bail!("the counters of reasons {moved:?} moved, not of one");
        };
        let one = now[index].since(self.counted[index]);
        ensure!(
            (one.packets, one.bytes) == (1, probe.packet.len() as u64),
            "reason {index} counted {one:?}"
        );
        self.counted = now;
        self.seen.reasons[index] += 1;
        let reason = Reason::from_index(index).context("a reason that is none")?;
        match (action, reason) {
            (REDIRECT, Reason::Forwarded) => {
                let group = u32::from(out[4]) << 8 | u32::from(out[5]);
                ensure!(
                    out[..6] == mac_of(group) && out[6..] == probe.routed[6..],
                    "the frame left as {out:02x?}"
                );
                Ok(Answer::Group(group))
            }
            (DROP | PASS, _) if reason.policy() != forwarder_common::reason::Policy::Forward => {
                ensure!(
                    out == probe.packet,
                    "{} and yet changed: {out:02x?}",
                    reason.name()
                );
                Ok(Answer::Left(reason))
            }
            _ => bail!("counted as {}", reason.name()),
        }
    }
}
