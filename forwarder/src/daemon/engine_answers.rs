//! What became of a feed's routes, for feeds that ask (`[routes.fpm] offload`).
//!
//! Every announcement is answered, also one that says what was known: a daemon that has just started knows nothing of what was
//! answered before. So is every change of what is laid of such a feed's prefix, whatever it comes from. Not answered are routes of
//! which nothing can be said yet: stale ones, and those that the gate of a start holds.
//!
//! Answers go into a queue with an end (`source::answers`). When one has found no room and the queue has run empty, every route of
//! the feed is told again, a piece in each round of the loop.

use std::sync::Arc;

use ipnet::IpNet;

use super::Engine;
use crate::{
    dataplane::Dataplane,
    fib::path::Path,
    source::{
        answers::{Answer, Answers, Fate},
        feed::{FeedId, FeedRoute},
    },
};

/// Routes that are told again in a round: ten or twenty milliseconds.
const PIECE: usize = 16_384;

/// A feed that asks.
pub(super) struct Asking {
    feed: FeedId,
    answers: Arc<Answers>,
    again: Option<Again>,
}

/// Routes that are told again.
struct Again {
    session: u64,
    list: Vec<IpNet>,
    next: usize,
}

impl<D: Dataplane> Engine<D> {
    /// From now on this feed hears what became of its routes.
    pub fn answer_to(&mut self, feed: FeedId, answers: Arc<Answers>) {
        self.asking.push(Asking {
            feed,
            answers,
            again: None,
        });
    }

    /// Something may have become of this prefix.
    pub(super) fn answer(&self, prefix: IpNet) {
        for asking in &self.asking {
            if let Some(answer) = self.answer_for(asking.feed, prefix) {
                asking.answers.tell(answer);
            }
        }
    }

    /// A route was not even kept.
    pub(super) fn answer_refused(&self, feed: FeedId, prefix: IpNet, route: &FeedRoute) {
        let asking = self.asking.iter().find(|asking| asking.feed == feed);
        if let Some(asking) = asking {
            asking.answers.tell(Answer {
                prefix,
                protocol: route.attributes.protocol,
                fate: Fate::Refused,
            });
        }
    }

    /// What became of a feed's route; `None` where there is none, or nothing to be said yet.
    fn answer_for(&self, feed: FeedId, prefix: IpNet) -> Option<Answer> {
        let mut views = self.rib.feeds.routes(prefix);
        let view = views.find(|view| view.feed == feed && !view.stale)?;
        let slot = self.fib.slot(self.dataplane.tables(), prefix);
        if let (Some(gate), Some(slot)) = (&self.gate, slot)
            && gate.holds(slot)
        {
            return None;
        }
        let chosen = || {
            self.wanted(prefix)
                .is_some_and(|choice| choice.ways.path == *view.path)
        };
        let fate = if slot.is_none() || self.unplaced.contains(&prefix) || !chosen() {
            Fate::Refused
        } else if is_the_kernels(view.path) {
            Fate::Trapped
        } else {
            Fate::Laid
        };
        Some(Answer {
            prefix,
            protocol: view.attributes.protocol,
            fate,
        })
    }

    /// Tells again what found no room.
    pub(super) fn answer_again(&mut self) {
        for index in 0..self.asking.len() {
            let Asking { feed, answers, .. } = &self.asking[index];
            if let Some(session) = answers.owes() {
                let list = self.rib.feeds.prefixes_of(*feed);
                self.asking[index].again = Some(Again {
                    session,
                    list,
                    next: 0,
                });
            }
            let Some(mut again) = self.asking[index].again.take() else {
                continue;
            };
            let asking = &self.asking[index];
            let Some(room) = asking.answers.room(again.session) else {
                continue;
            };
            let end = (again.next + room.min(PIECE)).min(again.list.len());
            for prefix in &again.list[again.next..end] {
                if let Some(answer) = self.answer_for(asking.feed, *prefix) {
                    asking.answers.tell(answer);
                }
            }
            again.next = end;
            if again.next < again.list.len() {
                self.asking[index].again = Some(again);
            }
        }
    }
}

/// Whether the route itself leaves its packets to the kernel.
fn is_the_kernels(path: &Path) -> bool {
    matches!(path, Path::Hops { hops, .. } if hops.iter().any(|hop| hop.unsupported))
}
