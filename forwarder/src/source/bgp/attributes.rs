//! Path attributes, and what a broken one costs (RFC 4271 4.3 and 5, RFC 6793, RFC 7606).
//!
//! RFC 7606 wants the least damage that is safe: an attribute that nobody needs is discarded, one that matters makes its
//! routes withdrawn, and only where the routes themselves cannot be told is the session given up. That takes the list apart
//! before any value is looked at, and a library that answers yes or no to a whole UPDATE does not help with it; so both
//! are done here. The steps:
//!
//! 1. [`split`] frames the list and sets apart what [`super::update`] reads itself: the NLRI and next hops. The rest goes
//!    into one piece of memory, its *key*.
//! 2. The key is looked up among those of the session; a table of a million routes has a tenth as many.
//! 3. [`read`] reads one that is new.

use super::open::{AS_TRANS, Terms};
use super::wire::Fault;
use crate::source::event::PROTOCOL_BGP;
use crate::source::feed::{Attributes, Segment};

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const EXTENDED_LENGTH: u8 = 0x10;

const ORIGIN: u8 = 1;
const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const MED: u8 = 4;
const LOCAL_PREF: u8 = 5;
const ATOMIC_AGGREGATE: u8 = 6;
const AGGREGATOR: u8 = 7;
const COMMUNITIES: u8 = 8;
const ORIGINATOR_ID: u8 = 9;
const CLUSTER_LIST: u8 = 10;
const MP_REACH: u8 = 14;
const MP_UNREACH: u8 = 15;
const EXTENDED: u8 = 16;
const AS4_PATH: u8 = 17;
const AS4_AGGREGATOR: u8 = 18;
const EXTENDED6: u8 = 25;
const LARGE: u8 = 32;

/// LOCAL_PREF where none is given.
const DEFAULT_PREFERENCE: u32 = 100;

/// An attribute list, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// MP_REACH_NLRI.
    pub reach: Option<&'a [u8]>,
    /// MP_UNREACH_NLRI.
    pub unreach: Option<&'a [u8]>,
    /// NEXT_HOP.
    pub next_hop: Option<&'a [u8]>,
    /// Why its routes must be taken for withdrawn.
    pub withdraw: Option<String>,
    /// Attributes left out because they stood there before.
    pub discarded: u64,
}

/// Optional and transitive, as they must be for attributes that are known; `None` for those that are not.
const fn flags(code: u8) -> Option<u8> {
    match code {
        ORIGIN | AS_PATH | NEXT_HOP | LOCAL_PREF | ATOMIC_AGGREGATE => Some(TRANSITIVE),
        MED | ORIGINATOR_ID | CLUSTER_LIST | MP_REACH | MP_UNREACH => Some(OPTIONAL),
        AGGREGATOR | COMMUNITIES | EXTENDED | AS4_PATH | AS4_AGGREGATOR | EXTENDED6 | LARGE => {
            Some(OPTIONAL | TRANSITIVE)
        }
        _ => None,
    }
}

/// The first attribute of a list: flags, code, value, rest.
fn first(list: &[u8]) -> Option<(u8, u8, &[u8], &[u8])> {
    let [flags, code, list @ ..] = list else {
        return None;
    };
    let (length, list) = if flags & EXTENDED_LENGTH == 0 {
        let (length, list) = list.split_first()?;
        (usize::from(*length), list)
    } else {
        let (length, list) = list.split_first_chunk::<2>()?;
        (usize::from(u16::from_be_bytes(*length)), list)
    };
    let (value, rest) = list.split_at_checked(length)?;
    Some((*flags, *code, value, rest))
}

