//! The speed of a link, by ioctl: `NETLINK_ROUTE` does not tell it, and sysfs shows the links of whoever mounted it.

use std::{
    ffi::c_char,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::net::UnixDatagram,
    },
};

use crate::source::event::Ifindex;

/// `ETHTOOL_GLINKSETTINGS` (include/uapi/linux/ethtool.h).
const GET_LINK_SETTINGS: u32 = 0x4c;
const SIOCETHTOOL: u32 = 0x8946;
/// `link_mode_masks_nwords` is an `s8`, and there are three masks.
const MASK_WORDS: usize = 3 * 127;
/// `SPEED_UNKNOWN`.
const UNKNOWN: u32 = u32::MAX;

/// `struct ethtool_link_settings` with room for its masks.
#[repr(C)]
struct LinkSettings {
    command: u32,
    /// Megabits each second.
    speed: u32,
    duplex: u8,
    port: u8,
    phy_address: u8,
    autonegotiation: u8,
    mdio_support: u8,
    crossover: u8,
    crossover_control: u8,
    mask_words: i8,
    others: [u8; 4],
    reserved: [u32; 7],
    masks: [u32; MASK_WORDS],
}

/// Bits each second that a link carries; `None` where there is no such link, it is down, or its driver does not tell.
pub fn speed(ifindex: Ifindex) -> Option<u64> {
    // Any socket will do, as long as it is of this network namespace.
    let socket = UnixDatagram::unbound().ok()?;
    let mut name: [c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    // SAFETY: the name is as long as the call may write.
    if unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr()) }.is_null() {
        return None;
    }
    // The first question is for the size of the masks, which the kernel tells as a negative number.
    let mut settings = ask(socket.as_fd(), name, 0)?;
    let words = settings.mask_words.checked_neg().filter(|words| *words > 0)?;
    settings = ask(socket.as_fd(), name, words)?;
    match settings.speed {
        0 | UNKNOWN => None,
        megabits => Some(u64::from(megabits) * 1_000_000),
    }
}

fn ask(socket: BorrowedFd<'_>, name: [c_char; libc::IFNAMSIZ], mask_words: i8) -> Option<Box<LinkSettings>> {
    let mut settings = Box::new(LinkSettings {
        command: GET_LINK_SETTINGS,
        speed: UNKNOWN,
        duplex: 0,
        port: 0,
        phy_address: 0,
        autonegotiation: 0,
        mdio_support: 0,
        crossover: 0,
        crossover_control: 0,
        mask_words,
        others: [0; 4],
        reserved: [0; 7],
        masks: [0; MASK_WORDS],
    });
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut *settings).cast(),
        },
    };
    // SAFETY: the request names a structure with room for as many masks as the kernel can write, and outlives the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    (answer == 0).then_some(settings)
}
