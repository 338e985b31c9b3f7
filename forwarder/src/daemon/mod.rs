//! The controller process: start, loop, stop.
//!
//! Stopping takes nothing away: the data path goes on, and when the heartbeat grows older than `max-age` it hands its
//! packets to the kernel. `forwarder detach` is the only thing that removes it.

pub mod accounts;
mod asks;
mod blackholes;
mod bogons;
pub(crate) mod bypass;
mod describe;
mod doubt;
pub mod engine;
pub mod feeds;
pub mod gate;
pub mod interfaces;
pub mod keepalive;
mod meter;
pub mod ports;
mod publish;
mod reload;
mod rule_room;
mod rule_slots;
pub mod rules;
mod sampler;
mod serve;
mod service;
pub mod state;
pub mod stations;
mod succession;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use tracing::{error, info, warn};

use self::{
    asks::Ask,
    blackholes::Blackholes,
    bogons::Bogons,
    engine::{Demand, Engine},
    feeds::Feeds,
    interfaces::Interfaces,
    keepalive::Keepalive,
    reload::Reload,
    rules::{Neighbours, Rules},
    serve::{Known, driver_counts, serve},
    service::Service,
    state::State,
    succession::{Prepared, Succession},
};
use crate::{
    change::begin::{Beginning, Told},
    clock,
    config::{Config, InterfaceConfig, SamplesConfig, Source, SourceCheck},
    dataplane::{
        Dataplane,
        attach::{self, Programs},
        kernel::KernelDataplane,
        pins::{DEFAULT_BPFFS, Pins},
        succession::Found,
    },
    fib::Readings,
    locked::locked,
    netlink, privileges,
    punt::follow::Follower,
    samples,
    shadow::{self, Shadow},
    source::{feed::FeedId, kernel::KernelSource},
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
    /// Packets are only decided about, and all passed to the kernel.
    pub dry_run: bool,
    /// Where to keep what feeds read.
    pub record: Option<PathBuf>,
    /// The file of the configuration and how this process began; none where interfaces were named in its place.
    pub beginning: Option<(PathBuf, Told, Beginning)>,
}

/// How the loop ended.
enum End {
    /// It was told to stop.
    Stop,
    /// To begin again with another configuration.
    Reload,
}

/// How often heartbeat, grace periods, neighbours and state are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Tables that are not known to have been true for longer than this do not take the place of others.
const BEHIND: Duration = Duration::from_secs(1);
/// How often neighbours are looked at.
const NEIGHBOURS: Duration = Duration::from_secs(5);

