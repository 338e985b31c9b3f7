//! A neighbour: its connections, of which at most one is a session, and what is known from it. Octets and the time go in;
//! octets, ends of connections, and events for the RIB come out, in one order. Sockets are [`super::speaker`]'s.
//!
//! Two connections at once (RFC 4271 6.8): both were opened by the other side, so there are no identifiers to compare, and
//! it is decided when the second one's OPEN is accepted, never before: nobody can end a session by connecting. If the first
//! is not a session yet, the second takes its place, as the other side seems to have given it up. If it is, then
//! a neighbour that offered graceful restart has restarted (RFC 4724 4.2), and the first is dropped without a word and its
//! routes are kept; otherwise the second is refused, and the first ends by its hold time if it is dead.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::notification::words;
use super::open::{Identity, Terms};
use super::restart::Tables;
use super::session::{Action, Session, State};
use super::table::{PerTable, TABLES, family};
use super::update::{Decoder, Limits};
use super::view::view;
use super::wire::{self, Fault, Kind, Message};
use crate::source::feed::{FeedCounts, FeedEvent, FeedState, FeedTable, SessionView};
use crate::source::octets;

/// Events after which reading stops until they are taken.
pub const BATCH: usize = 4_096;
/// Connections of one neighbour: a session, and what may take its place.
pub const CONNECTIONS: usize = 2;
/// How soon a table is asked for again because what was refused of it has room now: the neighbour tells all of it each time.
pub const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Octets of a bad message that are logged.
const SHOWN: usize = 48;

/// Names a connection.
pub type ConnectionId = u64;

/// What a connection needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(ConnectionId, Vec<u8>),
    /// Send what is left to send, and close it.
    Close(ConnectionId),
}

struct Connection {
    id: ConnectionId,
    session: Session,
    decoder: Option<Decoder>,
    interface: Option<u32>,
}

/// A neighbour.
pub struct Neighbour {
    name: String,
    us: Identity,
    limits: Limits,
    counts: Arc<FeedCounts>,
    connections: Vec<Connection>,
    tables: Tables,
    state: FeedState,
    events: Vec<FeedEvent>,
    outputs: Vec<Output>,
    /// The last thing that was logged as wrong, and how often it came since.
    logged: Option<(Instant, u64)>,
    /// When each table was last asked for.
    asked: PerTable<Option<Instant>>,
    /// The last NOTIFICATION, ours or theirs.
    notification: Option<String>,
}

impl Neighbour {
    /// Nobody is connected.
    #[must_use]
    pub fn new(name: String, us: Identity, limits: Limits, counts: Arc<FeedCounts>) -> Neighbour {
        let neighbour = Neighbour {
            name,
            us,
            limits,
            counts,
            connections: Vec::new(),
            tables: Tables::default(),
            state: FeedState::Down,
            events: Vec::new(),
            outputs: Vec::new(),
            logged: None,
            asked: PerTable::default(),
            notification: None,
        };
        neighbour.show();
        neighbour
    }

    /// What the connections need; taken away.
    pub fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// What the RIB must know; taken away.
    pub fn events(&mut self) -> Vec<FeedEvent> {
        std::mem::take(&mut self.events)
    }

    /// Whether the RIB must know something.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Somebody connected. The caller has checked who it is.
    pub fn connected(&mut self, id: ConnectionId, interface: Option<u32>, now: Instant) {
        if self.connections.len() >= CONNECTIONS {
            // One that is no session makes room.
            let index = self.position(|connection| connection.session.state() != State::Established);
            if let Some(index) = index {
                self.refuse(index, "a newer connection of the same neighbour");
            }
        }
        let (session, open) = Session::new(self.us.clone(), now);
        self.connections.push(Connection {
            id,
            session,
            decoder: None,
            interface,
        });
        self.outputs.push(Output::Send(id, open));
        if self.state == FeedState::Down {
            self.enter(FeedState::Connecting);
        }
    }

    /// Octets came: the whole messages among them are taken, up to a batch of events. Answers how many octets that were.
    pub fn received(&mut self, id: ConnectionId, stream: &[u8], now: Instant) -> usize {
        let mut used = 0;
        while self.events.len() < BATCH {
            let Some(index) = self.position(|connection| connection.id == id) else {
                break;
            };
            match wire::first(&stream[used..], self.connections[index].session.longest()) {
                Ok(None) => break,
                Ok(Some((message, length))) => {
                    used += length;
                    self.counts.messages.fetch_add(1, Relaxed);
                    self.counts.bytes.fetch_add(length as u64, Relaxed);
                    self.message(index, message, now);
                }
                Err(fault) => {
                    self.wrong(&fault.why, &stream[used..], now);
                    self.fault(index, &fault, now);
                }
            }
        }
        used
    }

