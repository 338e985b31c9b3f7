//! The controller process: start, loop, stop.
//!
//! Stopping takes nothing away: the data path goes on, and when the heartbeat grows older than `max-age` it hands its
//! packets to the kernel. `forwarder detach` is the only thing that removes it.

pub mod engine;
mod gate;
pub mod interfaces;
pub mod keepalive;
pub mod ports;
mod publish;
pub mod state;

use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use tracing::{error, info, warn};

use self::{
    engine::{Demand, Engine},
    interfaces::Interfaces,
    keepalive::Keepalive,
    state::State,
};
use crate::{
    api::{Api, ApiContext},
    config::Config,
    dataplane::{
        Dataplane,
        attach::{self, Programs},
        kernel::KernelDataplane,
        pins::{Pins, network_namespace, possible_cpus},
    },
    netlink::{self, command::Commander},
    source::kernel::KernelSource,
    stats::{self, LinkStats},
};

/// What `run` is told.
pub struct RunOptions {
    /// The configuration.
    pub config: Config,
    /// Pin directory.
    pub bpffs: PathBuf,
    /// Socket of the API.
    pub socket: PathBuf,
}

/// How often heartbeat, grace periods, neighbours and state are looked at.
const TICK: Duration = Duration::from_millis(250);
/// A round of the loop that took longer than this may have left news unread.
const BEHIND: Duration = Duration::from_secs(1);
/// How often neighbours are looked at.
const NEIGHBOURS: Duration = Duration::from_secs(5);

/// Runs the controller until it is told to stop.
///
/// # Errors
/// It cannot start; what it had begun is undone. Or the kernel's news cannot be followed any more.
pub fn run(options: RunOptions) -> Result<()> {
    let pins = Pins::new(&options.bpffs);
    let _lock = pins.lock()?;
    // A set that an earlier controller left stays, whatever happens here; what this start makes goes if it fails.
    let adopted = pins.exist();
    let started = prepare(&pins, &options.config).and_then(|()| Controller::start(&pins, &options));
    let mut controller = match started {
        Ok(controller) => controller,
        Err(why) => {
            if !adopted && let Err(left) = pins.remove() {
                warn!("{left:#}");
            }
            return Err(why);
        }
    };
    let result = controller.follow();
    info!("stopped; the data path goes on");
    result
}

/// Takes everything out of the kernel. Answers what was removed.
///
/// # Errors
/// A controller runs, there is nothing, or a pin cannot be removed.
pub fn detach(bpffs: &Path) -> Result<DetachReport> {
    let pins = Pins::new(bpffs);
    // Of another version or damaged: the pins go all the same.
    let gateways = keepalive::gateways_of(&pins).unwrap_or_default();
    let removed = attach::detach_all(&pins)?;
    keepalive::let_go(&gateways);
    Ok(DetachReport { removed })
}

/// What `detach` removed.
#[derive(Debug, serde::Serialize)]
pub struct DetachReport {
    /// Pins, relative to the pin directory.
    pub removed: Vec<String>,
}

/// Makes the maps, or checks those that are there.
fn prepare(pins: &Pins, config: &Config) -> Result<()> {
    let netns = network_namespace()?;
    let sizes = config.tables.sizes(possible_cpus()?);
    if !pins.exist() {
        info!(mebibytes = sizes.memory() >> 20, "making the tables");
        return pins.create(sizes, netns);
    }
    let meta = pins.meta()?;
    if meta.netns != netns {
        bail!(
            "the pins in {} belong to another network namespace (net:[{}], this one is net:[{netns}]): \
             give this controller its own with --bpffs",
            pins.dir().display(),
            meta.netns
        );
    }
    if meta.cpus < sizes.cpus {
        bail!(
            "the pinned counters are for {} CPUs and there may be {} now: run `forwarder detach` and start again",
            meta.cpus,
            sizes.cpus
        );
    }
    let pinned = [
        meta.slots,
        meta.blocks4,
        meta.blocks6,
        meta.groups,
        meta.nexthops,
        meta.ports,
    ];
    let asked = [
        sizes.slots,
        sizes.blocks4,
        sizes.blocks6,
        sizes.groups,
        sizes.nexthops,
        sizes.ports,
    ];
    if pinned != asked {
        warn!("[tables] differs from the pinned tables, which stay as they are until `forwarder detach`");
    }
    info!("adopting the tables in {}", pins.dir().display());
    Ok(())
}

