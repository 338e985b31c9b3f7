//! What happens to the router.

use std::{fmt, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use xtask::table::Route;

use super::books::Faults;
use crate::{controller::Controller, lab::Lab, operator::settle, random::Random};

/// Routes that change at once.
const CHURN: usize = 1_000;
/// How long a link is down at most, and a controller dead or not yet killed, milliseconds.
const DOWN_MS: usize = 1_000;
const DEAD_MS: usize = 1_500;
/// Where a route leads when it is not gone: to b, or one in four to c.
const CARRIERS: [u8; 4] = [2, 2, 2, 3];
/// Prefixes beyond which the controller's tables are as large as they are without a line.
const SMALL: usize = 50_000;

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Routes changed.
    pub routes: u64,
    /// Links lost.
    pub flaps: u64,
    /// Controllers killed.
    pub kills: u64,
    /// Controllers stopped and started.
    pub restarts: u64,
    /// Configurations taken.
    pub reloads: u64,
    /// Controllers halted for a while.
    pub halts: u64,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} routes changed, {} links lost, {} kills, {} restarts, {} reloads, {} halts",
            self.routes, self.flaps, self.kills, self.restarts, self.reloads, self.halts
        )
    }
}

/// The router and its controller.
pub struct Scene<'a> {
    lab: &'a Lab,
    routes: Vec<Route>,
    /// Where each leads now; 0: it is gone, and a default route takes its packets.
    ways: Vec<u8>,
    controller: Option<Controller<'a>>,
    config: PathBuf,
    plain: String,
    /// What has happened.
    pub done: Done,
}

impl<'a> Scene<'a> {
    /// A router with these routes in the kernel, and a controller that has laid them.
    ///
    /// # Errors
    /// The lab cannot be had.
    pub fn begin(lab: &'a Lab, tables: &[Vec<Route>; 2]) -> Result<Scene<'a>> {
        let routes = tables.concat();
        // Whatever is gone is delivered all the same.
        lab.ip("router", "route add default via 10.2.0.2")?;
        lab.ip("router", "route add default via fd00:2::2")?;
        for scope in ["all", "c"] {
            // A host whose link was down has its addresses again.
            lab.sysctl("c", &format!("ipv6/conf/{scope}/keep_addr_on_down"), "1")?;
        }
        let small = "[tables]\nroutes = 131072\nipv4-blocks = 8192\nipv6-blocks = 49152\n";
        let whole = "[tables]\n";
        let sizes = if routes.len() > SMALL { whole } else { small };
        let config = lab.config(&super::INTERFACES, sizes)?;
        let plain = fs::read_to_string(&config)?;
        let mut scene = Scene {
            lab,
            ways: vec![0; routes.len()],
            routes,
            controller: None,
            config,
            plain,
            done: Done::default(),
        };
        let first = (0..scene.routes.len())
            .map(|index| (index, first(index)))
            .collect();
        scene.lead(first)?;
        scene.resolve()?;
        scene.start()?;
        scene.done = Done::default();
        Ok(scene)
    }

    /// The prefixes that packets go to.
    #[must_use]
    pub fn prefixes(&self) -> Vec<Route> {
        self.routes.clone()
    }

    /// The controller.
    ///
    /// # Errors
    /// There is none.
    pub fn controller(&self) -> Result<&Controller<'a>> {
        self.controller.as_ref().context("no controller")
    }

    /// One thing happens; `everything`: also to the controller.
    ///
    /// # Errors
    /// It could not be done.
    pub fn event(&mut self, random: &mut Random, everything: bool, faults: &Faults) -> Result<()> {
        match random.below(if everything { 12 } else { 6 }) {
            0..=4 => self.churn(random),
            5 => self.flap(random, faults),
            6..=8 => self.kill(random),
            9 => self.restart(),
            10 => self.reload(random),
            _ => self.halt(random),
        }?;
        std::thread::sleep(Duration::from_millis(random.below(300) as u64));
        Ok(())
    }

    /// Every route as it was at first, every address known, and nothing else under way.
    ///
    /// # Errors
    /// As [`Scene::event`].
    pub fn restore(&mut self) -> Result<()> {
        let other = |index: &usize| self.ways[*index] != first(*index);
        let wrong: Vec<usize> = (0..self.routes.len()).filter(other).collect();
        self.lead(wrong.into_iter().map(|index| (index, first(index))).collect())?;
        self.resolve()
    }

