//! Flow samples: one in so many packets that came in, told to collectors as sFlow and as IPFIX.
//!
//! The program takes them (`forwarder_common::sample`); here they are read, filled with what the tables know ([`fill`]), and sent. A
//! thread of its own does all of it. It reads the maps as anybody may and shares nothing with the controller's loop: a
//! collector that does not answer, or is not there, concerns nobody else.
//!
//! Samples are taken while somebody is there to read them: the controller has them taken when this has begun, and no longer
//! when it stops. After a SIGKILL they fill the ring buffer and are lost, which is counted, until the next controller
//! comes.

pub mod datagram;
pub mod export;
pub mod fill;
pub mod ipfix;
pub mod packet;
pub mod ring;
pub mod sflow;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use tracing::warn;

use self::{
    datagram::Datagram,
    export::Collector,
    ring::Ring,
    sflow::{Interface, Origin, Pool},
};
use crate::{
    clock,
    config::SamplesConfig,
    daemon::{
        ports,
        state::{SampleProtocol, SamplesState},
    },
    dataplane::{Tables, pins::Pins},
    locked::locked,
    netlink::{command::Commander, ethtool},
};

/// How often the ring buffer is looked at: it holds the samples of a fiftieth of a second three hundred thousand times a second.
const LOOK: Duration = Duration::from_millis(20);
/// Samples of a round at most, so that a flood leaves time for the rest.
const ROUND: usize = 8192;
/// Milliseconds that a sample waits for others to go with it.
const WAIT: u64 = 250;
/// Milliseconds between counter samples (the usual interval of sFlow).
const COUNTERS: u64 = 30_000;
/// Milliseconds between templates.
const TEMPLATES: u64 = 60_000;
/// Milliseconds between looks at how things stand.
const TELL: u64 = 1_000;

/// It, while it runs.
pub struct Running {
    /// How it stands.
    pub told: Arc<Mutex<SamplesState>>,
    /// Its thread.
    pub thread: JoinHandle<()>,
}

/// Starts it.
///
/// # Errors
/// The maps cannot be opened, or no thread begins.
pub fn start(pins: &Pins, config: SamplesConfig, own_as: u32, stop: Arc<AtomicBool>) -> Result<Running> {
    let mut ring = Ring::open(pins)?;
    // What an earlier controller left is of another time.
    while ring.take().is_some() {}
    let exporter = Exporter::new(pins.open(false)?, config, own_as, clock::boot_milliseconds());
    let told = Arc::new(Mutex::new(exporter.state()));
    let place = Arc::clone(&told);
    let commands = Commander::open().context("cannot ask for interfaces")?;
    let thread = std::thread::Builder::new()
        .name("samples".into())
        .spawn(move || run(exporter, ring, commands, &place, &stop))
        .context("cannot start the thread of flow samples")?;
    Ok(Running { told, thread })
}

