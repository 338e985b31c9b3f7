//! Lists of prefixes (RFC 4271 4.3, RFC 4760 5, RFC 7911 3). Read here and not by a library, because each goes straight
//! into the event that carries it: a full table is a million of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::source::feed::FeedTable;

/// Reads a list of IPv4 or IPv6 prefixes, each with its path identifier; 0 where the session has none. Bits beyond the
/// length are cleared (RFC 4271 4.3: their value is irrelevant). Multicast prefixes are left out and counted in the answer
/// (RFC 4271 6.3: ignored).
///
/// # Errors
/// In words, when the list cannot be told apart: a length that no address has, or one that runs past the end.
pub fn prefixes(
    mut list: &[u8],
    table: FeedTable,
    add_path: bool,
    mut each: impl FnMut(IpNet, u32),
) -> Result<u64, String> {
    let longest: u8 = if table == FeedTable::Ipv4 { 32 } else { 128 };
    let mut ignored = 0;
    while !list.is_empty() {
        let mut path_id = 0;
        if add_path {
            let Some((id, rest)) = list.split_first_chunk::<4>() else {
                return Err("a path identifier that is cut off".into());
            };
            path_id = u32::from_be_bytes(*id);
            list = rest;
        }
        let Some((length, rest)) = list.split_first() else {
            return Err("a prefix that is cut off".into());
        };
        if *length > longest {
            return Err(format!("a prefix of {length} bits"));
        }
        let octets = usize::from(length.div_ceil(8));
        let Some((address, rest)) = rest.split_at_checked(octets) else {
            return Err("a prefix that is cut off".into());
        };
        list = rest;
        match prefix(address, *length, table) {
            Some(prefix) => each(prefix, path_id),
            None => ignored += 1,
        }
    }
    Ok(ignored)
}

/// The prefix of these leading octets; `None` for a multicast one.
fn prefix(octets: &[u8], length: u8, table: FeedTable) -> Option<IpNet> {
    if table == FeedTable::Ipv4 {
        let mut address = [0; 4];
        address.get_mut(..octets.len())?.copy_from_slice(octets);
        let address = Ipv4Addr::from(address);
        if address.is_multicast() && length >= 4 {
            return None;
        }
        Some(IpNet::V4(Ipv4Net::new(address, length).ok()?.trunc()))
    } else {
        let mut address = [0; 16];
        address.get_mut(..octets.len())?.copy_from_slice(octets);
        let address = Ipv6Addr::from(address);
        if address.is_multicast() && length >= 8 {
            return None;
        }
        Some(IpNet::V6(Ipv6Net::new(address, length).ok()?.trunc()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[u8], table: FeedTable, add_path: bool) -> Result<(Vec<(String, u32)>, u64), String> {
        let mut found = Vec::new();
        let ignored = prefixes(list, table, add_path, |prefix, id| {
            found.push((prefix.to_string(), id))
        })?;
        Ok((found, ignored))
    }

    #[test]
    fn prefixes_come_with_their_bits_cleared_and_their_path() {
        let list = [0, 8, 10, 20, 192, 0, 0xff, 32, 192, 0, 2, 1];
        let (found, _) = read(&list, FeedTable::Ipv4, false).unwrap();
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["0.0.0.0/0", "10.0.0.0/8", "192.0.240.0/20", "192.0.2.1/32"]
        );
        let list = [0, 0, 0, 7, 32, 0x20, 1, 0x0d, 0xb8];
        let (found, _) = read(&list, FeedTable::Ipv6, true).unwrap();
        assert_eq!(found, [("2001:db8::/32".to_string(), 7)]);
    }

    #[test]
    fn multicast_is_left_out_and_what_covers_it_is_not() {
        let (found, ignored) = read(&[4, 224, 8, 239, 3, 224, 8, 240], FeedTable::Ipv4, false).unwrap();
        assert_eq!((found.len(), ignored), (2, 2));
        let (found, ignored) = read(&[8, 0xff, 16, 0xff, 2, 7, 0xfe], FeedTable::Ipv6, false).unwrap();
        assert_eq!((found.len(), ignored), (1, 2));
    }

    #[test]
    fn a_list_that_cannot_be_told_apart_is_refused() {
        for (list, add_path) in [
            (&[33, 1, 2, 3, 4, 5][..], false),
            (&[24, 1, 2], false),
            (&[0, 0, 0], true),
            (&[0, 0, 0, 1], true),
            (&[0, 0, 0, 1, 24, 1], true),
        ] {
            assert!(read(list, FeedTable::Ipv4, add_path).is_err(), "{list:?}");
        }
        assert!(read(&[129], FeedTable::Ipv6, false).is_err());
    }
}
