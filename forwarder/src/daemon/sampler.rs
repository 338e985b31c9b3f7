//! The thread that reads counters: rates for screens every ten seconds, samples for the history every five minutes.
//!
//! It reads the maps as anybody may, and shares nothing with the controller's loop but the readings that the compiler leaves:
//! a history that cannot be written, or a disk that takes a second to answer, concerns nobody else.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use forwarder_common::counters::Counter;
use forwarder_history::{Direction, Error, History, Series, Work};
use ipnet::IpNet;
use tracing::{info, warn};

use super::{
    accounts,
    state::{HistoryState, State},
};
use crate::{
    clock,
    config::HistoryConfig,
    dataplane::{Tables, pins::Pins},
    fib::Readings,
    locked::{locked, shared},
    stats::{
        LinkStats,
        accounts::forwarded,
        names,
        prefixes::ListedRow,
        rates::Live,
        sampler::{
            prefixes::Prefixes,
            recorder::{Identity, Recorder},
            schedule::Clocks,
            series::{Standing, of_drivers, standing},
        },
    },
};

/// How often counters are read.
const PASS: i64 = 10_000;
/// How often the thread looks whether it is time.
const LOOK: Duration = Duration::from_millis(200);
/// How long after a failure the history is opened again.
const AGAIN: u64 = 30_000;

/// What the thread tells.
#[derive(Clone, Default)]
pub struct Told {
    /// The last pass.
    pub live: Arc<RwLock<Arc<Live>>>,
    /// The history.
    pub history: Arc<Mutex<HistoryState>>,
}

/// What it needs.
#[derive(Clone)]
pub struct Needs {
    /// The configuration's word on the history.
    pub config: HistoryConfig,
    /// It is kept where nobody said anything.
    pub by_default: bool,
    /// Prefixes that `[metrics]` names.
    pub listed: Vec<IpNet>,
    /// What the compiler leaves.
    pub readings: Readings,
    /// The file of that.
    pub journal: PathBuf,
    /// What drivers say.
    pub link_stats: Arc<LinkStats>,
    /// The controller's state: rules.
    pub state: Arc<RwLock<State>>,
    /// The maps were made by this start.
    pub fresh: bool,
    /// Told to stop.
    pub stop: Arc<AtomicBool>,
}

/// What will be told, before anything is.
pub fn told(config: &HistoryConfig, by_default: bool) -> Told {
    let told = Told::default();
    *locked(&told.history) = HistoryState {
        enabled: is_kept(config, by_default),
        directory: config.place().display().to_string(),
        interval_seconds: config.interval().as_secs(),
        ..HistoryState::default()
    };
    told
}

/// Starts it.
///
/// # Errors
/// The maps cannot be opened, or no thread begins.
pub fn start(pins: &Pins, needs: Needs, told: &Told) -> Result<JoinHandle<()>> {
    let tables = pins.open(false)?;
    let mut sampler = Sampler::new(tables, needs, told.clone());
    std::thread::Builder::new()
        .name("sampler".into())
        .spawn(move || sampler.run())
        .context("cannot start the sampler's thread")
}

/// What maps that are in force no longer have counted since their last sample goes to the history.
pub fn close(tables: Tables, needs: Needs) {
    let needs = Needs {
        readings: Readings::default(),
        fresh: false,
        ..needs
    };
    if !is_kept(&needs.config, needs.by_default) {
        return;
    }
    write_readings(&needs.readings, &needs.journal, &tables);
    let mut sampler = Sampler::new(tables, needs, Told::default());
    let now = now();
    sampler.open(now);
    let total = forwarded(&sampler.tables);
    sampler.prefixes.pass(&sampler.tables);
    let drivers = of_drivers(&sampler.tables, &*sampler.needs.link_stats);
    let written = sampler.commit(now, total, drivers);
    let refused = locked(&sampler.told.history).why.clone();
    if let Some(why) = written.err().map(|why| why.to_string()).or(refused) {
        warn!("what the tables of before counted since the last sample of the history is not in it: {why}");
    }
}

/// Whether a history is to be kept.
pub fn is_kept(config: &HistoryConfig, by_default: bool) -> bool {
    config.enabled.unwrap_or(by_default || config.is_asked_for())
}

