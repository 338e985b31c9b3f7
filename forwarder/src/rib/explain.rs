//! Why a prefix goes where it goes: every source's routes, the winner, and the step by which each of the others lost.

use ipnet::IpNet;

use super::{
    Rib, contend,
    decision::{self, Contender, Step, UNLISTED},
    feeds::View,
    kernel::Shown,
};

/// A route as it was known when the question was asked.
pub enum Route<'a> {
    /// Of the kernel.
    Kernel(Shown),
    /// Of a feed.
    Feed(View<'a>),
}

/// How a route fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is the only one.
    Only,
    /// It won; this step put the last of the others out.
    Won(Step),
    /// This step put it out.
    Lost(Step),
    /// Its source is not in `sources`.
    Unlisted,
    /// The kernel is not in `sources`, and nobody else has the prefix: its packets are the kernel's.
    Left,
    /// A table that is asked before its own answers for every address in it.
    Shaded,
    /// It won, and the kernel must carry it out: it chooses by more than the prefix (TOS, equal routes of IPv6).
    KernelChooses,
}

impl Outcome {
    /// Whether the route counts.
    pub fn is_best(self) -> bool {
        matches!(
            self,
            Outcome::Only | Outcome::Won(_) | Outcome::Left | Outcome::KernelChooses
        )
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Only => write!(f, "the only route"),
            Outcome::Won(step) => write!(f, "won: {}", step.words()),
            Outcome::Lost(Step::Usable) => write!(f, "lost: its next hop does not resolve"),
            Outcome::Lost(step) => write!(f, "lost: {}", step.words()),
            Outcome::Unlisted => write!(f, "its source is not in `sources`"),
            Outcome::Left => write!(f, "nobody in `sources` has it: left to the kernel"),
            Outcome::Shaded => write!(f, "a table that is asked before answers for all of it"),
            Outcome::KernelChooses => write!(f, "left to the kernel, which chooses by more than the prefix"),
        }
    }
}

impl Rib {
    /// Every route of a prefix and how it fared: the kernel's as it would take them, then the feeds'.
    pub fn explain(&self, prefix: IpNet) -> Vec<(Route<'_>, Outcome)> {
        let found = self.kernel.find(prefix);
        let (class, undecided) = match &found {
            Some(found) => (self.class_of_found(found), found.undecided),
            None => (UNLISTED, false),
        };
        let kernel = self.kernel.routes(prefix).into_iter().map(Route::Kernel);
        let feeds = self.feeds.routes(prefix).map(Route::Feed);
        let routes: Vec<Route<'_>> = kernel.chain(feeds).collect();
        let contenders: Vec<Contender<'_>> = routes
            .iter()
            .enumerate()
            .map(|(place, route)| match route {
                Route::Kernel(shown) => Contender {
                    usable: true,
                    class,
                    table: shown.rank,
                    metric: shown.metric,
                    least_preferred: false,
                    attributes: None,
                    feed: 0,
                    order: place as u32,
                },
                Route::Feed(view) => contend(view),
            })
            .collect();
        let outcomes = outcomes(&contenders, undecided);
        let mut explained: Vec<(Route<'_>, Outcome)> = routes.into_iter().zip(outcomes).collect();
        for (route, outcome) in &mut explained {
            if matches!(route, Route::Kernel(shown) if shown.shaded) {
                *outcome = Outcome::Shaded;
            }
        }
        explained
    }
}

fn outcomes(all: &[Contender<'_>], undecided: bool) -> Vec<Outcome> {
    let listed: Vec<usize> = (0..all.len()).filter(|at| all[*at].class != UNLISTED).collect();
    let running: Vec<Contender<'_>> = listed.iter().map(|at| all[*at]).collect();
    let mut outcomes = vec![Outcome::Unlisted; all.len()];
    let Some(verdict) = decision::decide(&running) else {
        if let Some((first, Contender { attributes: None, .. })) = outcomes.first_mut().zip(all.first()) {
            *first = Outcome::Left;
        }
        return outcomes;
    };
    let last = verdict.lost.iter().flatten().max();
    for (at, lost) in listed.iter().zip(&verdict.lost) {
        outcomes[*at] = match (lost, last) {
            (Some(step), _) => Outcome::Lost(*step),
            (None, _) if undecided && all[*at].attributes.is_none() => Outcome::KernelChooses,
            (None, Some(step)) => Outcome::Won(*step),
            (None, None) => Outcome::Only,
        };
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_winner_is_told_by_the_step_that_put_the_last_rival_out() {
        let contender = |class, metric| Contender {
            usable: true,
            class,
            table: 0,
            metric,
            least_preferred: false,
            attributes: None,
            feed: 0,
            order: 0,
        };
        let all = [
            contender(1, 5),
            contender(1, 9),
            contender(2, 0),
            contender(UNLISTED, 0),
        ];
        let told: Vec<String> = outcomes(&all, false).iter().map(Outcome::to_string).collect();
        assert_eq!(
            told,
            [
                "won: lowest metric",
                "lost: lowest metric",
                "lost: order of sources",
                "its source is not in `sources`"
            ]
        );
        assert_eq!(outcomes(&all[..1], false), [Outcome::Only]);
        assert_eq!(outcomes(&all[..1], true), [Outcome::KernelChooses]);
        assert_eq!(outcomes(&all[3..], false), [Outcome::Left]);
    }
}
