//! How a controller begins: with which configuration, and again with another.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, anyhow};
use tracing::warn;

use super::{Places, Trial};
use crate::config::{self, Config, ConfigError};

/// Told to a process that begins again: the directory of the configurations.
const RELOADED: &str = "FORWARDER_RELOADED";
/// Told to one whose new configuration could not be started with: why.
const REFUSED: &str = "FORWARDER_REFUSED";

/// What the process before told the one that begins, if there was one.
#[derive(Clone, Debug, Default)]
pub struct Told {
    directory: Option<PathBuf>,
    refused: Option<String>,
}

/// A configuration to begin with.
pub struct Beginning {
    /// What it says.
    pub config: Config,
    /// Its text.
    pub text: String,
    /// It is on trial.
    pub trial: Option<Trial>,
    /// Why it is not the one that was asked for.
    pub refused: Option<String>,
}

impl Told {
    /// From this process's environment.
    pub fn read() -> Told {
        Told {
            directory: std::env::var_os(RELOADED).map(PathBuf::from),
            refused: std::env::var(REFUSED).ok(),
        }
    }

    /// Whether this process has begun again, and not for the first time.
    pub fn is_reload(&self) -> bool {
        self.directory.is_some()
    }

    /// Chooses the configuration to begin with: of the file, or after a reload what is on trial, or what was in force when the
    /// new one could not be started with.
    ///
    /// # Errors
    /// As [`config::load`].
    pub fn begin(&self, file: &Path) -> Result<Beginning> {
        let plain = |text: String, trial: Option<Trial>| -> Result<Beginning, ConfigError> {
            Ok(Beginning {
                config: config::read(file, &text)?,
                text,
                trial,
                refused: None,
            })
        };
        let Some(directory) = self.directory.clone() else {
            return Ok(plain(config::text(file)?, None)?);
        };
        let places = Places {
            directory,
            file: file.to_path_buf(),
        };
        if let Some(refused) = &self.refused {
            let mut beginning = plain(places.in_force()?, None)?;
            beginning.refused = Some(refused.clone());
            return Ok(beginning);
        }
        match places.trial() {
            Ok(Some(trial)) if trial.left().is_some() => Ok(plain(trial.text.clone(), Some(trial))?),
            _ => Ok(plain(config::text(file)?, None)?),
        }
    }

    /// Begins with what was in force before, where this was a reload. Comes back when it was not, or when it cannot.
    pub fn put_back(&self, why: &anyhow::Error) {
        let Some(directory) = &self.directory else { return };
        if self.refused.is_some() {
            return;
        }
        warn!("the new configuration could not be started with, and the one before comes back: {why:#}");
        let failed = again(directory, Some(&format!("{why:#}")));
        warn!("cannot go back: {failed:#}");
    }
}

/// Begins again in this process, with the same words. Comes back only when that fails.
pub fn again(directory: &Path, refused: Option<&str>) -> anyhow::Error {
    // SAFETY: ignoring a signal calls nothing. Until the new program listens for it, it would end the process.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| OsString::from("forwarder"));
    // The same program, also where another has been installed in its place: that one comes with a restart.
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).args(words).env(RELOADED, directory);
    match refused {
        Some(why) => command.env(REFUSED, why),
        None => command.env_remove(REFUSED),
    };
    let why = command.exec();
    anyhow!("cannot begin again: {why}")
}
