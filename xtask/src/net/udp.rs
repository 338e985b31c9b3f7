//! Counted UDP: every datagram carries its number, so that loss and duplicates are known exactly.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::ns;

const MAGIC: u32 = 0x6677_6431;
/// Magic, flow, number.
const HEADER: usize = 16;
/// How long a receiver listens after the sender has stopped.
const DRAIN: Duration = Duration::from_millis(300);

/// One stream of datagrams from a node to one or many addresses.
#[derive(Debug, Clone)]
pub struct Flow {
    /// For people: `server-1 to internet-a, IPv4`.
    pub name: String,
    /// Namespace of the sender.
    pub from: PathBuf,
    /// Namespaces that may receive it; each listens on the port at every address.
    pub to: Vec<PathBuf>,
    /// Destinations, taken in turn.
    pub destinations: Vec<IpAddr>,
    /// UDP port, also what tells the flows of one receiver apart.
    pub port: u16,
    /// UDP port that it comes from; 0: any.
    pub source_port: u16,
    /// Datagrams per second.
    pub rate: u32,
    /// Payload bytes, at least 16.
    pub payload: usize,
}

/// What became of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The flow's name.
    pub name: String,
    /// Datagrams the sender's kernel took.
    pub sent: u64,
    /// Different datagrams that arrived.
    pub received: u64,
    /// Arrivals beyond the first of the same datagram.
    pub duplicates: u64,
    /// Longest time without an arrival while it was sent, milliseconds.
    pub longest_gap_ms: u64,
}

impl Report {
    /// Datagrams that never arrived.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// Flows that run until they are told to stop.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    flows: Vec<Threads>,
    done: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Threads {
    flow: Flow,
    /// Arrivals so far.
    arrived: Arc<AtomicU64>,
    sender: JoinHandle<Result<Sent>>,
    receivers: Vec<JoinHandle<Result<Received>>>,
}

#[derive(Debug)]
struct Sent {
    count: u64,
    from: Instant,
    until: Instant,
}

#[derive(Debug, Default)]
struct Received {
    seen: Bitmap,
    arrivals: Vec<Instant>,
    total: u64,
}

/// Starts receivers, then senders.
pub fn start(flows: Vec<Flow>) -> Result<Running> {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut running = Vec::new();
    for flow in flows {
        let mut receivers = Vec::new();
        let arrived = Arc::new(AtomicU64::new(0));
        for place in &flow.to {
            let socket = ns::run(place, || receiver_socket(&flow))?;
            let (done, arrived) = (Arc::clone(&done), Arc::clone(&arrived));
            let id = u32::from(flow.port);
            receivers.push(std::thread::spawn(move || receive(&socket, id, &arrived, &done)));
        }
        let socket = sender_socket(&flow).with_context(|| flow.name.clone())?;
        let (stop, copy) = (Arc::clone(&stop), flow.clone());
        let sender = std::thread::spawn(move || send(&socket, &copy, &stop));
        running.push(Threads {
            flow,
            arrived,
            sender,
            receivers,
        });
    }
    Ok(Running {
        stop,
        flows: running,
        done,
    })
}

impl Running {
    /// How many datagrams of each flow have arrived so far.
    pub fn arrived(&self) -> Vec<u64> {
        let each = self.flows.iter();
        each.map(|threads| threads.arrived.load(Ordering::Relaxed))
            .collect()
    }

    /// Stops the senders, waits for what is still on its way, and counts.
    pub fn stop(self) -> Result<Vec<Report>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for Threads {
            flow,
            sender,
            receivers,
            ..
        } in self.flows
        {
            let count = sender
                .join()
                .map_err(|_| anyhow!("the sender of {} panicked", flow.name))??;
            sent.push((flow, count, receivers));
        }
        std::thread::sleep(DRAIN);
        self.done.store(true, Ordering::Relaxed);
        let mut reports = Vec::new();
        for (flow, sent, receivers) in sent {
            let mut all = Received::default();
            for receiver in receivers {
                let part = receiver
                    .join()
                    .map_err(|_| anyhow!("a receiver of {} panicked", flow.name))??;
                all.seen.merge(&part.seen);
                all.total += part.total;
                all.arrivals.extend(part.arrivals);
            }
            // Silence at either end counts too.
            all.arrivals.extend([sent.from, sent.until]);
            all.arrivals.sort_unstable();
            let gap = all
                .arrivals
                .windows(2)
                .map(|pair| pair[1] - pair[0])
                .max()
                .unwrap_or_default();
            let received = all.seen.count();
            reports.push(Report {
                name: flow.name,
                sent: sent.count,
                received,
                duplicates: all.total - received,
                longest_gap_ms: gap.as_millis() as u64,
            });
        }
        Ok(reports)
    }
}

