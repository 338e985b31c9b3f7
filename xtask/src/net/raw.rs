//! Hand-made frames through AF_PACKET: what no honest socket would send.

use std::ffi::CString;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::ns;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTO_UDP: u8 = 17;

/// What a UDP frame says.
#[derive(Debug, Clone, Copy)]
pub struct Udp {
    /// Source and destination MAC addresses.
    pub macs: ([u8; 6], [u8; 6]),
    /// Source and destination addresses, of one family.
    pub addresses: (IpAddr, IpAddr),
    /// Source and destination ports.
    pub ports: (u16, u16),
    /// TTL or hop limit.
    pub ttl: u8,
    /// Payload bytes.
    pub payload: usize,
}

/// The frame's bytes, all checksums right, without FCS.
pub fn udp_frame(udp: &Udp) -> Result<Vec<u8>> {
    let length = u16::try_from(8 + udp.payload).context("payload too long")?;
    let mut datagram = Vec::with_capacity(usize::from(length));
    datagram.extend(udp.ports.0.to_be_bytes());
    datagram.extend(udp.ports.1.to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.resize(usize::from(length), 0x5a);

    let (ethertype, header, pseudo) = match udp.addresses {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = 20u16.checked_add(length).context("payload too long")?;
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0, 0, 0x40, 0, udp.ttl, PROTO_UDP, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            let mut pseudo = [source.octets(), destination.octets()].concat();
            pseudo.extend([0, PROTO_UDP]);
            pseudo.extend(length.to_be_bytes());
            (ETHERTYPE_IPV4, header, pseudo)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length.to_be_bytes());
            header.extend([PROTO_UDP, udp.ttl]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let mut pseudo = [source.octets(), destination.octets()].concat();
            pseudo.extend(u32::from(length).to_be_bytes());
            pseudo.extend([0, 0, 0, PROTO_UDP]);
            (ETHERTYPE_IPV6, header, pseudo)
        }
        (source, destination) => bail!("{source} and {destination} are of different families"),
    };
    // RFC 768: a computed sum of zero is sent as all ones.
    let sum = match checksum(&[&pseudo, &datagram]) {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(14 + header.len() + datagram.len());
    frame.extend(udp.macs.1);
    frame.extend(udp.macs.0);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(header);
    frame.extend(datagram);
    Ok(frame)
}

/// The Internet checksum (RFC 1071) over parts of even length, the last of any.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Sends frames, as they are, out of an interface of a namespace.
pub fn send(netns: &Path, ifname: &str, frames: &[Vec<u8>]) -> Result<()> {
    ns::run(netns, || {
        let name = CString::new(ifname)?;
        // SAFETY: the name is a live C string.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            bail!("no interface {ifname} in {}", netns.display());
        }
        // Protocol 0: a socket that only sends.
        // SAFETY: socket takes three integers; its result is checked before it becomes a descriptor that we own.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error()).context("AF_PACKET socket");
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: sockaddr_ll is plain integers, for which all zeroes is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = i32::try_from(index)?;
        for frame in frames {
            // SAFETY: frame and address are live and their sizes are given.
            let sent = unsafe {
                libc::sendto(
                    socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const address).cast(),
                    size_of::<libc::sockaddr_ll>() as libc::socklen_t,
                )
            };
            if usize::try_from(sent) != Ok(frame.len()) {
                return Err(std::io::Error::last_os_error()).with_context(|| format!("sending on {ifname}"));
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_sums_that_verify_to_zero() {
        let udp = Udp {
            macs: ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]),
            addresses: ([192, 0, 2, 1].into(), [33, 10, 1, 10].into()),
            ports: (1000, 2000),
            ttl: 64,
            payload: 33,
        };
        let frame = udp_frame(&udp).unwrap();
        assert_eq!(frame.len(), 14 + 20 + 8 + 33);
        assert_eq!(checksum(&[&frame[14..34]]), 0);
        let pseudo = [&frame[26..34], &[0, PROTO_UDP][..], &frame[38..40]].concat();
        assert_eq!(checksum(&[&pseudo, &frame[34..]]), 0);
    }
}