    /// Stops the controller in order and starts it.
    ///
    /// # Errors
    /// As [`Scene::event`].
    pub fn restart(&mut self) -> Result<()> {
        let controller = self.controller.take().context("no controller")?;
        let status = controller.stop()?;
        ensure!(status.success(), "the controller ended with {status}");
        self.done.restarts += 1;
        fs::write(&self.config, &self.plain)?;
        self.start()
    }

    fn start(&mut self) -> Result<()> {
        self.controller = Some(Controller::spawn(self.lab, &self.config)?);
        self.ready()
    }

    /// Until it is in step: a full table takes a while on a small machine.
    fn ready(&mut self) -> Result<()> {
        let controller = self.controller.as_mut().context("no controller")?;
        super::wait(self.lab, "a controller in step", || {
            controller.ready()?;
            Ok(Some(()))
        })
    }

    fn resolve(&self) -> Result<()> {
        for host in 1..=3 {
            for address in [format!("10.{host}.0.2"), format!("fd00:{host}::2")] {
                self.lab.resolve("router", &address)?;
            }
        }
        Ok(())
    }

    /// Has routes lead to these carriers.
    fn lead(&mut self, ways: Vec<(usize, u8)>) -> Result<()> {
        let mut lines = String::new();
        for (index, way) in ways {
            let route = self.routes[index];
            let prefix = format!("{}/{}", route.address, route.length);
            let ipv4 = route.address.is_ipv4();
            lines += &match (way, self.ways[index]) {
                (0, 0) => continue,
                (0, _) => format!("route del {prefix}\n"),
                (way, _) if ipv4 => format!("route replace {prefix} via 10.{way}.0.2\n"),
                (way, _) => format!("route replace {prefix} via fd00:{way}::2\n"),
            };
            self.ways[index] = way;
            self.done.routes += 1;
        }
        self.lab.batch("router", &lines)
    }

    fn churn(&mut self, random: &mut Random) -> Result<()> {
        let count = 1 + random.below(CHURN);
        let ways = (0..count)
            .map(|_| (random.below(self.routes.len()), *random.pick(&[0, 2, 3, 3])))
            .collect();
        self.lead(ways)
    }

    /// The carrier at c loses its link and has it again.
    fn flap(&mut self, random: &mut Random, faults: &Faults) -> Result<()> {
        self.done.flaps += 1;
        faults.turn();
        let done = (|| {
            self.lab.ip("c", "link set dev c down")?;
            std::thread::sleep(Duration::from_millis(random.below(DOWN_MS) as u64));
            self.lab.ip("c", "link set dev c up")?;
            self.lab.ip("c", "route replace default via 10.3.0.1")?;
            for address in ["10.3.0.2", "fd00:3::2"] {
                self.lab.resolve("router", address)?;
                settle(self.lab, address, &[address])?;
            }
            Ok(())
        })();
        faults.turn();
        done
    }

    /// The controller is killed, routes change or not, and another starts, which may be killed before it is ready.
    fn kill(&mut self, random: &mut Random) -> Result<()> {
        self.controller.take().context("no controller")?.kill()?;
        self.done.kills += 1;
        if random.below(2) == 0 {
            self.churn(random)?;
        }
        std::thread::sleep(Duration::from_millis(random.below(DEAD_MS) as u64));
        while random.below(3) == 0 {
            let controller = Controller::spawn(self.lab, &self.config)?;
            std::thread::sleep(Duration::from_millis(random.below(DEAD_MS) as u64));
            controller.kill()?;
            self.done.kills += 1;
        }
        self.start()
    }

    /// Another configuration.
    fn reload(&mut self, random: &mut Random) -> Result<()> {
        let rule = format!(
            "[[filter.rule]]\nmatch = {{ src = \"198.51.100.{}/32\" }}\naction = \"drop\"\n",
            random.below(256)
        );
        fs::write(&self.config, format!("{}{rule}", self.plain))?;
        let output = self.lab.forwarder("reload")?;
        ensure!(
            output.status.success(),
            "reload: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.done.reloads += 1;
        self.ready()
    }

    /// The controller is stopped by a signal, routes change, and it goes on.
    fn halt(&mut self, random: &mut Random) -> Result<()> {
        self.controller()?.pause(true);
        let churned = self.churn(random);
        std::thread::sleep(Duration::from_millis(random.below(DEAD_MS) as u64));
        self.controller()?.pause(false);
        self.done.halts += 1;
        churned
    }
}

/// Where a route leads at first.
fn first(index: usize) -> u8 {
    CARRIERS[index % CARRIERS.len()]
}
