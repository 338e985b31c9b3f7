//! A session as `status` shows it.

use super::open::Terms;
use super::table::TABLES;
use super::update::Decoder;
use crate::source::feed::{SessionView, TableView};

/// Of a neighbour that has this AS, of its session where there is one, and of the last NOTIFICATION.
#[must_use]
pub fn view(peer_as: u32, session: Option<&Decoder>, notification: Option<String>) -> SessionView {
    let mut view = SessionView {
        peer_as: Some(peer_as),
        notification,
        ..SessionView::default()
    };
    let Some(decoder) = session else {
        return view;
    };
    let terms = decoder.terms();
    view.router_id = Some(terms.router_id);
    view.hold_time = terms.hold.map(|hold| hold.as_secs());
    view.restart_time = terms.graceful.as_ref().map(|graceful| graceful.time.as_secs());
    view.capabilities = capabilities(terms).into_iter().map(str::to_owned).collect();
    let agreed = TABLES.into_iter().filter(|table| terms.tables[*table as usize]);
    view.tables = agreed
        .map(|table| {
            let limit = decoder.limit(table);
            TableView {
                table,
                routes: limit.count(),
                limit: limit.most(),
                refused: limit.refused(),
                add_path: terms.add_path[table as usize],
            }
        })
        .collect();
    view
}

/// What both sides can do, beside tables and ADD-PATH.
fn capabilities(terms: &Terms) -> Vec<&'static str> {
    let extended = terms.longest > super::wire::LONGEST;
    let long_lived = terms.long_lived.iter().any(Option::is_some);
    let notification = terms
        .graceful
        .as_ref()
        .is_some_and(|graceful| graceful.notification);
    [
        (terms.four_octets, "four-octet-as"),
        (terms.refresh, "route-refresh"),
        (extended, "extended-message"),
        (terms.graceful.is_some(), "graceful-restart"),
        (notification, "graceful-notification"),
        (long_lived, "long-lived-graceful-restart"),
    ]
    .into_iter()
    .filter_map(|(has, name)| has.then_some(name))
    .collect()
}
