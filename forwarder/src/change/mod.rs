//! One configuration takes the place of another: what is in force, what is on trial, and how a controller begins anew.
//!
//! A controller that is to take another configuration ends its loop, stays the same process and begins again from its own program file
//! (`execve`). So there is one way to a configuration, the start, which adopts what an earlier controller laid, without a packet lost
//! or a counter reset; and none that only a change takes. Whatever keeps the new one from starting puts the old one back.
//!
//! Beside the socket stand `in-force.toml`, what was read last and is meant to stay, and `on-trial.toml`, what is tried until a moment
//! that its first line tells. The file of the configuration changes only when somebody confirms. All of it is gone with a reboot, and
//! what is on trial with any start that is no reload.

pub mod begin;
pub mod difference;

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::clock;

const IN_FORCE: &str = "in-force.toml";
const ON_TRIAL: &str = "on-trial.toml";
/// What the first line of a configuration on trial says before the moment, in milliseconds since the machine started.
const UNTIL: &str = "# on trial until ";

/// Where a controller keeps its configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The directory of the socket.
    pub directory: PathBuf,
    /// The configuration's own file.
    pub file: PathBuf,
}

/// A configuration on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The whole file, its first line too.
    pub text: String,
    /// When it ends, in milliseconds since the machine started.
    pub until: u64,
}

impl Trial {
    /// Milliseconds that it goes on for; none when it is over.
    pub fn left(&self) -> Option<u64> {
        self.until
            .checked_sub(clock::boot_milliseconds())
            .filter(|left| *left > 0)
    }
}

impl Places {
    /// The configuration in the file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn text(&self) -> Result<String> {
        read(&self.file)
    }

    /// What a controller read last of what is meant to stay.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn in_force(&self) -> Result<String> {
        read(&self.directory.join(IN_FORCE))
    }

    /// Keeps what is in force, for a start with something else that fails.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, text: &str) -> Result<()> {
        write(&self.directory.join(IN_FORCE), text, 0o600)
    }

    /// What is on trial, if anything is, over or not.
    ///
    /// # Errors
    /// It cannot be read, or is not what this program wrote.
    pub fn trial(&self) -> Result<Option<Trial>> {
        let path = self.directory.join(ON_TRIAL);
        let owner = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why).with_context(|| path.display().to_string()),
        };
        // SAFETY: geteuid takes nothing and cannot fail.
        let own = unsafe { libc::geteuid() };
        // Whoever writes here says what the router does.
        if !owner.is_file() || owner.mode() & 0o022 != 0 || (owner.uid() != 0 && owner.uid() != own) {
            bail!(
                "{} is not a file that only root may write: it is not used; remove it",
                path.display()
            );
        }
        let text = read(&path)?;
        let until = text.lines().next().and_then(|line| line.strip_prefix(UNTIL));
        let until = until
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("{} does not say in its first line until when", path.display()))?;
        Ok(Some(Trial { text, until }))
    }

    /// Puts a configuration on trial for so many seconds.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_on_trial(&self, text: &str, seconds: u64) -> Result<()> {
        let until = clock::boot_milliseconds() + seconds * 1_000;
        let text = format!(
            "{UNTIL}{until} ms after the machine started; `forwarder confirm` makes it {}\n{text}",
            self.file.display()
        );
        write(&self.directory.join(ON_TRIAL), &text, 0o600)
    }

    /// Ends a trial; the controller goes back to the file. Answers whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn end_trial(&self) -> Result<bool> {
        let path = self.directory.join(ON_TRIAL);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(why) => Err(why).with_context(|| format!("cannot remove {}", path.display())),
        }
    }

    /// Makes what is on trial the configuration.
    ///
    /// # Errors
    /// Nothing is, its time is over, or the file cannot be written.
    pub fn confirm(&self) -> Result<()> {
        let Some(trial) = self.trial()? else {
            bail!("no configuration is on trial: `forwarder apply FILE --confirm SECONDS` begins one");
        };
        if trial.left().is_none() {
            bail!("its time is over: {} is in force again", self.file.display());
        }
        self.install(without_mark(&trial.text))?;
        self.end_trial().map(drop)
    }

    /// Writes the configuration's own file, whole or not at all, with the rights it had.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn install(&self, text: &str) -> Result<()> {
        let mode = fs::metadata(&self.file).map_or(0o644, |metadata| metadata.mode() & 0o777);
        write(&self.file, text, mode)
    }
}

/// A configuration without the line that says until when it is on trial.
pub fn without_mark(text: &str) -> &str {
    match text.split_once('\n') {
        Some((first, rest)) if first.starts_with(UNTIL) => rest,
        _ => text,
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Whole or not at all: under another name first.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let new = path.with_extension("toml.new");
    let written = (|| -> io::Result<()> {
        // Left by somebody who was killed while he wrote, with rights of its own.
        match fs::remove_file(&new) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> (tempfile::TempDir, Places) {
        let directory = tempfile::tempdir().expect("a directory");
        let places = Places {
            directory: directory.path().to_path_buf(),
            file: directory.path().join("forwarder.toml"),
        };
        fs::write(&places.file, "old = 1\n").expect("a file");
        (directory, places)
    }

    #[test]
    fn what_is_on_trial_becomes_the_configuration_when_it_is_confirmed_and_not_before() {
        let (_directory, places) = places();
        assert_eq!(places.trial().expect("none"), None);
        assert!(places.confirm().is_err() && !places.end_trial().expect("nothing"));
        places.put_on_trial("new = 1\n", 60).expect("on trial");
        let trial = places.trial().expect("sound").expect("one");
        assert!(trial.left().is_some_and(|left| left > 50_000 && left <= 60_000));
        assert_eq!(without_mark(&trial.text), "new = 1\n");
        assert_eq!(places.text().expect("a text"), "old = 1\n");
        places.confirm().expect("confirmed");
        assert_eq!(places.text().expect("a text"), "new = 1\n");
        assert_eq!(places.trial().expect("none"), None);
    }

    #[test]
    fn what_is_over_or_not_ours_is_not_confirmed() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, places) = places();
        places.put_on_trial("new = 1\n", 0).expect("on trial");
        assert_eq!(places.trial().expect("sound").expect("one").left(), None);
        let said = places.confirm().expect_err("over").to_string();
        assert!(said.contains("its time is over"), "{said}");
        places.put_on_trial("new = 1\n", 60).expect("on trial");
        let path = places.directory.join(ON_TRIAL);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("rights");
        let said = places.confirm().expect_err("anybody may write it").to_string();
        assert!(said.contains("only root may write"), "{said}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("rights");
        fs::write(&path, "no mark\n").expect("a file");
        assert!(places.trial().is_err());
        assert_eq!(places.text().expect("a text"), "old = 1\n");
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_rights() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, places) = places();
        fs::set_permissions(&places.file, fs::Permissions::from_mode(0o640)).expect("rights");
        fs::write(places.file.with_extension("toml.new"), "half").expect("a leftover");
        places.install("new = 2\n").expect("installed");
        assert_eq!(places.text().expect("a text"), "new = 2\n");
        let mode = fs::metadata(&places.file).expect("there").mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}
