//! The thread that compares.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ipnet::IpNet;
use tracing::{info, warn};

use super::{
    agreement::{self, Agreement},
    choose::{self, Draw},
    suspects::{Found, News, Shadow, Suspects},
};
use crate::{
    clock,
    daemon::state::State,
    dataplane::{Tables, pins::Pins},
    locked::{locked, shared},
    netlink::{
        self, dump,
        lookup::{RouteAnswer, RouteQuery, route_get_many},
    },
    stats::{
        Candidates,
        path::{Decision, Paths},
        rates::Live,
        routes::Selection,
    },
};

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How long the thread sleeps at a time, so that it hears when it is to stop.
const NAP: Duration = Duration::from_millis(200);
/// Prefixes that packets went to lately, at each look.
const ACTIVE: usize = 32;
/// Prefixes in the order of their slots, at each look: a million in nine hours.
const IN_TURN: usize = 32;
/// The same in a dry run, where nothing is counted by prefix and nothing is forwarded: a million in half an hour.
const IN_TURN_DRY: usize = 512;
/// How often the controller is asked in one look whose route counts for a prefix that differs.
const ASKED: usize = 32;

/// What the thread needs.
pub struct Needs {
    /// Feeds forward, too: whose route counts for a prefix the controller knows, and is asked.
    pub feeds: Option<Box<Candidates>>,
    /// Prefixes that moved lately.
    pub live: Arc<RwLock<Arc<Live>>>,
    /// The controller's state: whether its tables are the kernel's now.
    pub state: Arc<RwLock<State>>,
    /// Told to stop.
    pub stop: Arc<AtomicBool>,
}

/// Starts it. Answers where it tells what it sees.
///
/// # Errors
/// The maps cannot be opened, or no thread begins.
pub fn start(pins: &Pins, needs: Needs) -> Result<(Arc<Mutex<Shadow>>, JoinHandle<()>)> {
    let told = Arc::new(Mutex::new(Shadow::default()));
    let mut watch = Watch {
        tables: pins.open(false)?,
        needs,
        told: Arc::clone(&told),
        suspects: Suspects::default(),
        draw: Draw::new(clock::monotonic_ns()),
        cursor: 0,
        silent: false,
    };
    let thread = std::thread::Builder::new()
        .name("shadow".into())
        .spawn(move || watch.run())
        .context("cannot start the thread that compares tables and kernel")?;
    Ok((told, thread))
}

struct Watch {
    tables: Tables,
    needs: Needs,
    told: Arc<Mutex<Shadow>>,
    suspects: Suspects,
    draw: Draw,
    /// Where the next turn begins.
    cursor: u32,
    /// The kernel does not answer, and the log knows.
    silent: bool,
}

impl Watch {
    fn run(&mut self) {
        let mut last = Instant::now();
        while !self.is_over() {
            std::thread::sleep(NAP);
            if last.elapsed() < LOOK {
                continue;
            }
            last = Instant::now();
            if !self.is_in_step() {
                self.suspects.pause();
                continue;
            }
            match self.look() {
                Ok(()) => self.silent = false,
                Err(why) if !self.silent => {
                    self.silent = true;
                    warn!("routes cannot be compared with the kernel's: {why}");
                }
                Err(_) => {}
            }
        }
    }

    fn is_over(&self) -> bool {
        self.needs.stop.load(Ordering::Relaxed)
    }

    /// Whether the tables are meant to be what the kernel says now.
    fn is_in_step(&self) -> bool {
        let state = shared(&self.needs.state);
        let kernel = state.feeds.first();
        !state.gated && kernel.is_some_and(|kernel| kernel.state == "in step")
    }

