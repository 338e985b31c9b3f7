//! OPEN: what we offer, what the other side offers, and what both agree on (RFC 4271 4.2 and 6.2, RFC 5492, RFC 9072).
//!
//! Capabilities are framed here and their values read by netgauze-bgp-pkt, a tuple at a time: it gives up a whole list,
//! and with it the families that we share, at the first family that it does not know.

use std::net::Ipv4Addr;
use std::time::Duration;

use netgauze_bgp_pkt::capabilities::{
    AddPathAddressFamily, AddPathCapability, BgpCapability, ExtendedNextHopEncoding,
    ExtendedNextHopEncodingCapability, FourOctetAsCapability, GracefulRestartAddressFamily,
    GracefulRestartCapability, LongLivedGracefulRestartAddressFamily, LongLivedGracefulRestartCapability,
    MultiProtocolExtensionsCapability,
};
use netgauze_bgp_pkt::open::{BgpOpenMessage, BgpOpenMessageParameter};
use netgauze_iana::address_family::{AddressFamily, AddressType};
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFrom;

use super::table::{PerTable, TABLES, address_type};
use super::wire::{Fault, LONGEST, LONGEST_EXTENDED, message};
use crate::source::feed::FeedTable;

/// Stands for an AS that needs four octets where there are two (RFC 6793).
pub const AS_TRANS: u16 = 23_456;

/// Who we are to a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Our AS.
    pub local_as: u32,
    /// The AS that the neighbour must have.
    pub peer_as: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Hold time that we offer, seconds; 0 = none.
    pub hold_time: u16,
    /// Whether we take more than one path for a prefix.
    pub add_path: bool,
    /// Whether we keep routes while the neighbour restarts.
    pub graceful_restart: bool,
}

impl Identity {
    /// Our OPEN. Of a library that can only fail when writing fails, which a vector does not.
    #[must_use]
    pub fn open(&self) -> Vec<u8> {
        let mut capabilities: Vec<BgpCapability> = TABLES
            .into_iter()
            .map(|table| {
                BgpCapability::MultiProtocolExtensions(MultiProtocolExtensionsCapability::new(address_type(
                    table,
                )))
            })
            .collect();
        capabilities.extend([
            BgpCapability::FourOctetAs(FourOctetAsCapability::new(self.local_as)),
            BgpCapability::RouteRefresh,
            BgpCapability::EnhancedRouteRefresh,
            BgpCapability::ExtendedMessage,
            BgpCapability::ExtendedNextHopEncoding(ExtendedNextHopEncodingCapability::new(vec![
                ExtendedNextHopEncoding::new(AddressType::Ipv4Unicast, AddressFamily::IPv6),
            ])),
        ]);
        if self.add_path {
            let unicast = [AddressType::Ipv4Unicast, AddressType::Ipv6Unicast];
            let receive = unicast.map(|family| AddPathAddressFamily::new(family, false, true));
            capabilities.push(BgpCapability::AddPath(AddPathCapability::new(receive.to_vec())));
        }
        if self.graceful_restart {
            // No family and no time: we keep the other side's routes and have none of our own (RFC 4724 3, RFC 9494 3).
            capabilities.extend([
                BgpCapability::GracefulRestartCapability(GracefulRestartCapability::new(
                    false,
                    true,
                    0,
                    Vec::new(),
                )),
                BgpCapability::LongLivedGracefulRestart(LongLivedGracefulRestartCapability::new(Vec::new())),
            ]);
        }
        let open = BgpOpenMessage::new(
            u16::try_from(self.local_as).unwrap_or(AS_TRANS),
            self.hold_time,
            self.router_id,
            vec![BgpOpenMessageParameter::new_capabilities(capabilities)],
        );
        let mut body = Vec::new();
        // A vector takes everything.
        let _ = open.write(&mut body);
        message(1, &body)
    }
}

/// Graceful restart as the other side offers it (RFC 4724 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graceful {
    /// It has restarted just now.
    pub restarting: bool,
    /// A NOTIFICATION does not end it (RFC 8538).
    pub notification: bool,
    /// How long its routes are to be kept.
    pub time: Duration,
    /// The tables, and whether it kept forwarding by them.
    pub tables: PerTable<Option<bool>>,
}

/// An OPEN of the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its AS, of four octets where it says so.
    pub peer_as: u32,
    /// Hold time, seconds.
    pub hold_time: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// AS numbers have four octets.
    pub four_octets: bool,
    /// Tables; `None` where it does not speak of them, which means IPv4 unicast.
    pub tables: Option<PerTable<bool>>,
    /// ROUTE-REFRESH.
    pub refresh: bool,
    /// With beginning and end.
    pub enhanced_refresh: bool,
    /// Messages longer than 4096 octets.
    pub extended_message: bool,
    /// Tables for which it sends more than one path.
    pub sends_paths: PerTable<bool>,
    /// Graceful restart.
    pub graceful: Option<Graceful>,
    /// Long-lived graceful restart: forwarding kept, and for how long.
    pub long_lived: PerTable<Option<(bool, Duration)>>,
    /// Capabilities that could not be read, by code.
    pub malformed: Vec<u8>,
}

