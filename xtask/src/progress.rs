//! One live line on stderr while something takes longer than a second; plain lines when stderr is no terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt;

const SHOW_AFTER: Duration = Duration::from_secs(1);
const REDRAW: Duration = Duration::from_millis(200);

/// A wait that says what it waits for.
pub struct Progress {
    what: String,
    started: Instant,
    drawn: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// Nothing is shown in the first second.
    pub fn new(what: impl Into<String>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            what: what.into(),
            started: Instant::now(),
            drawn: None,
            terminal,
        }
    }

    /// Redraws the line with the newest detail, at most five times a second.
    pub fn detail(&mut self, detail: &str) {
        if self.started.elapsed() < SHOW_AFTER {
            return;
        }
        let due = if self.terminal {
            REDRAW
        } else {
            Duration::from_secs(10)
        };
        if self.drawn.is_some_and(|at| at.elapsed() < due) {
            return;
        }
        self.drawn = Some(Instant::now());
        let seconds = self.started.elapsed().as_secs();
        let line = format!(
            "{} ... {seconds} s{}{detail}",
            self.what,
            if detail.is_empty() { "" } else { ", " }
        );
        if self.terminal {
            eprint!("\r\x1b[K{line}");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.drawn.is_some() {
            eprint!("\r\x1b[K");
            let _ = std::io::stderr().flush();
        }
    }
}

/// Lets time pass, telling how much is left.
pub fn pause(what: &str, time: Duration) -> Result<()> {
    let mut progress = Progress::new(what);
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return interrupt::check();
        }
        progress.detail(&format!("{:.0} s left", left.as_secs_f32().ceil()));
        interrupt::sleep(left.min(REDRAW))?;
    }
}

/// What a poll found.
pub enum Poll<T> {
    /// It is there.
    Ready(T),
    /// Not yet; the text tells how far it is.
    Waiting(String),
}

/// Polls until ready, for at most `limit`; the error names what was awaited and how far it came.
pub fn wait<T>(
    what: &str,
    limit: Duration,
    every: Duration,
    mut poll: impl FnMut() -> Result<Poll<T>>,
) -> Result<T> {
    let mut progress = Progress::new(what);
    loop {
        match poll().with_context(|| what.to_string())? {
            Poll::Ready(value) => return Ok(value),
            Poll::Waiting(detail) => {
                if progress.started.elapsed() > limit {
                    bail!("{what}: not done after {} s ({detail})", limit.as_secs());
                }
                progress.detail(&detail);
            }
        }
        interrupt::sleep(every)?;
    }
}
