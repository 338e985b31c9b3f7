//! FRR's daemons on a node of the lab.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use xtask::lab::frr;

use crate::{
    daemon::{self, Daemon},
    lab::Lab,
};

/// zebra, staticd, bgpd... in the foreground, killed on drop.
pub struct Frr<'a> {
    lab: &'a Lab,
    node: &'static str,
    dir: PathBuf,
    running: Vec<(&'static str, Daemon)>,
}

impl<'a> Frr<'a> {
    /// A place for them on a node; nothing runs yet.
    ///
    /// # Errors
    /// FRR is not installed.
    pub fn new(lab: &'a Lab, node: &'static str) -> Result<Frr<'a>> {
        let dir = lab.dir().join(format!("frr-{node}"));
        frr::directory(&dir)?;
        Ok(Frr {
            lab,
            node,
            dir,
            running: Vec::new(),
        })
    }

    /// Starts one with a configuration and waits until it answers. zebra first: the others connect to it.
    ///
    /// # Errors
    /// It does not start; its log tells.
    pub fn start(&mut self, daemon: &'static str, config: &str, options: &[&str]) -> Result<()> {
        let file = |suffix: &str| self.dir.join(format!("{daemon}.{suffix}"));
        fs::write(file("conf"), config)?;
        let _ = fs::remove_file(file("vty"));
        let mut command = self.lab.command(self.node, frr::program(daemon));
        frr::arguments(&mut command, &self.dir, daemon);
        let log = format!("{daemon}-{}", self.node);
        self.running
            .push((daemon, Daemon::start(self.lab, &log, command.args(options))?));
        self.lab
            .wait(&format!("{daemon} to answer"), || {
                Ok(self.show(daemon, "show version").ok())
            })
            .map(drop)
            .with_context(|| daemon::log(self.lab, &log))
    }

    /// What a daemon answers to a command.
    ///
    /// # Errors
    /// It does not.
    pub fn show(&self, daemon: &str, command: &str) -> Result<String> {
        frr::vtysh(&self.dir, daemon, &[command])
    }

    /// Lines of configuration for a daemon.
    ///
    /// # Errors
    /// It does not take them.
    pub fn configure(&self, daemon: &str, lines: &[&str]) -> Result<()> {
        frr::vtysh(&self.dir, daemon, &[&["configure terminal"], lines].concat()).map(drop)
    }

    /// Takes what a zebra that was killed left in the kernel: the next would take that for its own table again, some of it.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn clear_kernel(&self) -> Result<()> {
        self.lab.ip(self.node, "nexthop flush")?;
        ["-4", "-6"]
            .into_iter()
            .try_for_each(|family| self.lab.ip(self.node, &format!("{family} route flush proto 196")))
    }

    /// Kills one without a chance to say goodbye.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, daemon: &str) -> Result<()> {
        self.take(daemon)?.kill()
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop(&mut self, daemon: &str) -> Result<()> {
        self.take(daemon)?.stop()
    }

    /// SIGSTOP or SIGCONT: a daemon that is there and says nothing.
    pub fn pause(&self, daemon: &str, pause: bool) {
        for (_, running) in self.running.iter().filter(|(name, _)| *name == daemon) {
            running.signal(if pause { libc::SIGSTOP } else { libc::SIGCONT });
        }
    }

    fn take(&mut self, daemon: &str) -> Result<Daemon> {
        let position = self.running.iter().position(|(name, _)| *name == daemon);
        Ok(self.running.remove(position.context("it does not run")?).1)
    }
}

impl Drop for Frr<'_> {
    fn drop(&mut self) {
        // zebra last, so that the others do not complain.
        for (_, daemon) in self.running.drain(..).rev() {
            // One that is paused would never hear of its end.
            daemon.signal(libc::SIGCONT);
            let _ = daemon.stop();
        }
    }
}
