//! What was forwarded and then lost on the way out, as it happens: a sentence for whoever asks how things stand.
//!
//! The program is granted a redirect and counts the packet as forwarded; whether the driver takes it shows only later, in the
//! kernel's tracepoints. So an interface by which nothing can leave looks well in every figure but this one.

use std::collections::{BTreeMap, VecDeque};

use forwarder_common::counters::{EgressCounters, EgressError};

use super::{drops::egress_help, names};
use crate::dataplane::Tables;

/// Observations, one each second, over which losses are told.
const WINDOW: usize = 60;
/// One in so many lost is worth a sentence: a full queue loses some in every burst, and `drops` has them all.
const WORTH: u64 = 100;

/// What of an interface counts, at one moment: forwarded to it, lost by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    forwarded: u64,
    lost: [u64; EgressError::ALL.len()],
}

impl Counts {
    fn of(egress: &EgressCounters) -> Counts {
        let kinds = egress.redirect_errors.iter().zip(&egress.transmit_errors);
        let mut counts = Counts {
            forwarded: egress.forwarded.packets,
            ..Counts::default()
        };
        for (sum, (redirect, transmit)) in counts.lost.iter_mut().zip(kinds) {
            *sum = redirect.wrapping_add(*transmit);
        }
        counts
    }

    fn since(self, before: Counts) -> Counts {
        let mut counts = self;
        // Another interface of the same name begins at nought.
        counts.forwarded = self.forwarded.saturating_sub(before.forwarded);
        for (now, before) in counts.lost.iter_mut().zip(before.lost) {
            *now = now.saturating_sub(before);
        }
        counts
    }
}

/// Remembers the last minute.
#[derive(Debug, Default)]
pub struct Losses(VecDeque<BTreeMap<String, Counts>>);

impl Losses {
    /// Takes one observation; answers a sentence for each interface that has lost more than one in [`WORTH`] of what was sent to it
    /// within [`WINDOW`] observations.
    pub fn observe(&mut self, tables: &Tables) -> Vec<String> {
        let ports = names::ports(tables).map(|(port, entry)| {
            let counts = Counts::of(&tables.egress(port));
            (names::ifname(&entry), counts)
        });
        self.take(ports.collect())
    }

    fn take(&mut self, now: BTreeMap<String, Counts>) -> Vec<String> {
        if self.0.len() > WINDOW {
            self.0.pop_front();
        }
        let sentences = match self.0.front() {
            // What was lost before this controller looked for the first time is history.
            None => Vec::new(),
            Some(before) => now
                .iter()
                .filter_map(|(ifname, counts)| sentence(ifname, counts.since(*before.get(ifname)?)))
                .collect(),
        };
        self.0.push_back(now);
        sentences
    }
}

fn sentence(ifname: &str, counts: Counts) -> Option<String> {
    let lost = counts
        .lost
        .iter()
        .fold(0u64, |sum, kind| sum.saturating_add(*kind));
    if lost == 0 || lost.saturating_mul(WORTH) < counts.forwarded {
        return None;
    }
    let (worst, _) = EgressError::ALL
        .into_iter()
        .zip(counts.lost)
        .max_by_key(|(_, lost)| *lost)?;
    // What was counted when it was forwarded may be lost a moment later: never more than all.
    let forwarded = counts.forwarded.max(lost);
    Some(format!(
        "{ifname}: {lost} of {forwarded} packets that were sent out by it within the last minute are lost ({}): {}",
        worst.name(),
        match worst {
            EgressError::Down | EgressError::TooBig | EgressError::QueueFull | EgressError::Other =>
                egress_help(worst).to_lowercase(),
            EgressError::NotSupported | EgressError::NoQueue =>
                "its driver does not send for XDP as it is now. On veth the peer needs a program or `ethtool -K PEER gro on`; \
                 else take it out of the configuration"
                    .to_string(),
        }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(forwarded: u64, kind: EgressError, lost: u64) -> BTreeMap<String, Counts> {
        let mut counts = Counts {
            forwarded,
            ..Counts::default()
        };
        counts.lost[kind as usize] = lost;
        BTreeMap::from([("transit0".to_string(), counts)])
    }

    #[test]
    fn what_is_lost_now_is_said_for_a_minute() {
        let mut losses = Losses::default();
        let none = EgressError::NotSupported;
        assert!(losses.take(at(900, none, 900)).is_empty(), "of before its time");
        assert!(losses.take(at(900, none, 900)).is_empty());
        let said = losses.take(at(1_000, none, 1_000));
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("transit0: 100 of 100 packets that were sent out by it within the last minute are lost (not-supported)"),
            "{said:?}"
        );
        for _ in 0..WINDOW - 1 {
            assert_eq!(losses.take(at(1_000, none, 1_000)).len(), 1);
        }
        assert!(losses.take(at(1_000, none, 1_000)).is_empty());
        assert!(losses.0.len() <= WINDOW + 1);
    }

    #[test]
    fn a_burst_that_loses_one_in_a_thousand_is_left_to_drops() {
        let mut losses = Losses::default();
        let full = EgressError::QueueFull;
        losses.take(at(0, full, 0));
        assert!(losses.take(at(100_000, full, 100)).is_empty());
        let said = losses.take(at(100_000, full, 1_100));
        assert!(
            said[0].contains("1100 of 100000") && said[0].contains("queue was full"),
            "{said:?}"
        );
    }

    #[test]
    fn an_interface_that_comes_later_or_counts_anew_is_no_loss() {
        let mut losses = Losses::default();
        losses.take(BTreeMap::new());
        assert!(losses.take(at(10, EgressError::Down, 10)).is_empty());
        // More lost than forwarded: they were forwarded before the window.
        let mut losses = Losses::default();
        losses.take(at(100, EgressError::Down, 0));
        assert!(losses.take(at(100, EgressError::Down, 5))[0].contains(": 5 of 5 packets"));
    }
}
