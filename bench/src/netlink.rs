//! A full table into the kernel's FIB, as a daemon would put it there, many routes to a datagram.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail};

use crate::table::{Family, Prefix, Table};

/// Messages in a datagram: a few pages, well below the send buffer.
const BATCH: usize = 1000;
/// `nlmsghdr` and `rtmsg`.
const HEADERS: usize = 16 + 12;

const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RT_TABLE_MAIN: u8 = 254;
/// The routes are what BIRD would have made.
const RTPROT_BIRD: u8 = 12;
const RTN_UNICAST: u8 = 1;

/// Where a route leads.
#[derive(Clone, Copy, Debug)]
pub struct Via {
    /// The neighbour.
    pub address: IpAddr,
    /// The interface it is on.
    pub ifindex: u32,
}

/// Adds the prefixes of a table, each by the gateway that `via` names, or not where it names none. A metric of 0 is the
/// family's own. `progress` hears how far it is after each datagram.
///
/// # Errors
/// The kernel refuses one, or whatever `progress` answers.
pub fn install(
    table: &Table,
    metric: u32,
    via: impl Fn(&Prefix) -> Option<Via>,
    mut progress: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    let socket = open()?;
    let mut datagram = Vec::with_capacity(BATCH * (HEADERS + 48));
    let mut done = 0;
    for batch in table.prefixes.chunks(BATCH) {
        datagram.clear();
        let routes = batch.iter().filter_map(|prefix| Some((prefix, via(prefix)?)));
        let routes: Vec<(&Prefix, Via)> = routes.collect();
        for (at, (prefix, via)) in routes.iter().enumerate() {
            // Only the last is acknowledged; a route that is refused is told in any case.
            let last = at + 1 == routes.len();
            let flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | if last { NLM_F_ACK } else { 0 };
            let start = datagram.len();
            datagram.extend_from_slice(&[0; 4]);
            datagram.extend_from_slice(&RTM_NEWROUTE.to_ne_bytes());
            datagram.extend_from_slice(&flags.to_ne_bytes());
            datagram.extend_from_slice(&(at as u32).to_ne_bytes());
            datagram.extend_from_slice(&[0; 4]);
            let family = match table.family {
                Family::V4 => libc::AF_INET,
                Family::V6 => libc::AF_INET6,
            };
            // family, dst_len, src_len, tos, table, protocol, scope (universe), type, flags
            datagram.extend_from_slice(&[family as u8, prefix.length, 0, 0]);
            datagram.extend_from_slice(&[RT_TABLE_MAIN, RTPROT_BIRD, 0, RTN_UNICAST, 0, 0, 0, 0]);
            address(&mut datagram, RTA_DST, table.family.address(prefix.network));
            address(&mut datagram, RTA_GATEWAY, via.address);
            attribute(&mut datagram, RTA_OIF, &via.ifindex.to_ne_bytes());
            if metric != 0 {
                attribute(&mut datagram, RTA_PRIORITY, &metric.to_ne_bytes());
            }
            let length = (datagram.len() - start) as u32;
            datagram[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        }
        if !routes.is_empty() {
            send(&socket, &datagram)?;
            confirmed(&socket, routes.len() as u32 - 1)?;
        }
        done += batch.len();
        progress(done)?;
    }
    Ok(())
}

fn open() -> Result<OwnedFd> {
    // SAFETY: three numbers; the result is checked.
    let fd = unsafe {
        libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_ROUTE,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("cannot open a netlink socket");
    }
    // SAFETY: a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn send(socket: &OwnedFd, datagram: &[u8]) -> Result<()> {
    // SAFETY: the buffer and its length.
    let sent = unsafe { libc::send(socket.as_raw_fd(), datagram.as_ptr().cast(), datagram.len(), 0) };
    if sent != datagram.len() as isize {
        return Err(io::Error::last_os_error()).context("cannot send routes to the kernel");
    }
    Ok(())
}

/// Reads until the message of this number is confirmed.
fn confirmed(socket: &OwnedFd, last: u32) -> Result<()> {
    let mut buffer = [0u8; 65_536];
    loop {
        // SAFETY: the buffer and its length.
        let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if length < 0 {
            let why = io::Error::last_os_error();
            if why.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(why).context("the kernel does not answer");
        }
        let mut rest = &buffer[..length as usize];
        while let Some((header, _)) = rest.split_at_checked(20) {
            let word =
                |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let (length, kind, sequence) = (word(0) as usize, word(4) as u16, word(8));
            if kind == NLMSG_ERROR {
                let errno = (word(16) as i32).wrapping_neg();
                if errno != 0 {
                    bail!(
                        "the kernel refuses a route of the table: {}",
                        io::Error::from_raw_os_error(errno)
                    );
                }
                if sequence == last {
                    return Ok(());
                }
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn address(out: &mut Vec<u8>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => attribute(out, kind, &address.octets()),
        IpAddr::V6(address) => attribute(out, kind, &address.octets()),
    }
}

/// An attribute whose length is a multiple of four.
fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
}
