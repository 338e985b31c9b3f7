//! UPDATE: from octets to events (RFC 4271 4.3, RFC 4760, RFC 7606, RFC 8950, RFC 8955).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use super::attributes::{self, Parts};
use super::limit::Limit;
use super::open::Terms;
use super::table::{PerTable, TABLES, family, of_family};
use super::wire::Fault;
use super::{flow, nlri};
use crate::source::feed::{Attributes, FeedEvent, FeedRoute, FeedTable, FlowRule, Gateway, Segment, Target};

/// Sets of attributes that a session remembers, and their octets: those of a full table, of which a set has fifty to a
/// hundred.
const REMEMBERED: usize = 1 << 18;
const REMEMBERED_OCTETS: usize = 16 << 20;

/// How much a neighbour may bring, and what happens beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Routes, or rules, per table.
    pub most: PerTable<usize>,
    /// End the session, instead of refusing what is too much.
    pub disconnect: bool,
}

/// What an UPDATE brought, beside its events.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Announcements and withdrawals.
    pub updates: u64,
    /// Things that were not understood or not applied.
    pub errors: u64,
    /// Routes beyond the limit.
    pub over_limit: u64,
    /// Routes that have been through our own AS.
    pub looped: u64,
    /// The worst of it in words.
    pub note: Option<String>,
    /// Tables that it spoke of.
    pub heard: PerTable<bool>,
    /// It was the End-of-RIB of this table (RFC 4724 2).
    pub end_of_rib: Option<FeedTable>,
}

impl Outcome {
    fn error(&mut self, count: u64, note: impl FnOnce() -> String) {
        if count > 0 {
            self.errors += count;
            self.note = Some(note());
        }
    }
}

/// Reads the UPDATEs of one session.
pub struct Decoder {
    terms: Arc<Terms>,
    /// The interface on which the session runs, for link-local next hops.
    interface: Option<u32>,
    known: HashMap<Box<[u8]>, Arc<Attributes>, RandomState>,
    known_octets: usize,
    key: Vec<u8>,
    limits: PerTable<Limit>,
    disconnect: bool,
}

/// What is said of a piece of NLRI.
enum Say<'a> {
    Withdrawn,
    Announced(Option<Gateway>, &'a Arc<Attributes>),
}

impl Decoder {
    /// For a session with these terms.
    #[must_use]
    pub fn new(terms: Arc<Terms>, interface: Option<u32>, limits: &Limits) -> Decoder {
        Decoder {
            terms,
            interface,
            known: HashMap::default(),
            known_octets: 0,
            key: Vec::new(),
            limits: limits.most.map(Limit::new),
            disconnect: limits.disconnect,
        }
    }

    /// What the session runs by.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The limit of a table and what counts against it.
    #[must_use]
    pub const fn limit(&self, table: FeedTable) -> &Limit {
        &self.limits[table as usize]
    }

    /// A table is going to be said from its beginning.
    pub fn restart(&mut self, table: FeedTable) {
        self.limits[table as usize].clear();
    }

    /// A table is going to be said once more, in addition to what is there.
    pub fn ask_again(&mut self, table: FeedTable) {
        self.limits[table as usize].ask_again();
    }

    /// Reads the body of an UPDATE and adds what it says to `events`.
    ///
    /// # Errors
    /// The session must end; `events` is as before.
    pub fn read(&mut self, body: &[u8], events: &mut Vec<FeedEvent>) -> Result<Outcome, Fault> {
        let before = events.len();
        let outcome = self.message(body, events);
        if outcome.is_err() {
            events.truncate(before);
        }
        outcome
    }

    fn message(&mut self, body: &[u8], events: &mut Vec<FeedEvent>) -> Result<Outcome, Fault> {
        let lengths = || Fault::new(3, 1, "an UPDATE whose lengths do not add up");
        let (withdrawn, rest) = counted(body).ok_or_else(lengths)?;
        let (list, nlri) = counted(rest).ok_or_else(lengths)?;
        let mut outcome = Outcome::default();
        if withdrawn.is_empty() && list.is_empty() && nlri.is_empty() {
            if self.terms.tables[FeedTable::Ipv4 as usize] {
                outcome.end_of_rib = Some(FeedTable::Ipv4);
            }
            return Ok(outcome);
        }
        let mut key = std::mem::take(&mut self.key);
        let done = attributes::split(list, &mut key)
            .and_then(|parts| self.parts(withdrawn, nlri, parts, &key, events, &mut outcome));
        self.key = key;
        done.map(|()| outcome)
    }

