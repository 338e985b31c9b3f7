//! The far ends of all cables: frames go in as they are, and whatever comes out is kept to the octet.
//!
//! A batch ends with *markers*: for each way through a router two packets, one that forwarder forwards and one that only
//! the kernel does. The sender stays on one CPU, so all queues are first in, first out, and what has not come out before
//! the last marker does not come.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    netns::Namespace,
    topology::{INGRESSES, PORTS, mac},
};
use crate::{
    frame,
    packets::{bind, transmit},
    sandbox::index_of,
};

const MAGIC: &[u8; 8] = b"marker!!";
const PATIENCE: Duration = Duration::from_secs(20);

/// The routers, by number.
pub const ROUTERS: [&str; 2] = ["plain", "fast"];

/// A frame and the port it came out of.
pub type Emitted = (usize, Vec<u8>);

/// A marker's way: ingress, egress, and whether it has IPv4 options.
type Way = (u8, u8, bool);

/// One far end.
struct End {
    socket: OwnedFd,
    ifindex: u32,
}

/// All of them.
pub struct Wire {
    ends: [Vec<End>; 2],
    round: u32,
}

impl Wire {
    /// Opens the far ends named `p-...` and `f-...` in a namespace.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open(namespace: &Namespace) -> Result<Wire> {
        let open = |prefix: &str| -> Result<Vec<End>> {
            let mut ends = Vec::new();
            for port in PORTS {
                let name = format!("{prefix}{}", port.name);
                let end = namespace.run(|| End::open(index_of(&name)?));
                ends.push(end.with_context(|| name.clone())?);
            }
            Ok(ends)
        };
        Ok(Wire {
            ends: [open("p-")?, open("f-")?],
            round: 0,
        })
    }

    /// Sends frames into both routers, each by its port; answers what came out of each router.
    ///
    /// # Errors
    /// The kernel refuses a frame, or a marker does not come back.
    pub fn exchange(&mut self, frames: &[(usize, &[u8])]) -> Result<[Vec<Emitted>; 2]> {
        for (port, frame) in frames {
            for ends in &self.ends {
                ends[*port].send(frame).context("sending")?;
            }
        }
        self.settle()
    }

    /// The same into one router only.
    ///
    /// # Errors
    /// As [`Wire::exchange`].
    pub fn send(&mut self, router: usize, port: usize, frame: &[u8]) -> Result<()> {
        self.ends[router][port].send(frame).context("sending")
    }

    /// Waits until everything sent has come out; answers it.
    ///
    /// # Errors
    /// A marker does not come back.
    pub fn settle(&mut self) -> Result<[Vec<Emitted>; 2]> {
        self.round += 1;
        let mut missing: [HashSet<Way>; 2] = Default::default();
        for ingress in 0..INGRESSES as u8 {
            for egress in 0..PORTS.len() as u8 {
                for options in [false, true] {
                    let way = (ingress, egress, options);
                    let marker = marker(self.round, way);
                    for (ends, missing) in self.ends.iter().zip(&mut missing) {
                        ends[ingress as usize].send(&marker).context("sending a marker")?;
                        missing.insert(way);
                    }
                }
            }
        }
        let mut emitted: [Vec<Emitted>; 2] = Default::default();
        let until = Instant::now() + PATIENCE;
        loop {
            let done = missing.iter().all(HashSet::is_empty);
            for router in 0..2 {
                for port in 0..PORTS.len() {
                    while let Some(frame) = self.ends[router][port].receive()? {
                        match marker_of(&frame, self.round) {
                            Marker::Way(way) => {
                                missing[router].remove(&way);
                            }
                            Marker::Echo => {}
                            Marker::No => emitted[router].push((port, frame)),
                        }
                    }
                }
            }
            if done {
                return Ok(emitted);
            }
            ensure!(
                Instant::now() < until,
                "markers did not come back within {PATIENCE:?} (ingress, egress, options): plain {:?}, fast {:?}",
                missing[0],
                missing[1]
            );
            if !missing.iter().all(HashSet::is_empty) {
                self.poll()?;
            }
        }
    }

    /// Collects what comes for a while.
    ///
    /// # Errors
    /// Reading fails.
    pub fn linger(&mut self, time: Duration) -> Result<[Vec<Emitted>; 2]> {
        let until = Instant::now() + time;
        let mut emitted = self.settle()?;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
            for (all, more) in emitted.iter_mut().zip(self.settle()?) {
                all.extend(more);
            }
        }
        Ok(emitted)
    }

    fn poll(&self) -> Result<()> {
        let mut polled: Vec<libc::pollfd> = self
            .ends
            .iter()
            .flatten()
            .map(|end| libc::pollfd {
                fd: end.socket.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        // SAFETY: the array is live and its length is given.
        if unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 100) } < 0 {
            return Err(io::Error::last_os_error()).context("poll");
        }
        Ok(())
    }
}

