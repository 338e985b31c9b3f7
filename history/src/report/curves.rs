//! Octets of something in each sample, both ways.

use std::collections::HashMap;

use super::{Trouble, samples::Samples};
use crate::{Direction, Kind, Reader, SeriesId, Which};

/// What series make up something that is asked about.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Series whose octets are in one of the directions.
    pub series: Vec<(SeriesId, Direction)>,
    /// Interfaces that are part of it.
    pub interfaces: Vec<Interface>,
}

/// An interface, which two count: its driver, and the program.
///
/// Drivers do not agree on what an octet is: some leave the Ethernet header out of what they receive (veth), some have the FCS in it, some
/// do not count what leaves by XDP. The program counts whole frames without FCS on every one. But it does not see all that is sent, nor
/// anything while it is not attached. So of what was received a sample is the program's, unless the driver has more by a quarter of that:
/// more than header and FCS can be, so the program was not there. Of what was sent it is the larger of the two.
#[derive(Clone, Debug, Default)]
pub struct Interface {
    /// What its driver counts.
    pub driver: Vec<(SeriesId, Direction)>,
    /// What the program does.
    pub program: Vec<(SeriesId, Direction)>,
}

impl Target {
    /// What is in another is in this one, too.
    pub fn join(&mut self, other: &Target) {
        self.series.extend(&other.series);
        self.interfaces.extend(other.interfaces.iter().cloned());
    }
}

/// What was received in a sample, by the driver's count and by the program's.
fn received(driver: u64, program: u64) -> u64 {
    if driver > program.saturating_add(program / 4) {
        driver
    } else {
        program
    }
}

/// Its octets in each sample.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// In.
    pub received: Vec<u64>,
    /// Out.
    pub sent: Vec<u64>,
}

impl Curve {
    /// One direction.
    pub fn way(&self, direction: Direction) -> &[u64] {
        match direction {
            Direction::In => &self.received,
            Direction::Out => &self.sent,
        }
    }

    /// One direction as bits a second.
    pub fn rates<'a>(&'a self, samples: &'a Samples, direction: Direction) -> impl Iterator<Item = u64> + 'a {
        let octets = self.way(direction).iter();
        octets
            .zip(&samples.samples)
            .map(|(octets, sample)| sample.rate(*octets))
    }

    /// All octets.
    pub fn sum(&self, direction: Direction) -> u64 {
        self.way(direction)
            .iter()
            .fold(0, |sum, octets| sum.saturating_add(*octets))
    }
}

/// The curves of several things, reading each series once.
pub fn curves(reader: &Reader, samples: &Samples, targets: &[Target]) -> Result<Vec<Curve>, Trouble> {
    let lists = targets.iter().flat_map(|target| {
        let interfaces = target.interfaces.iter();
        let both = interfaces.flat_map(|interface| [&interface.driver, &interface.program]);
        [&target.series].into_iter().chain(both)
    });
    let mut counted = counted(reader, samples, &lists.collect::<Vec<_>>())?.into_iter();
    let mut next = || counted.next().unwrap_or_default();
    Ok(targets
        .iter()
        .map(|target| {
            let mut curve = next();
            for _ in &target.interfaces {
                let (driver, program) = (next(), next());
                add(&mut curve.received, &driver.received, &program.received, received);
                add(&mut curve.sent, &driver.sent, &program.sent, u64::max);
            }
            curve
        })
        .collect())
}

/// Adds what one of two have counted, sample by sample.
fn add(sums: &mut [u64], driver: &[u64], program: &[u64], which: fn(u64, u64) -> u64) {
    for (sum, (driver, program)) in sums.iter_mut().zip(driver.iter().zip(program)) {
        *sum = sum.saturating_add(which(*driver, *program));
    }
}

/// The curves of several lists of series.
fn counted(
    reader: &Reader,
    samples: &Samples,
    lists: &[&Vec<(SeriesId, Direction)>],
) -> Result<Vec<Curve>, Trouble> {
    let length = samples.samples.len();
    reader.look_through(2 * (length * lists.len()) as u64)?;
    let mut curves = vec![
        Curve {
            received: vec![0; length],
            sent: vec![0; length],
        };
        lists.len()
    ];
    let mut users: HashMap<Kind, HashMap<u32, Vec<(usize, Direction)>>> = HashMap::new();
    for (index, series) in lists.iter().enumerate() {
        for (series, direction) in *series {
            let kind = users.entry(series.kind()).or_default();
            kind.entry(series.id()).or_default().push((index, *direction));
        }
    }
    for (kind, users) in users {
        let mut ids: Vec<u32> = users.keys().copied().collect();
        ids.sort_unstable();
        reader.read(kind, Which::Only(&ids), samples.seqs(), |value| {
            let Some(place) = samples.place(value.seq) else {
                return;
            };
            for (index, direction) in users.get(&value.id).into_iter().flatten() {
                let curve = &mut curves[*index];
                let octets = match direction {
                    Direction::In => &mut curve.received[place],
                    Direction::Out => &mut curve.sent[place],
                };
                *octets = octets.saturating_add(value.bytes);
            }
        })?;
    }
    Ok(curves)
}

/// All octets of every series of a kind, by number.
pub fn totals(reader: &Reader, samples: &Samples, kind: Kind) -> Result<HashMap<u32, u64>, Trouble> {
    let mut totals: HashMap<u32, u64> = HashMap::new();
    reader.read(kind, Which::All, samples.seqs(), |value| {
        if samples.place(value.seq).is_some() {
            let total = totals.entry(value.id).or_default();
            *total = total.saturating_add(value.bytes);
        }
    })?;
    Ok(totals)
}
