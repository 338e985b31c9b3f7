//! What people see: a line per test as it ends, then what the failed ones printed, then one line for all.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use vm_init::say::Say;

use crate::sh;

/// Lines of a console that are shown when a machine ended without its last word.
const LAST: usize = 40;
/// What the kernel says when something in it is wrong.
const TROUBLE: [&str; 5] = [
    "BUG:",
    "WARNING:",
    "Oops:",
    "Kernel panic",
    "general protection fault",
];

/// What became of the tests.
#[derive(Default)]
pub struct Outcome {
    passed: usize,
    failed: Vec<Failure>,
    running: Option<String>,
    output: Vec<String>,
    /// What every test printed.
    printed: String,
    ended: bool,
    trouble: Vec<String>,
    console: Vec<String>,
    file: PathBuf,
    /// Why it was stopped before its end.
    pub stopped: Option<String>,
}

struct Failure {
    name: String,
    output: Vec<String>,
}

/// Prints the line of a test that has ended. The name stands last: it is a sentence.
pub fn line(say: &Say) {
    match say {
        Say::Ready(seconds) => println!("ok     {seconds:>6.1} s  (boot)"),
        Say::Ok(name, seconds) => println!("ok     {seconds:>6.1} s  {name}"),
        Say::Failed(name, seconds) => println!("FAILED {seconds:>6.1} s  {name}"),
        Say::Note(text) => println!("note: {text}"),
        Say::Begin(_) | Say::Out(_) | Say::End => {}
    }
}

impl Outcome {
    /// Takes a line in.
    pub fn hear(&mut self, say: Say) {
        match say {
            Say::Begin(name) => {
                self.running = Some(name);
                self.output.clear();
            }
            Say::Out(text) => self.output.push(text),
            Say::Ok(name, _) => {
                self.keep(&name);
                self.passed += 1;
                self.running = None;
            }
            Say::Failed(name, _) => {
                self.keep(&name);
                let output = std::mem::take(&mut self.output);
                self.failed.push(Failure { name, output });
                self.running = None;
            }
            Say::End => self.ended = true,
            Say::Ready(_) | Say::Note(_) => {}
        }
    }

    fn keep(&mut self, name: &str) {
        let _ = writeln!(self.printed, "---- {name}\n{}\n", self.output.join("\n"));
    }

    /// Writes what the tests printed, those that passed too: figures are there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        fs::write(file, &self.printed).with_context(|| file.display().to_string())
    }

    /// Takes in what the kernel's console had to say.
    pub fn console(&mut self, file: &Path) {
        let octets = fs::read(file).unwrap_or_default();
        let text = String::from_utf8_lossy(&octets);
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        let bad = |line: &&&str| TROUBLE.iter().any(|word| line.contains(word));
        self.trouble = lines.iter().filter(bad).map(|line| (*line).to_owned()).collect();
        let last = &lines[lines.len().saturating_sub(LAST)..];
        self.console = last.iter().map(|line| (*line).to_owned()).collect();
        self.file = file.to_owned();
    }

    /// Whether all ran and all hold. A kernel that warned is none to rely on either.
    pub fn is_good(&self) -> bool {
        self.ended && self.failed.is_empty() && self.passed > 0 && self.trouble.is_empty()
    }

    /// What the failed tests printed, what is wrong with the machine, and a line for all.
    pub fn summary(&self, version: &str, time: Duration) -> String {
        let mut text = String::new();
        for failure in &self.failed {
            let _ = writeln!(text, "\n---- {}", failure.name);
            for line in &failure.output {
                let _ = writeln!(text, "{line}");
            }
        }
        if !self.ended {
            let _ = writeln!(text, "\n---- the last lines of the kernel's console");
            for line in &self.console {
                let _ = writeln!(text, "{line}");
            }
            let why = self.stopped.as_deref().unwrap_or("ended before its last test");
            let running = self.running.as_deref().unwrap_or("no test");
            let _ = writeln!(text, "\nthe machine was {why}, while it ran {running}");
            let _ = writeln!(text, "all of the console: {}", self.file.display());
        }
        if !self.trouble.is_empty() {
            let _ = writeln!(
                text,
                "\n---- the kernel's own words; all of them: {}",
                self.file.display()
            );
            for line in &self.trouble {
                let _ = writeln!(text, "{line}");
            }
        }
        if self.passed + self.failed.len() == 0 && self.ended {
            let _ = writeln!(
                text,
                "\nno test has that in its name: cargo xtask vm --list names them all"
            );
        }
        let _ = write!(
            text,
            "kernel {version}: {} passed, {} failed, in {}",
            self.passed,
            self.failed.len(),
            sh::seconds(time)
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(says: &[Say]) -> Outcome {
        let mut outcome = Outcome::default();
        says.iter().for_each(|say| outcome.hear(say.clone()));
        outcome
    }

    #[test]
    fn all_that_ran_and_held_is_good() {
        let ok = [Say::Begin("a".into()), Say::Ok("a".into(), 1.0), Say::End];
        assert!(heard(&ok).is_good());
        assert!(!heard(&ok[..2]).is_good());
        assert!(!heard(&[Say::End]).is_good());
        let summary = heard(&ok).summary("6.1", Duration::from_secs(3));
        assert_eq!(summary, "kernel 6.1: 1 passed, 0 failed, in 3.0 s");
    }

    #[test]
    fn a_failed_tests_output_is_shown_and_no_other() {
        let outcome = heard(&[
            Say::Begin("a".into()),
            Say::Out("of nobody".into()),
            Say::Ok("a".into(), 1.0),
            Say::Begin("b".into()),
            Say::Out("left is not right".into()),
            Say::Failed("b".into(), 1.0),
            Say::End,
        ]);
        assert!(!outcome.is_good());
        let summary = outcome.summary("6.1", Duration::ZERO);
        assert!(summary.contains("---- b\nleft is not right\n"), "{summary}");
        assert!(!summary.contains("of nobody"), "{summary}");
    }

    #[test]
    fn a_machine_that_died_says_with_which_test() {
        let summary = heard(&[Say::Begin("golden::law".into())]).summary("6.12", Duration::ZERO);
        assert!(summary.contains("while it ran golden::law"), "{summary}");
    }

    #[test]
    fn a_warning_of_the_kernels_is_a_failure() {
        let file = std::env::temp_dir().join(format!("xtask-console-{}", std::process::id()));
        fs::write(&file, "[    1.0] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1\r\n").unwrap();
        let mut outcome = heard(&[Say::Begin("a".into()), Say::Ok("a".into(), 1.0), Say::End]);
        outcome.console(&file);
        fs::remove_file(&file).unwrap();
        assert!(!outcome.is_good());
        assert!(
            outcome
                .summary("6.1", Duration::ZERO)
                .contains("net/core/dev.c:1")
        );
    }
}
