//! What the service manager hears: ready, well, stopping, and how things are in a sentence (sd_notify(3)).
//!
//! Started by hand, nobody listens and nothing is said. The watchdog is told from the loop itself, because another thread
//! would go on saying that all is well while the loop hangs.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::debug;

use super::state::State;

/// The service manager, where one listens.
pub struct Service {
    /// How often it wants to hear of us; none where it does not watch.
    pulse: Option<Duration>,
    last: Instant,
    told: String,
    reloads: bool,
}

impl Service {
    /// It learns that the data path forwards. Before this, nothing that is ordered behind us starts.
    pub fn ready() -> Service {
        let status = "forwarding";
        say(&[NotifyState::Ready, NotifyState::Status(status)]);
        Service {
            // Half of what it waits for, so that one late round is no death.
            pulse: sd_notify::watchdog_enabled().map(|limit| limit / 2),
            last: Instant::now(),
            told: status.to_string(),
            reloads: false,
        }
    }

    /// This process begins again: it is not stopping, and will be ready in a moment.
    pub fn reloading(&mut self) {
        self.reloads = true;
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now().ok());
        say(&states);
    }

    /// The loop goes round.
    pub fn alive(&mut self) {
        if self.pulse.is_some_and(|pulse| self.last.elapsed() >= pulse) {
            self.last = Instant::now();
            say(&[NotifyState::Watchdog]);
        }
    }

    /// How things are, when that has changed.
    pub fn tell(&mut self, sentence: String) {
        if sentence != self.told {
            say(&[NotifyState::Status(&sentence)]);
            self.told = sentence;
        }
    }
}

impl Drop for Service {
    /// Whatever ends the loop.
    fn drop(&mut self) {
        if self.reloads {
            return;
        }
        let status = "stopping; the data path goes on";
        say(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }
}

/// Of the state, what fits the line of `systemctl status`.
pub fn sentence(state: &State, dry_run: bool, (ipv4, ipv6): (usize, usize), interfaces: usize) -> String {
    let does = if dry_run { "dry run" } else { "forwarding" };
    let mut text = format!("{does} on {interfaces} interfaces, {ipv4} IPv4 and {ipv6} IPv6 prefixes");
    match state.problems.as_slice() {
        [] => {}
        [one] => text += &format!("; problem: {one}"),
        [first, others @ ..] => text += &format!("; problem: {first} (and {} more)", others.len()),
    }
    text
}

fn say(states: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(states) {
        debug!("the service manager cannot be told: {why}");
    }
}