    /// The connection is gone.
    pub fn lost(&mut self, id: ConnectionId, why: &str, now: Instant) {
        if let Some(index) = self.position(|connection| connection.id == id) {
            self.remove(index, true, &format!("the connection is lost ({why})"), now);
        }
    }

    /// What became of what a connection was to send: see [`Session::sending`].
    pub fn sending(&mut self, id: ConnectionId, waits: bool, taken: bool, now: Instant) {
        if let Some(index) = self.position(|connection| connection.id == id) {
            self.connections[index].session.sending(waits, taken, now);
        }
    }

    /// Time has passed. `blocked` while the RIB does not take events: then nothing is read, and silence means nothing.
    pub fn tick(&mut self, blocked: bool, now: Instant) {
        let mut index = 0;
        while let Some(connection) = self.connections.get_mut(index) {
            if blocked {
                connection.session.heard(now);
            }
            let id = connection.id;
            match connection.session.tick(now) {
                Some(Action::Send(message)) => self.outputs.push(Output::Send(id, message)),
                Some(Action::Fault(fault)) => {
                    self.wrong(&fault.why, &[], now);
                    self.fault(index, &fault, now);
                    continue;
                }
                _ => {}
            }
            index += 1;
        }
        self.tables.tick(now, &mut self.events);
        self.ask_for_refused(now);
        self.settle();
        self.show();
    }

