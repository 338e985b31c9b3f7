//! The two framings of netlink, without copies: messages in a datagram (`nlmsghdr`) and attributes in a message
//! (`nlattr`). Host byte order, four-octet alignment (include/uapi/linux/netlink.h).
//!
//! Every length is checked before it is used; the iterators end after the first error.

use std::net::IpAddr;

use super::Malformed;
use super::constants::NLA_TYPE_MASK;

const MESSAGE_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub body: &'a [u8],
}

/// The messages of a datagram.
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let length = match u32_at(bytes, 0) {
            Ok(length) => length as usize,
            Err(error) => return Some(Err(error)),
        };
        if length < MESSAGE_HEADER || length > bytes.len() {
            return Some(Err(Malformed("nlmsg_len")));
        }
        self.0 = bytes.get(aligned(length)..).unwrap_or_default();
        Some(message(&bytes[..length]))
    }
}

fn message(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    Ok(Message {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        sequence: u32_at(bytes, 8)?,
        body: bytes.get(MESSAGE_HEADER..).unwrap_or_default(),
    })
}

/// The attributes of a message, or of a nested attribute, as (type without flags, value).
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those behind a fixed header of `header` octets.
    pub fn behind(body: &'a [u8], header: usize) -> Result<Self, Malformed> {
        body.get(header..)
            .map(Self)
            .ok_or(Malformed("message shorter than its header"))
    }

    /// Those of a nested attribute's value.
    pub fn nested(value: &'a [u8]) -> Self {
        Self(value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let &[l0, l1, t0, t1, ..] = bytes else {
            return Some(Err(Malformed("nlattr header")));
        };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        if length < ATTRIBUTE_HEADER || length > bytes.len() {
            return Some(Err(Malformed("nla_len")));
        }
        self.0 = bytes.get(aligned(length)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([t0, t1]) & NLA_TYPE_MASK;
        Some(Ok((kind, &bytes[ATTRIBUTE_HEADER..length])))
    }
}

/// Rounded up to the alignment of netlink.
pub const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

/// An octet of a fixed header.
#[inline]
pub fn u8_at(bytes: &[u8], offset: usize) -> Result<u8, Malformed> {
    bytes.get(offset).copied().ok_or(Malformed("u8 beyond the end"))
}

/// A host-order u16 of a fixed header or value.
#[inline]
pub fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, Malformed> {
    let value = bytes.get(offset..).and_then(<[u8]>::first_chunk);
    value
        .map(|v| u16::from_ne_bytes(*v))
        .ok_or(Malformed("u16 beyond the end"))
}

/// A host-order u32 of a fixed header or value.
#[inline]
pub fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, Malformed> {
    let value = bytes.get(offset..).and_then(<[u8]>::first_chunk);
    value
        .map(|v| u32::from_ne_bytes(*v))
        .ok_or(Malformed("u32 beyond the end"))
}

/// A host-order u64 of a value.
pub fn u64_at(bytes: &[u8], offset: usize) -> Result<u64, Malformed> {
    let value = bytes.get(offset..).and_then(<[u8]>::first_chunk);
    value
        .map(|v| u64::from_ne_bytes(*v))
        .ok_or(Malformed("u64 beyond the end"))
}

/// An address of either family, told by its length.
#[inline]
pub fn address(value: &[u8]) -> Result<IpAddr, Malformed> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Ok(IpAddr::from(v4));
    }
    let v6 = <[u8; 16]>::try_from(value).map_err(|_| Malformed("address of neither 4 nor 16 octets"))?;
    Ok(IpAddr::from(v6))
}

/// A zero-terminated string.
pub fn string(value: &[u8]) -> String {
    let end = value.iter().position(|&octet| octet == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_lie_end_the_iteration_with_an_error() {
        for bytes in [
            &[3, 0, 1, 0][..],
            &[8, 0, 1, 0, 9],
            &[4],
            &[0, 0, 0, 0, 4, 0, 1, 0],
        ] {
            let seen: Vec<_> = Attributes::nested(bytes).collect();
            assert_eq!(seen.len(), 1, "{bytes:?}");
            assert!(seen[0].is_err(), "{bytes:?}");
        }
        for bytes in [
            &[15, 0, 0, 0][..],
            &[40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1],
        ] {
            let seen: Vec<_> = Messages(bytes).collect();
            assert_eq!(seen.len(), 1, "{bytes:?}");
            assert!(seen[0].is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn attributes_are_aligned_and_lose_their_flags() {
        let bytes = [5, 0, 1, 0x80, 7, 0, 0, 0, 6, 0, 2, 0x40, 8, 9];
        let seen: Vec<_> = Attributes::nested(&bytes).map(Result::unwrap).collect();
        assert_eq!(seen, [(1, &[7][..]), (2, &[8, 9])]);
    }
}
