//! A multicast route of the kernel's, by the sockets that multicast routing daemons have (include/uapi/linux/mroute.h, mroute6.h). It is
//! there as long as the socket is.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};

use crate::sandbox::index_of;

/// `MRT_INIT`, `MRT_ADD_VIF`, `MRT_ADD_MFC`; those of IPv6 are the same.
const INIT: i32 = 200;
const ADD_VIF: i32 = 202;
const ADD_MFC: i32 = 204;
/// `VIFF_USE_IFINDEX`.
const USE_IFINDEX: u8 = 8;
/// A packet leaves by an interface with this threshold if its TTL is above it.
const THRESHOLD: u8 = 1;

/// `struct vifctl`.
#[repr(C)]
struct Vif4 {
    number: u16,
    flags: u8,
    threshold: u8,
    rate_limit: u32,
    ifindex: u32,
    remote: [u8; 4],
}

/// `struct mfcctl`.
#[repr(C)]
struct Mfc4 {
    origin: [u8; 4],
    group: [u8; 4],
    parent: u16,
    thresholds: [u8; 32],
    counts: [u32; 3],
    expire: i32,
}

/// `struct mif6ctl`.
#[repr(C)]
struct Vif6 {
    number: u16,
    flags: u8,
    threshold: u8,
    ifindex: u16,
    rate_limit: u32,
}

/// `struct mf6cctl`.
#[repr(C)]
struct Mfc6 {
    origin: libc::sockaddr_in6,
    group: libc::sockaddr_in6,
    parent: u16,
    interfaces: [u32; 8],
}

fn socket(family: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: three integers; the result is checked before it is owned.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("a raw socket: these tests need root");
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> Result<()> {
    // SAFETY: a live value and its size.
    let refused = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    if refused != 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("multicast routing: option {option}"));
    }
    Ok(())
}

/// Has this thread's namespace send packets of a source to a group on from one interface to another.
///
/// # Errors
/// The kernel has no multicast routing, or another daemon does it.
pub fn route4(from: &str, to: &str, source: Ipv4Addr, group: Ipv4Addr) -> Result<OwnedFd> {
    let socket = socket(libc::AF_INET, libc::IPPROTO_IGMP)?;
    let level = libc::IPPROTO_IP;
    set(&socket, level, INIT, &1i32)?;
    for (number, name) in [(0, from), (1, to)] {
        let vif = Vif4 {
            number,
            flags: USE_IFINDEX,
            threshold: THRESHOLD,
            rate_limit: 0,
            ifindex: index_of(name)?,
            remote: [0; 4],
        };
        set(&socket, level, ADD_VIF, &vif)?;
    }
    let mut thresholds = [0; 32];
    thresholds[1] = THRESHOLD;
    let route = Mfc4 {
        origin: source.octets(),
        group: group.octets(),
        parent: 0,
        thresholds,
        counts: [0; 3],
        expire: 0,
    };
    set(&socket, level, ADD_MFC, &route)?;
    Ok(socket)
}

/// The same of IPv6.
///
/// # Errors
/// As [`route4`].
pub fn route6(from: &str, to: &str, source: Ipv6Addr, group: Ipv6Addr) -> Result<OwnedFd> {
    let socket = socket(libc::AF_INET6, libc::IPPROTO_ICMPV6)?;
    let level = libc::IPPROTO_IPV6;
    set(&socket, level, INIT, &1i32)?;
    for (number, name) in [(0, from), (1, to)] {
        let vif = Vif6 {
            number,
            flags: 0,
            threshold: THRESHOLD,
            ifindex: u16::try_from(index_of(name)?)?,
            rate_limit: 0,
        };
        set(&socket, level, ADD_VIF, &vif)?;
    }
    let address = |address: Ipv6Addr| libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as u16,
        sin6_port: 0,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr {
            s6_addr: address.octets(),
        },
        sin6_scope_id: 0,
    };
    let route = Mfc6 {
        origin: address(source),
        group: address(group),
        parent: 0,
        interfaces: [1 << 1, 0, 0, 0, 0, 0, 0, 0],
    };
    set(&socket, level, ADD_MFC, &route)?;
    Ok(socket)
}
