//! The FlowSpec rules of all neighbours, in the order in which they are asked, and those that are not applied, with why.
//!
//! The steps: take each apart; ask whether it is its announcer's to make; of several that announce the same rule, take the
//! one that BGP's decision takes (RFC 8955 5.2); order what is left (RFC 8955 5.1); make rules of it, as many as there is
//! room for, of each session in turn: one that announces too many leaves out its own. The answer depends on what is
//! announced, and on nothing else: not on the order of arrival.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::flowspec::validate::{Unicast, validate};
use super::flowspec::{Flow, Refusal, nameless, precedence};
use super::rule::{Family, Rule};
use crate::rib::decision::{self, Contender};
use crate::source::feed::{FeedId, FeedTable, FlowRule};

/// Most FlowSpec rules of a family in force.
pub const MOST_RULES: usize = 1024;

/// A rule that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The rule.
    pub rule: Rule,
}

/// A rule that is not.
#[derive(Clone, Debug, PartialEq)]
pub struct NotApplied {
    /// Who announced it.
    pub feed: FeedId,
    /// Of which family.
    pub family: Family,
    /// What it is called.
    pub name: String,
    /// Why it is not applied.
    pub why: Refusal,
}

/// What has become of all rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assembled {
    /// For IPv4, the first that is asked first.
    pub v4: Vec<Applied>,
    /// For IPv6.
    pub v6: Vec<Applied>,
    /// Not applied: by family, then in the order in which they would have been asked; those that cannot be read last.
    pub not_applied: Vec<NotApplied>,
}

/// Puts the rules of all feeds in order. With `validation` a rule must be its announcer's to make, by what `routes` knows;
/// it is to be asked again when those change.
pub fn assemble<'a>(
    announced: impl Iterator<Item = (FeedId, &'a Arc<FlowRule>)>,
    validation: bool,
    routes: &impl Unicast,
) -> Assembled {
    let (mut flows, mut unread) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for (feed, rule) in announced {
        let half = usize::from(rule.table == FeedTable::FlowSpec6);
        match Flow::read(rule) {
            Ok(flow) => flows[half].push((feed, flow)),
            Err(why) => unread[half].push((feed, nameless(rule), why)),
        }
    }
    let mut assembled = Assembled::default();
    for (family, (flows, unread)) in [Family::V4, Family::V6]
        .into_iter()
        .zip(flows.into_iter().zip(unread))
    {
        let mut half = Half {
            family,
            applied: Vec::new(),
            not_applied: Vec::new(),
        };
        half.fill(flows, validation, routes);
        for (feed, name, why) in unread {
            half.refuse(feed, name, why);
        }
        assembled.not_applied.append(&mut half.not_applied);
        match family {
            Family::V4 => assembled.v4 = half.applied,
            Family::V6 => assembled.v6 = half.applied,
        }
    }
    assembled
}

struct Half {
    family: Family,
    applied: Vec<Applied>,
    not_applied: Vec<NotApplied>,
}

impl Half {
    fn refuse(&mut self, feed: FeedId, name: String, why: Refusal) {
        self.not_applied.push(NotApplied {
            feed,
            family: self.family,
            name,
            why,
        });
    }

