//! Frames out of and into a network namespace, through AF_PACKET: what is sent is what arrives, to the octet.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::sandbox::index_of;

/// `PACKET_OUTGOING`, include/uapi/linux/if_packet.h.
const OUTGOING: u8 = 4;

/// Listens on an interface; `protocol` in network order.
pub(crate) fn bind(socket: &OwnedFd, ifindex: u32, protocol: u16) -> io::Result<()> {
    let address = address(ifindex, protocol);
    // SAFETY: the address is live and its size is given.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if bound == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends a frame as it is.
pub(crate) fn transmit(socket: &OwnedFd, ifindex: u32, frame: &[u8]) -> io::Result<()> {
    let address = address(ifindex, 0);
    // SAFETY: frame and address are live and their sizes are given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if usize::try_from(sent) == Ok(frame.len()) {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A raw socket on one interface of the namespace it was opened in.
pub struct Wire {
    socket: OwnedFd,
    ifindex: u32,
}

impl Wire {
    /// Opens it in the calling thread's namespace. From then on it collects what comes in.
    ///
    /// # Errors
    /// Not root, or no such interface.
    pub fn open(ifname: &str) -> Result<Wire> {
        let ifindex = index_of(ifname)?;
        let every = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: three integers; the result is checked before it is owned.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(every),
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("AF_PACKET: these tests need root");
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        bind(&socket, ifindex, every).with_context(|| format!("cannot listen on {ifname}"))?;
        let octets: libc::c_int = 32 << 20;
        // SAFETY: an integer and its size. A smaller buffer than asked for shows as missing frames.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const octets).cast(),
                size_of::<libc::c_int>() as u32,
            )
        };
        Ok(Wire { socket, ifindex })
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        transmit(&self.socket, self.ifindex, frame).context("cannot send a frame")
    }

    /// The next frame that came in and for which `wanted` says so; `None` when `limit` has passed without one.
    ///
    /// # Errors
    /// The socket failed.
    pub fn receive(&self, limit: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        Ok(first(&[self], limit, wanted)?.map(|(_, frame)| frame))
    }

    /// What has come in by now, if anything has.
    fn take(&self) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0u8; 1 << 16];
        let mut from = address(0, 0);
        let mut length = size_of::<libc::sockaddr_ll>() as u32;
        loop {
            // SAFETY: buffer and address are live and their sizes are given.
            let got = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    frame.as_mut_ptr().cast(),
                    frame.len(),
                    libc::MSG_DONTWAIT,
                    (&raw mut from).cast(),
                    &mut length,
                )
            };
            if got < 0 {
                let why = io::Error::last_os_error();
                // The interface went down: what is queued can still be read.
                match why.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(None),
                    Some(libc::ENETDOWN) => continue,
                    _ => bail!("cannot receive: {why}"),
                }
            }
            if from.sll_pkttype != OUTGOING {
                frame.truncate(got as usize);
                return Ok(Some(frame));
            }
        }
    }

    /// So many frames that are wanted, in the order in which they came; fewer when `limit` passes after the last.
    ///
    /// # Errors
    /// The socket failed.
    pub fn collect(
        &self,
        count: usize,
        limit: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while frames.len() < count {
            match self.receive(limit, &wanted)? {
                Some(frame) => frames.push(frame),
                None => break,
            }
        }
        Ok(frames)
    }

    /// Everything wanted that has come in by now.
    ///
    /// # Errors
    /// The socket failed.
    pub fn drain(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Vec<u8>>> {
        self.collect(usize::MAX, Duration::ZERO, wanted)
    }
}

/// Whether a packet is for 5.0.0.0/8 or 2a05::/16, where the routes of tests lead.
pub fn for_five(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(30) == Some(&5),
        Some([0x86, 0xdd]) => frame.get(38..40) == Some(&[0x2a, 0x05]),
        _ => false,
    }
}

/// Frames of a lot: so few that no queue on the way is ever full.
const LOT: usize = 40;

/// Sends frames and answers those that are wanted and arrive: all of the lots up to the first of which one is missing when `limit`
/// has passed after the last.
///
/// # Errors
/// A socket failed.
pub fn cross(
    from: &Wire,
    to: &Wire,
    frames: &[Vec<u8>],
    limit: Duration,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Vec<Vec<u8>>> {
    let mut arrived = Vec::new();
    for lot in frames.chunks(LOT) {
        for frame in lot {
            from.send(frame)?;
        }
        let some = to.collect(lot.len(), limit, &wanted)?;
        let complete = some.len() == lot.len();
        arrived.extend(some);
        if !complete {
            break;
        }
    }
    Ok(arrived)
}

/// The next frame that came in on one of these and for which `wanted` says so, and on which; `None` when `limit` has passed
/// without one.
///
/// # Errors
/// A socket failed.
pub fn first(
    wires: &[&Wire],
    limit: Duration,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Option<(usize, Vec<u8>)>> {
    let until = Instant::now() + limit;
    let mut polls: Vec<_> = wires
        .iter()
        .map(|wire| libc::pollfd {
            fd: wire.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    loop {
        for (at, wire) in wires.iter().enumerate() {
            while let Some(frame) = wire.take()? {
                if wanted(&frame) {
                    return Ok(Some((at, frame)));
                }
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        // SAFETY: live entries and their number.
        let ready = unsafe {
            libc::poll(
                polls.as_mut_ptr(),
                polls.len() as libc::nfds_t,
                left.as_millis() as i32,
            )
        };
        if ready <= 0 {
            return Ok(None);
        }
    }
}

fn address(ifindex: u32, protocol: u16) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}
