//! A running `forwarder run`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::Lab;

/// The binary under test: `FORWARDER_BIN`, or the newer of those in the target directory of this test.
///
/// # Errors
/// There is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FORWARDER_BIN") {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "FORWARDER_BIN: there is no {}", path.display());
        return Ok(path);
    }
    let here = std::env::current_exe()?;
    // target/PROFILE/deps/test-name
    let target = here
        .ancestors()
        .nth(3)
        .context("the test stands outside cargo's target directory")?;
    let candidates = ["debug", "release"].map(|profile| target.join(profile).join("forwarder"));
    let newest = candidates
        .into_iter()
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max();
    let Some((_, path)) = newest else {
        bail!(
            "there is no forwarder in {}: run `cargo build -p forwarder` first, or name one with FORWARDER_BIN",
            target.display()
        );
    };
    Ok(path)
}

/// The controller of a lab's router. Killed on drop.
pub struct Controller<'a> {
    lab: &'a Lab,
    child: Child,
    log: PathBuf,
}

impl<'a> Controller<'a> {
    /// Starts it and does not wait.
    ///
    /// # Errors
    /// No binary.
    pub fn spawn(lab: &'a Lab, config: &Path) -> Result<Controller<'a>> {
        Controller::spawn_by(lab, config, lab.command("router", binary()?))
    }

    /// Starts it with words more, and waits until its feeds are in step.
    ///
    /// # Errors
    /// It ends, with what it said.
    pub fn start_with(lab: &'a Lab, config: &Path, words: &[&str]) -> Result<Controller<'a>> {
        let command = lab.command("router", binary()?);
        let mut controller = Controller::spawn_words(lab, config, command, words)?;
        controller.ready()?;
        Ok(controller)
    }

    /// Starts it by a command of its own, such as one that takes rights away, and does not wait. The command must end in a
    /// binary of ours, and become it.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn spawn_by(lab: &'a Lab, config: &Path, command: Command) -> Result<Controller<'a>> {
        Controller::spawn_words(lab, config, command, &[])
    }

    fn spawn_words(
        lab: &'a Lab,
        config: &Path,
        mut command: Command,
        words: &[&str],
    ) -> Result<Controller<'a>> {
        let log = lab.dir().join("forwarder.log");
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .arg("run")
            .arg("--config")
            .arg(config)
            .arg("--bpffs")
            .arg(lab.pins())
            .arg("--socket")
            .arg(lab.socket())
            .args(words)
            .env("RUST_LOG", "info")
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .context("cannot run nsenter")?;
        Ok(Controller { lab, child, log })
    }

    /// Starts it and waits until its feeds are in step.
    ///
    /// # Errors
    /// It ends, with what it said.
    pub fn start(lab: &'a Lab, config: &Path) -> Result<Controller<'a>> {
        let mut controller = Controller::spawn(lab, config)?;
        controller.ready()?;
        Ok(controller)
    }

    /// Waits until its feeds are in step.
    ///
    /// # Errors
    /// It ends, with what it said.
    pub fn ready(&mut self) -> Result<()> {
        let pid = self.child.id();
        let lab = self.lab;
        let waited = lab.wait("the controller to be in step", || {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}): {}", self.log());
            }
            let Ok(rows) = lab.json("status") else {
                return Ok(None);
            };
            let row = &rows[0];
            let in_step = row["sources"][0]["state"] == "in step" && row["pid"] == pid;
            Ok((in_step && row["controller"] == "running").then_some(()))
        });
        waited.with_context(|| self.log())
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGSTOP or SIGCONT: a controller that cannot keep up, for as long as a test likes.
    pub fn pause(&self, pause: bool) {
        let signal = if pause { libc::SIGSTOP } else { libc::SIGCONT };
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It ended before.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(mut self) -> Result<ExitStatus> {
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let lab = self.lab;
        lab.wait("the controller to stop", || Ok(self.child.try_wait()?))
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Controller<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}--- log\n{}", self.lab.picture(), self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
