//! What a driver's XDP can, by generic netlink (family "netdev", Linux 6.3; include/uapi/linux/netdev.h and genetlink.h).

use netlink_sys::protocols::NETLINK_GENERIC;

use super::{
    Error, Malformed,
    socket::{REQUEST_BUFFER, Socket, push_attribute},
    wire::{Attributes, u16_at, u64_at},
};
use crate::source::event::Ifindex;

/// `GENL_ID_CTRL`: the family that knows the others.
const CONTROL: u16 = 16;
/// `CTRL_CMD_GETFAMILY`.
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_ID`.
const FAMILY_ID: u16 = 1;
/// `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_NAME: u16 = 2;
/// `NETDEV_CMD_DEV_GET`.
const GET_DEVICE: u8 = 1;
/// `NETDEV_A_DEV_IFINDEX`.
const DEVICE: u16 = 1;
/// `NETDEV_A_DEV_XDP_FEATURES`.
const XDP_FEATURES: u16 = 3;
/// Length of `struct genlmsghdr`: command, version, two reserved octets.
const HEADER: usize = 4;

/// `enum netdev_xdp_act`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    /// From the kernel's word.
    pub const fn from_bits(bits: u64) -> XdpFeatures {
        XdpFeatures(bits)
    }

    /// Programs run in the driver, and may let packets pass, drop them, or send them back (`NETDEV_XDP_ACT_BASIC`).
    pub const fn native(self) -> bool {
        self.0 & 1 != 0
    }

    /// They may send packets out by other interfaces (`NETDEV_XDP_ACT_REDIRECT`).
    pub const fn redirects(self) -> bool {
        self.0 & 2 != 0
    }

    /// Others may send out by it (`NETDEV_XDP_ACT_NDO_XMIT`). Some drivers set it only once a program is attached.
    pub const fn transmits(self) -> bool {
        self.0 & 4 != 0
    }

    /// Frames in several buffers come to programs that say they can read them (`NETDEV_XDP_ACT_RX_SG`).
    pub const fn fragments(self) -> bool {
        self.0 & 32 != 0
    }

    /// Others may send such frames out by it (`NETDEV_XDP_ACT_NDO_XMIT_SG`).
    pub const fn transmits_fragments(self) -> bool {
        self.0 & 64 != 0
    }
}

/// What the XDP of each of these interfaces can; nothing where this kernel does not tell.
///
/// # Errors
/// No socket, or an answer that cannot be read.
pub fn xdp_features(interfaces: &[Ifindex]) -> Result<Vec<(Ifindex, XdpFeatures)>, Error> {
    let mut socket = Socket::speaking(NETLINK_GENERIC, REQUEST_BUFFER)?;
    let mut body = vec![GET_FAMILY, 1, 0, 0];
    push_attribute(&mut body, FAMILY_NAME, b"netdev\0");
    let family = match socket.answer(CONTROL, &body) {
        Ok(answer) => u16_at(find(&answer, FAMILY_ID)?, 0)?,
        Err(Error::Refused {
            errno: libc::ENOENT, ..
        }) => return Ok(Vec::new()),
        Err(why) => return Err(why),
    };
    let mut found = Vec::new();
    for &ifindex in interfaces {
        let mut body = vec![GET_DEVICE, 1, 0, 0];
        push_attribute(&mut body, DEVICE, &ifindex.to_ne_bytes());
        match socket.answer(family, &body) {
            Ok(answer) => {
                let bits = u64_at(find(&answer, XDP_FEATURES)?, 0)?;
                found.push((ifindex, XdpFeatures::from_bits(bits)));
            }
            // It has gone meanwhile.
            Err(Error::Refused {
                errno: libc::ENODEV, ..
            }) => {}
            Err(why) => return Err(why),
        }
    }
    Ok(found)
}

fn find(body: &[u8], wanted: u16) -> Result<&[u8], Malformed> {
    for attribute in Attributes::behind(body, HEADER)? {
        let (kind, value) = attribute?;
        if kind == wanted {
            return Ok(value);
        }
    }
    Err(Malformed(
        "an answer of generic netlink without what was asked for",
    ))
}
