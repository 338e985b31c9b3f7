//! Octets of something in each sample, both ways.

use std::collections::HashMap;

use super::{Trouble, samples::Samples};
use crate::{Direction, Kind, Reader, SeriesId, Which};

/// What series make up something that is asked about.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Series whose octets are in one of the directions.
    pub series: Vec<(SeriesId, Direction)>,
}

impl Target {
    /// What is in another is in this one, too.
    pub fn join(&mut self, other: &Target) {
        self.series.extend(&other.series);
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
    let length = samples.samples.len();
    reader.look_through(2 * (length * targets.len()) as u64)?;
    let mut curves = vec![
        Curve {
            received: vec![0; length],
            sent: vec![0; length],
        };
        targets.len()
    ];
    let mut users: HashMap<Kind, HashMap<u32, Vec<(usize, Direction)>>> = HashMap::new();
    for (index, target) in targets.iter().enumerate() {
        for (series, direction) in &target.series {
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
