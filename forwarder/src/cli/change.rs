//! Commands that put another configuration in force: reload, apply, confirm, rollback.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use super::{Format, output, progress, reader::Reader};
use crate::{
    change::{
        Places,
        difference::{self, Change},
        without_mark,
    },
    config, netlink,
    stats::StatusRow,
};

/// How long a controller may take to begin again: a full table by BGP, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// After which it is told again: to be told twice does no harm.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What `apply` is told.
#[derive(Debug, Args)]
pub struct Apply {
    /// The new configuration
    #[arg(value_name = "FILE")]
    file: std::path::PathBuf,
    /// Try it for so many seconds (60s, 5min): unless `forwarder confirm` comes before they are over, the old one comes back
    #[arg(long, value_name = "TIME", value_parser = time)]
    confirm: Option<u64>,
    /// Only say what would change
    #[arg(long, conflicts_with = "confirm")]
    dry_run: bool,
    #[command(flatten)]
    format: Format,
}

/// What `reload` is told.
#[derive(Debug, Args)]
pub struct Reload {
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: Format,
}

fn time(word: &str) -> Result<u64, String> {
    let (digits, unit) = word.split_at(word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len()));
    let number: u64 = digits
        .parse()
        .map_err(|_| "a time such as 60s or 5min is expected".to_string())?;
    let seconds = match unit {
        "" | "s" => number,
        "m" | "min" => number.saturating_mul(60),
        other => return Err(format!("{other} is no unit of time: s or min")),
    };
    if (5..=86_400).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("it must be between 5 s and a day".to_string())
    }
}

/// A controller, and where it keeps its configurations.
struct Controller<'a> {
    reader: &'a Reader,
    pid: i32,
    places: Places,
    read_ms: u64,
}

fn status(reader: &Reader) -> Result<Option<StatusRow>> {
    let Some(body) = reader.ask_controller("/v1/status")? else {
        return Ok(None);
    };
    let rows: Vec<StatusRow> = serde_json::from_slice(&body)
        .context("the controller's answer cannot be read: is it of another version than this program?")?;
    Ok(rows.into_iter().next())
}

