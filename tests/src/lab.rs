//! A router with three hosts, each in a network namespace of its own, and the real `forwarder` on the router.
//!
//! ```text
//!   host-a --- a | router | b --- host-b       10.1.0.0/24  fd00:1::/64
//!                |        | c --- host-c       10.2.0.0/24  fd00:2::/64,  10.3.0.0/24  fd00:3::/64
//! ```
//! The router is .1 and the host .2 on every cable; an interface has the same name at both ends. Everything is gone when
//! the lab is dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{controller::Controller, packets::Wire, sandbox::BpfFs};

/// How long anything that must happen may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);
/// The hosts; each has a cable of that name.
pub const HOSTS: [&str; 3] = ["a", "b", "c"];

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The lab.
pub struct Lab {
    name: String,
    dir: PathBuf,
    bpffs: BpfFs,
}

impl Lab {
    /// Builds it: links up, addresses set, forwarding on, no routes but the hosts' defaults.
    ///
    /// # Errors
    /// Not root, or a tool is missing.
    pub fn new() -> Result<Lab> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fwdt{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir)?;
        let lab = Lab {
            name,
            dir,
            bpffs: BpfFs::mount()?,
        };
        for node in HOSTS.iter().chain(&["router"]) {
            run(Command::new("ip").args(["netns", "add", &lab.netns(node)]))?;
            lab.ip(node, "link set lo up")?;
            for scope in ["all", "default"] {
                lab.sysctl(node, &format!("ipv6/conf/{scope}/accept_dad"), "0")?;
                lab.sysctl(node, &format!("ipv4/conf/{scope}/rp_filter"), "0")?;
            }
        }
        lab.sysctl("router", "ipv4/ip_forward", "1")?;
        lab.sysctl("router", "ipv6/conf/all/forwarding", "1")?;
        for host in HOSTS {
            lab.cable(host)?;
        }
        lab.wait("every link to be operational", || {
            for node in HOSTS.iter().chain(&["router"]) {
                let links = lab.ip_json(node, "link show type veth")?;
                let up = |link: &Value| link["operstate"] == "UP";
                if !links
                    .as_array()
                    .is_some_and(|links| !links.is_empty() && links.iter().all(up))
                {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })?;
        Ok(lab)
    }

    /// Lays the cable of a host, or lays it anew.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn cable(&self, host: &str) -> Result<()> {
        let number = 1 + HOSTS
            .iter()
            .position(|known| *known == host)
            .context("no such host")?;
        let (router, far) = (self.netns("router"), self.netns(host));
        run(Command::new("ip").args(words(&format!(
            "link add name {host} netns {router} address 02:00:00:00:0{number}:01 type veth \
             peer name {host} netns {far} address 02:00:00:00:0{number}:02"
        ))))?;
        for (node, last) in [("router", 1), (host, 2)] {
            self.ip(node, &format!("addr add 10.{number}.0.{last}/24 dev {host}"))?;
            self.ip(
                node,
                &format!("addr add fd00:{number}::{last}/64 dev {host} nodad"),
            )?;
            self.ip(node, &format!("link set dev {host} up"))?;
        }
        // Checksums in the frame, and NAPI at the far end, without which a veth loses what is redirected to it: only
        // `gro on` after it is up tells the near end that it may (drivers/net/veth.c, veth_set_features).
        for node in ["router", host] {
            let features = words("tx off tso off gso off txvlan off rxvlan off gro on");
            run(self.command(node, "ethtool").args(["-K", host]).args(features))?;
        }
        self.ip(host, &format!("route add default via 10.{number}.0.1"))?;
        self.ip(host, &format!("route add default via fd00:{number}::1"))
    }

    /// The name of a node's namespace.
    pub fn netns(&self, node: &str) -> String {
        format!("{}-{node}", self.name)
    }

    /// A place for files, gone with the lab.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the controller pins.
    pub fn pins(&self) -> PathBuf {
        self.bpffs.path().join("forwarder")
    }