    fn parts(
        &mut self,
        withdrawn: &[u8],
        nlri: &[u8],
        mut parts: Parts<'_>,
        key: &[u8],
        events: &mut Vec<FeedEvent>,
        outcome: &mut Outcome,
    ) -> Result<(), Fault> {
        let (discarded, damaged) = (parts.discarded, parts.withdraw.is_some());
        outcome.error(discarded, || "an attribute that stands twice".into());
        if !withdrawn.is_empty() {
            self.say(FeedTable::Ipv4, withdrawn, &Say::Withdrawn, events, outcome)
                .map_err(|why| Fault::new(3, 10, why))?;
        }
        if let Some(value) = parts.unreach {
            let (table, list) = multiprotocol(value)?;
            let alone = parts.reach.is_none() && key.is_empty() && parts.next_hop.is_none();
            match table {
                Some(table) if list.is_empty() => {
                    if alone && withdrawn.is_empty() && nlri.is_empty() && !damaged && self.spoken(table) {
                        outcome.end_of_rib = Some(table);
                    }
                }
                Some(table) => self
                    .say(table, list, &Say::Withdrawn, events, outcome)
                    .map_err(|why| Fault::new(3, 9, why))?,
                None => outcome.error(1, || "routes of a family that was not agreed on".into()),
            }
        }
        let announces = !nlri.is_empty() || parts.reach.is_some();
        let attributes = match parts.withdraw.take() {
            Some(why) => Err(why),
            None if key.is_empty() && !announces => return Ok(()),
            None => self.attributes(key, announces, outcome),
        };
        let attributes = match attributes {
            Ok(attributes) => Some(attributes),
            // Nothing to withdraw: what it was about may be in what cannot be read (RFC 7606 5.2).
            Err(why) if !announces => return Err(Fault::new(3, 1, why)),
            Err(why) => {
                outcome.error(1, || format!("{why}: its routes count as withdrawn"));
                None
            }
        };
        let looped = announces
            && attributes
                .as_ref()
                .is_some_and(|attributes| self.loops(attributes));
        // Excluded, and so is what they replace.
        let attributes = attributes.filter(|_| !looped);
        let before = outcome.updates;
        if !nlri.is_empty() {
            let gateway = attributes
                .as_ref()
                .and_then(|_| self.classic_hop(parts.next_hop, outcome));
            let say = match (&attributes, gateway) {
                (Some(attributes), Some(gateway)) => Say::Announced(Some(gateway), attributes),
                _ => Say::Withdrawn,
            };
            self.say(FeedTable::Ipv4, nlri, &say, events, outcome)
                .map_err(|why| Fault::new(3, 10, why))?;
        }
        if let Some(value) = parts.reach {
            self.reach(value, attributes.as_ref(), events, outcome)?;
        }
        if looped {
            outcome.looped += outcome.updates - before;
        }
        Ok(())
    }

    /// Whether routes have been through our AS (RFC 4271 9.1.2). That is found out where they enter it. Who tells them within
    /// the AS has looked, and where its operator allowed it (`allowas-in`), the kernel beside us has them as well: what
    /// comes from there is taken.
    fn loops(&self, attributes: &Attributes) -> bool {
        let ours = self.terms.local_as;
        let through = |segment: &Segment| match segment {
            Segment::Sequence(list) | Segment::Set(list) => list.contains(&ours),
        };
        self.terms.external() && attributes.as_path.iter().any(through)
    }