impl Controller<'_> {
    fn find(reader: &Reader) -> Result<Controller<'_>> {
        let row = status(reader)?.context("no controller runs: start it with `forwarder run`")?;
        let pid = row
            .pid
            .context("no controller runs: start it with `forwarder run`")?;
        if row.config.file.is_empty() {
            bail!(
                "the controller (pid {pid}) was started with --interface and reads no configuration: stop it, and start it \
                 with --config; the data path goes on meanwhile"
            );
        }
        Ok(Controller {
            reader,
            pid: i32::try_from(pid)?,
            places: Places {
                directory: row.config.directory.clone().into(),
                file: row.config.file.clone().into(),
            },
            read_ms: row.config.read_ms,
        })
    }

    /// What is on trial goes before the file.
    fn no_trial(&self) -> Result<()> {
        let left = self.places.trial()?.and_then(|trial| trial.left());
        left.map_or(Ok(()), |left| {
            bail!(
                "a configuration is on trial for {} s more: `forwarder confirm` or `forwarder rollback` first",
                left / 1_000
            )
        })
    }

    /// SIGHUP, and waits for what comes of it. The error says why the new configuration is not in force.
    fn hang_up(&self) -> Result<()> {
        self.signal()?;
        let refused = self.wait(|row| row.config.read_ms > self.read_ms)?;
        refused.map_or(Ok(()), |why| bail!(why))
    }

    fn signal(&self) -> Result<()> {
        // SAFETY: a signal, to the process that the controller's socket named.
        if unsafe { libc::kill(self.pid, libc::SIGHUP) } != 0 {
            let why = io::Error::last_os_error();
            bail!(
                "cannot tell the controller (pid {}): {why}. Run this as root",
                self.pid
            );
        }
        Ok(())
    }

    /// Waits until `so`, and until the controller forwards by its routes again; answers why what it read is not in force.
    fn wait(&self, so: impl Fn(&StatusRow) -> bool) -> Result<Option<String>> {
        let line = progress::line("the controller reads its configuration", None);
        let until = Instant::now() + PATIENCE;
        let mut told = Instant::now();
        loop {
            // One that has just begun again may not have heard.
            if told.elapsed() >= AGAIN {
                told = Instant::now();
                self.signal()?;
            }
            // Between two starts nobody answers, or not to the end.
            if let Ok(Some(row)) = status(self.reader)
                && so(&row)
                && row
                    .sources
                    .first()
                    .is_some_and(|source| source.state != "synchronising")
            {
                line.finish_and_clear();
                return Ok(row.config.refused);
            }
            if Instant::now() >= until {
                line.finish_and_clear();
                bail!(
                    "the controller (pid {}) has not taken the configuration within {} s: see its log and `forwarder status`",
                    self.pid,
                    PATIENCE.as_secs()
                );
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// In what a configuration differs from the one in force.
    fn changes(&self, text: &str) -> Result<Vec<Change>> {
        let trial = self.places.trial()?.filter(|trial| trial.left().is_some());
        let now = match trial {
            Some(trial) => without_mark(&trial.text).to_string(),
            None => self.places.in_force()?,
        };
        Ok(difference::of(&now, text)?)
    }
}

/// What is wrong with a text, said as `forwarder check` says it; and warnings.
fn sound(file: &Path) -> Result<String> {
    let links = netlink::dump::dump_links();
    let present = |name: &str| {
        links
            .as_ref()
            .map_or(true, |links| links.iter().any(|link| link.name == name))
    };
    let (_, warnings) = config::check(file, &present)?;
    for warning in warnings {
        output::warn(&format!("warning: {warning}"));
    }
    Ok(config::text(file)?)
}

/// What came of it: a row.
#[derive(Serialize)]
struct Outcome<'a> {
    /// "in-force", "on-trial", "confirmed", "rolled-back"; "would-change" where nothing was done.
    state: &'static str,
    /// The configuration's own file.
    file: String,
    /// Seconds until the one before comes back; null where it does not.
    trial_seconds: Option<u64>,
    changes: &'a [Change],
}

fn tell(
    places: &Places,
    state: &'static str,
    trial_seconds: Option<u64>,
    changes: &[Change],
    json: bool,
) -> Result<()> {
    let file = places.file.display().to_string();
    if json {
        return output::print_json(&[Outcome {
            state,
            file,
            trial_seconds,
            changes,
        }]);
    }
    let mut text: String = changes.iter().map(|change| format!("{change}\n")).collect();
    text += &match (state, trial_seconds) {
        ("would-change", _) if changes.is_empty() => {
            format!("nothing would change: it says what is in force ({file})\n")
        }
        ("would-change", _) => "nothing was done\n".to_string(),
        (_, Some(seconds)) => format!(
            "on trial for {seconds} s: `forwarder confirm` makes it {file}, `forwarder rollback` ends it now\n"
        ),
        ("confirmed", _) => format!("{file} is in force, and is what was on trial\n"),
        ("rolled-back", _) => format!("{file} is in force again\n"),
        _ if changes.is_empty() => format!("nothing has changed: {file} says what is in force\n"),
        _ => format!("{file} is in force\n"),
    };
    output::print(&text)
}

/// `forwarder reload`
pub fn reload(reader: &Reader, words: &Reload) -> Result<bool> {
    let controller = Controller::find(reader)?;
    controller.no_trial()?;
    let text = sound(&controller.places.file)?;
    let changes = controller.changes(&text)?;
    if words.dry_run {
        tell(
            &controller.places,
            "would-change",
            None,
            &changes,
            words.format.json,
        )?;
        return Ok(true);
    }
    controller
        .hang_up()
        .context("the configuration before stays in force")?;
    tell(&controller.places, "in-force", None, &changes, words.format.json)?;
    Ok(true)
}

/// `forwarder apply`
pub fn apply(reader: &Reader, words: &Apply) -> Result<bool> {
    let controller = Controller::find(reader)?;
    let places = &controller.places;
    let text = sound(&words.file)?;
    let changes = controller.changes(&text)?;
    if words.dry_run {
        tell(places, "would-change", None, &changes, words.format.json)?;
        return Ok(true);
    }
    if let Some(seconds) = words.confirm {
        places.put_on_trial(&text, seconds)?;
        if let Err(why) = controller.hang_up() {
            places.end_trial()?;
            return Err(why.context("the configuration before stays in force"));
        }
        tell(places, "on-trial", Some(seconds), &changes, words.format.json)?;
        return Ok(true);
    }
    controller.no_trial()?;
    let before = places.text()?;
    places.install(&text)?;
    if let Err(why) = controller.hang_up() {
        places.install(&before)?;
        return Err(why.context(format!(
            "the configuration before stays in force, and {} is as it was",
            places.file.display()
        )));
    }
    tell(places, "in-force", None, &changes, words.format.json)?;
    Ok(true)
}

/// `forwarder confirm`
pub fn confirm(reader: &Reader, json: bool) -> Result<bool> {
    let controller = Controller::find(reader)?;
    controller.places.confirm()?;
    controller.wait(|row| row.config.trial_seconds.is_none())?;
    tell(&controller.places, "confirmed", None, &[], json)?;
    Ok(true)
}

/// `forwarder rollback`
pub fn rollback(reader: &Reader, json: bool) -> Result<bool> {
    let controller = Controller::find(reader)?;
    if !controller.places.end_trial()? {
        bail!("no configuration is on trial: there is nothing to go back from");
    }
    let refused = controller.wait(|row| row.config.trial_seconds.is_none())?;
    if let Some(why) = refused {
        bail!("the file's configuration could not be started with, the one before it is in force: {why}");
    }
    tell(&controller.places, "rolled-back", None, &[], json)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_lasts_from_five_seconds_to_a_day() {
        assert_eq!(time("60s"), Ok(60));
        assert_eq!(time("60"), Ok(60));
        assert_eq!(time("5min"), Ok(300));
        for wrong in [
            "",
            "s",
            "4s",
            "0",
            "2d",
            "1441min",
            "99999999999999999999min",
            "-5s",
        ] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
