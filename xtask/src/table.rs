//! Route tables for the lab's carriers: generated with the shape of the real table, or read from a file.
//!
//! The generator is deterministic: the same sizes give the same prefixes on every machine. Its prefix lengths follow
//! the histogram of the full table of October 2022 (libloc-database); its addresses are in the unicast space that is
//! neither a bogon nor the lab's own, and [`place`] tells how they cluster, so that prefixes nest as they do on the
//! Internet.

mod place;
mod shape;

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use place::Random;
use shape::{LAB, LENGTHS_V4, LENGTHS_V6, RESERVED};

/// One announced prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Network address, host bits zero.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub length: u8,
    /// The AS that originates it.
    pub origin: u32,
}

/// What the carriers announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// So many prefixes from the generator.
    Generated(usize),
    /// Lines `prefix origin-as`; a name ending in `.xz` is read through `xz -dc`.
    File(PathBuf),
}

/// The IPv4 table: sorted, without duplicates.
pub fn v4(source: &Source) -> Result<Vec<Route>> {
    match source {
        Source::Generated(count) => Ok(generate(*count, LENGTHS_V4, 4, place::v4)),
        Source::File(path) => read(path, true),
    }
}

/// The IPv6 table: sorted, without duplicates.
pub fn v6(source: &Source) -> Result<Vec<Route>> {
    match source {
        Source::Generated(count) => Ok(generate(*count, LENGTHS_V6, 6, place::v6)),
        Source::File(path) => read(path, false),
    }
}

fn generate(
    count: usize,
    lengths: &[(u8, u32)],
    seed: u64,
    place: fn(&mut Random, &[Route], u8) -> IpAddr,
) -> Vec<Route> {
    let mut random = Random(seed);
    let mut seen = HashSet::with_capacity(count);
    let mut routes = Vec::with_capacity(count);
    for (length, wanted) in scale(lengths, count) {
        let mut have = 0;
        // Short prefixes can run out (there are few /8s): then the longer ones make up the number below.
        for _ in 0..wanted.saturating_mul(64) {
            if have == wanted {
                break;
            }
            let candidate = mask(place(&mut random, &routes, length), length);
            if !overlaps(RESERVED, candidate, length) && seen.insert((candidate, length)) {
                routes.push(Route {
                    address: candidate,
                    length,
                    origin: origin(&mut random),
                });
                have += 1;
            }
        }
    }
    let longest = lengths.last().map_or(24, |(length, _)| *length);
    while routes.len() < count {
        let candidate = mask(place(&mut random, &routes, longest), longest);
        if !overlaps(RESERVED, candidate, longest) && seen.insert((candidate, longest)) {
            routes.push(Route {
                address: candidate,
                length: longest,
                origin: origin(&mut random),
            });
        }
    }
    routes.sort_unstable();
    routes
}

/// About as many prefixes per AS as on the Internet, from the 16-bit public range (RFC 6996 starts at 64512).
fn origin(random: &mut Random) -> u32 {
    1_000 + random.below(62_000) as u32
}

/// The histogram scaled to `count` by largest remainder.
fn scale(lengths: &[(u8, u32)], count: usize) -> Vec<(u8, usize)> {
    let total: u64 = lengths.iter().map(|(_, n)| u64::from(*n)).sum();
    let mut scaled: Vec<(u8, usize, u64)> = lengths
        .iter()
        .map(|(length, n)| {
            let exact = u64::from(*n) * count as u64;
            (*length, (exact / total) as usize, exact % total)
        })
        .collect();
    let given: usize = scaled.iter().map(|(_, n, _)| n).sum();
    scaled.sort_by_key(|(length, _, rest)| (std::cmp::Reverse(*rest), *length));
    for (_, n, _) in scaled.iter_mut().take(count - given) {
        *n += 1;
    }
    scaled.sort_by_key(|(length, _, _)| *length);
    scaled.into_iter().map(|(length, n, _)| (length, n)).collect()
}

fn read(path: &Path, v4: bool) -> Result<Vec<Route>> {
    let shown = path.display();
    let mut child = None;
    let reader: Box<dyn BufRead> = if path.extension().is_some_and(|e| e == "xz") {
        let file = std::fs::File::open(path).with_context(|| format!("route table {shown}"))?;
        let mut xz = Command::new("xz")
            .arg("-dc")
            .stdin(file)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("route table {shown}: xz does not start; apt-get install xz-utils"))?;
        let out = xz.stdout.take().context("xz has no output")?;
        child = Some(xz);
        Box::new(BufReader::with_capacity(1 << 20, out))
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("route table {shown}"))?;
        Box::new(BufReader::with_capacity(1 << 20, file))
    };
    let mut routes = Vec::new();
    for (index, line) in reader.lines().enumerate() {
        let line = line.with_context(|| format!("route table {shown}"))?;
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let route = parse(text)
            .with_context(|| format!("{shown}:{}: want `prefix origin-as`, found {text:?}", index + 1))?;
        if route.address.is_ipv4() != v4 {
            bail!("{shown}:{}: {text:?} is of the other address family", index + 1);
        }
        if !overlaps_inside(LAB, route.address, route.length) {
            routes.push(route);
        }
    }
    if let Some(mut child) = child
        && !child.wait()?.success()
    {
        bail!("route table {shown}: xz could not read it");
    }
    routes.sort_unstable();
    routes.dedup_by_key(|route| (route.address, route.length));
    Ok(routes)
}

