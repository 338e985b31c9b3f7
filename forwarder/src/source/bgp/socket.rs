//! Sockets of the speaker: listening, TCP-MD5 (RFC 2385), the TTL of a neighbour next door (RFC 5082, GTSM), and the
//! interface on which a session runs.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::BgpNeighbour;

/// Connections that wait for us to accept them.
pub const BACKLOG: i32 = 128;

/// `struct tcp_md5sig` (include/uapi/linux/tcp.h).
#[repr(C)]
struct Md5Key {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    length: u16,
    ifindex: i32,
    key: [u8; 80],
}

/// Listens, with the keys of the neighbours of this address family.
///
/// # Errors
/// The kernel's.
pub fn listen(at: SocketAddr, neighbours: &[BgpNeighbour]) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        // Or an IPv4 neighbour would come by an address that no key and no name is known for.
        socket.set_only_v6(true)?;
    }
    let mut secured = neighbours
        .iter()
        .filter(|neighbour| neighbour.address.is_ipv4() == at.is_ipv4());
    for neighbour in secured.clone() {
        if let Some(password) = &neighbour.password {
            md5(&socket, neighbour.address, password.reveal())?;
        }
    }
    if secured.any(|neighbour| neighbour.ttl_security) {
        // The answer to the first packet is sent before there is a connection to set it on.
        hops(socket.as_raw_fd(), at.is_ipv4())?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Makes an accepted connection ready.
///
/// # Errors
/// The kernel's.
pub fn prepare(stream: &TcpStream, ipv4: bool, ttl_security: bool) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    if ttl_security {
        let fd = stream.as_raw_fd();
        hops(fd, ipv4)?;
        let (level, name) = if ipv4 {
            (libc::IPPROTO_IP, libc::IP_MINTTL)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT)
        };
        set(fd, level, name, &255_i32)?;
    }
    Ok(())
}

/// The interface that has the local address of a connection; none for loopback.
#[must_use]
pub fn interface(local: SocketAddr) -> Option<u32> {
    if local.ip().is_loopback() {
        return None;
    }
    if let SocketAddr::V6(local) = local
        && local.scope_id() != 0
    {
        return Some(local.scope_id());
    }
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: a place for the list, which is freed below.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return None;
    }
    let mut found = None;
    let mut next = list;
    while !next.is_null() && found.is_none() {
        // SAFETY: an entry of a list that is not freed yet.
        let entry = unsafe { &*next };
        next = entry.ifa_next;
        if entry.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: the kernel gives an address of the length of its family; others than IP are not read.
        let address = unsafe { address(entry.ifa_addr) };
        if address == Some(local.ip()) {
            // SAFETY: a NUL-terminated name.
            let index = unsafe { libc::if_nametoindex(entry.ifa_name) };
            found = (index != 0).then_some(index);
        }
    }
    // SAFETY: what getifaddrs gave.
    unsafe { libc::freeifaddrs(list) };
    found
}

/// The IP address of a socket address.
///
/// # Safety
/// It is as long as its family says.
unsafe fn address(raw: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by the caller.
    unsafe {
        match i32::from((*raw).sa_family) {
            libc::AF_INET => {
                let inet = raw.cast::<libc::sockaddr_in>().read_unaligned();
                Some(IpAddr::from(inet.sin_addr.s_addr.to_ne_bytes()))
            }
            libc::AF_INET6 => {
                let inet6 = raw.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(IpAddr::from(inet6.sin6_addr.s6_addr))
            }
            _ => None,
        }
    }
}

fn md5(socket: &Socket, peer: IpAddr, password: &str) -> io::Result<()> {
    let peer = SockAddr::from(SocketAddr::new(peer, 0));
    let mut key = Md5Key {
        // SAFETY: plain numbers, for which zero is a value.
        address: unsafe { std::mem::zeroed() },
        flags: 0,
        prefix_length: 0,
        length: 0,
        ifindex: 0,
        key: [0; 80],
    };
    // SAFETY: both are of the size of sockaddr_storage, which `peer` is a view of.
    unsafe {
        std::ptr::copy_nonoverlapping(
            peer.as_ptr().cast::<u8>(),
            (&raw mut key.address).cast::<u8>(),
            (peer.len() as usize).min(size_of::<libc::sockaddr_storage>()),
        );
    }
    let octets = password.as_bytes();
    let Some(room) = key.key.get_mut(..octets.len()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a password too long for TCP-MD5",
        ));
    };
    room.copy_from_slice(octets);
    key.length = octets.len() as u16;
    set(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_MD5SIG, &key).map_err(|why| {
        io::Error::new(
            why.kind(),
            format!("the kernel does not take a TCP-MD5 key: {why}"),
        )
    })
}

/// Packets leave with the TTL that a neighbour next door expects.
fn hops(fd: RawFd, ipv4: bool) -> io::Result<()> {
    if ipv4 {
        set(fd, libc::IPPROTO_IP, libc::IP_TTL, &255_i32)
    } else {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &255_i32)
    }
}

fn set<T>(fd: RawFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: a descriptor that its owner keeps open, and a value of the length given.
    let done = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