    /// One look: those that differed, and some others.
    fn look(&mut self) -> Result<(), netlink::Error> {
        let wanted: Vec<IpNet> = self.active().into_iter().chain(self.in_turn()).collect();
        let mut paths = Paths::new(&self.tables);
        let mut asked = self.suspects.again();
        let mut chosen: HashSet<IpNet> = asked.iter().map(|(_, prefix)| *prefix).collect();
        for prefix in wanted {
            if chosen.insert(prefix)
                && let Some(address) = choose::witness(&mut paths, &mut self.draw, prefix)
            {
                asked.push((address, prefix));
            }
        }
        // What was read for choosing may be older than what the kernel is asked for now.
        paths.forget();
        let queries: Vec<RouteQuery> = asked
            .iter()
            .map(|(address, _)| RouteQuery::matching(*address))
            .collect();
        let mut differing = Vec::new();
        let mut agreeing = Vec::new();
        for (answer, question) in route_get_many(queries)?.zip(asked) {
            let (_, answer) = answer?;
            let decision = paths.decide(question.0);
            match agreement::compare(question.0, &decision, &answer) {
                Agreement::Same | Agreement::Punt | Agreement::Backup => agreeing.push(question),
                Agreement::Differs(why) => differing.push((question, decision, answer, why)),
            }
        }
        let checked = (differing.len() + agreeing.len()) as u64;
        let now = clock::unix_seconds();
        for question in agreeing {
            let news = self.suspects.look(now, question, Found::Agrees);
            tell(news);
        }
        let left_out = self.judge(now, differing)?;
        let (count, differences) = self.suspects.named();
        let mut told = locked(&self.told);
        told.checked += checked;
        told.left_out += left_out;
        told.differing = count;
        told.differences = differences;
        Ok(())
    }

    /// Notes what differs, but for what a feed says. Answers how many that were.
    fn judge(
        &mut self,
        now: u64,
        differing: Vec<((IpAddr, IpNet), Decision, RouteAnswer, String)>,
    ) -> Result<u64, netlink::Error> {
        if differing.is_empty() {
            return Ok(0);
        }
        let links = dump::dump_links()?;
        let ifname = |ifindex: u32| {
            let known = links.iter().find(|link| link.ifindex == ifindex);
            known.map_or_else(|| format!("if{ifindex}"), |link| link.name.clone())
        };
        let mut left_out = 0;
        for (index, (question, decision, answer, why)) in differing.into_iter().enumerate() {
            if let Some(feeds) = &self.needs.feeds {
                // The rest has its turn again; a controller that does not answer is asked no more, and none is asked at the end.
                if index >= ASKED || self.is_over() {
                    break;
                }
                let Some(rows) = feeds(Selection::Within(question.1)) else {
                    break;
                };
                if !rows.iter().any(|row| row.best && row.by == "kernel") {
                    left_out += 1;
                    tell(self.suspects.look(now, question, Found::Agrees));
                    continue;
                }
            }
            let found = Found::Differs {
                data_path: agreement::decision_text(&decision),
                kernel: agreement::answer_text(&answer, &ifname),
                why,
            };
            tell(self.suspects.look(now, question, found));
        }
        Ok(left_out)
    }

    /// Some of the prefixes that packets went to in the sampler's last pass.
    fn active(&mut self) -> Vec<IpNet> {
        let live = Arc::clone(&shared(&self.needs.live));
        let count = live.active.len();
        if count <= ACTIVE {
            return live.active.iter().map(|active| active.prefix).collect();
        }
        (0..ACTIVE)
            .map(|_| live.active[(self.draw.bits() % count as u64) as usize].prefix)
            .collect()
    }

    fn in_turn(&mut self) -> Vec<IpNet> {
        let count = if self.tables.is_dry_run() {
            IN_TURN_DRY
        } else {
            IN_TURN
        };
        choose::next(&self.tables, &mut self.cursor, count)
    }
}

fn tell(news: Option<News>) {
    match news {
        Some(News::Differs(difference)) => warn!("{}", difference.sentence()),
        Some(News::Agrees(difference)) => {
            let seconds = clock::unix_seconds().saturating_sub(difference.since);
            info!(
                "{}: forwarder and the kernel agree again, after {seconds} s",
                difference.prefix
            );
        }
        None => {}
    }
}
