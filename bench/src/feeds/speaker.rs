//! A BGP speaker that says whatever it is told to: it fills the daemons, and makes the churn.
//!
//! One internal session for both families, without hold time, so that nothing needs to be said while nothing changes. A
//! route carries what one of the Internet's does: four ASes and two communities that depend on its origin, and one of the
//! router's gateways.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};

use crate::random::mix;
use crate::table::{Family, Prefix, Table};

/// The AS of both sides.
pub const AS: u16 = 64_500;
/// The carrier that every path begins with.
const CARRIER: u32 = 64_600;
/// Longest message (RFC 4271 4.1).
const LONGEST: usize = 4096;
/// Octets that are written at once.
const WRITE: usize = 256 << 10;

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;

/// The session.
pub struct Speaker {
    stream: TcpStream,
    out: Vec<u8>,
}

impl Speaker {
    /// Calls a daemon and agrees with it on IPv4 and IPv6 unicast.
    ///
    /// # Errors
    /// It does not want us.
    pub fn call(to: SocketAddr) -> Result<Speaker> {
        let stream = TcpStream::connect(to).with_context(|| format!("cannot call {to} by BGP"))?;
        greet(stream, [10, 64, 1, 2])
            .map(|stream| Speaker {
                stream,
                out: Vec::with_capacity(WRITE + LONGEST),
            })
            .with_context(|| format!("BGP with {to}"))
    }

    /// The whole table, routes of the same attributes in one message, and its end. `gateways` are the family's, `of` says
    /// which of them a prefix has; it is left out where it has none.
    ///
    /// # Errors
    /// The session is lost.
    pub fn table(
        &mut self,
        table: &Table,
        gateways: &[IpAddr],
        of: impl Fn(usize) -> Option<usize>,
    ) -> Result<()> {
        let routes = table.prefixes.iter().zip(&table.origins).enumerate();
        let mut routes: Vec<(u32, usize, &Prefix)> = routes
            .filter_map(|(at, (prefix, origin))| Some((*origin, of(at)?, prefix)))
            .collect();
        routes.sort_by_key(|(origin, gateway, _)| (*origin, *gateway));
        for alike in routes.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            // As many as surely fit: the attributes take less than 128 octets, a prefix at most 17.
            for some in alike.chunks((LONGEST - 128) / 17) {
                let prefixes: Vec<&Prefix> = some.iter().map(|(.., prefix)| *prefix).collect();
                self.announce(table.family, &prefixes, gateways[some[0].1], some[0].0)?;
            }
        }
        match table.family {
            Family::V4 => self.message(UPDATE, &[0; 4])?,
            Family::V6 => self.message(UPDATE, &[0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1])?,
        }
        self.flush()
    }

    /// Prefixes of one origin by one gateway.
    ///
    /// # Errors
    /// The session is lost.
    pub fn announce(
        &mut self,
        family: Family,
        prefixes: &[&Prefix],
        gateway: IpAddr,
        origin: u32,
    ) -> Result<()> {
        let mut nlri = Vec::with_capacity(prefixes.len() * 17);
        prefixes.iter().for_each(|prefix| write(&mut nlri, prefix));
        let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 18, 2, 4];
        for hop in path(origin) {
            attributes.extend(hop.to_be_bytes());
        }
        if let IpAddr::V4(gateway) = gateway {
            attributes.extend([0x40, 3, 4]);
            attributes.extend(gateway.octets());
        }
        attributes.extend([0x40, 5, 4, 0, 0, 0, 100, 0xc0, 8, 8]);
        attributes.extend((CARRIER << 16 | 1_000).to_be_bytes());
        attributes.extend((CARRIER << 16 | (100 + origin % 16)).to_be_bytes());
        if let (Family::V6, IpAddr::V6(gateway)) = (family, gateway) {
            attributes.extend([0x90, 14]);
            attributes.extend((21 + nlri.len() as u16).to_be_bytes());
            attributes.extend([0, 2, 1, 16]);
            attributes.extend(gateway.octets());
            attributes.push(0);
            attributes.append(&mut nlri);
        }
        let mut body = vec![0, 0];
        body.extend((attributes.len() as u16).to_be_bytes());
        body.append(&mut attributes);
        body.append(&mut nlri);
        self.message(UPDATE, &body)
    }

    /// A prefix goes.
    ///
    /// # Errors
    /// The session is lost.
    pub fn withdraw(&mut self, family: Family, prefix: &Prefix) -> Result<()> {
        let mut nlri = Vec::new();
        write(&mut nlri, prefix);
        let length = nlri.len() as u8;
        let body = match family {
            Family::V4 => [&[0, length], nlri.as_slice(), &[0, 0]].concat(),
            Family::V6 => {
                let unreach = [&[0x80, 15, 3 + length, 0, 2, 1], nlri.as_slice()].concat();
                [&[0, 0, 0, unreach.len() as u8], unreach.as_slice()].concat()
            }
        };
        self.message(UPDATE, &body)
    }

    fn message(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        message(&mut self.out, kind, body);
        if self.out.len() >= WRITE {
            self.flush()?;
        }
        Ok(())
    }

    /// Everything said so far is with the kernel.
    ///
    /// # Errors
    /// The session is lost.
    pub fn flush(&mut self) -> Result<()> {
        self.stream
            .write_all(&self.out)
            .context("the BGP session is lost")?;
        self.out.clear();
        Ok(())
    }
}

/// Exchanges OPEN and KEEPALIVE on a new connection.
///
/// # Errors
/// The other side says something else.
pub fn greet(mut stream: TcpStream, id: [u8; 4]) -> Result<TcpStream> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
    capabilities.extend(u32::from(AS).to_be_bytes());
    let mut body = vec![4];
    body.extend(AS.to_be_bytes());
    // No hold time.
    body.extend([0, 0]);
    body.extend(id);
    body.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
    body.append(&mut capabilities);
    let mut out = Vec::new();
    message(&mut out, OPEN, &body);
    message(&mut out, KEEPALIVE, &[]);
    stream.write_all(&out)?;
    for wanted in [OPEN, KEEPALIVE] {
        let mut header = [0; 19];
        stream.read_exact(&mut header).context("no answer")?;
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut body = vec![0; length.saturating_sub(19)];
        stream.read_exact(&mut body)?;
        match header[18] {
            kind if kind == wanted => {}
            NOTIFICATION => bail!("refused: NOTIFICATION {:?}", body.get(..2)),
            other => bail!("message {other} in the place of {wanted}"),
        }
    }
    Ok(stream)
}

fn message(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.extend([0xff; 16]);
    out.extend((19 + body.len() as u16).to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
}

fn path(origin: u32) -> [u32; 4] {
    let hash = mix(origin.into());
    [
        CARRIER,
        3_000 + hash as u32 % 12,
        5_000 + (hash >> 32) as u32 % 4_000,
        origin,
    ]
}

fn write(out: &mut Vec<u8>, prefix: &Prefix) {
    out.push(prefix.length);
    out.extend_from_slice(&prefix.network.to_be_bytes()[..usize::from(prefix.length.div_ceil(8))]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_written_with_as_many_octets_as_it_has_bits_for() {
        let mut out = Vec::new();
        let prefix = |network: u128, length| Prefix { network, length };
        write(&mut out, &prefix(0xcb00_7100 << 96, 25));
        write(&mut out, &prefix(0, 0));
        write(&mut out, &prefix(0x2001_0db8 << 96, 32));
        assert_eq!(out, [25, 203, 0, 113, 0, 0, 32, 0x20, 1, 0x0d, 0xb8]);
    }
}