/// Takes a list apart; attributes other than NLRI and next hop are copied to `key`, without those that are not known.
///
/// # Errors
/// What ends the session: NLRI twice (RFC 7606 3 g), or a well-known attribute that is not known (RFC 4271 6.3).
pub fn split<'a>(mut list: &'a [u8], key: &mut Vec<u8>) -> Result<Parts<'a>, Fault> {
    key.clear();
    let mut parts = Parts::default();
    let mut seen = [false; 256];
    while !list.is_empty() {
        let Some((given, code, value, rest)) = first(list) else {
            // What came before it is still good enough to withdraw (RFC 7606 4).
            parts.withdraw = Some("an attribute runs past the end of the list".into());
            break;
        };
        let whole = &list[..list.len() - rest.len()];
        list = rest;
        if std::mem::replace(&mut seen[usize::from(code)], true) {
            if matches!(code, MP_REACH | MP_UNREACH) {
                return Err(Fault::new(
                    3,
                    1,
                    format!("the attribute {code} stands twice in a message"),
                ));
            }
            parts.discarded += 1;
            continue;
        }
        let Some(due) = flags(code) else {
            if given & OPTIONAL == 0 {
                let why = format!("the well-known attribute {code} is not known");
                return Err(Fault::new(3, 2, why).with(whole));
            }
            continue;
        };
        match code {
            MP_REACH => parts.reach = Some(value),
            MP_UNREACH => parts.unreach = Some(value),
            NEXT_HOP => parts.next_hop = Some(value),
            _ => key.extend(whole),
        }
        if given & (OPTIONAL | TRANSITIVE) != due {
            parts.withdraw = Some(format!("the attribute {code} has the flags {given:#04x}"));
        }
    }
    Ok(parts)
}

/// Attributes as read from a key.
#[derive(Debug)]
pub struct Read {
    /// The attributes.
    pub attributes: Attributes,
    /// ORIGIN and AS_PATH were there.
    pub complete: bool,
    /// How many were discarded.
    pub discarded: u64,
}

