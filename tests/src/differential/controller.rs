//! `forwarder run` on the fast router, and what its command line says.

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{netns::Namespace, topology::PORTS};
use crate::{controller::binary, lab::run, sandbox::BpfFs};

const LIMIT: Duration = Duration::from_secs(60);

/// Packets by interface and reason.
pub type Counters = BTreeMap<String, u64>;

/// A running controller, killed on drop; what it attached goes with its namespace.
pub struct Controller<'a> {
    router: &'a Namespace,
    child: Child,
    bpffs: BpfFs,
    dir: PathBuf,
}

impl<'a> Controller<'a> {
    /// Starts it with a role for each port that it serves, waits until it is in step.
    ///
    /// # Errors
    /// No binary, or it ends.
    pub fn start(router: &'a Namespace, role: impl Fn(&str) -> &'static str, more: &str) -> Result<Self> {
        Controller::of(router, |name| format!("role = \"{}\"\n", role(name)), more)
    }

    /// The same with what the configuration says of each port.
    ///
    /// # Errors
    /// As above.
    pub fn of(router: &'a Namespace, says: impl Fn(&str) -> String, more: &str) -> Result<Self> {
        let bpffs = BpfFs::mount()?;
        let dir = bpffs.path().with_extension("files");
        std::fs::create_dir_all(&dir)?;
        let mut config = String::new();
        for port in PORTS.iter().filter(|port| port.served) {
            config += &format!("[[interface]]\nname = \"{}\"\n{}\n", port.name, says(port.name));
        }
        config += "[tables]\nroutes = 65536\nipv4-blocks = 4096\nipv6-blocks = 4096\n\n";
        // Each packet counts, however many of a kind there are.
        config += "[punt]\nenabled = false\n\n";
        config += more;
        std::fs::write(dir.join("forwarder.toml"), config)?;
        let child = router
            .command(binary()?)
            .arg("run")
            .arg("--config")
            .arg(dir.join("forwarder.toml"))
            .arg("--bpffs")
            .arg(bpffs.path().join("forwarder"))
            .arg("--socket")
            .arg(dir.join("socket"))
            .env("RUST_LOG", "info")
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("log"))?)
            .spawn()
            .context("cannot run forwarder")?;
        let mut controller = Controller {
            router,
            child,
            bpffs,
            dir,
        };
        controller.ready()?;
        // The program switched NAPI on, and with it GRO, which might merge what the other router sees apart.
        for port in PORTS.iter().filter(|port| port.served) {
            router.ethtool(port.name, "gro off")?;
        }
        Ok(controller)
    }

    fn ready(&mut self) -> Result<()> {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("forwarder ended ({status}): {}", self.log());
            }
            if let Ok(rows) = self.json("status") {
                let row = &rows[0];
                if row["controller"] == "running" && row["sources"][0]["state"] == "in step" {
                    return Ok(());
                }
            }
            ensure!(
                Instant::now() < until,
                "forwarder is not ready after {LIMIT:?}: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// A reading command with `--json`.
    ///
    /// # Errors
    /// It fails.
    pub fn json(&self, words: &str) -> Result<Value> {
        let mut command = self.router.command(binary()?);
        command
            .args(words.split_whitespace())
            .arg("--json")
            .env("FORWARDER_BPFFS", self.bpffs.path().join("forwarder"))
            .env("FORWARDER_SOCKET", self.dir.join("socket"));
        let text = run(&mut command)?;
        serde_json::from_str(&text).with_context(|| format!("forwarder {words} --json"))
    }

    /// Packets by interface and reason, those forwarded among them.
    ///
    /// # Errors
    /// A reading command fails.
    pub fn counters(&self) -> Result<Counters> {
        let mut counters = Counters::new();
        for row in self.json("drops")?.as_array().into_iter().flatten() {
            let name = format!(
                "{} {}",
                row["ifname"].as_str().unwrap_or("?"),
                row["reason"].as_str().unwrap_or("?")
            );
            counters.insert(name, row["packets"].as_u64().unwrap_or(0));
        }
        for row in self.json("interfaces")?.as_array().into_iter().flatten() {
            let name = format!("{} forwarded", row["ifname"].as_str().unwrap_or("?"));
            counters.insert(name, row["forwarded_packets"].as_u64().unwrap_or(0));
        }
        Ok(counters)
    }
}

/// What moved between two readings, and by how much.
pub fn moved(before: &Counters, after: &Counters) -> Counters {
    after
        .iter()
        .map(|(name, now)| (name.clone(), now - before.get(name).copied().unwrap_or(0)))
        .filter(|(_, by)| *by != 0)
        .collect()
}

impl Drop for Controller<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
