//! Packets of several kinds sent through the router in turn, and how many of each arrive: what a filter takes out is missing,
//! and nothing else.
//!
//! They come in from host a and leave to host b. A packet that nobody filters goes behind every few others: what has not
//! arrived before it will not, so nothing is waited for in vain, and no queue on the way overflows.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    frame,
    lab::{LIMIT, Lab},
    packets::Wire,
    traffic::MACS,
};

/// Where the sources are.
const FROM4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FROM6: Ipv6Addr = Ipv6Addr::new(0x2a00, 0xffff, 0, 0, 0, 0, 0, 1);
/// The first number: so that nothing else that passes ends in one.
const FIRST: u64 = 0x666c_6f77_0000_0000;
/// Packets on the way at once.
const AT_ONCE: usize = 32;
/// Between two such lots of a flood, so that a machine with one CPU has some of it left for the daemons.
const PAUSE: Duration = Duration::from_micros(500);

/// Packets that are alike but for their number, which stands in their last octets.
#[derive(Clone, Debug)]
pub struct Kind {
    frame: Vec<u8>,
}

impl Kind {
    /// UDP to an address between these ports, with so many octets of data, at least 8.
    #[must_use]
    pub fn udp(to: IpAddr, ports: (u16, u16), data: usize) -> Kind {
        Kind::new(to, frame::UDP, &frame::udp(ports.0, ports.1, data))
    }

    /// TCP to an address between these ports: a segment of an established connection.
    #[must_use]
    pub fn tcp(to: IpAddr, ports: (u16, u16), data: usize) -> Kind {
        let ports = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        let rest = [0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 16, 0, 0, 0, 0, 0];
        let segment = [&ports[..], &rest[..], &vec![0x5a; data]].concat();
        Kind::new(to, frame::TCP, &segment)
    }

    fn new(to: IpAddr, protocol: u8, payload: &[u8]) -> Kind {
        let frame = match to {
            IpAddr::V4(to) => frame::ipv4(MACS, FROM4, to, protocol, 64, payload),
            IpAddr::V6(to) => frame::ipv6(MACS, FROM6, to, protocol, 64, payload),
        };
        Kind { frame }
    }

    /// Octets of each packet, as counters count them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.frame.len() as u64
    }

    fn numbered(&self, number: u64) -> Vec<u8> {
        let mut frame = self.frame.clone();
        let at = frame.len() - 8;
        frame[at..].copy_from_slice(&number.to_be_bytes());
        frame
    }
}

/// What became of a flood.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Packets sent.
    pub sent: u64,
    /// Packets that arrived.
    pub arrived: u64,
    /// From the first one sent to the last one that can have arrived.
    pub seconds: f64,
    /// Of that, when there may have been no packet for longer than the burst keeps what the rate earns.
    pub idle: f64,
}

/// Both ends of the way.
pub struct Volley {
    from: Wire,
    end: Wire,
    mark: Kind,
    number: AtomicU64,
}

impl Volley {
    /// From host a to host b, with packets of the kind `mark` behind each lot.
    ///
    /// # Errors
    /// As [`Lab::wire`].
    pub fn new(lab: &Lab, mark: Kind) -> Result<Volley> {
        Ok(Volley {
            from: lab.wire("a")?,
            end: lab.wire("b")?,
            mark,
            number: AtomicU64::new(FIRST),
        })
    }

    /// Sends so many packets of each kind, in turn. Answers how many of each arrived.
    ///
    /// # Errors
    /// One arrives otherwise than a router sends it on; or one of the marks does not arrive.
    pub fn send(&self, kinds: &[&Kind], each: usize) -> Result<Vec<u64>> {
        let mut arrived = vec![0; kinds.len()];
        let mut left: Vec<usize> = (0..each).flat_map(|_| 0..kinds.len()).collect();
        while !left.is_empty() {
            let lot: Vec<usize> = left.drain(..left.len().min(AT_ONCE)).collect();
            for kind in self.lot(kinds, &lot)? {
                arrived[kind] += 1;
            }
        }
        Ok(arrived)
    }

    /// Sends packets of a kind for as long, many more than `keeps` lets through: so long a burst keeps what a rate earns.
    ///
    /// # Errors
    /// As [`Volley::send`].
    pub fn flood(&self, kind: &Kind, time: Duration, keeps: Duration) -> Result<Flood> {
        let start = Instant::now();
        let (mut sent, mut arrived) = (0, 0);
        // When each lot was through. A packet of it met the rule at some time between two of these.
        let mut ends = vec![start];
        while start.elapsed() < time {
            arrived += self.lot(&[kind], &[0; AT_ONCE])?.len() as u64;
            sent += AT_ONCE as u64;
            ends.push(Instant::now());
            std::thread::sleep(PAUSE);
        }
        let idle: Duration = ends
            .windows(3)
            .map(|three| (three[2] - three[0]).saturating_sub(keeps))
            .sum();
        let last = ends.last().copied().unwrap_or(start);
        Ok(Flood {
            sent,
            arrived,
            seconds: (last - start).as_secs_f64(),
            idle: idle.as_secs_f64(),
        })
    }

    /// Sends packets of these kinds and a mark. Answers the kinds of those that arrived.
    fn lot(&self, kinds: &[&Kind], lot: &[usize]) -> Result<Vec<usize>> {
        let mut under_way = HashMap::new();
        let next = || self.number.fetch_add(1, Relaxed);
        for kind in lot {
            let number = next();
            let frame = kinds[*kind].numbered(number);
            self.from.send(&frame)?;
            under_way.insert(number, (*kind, frame));
        }
        let mark = next();
        let frame = self.mark.numbered(mark);
        self.from.send(&frame)?;
        under_way.insert(mark, (usize::MAX, frame));
        let mut arrived = Vec::new();
        loop {
            let ours = |frame: &[u8]| number(frame).is_some_and(|number| under_way.contains_key(&number));
            let got = self.end.receive(LIMIT, ours)?;
            let got = got.context("a packet that nobody filters is lost")?;
            let Some((kind, sent)) = number(&got).and_then(|number| under_way.remove(&number)) else {
                continue;
            };
            let wanted = frame::routed(&sent, [2, 0, 0, 0, 2, 2], [2, 0, 0, 0, 2, 1], sent.len());
            ensure!(got == wanted, "arrived as {got:02x?} and not as {wanted:02x?}");
            if kind == usize::MAX {
                break;
            }
            arrived.push(kind);
        }
        Ok(arrived)
    }
}

fn number(frame: &[u8]) -> Option<u64> {
    frame.last_chunk::<8>().map(|last| u64::from_be_bytes(*last))
}