struct Controller {
    engine: Engine<KernelDataplane>,
    interfaces: Interfaces,
    keepalive: Keepalive,
    source: KernelSource,
    state: Arc<RwLock<State>>,
    stop: Arc<AtomicBool>,
    max_age: Duration,
    server: Option<std::thread::JoinHandle<()>>,
    /// The sums of law 2, from second to second.
    residues: stats::residue::Watch,
    link_stats: Arc<LinkStats>,
    /// The tables are known to be what the kernel says.
    true_since: Option<Instant>,
}

impl Controller {
    fn start(pins: &Pins, options: &RunOptions) -> Result<Controller> {
        let config = &options.config;
        let managed = keepalive::gateways_of(pins)?;
        let dataplane = KernelDataplane::open(pins)?;
        let programs = Programs::load(pins, dataplane.tables().sizes)?;
        let mut engine = Engine::new(dataplane)?;
        seed(&engine);
        let mut interfaces = Interfaces::new(config.clone(), programs)?;
        // Watch first, then dump.
        let mut source = KernelSource::open()?;
        let links = netlink::dump::dump_links()?;
        if interfaces.programs().attach_tracepoints()? {
            ports::rebase_egress(engine.view());
        }
        interfaces.start(&mut engine, &links)?;
        let stop = Arc::new(AtomicBool::new(false));
        let state = Arc::new(RwLock::new(publish::starting(config)));
        // The server answers while the first dump is read.
        let link_stats = driver_counts()?;
        let server = serve(
            pins,
            options,
            interfaces.programs(),
            Arc::clone(&state),
            Arc::clone(&link_stats),
            Arc::clone(&stop),
        )?;
        engine
            .load_from(|route| source.dump_streaming(route))
            .context("cannot read the kernel's routes")?;
        interfaces.describe(&mut engine);
        let mut controller = Controller {
            engine,
            interfaces,
            keepalive: Keepalive::new(managed),
            source,
            state,
            stop,
            max_age: config.routes.max_age,
            server: Some(server),
            residues: stats::residue::Watch::default(),
            link_stats,
            true_since: Some(Instant::now()),
        };
        controller.interfaces.survey();
        controller.heartbeat();
        controller.tell();
        let (v4, v6) = controller.engine.fib.len();
        info!(ipv4 = v4, ipv6 = v6, "forwarding");
        Ok(controller)
    }