impl Offer {
    /// Reads the body of an OPEN. Capabilities that are not known are skipped (RFC 5492 3), and so are families.
    ///
    /// # Errors
    /// What RFC 4271 6.2 has us answer.
    pub fn read(body: &[u8]) -> Result<Offer, Fault> {
        let Some(([version, as_high, as_low, hold_high, hold_low, a, b, c, d, length], rest)) =
            body.split_first_chunk::<10>()
        else {
            return Err(Fault::new(2, 0, "an OPEN that is too short"));
        };
        if *version != 4 {
            return Err(Fault::new(2, 1, format!("BGP version {version}")).with(&[0, 4]));
        }
        let mut offer = Offer {
            peer_as: u32::from(u16::from_be_bytes([*as_high, *as_low])),
            hold_time: u16::from_be_bytes([*hold_high, *hold_low]),
            router_id: Ipv4Addr::new(*a, *b, *c, *d),
            four_octets: false,
            tables: None,
            refresh: false,
            enhanced_refresh: false,
            extended_message: false,
            sends_paths: [false; 4],
            graceful: None,
            long_lived: [None; 4],
            malformed: Vec::new(),
        };
        if matches!(offer.hold_time, 1 | 2) {
            let why = format!("a hold time of {} s", offer.hold_time);
            return Err(Fault::new(2, 6, why));
        }
        if offer.router_id.is_unspecified()
            || offer.router_id.is_multicast()
            || offer.router_id.is_broadcast()
        {
            return Err(Fault::new(
                2,
                3,
                format!("the BGP identifier {}", offer.router_id),
            ));
        }
        offer.parameters(*length, rest)?;
        Ok(offer)
    }

    fn parameters(&mut self, length: u8, rest: &[u8]) -> Result<(), Fault> {
        let malformed = || Fault::new(2, 0, "optional parameters whose lengths do not add up");
        // 255, and a parameter of type 255: lengths of two octets follow (RFC 9072 2).
        let (mut parameters, wide) = match (length, rest) {
            (255, [255, high, low, rest @ ..]) => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                (rest.get(..length).ok_or_else(malformed)?, true)
            }
            _ => (rest.get(..usize::from(length)).ok_or_else(malformed)?, false),
        };
        while !parameters.is_empty() {
            let (kind, length, rest) = match parameters {
                [kind, high, low, rest @ ..] if wide => {
                    (*kind, usize::from(u16::from_be_bytes([*high, *low])), rest)
                }
                [kind, length, rest @ ..] if !wide => (*kind, usize::from(*length), rest),
                _ => return Err(malformed()),
            };
            let (value, rest) = rest.split_at_checked(length).ok_or_else(malformed)?;
            if kind != 2 {
                return Err(Fault::new(2, 4, format!("the optional parameter {kind}")));
            }
            self.capabilities(value).ok_or_else(malformed)?;
            parameters = rest;
        }
        Ok(())
    }

    fn capabilities(&mut self, mut list: &[u8]) -> Option<()> {
        while !list.is_empty() {
            let [code, length, rest @ ..] = list else {
                return None;
            };
            let (value, rest) = rest.split_at_checked(usize::from(*length))?;
            if self.capability(*code, value, &list[..2 + value.len()]).is_none() {
                self.malformed.push(*code);
            }
            list = rest;
        }
        Some(())
    }

    /// Takes one capability: `value`, and `whole` with code and length. `None` where it cannot be read.
    fn capability(&mut self, code: u8, value: &[u8], whole: &[u8]) -> Option<()> {
        match code {
            // A family that is not known is as if it had not been named.
            1 => {
                let tables = self.tables.get_or_insert_default();
                let family = BgpCapability::parse(&mut SliceReader::new(whole));
                if let Ok(BgpCapability::MultiProtocolExtensions(family)) = family {
                    set(tables, family.address_type(), true);
                } else if value.len() != 4 {
                    return None;
                }
            }
            64 => {
                let (header, list) = value.split_first_chunk::<2>()?;
                let header = u16::from_be_bytes(*header);
                let mut graceful = Graceful {
                    restarting: header & 0x8000 != 0,
                    notification: header & 0x4000 != 0,
                    time: Duration::from_secs(u64::from(header & 0x0fff)),
                    tables: [None; 4],
                };
                for tuple in tuples::<GracefulRestartAddressFamily>(list, 4)? {
                    set(
                        &mut graceful.tables,
                        tuple.address_type(),
                        Some(tuple.forwarding_state()),
                    );
                }
                self.graceful = Some(graceful);
            }
            69 => {
                for tuple in tuples::<AddPathAddressFamily>(value, 4)? {
                    set(&mut self.sends_paths, tuple.address_type(), tuple.send());
                }
            }
            71 => {
                for tuple in tuples::<LongLivedGracefulRestartAddressFamily>(value, 7)? {
                    let time = Duration::from_secs(u64::from(tuple.stale_time()));
                    set(
                        &mut self.long_lived,
                        tuple.address_type(),
                        Some((tuple.forwarding_state(), time)),
                    );
                }
            }
            2 | 6 | 65 | 70 => match BgpCapability::parse(&mut SliceReader::new(whole)).ok()? {
                BgpCapability::RouteRefresh => self.refresh = true,
                BgpCapability::ExtendedMessage => self.extended_message = true,
                BgpCapability::EnhancedRouteRefresh => self.enhanced_refresh = true,
                BgpCapability::FourOctetAs(number) => {
                    self.peer_as = number.asn4();
                    self.four_octets = true;
                }
                _ => {}
            },
            _ => {}
        }
        Some(())
    }
}

