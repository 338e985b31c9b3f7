//! Numbered packets between the servers and the net, while something happens: which arrived, where, and how often.

use std::{
    collections::BTreeMap,
    net::{IpAddr, UdpSocket},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use forwarder_tests::{lab::Lab, packets::Wire, twins::Twins};

/// Between two packets of a flow.
pub const PACE: Duration = Duration::from_millis(10);
const PORT: u16 = 5005;
/// What a packet begins with that is one of these.
const MARK: &[u8; 7] = b"journey";
/// How long the last packets may take.
const LATE: Duration = Duration::from_secs(2);

/// Who sends to whom.
#[derive(Clone, Copy)]
pub struct Flow {
    /// For a person.
    pub name: &'static str,
    /// In the first lab or the second, and the node there.
    from: (usize, &'static str),
    source: &'static str,
    to: &'static str,
}

const fn flow(
    name: &'static str,
    from: (usize, &'static str),
    source: &'static str,
    to: &'static str,
) -> Flow {
    Flow {
        name,
        from,
        source,
        to,
    }
}

/// By both routers, both ways, both families.
pub const FLOWS: [Flow; 8] = [
    flow("server A to 33.1", (0, "c"), "192.0.2.11", "33.1.0.9"),
    flow("server A to 33.2", (0, "c"), "192.0.2.11", "33.2.0.9"),
    flow("server B to 33.1", (1, "c"), "192.0.2.12", "33.1.0.9"),
    flow("server A to 2a1f:1", (0, "c"), "2001:db8:1::11", "2a1f:1::9"),
    flow("server B to 2a1f:2", (1, "c"), "2001:db8:1::12", "2a1f:2::9"),
    flow("net to server A", (0, "a"), "33.1.0.9", "192.0.2.11"),
    flow("net to server B", (0, "a"), "33.2.0.9", "192.0.2.12"),
    flow("net to server B, IPv6", (0, "a"), "2a1f:2::9", "2001:db8:1::12"),
];

/// What became of the packets of a flow.
#[derive(Default, Debug)]
pub struct Tally {
    /// Packets that the sender's kernel took.
    pub sent: u64,
    /// How often each arrived, by its number.
    pub arrived: BTreeMap<u64, u32>,
}

impl Tally {
    /// Packets that did not arrive.
    pub fn lost(&self) -> u64 {
        self.sent - self.arrived.len() as u64
    }

    /// Packets that arrived more than once.
    pub fn twice(&self) -> usize {
        self.arrived.values().filter(|copies| **copies > 1).count()
    }

    /// The most packets in a row that did not arrive, before one that did.
    pub fn silence(&self) -> u64 {
        let mut next = 0;
        let gap = |number: &u64| {
            let gap = number - next;
            next = number + 1;
            gap
        };
        self.arrived.keys().map(gap).max().unwrap_or(self.sent)
    }
}

/// A journey that is under way.
pub struct Journey<'a> {
    lab: &'a Lab,
    arrivals: &'a [AtomicU64; FLOWS.len()],
}

impl Journey<'_> {
    /// Waits until so many more packets of every flow have arrived.
    pub fn flows(&self, more: u64) -> Result<()> {
        let before: Vec<u64> = self.arrivals.iter().map(|count| count.load(Relaxed)).collect();
        let mut waited = Ok(());
        // The lab's limit is for what takes a moment; a hold time and an emulated processor take longer.
        for _ in 0..4 {
            waited = self.lab.wait(&format!("{more} more packets of every flow"), || {
                let now = self.arrivals.iter().map(|count| count.load(Relaxed));
                let all = now.zip(&before).all(|(now, before)| now >= before + more);
                Ok(all.then_some(()))
            });
            if waited.is_ok() {
                break;
            }
        }
        let moved = self.arrivals.iter().zip(&before).zip(FLOWS);
        let moved: Vec<String> = moved
            .map(|((now, before), flow)| format!("{}: {}", flow.name, now.load(Relaxed) - before))
            .collect();
        waited.with_context(|| moved.join(", "))
    }
}

/// Does something while packets of every flow travel.
///
/// # Errors
/// What is done fails, or a socket does.
pub fn under<T>(twins: &Twins, work: impl FnOnce(&Journey<'_>) -> Result<T>) -> Result<(T, Vec<Tally>)> {
    let labs = twins.both();
    let arrivals: [AtomicU64; FLOWS.len()] = Default::default();
    let tallies: Mutex<Vec<Tally>> = Mutex::new(FLOWS.iter().map(|_| Tally::default()).collect());
    let (stop, quiet) = (AtomicBool::new(false), AtomicBool::new(false));
    let ends = [(0, "a", "ta"), (0, "a", "tb"), (0, "c", "net0"), (1, "c", "net0")];
    let wires: Vec<Wire> = ends
        .iter()
        .map(|(lab, node, name)| labs[*lab].inside(node, || Wire::open(name)))
        .collect::<Result<_>>()?;
    // Somebody must be there, or each packet is answered with an error.
    let sinks: Vec<UdpSocket> = [(0, "a"), (0, "c"), (1, "c")]
        .iter()
        .map(|(lab, node)| labs[*lab].inside(node, || Ok(UdpSocket::bind(("::", PORT))?)))
        .collect::<Result<_>>()?;
    let result = std::thread::scope(|scope| {
        let receivers: Vec<_> = wires
            .iter()
            .map(|wire| {
                let (arrivals, tallies, quiet) = (&arrivals, &tallies, &quiet);
                scope.spawn(move || receive(wire, arrivals, tallies, quiet))
            })
            .collect();
        let senders: Vec<_> = (0..FLOWS.len())
            .map(|number| {
                let (stop, tallies, lab) = (&stop, &tallies, labs[FLOWS[number].from.0]);
                scope.spawn(move || lab.inside(FLOWS[number].from.1, || send(number, tallies, stop)))
            })
            .collect();
        let result = work(&Journey {
            lab: labs[0],
            arrivals: &arrivals,
        });
        stop.store(true, Relaxed);
        let mut ended = Vec::new();
        ended.extend(senders.into_iter().map(|thread| thread.join()));
        std::thread::sleep(LATE);
        quiet.store(true, Relaxed);
        ended.extend(receivers.into_iter().map(|thread| thread.join()));
        for thread in ended {
            thread.map_err(|_| anyhow!("a thread of the journey panicked"))??;
        }
        result
    });
    drop(sinks);
    let tallies = tallies
        .into_inner()
        .map_err(|_| anyhow!("a thread of the journey panicked"))?;
    for (flow, tally) in FLOWS.iter().zip(&tallies) {
        println!(
            "  {:24} sent {:5}  lost {:4}  twice {}  longest silence {} ms",
            flow.name,
            tally.sent,
            tally.lost(),
            tally.twice(),
            u128::from(tally.silence()) * PACE.as_millis()
        );
    }
    let pictures = || labs.map(Lab::picture).concat();
    Ok((result.with_context(pictures)?, tallies))
}

/// Waits a moment for each packet, so that nothing is left in a queue that is too small for a whole journey.
fn receive(
    wire: &Wire,
    arrivals: &[AtomicU64; FLOWS.len()],
    tallies: &Mutex<Vec<Tally>>,
    quiet: &AtomicBool,
) -> Result<()> {
    while !quiet.load(Relaxed) {
        let moment = Duration::from_millis(50);
        let Some(frame) = wire.receive(moment, |frame| read(frame).is_some())? else {
            continue;
        };
        let Some((flow, number)) = read(&frame) else {
            continue;
        };
        let mut tallies = tallies
            .lock()
            .map_err(|_| anyhow!("a thread of the journey panicked"))?;
        *tallies[flow].arrived.entry(number).or_default() += 1;
        arrivals[flow].fetch_add(1, Relaxed);
    }
    Ok(())
}

/// The flow and the number in a frame of a journey.
fn read(frame: &[u8]) -> Option<(usize, u64)> {
    let payload = match frame.get(12..14)? {
        [0x08, 0x00] => 14 + 20 + 8,
        [0x86, 0xdd] => 14 + 40 + 8,
        _ => return None,
    };
    let (mark, rest) = frame.get(payload..payload + 16)?.split_at(MARK.len());
    let (flow, number) = rest.split_first()?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    (mark == MARK && usize::from(*flow) < FLOWS.len()).then_some((usize::from(*flow), number))
}

fn send(flow: usize, tallies: &Mutex<Vec<Tally>>, stop: &AtomicBool) -> Result<()> {
    let Flow { source, to, .. } = FLOWS[flow];
    let source: IpAddr = source.parse()?;
    let to: IpAddr = to.parse()?;
    let socket = UdpSocket::bind((source, 0)).with_context(|| source.to_string())?;
    let mut number = 0u64;
    while !stop.load(Relaxed) {
        let payload = [&MARK[..], &[flow as u8], &number.to_be_bytes()].concat();
        // A sender without a route has sent nothing, and tries again.
        if socket.send_to(&payload, (to, PORT)).is_ok() {
            number += 1;
        }
        std::thread::sleep(PACE);
    }
    tallies
        .lock()
        .map_err(|_| anyhow!("a thread of the journey panicked"))?[flow]
        .sent = number;
    Ok(())
}