fn any(flow: &Flow) -> IpAddr {
    match flow.destinations.first() {
        Some(IpAddr::V6(_)) => IpAddr::from([0u16; 8]),
        _ => IpAddr::from([0u8; 4]),
    }
}

fn receiver_socket(flow: &Flow) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(any(flow), flow.port))
        .with_context(|| format!("{}: receiving on port {}", flow.name, flow.port))?;
    hold_much(&socket);
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

/// Has a socket keep what arrives while nobody reads: a receiver that does not get the CPU for a while must not look like
/// loss on the way.
pub fn hold_much(socket: &UdpSocket) {
    let bytes: libc::c_int = 16 << 20;
    // SAFETY: the option's value is a live c_int and its size is given; the descriptor is open.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

fn sender_socket(flow: &Flow) -> Result<UdpSocket> {
    ns::run(&flow.from, || {
        Ok(UdpSocket::bind(SocketAddr::new(any(flow), flow.source_port))?)
    })
}

fn send(socket: &UdpSocket, flow: &Flow, stop: &AtomicBool) -> Result<Sent> {
    let mut payload = vec![0xa5; flow.payload.max(HEADER)];
    payload[..4].copy_from_slice(&MAGIC.to_be_bytes());
    payload[4..8].copy_from_slice(&u32::from(flow.port).to_be_bytes());
    let started = Instant::now();
    let (mut tried, mut sent) = (0u64, 0u64);
    while !stop.load(Ordering::Relaxed) {
        // What is due by now, so that a late wake-up does not lower the rate; but never a burst of more than 50 ms.
        let due = (started.elapsed().as_secs_f64() * f64::from(flow.rate)) as u64;
        tried = tried.max(due.saturating_sub(u64::from(flow.rate) / 20));
        while tried < due {
            payload[8..16].copy_from_slice(&sent.to_be_bytes());
            let destination = flow.destinations[(tried % flow.destinations.len() as u64) as usize];
            // A refused send (no route, no buffer) is not a packet lost on the way: it is not numbered.
            if socket
                .send_to(&payload, SocketAddr::new(destination, flow.port))
                .is_ok()
            {
                sent += 1;
            }
            tried += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Sent {
        count: sent,
        from: started,
        until: Instant::now(),
    })
}

fn receive(socket: &UdpSocket, id: u32, arrived: &AtomicU64, done: &AtomicBool) -> Result<Received> {
    let mut received = Received::default();
    let mut buffer = vec![0; 9_000];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length)
                if length >= HEADER
                    && buffer[..4] == MAGIC.to_be_bytes()
                    && buffer[4..8] == id.to_be_bytes() =>
            {
                let mut number = [0; 8];
                number.copy_from_slice(&buffer[8..16]);
                received.seen.insert(u64::from_be_bytes(number));
                received.total += 1;
                arrived.fetch_add(1, Ordering::Relaxed);
                received.arrivals.push(Instant::now());
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if done.load(Ordering::Relaxed) {
                    return Ok(received);
                }
            }
            Err(error) => return Err(error).context("receiving"),
        }
    }
}

/// Numbers seen; a number past any sane count is a damaged packet and ignored.
#[derive(Debug, Default)]
struct Bitmap(Vec<u64>);

impl Bitmap {
    fn insert(&mut self, number: u64) {
        let word = (number / 64) as usize;
        if word < 1 << 24 {
            if self.0.len() <= word {
                self.0.resize(word + 1, 0);
            }
            self.0[word] |= 1 << (number % 64);
        }
    }

    fn merge(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_once() {
        let mut a = Bitmap::default();
        for n in [0, 1, 64, 1, 1_000_000] {
            a.insert(n);
        }
        let mut b = Bitmap::default();
        b.insert(64);
        b.insert(65);
        a.merge(&b);
        assert_eq!(a.count(), 5);
        a.insert(u64::MAX);
        assert_eq!(a.count(), 5);
    }
}
