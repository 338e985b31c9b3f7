//! Collectors, each with a socket of its own. Nothing listens: what a collector answers is not read.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use super::datagram::Datagram;
use crate::daemon::state::{CollectorState, SampleProtocol};

/// How long after a failure a socket is asked for again, milliseconds.
const AGAIN: u64 = 5_000;

/// A collector, and what became of what it was sent.
pub struct Collector {
    address: SocketAddr,
    socket: Option<UdpSocket>,
    again: u64,
    state: CollectorState,
}

impl Collector {
    /// One at this address.
    #[must_use]
    pub fn new(protocol: SampleProtocol, address: SocketAddr) -> Collector {
        Collector {
            address,
            socket: None,
            again: 0,
            state: CollectorState {
                protocol,
                address: address.to_string(),
                ..CollectorState::default()
            },
        }
    }

    /// What it is told in.
    #[must_use]
    pub const fn protocol(&self) -> SampleProtocol {
        self.state.protocol
    }

    /// What became of it all.
    #[must_use]
    pub const fn state(&self) -> &CollectorState {
        &self.state
    }

    /// Asks for a socket where there is none and it is time to. `now`: milliseconds of any clock that does not go back. Answers
    /// whether there is one.
    pub fn connect(&mut self, now: u64) -> bool {
        if self.socket.is_none() && now >= self.again {
            match connected(self.address) {
                Ok(socket) => self.socket = Some(socket),
                Err(why) => {
                    self.again = now + AGAIN;
                    self.state.last_error = Some(why.to_string());
                }
            }
        }
        self.socket.is_some()
    }

    /// The address that the kernel sends to it from.
    #[must_use]
    pub fn local(&self) -> Option<IpAddr> {
        let address = self.socket.as_ref()?.local_addr().ok()?;
        Some(address.ip())
    }

    /// Sends it a datagram. What cannot be sent is counted and lost.
    pub fn send(&mut self, datagram: &Datagram) {
        let sent = match &self.socket {
            Some(socket) => match socket.send(&datagram.octets) {
                // That is what became of one before: nobody listened. This one may find somebody.
                Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => {
                    self.state.errors += 1;
                    self.state.last_error = Some(why.to_string());
                    socket.send(&datagram.octets)
                }
                sent => sent,
            },
            None => Err(io::Error::other("no route to it")),
        };
        match sent {
            Ok(_) => {
                self.state.datagrams += 1;
                self.state.samples += u64::from(datagram.samples);
            }
            Err(why) => {
                self.state.errors += 1;
                // Without a socket, what stands there says why.
                if self.socket.is_some() {
                    self.state.last_error = Some(why.to_string());
                }
            }
        }
    }
}

/// A socket that sends to this address and waits for nothing: where its buffer is full, datagrams are lost.
fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(octets: &[u8]) -> Datagram {
        Datagram {
            octets: octets.to_vec(),
            samples: 3,
        }
    }

    #[test]
    fn what_is_sent_arrives_and_is_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut collector = Collector::new(SampleProtocol::Sflow, receiver.local_addr().expect("address"));
        assert!(collector.connect(0));
        assert_eq!(collector.local(), Some(Ipv4Addr::LOCALHOST.into()));
        collector.send(&datagram(b"abc"));
        let mut octets = [0; 8];
        assert_eq!(receiver.recv(&mut octets).expect("a datagram"), 3);
        let state = collector.state();
        assert_eq!((state.datagrams, state.samples, state.errors), (1, 3, 0));
    }

    #[test]
    fn a_collector_that_was_not_there_is_told_what_comes_next() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = receiver.local_addr().expect("address");
        drop(receiver);
        let mut collector = Collector::new(SampleProtocol::Sflow, address);
        assert!(collector.connect(0));
        collector.send(&datagram(b"lost"));
        let receiver = UdpSocket::bind(address).expect("the same address");
        collector.send(&datagram(b"abc"));
        let mut octets = [0; 8];
        assert_eq!(receiver.recv(&mut octets).expect("a datagram"), 3);
        let state = collector.state();
        assert_eq!((state.datagrams, state.errors), (2, 1));
        assert!(state.last_error.is_some(), "{state:?}");
    }

    #[test]
    fn a_collector_that_cannot_be_reached_costs_its_datagrams_alone() {
        // Nobody may send to the broadcast address unasked.
        let address = "255.255.255.255:6343".parse().expect("address");
        let mut collector = Collector::new(SampleProtocol::Ipfix, address);
        assert!(!collector.connect(0));
        collector.send(&datagram(b"abc"));
        let state = collector.state();
        assert_eq!((state.datagrams, state.samples, state.errors), (0, 0, 1));
        assert!(state.last_error.is_some(), "{state:?}");
    }
}
