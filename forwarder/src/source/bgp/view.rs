//! A neighbour and its tables as others may see them.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::table::TABLES;
use super::update::Decoder;
use crate::source::feed::{FeedState, FeedTable};

/// A neighbour as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// Its name.
    pub name: String,
    /// State of its feed.
    pub state: FeedState,
    /// Its AS.
    pub peer_as: u32,
    /// Its BGP identifier, in a session.
    pub router_id: Option<Ipv4Addr>,
    /// Hold time in force, seconds.
    pub hold_time: Option<u64>,
    /// The tables of the session.
    pub tables: Vec<TableView>,
    /// It offered graceful restart, with this time in seconds.
    pub restart_time: Option<u64>,
}

/// A table of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableView {
    /// Which one.
    pub table: FeedTable,
    /// Routes or rules that are there.
    pub routes: usize,
    /// How many may be.
    pub limit: usize,
    /// How many were refused since the session began.
    pub refused: u64,
    /// More than one path for a prefix.
    pub add_path: bool,
}

impl View {
    /// Of a neighbour, and its session where there is one.
    #[must_use]
    pub fn new(name: &str, state: FeedState, peer_as: u32, session: Option<&Decoder>) -> View {
        let terms = session.map(Decoder::terms);
        let tables = session.map_or(Vec::new(), |decoder| {
            let terms = decoder.terms();
            let agreed = TABLES.into_iter().filter(|table| terms.tables[*table as usize]);
            agreed
                .map(|table| TableView {
                    table,
                    routes: decoder.limit(table).count(),
                    limit: decoder.limit(table).most(),
                    refused: decoder.limit(table).refused(),
                    add_path: terms.add_path[table as usize],
                })
                .collect()
        });
        View {
            name: name.to_string(),
            state,
            peer_as,
            router_id: terms.map(|terms| terms.router_id),
            hold_time: terms.and_then(|terms| terms.hold).map(|hold| hold.as_secs()),
            tables,
            restart_time: terms
                .and_then(|terms| terms.graceful.as_ref())
                .map(|graceful| graceful.time.as_secs()),
        }
    }
}