fn parse(text: &str) -> Option<Route> {
    let mut words = text.split_whitespace();
    let (address, length) = words.next()?.split_once('/')?;
    let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
    let origin = words
        .next()
        .map_or(Some(0), |word| word.trim_start_matches("AS").parse().ok())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if length > longest || mask(address, length) != address || words.next().is_some() {
        return None;
    }
    Some(Route {
        address,
        length,
        origin,
    })
}

/// The address with its host bits cleared.
fn mask(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let bits = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(a) & bits))
        }
        IpAddr::V6(a) => {
            let bits = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(a) & bits))
        }
    }
}

fn overlaps(set: &[(&str, u8)], address: IpAddr, length: u8) -> bool {
    networks(set).any(|(net, len)| same(net, address, len.min(length)))
}

fn overlaps_inside(set: &[(&str, u8)], address: IpAddr, length: u8) -> bool {
    networks(set).any(|(net, len)| len <= length && same(net, address, len))
}

fn networks(set: &[(&str, u8)]) -> impl Iterator<Item = (IpAddr, u8)> {
    set.iter()
        .filter_map(|(net, len)| Some((net.parse().ok()?, *len)))
}

fn same(a: IpAddr, b: IpAddr, length: u8) -> bool {
    a.is_ipv4() == b.is_ipv4() && mask(a, length) == mask(b, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_table_has_its_size_and_shape_and_is_the_same_every_time() {
        let routes = v4(&Source::Generated(20_000)).unwrap();
        assert_eq!(routes.len(), 20_000);
        assert_eq!(routes, v4(&Source::Generated(20_000)).unwrap());
        let longest = routes.iter().filter(|r| r.length == 24).count();
        assert!((12_000..12_300).contains(&longest), "{longest} of 20,000 are /24");
        let six = v6(&Source::Generated(5_000)).unwrap();
        assert_eq!(six.len(), 5_000);
        let longest = six.iter().filter(|r| r.length == 48).count();
        assert!((2_400..2_420).contains(&longest), "{longest} of 5,000 are /48");
    }

    /// The blocks of 256 leaves that the forwarder's IPv6 table (24-8-8-8) needs for these prefixes.
    fn blocks(routes: &[Route]) -> usize {
        let levels = [24, 32, 40].map(|level| {
            let longer = routes.iter().filter(|route| route.length > level);
            let blocks: HashSet<IpAddr> = longer.map(|route| mask(route.address, level)).collect();
            blocks.len()
        });
        levels.iter().sum()
    }

    #[test]
    fn ipv6_prefixes_cluster_as_the_internets_do() {
        let real = 39_308;
        let default = blocks(&v6(&Source::Generated(177_846)).unwrap());
        assert!(
            default.abs_diff(real) < real / 10,
            "{default} blocks, the real table {real}"
        );
        let small = v6(&Source::Generated(20_000)).unwrap();
        assert_eq!(small, v6(&Source::Generated(20_000)).unwrap());
        // Each /48 in a /32 of its own would be 20,000 and more.
        let small = blocks(&small);
        assert!(
            (4_000..10_000).contains(&small),
            "{small} blocks for 20,000 prefixes"
        );
    }

    #[test]
    fn a_handful_of_prefixes_is_a_table_too() {
        for count in 0..40 {
            assert_eq!(v6(&Source::Generated(count)).unwrap().len(), count);
        }
    }

    #[test]
    fn nothing_generated_touches_reserved_space() {
        for route in v4(&Source::Generated(20_000)).unwrap() {
            assert!(!overlaps(RESERVED, route.address, route.length), "{route:?}");
        }
    }

    #[test]
    fn reserved_networks_are_all_well_formed() {
        assert_eq!(networks(RESERVED).count(), RESERVED.len());
        assert_eq!(networks(LAB).count(), LAB.len());
    }

    #[test]
    fn lines_with_host_bits_or_rubbish_are_refused() {
        assert!(parse("1.0.0.0/24 13335").is_some());
        assert!(parse("2001:200::/32 AS2500").is_some());
        for bad in [
            "1.0.0.1/24 1",
            "1.0.0.0/33 1",
            "1.0.0.0 1",
            "1.0.0.0/24 x",
            "1.0.0.0/24 1 2",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
