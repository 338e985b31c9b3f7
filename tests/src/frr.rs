//! FRR's daemons on a node of the lab.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command},
};

use anyhow::{Context, Result};

use crate::lab::{Lab, run};

/// Where Debian puts them.
const DAEMONS: &str = "/usr/lib/frr";

/// zebra, staticd, bgpd... in the foreground, killed on drop.
pub struct Frr<'a> {
    lab: &'a Lab,
    node: &'static str,
    dir: PathBuf,
    running: Vec<(&'static str, Child)>,
}

impl<'a> Frr<'a> {
    /// A place for them on a node; nothing runs yet.
    ///
    /// # Errors
    /// FRR is not installed.
    pub fn new(lab: &'a Lab, node: &'static str) -> Result<Frr<'a>> {
        let dir = lab.dir().join(format!("frr-{node}"));
        // They give up root for a user of their own, who must be able to write here.
        run(Command::new("install")
            .args(["-d", "-o", "frr", "-g", "frr"])
            .arg(&dir))
        .context("there is no user frr: `cargo xtask setup` installs FRR")?;
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
        let log = File::options().create(true).append(true).open(file("log"))?;
        let _ = fs::remove_file(file("vty"));
        let child = self
            .lab
            .command(self.node, format!("{DAEMONS}/{daemon}"))
            .args(["-u", "frr", "-g", "frr", "-P", "0", "--log", "stdout", "-f"])
            .arg(file("conf"))
            .arg("-i")
            .arg(file("pid"))
            .arg("-z")
            .arg(self.dir.join("zserv"))
            .arg("--vty_socket")
            .arg(&self.dir)
            .args(options)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {daemon}"))?;
        self.running.push((daemon, child));
        self.lab
            .wait(&format!("{daemon} to answer"), || {
                Ok(self.show(daemon, "show version").ok())
            })
            .map(drop)
            .with_context(|| fs::read_to_string(file("log")).unwrap_or_default())
    }

    /// What a daemon answers to a command.
    ///
    /// # Errors
    /// It does not.
    pub fn show(&self, daemon: &str, command: &str) -> Result<String> {
        self.vtysh(daemon, &[command])
    }

    /// Lines of configuration for a daemon.
    ///
    /// # Errors
    /// It does not take them.
    pub fn configure(&self, daemon: &str, lines: &[&str]) -> Result<()> {
        self.vtysh(daemon, &[&["configure terminal"], lines].concat())
            .map(drop)
    }

    fn vtysh(&self, daemon: &str, lines: &[&str]) -> Result<String> {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.dir).args(["-d", daemon]);
        for line in lines {
            command.args(["-c", line]);
        }
        run(&mut command)
    }

    /// Kills one without a chance to say goodbye.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, daemon: &str) -> Result<()> {
        let mut child = self.take(daemon)?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop(&mut self, daemon: &str) -> Result<()> {
        let mut child = self.take(daemon)?;
        signal(&child, libc::SIGTERM);
        child.wait()?;
        Ok(())
    }

    /// SIGSTOP or SIGCONT: a daemon that is there and says nothing.
    pub fn pause(&self, daemon: &str, pause: bool) {
        for (_, child) in self.running.iter().filter(|(name, _)| *name == daemon) {
            signal(child, if pause { libc::SIGSTOP } else { libc::SIGCONT });
        }
    }

    fn take(&mut self, daemon: &str) -> Result<Child> {
        let position = self.running.iter().position(|(name, _)| *name == daemon);
        Ok(self.running.remove(position.context("it does not run")?).1)
    }
}

impl Drop for Frr<'_> {
    fn drop(&mut self) {
        // zebra last, so that the others do not complain.
        for (_, child) in self.running.iter_mut().rev() {
            // One that is paused would never hear of its end.
            signal(child, libc::SIGCONT);
            signal(child, libc::SIGTERM);
            let _ = child.wait();
        }
    }
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: a signal to our own child, which has not been waited for.
    unsafe { libc::kill(child.id() as i32, signal) };
}