    /// When [`Neighbour::tick`] has something to do.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let sessions = self
            .connections
            .iter()
            .filter_map(|connection| connection.session.next());
        let asking = self.room_again().map(|(_, _, due)| due);
        sessions.chain(self.tables.next()).chain(asking).min()
    }

    /// Asks for everything again. Answers whether there is a session that can be asked.
    pub fn refresh(&mut self) -> bool {
        let Some((id, terms)) = self.connections.iter().find_map(established) else {
            return false;
        };
        if !terms.refresh {
            return false;
        }
        for table in TABLES.into_iter().filter(|table| terms.tables[*table as usize]) {
            self.outputs.push(Output::Send(id, request(table)));
        }
        true
    }

    /// Tables of which routes were refused that have room now, whose session can be asked for them, and when it may be.
    fn room_again(&self) -> impl Iterator<Item = (usize, FeedTable, Instant)> {
        let session = self.session();
        let decoder = session.and_then(|index| Some((index, self.connections[index].decoder.as_ref()?)));
        let decoder = decoder.filter(|(_, decoder)| decoder.terms().refresh);
        TABLES.into_iter().filter_map(move |table| {
            let (index, decoder) = decoder?;
            let asked = self.asked[table as usize]?;
            decoder
                .limit(table)
                .has_room_again()
                .then_some((index, table, asked + ASK_AGAIN))
        })
    }

    /// Asks for what was refused (RFC 2918), where there is room for it now.
    fn ask_for_refused(&mut self, now: Instant) {
        let due: Vec<_> = self.room_again().filter(|(.., due)| now >= *due).collect();
        for (index, table, _) in due {
            let connection = &mut self.connections[index];
            if let Some(decoder) = &mut connection.decoder {
                decoder.ask_again(table);
            }
            self.asked[table as usize] = Some(now);
            let name = super::table::name(table);
            info!(peer = %self.name, "BGP: there is room again: asking for the {name} routes that were refused");
            self.outputs.push(Output::Send(connection.id, request(table)));
        }
    }

    /// We stop: says so on every connection. The RIB keeps what it has.
    pub fn stop(&mut self) {
        for connection in self.connections.drain(..) {
            let goodbye = Fault::new(6, 2, "").notification();
            self.outputs.push(Output::Send(connection.id, goodbye));
            self.outputs.push(Output::Close(connection.id));
        }
    }

    /// Whether nobody is connected.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.connections.is_empty()
    }

    /// Whether it has never announced or withdrawn anything.
    #[must_use]
    pub fn has_said_nothing(&self) -> bool {
        self.counts.updates.load(Relaxed) == 0
    }

    /// Whether nothing is known from it, and nobody is connected.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state == FeedState::Down && !self.has_events()
    }

    /// The connection that has been here longest: the session, where there is one.
    #[must_use]
    pub fn first(&self) -> Option<ConnectionId> {
        self.connections.first().map(|connection| connection.id)
    }

    /// How many connections are no session.
    #[must_use]
    pub fn half_open(&self) -> usize {
        let sessions = self.connections.iter().filter_map(established).count();
        self.connections.len() - sessions
    }

    /// The session as `status` shows it.
    #[must_use]
    pub fn view(&self) -> SessionView {
        view(self.us.peer_as, self.decoder(), self.notification.clone())
    }

    /// Puts it where others read it.
    fn show(&self) {
        let refused = |decoder: &Decoder| TABLES.map(|table| decoder.limit(table).refused()).iter().sum();
        self.counts
            .refused
            .store(self.decoder().map_or(0, refused), Relaxed);
        self.counts.show(self.view());
    }

    /// What reads the session's UPDATEs.
    fn decoder(&self) -> Option<&Decoder> {
        self.connections[self.session()?].decoder.as_ref()
    }

    /// The connection that is the session.
    fn session(&self) -> Option<usize> {
        self.position(|connection| established(connection).is_some())
    }

    fn position(&self, which: impl Fn(&Connection) -> bool) -> Option<usize> {
        self.connections.iter().position(which)
    }

    fn message(&mut self, index: usize, message: Message<'_>, now: Instant) {
        let connection = &mut self.connections[index];
        let id = connection.id;
        let actions = connection.session.message(message, now);
        if message.kind == Kind::Update
            && let Some(decoder) = &mut connection.decoder
        {
            match decoder.read(message.body, &mut self.events) {
                Ok(outcome) => {
                    let over = decoder.over();
                    self.took(outcome, message.body, now);
                    if let Some(fault) = over {
                        self.fault(index, &fault, now);
                    }
                }
                Err(fault) => {
                    self.wrong(&fault.why, message.body, now);
                    self.fault(index, &fault, now);
                }
            }
            return;
        }
        for action in actions {
            // An action before it may have removed the connection, or another one.
            let Some(index) = self.position(|connection| connection.id == id) else {
                return;
            };
            match action {
                Action::Send(message) => self.outputs.push(Output::Send(id, message)),
                Action::Agreed(terms) => self.agreed(index, &terms, message.body, now),
                Action::Wrong(why) => self.wrong(&why, message.body, now),
                Action::Established(terms) => self.established(index, &terms, now),
                Action::RefreshBegins(table) => {
                    if self.tables.refresh_begins(table, now, &mut self.events)
                        && let Some(decoder) = &mut self.connections[index].decoder
                    {
                        decoder.restart(table);
                    }
                }
                Action::RefreshEnds(table) => {
                    self.tables.refresh_ends(table, &mut self.events);
                }
                Action::Notified(notice) => {
                    self.notification = Some(format!("received: {}", notice.text));
                    let why = format!("it says: {}", notice.text);
                    let graceful = !notice.hard_reset() && self.survives_notification(index);
                    self.remove(index, graceful, &why, now);
                }
                Action::Fault(fault) => {
                    self.wrong(&fault.why, message.body, now);
                    self.fault(index, &fault, now);
                }
            }
        }
    }

    /// An UPDATE was taken.
    fn took(&mut self, outcome: super::update::Outcome, body: &[u8], now: Instant) {
        self.counts.updates.fetch_add(outcome.updates, Relaxed);
        self.counts.over_limit.fetch_add(outcome.over_limit, Relaxed);
        self.counts.errors.fetch_add(outcome.errors, Relaxed);
        self.counts.left_out.fetch_add(outcome.looped, Relaxed);
        if let Some(note) = outcome.note {
            self.log(&note, body, now);
        }
        for table in TABLES.into_iter().filter(|table| outcome.heard[*table as usize]) {
            self.tables.heard(table, now);
        }
        if let Some(table) = outcome.end_of_rib {
            self.tables.end_of_rib(table, &mut self.events);
            self.settle();
        }
    }

    /// The other side is the neighbour: one of its connections must go.
    fn agreed(&mut self, index: usize, terms: &Terms, open: &[u8], now: Instant) {
        let id = self.connections[index].id;
        debug!(peer = %self.name, "OPEN accepted: AS {}, identifier {}", terms.peer_as, terms.router_id);
        let Some(other) = self.position(|connection| connection.id != id) else {
            return;
        };
        let old = &self.connections[other];
        if established(old).is_none() {
            self.refuse(other, "a newer connection of the same neighbour");
        } else if old.session.terms().is_some_and(|terms| terms.graceful.is_some()) {
            self.outputs.push(Output::Close(old.id));
            self.forget(other, true, "it has restarted: it opened a new connection", now);
        } else {
            let why = "there is a session with this neighbour already";
            self.wrong(why, open, now);
            self.refuse(index, why);
        }
    }

    fn established(&mut self, index: usize, terms: &Arc<Terms>, now: Instant) {
        let connection = &mut self.connections[index];
        connection.decoder = Some(Decoder::new(
            Arc::clone(terms),
            connection.interface,
            &self.limits,
        ));
        self.counts.sessions.fetch_add(1, Relaxed);
        // What is refused while the first table comes is not asked for before it is whole.
        self.asked = [Some(now); TABLES.len()];
        self.tables.established(terms, now, &mut self.events);
        let agreed = TABLES.into_iter().filter(|table| terms.tables[*table as usize]);
        let tables: Vec<&str> = agreed.clone().map(super::table::name).collect();
        for (afi, safi) in agreed.map(family) {
            self.outputs
                .push(Output::Send(connection.id, wire::end_of_rib(afi, safi)));
        }
        info!(
            peer = %self.name,
            "BGP session up: AS {}, identifier {}, {}", terms.peer_as, terms.router_id, tables.join(", ")
        );
        self.enter(FeedState::Syncing);
        self.settle();
    }

    /// Whether routes outlive a NOTIFICATION on this connection (RFC 8538 4).
    fn survives_notification(&self, index: usize) -> bool {
        let terms = self.connections[index].session.terms();
        let graceful = terms.and_then(|terms| terms.graceful.as_ref());
        graceful.is_some_and(|graceful| graceful.notification)
    }

    /// Ends a connection with a NOTIFICATION.
    fn fault(&mut self, index: usize, fault: &Fault, now: Instant) {
        let connection = &self.connections[index];
        // A neighbour that brought too much does not get it kept for it.
        let graceful = fault.code != 6 && self.survives_notification(index);
        let notification = fault.notification();
        self.outputs.push(Output::Send(connection.id, notification));
        let sent = words(fault.code, fault.subcode);
        self.notification = Some(format!("sent: {sent}"));
        self.remove(index, graceful, &format!("{fault}; sent: {sent}"), now);
    }

    /// Ends a connection that is too many (RFC 4486: connection collision resolution).
    fn refuse(&mut self, index: usize, why: &str) {
        let connection = self.connections.remove(index);
        info!(peer = %self.name, "BGP connection refused: {why}");
        let notification = Fault::new(6, 7, why).notification();
        self.outputs.push(Output::Send(connection.id, notification));
        self.outputs.push(Output::Close(connection.id));
    }

    fn remove(&mut self, index: usize, graceful: bool, why: &str, now: Instant) {
        self.outputs.push(Output::Close(self.connections[index].id));
        self.forget(index, graceful, why, now);
    }

    /// Takes a connection off the list, and its routes as its end allows.
    fn forget(&mut self, index: usize, graceful: bool, why: &str, now: Instant) {
        let connection = self.connections.remove(index);
        if let Some((_, terms)) = established(&connection) {
            warn!(peer = %self.name, "BGP session down: {why}");
            self.tables.lost(graceful, terms, now, &mut self.events);
        } else {
            info!(peer = %self.name, "BGP connection ended before there was a session: {why}");
        }
        self.counts.note(why.to_string());
        self.settle();
    }

    /// The state that follows from sessions and tables.
    fn settle(&mut self) {
        let state = match self.session().is_some() {
            true if self.tables.whole() => FeedState::Live,
            true => FeedState::Syncing,
            false if self.tables.stale() => FeedState::Stale,
            false if self.connections.is_empty() => FeedState::Down,
            false => FeedState::Connecting,
        };
        self.enter(state);
    }

    fn enter(&mut self, state: FeedState) {
        if self.state != state {
            self.state = state;
            self.events.push(FeedEvent::State(state));
        }
    }

    /// Counts and logs what was not as it should be.
    fn wrong(&mut self, what: &str, octets: &[u8], now: Instant) {
        self.counts.errors.fetch_add(1, Relaxed);
        self.log(what, octets, now);
    }

    /// Logs it, one line a second at most; the last one is kept for `status`.
    fn log(&mut self, what: &str, octets: &[u8], now: Instant) {
        self.counts.note(what.to_string());
        if let Some((last, silent)) = &mut self.logged
            && now.duration_since(*last).as_secs() < 1
        {
            *silent += 1;
            return;
        }
        let silent = self.logged.map_or(0, |(_, silent)| silent);
        self.logged = Some((now, 0));
        warn!(
            peer = %self.name,
            "BGP: {what} ({}; {silent} more lines like this were left out)",
            octets::shown(octets, SHOWN),
        );
    }
}

/// ROUTE-REFRESH (RFC 2918 3).
fn request(table: FeedTable) -> Vec<u8> {
    let (afi, safi) = family(table);
    let [high, low] = afi.to_be_bytes();
    wire::message(5, &[high, low, 0, safi])
}

/// A connection's id and terms, where it is a session.
fn established(connection: &Connection) -> Option<(ConnectionId, &Arc<Terms>)> {
    let terms = connection.session.terms()?;
    (connection.session.state() == State::Established).then_some((connection.id, terms))
}

#[cfg(test)]
#[path = "neighbour_tests.rs"]
mod tests;