/// Which maps these are: drawn when they were made.
fn maps_id(tables: &Tables) -> u64 {
    let meta = tables.meta.get(0);
    (u64::from(tables.settings.get(0).hash_seed) << 32 | meta.netns & 0xffff_ffff) ^ meta.set
}

/// Readings of slots go to a file as well from now on, which is for where a history is kept.
pub fn write_readings(readings: &Readings, journal: &Path, tables: &Tables) {
    if let Err(why) = readings.write_down(journal, maps_id(tables)) {
        warn!(
            "cannot write {}: {why}. If the controller is killed, what prefixes that went had counted since the last sample of the \
             history is known in sum and not by prefix",
            journal.display()
        );
    }
}

/// Which start of the machine this is (random.c `proc_do_uuid`); empty where nobody says.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_string()
}

fn now() -> Clocks {
    Clocks {
        wall: clock::since_1970().as_millis() as i64,
        boot: clock::boot_milliseconds(),
    }
}

struct Sampler {
    tables: Tables,
    prefixes: Prefixes,
    recorder: Option<Recorder>,
    /// There is to be one.
    enabled: bool,
    /// When to open the history again.
    again: u64,
    identity: Identity,
    /// What prefixes that `[metrics]` names forwarded since the start.
    listed: BTreeMap<IpNet, Counter>,
    /// What the history was told for reports.
    described: HashMap<(Series, &'static str), String>,
    /// The history has nothing to tidy up.
    idle: bool,
    told: Told,
    needs: Needs,
}

impl Sampler {
    fn new(tables: Tables, needs: Needs, told: Told) -> Sampler {
        let listed = needs.listed.iter();
        Sampler {
            identity: Identity {
                maps: maps_id(&tables),
                boot: boot_id(),
            },
            prefixes: Prefixes::new(&tables, needs.readings.clone()),
            recorder: None,
            enabled: is_kept(&needs.config, needs.by_default),
            again: 0,
            described: HashMap::new(),
            listed: listed.map(|prefix| (*prefix, Counter::default())).collect(),
            idle: true,
            tables,
            told,
            needs,
        }
    }

