//! Table dumps in MRT: TABLE_DUMP_V2 (RFC 6396 4.3, with ADD-PATH RFC 8050), plain, gzip or bzip2, told by their first octets.
//!
//! The records are read by bgpkit-parser; what is wrong is said with the record's number and its offset (in the octets as
//! uncompressed). It stops quietly at the first entry of a prefix that it cannot read, so what it gave is counted.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path as FilePath;
use std::sync::Arc;

use bgpkit_parser::error::ParserError;
use bgpkit_parser::models::{
    AsPathSegment, AsnLength, Attribute, AttributeValue, Attributes as Parsed, Community, EntryType,
    MetaCommunity, MrtMessage, NextHopAddress, PeerIndexTable, RibAfiEntries, TableDumpV2Message,
    TableDumpV2Type,
};
use bgpkit_parser::parser::mrt::chunk_mrt_record;
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use ipnet::IpNet;

use super::event::PROTOCOL_BGP;
use super::feed::{Attributes, Gateway, Segment};

/// Who told a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its place in the dump's list of peers.
    pub index: u16,
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: u32,
}

/// A way to a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Who told it.
    pub peer: Peer,
    /// ADD-PATH identifier; 0 where there is none.
    pub path_id: u32,
    /// Its next hop; `None` where the dump has none.
    pub gateway: Option<Gateway>,
    /// Everything else.
    pub attributes: Arc<Attributes>,
}

/// A prefix and all ways to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The prefix.
    pub prefix: IpNet,
    /// In the order of the dump.
    pub paths: Vec<Path>,
}

/// Why a dump cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open {file}: {source}")]
    Open {
        /// Its name.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// A record is not what it should be.
    #[error("record {number} at octet {offset}: {what}")]
    Record {
        /// Which, from 1.
        number: u64,
        /// Where it begins, uncompressed.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}

/// A dump, prefix by prefix. Ends after the first error.
pub struct Dump<R> {
    input: Watched<R>,
    peers: Option<PeerIndexTable>,
    number: u64,
    offset: u64,
    left_out: u64,
    ended: bool,
}

/// Opens a file, compressed or not.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn open(path: &FilePath) -> Result<Dump<Box<dyn Read>>, Error> {
    let failed = |source| Error::Open {
        file: path.display().to_string(),
        source,
    };
    let mut input = BufReader::with_capacity(1 << 18, File::open(path).map_err(failed)?);
    let start = input.fill_buf().map_err(failed)?;
    let decoded: Box<dyn Read> = if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(BufReader::new(MultiGzDecoder::new(input)))
    } else if start.starts_with(b"BZh") {
        Box::new(BufReader::new(MultiBzDecoder::new(input)))
    } else {
        Box::new(input)
    };
    Ok(Dump::new(decoded))
}

/// Remembers how much was read and what failed: the record reader takes both a cut header and a cut stream for the end.
struct Watched<R> {
    input: R,
    octets: u64,
    failed: Option<String>,
    ended: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into);
        match &read {
            Ok(0) => self.ended |= !into.is_empty(),
            Ok(count) => self.octets += *count as u64,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => self.failed = Some(why.to_string()),
        }
        read
    }
}

impl<R: Read> Dump<R> {
    /// Reads from octets that are not compressed.
    pub fn new(input: R) -> Self {
        Self {
            input: Watched {
                input,
                octets: 0,
                failed: None,
                ended: false,
            },
            peers: None,
            number: 0,
            offset: 0,
            left_out: 0,
            ended: false,
        }
    }

    /// Records that were read and are none of unicast routes: multicast, other address families, updates.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn entry(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            self.number += 1;
            let (number, offset) = (self.number, self.offset);
            let wrong = |what: String| Error::Record { number, offset, what };
            let raw = match chunk_mrt_record(&mut self.input) {
                Ok(raw) => raw,
                Err(why) => {
                    let Watched {
                        octets,
                        failed,
                        ended,
                        ..
                    } = &self.input;
                    return match failed {
                        Some(why) => Err(wrong(format!("the file is damaged or cut: {why}"))),
                        None if *ended && *octets > offset => {
                            Err(wrong("the file is cut in this record".into()))
                        }
                        None if *ended && offset == 0 => Err(wrong("the file is empty".into())),
                        None if matches!(why.error, ParserError::EofExpected) => Ok(None),
                        None => Err(wrong(why.error.to_string())),
                    };
                }
            };
            self.offset += raw.total_bytes_len() as u64;
            let header = &raw.common_header;
            match header.entry_type {
                EntryType::TABLE_DUMP_V2 => {}
                EntryType::TABLE_DUMP => {
                    return Err(wrong(
                        "TABLE_DUMP of the first version, and only TABLE_DUMP_V2 is read".into(),
                    ));
                }
                _ => {
                    self.left_out += 1;
                    continue;
                }
            }
            if !is_read(header.entry_subtype) {
                self.left_out += 1;
                continue;
            }
            let body = raw.message_bytes.clone();
            let record = raw.parse().map_err(|why| wrong(why.to_string()))?;
            match record.message {
                MrtMessage::TableDumpV2Message(TableDumpV2Message::PeerIndexTable(peers)) => {
                    self.peers = Some(peers);
                }
                MrtMessage::TableDumpV2Message(TableDumpV2Message::RibAfi(entries)) => {
                    let Some(peers) = &self.peers else {
                        return Err(wrong("a route before the list of peers".into()));
                    };
                    return self::entry(&entries, &body, peers).map(Some).map_err(wrong);
                }
                _ => self.left_out += 1,
            }
        }
    }
}

impl<R: Read> Iterator for Dump<R> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.entry().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

