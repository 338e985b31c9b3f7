//! A `NETLINK_ROUTE` socket: requests with sequence numbers, acknowledgements, dumps.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::constants::{
    AF_UNSPEC, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NLMSGERR_ATTR_MSG, RTM_DELNEIGH,
    RTM_GETADDR, RTM_GETLINK, RTM_GETNEIGH, RTM_GETNEXTHOP, RTM_GETROUTE, RTM_GETRULE, RTM_NEWNEIGH,
};
use super::wire::{Attributes, Message, Messages, aligned, string, u32_at};
use super::{Error, Malformed};

/// The kernel fills dump replies up to 32 kB (`netlink_dump`, net/netlink/af_netlink.c); a larger single message would
/// be cut, which is detected.
const READ_BUFFER: usize = 128 * 1024;

/// Receive buffer for requests: room for the answers of a pipelined batch.
pub(crate) const REQUEST_BUFFER: usize = 4 << 20;

/// Length of `nlmsghdr`.
const HEADER: usize = 16;

/// A route socket of the network namespace of the thread that opened it.
pub struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens one, with a receive buffer of about `receive_buffer` octets: beyond `net.core.rmem_max` where we have
    /// CAP_NET_ADMIN, up to it where we have not.
    pub fn open(receive_buffer: usize) -> Result<Self, Error> {
        Self::speaking(NETLINK_ROUTE, receive_buffer)
    }

    /// The same for another of netlink's protocols.
    pub(crate) fn speaking(protocol: isize, receive_buffer: usize) -> Result<Self, Error> {
        let mut inner = netlink_sys::Socket::new(protocol).map_err(Error::os("open a netlink socket"))?;
        inner.bind_auto().map_err(Error::os("bind a netlink socket"))?;
        // Without these the kernel is less talkative, not less right: what they filter is filtered here again.
        for (option, result) in [
            ("NETLINK_EXT_ACK", inner.set_ext_ack(true)),
            ("NETLINK_CAP_ACK", inner.set_cap_ack(true)),
            ("NETLINK_GET_STRICT_CHK", inner.set_netlink_get_strict_chk(true)),
        ] {
            if let Err(error) = result {
                tracing::debug!(option, %error, "this kernel does not have a netlink option");
            }
        }
        if let Err(forced) = force_receive_buffer(&inner, receive_buffer) {
            let size = i32::try_from(receive_buffer).unwrap_or(i32::MAX);
            inner
                .set_rx_buf_sz(size)
                .map_err(Error::os("set the receive buffer of a netlink socket"))?;
            tracing::debug!(error = %forced, "no SO_RCVBUFFORCE: the receive buffer is bound by net.core.rmem_max");
        }
        Ok(Self {
            inner,
            sequence: 0,
            buffer: Vec::with_capacity(READ_BUFFER),
        })
    }

    /// Joins a multicast group.
    pub(crate) fn join(&self, group: u32) -> io::Result<()> {
        self.inner.add_membership(group)
    }

    /// What the kernel made of the receive buffer's size.
    pub(crate) fn receive_buffer(&self) -> usize {
        self.inner.get_rx_buf_sz().unwrap_or(0)
    }

    /// Appends a request to `datagram`; its sequence number.
    pub(crate) fn request(&mut self, datagram: &mut Vec<u8>, kind: u16, flags: u16, body: &[u8]) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let length = HEADER + body.len();
        datagram.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        datagram.extend_from_slice(&kind.to_ne_bytes());
        datagram.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        datagram.extend_from_slice(&self.sequence.to_ne_bytes());
        datagram.extend_from_slice(&[0; 4]);
        datagram.extend_from_slice(body);
        datagram.resize(datagram.len() + aligned(length) - length, 0);
        self.sequence
    }

    /// Sends what [`Self::request`] collected.
    pub(crate) fn send(&self, datagram: &[u8]) -> Result<(), Error> {
        loop {
            match self.inner.send(datagram, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::os("send a netlink request")(error)),
            }
        }
    }

    /// The next datagram; `None` where none is there and `wait` is false.
    pub(crate) fn receive(&mut self, wait: bool) -> Result<Option<&[u8]>, Error> {
        let flags = libc::MSG_TRUNC | if wait { 0 } else { libc::MSG_DONTWAIT };
        loop {
            self.buffer.clear();
            match self.inner.recv(&mut self.buffer, flags) {
                Ok(length) if length > self.buffer.len() => {
                    return Err(Malformed("datagram over 128 kB").into());
                }
                Ok(_) => return Ok(Some(&self.buffer)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Err(Error::Overrun),
                Err(error) => return Err(Error::os("read from a netlink socket")(error)),
            }
        }
    }

    /// Sends a request and waits until the kernel has carried it out.
    pub(crate) fn acknowledged(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Error> {
        self.exchange(kind, flags | NLM_F_ACK, body, &mut |_| {}, &mut |_| Ok(()))
            .map(drop)
    }

    /// Sends a request that has one answer; its body.
    pub(crate) fn answer(&mut self, kind: u16, body: &[u8]) -> Result<Vec<u8>, Error> {
        let mut answer = None;
        self.exchange(kind, NLM_F_ACK, body, &mut |_| {}, &mut |message| {
            answer = Some(message.body.to_vec());
            Ok(())
        })?;
        answer.ok_or(Error::Malformed(Malformed("acknowledged without an answer")))
    }

    /// Dumps, giving every message to `each`. [`Error::Interrupted`] when the tables changed meanwhile: what `each` saw
    /// is then to be discarded.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        if self.exchange(kind, NLM_F_DUMP, body, &mut |_| {}, each)? {
            Err(Error::Interrupted(name(kind)))
        } else {
            Ok(())
        }
    }

    /// The same with every datagram as it came.
    pub(crate) fn dump_datagrams(
        &mut self,
        kind: u16,
        body: &[u8],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        if self.exchange(kind, NLM_F_DUMP, body, each, &mut |_| Ok(()))? {
            Err(Error::Interrupted(name(kind)))
        } else {
            Ok(())
        }
    }

    /// Sends, and reads until the acknowledgement or the end of the dump, also past an answer that `each` cannot read:
    /// the socket stays usable. `whole` gets every datagram. Whether `NLM_F_DUMP_INTR` was set.
    fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        whole: &mut dyn FnMut(&[u8]),
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<bool, Error> {
        let mut datagram = Vec::with_capacity(HEADER + body.len());
        let sequence = self.request(&mut datagram, kind, flags, body);
        self.send(&datagram)?;
        let mut interrupted = false;
        let mut unreadable = None;
        loop {
            let Some(datagram) = self.receive(true)? else {
                continue;
            };
            whole(datagram);
            for message in Messages(datagram) {
                let message = message?;
                if message.sequence != sequence {
                    continue; // left over from a request that was given up
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        return match (verdict(kind, &message), unreadable) {
                            (Err(error), _) => Err(error),
                            (Ok(()), Some(malformed)) => Err(Error::Malformed(malformed)),
                            (Ok(()), None) => Ok(interrupted),
                        };
                    }
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Err(Error::Overrun),
                    _ => {
                        if let Err(malformed) = each(&message) {
                            unreadable.get_or_insert(malformed);
                        }
                    }
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// What an `NLMSG_ERROR` or `NLMSG_DONE` says about the request of type `kind`: both start with a negative errno
/// or zero. The kernel's text follows the copy of the request's header (capped by NETLINK_CAP_ACK), or the errno.
pub(crate) fn verdict(kind: u16, message: &Message<'_>) -> Result<(), Error> {
    let code = u32_at(message.body, 0).map_or(0, u32::cast_signed);
    if code == 0 {
        return Ok(());
    }
    let header = if message.kind == NLMSG_ERROR {
        4 + HEADER
    } else {
        4
    };
    let text = Attributes::behind(message.body, header)
        .ok()
        .and_then(|attributes| {
            attributes
                .flatten()
                .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
                .map(|(_, value)| string(value))
        });
    Err(Error::Refused {
        what: name(kind),
        errno: code.wrapping_neg(),
        text,
    })
}

/// `SO_RCVBUFFORCE`: like SO_RCVBUF, but not bound by net.core.rmem_max.
pub(crate) fn force_receive_buffer(socket: &impl AsRawFd, size: usize) -> io::Result<()> {
    let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
    // SAFETY: the option's value is a c_int that lives for the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A request's name for messages.
fn name(kind: u16) -> &'static str {
    match kind {
        RTM_GETLINK => "RTM_GETLINK",
        RTM_GETADDR => "RTM_GETADDR",
        RTM_GETROUTE => "RTM_GETROUTE",
        RTM_GETNEIGH => "RTM_GETNEIGH",
        RTM_NEWNEIGH => "RTM_NEWNEIGH",
        RTM_DELNEIGH => "RTM_DELNEIGH",
        RTM_GETNEXTHOP => "RTM_GETNEXTHOP",
        RTM_GETRULE => "RTM_GETRULE",
        _ => "a netlink request",
    }
}

/// The header of a dump that wants everything: `length` octets of zero but for the family.
pub(crate) fn wildcard(family: u8, length: usize) -> Vec<u8> {
    let mut body = vec![AF_UNSPEC; length];
    body[0] = family;
    body
}

/// Appends an attribute to a request's body.
pub(crate) fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = 4 + value.len();
    body.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len() + aligned(length) - length, 0);
}
