//! The lab: a small two-router network in network namespaces, with real BIRD, FRR and forwarder.
//!
//! A lab is a state directory (configurations, logs, sockets, a bpffs, and the list of processes) and the namespaces
//! that carry its prefix. Everything that `up` makes is found again from these two, so `down` works from any process,
//! after any crash.

pub mod bird;
pub mod cli;
pub mod exabgp;
pub mod flowspec;
pub mod forwarder;
pub mod frr;
mod guard;
mod network;
mod peers;
mod process;
pub mod routing;
pub mod status;
mod system;
pub mod topology;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use guard::Guard;
pub use process::Process;
pub use routing::Daemon;
pub use system::run;

use crate::net::ns;
use crate::table::{self, Source};

const STATE_ROOT: &str = "/run/forwarder-lab";

/// A controller that lives may take so long to lay a full table, on a machine that has other things to do.
const READY: Duration = Duration::from_secs(180);

/// Programs the lab calls, and Debian's packages for them.
const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("bird", "bird2"),
    ("birdc", "bird2"),
];

/// What to raise.
#[derive(Debug, Clone)]
pub struct Options {
    /// Distinguishes labs that run side by side.
    pub name: Option<String>,
    /// IPv4 table of the carriers.
    pub table_v4: Source,
    /// IPv6 table of the carriers.
    pub table_v6: Source,
    /// What speaks BGP on the routers.
    pub daemon: Daemon,
    /// Whether the routers run forwarder, or only the kernel.
    pub forwarder: bool,
    /// The forwarder binary; without it the newest one of the target directory.
    pub binary: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            table_v4: Source::Generated(20_000),
            table_v6: Source::Generated(5_000),
            daemon: Daemon::default(),
            forwarder: true,
            binary: None,
        }
    }
}

/// A lab, up or not.
#[derive(Debug, Clone)]
pub struct Lab {
    name: Option<String>,
    binary: Option<PathBuf>,
}

