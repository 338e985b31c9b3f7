//! A recording of a BGP session, played again to a neighbour without sockets.

use std::{
    fmt::Write as _,
    io::BufRead,
    net::Ipv4Addr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use forwarder::source::{
    bgp::{
        neighbour::{Neighbour, Output},
        open::{Identity, Offer},
        table,
        update::Limits,
        wire::{self, LONGEST_EXTENDED},
    },
    feed::{Attributes, FeedCounts, FeedEvent, Gateway, Target},
    octets::hex,
    record::Player,
    tap::{Chunk, Kind},
};
use forwarder::stats::attributes;

use super::Picture;

/// The interface of the sessions: what a link-local next hop belongs to.
const INTERFACE: u32 = 7;
/// Columns of a list of prefixes.
const WIDTH: usize = 110;

/// Every event, what we answer beside the usual, and the table at the end of the last session.
pub fn play(player: Player<impl BufRead>) -> Result<String> {
    let name = player.name.clone();
    let chunks = player.collect::<Result<Vec<Chunk>, _>>()?;
    let us = Identity {
        local_as: 64_500,
        peer_as: peer_as(&chunks).context("no OPEN at its beginning")?,
        router_id: Ipv4Addr::new(127, 0, 0, 2),
        hold_time: 90,
        add_path: true,
        graceful_restart: true,
    };
    let limits = Limits {
        most: [100_000; 4],
        disconnect: false,
    };
    let counts = Arc::new(FeedCounts::default());
    let mut neighbour = Neighbour::new(name, us, limits, Arc::clone(&counts));
    let start = Instant::now();
    let mut told = Told::new(start);
    let (mut id, mut stream, mut now, mut first) = (0, Vec::new(), start, None);
    let mut table = String::new();
    for chunk in chunks {
        let at = start + chunk.at.saturating_sub(*first.get_or_insert(chunk.at));
        now = pass(&mut neighbour, now, at, &mut told)?;
        match chunk.kind {
            Kind::Begin => {
                (id, stream) = (id + 1, Vec::new());
                neighbour.connected(id, Some(INTERFACE), now);
            }
            Kind::Read => {
                stream.extend(chunk.bytes);
                loop {
                    let used = neighbour.received(id, &stream, now);
                    told.take(&mut neighbour, now);
                    stream.drain(..used);
                    if used == 0 {
                        break;
                    }
                }
                table = told.table();
            }
            Kind::End => neighbour.lost(id, "the recording says so", now),
            Kind::Missed => bail!("octets are missing in the recording"),
        }
        told.take(&mut neighbour, now);
    }
    let end = now + Duration::from_secs(600);
    pass(&mut neighbour, now, end, &mut told)?;
    told.flush();
    let load = |count: &std::sync::atomic::AtomicU64| count.load(Relaxed);
    Ok(format!(
        "{}\nafter the last octets:\n{table}\n{} sessions, {} errors, last: {}\n",
        told.text,
        load(&counts.sessions),
        load(&counts.errors),
        counts.last_error().unwrap_or_default(),
    ))
}

/// The AS in the first OPEN.
fn peer_as(chunks: &[Chunk]) -> Option<u32> {
    let read = chunks.iter().filter(|chunk| chunk.kind == Kind::Read);
    let stream: Vec<u8> = read
        .flat_map(|chunk| chunk.bytes.iter().copied())
        .take(4096)
        .collect();
    let (message, _) = wire::first(&stream, LONGEST_EXTENDED).ok()??;
    (message.kind == wire::Kind::Open)
        .then(|| Offer::read(message.body).ok())?
        .map(|offer| offer.peer_as)
}

/// Lets time pass, with a look whenever one is due.
fn pass(neighbour: &mut Neighbour, mut now: Instant, end: Instant, told: &mut Told) -> Result<Instant> {
    while let Some(due) = neighbour.next().filter(|due| *due <= end) {
        now = due.max(now);
        neighbour.tick(false, now);
        told.take(neighbour, now);
        if neighbour.next().is_some_and(|next| next <= due) {
            bail!("time stands still");
        }
    }
    Ok(end.max(now))
}

/// What was said, as text; one line for consecutive routes that are alike but for the prefix.
struct Told {
    start: Instant,
    text: String,
    picture: Picture,
    alike: Option<(String, Vec<String>)>,
}

impl Told {
    fn new(start: Instant) -> Told {
        Told {
            start,
            text: String::new(),
            picture: Picture::default(),
            alike: None,
        }
    }

    fn take(&mut self, neighbour: &mut Neighbour, now: Instant) {
        // Seconds: what the daemons did within one is not always in the same tenth.
        let second = (now - self.start).as_secs();
        for event in neighbour.events() {
            self.picture.apply(&event);
            let (what, which) = line(&event);
            let line = format!("{second:>4} {what}");
            match (&mut self.alike, which) {
                (Some((known, list)), Some(which)) if *known == line => list.push(which),
                (_, which) => {
                    self.flush();
                    self.alike = Some((line, which.into_iter().collect()));
                }
            }
        }
        for output in neighbour.outputs() {
            // OPEN, KEEPALIVE and End-of-RIB are ours in every session.
            let line = match output {
                Output::Send(_, message) => match message.get(18..) {
                    Some([3, code, subcode, ..]) => format!("we send NOTIFICATION {code}/{subcode}"),
                    Some([5, ..]) => "we send ROUTE-REFRESH".to_string(),
                    _ => continue,
                },
                Output::Close(_) => "we close".to_string(),
            };
            self.flush();
            let _ = writeln!(self.text, "{second:>4} {line}");
        }
    }

    fn flush(&mut self) {
        let Some((line, list)) = self.alike.take() else {
            return;
        };
        self.text += &line;
        wrapped(&mut self.text, &list);
    }

    /// Every route and rule.
    fn table(&self) -> String {
        let mut text = String::new();
        let mut alike: Vec<(String, Vec<String>)> = Vec::new();
        for ((prefix, path_id), (route, stale)) in &self.picture.routes {
            let stale = if *stale { "stale, " } else { "" };
            let what = format!("{stale}{}{}", target(&route.target), said(&route.attributes));
            let which = with_path(prefix, *path_id);
            match alike.last_mut() {
                Some((known, list)) if *known == what => list.push(which),
                _ => alike.push((what, vec![which])),
            }
        }
        for (what, list) in alike {
            text += &what;
            wrapped(&mut text, &list);
        }
        for (rule, stale) in self.picture.rules.values() {
            let stale = if *stale { "stale, " } else { "" };
            let name = table::name(rule.table);
            let _ = writeln!(
                text,
                "{stale}{name} {}{}",
                hex(&rule.nlri),
                said(&rule.attributes)
            );
        }
        text
    }
}

/// A list behind a line, in lines of its own.
fn wrapped(text: &mut String, list: &[String]) {
    let mut column = WIDTH;
    for word in list {
        if column + 1 + word.len() > WIDTH {
            *text += "\n        ";
            column = 8;
        }
        *text += " ";
        *text += word;
        column += 1 + word.len();
    }
    *text += "\n";
}

/// An event as a line, and the prefix that stands apart.
fn line(event: &FeedEvent) -> (String, Option<String>) {
    match event {
        FeedEvent::State(state) => (format!("state {}", state.name()), None),
        FeedEvent::Route {
            prefix,
            path_id,
            route,
        } => (
            format!("route {}{}", target(&route.target), said(&route.attributes)),
            Some(with_path(prefix, *path_id)),
        ),
        FeedEvent::RouteGone { prefix, path_id } => ("gone".into(), Some(with_path(prefix, *path_id))),
        FeedEvent::Flow(rule) => (
            format!("rule {}{}", table::name(rule.table), said(&rule.attributes)),
            Some(hex(&rule.nlri)),
        ),
        FeedEvent::FlowGone(of, nlri) => (format!("rule gone {}", table::name(*of)), Some(hex(nlri))),
        FeedEvent::Mark {
            table: of,
            least_preferred,
        } => {
            let long = if *least_preferred {
                " as the last choice"
            } else {
                ""
            };
            (format!("mark {}{long}", table::name(*of)), None)
        }
        FeedEvent::Sweep(of) => (format!("sweep {}", table::name(*of)), None),
        FeedEvent::Synchronised(of) => (format!("synchronised {}", table::name(*of)), None),
        FeedEvent::Nexthop { .. } | FeedEvent::NexthopGone(_) | FeedEvent::Forgotten => {
            (format!("{event:?}"), None)
        }
    }
}

fn with_path(prefix: &ipnet::IpNet, path_id: u32) -> String {
    match path_id {
        0 => prefix.to_string(),
        id => format!("{prefix}#{id}"),
    }
}

fn target(target: &Target) -> String {
    let Target::Gateway(Gateway {
        address,
        link_local,
        interface,
    }) = target
    else {
        return format!("{target:?}");
    };
    let mut text = format!("by {address}");
    if let Some(link_local) = link_local {
        let _ = write!(text, " beside {link_local}");
    }
    if let Some(interface) = interface {
        let _ = write!(text, " if{interface}");
    }
    text
}

/// What a route carries, without what is as usual.
fn said(attributes: &Attributes) -> String {
    let mut text = String::new();
    if attributes.external {
        text += " external";
    }
    let path = attributes::as_path(attributes);
    if !path.is_empty() {
        let _ = write!(text, " path {path}");
    }
    let origin = attributes::origin(attributes.origin);
    let _ = write!(text, " {origin} preference {}", attributes.local_pref);
    if let Some(med) = attributes.med {
        let _ = write!(text, " med {med}");
    }
    for words in [
        attributes::communities(attributes),
        attributes::large_communities(attributes),
        attributes::extended_communities(attributes),
    ] {
        if !words.is_empty() {
            let _ = write!(text, " {words}");
        }
    }
    let _ = write!(text, " from {}", Ipv4Addr::from(attributes.originator));
    if attributes.cluster_list > 0 {
        let _ = write!(text, " by {} reflectors", attributes.cluster_list);
    }
    text
}
