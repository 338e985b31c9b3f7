//! What the tests share: a directory of their own, and made-up traffic.
#![allow(dead_code, reason = "each test uses some of it")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use forwarder_history::{Direction, History, Interval, Kind, Reader, Sample, Series, Value, Which};

/// A directory that goes with it.
pub struct Directory(PathBuf);

impl Directory {
    /// A fresh one.
    pub fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "forwarder-history-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        // In memory where that can be: what waits for the disk is not what is tested.
        let memory = Path::new("/dev/shm");
        let path = if memory.is_dir() {
            memory.join(name)
        } else {
            std::env::temp_dir().join(name)
        };
        fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// xorshift.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One below that.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A prefix by its number.
pub fn prefix(number: u32, direction: Direction) -> Series {
    let address = std::net::Ipv4Addr::from(0x0b00_0000 + number * 256);
    Series::Prefix {
        prefix: ipnet::IpNet::new(address.into(), 24).expect("a length"),
        direction,
    }
}

/// An interval in which these counted so many packets and octets.
pub fn interval(history: &mut History, start: i64, counted: &[(Series, u64, u64)]) -> Interval {
    let samples = counted
        .iter()
        .map(|(series, packets, bytes)| Sample {
            series: history.series_id(series).expect("a number"),
            packets: *packets,
            bytes: *bytes,
        })
        .collect();
    Interval {
        start,
        milliseconds: 300_000,
        samples,
    }
}

/// Everything of a kind, in order, with names instead of numbers.
pub fn everything(reader: &Reader, kind: Kind) -> Vec<(i64, String, u64, u64)> {
    let names = reader.series(kind).expect("names");
    let mut all = Vec::new();
    reader
        .read(kind, Which::All, 0..=i64::MAX, |value: Value| {
            all.push((value.seq, names[&value.id].name(), value.packets, value.bytes));
        })
        .expect("samples");
    all.sort();
    all
}