/// Runs the controller until it is told to stop.
///
/// # Errors
/// It cannot start; what it had begun is undone. Or the kernel's news cannot be followed any more.
pub fn run(options: RunOptions) -> Result<()> {
    let reload = options.beginning.as_ref().map(|(file, told, beginning)| {
        let directory = options.socket.parent().unwrap_or(Path::new("/"));
        Reload::new(file.clone(), directory.to_path_buf(), told.clone(), beginning)
    });
    let pins = Pins::new(&options.bpffs);
    privileges::own_alone(pins.dir())?;
    let _lock = pins.lock()?;
    // A set that an earlier controller left stays, whatever happens here; what this start makes goes if it fails.
    let adopted = pins.exist();
    let was_dry = adopted.then(|| pins.open(true).map(|tables| tables.is_dry_run()));
    let (mut beside, started) = (false, succession::prepare(&pins, &options.config));
    let started = started.and_then(|prepared| {
        beside = prepared.made && prepared.found == Found::Others;
        Controller::start(&prepared, &options, reload.as_ref())
    });
    let mut controller = match started {
        Ok(controller) => controller,
        Err(why) => {
            let undone = match (adopted, beside) {
                (false, _) => pins.remove().map(drop),
                (true, true) => pins.forget_next(),
                (true, false) => Ok(()),
            };
            if let Err(left) = undone {
                warn!("{left:#}");
            }
            if options.dry_run
                && let Some(Ok(false)) = was_dry
                && let Ok(tables) = pins.open(true)
            {
                tables.set_dry_run(false);
                warn!("the start failed: there is no dry run, and what forwarded before goes on forwarding");
            }
            if let Some(reload) = &reload {
                reload.put_back(&why);
            }
            return Err(why);
        }
    };
    if let Some(reload) = &reload {
        reload.started();
    }
    controller.reload = reload;
    controller.tell();
    let end = controller.follow();
    if let (Ok(End::Reload), Some(reload)) = (&end, &controller.reload) {
        return Err(reload.again());
    }
    info!("stopped; the data path goes on");
    end.map(drop)
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

struct Controller {
    config: Config,
    rules: Rules,
    bogons: Bogons,
    /// Why the rules in force are not those that are wanted.
    unfiltered: Option<String>,
    /// Why sources are not judged by the routes now.
    unchecked: Option<String>,
    blackholes: Blackholes,
    engine: Engine<KernelDataplane>,
    interfaces: Interfaces,
    /// The file of the configuration, where there is one.
    reload: Option<Reload>,
    /// SIGHUP came.
    hung_up: Arc<AtomicBool>,
    keepalive: Keepalive,
    punt: Follower,
    source: KernelSource,
    state: Arc<RwLock<State>>,
    stop: Arc<AtomicBool>,
    feeds: Feeds,
    asks: Receiver<Ask>,
    max_age: Duration,
    /// When the state was told last.
    told: Instant,
    /// When the gate opens in any case.
    gate_until: Option<Instant>,
    server: Option<std::thread::JoinHandle<()>>,
    sampler: Option<std::thread::JoinHandle<()>>,
    /// While the tables are filled beside others.
    succession: Option<Succession>,
    pins: Pins,
    /// None where nothing is sampled.
    samples: Option<samples::Running>,
    /// What the shadow check tells, and its thread.
    shadow: Arc<Mutex<Shadow>>,
    shadowing: Option<std::thread::JoinHandle<()>>,
    /// What the sampler tells.
    sampled: sampler::Told,
    /// What punt classes count, from second to second.
    limits: stats::limits::Watch,
    /// The sums of law 2, from second to second.
    residues: stats::residue::Watch,
    losses: stats::losses::Losses,
    link_stats: Arc<LinkStats>,
    /// The tables are known to be what the kernel says.
    true_since: Option<Instant>,
    /// Up to when they are known to be what it has said, in nanoseconds of the monotonic clock.
    true_at: u64,
}

impl Controller {
    fn start(prepared: &Prepared, options: &RunOptions, reload: Option<&Reload>) -> Result<Controller> {
        let (config, pins) = (&options.config, &prepared.pins);
        let managed = match prepared.found {
            // Of another version they cannot be read.
            Found::Others => keepalive::gateways_of(&pins.current()).unwrap_or_default(),
            Found::Nothing | Found::Fitting => keepalive::gateways_of(pins)?,
        };
        let dataplane = KernelDataplane::open(pins)?;
        let programs = Programs::load(pins, dataplane.tables().sizes)?;
        let routes = &config.routes;
        let mut engine = Engine::with_sources(dataplane, &routes.sources, routes.tables.clone())?;
        seed(&engine, succession::seed(pins));
        // A lab's controller keeps none unless it is told where: there is one place for all of them.
        let by_default = options.bpffs == Path::new(DEFAULT_BPFFS);
        // Before anything is laid or taken away.
        let (readings, journal) = (Readings::default(), options.socket.with_extension("readings"));
        // Tables that are filled beside others have counted nothing, and those have that file still.
        if prepared.found != Found::Others && sampler::is_kept(&config.history, by_default) {
            sampler::write_readings(&readings, &journal, engine.view());
        }
        engine.fib.leave_readings(readings.clone());
        if let Some(bgp) = &routes.bgp {
            engine.rib.feeds.drop_with(&bgp.blackhole_communities);
        }
        let feasible = |interface: &InterfaceConfig| interface.source_check == SourceCheck::Feasible;
        engine.rib.all_ways = config.interfaces.iter().any(feasible);
        let (owned, uncounted) = accounts::claim(engine.view(), &config.accounts);
        uncounted.iter().for_each(|problem| warn!("{problem}"));
        engine.set_accounts(owned);
        let bogons = Bogons::start(&config.filter, clock::unix_seconds())?;
        let mut interfaces = Interfaces::new(config.clone(), programs, bogons.listed())?;
        interfaces.uncounted = uncounted;
        // Watch first, then dump.
        let mut source = KernelSource::open(routes.tables.clone())?;
        let links = netlink::dump::dump_links()?;
        if interfaces.programs().attach_tracepoints()? {
            ports::rebase_egress(engine.view());
        }
        // Before a packet could be forwarded; the other way round not before all is as it must be.
        if options.dry_run {
            engine.view().set_dry_run(true);
        }
        interfaces.start(&mut engine, &links)?;
        let stop = Arc::new(AtomicBool::new(false));
        let hung_up = Arc::new(AtomicBool::new(false));
        let state = Arc::new(RwLock::new(State {
            config: reload.map(Reload::state).unwrap_or_default(),
            ..publish::starting(config)
        }));
        // The server answers while the first dump is read.
        let link_stats = driver_counts()?;
        let (asker, asks) = asks::channel(source.waker());
        let needs = sampler::Needs {
            config: config.history.clone(),
            by_default,
            link_stats: Arc::clone(&link_stats),
            listed: config.metrics.prefixes.clone(),
            readings,
            journal,
            state: Arc::clone(&state),
            fresh: prepared.found != Found::Fitting,
            stop: Arc::clone(&stop),
        };
        let sampled = sampler::told(&config.history, by_default);
        let (mut sampler, mut succession) = (None, None);
        match prepared.found {
            Found::Others => succession = Some(Succession::new(prepared, routes.max_age, needs)),
            Found::Nothing | Found::Fitting => sampler = Some(sampler::start(pins, needs, &sampled)?),
        }
        let samples = start_samples(pins, config, &engine, &stop)?;
        let feeds_forward = routes.sources.iter().any(|source| *source != Source::Kernel);
        let asker_of_shadow = asker.clone();
        let shadow_needs = shadow::Needs {
            feeds: feeds_forward.then(|| -> Box<stats::Candidates> {
                Box::new(move |selection| asker_of_shadow.ask(selection))
            }),
            live: Arc::clone(&sampled.live),
            state: Arc::clone(&state),
            stop: Arc::clone(&stop),
        };
        let known = Known {
            state: Arc::clone(&state),
            link_stats: Arc::clone(&link_stats),
            asker,
            live: Arc::clone(&sampled.live),
            again: Box::new(hang_up(bogons.again(), Arc::clone(&hung_up))),
        };
        // Before the first dump: what was found laid waits for those that will speak for it.
        let mut feeds = Feeds::recording(options.record.clone());
        feeds.start(routes, &mut engine, &source.waker())?;
        let timeout = routes.sync_timeout;
        let gate_until = (!timeout.is_zero()).then(|| Instant::now() + timeout);
        let server = serve(pins, options, interfaces.programs(), known, Arc::clone(&stop))?;
        let looked = clock::monotonic_ns();
        load(&mut source, &mut engine).context("cannot read the kernel's routes")?;
        interfaces.reconcile(&mut engine);
        interfaces.describe(&mut engine);
        let rules = Rules::adopt(engine.view());
        let (shadow, shadowing) = shadow::start(pins, shadow_needs)?;
        let mut controller = Controller {
            config: config.clone(),
            rules,
            bogons,
            unfiltered: None,
            unchecked: None,
            blackholes: Blackholes::default(),
            engine,
            interfaces,
            reload: None,
            hung_up,
            keepalive: Keepalive::new(managed),
            punt: Follower::new(config.punt.clone()),
            source,
            state,
            stop,
            feeds,
            asks,
            told: Instant::now(),
            gate_until,
            max_age: routes.max_age,
            server: Some(server),
            sampler,
            succession,
            pins: pins.current(),
            samples,
            shadow,
            shadowing: Some(shadowing),
            sampled,
            limits: stats::limits::Watch::default(),
            residues: stats::residue::Watch::default(),
            losses: stats::losses::Losses::default(),
            link_stats,
            true_since: Some(Instant::now()),
            true_at: looked,
        };
        controller.enforce();
        controller.judge();
        controller.interfaces.survey();
        controller.protect();
        controller.heartbeat();
        controller.tell();
        // Nothing can fail any more: were this start given up, nobody would read them.
        if controller.samples.is_some() {
            let SamplesConfig { rate, header, .. } = config.samples;
            controller.engine.view().set_samples(rate, header);
        }
        let (v4, v6) = controller.engine.fib.len();
        // Tables that are filled beside others have never been in force.
        let before = || pins.current().open(false).is_ok_and(|tables| tables.is_dry_run());
        let was_dry = controller.engine.view().is_dry_run() || pins.are_next() && before();
        controller.engine.view().set_dry_run(options.dry_run);
        if options.dry_run {
            warn!(
                ipv4 = v4,
                ipv6 = v6,
                "dry run: every packet goes to the kernel, and is counted as what would have become of it"
            );
        } else {
            if was_dry {
                warn!(
                    "the dry run of the controller before is over: packets are forwarded and dropped again"
                );
            }
            info!(ipv4 = v4, ipv6 = v6, "forwarding");
        }
        Ok(controller)
    }

    fn follow(&mut self) -> Result<End> {
        let mut service = Service::ready();
        let mut neighbours = Instant::now();
        let mut retry = None;
        // Feeds have more to say, or work on a whole table is left.
        let mut busy = true;
        while !self.stop.load(Ordering::Relaxed) {
            // Taken before anything is looked at, and of what has been read and applied: whoever is stopped or starved stamps a moment at
            // which the tables were true, however late he does so. That the channel is empty proves nothing: who has just been let go
            // on may be quicker than the thread that fills it.
            let looked = clock::monotonic_ns();
            if let Some(until) = self.source.told_until(looked) {
                self.true_at = self.true_at.max(until);
            }
            let batch = self.source.next(if busy { Duration::ZERO } else { TICK });
            self.engine.clock = clock::unix_seconds() as u32;
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
                let dumped = clock::monotonic_ns();
                match load(&mut self.source, &mut self.engine) {
                    Ok(()) => {
                        // Whatever was announced before is in it, read or not.
                        self.true_at = dumped;
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
            // Addresses, too: a virtual MAC is ours while its link has some.
            if !demands.is_empty() {
                self.interfaces.reconcile(&mut self.engine);
                self.interfaces.describe(&mut self.engine);
            }
            busy = self.feeds.turn(&mut self.engine);
            self.watch_gate();
            self.answer();
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
            self.heartbeat();
            let behind = looked.saturating_sub(self.true_at) > BEHIND.as_nanos() as u64;
            if !behind && !busy && self.is_filled() {
                self.change_over()?;
            }
            service.alive();
            if let Some(reload) = &mut self.reload
                && reload.turn(&self.hung_up)
            {
                service.reloading();
                self.finish();
                return Ok(End::Reload);
            }
            if self.told.elapsed() >= Duration::from_secs(1) {
                self.enforce();
                self.judge();
                let (interfaces, engine) = (&mut self.interfaces, &self.engine);
                self.bogons.turn(self.engine.clock.into(), |listed| {
                    interfaces.set_bogons(engine, listed)
                });
                self.protect();
                self.tell();
                if let Ok(state) = self.state.read() {
                    let interfaces = self.config.interfaces.len();
                    let dry = self.engine.view().is_dry_run();
                    service.tell(service::sentence(&state, dry, self.engine.fib.len(), interfaces));
                }
            }
        }
        // Before the threads are waited for.
        drop(service);
        self.finish();
        Ok(End::Stop)
    }

    /// Whether tables that are filled beside others may take their place.
    fn is_filled(&self) -> bool {
        let Some(succession) = &self.succession else {
            return false;
        };
        let whole = !self.engine.is_gated() && self.announcers().is_empty();
        self.true_since.is_some() && (whole || succession.is_late())
    }

    /// They do.
    fn change_over(&mut self) -> Result<()> {
        // What waits for the next second: rules and sources are judged from the first packet.
        self.enforce();
        self.judge();
        self.protect();
        if let Err(why) = self.interfaces.programs().change_over() {
            self.finish();
            return Err(why).context(
                "the new tables are not in force; those of before go on forwarding, until the heartbeat is too old",
            );
        }
        self.interfaces.begin_sums(&mut self.engine);
        self.residues = stats::residue::Watch::default();
        if let Some(succession) = self.succession.take() {
            self.sampler = Some(succession.finish(&self.pins, &self.sampled)?);
        }
        info!("the new tables are in force; their counters began at 0");
        Ok(())
    }

    /// Opens the gate when its time is up.
    fn watch_gate(&mut self) {
        if self.engine.is_gated() && self.gate_until.is_some_and(|at| Instant::now() >= at) {
            if self.engine.keeps_found() {
                warn!(
                    "sync-timeout is over: routes found at the start that no source has announced since are taken \
                     away. Waited for: {}",
                    publish::awaited(&self.engine, &self.feeds).join(", ")
                );
            }
            self.engine.open_gate();
        }
    }

    /// Answers what was asked.
    fn answer(&mut self) {
        while let Ok(ask) = self.asks.try_recv() {
            let names: HashMap<FeedId, &str> = self
                .feeds
                .handles()
                .map(|(_, handle, _)| (handle.id, handle.name.as_str()))
                .collect();
            let source = stats::candidates::Source {
                rib: &self.engine.rib,
                world: &self.engine.world,
                peer: &|feed| names.get(&feed).map(ToString::to_string),
                now: self.engine.clock,
            };
            let rows = source.rows(ask.selection);
            ask.answer(rows);
        }
    }

    /// Neighbours that have not said since the start which filter rules they ask for, by name and with the state of the
    /// session; none when the time for that is over.
    fn announcers(&self) -> Vec<String> {
        if self.gate_until.is_some_and(|at| Instant::now() >= at) {
            return Vec::new();
        }
        let feeds = self.feeds.handles().filter_map(|(source, handle, ended)| {
            let status = self.engine.feed(handle.id)?;
            let silent = source == Source::Bgp && !ended && !status.has_told;
            silent.then(|| publish::in_state(&publish::session(source, handle), status.state))
        });
        let nobody = self.feeds.silent().filter(|source| *source == Source::Bgp);
        feeds.chain(nobody.map(publish::not_called)).collect()
    }

    /// Puts the filter rules in force as they are now.
    fn enforce(&mut self) {
        let names: HashMap<FeedId, String> = self
            .feeds
            .handles()
            .map(|(_, handle, _)| (handle.id, handle.name.clone()))
            .collect();
        let neighbours = Neighbours {
            name: &|feed| names.get(&feed).cloned(),
            awaited: !self.announcers().is_empty(),
        };
        match self.rules.turn(&self.engine, &self.config, &neighbours) {
            Ok(changed) => {
                self.unfiltered = None;
                if changed {
                    self.interfaces.rules = self.rules.flags;
                    self.interfaces.describe(&mut self.engine);
                }
            }
            Err(why) => {
                let sentence = format!("the filter rules are not in force as they are written: {why}");
                if self.unfiltered.as_ref() != Some(&sentence) {
                    warn!("{sentence}");
                    self.unfiltered = Some(sentence);
                }
            }
        }
    }

    /// Sources are judged by the routes as long as those are whole. While what was found at the start is kept, so is the
    /// judgement by it.
    fn judge(&mut self) {
        if !self.interfaces.check_sources() {
            return;
        }
        let doubt = doubt::of(&self.engine, &self.feeds, self.true_since.is_some());
        let kept = self.engine.keeps_found() && self.interfaces.checks;
        let checks = doubt.is_none() || kept;
        let sentence = doubt.filter(|_| !checks).map(|why| {
            format!(
                "source-check waits, and sources come in unchecked, because the routes are not whole: {why}"
            )
        });
        if checks != self.interfaces.checks {
            match &sentence {
                Some(sentence) => warn!("{sentence}"),
                None => info!("sources are checked by their routes"),
            }
            self.interfaces.checks = checks;
            self.interfaces.describe(&mut self.engine);
        }
        self.unchecked = sentence;
    }

    /// Tells the program what to limit of what it passes, and whom not to.
    fn protect(&mut self) {
        let kernel = self.config.routes.sources.contains(&Source::Kernel);
        let beyond = !kernel || self.interfaces.bypasses_rules();
        let now = self.engine.clock;
        self.punt.turn(&mut self.engine, beyond, now);
    }

    /// Stamps the heartbeat, as long as the tables are true: as long as they are what the kernel says and what feeds have
    /// said. A feed that is down has said so, and its routes are gone or visibly stale; what it has not said yet nobody
    /// can know, and what waits in its channel is taken as it comes. So feeds never hold the heartbeat, and a daemon that
    /// dies does not stop forwarding.
    ///
    /// What is stamped is when news was looked for by which the tables are true, and not when that is written down: in between a
    /// process may be stopped for an hour.
    fn heartbeat(&self) {
        let settings = &self.engine.view().settings;
        settings
            .word(0, 8)
            .store(self.max_age.as_nanos() as u64, Ordering::Release);
        if self.true_since.is_some() {
            settings.word(0, 0).store(self.true_at, Ordering::Release);
        }
    }

    fn tell(&mut self) {
        let mut problems: Vec<String> = self.interfaces.problems().values().cloned().collect();
        let rows = stats::interfaces(self.engine.view(), &Default::default(), &*self.link_stats);
        match &self.succession {
            Some(succession) => {
                problems.push(succession.sentence(&publish::awaited(&self.engine, &self.feeds)));
            }
            // What the drivers count meanwhile, others forward.
            None => problems.extend(self.residues.observe(&rows)),
        }
        problems.extend(self.losses.observe(self.engine.view()));
        problems.extend(self.unfiltered.clone());
        problems.extend(self.unchecked.clone());
        if self.rules.keep_found() {
            problems.push(format!(
                "filter rules found at the start stay in force until these have told theirs (sync-timeout): {}",
                self.announcers().join(", ")
            ));
        }
        problems.extend(self.rules.problems());
        problems.extend(self.bogons.problems());
        problems.extend(self.punt.problem());
        problems.extend(self.interfaces.uncounted.iter().cloned());
        problems.extend(self.reload.iter().flat_map(Reload::problems));
        let now = self.engine.clock;
        let elapsed = self.told.elapsed().as_secs_f64();
        let rules = self.rules.rows(self.engine.view(), now, elapsed);
        let blackholes = self.blackholes.rows(self.engine.view(), now, elapsed);
        let limits = self.limits.rows(self.engine.view(), elapsed);
        problems.extend(limits.iter().filter_map(stats::limits::problem));
        let shadow = locked(&self.shadow).clone();
        problems.extend(shadow.problems());
        let history = locked(&self.sampled.history).clone();
        let missing = history.why.as_ref().filter(|_| history.is_problem);
        problems.extend(missing.map(|why| format!("the history is not written: {why}")));
        if let Ok(mut state) = self.state.write() {
            state.history = history;
            state.shadow = shadow;
            if let Some(samples) = &self.samples {
                state.samples = locked(&samples.told).clone();
            }
            state.rules = rules;
            state.blackholes = blackholes;
            state.bogons = if self.interfaces.filters_any() {
                self.bogons.lists()
            } else {
                Vec::new()
            };
            state.limits = limits;
            state.roles.extend(self.interfaces.roles());
            state.bonds = self.interfaces.bonds(&self.engine);
            state.gateways = self.interfaces.gateways();
            if let Some(reload) = &self.reload {
                state.config = reload.state();
            }
            let elapsed = std::mem::replace(&mut self.told, Instant::now()).elapsed();
            let in_step = self.true_since.is_some();
            let gate_left = self
                .gate_until
                .map(|at| at.saturating_duration_since(Instant::now()));
            let (engine, feeds) = (&self.engine, &self.feeds);
            publish::fill(&mut state, engine, feeds, in_step, gate_left, elapsed, problems);
        }
    }

    fn finish(&mut self) {
        // Nobody will read them.
        self.engine.view().set_samples(0, 0);
        self.stop.store(true, Ordering::Relaxed);
        let samples = self.samples.take().map(|samples| samples.thread);
        let threads = [
            self.server.take(),
            self.sampler.take(),
            self.shadowing.take(),
            samples,
        ];
        for thread in threads.into_iter().flatten() {
            let _ = thread.join();
        }
    }
}

/// Everything of the kernel, as it stands, into the engine.
///
/// # Errors
/// The kernel does not tell; what was known stays.
pub fn load<D: Dataplane>(source: &mut KernelSource, engine: &mut Engine<D>) -> Result<(), netlink::Error> {
    let mut load = engine.begin_load();
    source.dump_into(&mut load)?;
    load.finish();
    Ok(())
}

/// Starts to tell collectors of packets, where there are any. What an earlier controller that was killed left on is off.
fn start_samples(
    pins: &Pins,
    config: &Config,
    engine: &Engine<KernelDataplane>,
    stop: &Arc<AtomicBool>,
) -> Result<Option<samples::Running>> {
    let samples = &config.samples;
    engine.view().set_samples(0, 0);
    if !samples.is_on() {
        return Ok(None);
    }
    let own_as = config.routes.bgp.as_ref().map_or(0, |bgp| bgp.local_as);
    samples::start(pins, samples.clone(), own_as, Arc::clone(stop)).map(Some)
}

/// What SIGHUP asks for: the lists of bogons, and the configuration.
fn hang_up(again: impl Fn() + Send + 'static, hung_up: Arc<AtomicBool>) -> impl Fn() + Send + 'static {
    move || {
        again();
        hung_up.store(true, Ordering::Relaxed);
    }
}

/// Gives the flow hash a seed of its own, once: a new one would move every flow. `before`: that of tables whose place these take.
fn seed(engine: &Engine<KernelDataplane>, before: Option<u32>) {
    let word = engine.view().settings.word(0, 16);
    let old = word.load(Ordering::Acquire);
    if old >> 32 == 0 {
        let drawn = || RandomState::new().hash_one(SystemTime::now()) | 1 << 32;
        let random = before.map_or_else(drawn, |seed| u64::from(seed) << 32);
        word.store(old & 0xffff_ffff | random & !0xffff_ffff, Ordering::Release);
    }
}
