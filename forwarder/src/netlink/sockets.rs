//! TCP connections of this network namespace, by `NETLINK_SOCK_DIAG`. Reading them needs no capability.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::{
    Error, Malformed,
    constants::{AF_INET, AF_INET6},
    socket::{REQUEST_BUFFER, Socket},
    wire::{u8_at, u16_at},
};

/// `SOCK_DIAG_BY_FAMILY`, include/uapi/linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// Length of `struct inet_diag_req_v2`, include/uapi/linux/inet_diag.h: family, protocol, extensions, padding, states, and the
/// `inet_diag_sockid` of a socket, which a dump ignores.
const REQUEST: usize = 56;
const TCP: u8 = 6;
/// `1 << TCP_ESTABLISHED`, include/net/tcp_states.h.
const ESTABLISHED: u32 = 1 << 1;
/// Connections that are kept of an answer; more are read and forgotten.
const MOST: usize = 65_536;

/// An established TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Our end.
    pub local: SocketAddr,
    /// The other.
    pub remote: SocketAddr,
}

/// A socket that asks for sockets.
pub struct Sockets(Socket);

impl Sockets {
    /// Opens it in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open() -> Result<Sockets, Error> {
        Socket::speaking(NETLINK_SOCK_DIAG, REQUEST_BUFFER).map(Sockets)
    }

    /// The established connections, both families.
    ///
    /// # Errors
    /// The kernel does not tell: it may have been built without `CONFIG_INET_DIAG`.
    pub fn established(&mut self) -> Result<Vec<Connection>, Error> {
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut each = |message: &super::wire::Message<'_>| {
                if message.kind == BY_FAMILY && found.len() < MOST {
                    found.extend(connection(message.body)?);
                }
                Ok(())
            };
            match self.0.dump(BY_FAMILY, &request(family), &mut each) {
                // Sockets come and go all the time: what was told is good enough.
                Ok(()) | Err(Error::Interrupted(_)) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(found)
    }
}

fn request(family: u8) -> Vec<u8> {
    let mut body = vec![family, TCP, 0, 0];
    body.extend(ESTABLISHED.to_ne_bytes());
    body.resize(REQUEST, 0);
    body
}

/// Reads `struct inet_diag_msg`: family, state, timer, retransmissions, then `inet_diag_sockid`: ports (2 octets each) and addresses
/// (16 octets each) in wire order.
fn connection(body: &[u8]) -> Result<Option<Connection>, Malformed> {
    let family = u8_at(body, 0)?;
    let port = |at| u16_at(body, at).map(u16::from_be);
    let octets = |at: usize| {
        let octets: Option<[u8; 16]> = body.get(at..at + 16).and_then(|octets| octets.try_into().ok());
        octets.ok_or(Malformed("short inet_diag_msg"))
    };
    let address = |at: usize| {
        let octets = octets(at)?;
        Ok(match family {
            AF_INET => IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
            _ => IpAddr::V6(Ipv6Addr::from(octets)),
        })
    };
    if !matches!(family, AF_INET | AF_INET6) {
        return Ok(None);
    }
    Ok(Some(Connection {
        local: SocketAddr::new(address(8)?, port(4)?),
        remote: SocketAddr::new(address(24)?, port(6)?),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(family: u8, local: &[u8], remote: &[u8]) -> Vec<u8> {
        let mut body = vec![family, 1, 0, 0, 0, 179, 0x9c, 0x40];
        for address in [local, remote] {
            body.extend(address);
            body.resize(body.len() + 16 - address.len(), 0);
        }
        body.resize(72, 0);
        body
    }

    #[test]
    fn a_connection_is_read_in_either_family() {
        let read = |body: &[u8]| connection(body).unwrap().unwrap();
        let four = read(&message(AF_INET, &[192, 0, 2, 1], &[192, 0, 2, 9]));
        assert_eq!(four.local, "192.0.2.1:179".parse().unwrap());
        assert_eq!(four.remote, "192.0.2.9:40000".parse().unwrap());
        let six: Ipv6Addr = "2001:db8::9".parse().unwrap();
        let read = read(&message(AF_INET6, &six.octets(), &six.octets()));
        assert_eq!(read.remote, "[2001:db8::9]:40000".parse().unwrap());
        assert_eq!(connection(&message(1, &[], &[])).unwrap(), None);
    }

    #[test]
    fn no_length_makes_it_panic() {
        let whole = message(AF_INET, &[192, 0, 2, 1], &[192, 0, 2, 9]);
        for length in 0..40 {
            assert!(connection(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn the_kernel_tells_of_a_connection_of_our_own() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let wanted = Connection {
            local: ours.local_addr().unwrap(),
            remote: ours.peer_addr().unwrap(),
        };
        let found = Sockets::open().unwrap().established().unwrap();
        assert!(found.contains(&wanted), "{found:?} has no {wanted:?}");
    }
}
