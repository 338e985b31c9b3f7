//! `[history]`: samples of the past, and where they are kept.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use forwarder_history::{DEFAULT_DIRECTORY, INTERVAL, Retention};
use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, check::Check, file::Age};

/// Days at most: more than a century is a mistake.
const MOST_DAYS: u32 = 36_600;
/// Milliseconds of what is billed.
const FIVE_MINUTES: u128 = INTERVAL as u128 * 1_000;
/// Milliseconds at least: counters are read every ten seconds.
const SHORTEST: u128 = 10_000;

/// Samples of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryConfig {
    /// Whether they are kept; `None`: nobody said, and they are if that is possible.
    pub enabled: Option<bool>,
    /// Where, where somebody said.
    pub directory: Option<PathBuf>,
    /// For how long.
    pub retention: Retention,
    /// How long a sample spans, seconds.
    pub interval: Option<u32>,
}

impl HistoryConfig {
    /// Whether somebody asked for it, so that it is a problem where there is none.
    pub fn is_asked_for(&self) -> bool {
        self.enabled == Some(true) || self.enabled.is_none() && self.directory.is_some()
    }

    /// How long a sample spans. What is billed is five minutes.
    pub fn interval(&self) -> Duration {
        let seconds = self.interval.map_or(INTERVAL as u64, u64::from);
        Duration::from_secs(seconds)
    }

    /// Where it is kept.
    pub fn place(&self) -> &Path {
        self.directory.as_deref().unwrap_or(Path::new(DEFAULT_DIRECTORY))
    }
}

/// The section as written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Written {
    enabled: Option<bool>,
    directory: Option<Spanned<PathBuf>>,
    retention: Option<Spanned<String>>,
    interval: Option<Spanned<Age>>,
}

impl Check<'_> {
    pub(super) fn history(&self, written: &Written) -> Result<HistoryConfig, ConfigError> {
        let directory = written.directory.as_ref().map(|at| {
            let path = at.get_ref();
            if path.is_absolute() {
                Ok(path.clone())
            } else {
                let shown = path.display();
                let message = format!("directory = \"{shown}\" does not begin with /");
                Err(self.error(
                    at,
                    message,
                    &format!("write the whole path, as \"{DEFAULT_DIRECTORY}\""),
                ))
            }
        });
        let retention = written.retention.as_ref().map(|at| {
            let days = days(at.get_ref()).filter(|days| (1..=MOST_DAYS).contains(days));
            days.map(|days| Retention { days }).ok_or_else(|| {
                let message = format!("retention = {:?} is not a time to keep samples for", at.get_ref());
                self.error(at, message, "write \"90days\", \"13months\" or \"5years\"")
            })
        });
        let interval = written.interval.as_ref().map(|at| {
            let length = at.get_ref().0.as_millis();
            let fits = length >= SHORTEST && FIVE_MINUTES.is_multiple_of(length);
            fits.then_some((length / 1_000) as u32).ok_or_else(|| {
                let message = "interval is no part of five minutes".to_string();
                self.error(
                    at,
                    message,
                    "write \"5m\", which is what carriers bill by, or for a lab \"10s\" or \"1m\"",
                )
            })
        });
        Ok(HistoryConfig {
            interval: interval.transpose()?,
            enabled: written.enabled,
            directory: directory.transpose()?,
            retention: retention.transpose()?.unwrap_or_default(),
        })
    }
}

/// Days in "90days", "13months", "5years": months and years at their longest.
fn days(text: &str) -> Option<u32> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u32 = text[..digits].parse().ok()?;
    let each = match text[digits..].trim_start() {
        "day" | "days" | "d" => 1,
        "week" | "weeks" => 7,
        "month" | "months" => 31,
        "year" | "years" => 366,
        _ => return None,
    };
    number.checked_mul(each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn history(section: &str) -> Result<HistoryConfig, String> {
        let text = format!("[[interface]]\nname = \"eth0\"\n{section}");
        let config = parse("f.toml", &text).map_err(|why| why.to_string())?;
        Ok(config.history)
    }

    #[test]
    fn the_section_is_read_and_its_absence_is_no_wish() {
        let nothing = history("").expect("sound");
        assert_eq!(
            (nothing.is_asked_for(), nothing.place()),
            (false, Path::new("/var/lib/forwarder"))
        );
        let some = history("[history]\ndirectory = \"/srv/h\"\nretention = \"2 years\"\n").expect("sound");
        assert!(some.is_asked_for());
        assert_eq!(some.interval(), Duration::from_secs(300));
        let lab = history("[history]\ninterval = \"10s\"\n").expect("sound");
        assert_eq!(lab.interval(), Duration::from_secs(10));
        assert_eq!((some.place(), some.retention.days), (Path::new("/srv/h"), 732));
        assert!(
            !history("[history]\nenabled = false\ndirectory = \"/srv/h\"\n")
                .expect("sound")
                .is_asked_for()
        );
        assert!(
            history("[history]\nenabled = true\n")
                .expect("sound")
                .is_asked_for()
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (line, words) in [
            ("directory = \"h\"", "does not begin with /"),
            ("retention = \"13\"", "write \"90days\""),
            ("retention = \"0days\"", "write \"90days\""),
            ("retention = \"99999999999years\"", "write \"90days\""),
            ("interval = \"7s\"", "no part of five minutes"),
            ("interval = \"40s\"", "no part of five minutes"),
            ("interval = \"0\"", "no part of five minutes"),
            ("rentention = \"1year\"", "unknown key"),
        ] {
            let why = history(&format!("[history]\n{line}\n")).expect_err(line);
            assert!(
                why.contains(words) && why.contains("f.toml, line 4"),
                "{line}: {why}"
            );
        }
    }
}