impl Lab {
    /// The lab of that name, whether it is up or not.
    pub fn named(name: Option<&str>) -> Result<Self> {
        if let Some(name) = name
            && (name.is_empty()
                || name.len() > 32
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
        {
            bail!("--name {name:?}: want 1 to 32 lower-case letters, digits and hyphens");
        }
        Ok(Self {
            name: name.map(str::to_string),
            binary: forwarder::find_binary(),
        })
    }

    /// Raises a lab; when anything fails, what was made is taken down again.
    pub fn up(options: &Options) -> Result<Self> {
        let mut lab = Self::named(options.name.as_deref())?;
        if options.binary.is_some() {
            lab.binary.clone_from(&options.binary);
        }
        require_root()?;
        system::require(TOOLS)?;
        if options.daemon == Daemon::Frr {
            system::require(&[("vtysh", "frr"), ("exabgp", "exabgp")])?;
        }
        if options.forwarder && lab.binary.is_none() {
            bail!("no forwarder binary: cargo xtask build makes one; --no-forwarder does without");
        }
        let tables = [table::v4(&options.table_v4)?, table::v6(&options.table_v6)?];
        lab.reserve()?;
        match lab.build(options, [&tables[0], &tables[1]]) {
            Ok(()) => Ok(lab),
            Err(error) => {
                let logs = if crate::interrupt::requested() {
                    None
                } else {
                    lab.keep_logs()
                };
                crate::interrupt::forget();
                if let Err(second) = lab.down() {
                    eprintln!("while taking the half-built lab down: {second:#}");
                }
                let logs = logs
                    .map(|dir| format!(" (logs: {})", dir.display()))
                    .unwrap_or_default();
                Err(error.context(format!("the lab did not come up and was taken down again{logs}")))
            }
        }
    }

    /// The state directory belongs to whoever creates it.
    fn reserve(&self) -> Result<()> {
        let dir = self.dir();
        std::fs::create_dir_all(STATE_ROOT).with_context(|| format!("state directory {STATE_ROOT}"))?;
        match std::fs::create_dir(&dir) {
            Ok(()) => {
                let _ = std::fs::remove_dir_all(self.failed_dir());
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!(
                    "this lab is up already ({}); cargo xtask lab down removes it",
                    dir.display()
                )
            }
            Err(error) => Err(error).with_context(|| format!("state directory {}", dir.display())),
        }
    }

    fn build(&self, options: &Options, tables: [&[table::Route]; 2]) -> Result<()> {
        network::build(self)?;
        crate::interrupt::check()?;
        let bpffs = self.dir().join("bpf");
        std::fs::create_dir(&bpffs)?;
        system::run(
            Command::new("mount")
                .args(["-t", "bpf", "forwarder-lab"])
                .arg(&bpffs),
        )?;
        routing::write_configs(self, tables, options)?;
        for node in routing::SPEAKERS {
            for process in routing::start(self, node, options.daemon)? {
                self.record(process)?;
            }
        }
        for node in topology::ROUTERS {
            forwarder::write_config(self, node, options.daemon)?;
        }
        routing::wait_converged(self, tables.map(<[_]>::len))?;
        if options.forwarder {
            for node in topology::ROUTERS {
                self.record(forwarder::start(self, node)?)?;
            }
            if options.daemon == Daemon::Frr {
                for node in topology::ROUTERS {
                    self.record(exabgp::start(self, node)?)?;
                }
            }
            for process in self.processes()?.iter().filter(|p| p.what == "forwarder") {
                forwarder::wait_ready(self, process, READY)?;
                forwarder::wait_told(self, &process.node, READY)?;
            }
        }
        Ok(())
    }

    /// Taken down when the value goes out of scope, also by a panic.
    pub fn guard(self) -> Guard {
        Guard::new(self)
    }

    /// Ends the lab's processes and removes its namespaces, mounts and files. What is not there is no error.
    pub fn down(&self) -> Result<()> {
        require_root()?;
        let dir = self.dir();
        // Unreadable records must not keep the rest from being removed.
        for process in self.processes().unwrap_or_default() {
            process.signal(libc::SIGTERM);
        }
        for process in self.processes().unwrap_or_default() {
            process.stop();
        }
        network::remove(self)?;
        let bpffs = dir.join("bpf");
        if is_mount_point(&bpffs)? {
            system::run(Command::new("umount").arg(&bpffs))?;
        }
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        Ok(())
    }

    /// Whether the lab is up.
    pub fn is_up(&self) -> bool {
        self.dir().is_dir()
    }

    /// An error for commands that need a lab.
    pub fn require_up(&self) -> Result<()> {
        require_root()?;
        if self.is_up() {
            return Ok(());
        }
        bail!(
            "no lab is up ({} is missing); cargo xtask lab up raises one",
            self.dir().display()
        );
    }

    /// Where its configurations, logs and sockets are.
    pub fn dir(&self) -> PathBuf {
        Path::new(STATE_ROOT).join(self.name.as_deref().unwrap_or("default"))
    }

    fn failed_dir(&self) -> PathBuf {
        self.dir().with_extension("failed")
    }

    /// The name of a node's network namespace.
    pub fn netns(&self, node: &str) -> String {
        match &self.name {
            Some(name) => format!("fwd-{name}-{node}"),
            None => format!("fwd-{node}"),
        }
    }

    /// The file that stands for a node's network namespace.
    pub fn netns_path(&self, node: &str) -> PathBuf {
        namespace_path(&self.netns(node))
    }

    /// The forwarder binary that the routers run.
    pub fn binary(&self) -> Option<&Path> {
        self.binary.as_deref()
    }

    /// A command inside a node: `forwarder` is the lab's own and finds the node's controller.
    pub fn command(&self, node: &str, program: &str) -> Result<Command> {
        if topology::find(node).is_none() {
            let names: Vec<_> = topology::NODES.iter().map(|node| node.name).collect();
            bail!("no node {node:?} in the lab; its nodes are {}", names.join(" "));
        }
        let mut command = system::inside(&self.netns(node), program);
        if let Some(dir) = self.binary.as_deref().and_then(Path::parent) {
            let old = std::env::var_os("PATH").unwrap_or_default();
            let path = std::iter::once(dir.to_path_buf()).chain(std::env::split_paths(&old));
            command.env("PATH", std::env::join_paths(path).context("PATH")?);
        }
        command.envs(forwarder::environment(self, node));
        Ok(command)
    }

    /// The recorded processes.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let path = self.dir().join("processes.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("reading {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Adds a process to the records, in place of an ended one of the same kind and node.
    fn record(&self, process: Process) -> Result<()> {
        let mut all = self.processes()?;
        all.retain(|p| p.what != process.what || p.node != process.node || p.alive());
        all.push(process);
        let path = self.dir().join("processes.json");
        let part = path.with_extension("part");
        system::write(&part, &serde_json::to_string_pretty(&all)?)?;
        std::fs::rename(&part, &path).with_context(|| format!("writing {}", path.display()))
    }

    /// The controller of a router.
    pub fn controller(&self, node: &str) -> Result<Process> {
        self.processes()?
            .into_iter()
            .find(|p| p.what == "forwarder" && p.node == node && p.alive())
            .with_context(|| format!("no forwarder runs on {node}"))
    }

    /// Starts the controller of a router again, and waits until it answers.
    pub fn start_controller(&self, node: &str) -> Result<()> {
        let process = forwarder::start(self, node)?;
        self.record(process.clone())?;
        forwarder::wait_ready(self, &process, READY)
    }

    /// Takes one end of a cable down or up; the other end loses its carrier.
    pub fn set_link(&self, node: &str, ifname: &str, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        let netns = self.netns(node);
        system::run(Command::new("ip").args(["-netns", &netns, "link", "set", ifname, state])).map(drop)
    }

    /// Logs of a failed lab survive it, beside the state directory.
    fn keep_logs(&self) -> Option<PathBuf> {
        let kept = self.failed_dir();
        std::fs::create_dir(&kept).ok()?;
        let mut any = false;
        for entry in std::fs::read_dir(self.dir()).ok()?.flatten() {
            let path = entry.path();
            if path
                .extension()
                .is_some_and(|e| e == "log" || e == "toml" || e == "conf")
                && entry.metadata().is_ok_and(|m| m.len() < 1 << 20)
            {
                any |= std::fs::copy(&path, kept.join(entry.file_name())).is_ok();
            }
        }
        if any { Some(kept) } else { None }
    }
}

/// Routes in a node's kernel, IPv4 and IPv6, by the kernel's own statistics (a dump of a full table takes seconds).
pub fn kernel_routes(lab: &Lab, node: &str) -> Result<[usize; 2]> {
    ns::run(&lab.netns_path(node), || {
        let v4 = std::fs::read_to_string("/proc/thread-self/net/fib_triestat")?;
        // Without policy rules the kernel keeps local and main in one table, shown under both names.
        let v4 = v4
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Prefixes:")?.trim().parse().ok())
            .max();
        let v6 = std::fs::read_to_string("/proc/thread-self/net/rt6_stats")?;
        let v6 = v6
            .split_whitespace()
            .nth(3)
            .and_then(|hex| usize::from_str_radix(hex, 16).ok());
        Ok([v4.unwrap_or(0), v6.unwrap_or(0)])
    })
}

fn namespace_path(netns: &str) -> PathBuf {
    Path::new("/run/netns").join(netns)
}

fn is_mount_point(path: &Path) -> Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let wanted = path.to_string_lossy();
    Ok(mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(&*wanted)))
}

fn require_root() -> Result<()> {
    // SAFETY: geteuid has no arguments, cannot fail and touches no memory.
    let uid = unsafe { libc::geteuid() };
    if uid != 0 {
        bail!(
            "the lab makes network namespaces and loads XDP programs: run it as root (sudo -E cargo xtask ...)"
        );
    }
    Ok(())
}