fn run(
    mut exporter: Exporter,
    mut ring: Ring,
    mut commands: Commander,
    told: &Mutex<SamplesState>,
    stop: &AtomicBool,
) {
    let (mut tell, mut counters, mut flush) = (0, 0, 0);
    let mut missing = Vec::new();
    loop {
        // Asked before the ring: what was taken until then is still told.
        let last = stop.load(Ordering::Relaxed);
        let now = clock::boot_milliseconds();
        exporter.connect(now);
        let epoch = fill::epoch();
        for _ in 0..ROUND {
            let Some(sample) = ring.take() else { break };
            exporter.sample(sample, epoch, now);
        }
        if now >= counters {
            counters = now + COUNTERS;
            let interfaces = exporter.interfaces(&mut commands);
            exporter.counters(&interfaces, now);
        }
        if now >= flush || last {
            flush = now + WAIT;
            exporter.flush(now);
        }
        if now >= tell || last {
            tell = now + TELL;
            let state = exporter.state();
            warn_of(&state, &mut missing);
            *locked(told) = state;
        }
        if last {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Says once of each collector why it cannot be reached.
fn warn_of(state: &SamplesState, said: &mut Vec<String>) {
    for collector in &state.collectors {
        if let Some(why) = &collector.last_error
            && !said.contains(&collector.address)
        {
            warn!("flow samples do not reach {}: {why}", collector.address);
            said.push(collector.address.clone());
        }
    }
}

/// Everything between ring buffer and sockets.
struct Exporter {
    tables: Tables,
    config: SamplesConfig,
    collectors: Vec<Collector>,
    sflow: sflow::Encoder,
    ipfix: ipfix::Encoder,
    /// When it began, milliseconds since the machine did.
    began: u64,
    /// When templates are said again.
    templates: u64,
    /// What interfaces have of samples, in this round; by port.
    pools: HashMap<u32, Pool>,
}

impl Exporter {
    fn new(tables: Tables, config: SamplesConfig, own_as: u32, now: u64) -> Exporter {
        let of = |protocol, addresses: &[_]| -> Vec<Collector> {
            addresses
                .iter()
                .map(|address| Collector::new(protocol, *address))
                .collect()
        };
        let mut collectors = of(SampleProtocol::Sflow, &config.sflow);
        collectors.extend(of(SampleProtocol::Ipfix, &config.ipfix));
        Exporter {
            sflow: sflow::Encoder::new(config.domain, own_as),
            ipfix: ipfix::Encoder::new(config.domain, config.rate),
            tables,
            config,
            collectors,
            began: now,
            templates: 0,
            pools: HashMap::new(),
        }
    }

    fn connect(&mut self, now: u64) {
        for collector in &mut self.collectors {
            collector.connect(now);
        }
        self.pools.clear();
        if !self.config.ipfix.is_empty() && now >= self.templates {
            self.templates = now + TEMPLATES;
            let message = self.ipfix.templates(clock::unix_seconds() as u32);
            self.send(SampleProtocol::Ipfix, Some(message));
        }
    }

    fn sample(&mut self, sample: forwarder_common::sample::Sample, epoch: Duration, now: u64) {
        let flow = fill::fill(&self.tables, sample, epoch);
        if !self.config.sflow.is_empty() {
            let port = flow.sample.port;
            let pool = *self.pools.entry(port).or_insert_with(|| pool(&self.tables, port));
            let datagram = self.sflow.flow(&flow, pool, self.origin(now));
            self.send(SampleProtocol::Sflow, datagram);
        }
        if !self.config.ipfix.is_empty() {
            let message = self.ipfix.flow(&flow, clock::unix_seconds() as u32);
            self.send(SampleProtocol::Ipfix, message);
        }
    }

    /// What there is to tell of the interfaces that are served.
    fn interfaces(&self, commands: &mut Commander) -> Vec<Interface> {
        if self.config.sflow.is_empty() {
            return Vec::new();
        }
        ports::used(&self.tables)
            .filter(|(_, entry)| matches!(entry.state, ports::NATIVE | ports::GENERIC))
            .filter_map(|(_, entry)| {
                let ifindex = entry.ifindex;
                Some(Interface {
                    ifindex,
                    speed: ethtool::speed(ifindex),
                    counts: commands.link_stats(ifindex).ok()?,
                })
            })
            .collect()
    }

    fn counters(&mut self, interfaces: &[Interface], now: u64) {
        for interface in interfaces {
            let datagram = self.sflow.counters(interface, self.origin(now));
            self.send(SampleProtocol::Sflow, datagram);
        }
    }

    fn flush(&mut self, now: u64) {
        let datagram = self.sflow.finish(self.origin(now));
        self.send(SampleProtocol::Sflow, datagram);
        let messages: Vec<Datagram> = self.ipfix.finish(clock::unix_seconds() as u32).collect();
        for message in messages {
            self.send(SampleProtocol::Ipfix, Some(message));
        }
    }

    /// The router's address is the configured one, or that which the first collector sees.
    fn origin(&self, now: u64) -> Origin {
        let seen = || self.collectors.iter().find_map(Collector::local);
        Origin {
            agent: self.config.agent.or_else(seen).unwrap_or(IpAddr::from([0; 4])),
            uptime: now.saturating_sub(self.began) as u32,
        }
    }

    fn send(&mut self, protocol: SampleProtocol, datagram: Option<Datagram>) {
        let Some(datagram) = datagram else { return };
        for collector in &mut self.collectors {
            if collector.protocol() == protocol {
                collector.send(&datagram);
            }
        }
    }

    fn state(&self) -> SamplesState {
        SamplesState {
            rate: self.config.rate,
            header: self.config.header,
            collectors: self
                .collectors
                .iter()
                .map(|collector| collector.state().clone())
                .collect(),
        }
    }
}

fn pool(tables: &Tables, port: u32) -> Pool {
    if port >= tables.sizes.ports {
        return Pool::default();
    }
    Pool {
        packets: ports::received(tables, port),
        lost: tables.samples(port).lost,
    }
}
