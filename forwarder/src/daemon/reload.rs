//! When the configuration is read again, and what comes of it: nothing, a refusal, or another start.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::state::ConfigState;
use crate::{
    change::{
        Places, Trial,
        begin::{self, Beginning, Told},
        without_mark,
    },
    clock, config,
};

/// The configuration file of a controller that has one.
pub struct Reload {
    places: Places,
    told: Told,
    /// What is in force.
    text: String,
    trial: Option<Trial>,
    refused: Option<String>,
    read_ms: u64,
}

impl Reload {
    /// Of a controller that began so, with the directory of its socket. What another start has left on trial is over.
    pub fn new(file: PathBuf, directory: PathBuf, told: Told, beginning: &Beginning) -> Reload {
        let places = Places { directory, file };
        // Not later: somebody may put something on trial as soon as there is an answer.
        if !told.is_reload()
            && let Err(why) = places.end_trial()
        {
            warn!("{why:#}");
        }
        Reload {
            places,
            told,
            text: beginning.text.clone(),
            trial: beginning.trial.clone(),
            refused: beginning.refused.clone(),
            read_ms: clock::since_1970().as_millis() as u64,
        }
    }

    /// The start failed: goes back to what was in force, where this was a reload. Comes back when it was not.
    pub fn put_back(&self, why: &anyhow::Error) {
        if self.trial.is_some()
            && let Err(why) = self.places.end_trial()
        {
            warn!("{why:#}");
        }
        self.told.put_back(why);
    }

    /// The start succeeded: keeps what is in force, unless it is on trial.
    pub fn started(&self) {
        if self.trial.is_none()
            && let Err(why) = self.places.keep(&self.text)
        {
            warn!("a reload that fails could not be taken back: {why:#}");
        }
    }

    /// Looks whether another configuration is to be in force; `asked` by SIGHUP. Answers whether to begin again.
    pub fn turn(&mut self, asked: &Arc<AtomicBool>) -> bool {
        if self.trial_ends() {
            return true;
        }
        if !asked.swap(false, Ordering::Relaxed) {
            return false;
        }
        let wanted = self.wanted();
        self.read_ms = clock::since_1970().as_millis() as u64;
        match wanted {
            Ok((text, _)) if text == self.text => {
                self.refused = None;
                info!("the configuration is as it was");
                false
            }
            Ok(_) => {
                info!("taking the new configuration");
                true
            }
            Err(why) => {
                let why = format!("{why:#}");
                warn!("the configuration stays as it was: {why}");
                self.refused = Some(why);
                false
            }
        }
    }

    /// Whether what is on trial is over: by its time, or taken back. One that was confirmed is no trial any more.
    fn trial_ends(&mut self) -> bool {
        let Some(trial) = &self.trial else { return false };
        let there = self.places.trial().ok().flatten();
        if trial.left().is_some() && there.is_some() {
            return false;
        }
        if there.is_none()
            && self
                .places
                .text()
                .is_ok_and(|text| text == without_mark(&trial.text))
        {
            info!("the configuration on trial was confirmed");
            self.text = without_mark(&trial.text).to_string();
            self.trial = None;
            self.started();
            return false;
        }
        let why = if there.is_some() {
            "was not confirmed"
        } else {
            "was taken back"
        };
        warn!(
            "the configuration on trial {why}: {} comes back",
            self.places.file.display()
        );
        if let Err(why) = self.places.end_trial() {
            warn!("{why:#}");
        }
        true
    }

    /// What is on trial, or the file, when it is sound.
    fn wanted(&self) -> Result<(String, Option<Trial>)> {
        let trial = self.places.trial()?.filter(|trial| trial.left().is_some());
        let text = match &trial {
            Some(trial) => trial.text.clone(),
            None => self.places.text()?,
        };
        let read = config::read(&self.places.file, &text);
        if read.is_err() && trial.is_some() {
            self.places.end_trial()?;
        }
        read.context("it is not sound")?;
        Ok((text, trial))
    }

    /// Begins again. Comes back only when that fails.
    pub fn again(&self) -> anyhow::Error {
        begin::again(&self.places.directory, None)
    }

    /// For `status`.
    pub fn state(&self) -> ConfigState {
        ConfigState {
            file: self.places.file.display().to_string(),
            directory: self.places.directory.display().to_string(),
            read_ms: self.read_ms,
            refused: self.refused.clone(),
            trial_seconds: self
                .trial
                .as_ref()
                .map(|trial| trial.left().unwrap_or(0).div_ceil(1_000)),
        }
    }

    /// What an operator must know.
    pub fn problems(&self) -> impl Iterator<Item = String> + use<> {
        let refused = self.refused.as_ref().map(|why| {
            format!("the configuration was read again and not taken, so the one before stays in force: {why}")
        });
        let trial = self.trial.as_ref().map(|trial| {
            format!(
                "a configuration is on trial for {} s more: `forwarder confirm` keeps it, `forwarder rollback` ends it now",
                trial.left().unwrap_or(0).div_ceil(1_000)
            )
        });
        refused.into_iter().chain(trial)
    }
}
