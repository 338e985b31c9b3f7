//! Which of several routes of one prefix counts, and the step that decided.
//!
//! Pure. The order of steps is that of [`Step`]: what can be used at all, whose word counts (connected and local routes, then
//! the order of `sources`), then what the source itself would say: the kernel's order of tables, metrics and announcements;
//! RFC 4271 9.1.2.2 for BGP, less its step (e), for the interior cost of a next hop is not in the kernel's routes; RFC 9494
//! 4.3 before it all, for what is stale for long.
//!
//! MED is compared among routes of one neighbour AS only, so "better than" is no order and the best must be found by
//! elimination, as the RFC writes it: that makes the answer the same whatever came first.

use std::cmp::Reverse;

use crate::source::feed::{Attributes, FeedId, Segment};

/// Whose word a route is; the lowest counts first.
pub type Class = u8;

/// Local and connected routes: always the kernel's, always first.
pub const FIRST: Class = 0;
/// Of a source that is not in `sources`.
pub const UNLISTED: Class = u8::MAX;

/// What decided between two routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Its next hop leads somewhere.
    Usable,
    /// Connected and local routes come first; then the order of `sources`.
    Source,
    /// The table that is asked first.
    Table,
    /// The lowest metric of the kernel, or of FPM.
    Metric,
    /// What is stale for long (RFC 9494) comes last.
    LeastPreferred,
    /// 9.1.2: the highest LOCAL_PREF.
    LocalPref,
    /// 9.1.2.2 (a): the shortest AS_PATH.
    AsPath,
    /// 9.1.2.2 (b): the lowest ORIGIN.
    Origin,
    /// 9.1.2.2 (c): the lowest MED among routes of one neighbour AS.
    Med,
    /// 9.1.2.2 (d): external before internal.
    External,
    /// 9.1.2.2 (f), RFC 4456 9: the lowest ORIGINATOR_ID or BGP identifier.
    Originator,
    /// RFC 4456 9, between (f) and (g): the shortest CLUSTER_LIST.
    ClusterList,
    /// 9.1.2.2 (g): the session; in the order in which they were configured.
    Peer,
    /// The lowest path identifier; of the kernel's equals, the first.
    Order,
}

impl Step {
    /// As a person would say it of the winner.
    pub const fn words(self) -> &'static str {
        match self {
            Step::Usable => "its next hop resolves",
            Step::Source => "order of sources",
            Step::Table => "the table that is asked first",
            Step::Metric => "lowest metric",
            Step::LeastPreferred => "not stale (long-lived graceful restart)",
            Step::LocalPref => "highest LOCAL_PREF",
            Step::AsPath => "shortest AS path",
            Step::Origin => "lowest ORIGIN",
            Step::Med => "lowest MED of the same neighbour AS",
            Step::External => "external before internal",
            Step::ClusterList => "shortest CLUSTER_LIST",
            Step::Originator => "lowest originator",
            Step::Peer => "session that was configured first",
            Step::Order => "first of equals",
        }
    }
}

/// A route, as far as the decision looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Contender<'a> {
    /// Whether it leads somewhere.
    pub usable: bool,
    /// Whose word it is.
    pub class: Class,
    /// The place of its table of the kernel in the order of asking.
    pub table: u8,
    /// Metric.
    pub metric: u32,
    /// Stale for long.
    pub least_preferred: bool,
    /// Of a feed; `None` of the kernel.
    pub attributes: Option<&'a Attributes>,
    /// The feed; 0 of the kernel.
    pub feed: FeedId,
    /// Path identifier; of the kernel's, the place among its equals.
    pub order: u32,
}

/// Who won, and where each of the others lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Index of the best.
    pub best: usize,
    /// Of each: the step that put it out; `None` of the best.
    pub lost: Vec<Option<Step>>,
}

/// Finds the best; `None` where there is nothing to choose from.
pub fn decide(all: &[Contender<'_>]) -> Option<Verdict> {
    let mut race = Race {
        all,
        lost: vec![None; all.len()],
        left: all.len(),
    };
    race.keep(Step::Usable, |c| !c.usable);
    race.keep(Step::Source, |c| c.class);
    race.keep(Step::Table, |c| c.table);
    race.keep(Step::Metric, |c| c.metric);
    race.keep(Step::LeastPreferred, |c| c.least_preferred);
    race.compare(Step::LocalPref, |a| Reverse(a.local_pref));
    race.compare(Step::AsPath, path_length);
    race.compare(Step::Origin, |a| a.origin);
    race.compare_meds();
    race.compare(Step::External, |a| !a.external);
    race.compare(Step::Originator, |a| a.originator);
    race.compare(Step::ClusterList, |a| a.cluster_list);
    race.keep(Step::Peer, |c| c.feed);
    race.keep(Step::Order, |c| c.order);
    let best = race.lost.iter().position(Option::is_none)?;
    Some(Verdict {
        best,
        lost: race.lost,
    })
}

/// The same, without saying why.
pub fn best(all: &[Contender<'_>]) -> Option<usize> {
    // Mostly the source decides, and nothing else needs to be looked at.
    let first = |c: &Contender| (!c.usable, c.class);
    let (at, lead) = all.iter().enumerate().min_by_key(|(_, c)| first(c))?;
    if all.iter().filter(|c| first(c) == first(lead)).count() == 1 {
        return Some(at);
    }
    decide(all).map(|verdict| verdict.best)
}

struct Race<'a> {
    all: &'a [Contender<'a>],
    lost: Vec<Option<Step>>,
    left: usize,
}

