//! Damage: any octet of any header, any truncation, octets behind the end.

use super::{chance, generate::Case, octets};
use crate::{frame, random::Random};

/// Changes a frame in one to three places, and then mends the IPv4 checksum half of the time, so that what else is wrong
/// is found.
pub fn mutate(r: &mut Random, case: &mut Case) {
    let arp = case.frame.get(12..14) == Some(&[8, 6]);
    for _ in 0..1 + r.below(3) {
        let frame = &mut case.frame;
        if frame.is_empty() {
            return;
        }
        // Beyond its Ethernet header an ARP packet stays: the kernels would learn from it what forwarder learns later.
        let headers = frame.len().min(if arp { 12 } else { 94 });
        let at = match r.below(10) {
            0 => r.below(headers.min(14)),
            1..7 if !arp => 14 + r.below(headers.saturating_sub(14).max(1)),
            _ => r.below(headers),
        }
        .min(frame.len() - 1);
        let what = match r.below(100) {
            0..35 => {
                frame[at] ^= 1 << r.below(8);
                format!("bit flipped in octet {at}")
            }
            35..55 => {
                frame[at] = r.bits() as u8;
                format!("octet {at} random")
            }
            55..70 => {
                frame[at] = *r.pick(&[0, 1, 4, 5, 6, 0x0f, 0x40, 0x45, 0x7f, 0x80, 0xf0, 0xfe, 0xff]);
                format!("octet {at} odd")
            }
            70..78 => {
                frame[at] = frame[at].wrapping_add(*r.pick(&[1, 255]));
                format!("octet {at} off by one")
            }
            78..82 if !arp => lengths(r, frame),
            82..92 => {
                // In the headers, behind any octet, or just before the end.
                let end = match r.below(10) {
                    0..5 => 14 + r.below(frame.len().min(100).saturating_sub(14).max(1)),
                    5..8 => 14 + r.below(frame.len().saturating_sub(14).max(1)),
                    _ => frame.len() - r.below(frame.len().min(9)),
                };
                frame.truncate(end);
                format!("cut after {end}")
            }
            _ => {
                let extra = *r.pick(&[1, 2, 4, 5, 18, 46, 64, 300]);
                frame.extend(octets(r, extra));
                format!("{extra} octets behind it")
            }
        };
        case.story += "; ";
        case.story += &what;
    }
    let frame = &mut case.frame;
    if chance(r, 50) && frame.len() >= 34 && frame[12..14] == [8, 0] {
        frame::fix_checksum(frame);
        case.story += "; checksum mended";
    }
}

/// Sets a length field to what the frame has, or nearly.
fn lengths(r: &mut Random, frame: &mut [u8]) -> String {
    let v4 = frame.get(12..14) == Some(&[8, 0]);
    let (at, header) = if v4 { (16, 14) } else { (18, 54) };
    if frame.len() < at + 2 {
        return "nothing".into();
    }
    let whole = frame.len().saturating_sub(header) as u16;
    let by = *r.pick(&[0u16, 1, 2, 8, 20, u16::MAX, u16::MAX - 1, u16::MAX - 7]);
    let value = whole.wrapping_add(by);
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
    format!("length {value}")
}
