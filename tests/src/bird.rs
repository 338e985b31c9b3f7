//! BIRD on a node of the lab.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    daemon::Daemon,
    lab::{Lab, run},
};

/// One BIRD. Killed on drop.
pub struct Bird<'a> {
    lab: &'a Lab,
    node: &'a str,
    daemon: Option<Daemon>,
}

impl<'a> Bird<'a> {
    /// Starts it with a configuration.
    ///
    /// # Errors
    /// A mistake in the configuration, which is said here, and not as routes that never come.
    pub fn start(lab: &'a Lab, node: &'a str, config: &str) -> Result<Bird<'a>> {
        let mut bird = Bird {
            lab,
            node,
            daemon: None,
        };
        bird.write(config)?;
        bird.run(&[])?;
        Ok(bird)
    }

    fn file(&self, suffix: &str) -> std::path::PathBuf {
        self.lab.dir().join(format!("bird-{}.{suffix}", self.node))
    }

    /// Another configuration, for `configure` or its next start.
    ///
    /// # Errors
    /// A mistake in it.
    pub fn write(&self, config: &str) -> Result<()> {
        let path = self.file("conf");
        fs::write(&path, config)?;
        run(self.lab.command(self.node, "bird").arg("-p").arg("-c").arg(&path)).map(drop)
    }

    /// Starts it again, with these options more.
    ///
    /// # Errors
    /// It is not installed.
    pub fn run(&mut self, more: &[&str]) -> Result<()> {
        let mut command = self.lab.command(self.node, "bird");
        command.arg("-f").args(more);
        command.arg("-c").arg(self.file("conf"));
        command.arg("-s").arg(self.file("ctl"));
        let name = format!("bird-{}", self.node);
        self.daemon = Some(Daemon::start(self.lab, &name, &mut command)?);
        Ok(())
    }

    /// Another configuration, taken at once.
    ///
    /// # Errors
    /// A mistake in it.
    pub fn configure(&self, config: &str) -> Result<()> {
        self.write(config)?;
        self.ask("configure").map(drop)
    }

    /// What `birdc` answers.
    ///
    /// # Errors
    /// It does not run.
    pub fn ask(&self, words: &str) -> Result<String> {
        let mut command = self.lab.command(self.node, "birdc");
        command.arg("-s").arg(self.file("ctl"));
        run(command.args(words.split_whitespace()))
    }

    /// SIGKILL: it says goodbye to nobody.
    ///
    /// # Errors
    /// It ended before.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), Daemon::kill)
    }

    /// SIGTERM: it says goodbye, and takes its routes out of the kernel.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.take().context("it does not run")?.stop()
    }

    /// SIGSTOP or SIGCONT: a daemon that is there and says nothing.
    pub fn pause(&self, pause: bool) {
        if let Some(daemon) = &self.daemon {
            daemon.signal(if pause { libc::SIGSTOP } else { libc::SIGCONT });
        }
    }
}
