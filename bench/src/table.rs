//! The tables that all candidates hold, and where each prefix leads.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use forwarder::source::mrt;
use ipnet::IpNet;
use serde::Serialize;
use xtask::bench::Tables;
use xtask::table::Route;

use crate::random::{Random, mix};

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The 4 or 6 that stands in names.
    pub const fn number(self) -> u8 {
        match self {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }

    /// The bits that its addresses have.
    pub const fn bits(self) -> u128 {
        match self {
            Family::V4 => mask(32),
            Family::V6 => u128::MAX,
        }
    }

    /// Its name in rows and options.
    pub const fn name(self) -> &'static str {
        match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
        }
    }

    /// An address of this family from its bits, which are the top ones of the word.
    pub fn address(self, bits: u128) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::from((bits >> 96) as u32).into(),
            Family::V6 => Ipv6Addr::from(bits).into(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv{}", self.number())
    }
}

/// The bits of an address, at the top of the word, so that both families are one type.
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => (u32::from(address) as u128) << 96,
        IpAddr::V6(address) => address.into(),
    }
}

/// The mask of a prefix length.
pub const fn mask(length: u8) -> u128 {
    match length {
        0 => 0,
        length => u128::MAX << (128 - length as u32),
    }
}

/// A prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Its bits, see [`bits`].
    pub network: u128,
    /// Length in bits.
    pub length: u8,
}

/// Gateways over which a table is spread.
pub const GATEWAYS: usize = 8;

impl Prefix {
    /// A hash of it.
    pub const fn hash(&self) -> u64 {
        let word = (self.network >> 64) as u64 ^ self.network as u64;
        mix(word ^ self.length as u64)
    }

    /// Its last address.
    pub const fn last(&self, family: Family) -> u128 {
        self.network | !mask(self.length) & family.bits()
    }

    /// Any address in it.
    pub fn inside(&self, family: Family, random: &mut Random) -> u128 {
        self.network | random.wide() & !mask(self.length) & family.bits()
    }

    /// The gateway it leads to: a hash, so that neighbours in the table lead to different ones and a lookup that finds
    /// the wrong prefix is found out.
    pub const fn gateway(&self) -> usize {
        (self.hash() >> 32) as usize % GATEWAYS
    }
}

/// The prefixes of a table dump, IPv4 first, sorted; each comes from the AS that its first path names.
fn of_dump(dump: impl Iterator<Item = Result<mrt::Entry, mrt::Error>>) -> Result<[Vec<Route>; 2]> {
    let mut tables = [Vec::new(), Vec::new()];
    for entry in dump {
        let entry = entry?;
        let prefix = entry.prefix.trunc();
        let first = entry.paths.first();
        tables[usize::from(prefix.addr().is_ipv6())].push(Route {
            address: prefix.addr(),
            length: prefix.prefix_len(),
            origin: first.and_then(|path| path.attributes.origin_as()).unwrap_or(0),
        });
    }
    for table in &mut tables {
        table.sort_unstable();
        table.dedup_by_key(|route| (route.address, route.length));
        ensure!(!table.is_empty(), "the dump has no routes of one family");
    }
    Ok(tables)
}

/// A table.
pub struct Table {
    /// Its family.
    pub family: Family,
    /// The prefixes, sorted.
    pub prefixes: Vec<Prefix>,
    /// The AS that each comes from.
    pub origins: Vec<u32>,
}

impl Table {
    /// Both tables, IPv4 first.
    ///
    /// # Errors
    /// A file that cannot be read, or has a line that is no route.
    pub fn both(options: &Tables) -> Result<[Table; 2]> {
        let [v4, v6] = match &options.mrt {
            Some(file) => {
                let said = || format!("route table {}", file.display());
                of_dump(mrt::open(file).with_context(said)?).with_context(said)?
            }
            None => [options.v4()?, options.v6()?],
        };
        Ok([Table::new(Family::V4, &v4), Table::new(Family::V6, &v6)])
    }

    /// A prefix of it in the controller's terms.
    ///
    /// # Errors
    /// A length beyond the family's.
    pub fn net(&self, prefix: &Prefix) -> Result<IpNet> {
        Ok(IpNet::new(self.family.address(prefix.network), prefix.length)?)
    }

    fn new(family: Family, routes: &[Route]) -> Table {
        let prefixes = routes.iter().map(|route| Prefix {
            network: bits(route.address),
            length: route.length,
        });
        Table {
            family,
            prefixes: prefixes.collect(),
            origins: routes.iter().map(|route| route.origin).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An MRT record (RFC 6396 2) of TABLE_DUMP_V2.
    fn record(subtype: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32).to_be_bytes();
        [&[0, 0, 0, 0, 0, 13, 0, subtype], length.as_slice(), body].concat()
    }

    /// An entry by the only peer: ORIGIN, AS_PATH of one AS.
    fn entry(subtype: u8, prefix: &[u8], origin: u8) -> Vec<u8> {
        let attributes = [
            &[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0, origin],
            &[0x40, 3, 4, 192, 0, 2, 1][..],
        ]
        .concat();
        let head = [0, 0, 0, 0];
        let count = [0, 1, 0, 0, 0, 0, 0, 0, 0, attributes.len() as u8];
        record(subtype, &[&head, prefix, &count, &attributes].concat())
    }

    #[test]
    fn a_table_dump_gives_both_tables_sorted() {
        let peers = record(
            1,
            &[1, 1, 1, 1, 0, 0, 0, 1, 2, 9, 9, 9, 9, 192, 0, 2, 1, 0, 0, 0, 65],
        );
        let file = [
            peers.clone(),
            entry(2, &[16, 198, 51], 7),
            entry(2, &[8, 5], 8),
            entry(4, &[32, 0x20, 1, 0x0d, 0xb8], 9),
        ];
        let [v4, v6] = of_dump(mrt::Dump::new(&file.concat()[..])).unwrap();
        let told = |table: &[Route]| -> Vec<String> {
            let each = table.iter();
            each.map(|r| format!("{}/{} {}", r.address, r.length, r.origin))
                .collect()
        };
        assert_eq!(told(&v4), ["5.0.0.0/8 8", "198.51.0.0/16 7"]);
        assert_eq!(told(&v6), ["2001:db8::/32 9"]);
        let short = [peers, entry(2, &[8, 5], 8)].concat();
        assert!(of_dump(mrt::Dump::new(&short[..])).is_err(), "no IPv6");
        assert!(
            of_dump(mrt::Dump::new(&short[..short.len() - 3])).is_err(),
            "cut short"
        );
    }
}