    fn follow(&mut self) -> Result<()> {
        let mut neighbours = Instant::now();
        let mut told = Instant::now();
        let mut retry = None;
        // Stopped, starved or busy with a dump: news has piled up, and until it is read the tables may be wrong.
        let mut behind = true;
        let mut last = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            behind |= last.elapsed() > BEHIND;
            let batch = self.source.next(if behind { Duration::ZERO } else { TICK });
            behind &= !batch.events.is_empty();
            last = Instant::now();
            if batch.ended {
                self.finish();
                bail!(
                    "the kernel's route news can no longer be read. Packets go to the kernel when the heartbeat is older \
                     than {:?}; start the controller again",
                    self.max_age
                );
            }
            let mut demands = Vec::new();
            for event in batch.events {
                self.engine.apply(event, &mut demands);
            }
            let resync = demands.contains(&Demand::Resync) || retry.is_some_and(|at| Instant::now() >= at);
            if resync {
                retry = None;
                self.true_since = None;
                let source = &mut self.source;
                match self.engine.load_from(|route| source.dump_streaming(route)) {
                    Ok(()) => {
                        demands.push(Demand::Interface(0));
                        self.true_since = Some(Instant::now());
                    }
                    Err(why) => {
                        // No heartbeat until it works: the tables may be wrong.
                        error!("cannot read the kernel's routes: {why}; trying again");
                        retry = Some(Instant::now() + Duration::from_secs(1));
                    }
                }
            }
            if demands
                .iter()
                .any(|demand| matches!(demand, Demand::Interface(_)))
            {
                self.interfaces.reconcile(&mut self.engine);
            }
            if !demands.is_empty() {
                self.interfaces.describe(&mut self.engine);
            }
            self.engine.maintain();
            self.keepalive
                .gateways(&mut self.engine, self.interfaces.commands());
            if neighbours.elapsed() >= NEIGHBOURS {
                neighbours = Instant::now();
                self.keepalive.renew(&self.engine, self.interfaces.commands());
                self.keepalive.hosts(&self.engine, self.interfaces.commands());
                self.interfaces.survey();
                // Interfaces that could not be served, and sysctls whose change nobody announced.
                self.interfaces.reconcile(&mut self.engine);
                self.interfaces.describe(&mut self.engine);
            }
            if !behind {
                self.heartbeat();
            }
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                self.tell();
            }
        }
        self.finish();
        Ok(())
    }

    /// Stamps the heartbeat, as long as the tables are true.
    fn heartbeat(&self) {
        let settings = &self.engine.view().settings;
        settings
            .word(0, 8)
            .store(self.max_age.as_nanos() as u64, Ordering::Release);
        if self.true_since.is_some() {
            settings.word(0, 0).store(monotonic_ns(), Ordering::Release);
        }
    }

    fn tell(&mut self) {
        let mut problems: Vec<String> = self.interfaces.problems().values().cloned().collect();
        let rows = stats::interfaces(self.engine.view(), &Default::default(), &*self.link_stats);
        problems.extend(self.residues.observe(&rows));
        if let Ok(mut state) = self.state.write() {
            publish::fill(&mut state, &self.engine, self.true_since.is_some(), problems);
        }
    }

    fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Gives the flow hash a seed of its own, once: a new one would move every flow.
fn seed(engine: &Engine<KernelDataplane>) {
    let word = engine.view().settings.word(0, 16);
    let old = word.load(Ordering::Acquire);
    if old >> 32 == 0 {
        let random = RandomState::new().hash_one(SystemTime::now()) | 1 << 32;
        word.store(old & 0xffff_ffff | random & !0xffff_ffff, Ordering::Release);
    }
}

/// `CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_coarse_ns`.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: memory for the answer; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// What drivers say they received, by a socket of its own.
fn driver_counts() -> Result<Arc<LinkStats>> {
    let commands = Mutex::new(Commander::open()?);
    Ok(Arc::new(move |ifindex| {
        let mut commands = commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.link_stats(ifindex).ok().map(|stats| stats.rx_packets)
    }))
}

/// Starts the thread that serves API, metrics, signals and the program's log.
fn serve(
    pins: &Pins,
    options: &RunOptions,
    programs: &mut Programs,
    state: Arc<RwLock<State>>,
    link_stats: Arc<LinkStats>,
    stop: Arc<AtomicBool>,
) -> Result<std::thread::JoinHandle<()>> {
    let context = ApiContext {
        tables: Arc::new(pins.open(false)?),
        state,
        link_stats: Box::new(move |ifindex| link_stats(ifindex)),
    };
    let mut logger = aya_log::EbpfLogger::init(programs.ebpf()).ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("api")
        .enable_all()
        .build()
        .context("cannot start the API's threads")?;
    let (api, mut terminate) = runtime.block_on(async {
        let api = Api::bind(&options.socket, options.config.api.metrics).await?;
        let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .context("cannot watch for SIGTERM")?;
        Ok::<_, anyhow::Error>((api, terminate))
    })?;
    std::thread::Builder::new()
        .name("server".into())
        .spawn(move || {
            runtime.block_on(async move {
                let (end, ended) = tokio::sync::oneshot::channel::<()>();
                let server = tokio::spawn(api.serve(Arc::new(context), async {
                    let _ = ended.await;
                }));
                let mut tick = tokio::time::interval(TICK);
                while !stop.load(Ordering::Relaxed) {
                    tokio::select! {
                        _ = tokio::signal::ctrl_c() => stop.store(true, Ordering::Relaxed),
                        _ = terminate.recv() => stop.store(true, Ordering::Relaxed),
                        _ = tick.tick() => if let Some(logger) = &mut logger { logger.flush() },
                    }
                }
                let _ = end.send(());
                let _ = server.await;
            });
        })
        .context("cannot start the server thread")
}