    fn fill(&mut self, mut flows: Vec<(FeedId, Flow<'_>)>, validation: bool, routes: &impl Unicast) {
        // Octets tell apart what differs in bits that mean nothing; the feed, one rule of several neighbours.
        flows.sort_by(|(feed, flow), (other_feed, other)| {
            precedence(&flow.components, &other.components)
                .then_with(|| flow.announced().nlri.cmp(&other.announced().nlri))
                .then_with(|| feed.cmp(other_feed))
        });
        let mut refusals: BTreeMap<usize, Refusal> = BTreeMap::new();
        if validation {
            let asked: Vec<_> = flows.iter().map(|(feed, flow)| (*feed, flow)).collect();
            for (at, answer) in validate(&asked, routes).into_iter().enumerate() {
                if let Err(why) = answer {
                    refusals.insert(at, why.into());
                }
            }
        }
        lose(&flows, &mut refusals);
        let mut made = make(&flows, &mut refusals);
        for (at, (feed, flow)) in flows.iter().enumerate() {
            match made.remove(&at) {
                Some(applied) => self.applied.push(applied),
                None => {
                    let why = refusals.remove(&at).unwrap_or(Refusal::TooMany(MOST_RULES));
                    self.refuse(*feed, flow.name(), why);
                }
            }
        }
    }
}

/// Makes the rules that there is room for, by their numbers: of each session the next that can be made, in turn, so that
/// who announces few has all of them. Those that cannot be made take no room.
fn make(flows: &[(FeedId, Flow<'_>)], refusals: &mut BTreeMap<usize, Refusal>) -> BTreeMap<usize, Applied> {
    let mut waiting: BTreeMap<FeedId, VecDeque<usize>> = BTreeMap::new();
    for (at, (feed, _)) in flows.iter().enumerate() {
        if !refusals.contains_key(&at) {
            waiting.entry(*feed).or_default().push_back(at);
        }
    }
    let mut made = BTreeMap::new();
    while made.len() < MOST_RULES && !waiting.is_empty() {
        waiting.retain(|feed, queue| {
            while made.len() < MOST_RULES
                && let Some(at) = queue.pop_front()
            {
                match flows[at].1.rule(*feed) {
                    Ok(rule) => {
                        made.insert(at, Applied { rule });
                        return true;
                    }
                    Err(why) => {
                        refusals.insert(at, why);
                    }
                }
            }
            false
        });
    }
    made
}

/// Refuses all but the best of those that announce the same rule and may.
fn lose(flows: &[(FeedId, Flow<'_>)], refusals: &mut BTreeMap<usize, Refusal>) {
    let same = |a: &(FeedId, Flow<'_>), b: &(FeedId, Flow<'_>)| a.1.announced().nlri == b.1.announced().nlri;
    let mut first = 0;
    for group in flows.chunk_by(same) {
        let running: Vec<usize> = (first..first + group.len())
            .filter(|at| !refusals.contains_key(at))
            .collect();
        first += group.len();
        if running.len() < 2 {
            continue;
        }
        let contenders: Vec<Contender<'_>> = running.iter().map(|at| contender(&flows[*at])).collect();
        let Some(verdict) = decision::decide(&contenders) else {
            continue;
        };
        for (at, lost) in running.iter().zip(verdict.lost) {
            if let Some(step) = lost {
                refusals.insert(*at, Refusal::Lost(step));
            }
        }
    }
}

fn contender<'a>((feed, flow): &'a (FeedId, Flow<'a>)) -> Contender<'a> {
    Contender {
        usable: true,
        class: decision::FIRST,
        table: 0,
        metric: 0,
        least_preferred: false,
        attributes: Some(flow.attributes()),
        feed: *feed,
        order: 0,
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::super::flowspec::validate::{Best, Destination, Infeasible};
    use super::super::rule::{Action, Origin};
    use super::*;
    use crate::rib::decision::Step;
    use crate::source::feed::Attributes;

    struct NoRoutes;

    impl Unicast for NoRoutes {
        fn best_match(&self, _: IpNet) -> Option<Best<'_>> {
            None
        }

        fn others_inside(&self, of: &[Destination]) -> Vec<Option<IpNet>> {
            vec![None; of.len()]
        }
    }

    const DROP: [u8; 8] = [0x80, 6, 0, 0, 0, 0, 0, 0];

    fn rule(nlri: &[u8], local_pref: u32, extended: &[[u8; 8]]) -> Arc<FlowRule> {
        rule_of(FeedTable::FlowSpec4, nlri, local_pref, extended)
    }

    fn rule_of(table: FeedTable, nlri: &[u8], local_pref: u32, extended: &[[u8; 8]]) -> Arc<FlowRule> {
        Arc::new(FlowRule {
            table,
            nlri: nlri.to_vec(),
            attributes: Arc::new(Attributes {
                local_pref,
                extended: extended.to_vec(),
                ..Attributes::default()
            }),
        })
    }

    fn assemble_all(rules: &[(FeedId, Arc<FlowRule>)], validation: bool) -> Assembled {
        assemble(
            rules.iter().map(|(feed, rule)| (*feed, rule)),
            validation,
            &NoRoutes,
        )
    }

    fn names(applied: &[Applied]) -> Vec<&str> {
        applied.iter().map(|applied| applied.rule.name.as_str()).collect()
    }

    fn refused(assembled: &Assembled) -> Vec<(FeedId, &str, String)> {
        let each = assembled.not_applied.iter();
        each.map(|one| (one.feed, one.name.as_str(), one.why.to_string()))
            .collect()
    }

    #[test]
    fn rules_come_in_their_order_whoever_announced_them_when() {
        let udp = rule(&[1, 32, 192, 0, 2, 5, 3, 0x81, 17], 100, &[DROP]);
        let host = rule(&[1, 32, 192, 0, 2, 5], 100, &[[0x80, 7, 0, 0, 0, 0, 0, 1]]);
        let net = rule(&[1, 24, 192, 0, 2], 100, &[]);
        let six = rule_of(FeedTable::FlowSpec6, &[13, 0x81, 9], 100, &[DROP]);
        let one = assemble_all(
            &[
                (2, six.clone()),
                (1, net.clone()),
                (1, host.clone()),
                (2, udp.clone()),
            ],
            false,
        );
        assert_eq!(
            names(&one.v4),
            [
                "dst 192.0.2.5/32 proto udp",
                "dst 192.0.2.5/32",
                "dst 192.0.2.0/24"
            ]
        );
        assert_eq!(names(&one.v6), ["flow-label 9"]);
        assert_eq!(one.v4[0].rule.origin, Origin::FlowSpec(2));
        let actions: Vec<_> = one.v4.iter().map(|a| (a.rule.action, a.rule.proceed)).collect();
        assert_eq!(
            actions,
            [
                (Action::Drop, false),
                (Action::Accept, true),
                (Action::Accept, false)
            ]
        );
        assert_eq!(one.not_applied, []);
        assert_eq!(
            one,
            assemble_all(&[(2, udp), (1, host), (1, net), (2, six)], false)
        );
    }

    #[test]
    fn of_one_rule_from_two_neighbours_the_better_announcement_counts() {
        let nlri = [1, 32, 192, 0, 2, 5];
        let (good, better) = (rule(&nlri, 100, &[]), rule(&nlri, 200, &[DROP]));
        let assembled = assemble_all(&[(1, good.clone()), (2, better.clone())], false);
        assert_eq!(assembled.v4[0].rule.action, Action::Drop);
        assert_eq!(assembled.v4.len(), 1);
        assert_eq!(assembled.not_applied[0].why, Refusal::Lost(Step::LocalPref));
        let words = "another neighbour's announcement of the same rule counts: highest LOCAL_PREF";
        assert_eq!(refused(&assembled), [(1, "dst 192.0.2.5/32", words.into())]);
    }

    #[test]
    fn what_cannot_be_applied_is_told_in_order_with_its_reason() {
        let redirect = rule(&[1, 32, 192, 0, 2, 9], 100, &[[0x80, 8, 0, 1, 0, 0, 0, 1]]);
        let never = rule(&[4, 0x81, 25, 7, 0x81, 8], 100, &[DROP]);
        let unread = rule(&[0xee], 100, &[DROP]);
        let fine = rule(&[1, 32, 192, 0, 2, 10], 100, &[DROP]);
        let all = [(1, unread), (1, never), (1, redirect), (1, fine)];
        let assembled = assemble_all(&all, false);
        assert_eq!(names(&assembled.v4), ["dst 192.0.2.10/32"]);
        let never = "no packet can match it: its protocols, or other fields that it names, leave no packet with icmp-type";
        assert_eq!(
            refused(&assembled),
            [
                (1, "dst 192.0.2.9/32", "redirect is not supported".into()),
                (1, "port 25 icmp-type 8", never.into()),
                (1, "octets ee", "a component of a type that is not known".into()),
            ]
        );
        // Asked whether they may, those that name no destination fail before.
        let assembled = assemble_all(&all, true);
        let nobodys = Refusal::Infeasible(Infeasible::NoDestination);
        assert_eq!(assembled.not_applied[1].why, nobodys);
    }

    #[test]
    fn beyond_a_thousand_the_last_ones_are_left_out_and_refused_ones_take_no_room() {
        let numbered = |number: u16, extended: &[[u8; 8]]| {
            let [high, low] = number.to_be_bytes();
            rule(&[1, 32, 192, 0, high, low], 100, extended)
        };
        let mut all: Vec<_> = (1..1100)
            .rev()
            .map(|number| (1, numbered(number, &[DROP])))
            .collect();
        all.push((1, numbered(0, &[[0x80, 8, 0, 1, 0, 0, 0, 1]])));
        let assembled = assemble_all(&all, false);
        assert_eq!(assembled.v4.len(), MOST_RULES);
        assert_eq!(names(&assembled.v4)[1023], "dst 192.0.4.0/32");
        assert_eq!(assembled.not_applied.len(), 1100 - MOST_RULES);
        assert_eq!(assembled.not_applied[0].why, Refusal::Redirect);
        let beyond = &assembled.not_applied[1];
        assert_eq!(
            (beyond.name.as_str(), &beyond.why),
            ("dst 192.0.4.1/32", &Refusal::TooMany(1024))
        );
        assert_eq!(
            beyond.why.to_string(),
            "there is room for 1024 rules of its family, shared fairly between sessions"
        );
    }

    #[test]
    fn a_flood_of_one_neighbour_leaves_out_its_own_rules_and_no_others() {
        let numbered = |third: u8, number: u16| {
            let [high, low] = number.to_be_bytes();
            rule(&[1, 32, 192, third, high, low], 100, &[DROP])
        };
        let mut all: Vec<_> = (0..5_000).map(|number| (1, numbered(0, number))).collect();
        let count = |all: &[(FeedId, Arc<FlowRule>)], feed| {
            let applied = assemble_all(all, false).v4;
            let of = |applied: &&Applied| applied.rule.origin == Origin::FlowSpec(feed);
            applied.iter().filter(of).count()
        };
        assert_eq!(count(&all, 1), 1_024);
        // They are asked behind all of those.
        all.extend((0..300).map(|number| (2, numbered(1, number))));
        assert_eq!([count(&all, 1), count(&all, 2)], [724, 300]);
        all.extend((0..400).map(|number| (3, numbered(2, number))));
        assert_eq!([1, 2, 3].map(|feed| count(&all, feed)), [362, 300, 362]);
        // Those in force are asked in the order of the RFC, whoever has them.
        let assembled = assemble_all(&all, false);
        let names = names(&assembled.v4);
        assert_eq!([names[0], names[361]], ["dst 192.0.0.0/32", "dst 192.0.1.105/32"]);
        assert_eq!([names[362], names[662]], ["dst 192.1.0.0/32", "dst 192.2.0.0/32"]);
    }
}
