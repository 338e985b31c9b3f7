//! The real controller as a process of its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use forwarder::clock::monotonic_ns;
use forwarder::dataplane::Region;
use forwarder::dataplane::pins::Pins;
use forwarder_common::maps;
use forwarder_common::settings::Settings;
use xtask::interrupt;
use xtask::procfs::Stat;

use crate::router::{Router, configuration};

/// How long a start may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The running controller; killed on drop, and by the kernel should this process die.
pub struct Controller {
    child: Child,
    log: PathBuf,
    /// When it was started, nanoseconds of the monotonic clock.
    started: u64,
}

impl Controller {
    /// Starts it on a router. It adopts what is pinned there.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn start(router: &Router) -> Result<Controller> {
        Controller::start_with(router, &configuration())
    }

    /// The same with this configuration.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn start_with(router: &Router, configuration: &str) -> Result<Controller> {
        let config = router.world().dir().join("forwarder.toml");
        fs::write(&config, configuration).with_context(|| format!("cannot write {}", config.display()))?;
        let log = router.world().dir().join("forwarder.log");
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = router.command("run")?;
        command
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            // A Ctrl-C is for us, and we end it.
            .process_group(0);
        dies_with_us(&mut command);
        let started = monotonic_ns();
        let child = command.spawn().context("cannot run forwarder")?;
        Ok(Controller { child, log, started })
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// It does not, with what it said.
    pub fn alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().context("forwarder")? {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            bail!("forwarder ended ({status}):\n{said}");
        }
        Ok(())
    }

    /// Waits until its tables are what the kernel says, and answers how long that took from its start: it stamps the
    /// heartbeat then, and never before.
    ///
    /// # Errors
    /// It ends, or does not get there.
    pub fn in_step(&mut self, router: &Router) -> Result<Duration> {
        let limit = Instant::now() + LIMIT;
        loop {
            self.alive()?;
            interrupt::check()?;
            if router.pins.exist() {
                let heartbeat = heartbeat(&router.pins)?;
                if heartbeat >= self.started {
                    return Ok(Duration::from_nanos(heartbeat - self.started));
                }
            }
            if Instant::now() > limit {
                bail!(
                    "forwarder is not in step with the kernel after {} s",
                    LIMIT.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Seconds that its threads have been on a CPU.
    ///
    /// # Errors
    /// It ended.
    pub fn cpu(&self) -> Result<f64> {
        Ok(Stat::of(self.child.id())?.cpu().as_secs_f64())
    }

    /// Its own memory, octets: `RssAnon`, in which mapped tables are not.
    ///
    /// # Errors
    /// It ended.
    pub fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let kib = text.lines().find_map(|line| {
            line.strip_prefix("RssAnon:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse()
                .ok()
        });
        let kib: u64 = kib.with_context(|| format!("{path} has no RssAnon"))?;
        Ok(kib * 1024)
    }
}

/// When the controller stamped the heartbeat last. Of all tables only this one is mapped: the kernel enters every page of
/// a map when it is mapped, and to do that to all would cost the controller its CPU.
fn heartbeat(pins: &Pins) -> Result<u64> {
    let map = pins.data(maps::SETTINGS)?;
    let settings = Region::map(map.fd().as_fd(), size_of::<Settings>(), false);
    Ok(settings
        .context("cannot map SETTINGS into memory")?
        .u64(0)
        .load(Ordering::Acquire))
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets what a command runs be killed when the thread that started it ends.
pub fn dies_with_us(command: &mut Command) {
    // SAFETY: between fork and exec it makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        })
    };
}
