//! What was logged, for tests of what an operator reads.

use std::io::{self, Write};
use std::sync::{Mutex, Once};

use tracing_subscriber::fmt;

use crate::locked::locked;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static START: Once = Once::new();

struct Sink;

impl Write for Sink {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        locked(&LOG).extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what is logged from now on, by every test of this process.
pub fn keep() {
    START.call_once(|| {
        let log = fmt::Subscriber::builder().with_ansi(false).with_writer(|| Sink);
        // Another test may have a log of its own.
        let _ = tracing::subscriber::set_global_default(log.finish());
    });
}

/// The lines so far that have all of these words.
pub fn lines(words: &[&str]) -> Vec<String> {
    let log = locked(&LOG);
    let text = String::from_utf8_lossy(&log);
    let all = text
        .lines()
        .filter(|line| words.iter().all(|word| line.contains(word)));
    all.map(str::to_owned).collect()
}
