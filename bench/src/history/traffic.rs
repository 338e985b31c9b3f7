//! Traffic made up for the history: a full table of which some prefixes are active in each interval.
//!
//! Flows to prefix number r come as a Poisson process whose rate falls with r to the power of [`SKEW`], and follows the time of
//! day; so some prefixes always have traffic and most hardly ever. A flow has a Pareto number of packets (a few, sometimes a
//! million) and a size of packets between acknowledgements and full frames. With [`ACTIVE`] active prefixes of 1.2 million that
//! is 4,000 flows a second. Octets are those of Ethernet frames without FCS.

use crate::random::Random;

/// Zipf's exponent. With 1.0, 70,000 active prefixes would be a few Mbit/s.
const SKEW: f64 = 1.3;
/// Prefixes that have traffic in an interval, each way, on the average of a day.
pub const ACTIVE: usize = 70_000;
/// Pareto's exponent of packets in a flow.
const TAIL: f64 = 1.15;
/// Most packets of a flow in an interval.
const LONGEST: f64 = 1e6;
/// Above so many flows in an interval, that many are drawn and stand for the others.
const DRAWN: f64 = 256.0;

/// What a prefix has in an interval.
pub struct Counted {
    /// Its number.
    pub prefix: u32,
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

/// Makes intervals.
pub struct Traffic {
    random: Random,
    /// Flows of each prefix in an interval.
    rates: Vec<f64>,
    /// Sum of the rates up to each of those that are below one.
    seldom: Vec<f64>,
    /// Where those begin.
    often: usize,
    /// Packets for each that a flow has: how much traffic there is.
    volume: f64,
}

impl Traffic {
    /// Of so many prefixes; `volume` times as many packets in each flow.
    pub fn new(prefixes: usize, volume: f64, seed: u64) -> Traffic {
        let active = |scale: f64| -> f64 {
            (1..=prefixes)
                .map(|rank| 1.0 - (-scale * (rank as f64).powf(-SKEW)).exp())
                .sum()
        };
        let wanted = (ACTIVE as f64).min(prefixes as f64 * 0.9);
        let (mut low, mut high) = (1.0, 1e12);
        for _ in 0..60 {
            let middle = f64::sqrt(low * high);
            if active(middle) < wanted {
                low = middle;
            } else {
                high = middle;
            }
        }
        let rates: Vec<f64> = (1..=prefixes)
            .map(|rank| low * (rank as f64).powf(-SKEW))
            .collect();
        let often = rates.iter().position(|rate| *rate < 1.0).unwrap_or(prefixes);
        let mut sum = 0.0;
        let seldom = rates[often..]
            .iter()
            .map(|rate| {
                sum += rate;
                sum
            })
            .collect();
        Traffic {
            random: Random::new(seed),
            rates,
            seldom,
            often,
            volume,
        }
    }

    /// The interval at this place of a day of 288.
    pub fn interval(&mut self, at: u32) -> Vec<Counted> {
        let hour = f64::from(at) / 288.0 * std::f64::consts::TAU;
        let busy = 1.0 - 0.5 * hour.cos();
        let mut counted = Vec::with_capacity(2 * ACTIVE);
        for prefix in 0..self.often {
            let rate = self.rates[prefix] * busy;
            self.prefix(prefix as u32, rate, &mut counted);
        }
        // Each flow of the others chooses its prefix.
        let total = self.seldom.last().copied().unwrap_or(0.0);
        let flows = self.poisson(total * busy) as usize;
        let mut chosen: Vec<u32> = (0..flows)
            .map(|_| {
                let place = self.unit() * total;
                (self.often + self.seldom.partition_point(|sum| *sum < place)) as u32
            })
            .collect();
        chosen.sort_unstable();
        for same in chosen.chunk_by(|a, b| a == b) {
            self.flows(same[0], same.len() as f64, &mut counted);
        }
        counted
    }

    fn prefix(&mut self, prefix: u32, rate: f64, counted: &mut Vec<Counted>) {
        let flows = self.poisson(rate);
        if flows >= 1.0 {
            self.flows(prefix, flows, counted);
        }
    }

    fn flows(&mut self, prefix: u32, flows: f64, counted: &mut Vec<Counted>) {
        let drawn = flows.min(DRAWN);
        let (mut packets, mut bytes) = (0.0, 0.0);
        for _ in 0..drawn as u32 {
            let length = (self.unit().powf(-1.0 / TAIL) * self.volume)
                .clamp(1.0, LONGEST)
                .floor();
            // Requests and acknowledgements, or data; a little of each in every flow.
            let size = if self.unit() < 0.4 {
                60.0 + 60.0 * self.unit()
            } else {
                1_514.0 - 900.0 * self.unit() * self.unit()
            };
            packets += length;
            bytes += length * size;
        }
        let rest = flows / drawn;
        // No two intervals of what is left out are the same.
        let jitter = if rest > 1.0 {
            1.0 + 0.02 * (self.unit() - 0.5)
        } else {
            1.0
        };
        counted.push(Counted {
            prefix,
            packets: (packets * rest * jitter) as u64,
            bytes: (bytes * rest * jitter) as u64,
        });
    }

    /// Between zero, excluded, and one.
    fn unit(&mut self) -> f64 {
        ((self.random.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn poisson(&mut self, rate: f64) -> f64 {
        if rate > 30.0 {
            let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
            return (rate + rate.sqrt() * normal).round().max(0.0);
        }
        let (end, mut product, mut events) = ((-rate).exp(), self.unit(), 0.0);
        while product > end {
            product *= self.unit();
            events += 1.0;
        }
        events
    }
}