    /// MP_REACH_NLRI (RFC 4760 3): family, next hop, a reserved octet, NLRI.
    fn reach(
        &mut self,
        value: &[u8],
        attributes: Option<&Arc<Attributes>>,
        events: &mut Vec<FeedEvent>,
        outcome: &mut Outcome,
    ) -> Result<(), Fault> {
        let cut = || Fault::new(3, 9, "an MP_REACH_NLRI that is cut off");
        let (table, rest) = multiprotocol(value)?;
        let (length, rest) = rest.split_first().ok_or_else(cut)?;
        let (hop, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(cut)?;
        let (_, list) = rest.split_first().ok_or_else(cut)?;
        let Some(table) = table else {
            outcome.error(1, || "routes of a family that was not agreed on".into());
            return Ok(());
        };
        let say = match (attributes, table) {
            (None, _) => Say::Withdrawn,
            // FlowSpec has no next hop, and one that is there means nothing (RFC 8955 4).
            (Some(attributes), FeedTable::FlowSpec4 | FeedTable::FlowSpec6) => {
                Say::Announced(None, attributes)
            }
            (Some(attributes), _) => {
                // A length that cannot be leaves open where the NLRI begin (RFC 7606 7.11).
                let gateway = self.hop(table, hop).ok_or_else(|| {
                    Fault::new(3, 9, format!("a next hop of {length} octets for {table:?}"))
                })?;
                match usable(gateway.address) {
                    true => Say::Announced(Some(gateway), attributes),
                    false => {
                        outcome.error(1, || {
                            format!("the next hop {}: its routes count as withdrawn", gateway.address)
                        });
                        Say::Withdrawn
                    }
                }
            }
        };
        self.say(table, list, &say, events, outcome)
            .map_err(|why| Fault::new(3, 9, why))
    }

    /// The attributes of a key: those known, or read now.
    fn attributes(
        &mut self,
        key: &[u8],
        announces: bool,
        outcome: &mut Outcome,
    ) -> Result<Arc<Attributes>, String> {
        if let Some(known) = self.known.get(key) {
            return Ok(Arc::clone(known));
        }
        let read = attributes::read(key, &self.terms)?;
        if announces && !read.complete {
            return Err("ORIGIN or AS_PATH is missing".into());
        }
        outcome.error(read.discarded, || "an attribute that was discarded".into());
        let attributes = Arc::new(read.attributes);
        // What has something to count is read again each time.
        if read.complete && read.discarded == 0 {
            if self.known.len() >= REMEMBERED || self.known_octets + key.len() > REMEMBERED_OCTETS {
                self.known.clear();
                self.known_octets = 0;
            }
            self.known_octets += key.len();
            self.known.insert(key.into(), Arc::clone(&attributes));
        }
        Ok(attributes)
    }

    fn classic_hop(&self, value: Option<&[u8]>, outcome: &mut Outcome) -> Option<Gateway> {
        let why = match value.map(<[u8; 4]>::try_from) {
            None => "NEXT_HOP is missing".to_string(),
            Some(Err(_)) => "a malformed NEXT_HOP".to_string(),
            Some(Ok(octets)) => {
                let address = IpAddr::from(octets);
                if usable(address) {
                    return Some(Gateway {
                        address,
                        link_local: None,
                        interface: None,
                    });
                }
                format!("the next hop {address}")
            }
        };
        outcome.error(1, || format!("{why}: its routes count as withdrawn"));
        None
    }

    /// The next hop of MP_REACH_NLRI: IPv4, or IPv6 with or without a link-local one beside it (RFC 2545 3, RFC 8950 3).
    fn hop(&self, table: FeedTable, octets: &[u8]) -> Option<Gateway> {
        let plain = |address| Gateway {
            address,
            link_local: None,
            interface: None,
        };
        if let (Ok(address), FeedTable::Ipv4) = (<[u8; 4]>::try_from(octets), table) {
            return Some(plain(Ipv4Addr::from(address).into()));
        }
        let (address, rest) = octets.split_first_chunk::<16>()?;
        let address = Ipv6Addr::from(*address);
        let second = match rest {
            [] => None,
            rest => Some(Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?)),
        };
        let link_local = second.filter(Ipv6Addr::is_unicast_link_local);
        // FRR and BIRD put the link-local address, or nothing, where the global one is missing.
        let (address, link_local) = match link_local {
            Some(link_local) if address.is_unspecified() => (link_local, None),
            _ if address.is_unicast_link_local() => (address, None),
            link_local => (address, link_local),
        };
        Some(Gateway {
            link_local,
            interface: self
                .interface
                .filter(|_| link_local.is_some() || address.is_unicast_link_local()),
            ..plain(address.into())
        })
    }

