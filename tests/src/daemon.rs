//! A routing daemon in the foreground.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::lab::Lab;

/// How long a daemon may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon, killed on drop.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts this command; what it prints is in the lab's directory until the lab is gone.
    ///
    /// # Errors
    /// There is no such program.
    pub fn start(lab: &Lab, name: &str, command: &mut Command) -> Result<Daemon> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(lab.dir().join(format!("{name}.log")))?;
        let child = command
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {name}: `cargo xtask setup` installs it"))?;
        Ok(Daemon { child })
    }

    /// SIGKILL: it says goodbye to nobody.
    ///
    /// # Errors
    /// It ended before.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for its end; SIGKILL where that does not come, as with zebra 8.4, which may wait for a thread of its
    /// own for ever.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn stop(mut self) -> Result<()> {
        self.signal(libc::SIGTERM);
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= until {
                return self.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a daemon printed so far.
pub fn log(lab: &Lab, name: &str) -> String {
    fs::read_to_string(lab.dir().join(format!("{name}.log"))).unwrap_or_default()
}
