//! Blackhole routes, with what each throws away now and when it last did: that tells when an attack has ended.

use std::collections::HashSet;

use super::meter::Meter;
use crate::{
    dataplane::Tables,
    stats::{self, BlackholeRow},
};

/// What they counted when they were looked at last, by next-hop id.
#[derive(Default)]
pub struct Blackholes(Meter<u32>);

impl Blackholes {
    /// Every blackhole route, by prefix; `elapsed` seconds since this was asked last.
    pub fn rows(&mut self, tables: &Tables, now: u32, elapsed: f64) -> Vec<BlackholeRow> {
        let all = stats::blackholes(tables);
        let known: HashSet<u32> = all.iter().map(|(id, ..)| *id).collect();
        self.0.keep(|id| known.contains(id));
        let row = |(id, prefix, counter)| {
            let pace = self.0.read(id, counter, now, elapsed);
            BlackholeRow {
                prefix,
                packets: counter.packets,
                bytes: counter.bytes,
                packets_per_second: pace.packets,
                bytes_per_second: pace.bytes,
                last_hit_seconds_ago: pace.last_hit,
            }
        };
        let mut rows: Vec<BlackholeRow> = all.into_iter().map(row).collect();
        rows.sort_by_key(|row| (row.prefix.is_none(), row.prefix));
        rows
    }
}