enum Marker {
    Way(Way),
    /// A redirect about one, or one of an earlier round.
    Echo,
    No,
}

fn marker(round: u32, (ingress, egress, options): Way) -> Vec<u8> {
    let (inside, outside) = (PORTS[ingress as usize].number, PORTS[egress as usize].number);
    let mut payload = frame::udp(7, 7, 16);
    payload[8..16].copy_from_slice(MAGIC);
    payload[16..20].copy_from_slice(&round.to_be_bytes());
    payload[20..23].copy_from_slice(&[ingress, egress, u8::from(options)]);
    let mut marker = frame::ipv4(
        (mac(inside, 1), mac(inside, 2)),
        [61, 0, inside, 1].into(),
        [60, 0, outside, 1].into(),
        frame::UDP,
        64,
        &payload,
    );
    if options {
        marker.splice(34..34, [1, 1, 1, 0]);
        marker[14] = 0x46;
        marker[17] += 4;
        frame::fix_checksum(&mut marker);
    }
    marker
}

fn marker_of(frame: &[u8], round: u32) -> Marker {
    let Some(at) = frame.windows(MAGIC.len()).position(|window| window == MAGIC) else {
        return Marker::No;
    };
    let rest = &frame[at + MAGIC.len()..];
    if frame[23] != frame::UDP || rest.len() < 7 || rest[..4] != round.to_be_bytes() {
        return Marker::Echo;
    }
    Marker::Way((rest[4], rest[5], rest[6] != 0))
}

impl End {
    fn open(ifindex: u32) -> Result<End> {
        let every = (libc::ETH_P_ALL as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: three integers; the result is checked before it is owned. Protocol 0: nothing comes in before `bind`.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("AF_PACKET");
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let set = |level, option, value: libc::c_int| -> Result<()> {
            // SAFETY: an integer and its size.
            let result = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    level,
                    option,
                    (&raw const value).cast(),
                    size_of::<libc::c_int>() as u32,
                )
            };
            ensure!(result == 0, "option {option}: {}", io::Error::last_os_error());
            Ok(())
        };
        set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 32 << 20)?;
        set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
        bind(&socket, ifindex, every).context("bind")?;
        Ok(End { socket, ifindex })
    }

    fn send(&self, frame: &[u8]) -> Result<()> {
        let Err(error) = transmit(&self.socket, self.ifindex, frame) else {
            return Ok(());
        };
        // A device that drops what it is given answers so; the routers' side of a cable drops what is too long for it.
        match error.raw_os_error() {
            Some(libc::ENOBUFS) => Ok(()),
            _ => bail!("{} octets: {error}", frame.len()),
        }
    }

    /// The next frame, with the VLAN tag that the kernel took out of it.
    fn receive(&self) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0u8; 4096];
        let mut control = [0u64; 16];
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: msghdr is plain integers and pointers, for which all zeroes is a value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: all that the message points to is live, and its sizes are given.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        if length < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error).context("recvmsg"),
            };
        }
        buffer.truncate(length as usize);
        // SAFETY: the kernel filled the control buffer and its length; it is aligned.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        if !header.is_null() {
            // SAFETY: PACKET_AUXDATA is the only option that puts anything there.
            let auxiliary = unsafe {
                libc::CMSG_DATA(header)
                    .cast::<libc::tpacket_auxdata>()
                    .read_unaligned()
            };
            if auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID != 0 && buffer.len() >= 12 {
                let (tpid, tci) = (
                    auxiliary.tp_vlan_tpid.to_be_bytes(),
                    auxiliary.tp_vlan_tci.to_be_bytes(),
                );
                buffer.splice(12..12, [tpid, tci].concat());
            }
        }
        Ok(Some(buffer))
    }
}
