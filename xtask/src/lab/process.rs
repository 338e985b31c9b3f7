//! Long-running processes of the lab, recorded so that exactly these, and no others, are ended later.
//!
//! A record is the process id together with its start time, because ids are reused.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::procfs::Stat;

/// One process that the lab started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// For example `bird` or `forwarder`.
    pub what: String,
    /// The node it runs in.
    pub node: String,
    /// Process id.
    pub pid: u32,
    /// Clock ticks after boot, field 22 of /proc/PID/stat.
    pub started: u64,
}

impl Process {
    /// Starts a command in its own process group (a Ctrl-C on the terminal is not for it), output into `log`.
    pub fn start(what: &str, node: &str, command: &mut Command, log: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let out = File::options().create(true).append(true).open(log);
        let out = out.with_context(|| format!("log file {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {what} on {node}"))?;
        let pid = child.id();
        let started = start_time(pid).with_context(|| format!("{what} on {node} ended at once"))?;
        // Somebody must reap it while we live, or a killed child looks alive.
        std::thread::spawn(move || {
            let mut child = child;
            let _ = child.wait();
        });
        Ok(Self {
            what: what.into(),
            node: node.into(),
            pid,
            started,
        })
    }

    /// Whether it still runs.
    pub fn alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Sends a signal, unless it has ended already.
    pub fn signal(&self, signal: i32) {
        if self.alive() {
            // SAFETY: kill takes two integers and touches no memory; the id was checked to be our process.
            unsafe { libc::kill(self.pid as libc::pid_t, signal) };
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
        self.gone(Duration::from_secs(5));
    }

    /// SIGTERM, then SIGKILL for one that does not listen.
    pub fn stop(&self) {
        self.signal(libc::SIGTERM);
        if !self.gone(Duration::from_secs(3)) {
            self.kill();
        }
    }

    fn gone(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.alive() {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }
}

/// Start time of a process, none for one that has ended (a zombie has).
fn start_time(pid: u32) -> Option<u64> {
    let stat = Stat::of(pid).ok()?;
    if stat.has_ended() { None } else { stat.started() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_is_killed_and_a_reused_id_is_not_it() {
        let log = std::env::temp_dir().join(format!("process-test-{}", std::process::id()));
        let process = Process::start("sleep", "here", Command::new("sleep").arg("60"), &log).unwrap();
        assert!(process.alive());
        let other = Process {
            started: process.started + 1,
            ..process.clone()
        };
        assert!(!other.alive());
        process.kill();
        assert!(!process.alive());
        let _ = std::fs::remove_file(log);
    }
}
