//! What a frame looks like that was sent on: the same packet one hop further, with the addresses and tags of a next hop, and nothing else.

use anyhow::{Context, Result, ensure};
use forwarder::stats::path::Paths;
use forwarder_common::{
    nexthop::{EXACT_LENGTH, INNER_SERVICE, NextHop, OUTER_SERVICE},
    reason::Reason,
};
use forwarder_tests::frame::{checksum_holds, fix_checksum};

use super::{
    frames::destination,
    world::{DSCP, World},
};

const CUSTOMER: [u8; 2] = [0x81, 0];
const SERVICE: [u8; 2] = [0x88, 0xa8];
/// Ethernet's addresses.
const ADDRESSES: usize = 12;
/// Below this Ethernet pads.
const PADDED: usize = 60;

/// Priority bits of the tags of a frame, and where its EtherType stands.
fn opened(frame: &[u8]) -> Option<(Vec<u16>, usize)> {
    let mut priorities = Vec::new();
    let mut at = ADDRESSES;
    while priorities.len() < 2 && (frame.get(at..at + 2)? == CUSTOMER || frame[at..at + 2] == SERVICE) {
        let tci = u16::from_be_bytes(frame.get(at + 2..at + 4)?.try_into().ok()?);
        priorities.push(tci & 0xf000);
        at += 4;
    }
    frame.get(at..at + 2)?;
    Some((priorities, at))
}

/// The tags that a next hop gives a frame with these priorities.
fn tags_of(hop: &NextHop, priorities: &[u16]) -> Vec<u8> {
    let kind = |service: u16| {
        if hop.flags & service != 0 {
            SERVICE
        } else {
            CUSTOMER
        }
    };
    let (outer, inner) = match priorities {
        [] => (0, 0),
        [one] => (*one, *one),
        [outer, inner, ..] => (*outer, *inner),
    };
    let mut octets = Vec::new();
    if hop.tags() > 0 {
        octets.extend(kind(OUTER_SERVICE));
        octets.extend((hop.outer() & 0xfff | outer).to_be_bytes());
    }
    if hop.tags() > 4 {
        octets.extend(kind(INNER_SERVICE));
        octets.extend((hop.inner & 0xfff | inner).to_be_bytes());
    }
    octets
}

/// The packet of a frame one hop further, as it must be, with or without a mark.
fn further(frame: &[u8], at: usize, hop: &NextHop, marked: bool) -> Result<Vec<u8>> {
    let v4 = frame[at..at + 2] == [8, 0];
    let mut packet = frame[at + 2..].to_vec();
    let (header, limit) = if v4 { (20, 8) } else { (40, 7) };
    ensure!(packet.len() >= header, "without an IP header");
    ensure!(packet[limit] > 1, "with a hop limit of {}", packet[limit]);
    packet[limit] -= 1;
    let says = if v4 { 2 } else { 4 };
    let said = usize::from(u16::from_be_bytes([packet[says], packet[says + 1]]));
    let length = if v4 { said } else { 40 + said };
    ensure!(
        (header..=packet.len()).contains(&length),
        "of {length} octets, and there are {}",
        packet.len()
    );
    // As a frame without tags.
    let (whole, wanted) = (14 + packet.len(), 14 + length);
    if hop.flags & EXACT_LENGTH != 0 || wanted >= PADDED {
        packet.truncate(length);
    } else {
        ensure!(
            whole <= PADDED || whole == wanted,
            "with {} octets behind it",
            whole - wanted
        );
    }
    if marked && v4 {
        packet[1] = packet[1] & 3 | DSCP << 2;
    } else if marked {
        let word = u16::from_be_bytes([packet[0], packet[1]]) & 0xf03f | u16::from(DSCP) << 6;
        packet[..2].copy_from_slice(&word.to_be_bytes());
    }
    if v4 {
        ensure!(packet[0] == 0x45, "with options");
        let mut framed = [&[0; 14][..], &packet].concat();
        framed[12] = 8;
        fix_checksum(&mut framed);
        packet = framed.split_off(14);
    }
    Ok(packet)
}

/// The next hops whose frame that is, of those the destination leads to.
///
/// # Errors
/// It is none's.
pub fn hop_of(world: &World, came: &[u8], left: &[u8]) -> Result<Vec<u32>> {
    let (priorities, at) = opened(came).context("sent, and it has no EtherType")?;
    let v4 = match came[at..at + 2] {
        [8, 0] => true,
        [0x86, 0xdd] => false,
        _ => anyhow::bail!("sent, and it is not IP"),
    };
    let to = destination(&came[at + 2..], v4).context("sent, and it has no destination")?;
    let tables = world.sandbox.engine.view();
    let hops = Paths::new(tables).decide(to).hops;
    let mut why = format!("no next hop of {to}");
    let mut found = Vec::new();
    for member in hops.iter() {
        let hop = tables.nexthops.get(member.id as usize);
        if hop.state() != Reason::Forwarded.index() {
            continue;
        }
        let mut addresses = [hop.destination_mac(), hop.source_mac()].concat();
        addresses.extend(tags_of(&hop, &priorities));
        addresses.extend(&came[at..at + 2]);
        for marked in [false, true] {
            match further(came, at, &hop, marked) {
                Ok(packet) if left == [&addresses[..], &packet].concat() => {
                    if !found.contains(&member.id) {
                        found.push(member.id);
                    }
                }
                Ok(_) => {}
                Err(because) => why = format!("{because:#}"),
            }
        }
    }
    ensure!(
        !found.is_empty(),
        "sent wrongly, {why}: {left:02x?}\nfor {came:02x?}"
    );
    Ok(found)
}

/// Whether a frame that was not sent is as it came, but for a mark where rules may give one.
pub fn is_untouched(came: &[u8], left: &[u8]) -> bool {
    if came == left {
        return true;
    }
    let Some((_, at)) = opened(came) else { return false };
    let mut wanted = came.to_vec();
    let ip = at + 2;
    match came[at..at + 2] {
        [8, 0] if came.len() >= ip + 20 && left.len() == came.len() => {
            wanted[ip + 1] = wanted[ip + 1] & 3 | DSCP << 2;
            // What was wrong before may be wrong in another way.
            let without_tags = |frame: &[u8]| [&frame[..ADDRESSES], &frame[at..]].concat();
            let is_right = |frame: &[u8]| checksum_holds(&without_tags(frame));
            if came[ip] & 15 >= 5
                && came.len() >= ip + usize::from(came[ip] & 15) * 4
                && is_right(came)
                && !is_right(left)
            {
                return false;
            }
            wanted[ip + 10..ip + 12].copy_from_slice(&left[ip + 10..ip + 12]);
        }
        [0x86, 0xdd] if came.len() >= ip + 40 => {
            let word = u16::from_be_bytes([came[ip], came[ip + 1]]) & 0xf03f | u16::from(DSCP) << 6;
            wanted[ip..ip + 2].copy_from_slice(&word.to_be_bytes());
        }
        _ => return false,
    }
    wanted == left
}