    fn spoken(&self, table: FeedTable) -> bool {
        self.terms.tables[table as usize]
    }

    /// Says the same of everything in a list.
    fn say(
        &mut self,
        table: FeedTable,
        list: &[u8],
        say: &Say<'_>,
        events: &mut Vec<FeedEvent>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        if !self.spoken(table) {
            outcome.error(1, || "routes of a family that was not agreed on".into());
            return Ok(());
        }
        outcome.heard[table as usize] = true;
        let limit = &mut self.limits[table as usize];
        let refused = outcome.over_limit;
        match table {
            FeedTable::Ipv4 | FeedTable::Ipv6 => {
                let add_path = self.terms.add_path[table as usize];
                let ignored = nlri::prefixes(list, table, add_path, |prefix, path_id| {
                    outcome.updates += 1;
                    match route(limit, prefix, path_id, say) {
                        Some(event) => events.push(event),
                        None => outcome.over_limit += 1,
                    }
                })?;
                outcome.error(ignored, || "a multicast prefix among unicast ones".into());
            }
            FeedTable::FlowSpec4 | FeedTable::FlowSpec6 => {
                let mut list = list;
                while !list.is_empty() {
                    let (nlri, rest) = flow::first(list).ok_or("a FlowSpec rule that is cut off")?;
                    list = rest;
                    outcome.updates += 1;
                    if let Err(why) = flow::check(table, nlri) {
                        outcome.error(1, || format!("a malformed FlowSpec rule, {why}"));
                        continue;
                    }
                    match rule(limit, table, nlri, say) {
                        Some(event) => events.push(event),
                        None => outcome.over_limit += 1,
                    }
                }
            }
        }
        if outcome.over_limit > refused {
            let most = limit.most();
            outcome.note = Some(format!(
                "more than {most} routes in {}",
                super::table::name(table)
            ));
        }
        Ok(())
    }

    /// What ends the session when a limit is passed and that is asked for (RFC 4486 4).
    #[must_use]
    pub fn over(&self) -> Option<Fault> {
        let table = TABLES
            .into_iter()
            .find(|table| self.disconnect && self.limit(*table).refused() > 0)?;
        let (afi, safi) = family(table);
        let most = self.limit(table).most();
        let mut data = afi.to_be_bytes().to_vec();
        data.push(safi);
        data.extend(u32::try_from(most).unwrap_or(u32::MAX).to_be_bytes());
        let why = format!("more than {most} routes in {}", super::table::name(table));
        Some(Fault::new(6, 1, why).with(&data))
    }
}

fn route(limit: &mut Limit, prefix: IpNet, path_id: u32, say: &Say<'_>) -> Option<FeedEvent> {
    let Say::Announced(Some(gateway), attributes) = say else {
        limit.gone((prefix, path_id));
        return Some(FeedEvent::RouteGone { prefix, path_id });
    };
    limit.admit((prefix, path_id)).then(|| FeedEvent::Route {
        prefix,
        path_id,
        route: FeedRoute {
            target: Target::Gateway(*gateway),
            attributes: Arc::clone(attributes),
        },
    })
}

fn rule(limit: &mut Limit, table: FeedTable, nlri: &[u8], say: &Say<'_>) -> Option<FeedEvent> {
    let Say::Announced(_, attributes) = say else {
        limit.gone(nlri);
        return Some(FeedEvent::FlowGone(table, nlri.to_vec()));
    };
    limit.admit(nlri).then(|| {
        FeedEvent::Flow(Arc::new(FlowRule {
            table,
            nlri: nlri.to_vec(),
            attributes: Arc::clone(attributes),
        }))
    })
}

/// A field with its length of two octets, and what follows it.
fn counted(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// AFI and SAFI of an MP attribute: the table, where it is one of ours, and the rest.
fn multiprotocol(value: &[u8]) -> Result<(Option<FeedTable>, &[u8]), Fault> {
    match value {
        [high, low, safi, rest @ ..] => Ok((of_family(u16::from_be_bytes([*high, *low]), *safi), rest)),
        _ => Err(Fault::new(3, 9, "a multiprotocol attribute without its family")),
    }
}

/// Whether packets can be sent to it at all (RFC 4271 6.3).
fn usable(address: IpAddr) -> bool {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast)
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
