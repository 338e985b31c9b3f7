//! Packets to random prefixes, in bursts, and books of each: it arrived, at either carrier and octet for octet as a router sends it on; or
//! it did not, and that is nobody's fault where a link was down at any moment between its being sent and its being given up; or it
//! is lost. One that arrives twice is an error, and so is one that is changed.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use xtask::table::Route;

use crate::{
    frame,
    lab::Lab,
    packets::{self, Wire},
    random::Random,
    traffic::packet,
};

/// Packets that are under way together.
const BURST: usize = 32;
/// One of which nothing is heard for so long is given up.
const GONE: Duration = Duration::from_secs(2);
/// Between two bursts, so that the controller has a CPU on a small machine.
const PAUSE: Duration = Duration::from_millis(3);
/// Losses that are kept by name.
const NAMED: usize = 20;

/// Moments at which a link is down: odd while one is. A packet is excused when this was odd or moved while it was under way.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<AtomicU64>);

impl Faults {
    /// A link is about to go down, or has come back and is in use again.
    pub fn turn(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    fn now(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

/// A packet that is lost.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Its number.
    pub number: u64,
    /// Where it was for.
    pub to: IpAddr,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet {} to {}", self.number, self.to)
    }
}

/// The books.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Packets sent.
    pub sent: u64,
    /// Arrived at b and at c.
    pub arrived: [u64; 2],
    /// Not arrived, where a link was down meanwhile.
    pub excused: u64,
    /// Not arrived otherwise: the first of them.
    pub lost: Vec<Loss>,
    /// Not arrived otherwise, all.
    pub missing: u64,
}

/// Packets that flow until they are stopped.
pub struct Traffic {
    /// When links are down.
    pub faults: Faults,
    books: Arc<Mutex<Books>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Traffic {
    /// Begins.
    ///
    /// # Errors
    /// No socket.
    pub fn start(lab: &Lab, prefixes: Vec<Route>) -> Result<Traffic> {
        let from = lab.wire("a")?;
        let ends = [lab.wire("b")?, lab.wire("c")?];
        let (faults, books, done) = (
            Faults::default(),
            Arc::<Mutex<Books>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let mut stream = Stream {
            from,
            ends,
            prefixes,
            random: Random::new(7),
            faults: faults.clone(),
            books: Arc::clone(&books),
            given_up: HashMap::new(),
        };
        let over = Arc::clone(&done);
        let thread = std::thread::Builder::new()
            .name("traffic".into())
            .spawn(move || {
                while !over.load(SeqCst) {
                    stream.burst()?;
                    std::thread::sleep(PAUSE);
                }
                Ok(())
            })?;
        Ok(Traffic {
            faults,
            books,
            done,
            thread: Some(thread),
        })
    }

    /// The books so far.
    #[must_use]
    pub fn books(&self) -> Books {
        self.books
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Whether it ended before it was stopped: something was wrong with a packet.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops, and answers the books.
    ///
    /// # Errors
    /// A packet arrived twice, or changed.
    pub fn stop(mut self) -> Result<Books> {
        self.done.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(self.books())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.done.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Stream {
    from: Wire,
    ends: [Wire; 2],
    prefixes: Vec<Route>,
    random: Random,
    faults: Faults,
    books: Arc<Mutex<Books>>,
    /// What was given up and may come yet, with whether it was excused.
    given_up: HashMap<u64, (IpAddr, Vec<u8>, bool)>,
}

impl Stream {
    fn burst(&mut self) -> Result<()> {
        let first = self.read(|books| books.sent) + 1;
        let fault = self.faults.now();
        let mut under_way = HashMap::new();
        for number in first..first + BURST as u64 {
            let to = self.address();
            let sent = packet(to, number);
            self.from.send(&sent)?;
            under_way.insert(number, (to, sent));
        }
        let mut arrived = [0; 2];
        while !under_way.is_empty() {
            let ends = [&self.ends[0], &self.ends[1]];
            let Some((end, got)) = packets::first(&ends, GONE, is_ours)? else {
                break;
            };
            let number = number_of(&got);
            let (to, sent) = match under_way.remove(&number) {
                Some(known) => known,
                None => {
                    let (to, sent, excused) = self
                        .given_up
                        .remove(&number)
                        .with_context(|| format!("packet {number} arrived twice"))?;
                    self.write(|books| {
                        if excused {
                            books.excused -= 1
                        } else {
                            books.missing -= 1
                        }
                    });
                    (to, sent)
                }
            };
            let cable = 2 + end as u8;
            let wanted = frame::routed(&sent, [2, 0, 0, 0, cable, 2], [2, 0, 0, 0, cable, 1], sent.len());
            ensure!(
                got == wanted,
                "packet {number}, to {to}, arrived as {got:02x?} and not as {wanted:02x?}"
            );
            arrived[end] += 1;
        }
        let now = self.faults.now();
        let excused = fault != now || now % 2 == 1;
        self.write(|books| {
            books.sent += BURST as u64;
            books.arrived[0] += arrived[0];
            books.arrived[1] += arrived[1];
            let count = under_way.len() as u64;
            if excused {
                books.excused += count;
                return;
            }
            books.missing += count;
            for (number, (to, _)) in &under_way {
                if books.lost.len() < NAMED {
                    books.lost.push(Loss {
                        number: *number,
                        to: *to,
                    });
                }
            }
        });
        self.given_up.extend(
            under_way
                .into_iter()
                .map(|(number, (to, sent))| (number, (to, sent, excused))),
        );
        if self.given_up.len() > 1 << 20 {
            bail!("a million packets are lost");
        }
        Ok(())
    }

    /// An address in a prefix of the table; a longer one may cover it, too.
    fn address(&mut self) -> IpAddr {
        let route = *self.random.pick(&self.prefixes);
        let bits = self.random.wide();
        match route.address {
            IpAddr::V4(address) => {
                let hosts = u32::MAX.checked_shr(route.length.into()).unwrap_or(0);
                IpAddr::V4((u32::from(address) | bits as u32 & hosts).into())
            }
            IpAddr::V6(address) => {
                let hosts = u128::MAX.checked_shr(route.length.into()).unwrap_or(0);
                IpAddr::V6((u128::from(address) | bits & hosts).into())
            }
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Books) -> T) -> T {
        look(
            &self
                .books
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    fn write(&self, change: impl FnOnce(&mut Books)) {
        change(
            &mut self
                .books
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }
}

/// By the source that all of them have ([`packet`]).
fn is_ours(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.len() == 50 && frame.get(26..30) == Some(&[192, 0, 2, 1]),
        Some([0x86, 0xdd]) => {
            frame.len() == 70 && frame.get(22..26) == Some(&[0x2a, 0, 0xff, 0xff]) && frame[20] == frame::UDP
        }
        _ => false,
    }
}

/// What stands at its end.
fn number_of(frame: &[u8]) -> u64 {
    frame
        .last_chunk()
        .map_or(0, |octets: &[u8; 8]| u64::from_be_bytes(*octets))
}
