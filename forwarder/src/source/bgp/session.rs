//! The state machine of one connection (RFC 4271 8), as far as one needs it who only waits to be called: a connection that
//! exists is in OpenSent, OpenConfirm or Established, and Idle, Connect and Active are its absence.
//!
//! Messages and the time go in, actions come out; nothing here knows of sockets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::notification::Notice;
use super::open::{Identity, Offer, Terms};
use super::table::of_family;
use super::wire::{Fault, KEEPALIVE, Kind, LONGEST, Message};
use crate::source::feed::FeedTable;

/// How long a connection may take to become a session. RFC 4271 8.2.2 suggests four minutes; who calls us sits beside us.
pub const OPEN_TIME: Duration = Duration::from_secs(30);
/// How long the other side may leave what we send in our socket, or twice the hold time where that is more (RFC 9687). Who
/// reads nothing does not know that we are here, and may be kept alive by nothing but its own KEEPALIVEs.
pub const SEND_HOLD_TIME: Duration = Duration::from_secs(8 * 60);

/// States.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Our OPEN is out.
    OpenSent,
    /// Theirs was accepted.
    OpenConfirm,
    /// Routes may come.
    Established,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Send(Vec<u8>),
    /// It is the neighbour: the moment to look for other connections of the same one (RFC 4271 6.8).
    Agreed(Arc<Terms>),
    /// The session is up.
    Established(Arc<Terms>),
    /// Everything in this table is going to be said again (RFC 7313 BoRR).
    RefreshBegins(FeedTable),
    /// Everything has been said again (EoRR).
    RefreshEnds(FeedTable),
    /// Something in this message was not understood, and the rest of it will do.
    Wrong(String),
    /// End: they said why.
    Notified(Notice),
    /// End: we say why.
    Fault(Fault),
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    us: Identity,
    state: State,
    terms: Option<Arc<Terms>>,
    /// When the other side's silence ends it.
    silence: Option<Instant>,
    /// When the next KEEPALIVE is due.
    keepalive: Option<Instant>,
    /// When it ends because nothing we send gets away.
    unsent: Option<Instant>,
}

impl Session {
    /// A connection that has just been accepted, and the OPEN to send.
    #[must_use]
    pub fn new(us: Identity, now: Instant) -> (Session, Vec<u8>) {
        let open = us.open();
        let session = Session {
            us,
            state: State::OpenSent,
            terms: None,
            silence: Some(now + OPEN_TIME),
            keepalive: None,
            unsent: None,
        };
        (session, open)
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// What was agreed on, once it was.
    #[must_use]
    pub const fn terms(&self) -> Option<&Arc<Terms>> {
        self.terms.as_ref()
    }

    /// Longest message that may come.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.terms.as_ref().map_or(LONGEST, |terms| terms.longest)
    }

    /// A message came. Of an UPDATE in Established only its arrival matters here.
    pub fn message(&mut self, message: Message<'_>, now: Instant) -> Vec<Action> {
        match (self.state, message.kind) {
            (_, Kind::Notification) => vec![Action::Notified(Notice::read(message.body))],
            (State::OpenSent, Kind::Open) => self.open(message.body, now),
            (State::OpenConfirm, Kind::Keepalive) => {
                self.state = State::Established;
                self.heard(now);
                self.terms.iter().cloned().map(Action::Established).collect()
            }
            (State::Established, Kind::Keepalive | Kind::Update) => {
                self.heard(now);
                Vec::new()
            }
            (State::Established, Kind::RouteRefresh) => {
                self.heard(now);
                refresh(message.body)
            }
            (state, kind) => {
                let subcode = match state {
                    State::OpenSent => 1,
                    State::OpenConfirm => 2,
                    State::Established => 3,
                };
                vec![Action::Fault(Fault::new(
                    5,
                    subcode,
                    format!("a {kind:?} message in {state:?}"),
                ))]
            }
        }
    }

    fn open(&mut self, body: &[u8], now: Instant) -> Vec<Action> {
        let offer =
            Offer::read(body).and_then(|offer| Ok((Terms::agree(&self.us, &offer)?, offer.malformed)));
        match offer {
            Ok((terms, malformed)) => {
                let terms = Arc::new(terms);
                let wrong = malformed
                    .iter()
                    .map(|code| Action::Wrong(format!("the capability {code} cannot be read")));
                self.state = State::OpenConfirm;
                // Until the first KEEPALIVE somebody could sit here for ever without a hold time.
                self.silence = Some(now + terms.hold.map_or(OPEN_TIME, |hold| hold.min(OPEN_TIME)));
                self.keepalive = terms.hold.map(|hold| now + hold / 3);
                self.terms = Some(Arc::clone(&terms));
                let agreed = [Action::Agreed(terms), Action::Send(KEEPALIVE.to_vec())];
                wrong.chain(agreed).collect()
            }
            Err(fault) => vec![Action::Fault(fault)],
        }
    }

    /// The other side lives, or is kept from being heard by us: silence is counted from now.
    pub fn heard(&mut self, now: Instant) {
        if self.state == State::Established {
            let hold = self.terms.as_ref().and_then(|terms| terms.hold);
            self.silence = hold.map(|hold| now + hold);
        }
    }

    /// What became of what we sent: some of it `waits` in our hands, and some was `taken` just now. Without a hold time we
    /// need not be heard (RFC 9687).
    pub fn sending(&mut self, waits: bool, taken: bool, now: Instant) {
        if !waits || taken {
            self.unsent = None;
        }
        if waits && let Some(hold) = self.terms.as_ref().and_then(|terms| terms.hold) {
            self.unsent.get_or_insert(now + SEND_HOLD_TIME.max(hold * 2));
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Option<Action> {
        if self.unsent.is_some_and(|end| now >= end) {
            self.unsent = None;
            return Some(Action::Fault(Fault::new(8, 0, "it does not take what we send")));
        }
        if self.silence.is_some_and(|end| now >= end) {
            self.silence = None;
            let what = match self.state {
                State::OpenSent => "no OPEN came",
                State::OpenConfirm => "no KEEPALIVE came after the OPEN",
                State::Established => "nothing came within the hold time",
            };
            return Some(Action::Fault(Fault::new(4, 0, what)));
        }
        if self.keepalive.is_some_and(|due| now >= due) {
            let hold = self.terms.as_ref().and_then(|terms| terms.hold);
            self.keepalive = hold.map(|hold| now + hold / 3);
            return Some(Action::Send(KEEPALIVE.to_vec()));
        }
        None
    }

    /// When [`Session::tick`] has something to do.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        [self.silence, self.keepalive, self.unsent]
            .into_iter()
            .flatten()
            .min()
    }
}

/// ROUTE-REFRESH. A request is for somebody who has routes to send; what is left are the marks of RFC 7313.
fn refresh(body: &[u8]) -> Vec<Action> {
    let (family, subtype, whole) = match body {
        [high, low, subtype, safi, rest @ ..] => (
            of_family(u16::from_be_bytes([*high, *low]), *safi),
            *subtype,
            rest.is_empty(),
        ),
        _ => (None, 1, false),
    };
    match (subtype, whole, family) {
        // RFC 7313 5.
        (1 | 2, false, _) => {
            let fault = Fault::new(7, 1, "a ROUTE-REFRESH of a length that cannot be");
            let message = super::wire::message(5, body);
            vec![Action::Fault(fault.with(&message))]
        }
        (1, true, Some(table)) => vec![Action::RefreshBegins(table)],
        (2, true, Some(table)) => vec![Action::RefreshEnds(table)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