impl Race<'_> {
    /// Keeps those with the lowest key.
    fn keep<K: Ord>(&mut self, step: Step, key: impl Fn(&Contender) -> K) {
        if self.left < 2 {
            return;
        }
        let running = self.all.iter().zip(&self.lost).filter(|(_, lost)| lost.is_none());
        let Some(lowest) = running.map(|(c, _)| key(c)).min() else {
            return;
        };
        for (c, lost) in self.all.iter().zip(&mut self.lost) {
            if lost.is_none() && key(c) > lowest {
                *lost = Some(step);
                self.left -= 1;
            }
        }
    }

    /// The same by an attribute. All that run by now are of one source: with attributes, or all without.
    fn compare<K: Ord>(&mut self, step: Step, key: impl Fn(&Attributes) -> K) {
        self.keep(step, |c| c.attributes.map(&key));
    }

    /// 9.1.2.2 (c): puts out every route for which another of the same neighbour AS has a lower MED; none counts as 0.
    fn compare_meds(&mut self) {
        if self.left < 2 {
            return;
        }
        let med = |attributes: &Attributes| (attributes.neighbour_as(), attributes.med.unwrap_or(0));
        let running: Vec<(usize, (Option<u32>, u32))> = self
            .all
            .iter()
            .enumerate()
            .filter(|(at, _)| self.lost[*at].is_none())
            .filter_map(|(at, c)| Some((at, med(c.attributes?))))
            .collect();
        for (at, (from, own)) in &running {
            if running.iter().any(|(_, (other, med))| other == from && med < own) {
                self.lost[*at] = Some(Step::Med);
                self.left -= 1;
            }
        }
    }
}

/// 9.1.2.2 (a): a set counts as one AS.
fn path_length(attributes: &Attributes) -> usize {
    let length = |segment: &Segment| match segment {
        Segment::Sequence(path) => path.len(),
        Segment::Set(_) => 1,
    };
    attributes.as_path.iter().map(length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(path: &[u32]) -> Attributes {
        Attributes {
            as_path: vec![Segment::Sequence(path.to_vec())],
            local_pref: 100,
            external: true,
            originator: 9,
            ..Attributes::default()
        }
    }

    fn contender(attributes: &Attributes) -> Contender<'_> {
        Contender {
            usable: true,
            class: 1,
            table: 0,
            metric: 0,
            least_preferred: false,
            attributes: Some(attributes),
            feed: 1,
            order: 0,
        }
    }

    /// The better of two that differ in one thing wins by that step, in either order.
    #[track_caller]
    fn wins(better: Contender, worse: Contender, step: Step) {
        let verdict = decide(&[better, worse]).expect("two to choose from");
        assert_eq!((verdict.best, verdict.lost), (0, vec![None, Some(step)]));
        let verdict = decide(&[worse, better]).expect("two to choose from");
        assert_eq!((verdict.best, verdict.lost), (1, vec![Some(step), None]));
        assert_eq!(best(&[worse, better]), Some(1));
    }

    #[test]
    fn every_step_decides_when_all_before_it_are_equal() {
        let base = attributes(&[64500, 64501]);
        let with = |change: fn(&mut Attributes)| {
            let mut changed = base.clone();
            change(&mut changed);
            changed
        };
        let c = contender(&base);
        wins(
            c,
            Contender {
                usable: false,
                class: FIRST,
                ..c
            },
            Step::Usable,
        );
        wins(c, Contender { class: 2, ..c }, Step::Source);
        wins(c, Contender { table: 1, ..c }, Step::Table);
        wins(c, Contender { metric: 5, ..c }, Step::Metric);
        wins(
            c,
            Contender {
                least_preferred: true,
                ..c
            },
            Step::LeastPreferred,
        );
        wins(contender(&with(|a| a.local_pref = 200)), c, Step::LocalPref);
        wins(
            c,
            contender(&with(|a| a.as_path.push(Segment::Set(vec![1, 2, 3])))),
            Step::AsPath,
        );
        wins(c, contender(&with(|a| a.origin = 2)), Step::Origin);
        wins(c, contender(&with(|a| a.med = Some(1))), Step::Med);
        wins(c, contender(&with(|a| a.external = false)), Step::External);
        wins(c, contender(&with(|a| a.cluster_list = 1)), Step::ClusterList);
        wins(c, contender(&with(|a| a.originator = 10)), Step::Originator);
        wins(c, Contender { feed: 2, ..c }, Step::Peer);
        wins(c, Contender { order: 2, ..c }, Step::Order);
        assert_eq!(decide(&[]), None);
    }

    #[test]
    fn a_set_counts_as_one_and_least_preferred_beats_local_pref() {
        let set = Attributes {
            as_path: vec![Segment::Sequence(vec![1]), Segment::Set(vec![2, 3, 4])],
            ..attributes(&[])
        };
        let three = attributes(&[1, 2, 3]);
        wins(contender(&set), contender(&three), Step::AsPath);
        let preferred = Attributes {
            local_pref: 500,
            ..attributes(&[1])
        };
        let stale = Contender {
            least_preferred: true,
            ..contender(&preferred)
        };
        wins(contender(&set), stale, Step::LeastPreferred);
    }

    #[test]
    fn meds_of_different_neighbours_are_not_compared_and_the_order_of_arrival_does_not_matter() {
        let route = |neighbour, med, originator| Attributes {
            med: Some(med),
            originator,
            ..attributes(&[neighbour, 1])
        };
        // By pairs: a beats b (originator), b beats c (MED), c beats a (originator): no order, one answer.
        let (a, b, c) = (route(10, 5, 2), route(20, 9, 3), route(20, 1, 4));
        let all = [&a, &b, &c];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let contenders = order.map(|index| contender(all[index]));
            let winner = best(&contenders).map(|at| order[at]);
            assert_eq!(winner, Some(0), "{order:?}");
        }
    }
}
