//! Traffic through the router while something happens to it: every packet is waited for, and looked at, before the next is
//! sent, so that one that is lost or changed is noticed when it is.
//!
//! Packets come in from host a; the ends are hosts b and c.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{
    frame,
    lab::{LIMIT, Lab},
    operator::forwarded,
    packets::{self, Wire},
};

/// MACs of a frame from host a to the router.
pub const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]);
/// Where packets may arrive, by the number of the cable.
const ENDS: [(&str, u8); 2] = [("b", 2), ("c", 3)];
/// Between two packets, so that a test that runs for long on one CPU leaves some of it to the daemons.
const PAUSE: Duration = Duration::from_micros(500);
/// A packet that may be lost is, after this.
const GONE: Duration = Duration::from_millis(500);

/// A packet to an address with a number in it.
#[must_use]
pub fn packet(to: IpAddr, number: u64) -> Vec<u8> {
    let payload = [&frame::udp(1024, 53, 0)[..], &number.to_be_bytes()].concat();
    let mut payload = payload;
    payload[5] = payload.len() as u8;
    match to {
        IpAddr::V4(to) => frame::ipv4(MACS, Ipv4Addr::new(192, 0, 2, 1), to, frame::UDP, 64, &payload),
        IpAddr::V6(to) => {
            let from = "2a00:ffff::1".parse().expect("an address");
            frame::ipv6(MACS, from, to, frame::UDP, 64, &payload)
        }
    }
}

/// How many packets to each destination have arrived at b and c.
pub type Arrived = Vec<[u64; 2]>;

/// Traffic that flows.
pub struct Traffic<'a> {
    lab: &'a Lab,
    counts: &'a [[AtomicU64; 2]],
    lost: &'a AtomicU64,
    over: &'a AtomicBool,
}

impl Traffic<'_> {
    /// What has arrived so far.
    #[must_use]
    pub fn arrived(&self) -> Arrived {
        read(self.counts)
    }

    /// Packets that did not arrive, where that may happen.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Waits until so many more have arrived for every destination; answers how many did at each end meanwhile.
    ///
    /// # Errors
    /// A packet was lost.
    pub fn flow(&self, more: u64) -> Result<Arrived> {
        let before = self.arrived();
        let since = || -> Arrived {
            let now = self.arrived();
            let moved = now.iter().zip(&before);
            moved
                .map(|(now, then)| [now[0] - then[0], now[1] - then[1]])
                .collect()
        };
        self.lab.wait(&format!("{more} more packets"), || {
            ensure!(!self.over.load(Relaxed), "the traffic has ended");
            let moved = since();
            Ok(moved.iter().all(|[b, c]| b + c > more).then_some(moved))
        })
    }
}

/// Does something while packets flow to each of these in turn. Answers what that answers, and how many packets to each
/// destination arrived where.
///
/// # Errors
/// What is done fails; or a packet is lost, arrives where it should not, or otherwise than a router sends it on.
pub fn under<T>(
    lab: &Lab,
    destinations: &[&str],
    work: impl FnOnce(&Traffic<'_>) -> Result<T>,
) -> Result<(T, Arrived)> {
    run(lab, destinations, None, work)
}

/// The same where packets may be lost because a cable is cut: one that has not arrived after half a second is.
///
/// # Errors
/// As [`under`].
pub fn under_losses<T>(
    lab: &Lab,
    destinations: &[&str],
    work: impl FnOnce(&Traffic<'_>) -> Result<T>,
) -> Result<(T, Arrived)> {
    run(lab, destinations, Some(GONE), work)
}

/// Every packet that arrived was forwarded by the program, which had forwarded so many from host a before.
///
/// # Errors
/// Some went another way.
pub fn all_forwarded(lab: &Lab, before: i64, arrived: &Arrived) -> Result<()> {
    let sent: u64 = arrived.iter().flatten().sum();
    let counted = forwarded(lab, "a")? - before;
    ensure!(
        counted == sent as i64,
        "sent {sent}, forwarded {counted}: {arrived:?}\n{}",
        lab.picture()
    );
    Ok(())
}

fn run<T>(
    lab: &Lab,
    destinations: &[&str],
    gone: Option<Duration>,
    work: impl FnOnce(&Traffic<'_>) -> Result<T>,
) -> Result<(T, Arrived)> {
    let to: Vec<IpAddr> = destinations
        .iter()
        .map(|text| text.parse().with_context(|| (*text).to_string()))
        .collect::<Result<_>>()?;
    let counts: Vec<[AtomicU64; 2]> = to.iter().map(|_| Default::default()).collect();
    let from = lab.wire("a")?;
    let ends = [lab.wire(ENDS[0].0)?, lab.wire(ENDS[1].0)?];
    let (done, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let lost = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| {
            let result = stream(&from, [&ends[0], &ends[1]], &to, &counts, (gone, &lost), &done);
            over.store(true, Relaxed);
            result
        });
        let traffic = Traffic {
            lab,
            counts: &counts,
            lost: &lost,
            over: &over,
        };
        let result = work(&traffic);
        done.store(true, Relaxed);
        // A packet that was lost is the reason of whatever came of it.
        stream
            .join()
            .map_err(|_| anyhow!("the stream panicked"))?
            .with_context(|| lab.picture())?;
        Ok((result.with_context(|| lab.picture())?, read(&counts)))
    })
}

fn stream(
    from: &Wire,
    ends: [&Wire; 2],
    to: &[IpAddr],
    counts: &[[AtomicU64; 2]],
    (gone, lost): (Option<Duration>, &AtomicU64),
    done: &AtomicBool,
) -> Result<()> {
    let mut number = 0;
    while !done.load(Relaxed) {
        for (address, count) in to.iter().zip(counts) {
            number += 1;
            match try_cross(from, ends, *address, number, gone.unwrap_or(LIMIT))? {
                Some(end) => count[end].fetch_add(1, Relaxed),
                None if gone.is_some() => lost.fetch_add(1, Relaxed),
                None => bail!("packet {number}, to {address}, is lost"),
            };
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Sends one packet and answers at which end it arrived.
///
/// # Errors
/// It is lost, or not as a router sends it on.
pub fn cross(from: &Wire, ends: [&Wire; 2], to: IpAddr, number: u64) -> Result<usize> {
    try_cross(from, ends, to, number, LIMIT)?.with_context(|| format!("a packet to {to} is lost"))
}

fn try_cross(
    from: &Wire,
    ends: [&Wire; 2],
    to: IpAddr,
    number: u64,
    limit: Duration,
) -> Result<Option<usize>> {
    let sent = packet(to, number);
    from.send(&sent)?;
    // Behind the Ethernet header, the addresses and what follows them stay what they are.
    let rest = if to.is_ipv4() { 26 } else { 22 };
    let ours =
        |frame: &[u8]| frame.get(12..14) == Some(&sent[12..14]) && frame.get(rest..) == Some(&sent[rest..]);
    let Some((end, got)) = packets::first(&ends, limit, ours)? else {
        return Ok(None);
    };
    let cable = ENDS[end].1;
    let wanted = frame::routed(&sent, [2, 0, 0, 0, cable, 2], [2, 0, 0, 0, cable, 1], sent.len());
    ensure!(
        got == wanted,
        "packet {number}, to {to}, arrived as {got:02x?} and not as {wanted:02x?}"
    );
    Ok(Some(end))
}

fn read(counts: &[[AtomicU64; 2]]) -> Arrived {
    let read = |count: &[AtomicU64; 2]| [count[0].load(Relaxed), count[1].load(Relaxed)];
    counts.iter().map(read).collect()
}