/// The tuples of a list; those of families that are not known are left out. `None` where the length is no multiple.
fn tuples<'a, T: ParseFrom<'a>>(list: &'a [u8], size: usize) -> Option<Vec<T>> {
    let chunks = list.chunks_exact(size);
    chunks.remainder().is_empty().then(|| {
        chunks
            .filter_map(|chunk| T::parse(&mut SliceReader::new(chunk)).ok())
            .collect()
    })
}

fn set<T>(tables: &mut PerTable<T>, family: AddressType, value: T) {
    if let Some(table) = TABLES.into_iter().find(|table| address_type(*table) == family) {
        tables[table as usize] = value;
    }
}

/// What a session runs by: both sides' OPENs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The other side's AS.
    pub peer_as: u32,
    /// Our AS.
    pub local_as: u32,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Hold time; `None` = neither keepalives nor an end by silence.
    pub hold: Option<Duration>,
    /// AS numbers in paths have four octets.
    pub four_octets: bool,
    /// The tables of the session.
    pub tables: PerTable<bool>,
    /// NLRI carry a path identifier.
    pub add_path: PerTable<bool>,
    /// Longest message.
    pub longest: usize,
    /// ROUTE-REFRESH may be sent.
    pub refresh: bool,
    /// Graceful restart, where both sides know it.
    pub graceful: Option<Graceful>,
    /// Long-lived graceful restart per table, where both sides know it.
    pub long_lived: PerTable<Option<(bool, Duration)>>,
}

impl Terms {
    /// What follows from our OPEN and theirs.
    ///
    /// # Errors
    /// It is not the neighbour we expect, with what RFC 4271 6.2 has us answer.
    pub fn agree(us: &Identity, them: &Offer) -> Result<Terms, Fault> {
        if them.peer_as != us.peer_as || them.peer_as == 0 {
            let why = format!("its AS is {}, and {} is expected", them.peer_as, us.peer_as);
            return Err(Fault::new(2, 2, why));
        }
        // Within an AS identifiers are unique (RFC 6286 2.1); outside they need not be.
        if us.peer_as == us.local_as && them.router_id == us.router_id {
            let why = format!("its BGP identifier {} is ours", them.router_id);
            return Err(Fault::new(2, 3, why));
        }
        let hold = us.hold_time.min(them.hold_time);
        // Without a word on families it is IPv4 unicast (RFC 4760 8).
        let tables = them.tables.unwrap_or([true, false, false, false]);
        let unicast = |table: FeedTable| matches!(table, FeedTable::Ipv4 | FeedTable::Ipv6);
        let graceful = them.graceful.clone().filter(|_| us.graceful_restart);
        Ok(Terms {
            peer_as: them.peer_as,
            local_as: us.local_as,
            router_id: them.router_id,
            hold: (hold > 0).then(|| Duration::from_secs(u64::from(hold))),
            four_octets: them.four_octets,
            tables,
            add_path: TABLES.map(|table| {
                us.add_path && unicast(table) && tables[table as usize] && them.sends_paths[table as usize]
            }),
            longest: if them.extended_message {
                LONGEST_EXTENDED
            } else {
                LONGEST
            },
            refresh: them.refresh,
            // Long-lived restart builds on the other and is nothing without it (RFC 9494 4.1).
            long_lived: if graceful.is_some() {
                them.long_lived
            } else {
                [None; 4]
            },
            graceful,
        })
    }

    /// Whether the session is with another AS.
    #[must_use]
    pub const fn external(&self) -> bool {
        self.peer_as != self.local_as
    }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