fn is_read(subtype: u16) -> bool {
    use TableDumpV2Type::{
        PeerIndexTable, RibIpv4Unicast, RibIpv4UnicastAddPath, RibIpv6Unicast, RibIpv6UnicastAddPath,
    };
    matches!(
        TableDumpV2Type::try_from(subtype),
        Ok(PeerIndexTable | RibIpv4Unicast | RibIpv4UnicastAddPath | RibIpv6Unicast | RibIpv6UnicastAddPath)
    )
}

fn entry(entries: &RibAfiEntries, body: &[u8], peers: &PeerIndexTable) -> Result<Entry, String> {
    let prefix = entries.prefix.prefix.trunc();
    // Sequence number, length of the prefix, its octets, number of entries.
    let at = 5 + usize::from(body.get(4).copied().unwrap_or(0)).div_ceil(8);
    let wanted = body.get(at..).and_then(<[u8]>::first_chunk);
    let wanted = usize::from(wanted.map_or(0, |octets| u16::from_be_bytes(*octets)));
    if entries.rib_entries.len() != wanted {
        return Err(format!(
            "{prefix}: entry {} of {wanted} cannot be read",
            entries.rib_entries.len() + 1
        ));
    }
    let mut paths = Vec::with_capacity(wanted);
    for entry in &entries.rib_entries {
        let index = entry.peer_index;
        let peer = peers
            .id_peer_map
            .get(&index)
            .ok_or_else(|| format!("{prefix}: peer {index} is not in the list of peers"))?;
        paths.push(Path {
            peer: Peer {
                index,
                address: peer.peer_ip,
                asn: peer.peer_asn.to_u32(),
            },
            path_id: entry.path_id.unwrap_or(0),
            gateway: gateway(&entry.attributes),
            attributes: Arc::new(attributes(&entry.attributes, peer.peer_bgp_id.into())),
        });
    }
    Ok(Entry { prefix, paths })
}

fn gateway(parsed: &Parsed) -> Option<Gateway> {
    let plain = |address: IpAddr, link_local: Option<Ipv6Addr>| Gateway {
        address,
        link_local,
        interface: None,
    };
    let reachable = parsed.get_reachable_nlri().and_then(|nlri| nlri.next_hop);
    match reachable {
        Some(NextHopAddress::Ipv4(address)) => Some(plain(address.into(), None)),
        Some(NextHopAddress::Ipv6(address)) => Some(plain(address.into(), None)),
        Some(NextHopAddress::Ipv6LinkLocal(address, local)) => Some(plain(address.into(), Some(local))),
        // Of a VPN: not of unicast.
        Some(NextHopAddress::VpnIpv6(..) | NextHopAddress::VpnIpv6LinkLocal(..)) => None,
        None => parsed.next_hop().map(|address| plain(address, None)),
    }
}

fn attributes(parsed: &Parsed, peer: u32) -> Attributes {
    let mut attributes = Attributes {
        origin: parsed.origin() as u8,
        local_pref: parsed.local_preference().unwrap_or(100),
        med: parsed.multi_exit_discriminator(),
        cluster_list: parsed
            .clusters()
            .map_or(0, |list| u8::try_from(list.len()).unwrap_or(u8::MAX)),
        originator: parsed.origin_id().map_or(peer, Into::into),
        // A dump does not say; collectors hear from others.
        external: true,
        protocol: PROTOCOL_BGP,
        ..Attributes::default()
    };
    if let Some(path) = parsed.effective_as_path() {
        attributes.as_path = path.segments.iter().filter_map(segment).collect();
    }
    for community in parsed.iter_communities() {
        match community {
            MetaCommunity::Plain(community) => attributes.communities.push(match community {
                Community::NoExport => 0xffff_ff01,
                Community::NoAdvertise => 0xffff_ff02,
                Community::NoExportSubConfed => 0xffff_ff03,
                Community::Custom(asn, value) => asn.to_u32() << 16 | u32::from(value),
            }),
            MetaCommunity::Large(large) => {
                let [first, second] = large.local_data;
                attributes.large.push([large.global_admin, first, second]);
            }
            // As octets, below.
            MetaCommunity::Extended(_) | MetaCommunity::Ipv6Extended(_) => {}
        }
    }
    for value in parsed {
        match value {
            AttributeValue::ExtendedCommunities(_) => attributes.extended = octets(value),
            AttributeValue::Ipv6AddressSpecificExtendedCommunities(_) => attributes.extended6 = octets(value),
            _ => {}
        }
    }
    attributes
}

/// Confederation segments count for nothing outside (RFC 5065 5.3).
fn segment(segment: &AsPathSegment) -> Option<Segment> {
    match segment {
        AsPathSegment::AsSequence(list) => {
            Some(Segment::Sequence(list.iter().map(|asn| asn.to_u32()).collect()))
        }
        AsPathSegment::AsSet(set) => Some(Segment::Set(set.iter().map(|asn| asn.to_u32()).collect())),
        AsPathSegment::ConfedSequence(_) | AsPathSegment::ConfedSet(_) => None,
    }
}

/// A list of communities as it stands in a message.
fn octets<const N: usize>(value: &AttributeValue) -> Vec<[u8; N]> {
    let attribute = Attribute {
        flag: bgpkit_parser::models::AttrFlags::EXTENDED,
        value: value.clone(),
    };
    // Flags, type and two octets of length come first.
    let encoded = attribute.encode(AsnLength::Bits32).unwrap_or_default();
    let (list, _) = encoded.get(4..).unwrap_or_default().as_chunks();
    list.to_vec()
}

#[cfg(test)]
#[path = "mrt_tests.rs"]
mod tests;