/// Reads what [`split`] put into a key.
///
/// # Errors
/// Why the routes that came with it must be taken for withdrawn.
pub fn read(mut key: &[u8], terms: &Terms) -> Result<Read, String> {
    let external = terms.external();
    let mut attributes = Attributes {
        local_pref: DEFAULT_PREFERENCE,
        originator: u32::from(terms.router_id),
        external,
        protocol: PROTOCOL_BGP,
        ..Attributes::default()
    };
    let (mut origin, mut path, mut path4, mut aggregator) = (false, None, None, None);
    let mut discarded = 0;
    while let Some((_, code, value, rest)) = first(key) {
        key = rest;
        match code {
            ORIGIN => match value {
                [kind @ 0..=2] => (attributes.origin, origin) = (*kind, true),
                _ => return Err("a malformed ORIGIN".into()),
            },
            AS_PATH => path = Some(segments(value, terms.four_octets, external)?),
            MED => attributes.med = Some(number(value).ok_or("a malformed MULTI_EXIT_DISC")?),
            // Between carriers these three mean nothing (RFC 7606 7.5, 7.9, 7.10).
            LOCAL_PREF | ORIGINATOR_ID | CLUSTER_LIST if external => discarded += 1,
            LOCAL_PREF => attributes.local_pref = number(value).ok_or("a malformed LOCAL_PREF")?,
            ORIGINATOR_ID => attributes.originator = number(value).ok_or("a malformed ORIGINATOR_ID")?,
            CLUSTER_LIST => {
                let clusters = chunks::<4>(value).ok_or("a malformed CLUSTER_LIST")?;
                attributes.cluster_list = u8::try_from(clusters.len()).unwrap_or(u8::MAX);
            }
            ATOMIC_AGGREGATE => discarded += u64::from(!value.is_empty()),
            AGGREGATOR => match (value, terms.four_octets) {
                ([_, _, _, _, _, _, _, _], true) => {}
                ([high, low, _, _, _, _], false) => aggregator = Some(u16::from_be_bytes([*high, *low])),
                _ => discarded += 1,
            },
            COMMUNITIES => {
                attributes.communities = chunks(value)
                    .ok_or("malformed COMMUNITIES")?
                    .iter()
                    .map(|community| u32::from_be_bytes(*community))
                    .collect();
            }
            EXTENDED => attributes.extended = chunks(value).ok_or("malformed EXTENDED COMMUNITIES")?.to_vec(),
            EXTENDED6 => {
                attributes.extended6 = chunks(value)
                    .ok_or("malformed IPv6 EXTENDED COMMUNITIES")?
                    .to_vec();
            }
            LARGE => {
                attributes.large = chunks::<12>(value)
                    .ok_or("malformed LARGE_COMMUNITIES")?
                    .iter()
                    .map(|[a, b, c, d, e, f, g, h, i, j, k, l]| {
                        [[*a, *b, *c, *d], [*e, *f, *g, *h], [*i, *j, *k, *l]].map(u32::from_be_bytes)
                    })
                    .collect();
            }
            // Only a speaker of two octets has reason to send it, and a broken one is worth nothing (RFC 6793 6).
            AS4_PATH if terms.four_octets => discarded += 1,
            AS4_PATH => match segments(value, true, false) {
                Ok(found) => path4 = Some(found),
                Err(_) => discarded += 1,
            },
            _ => {}
        }
    }
    let complete = origin && path.is_some();
    let path = path.unwrap_or_default();
    attributes.as_path = match path4 {
        // Somebody on the way who knows only two octets aggregated: what AS4_PATH says is of before (RFC 6793 4.2.3).
        Some(path4) if aggregator.is_none_or(|number| number == AS_TRANS) => merge(path, path4),
        _ => path,
    };
    Ok(Read {
        attributes,
        complete,
        discarded,
    })
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// A list of at least one; an empty one is malformed too (RFC 7606 7.8, 7.10, 7.14).
fn chunks<const N: usize>(value: &[u8]) -> Option<&[[u8; N]]> {
    let (chunks, rest) = value.as_chunks::<N>();
    (rest.is_empty() && !chunks.is_empty()).then_some(chunks)
}

/// AS_PATH, without the confederation's own segments (RFC 5065), which are no part of the way outside.
fn segments(mut value: &[u8], four_octets: bool, external: bool) -> Result<Vec<Segment>, String> {
    let malformed = |why: &str| Err(format!("a malformed AS_PATH: {why}"));
    let width = if four_octets { 4 } else { 2 };
    let mut path = Vec::new();
    while !value.is_empty() {
        let [kind, count, rest @ ..] = value else {
            return malformed("a segment that is cut off");
        };
        let Some((numbers, rest)) = rest.split_at_checked(usize::from(*count) * width) else {
            return malformed("a segment that is cut off");
        };
        value = rest;
        if numbers.is_empty() {
            return malformed("an empty segment");
        }
        let numbers: Vec<u32> = numbers
            .chunks_exact(width)
            .map(|octets| {
                octets
                    .iter()
                    .fold(0, |number, octet| number << 8 | u32::from(*octet))
            })
            .collect();
        if numbers.contains(&0) {
            // RFC 7607 2.
            return malformed("AS 0");
        }
        match kind {
            1 => path.push(Segment::Set(numbers)),
            2 => path.push(Segment::Sequence(numbers)),
            3 | 4 if !external => {}
            3 | 4 => return malformed("a confederation's segment from outside"),
            _ => return malformed("a segment of a type that is not known"),
        }
    }
    // Mostly there is one, and a list begins with room for four.
    path.shrink_to_fit();
    Ok(path)
}

/// AS_PATH and AS4_PATH together: what the second has not, it has from the front of the first (RFC 6793 4.2.3).
fn merge(path: Vec<Segment>, path4: Vec<Segment>) -> Vec<Segment> {
    let length = |path: &[Segment]| -> usize {
        path.iter()
            .map(|segment| match segment {
                Segment::Sequence(numbers) => numbers.len(),
                Segment::Set(_) => 1,
            })
            .sum()
    };
    let Some(mut missing) = length(&path).checked_sub(length(&path4)) else {
        return path;
    };
    let mut merged = Vec::new();
    for segment in path {
        if missing == 0 {
            break;
        }
        match segment {
            Segment::Sequence(mut numbers) => {
                numbers.truncate(missing);
                missing -= numbers.len();
                merged.push(Segment::Sequence(numbers));
            }
            set @ Segment::Set(_) => {
                missing -= 1;
                merged.push(set);
            }
        }
    }
    for segment in path4 {
        // One sequence that two attributes carry is one sequence.
        match (merged.last_mut(), segment) {
            (Some(Segment::Sequence(front)), Segment::Sequence(numbers))
                if front.len() + numbers.len() <= 255 =>
            {
                front.extend(numbers);
            }
            (_, segment) => merged.push(segment),
        }
    }
    merged
}