    fn run(&mut self) {
        let mut last: Option<Clocks> = None;
        let mut tidied = 0;
        while !self.needs.stop.load(Ordering::Relaxed) {
            let now = now();
            let due = last.is_none_or(|last| {
                now.wall.div_euclid(PASS) != last.wall.div_euclid(PASS) || now.boot - last.boot >= PASS as u64
            });
            if due {
                self.turn(now, last.map(|last| now.boot - last.boot));
                last = Some(now);
            } else if self.needs.readings.many() {
                // A session that is lost changes the network of every prefix behind it.
                self.prefixes.take_readings(&self.tables);
            } else if !self.idle && now.boot - tidied >= 1_000 {
                tidied = now.boot;
                self.tidy(now);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn turn(&mut self, now: Clocks, since: Option<u64>) {
        if self.enabled && self.recorder.is_none() && now.boot >= self.again {
            self.open(now);
        }
        // Before the pass: what comes meanwhile is of a prefix, or waits.
        let total = forwarded(&self.tables);
        self.prefixes.pass(&self.tables);
        for active in &self.prefixes.active {
            if let Some(sum) = self.listed.get_mut(&active.prefix) {
                *sum = sum.plus(active.to);
            }
        }
        let listed = self.listed.iter().map(|(prefix, counter)| ListedRow {
            prefix: *prefix,
            counter: *counter,
        });
        let live = Live {
            listed: listed.collect(),
            seconds: since.map_or(0.0, |milliseconds| milliseconds as f64 / 1000.0),
            at: (now.wall / 1000) as u64,
            active: std::mem::take(&mut self.prefixes.active),
        };
        match self.told.live.write() {
            Ok(mut place) => *place = live.into(),
            Err(poisoned) => *poisoned.into_inner() = live.into(),
        }
        let Some(recorder) = &mut self.recorder else {
            if !self.enabled {
                self.prefixes.committed();
            }
            return;
        };
        let drivers = of_drivers(&self.tables, &*self.needs.link_stats);
        let noticed = match recorder.stay_in_place() {
            Ok(true) => {
                self.described.clear();
                let directory = self.needs.config.place().display();
                warn!(
                    "the history's files in {directory} were deleted or replaced; it goes on in what is there now"
                );
                locked(&self.told.history).replaced = Some(now.wall.div_euclid(1_000));
                recorder.notice(&drivers)
            }
            Ok(false) => recorder.notice(&drivers),
            Err(why) => Err(why),
        };
        let result = match noticed {
            Ok(()) if recorder.is_due(now) => self.commit(now, total, drivers),
            other => other,
        };
        self.tell(result);
    }

    fn open(&mut self, now: Clocks) {
        // What was added up without a history is added up again from where the history ends.
        self.prefixes = Prefixes::new(&self.tables, self.needs.readings.clone());
        let config = &self.needs.config;
        let opened = History::open(config.place(), config.retention).and_then(|history| {
            Recorder::resume(
                history,
                self.identity.clone(),
                config.interval(),
                (&self.tables, &mut self.prefixes),
                self.needs.fresh,
                now,
            )
        });
        match opened {
            Ok(recorder) => {
                self.recorder = Some(recorder);
                self.idle = false;
                self.tell(Ok(()));
            }
            Err(why) => {
                self.again = now.boot + AGAIN;
                self.tell(Err(why));
            }
        }
    }

    fn commit(&mut self, now: Clocks, total: Counter, drivers: Vec<Standing>) -> Result<(), Error> {
        let facts = self.facts();
        let Some(recorder) = &mut self.recorder else {
            return Ok(());
        };
        for (series, name, value) in facts {
            let key = (series, name);
            if self.described.get(&key) != Some(&value) {
                recorder.describe(&key.0, name, &value)?;
                self.described.insert(key, value);
            }
        }
        let mut list = standing(&self.tables, &shared(&self.needs.state).rules);
        list.extend(drivers);
        recorder.commit(&self.tables, &mut self.prefixes, &list, total, now)?;
        self.idle = false;
        Ok(())
    }

    /// What reports want to know of interfaces and accounts.
    fn facts(&self) -> Vec<(Series, &'static str, String)> {
        let state = shared(&self.needs.state);
        let mut facts = Vec::new();
        for (_, entry) in names::ports(&self.tables) {
            let ifname = names::ifname(&entry);
            let series = Series::Interface {
                ifname: ifname.clone(),
                direction: Direction::In,
            };
            if let Some(role) = state.roles.get(&ifname) {
                facts.push((series.clone(), "role", role.name().to_string()));
            }
            // Nothing is said as nought, so that what was agreed once is not taken for what is.
            let commit = state.commits.get(&ifname).copied().unwrap_or(0);
            facts.push((series.clone(), "commit", commit.to_string()));
            if let Some(speed) = (self.needs.link_stats)(entry.ifindex).and_then(|link| link.speed) {
                facts.push((series, "speed", speed.to_string()));
            }
        }
        for (_, entry) in accounts::used(&self.tables) {
            let series = Series::Account {
                from: accounts::name(&entry),
                to: String::new(),
                outside: true,
            };
            facts.push((series, "commit", entry.commit.to_string()));
        }
        facts
    }

    /// Packs finished days, a slice at a time.
    fn tidy(&mut self, now: Clocks) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        match recorder.maintain(now) {
            Ok(work) => self.idle = work == Work::Nothing,
            Err(why) => {
                self.idle = true;
                self.tell(Err(why));
            }
        }
    }

    fn tell(&mut self, result: Result<(), Error>) {
        let figures = self
            .recorder
            .as_ref()
            .and_then(|recorder| recorder.figures().ok());
        let error = result.err();
        // Nobody asked for it, and another controller has the place, or it is not ours to write in: then there is none.
        let elsewhere = matches!(error, Some(Error::Busy { .. } | Error::Directory { .. }));
        let why = error.map(|why| why.to_string());
        let mut told = locked(&self.told.history);
        if why != told.why {
            match &why {
                Some(why) => warn!("the history is not written: {why}"),
                None if told.why.is_some() => info!("the history is written again"),
                None => {}
            }
        }
        told.why = why;
        if let Some(recorder) = &self.recorder {
            let unattributed = recorder.unattributed();
            told.unattributed_packets = unattributed.to.packets;
            told.unattributed_bytes = unattributed.to.bytes;
        }
        told.is_problem = self.needs.config.is_asked_for() || !elsewhere;
        if let Some(figures) = figures {
            told.bytes = figures.bytes + figures.log_bytes;
            told.intervals = figures.intervals;
            told.first = figures.first;
            told.last = figures.last;
            told.disk_free_bytes = figures.disk_free_bytes;
        }
    }
}