    /// The controller's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("forwarder.sock")
    }

    /// A command inside a node. `ip netns exec` would hide the BPF file system.
    pub fn command(&self, node: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns(node)));
        command.arg("--").arg(program).stdin(Stdio::null());
        command
    }

    /// `ip` inside a node.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, node: &str, line: &str) -> Result<()> {
        run(self.command(node, "ip").args(words(line))).map(drop)
    }

    /// `ip -json` inside a node.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip_json(&self, node: &str, line: &str) -> Result<Value> {
        let text = run(self.command(node, "ip").arg("-json").args(words(line)))?;
        serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).context("ip -json")
    }

    /// Runs `ip` on a node with these lines, as one command.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn batch(&self, node: &str, lines: &str) -> Result<()> {
        let path = self.dir.join("batch");
        fs::write(&path, lines)?;
        self.ip(node, &format!("-batch {}", path.display()))
    }

    /// Writes a sysctl of a node, named by its path below /proc/sys/net.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn sysctl(&self, node: &str, key: &str, value: &str) -> Result<()> {
        self.inside(node, || {
            let path = Path::new("/proc/sys/net").join(key);
            fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
        })
    }

    /// Runs a function in a thread inside a node.
    ///
    /// # Errors
    /// The function's own.
    pub fn inside<T: Send>(&self, node: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.netns(node));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                crate::sandbox::Home::at(Path::new(&path))?.enter()?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A raw socket on a host's cable.
    ///
    /// # Errors
    /// As [`Wire::open`].
    pub fn wire(&self, host: &str) -> Result<Wire> {
        self.inside(host, || Wire::open(host))
    }

    /// Lets a node's kernel resolve an address, by asking for it until it is there.
    ///
    /// # Errors
    /// It stays silent.
    pub fn resolve(&self, node: &str, address: &str) -> Result<()> {
        self.inside(node, || {
            let any = if address.contains(':') {
                "[::]:0"
            } else {
                "0.0.0.0:0"
            };
            let socket = std::net::UdpSocket::bind(any)?;
            let target: std::net::IpAddr = address.parse()?;
            self.wait(&format!("{node} to resolve {address}"), || {
                let _ = socket.send_to(b"?", (target, 9));
                let entries = self.ip_json(node, &format!("neigh show to {address}"))?;
                Ok(entries[0]["lladdr"].as_str().map(drop))
            })
        })
    }

    /// Lets the router's kernel resolve the hosts at b and c, both families.
    ///
    /// # Errors
    /// One stays silent.
    pub fn resolve_carriers(&self) -> Result<()> {
        ["10.2.0.2", "10.3.0.2", "fd00:2::2", "fd00:3::2"]
            .into_iter()
            .try_for_each(|address| self.resolve("router", address))
    }

    /// Waits until `done` answers something, looking again and again; fails after [`LIMIT`].
    ///
    /// # Errors
    /// It did not happen, or looking failed.
    pub fn wait<T>(&self, what: &str, mut done: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(answer) = done().with_context(|| format!("waiting for {what}"))? {
                return Ok(answer);
            }
            ensure!(Instant::now() < until, "waited {LIMIT:?} for {what} in vain");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The configuration with these lines behind an `[[interface]]` for each name.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn config(&self, interfaces: &[&str], more: &str) -> Result<PathBuf> {
        let mut text: String = interfaces
            .iter()
            .map(|name| format!("[[interface]]\nname = \"{name}\"\n\n"))
            .collect();
        if !more.contains("[tables]") {
            text += "[tables]\nroutes = 65536\nipv4-blocks = 4096\nipv6-blocks = 4096\n\n";
        }
        text += more;
        let path = self.dir.join("forwarder.toml");
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts the controller on the router and waits until its feeds are in step.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, interfaces: &[&str], more: &str) -> Result<Controller<'_>> {
        let config = self.config(interfaces, more)?;
        Controller::start(self, &config)
    }

    /// `forwarder` with these words on the router.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn forwarder(&self, line: &str) -> Result<Output> {
        let mut command = self.command("router", crate::controller::binary()?);
        command
            .args(words(line))
            .env("FORWARDER_BPFFS", self.pins())
            .env("FORWARDER_SOCKET", self.socket());
        command.output().context("cannot run nsenter")
    }

    /// `forwarder` with these words and `--json` on the router.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub fn json(&self, line: &str) -> Result<Value> {
        let output = self.forwarder(&format!("{line} --json"))?;
        ensure!(
            output.status.success(),
            "forwarder {line}: {}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
        serde_json::from_slice(&output.stdout).with_context(|| format!("forwarder {line} --json"))
    }

    /// What an operator would look at.
    pub fn picture(&self) -> String {
        ["status", "interfaces", "drops", "routes"]
            .map(|line| match self.forwarder(line) {
                Ok(output) => format!(
                    "--- forwarder {line}\n{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                ),
                Err(why) => format!("--- forwarder {line}: {why:#}\n"),
            })
            .concat()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for node in HOSTS.iter().chain(&["router"]) {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.netns(node)])
                .output();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs a command to its end; answers what it printed.
///
/// # Errors
/// It cannot be run, or fails: its name and what it says.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
