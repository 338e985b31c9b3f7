//! What drivers say of themselves, by ioctl (`SIOCETHTOOL`, include/uapi/linux/ethtool.h): `NETLINK_ROUTE` does not tell it,
//! and sysfs shows the links of whoever mounted it.
//!
//! Every question is a few words, the command first, into which the kernel writes its answer; where that has a length of its own, it
//! is asked for first.

use std::{
    ffi::c_char,
    io,
    os::{fd::AsRawFd, unix::net::UnixDatagram},
};

use super::wire::string;
use crate::source::event::Ifindex;

const SIOCETHTOOL: u32 = 0x8946;
/// `ETHTOOL_GDRVINFO`.
const GET_DRIVER: u32 = 0x03;
/// `ETHTOOL_GRINGPARAM`.
const GET_RINGS: u32 = 0x10;
/// `ETHTOOL_GSTRINGS`.
const GET_STRINGS: u32 = 0x1b;
/// `ETHTOOL_GSSET_INFO`.
const GET_STRING_SETS: u32 = 0x37;
/// `ETHTOOL_GRXFHINDIR`.
const GET_SPREAD: u32 = 0x38;
/// `ETHTOOL_GFEATURES`.
const GET_FEATURES: u32 = 0x3a;
/// `ETHTOOL_GCHANNELS`.
const GET_CHANNELS: u32 = 0x3c;
/// `ETHTOOL_GLINKSETTINGS`.
const GET_LINK_SETTINGS: u32 = 0x4c;

/// `ETH_SS_FEATURES`.
const FEATURES: u32 = 4;
/// `ETH_GSTRING_LEN`, octets.
const STRING: usize = 32;
/// Features, or rows of a spread, of which an answer is believed: some drivers have 2,048 rows, and there are under a hundred features.
const MOST: usize = 16_384;
/// `sizeof(struct ethtool_drvinfo)`, octets.
const DRIVER: usize = 196;
/// Words of `struct ethtool_link_settings` before its masks.
const LINK_SETTINGS: usize = 12;
/// `link_mode_masks_nwords`: its octet in that structure.
const MASK_WORDS: usize = 15;
/// Masks behind it: supported, advertised, the partner's.
const MASKS: usize = 3;
/// `SPEED_UNKNOWN`.
const UNKNOWN: u32 = u32::MAX;

/// A link's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Its name, such as "ixgbe" or "veth".
    pub name: String,
    /// Where the device is, for a PCI device such as "0000:03:00.0"; empty for a virtual one.
    pub bus: String,
}

/// Descriptors of each ring, and how many it could have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// For receiving.
    pub rx: u32,
    /// The most of them.
    pub rx_max: u32,
    /// For sending.
    pub tx: u32,
    /// The most of them.
    pub tx_max: u32,
}

/// Queues in use, those for both directions counted in each, and how many there could be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// For receiving.
    pub rx: u32,
    /// The most of them.
    pub rx_max: u32,
    /// For sending.
    pub tx: u32,
    /// The most of them.
    pub tx_max: u32,
}

/// A link, to be asked.
pub struct Ethtool {
    socket: UnixDatagram,
    name: [c_char; libc::IFNAMSIZ],
}

impl Ethtool {
    /// A link of the network namespace of this thread; `None` where there is none of that number.
    pub fn of(ifindex: Ifindex) -> Option<Ethtool> {
        // Any socket will do, as long as it is of this network namespace.
        let socket = UnixDatagram::unbound().ok()?;
        let mut name: [c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
        // SAFETY: the name is as long as the call may write.
        if unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr()) }.is_null() {
            return None;
        }
        Some(Ethtool { socket, name })
    }

    /// Asks; the answer stands in `words`. It must have room for all that the kernel writes for its command: every caller gives a
    /// buffer of the size that the structure of its command has, with the rows that it names.
    fn ask(&self, words: &mut [u32]) -> io::Result<()> {
        let mut request = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: words.as_mut_ptr().cast(),
            },
        };
        // SAFETY: the request names the words, which outlive the call and are as many as the kernel writes for this command.
        let answer = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
        if answer == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// The driver.
    pub fn driver(&self) -> Option<Driver> {
        let mut words = vec![0; DRIVER / 4];
        words[0] = GET_DRIVER;
        self.ask(&mut words).ok()?;
        let octets = octets(&words);
        // struct ethtool_drvinfo: command, then driver, version, fw_version and bus_info, 32 octets each.
        Some(Driver {
            name: string(&octets[4..36]),
            bus: string(&octets[100..132]),
        })
    }

    /// Bits each second that it carries; `None` where it is down, or its driver does not tell.
    pub fn speed(&self) -> Option<u64> {
        let mut words = vec![0; LINK_SETTINGS];
        words[0] = GET_LINK_SETTINGS;
        // The first question is for the size of the masks, which the kernel tells as a negative number.
        self.ask(&mut words).ok()?;
        let rows = octets(&words)[MASK_WORDS].cast_signed().checked_neg()?;
        let rows = usize::try_from(rows).ok().filter(|rows| *rows > 0)?;
        let mut words = vec![0; LINK_SETTINGS + MASKS * rows];
        words[0] = GET_LINK_SETTINGS;
        let word = MASK_WORDS / 4;
        let mut these = words[word].to_ne_bytes();
        these[MASK_WORDS % 4] = u8::try_from(rows).ok()?;
        words[word] = u32::from_ne_bytes(these);
        self.ask(&mut words).ok()?;
        match words[1] {
            0 | UNKNOWN => None,
            megabits => Some(u64::from(megabits) * 1_000_000),
        }
    }

    /// The rings, where the driver has any that it tells of.
    pub fn rings(&self) -> Option<Rings> {
        let mut words = [GET_RINGS, 0, 0, 0, 0, 0, 0, 0, 0];
        self.ask(&mut words).ok()?;
        let [_, rx_max, _, _, tx_max, rx, _, _, tx] = words;
        Some(Rings {
            rx,
            rx_max,
            tx,
            tx_max,
        })
    }

    /// The queues, where the driver tells.
    pub fn channels(&self) -> Option<Channels> {
        let mut words = [GET_CHANNELS, 0, 0, 0, 0, 0, 0, 0, 0];
        self.ask(&mut words).ok()?;
        let [_, rx_max, tx_max, _, combined_max, rx, tx, _, combined] = words;
        Some(Channels {
            rx: rx.saturating_add(combined),
            rx_max: rx_max.saturating_add(combined_max),
            tx: tx.saturating_add(combined),
            tx_max: tx_max.saturating_add(combined_max),
        })
    }

    /// Over which receive queues the hash of packets spreads them: the queue of each row of the indirection table.
    pub fn spread(&self) -> Option<Vec<u32>> {
        let mut head = [GET_SPREAD, 0];
        self.ask(&mut head).ok()?;
        let rows = head[1];
        let mut words = vec![
            0;
            2 + usize::try_from(rows)
                .ok()
                .filter(|rows| (1..=MOST).contains(rows))?
        ];
        words[..2].copy_from_slice(&[GET_SPREAD, rows]);
        self.ask(&mut words).ok()?;
        Some(words.split_off(2))
    }

    /// Its features by the names that `ethtool -k` has for them ("rx-lro", "rx-gro-hw", "rx-vlan-hw-parse"), and whether each is on.
    pub fn features(&self) -> Option<Vec<(String, bool)>> {
        // struct ethtool_sset_info: command, reserved, a mask of 64 bits, a count for each bit that is set.
        let mut head = [GET_STRING_SETS, 0, 1 << FEATURES, 0, 0];
        self.ask(&mut head).ok()?;
        let count = usize::try_from(head[4])
            .ok()
            .filter(|count| (1..=MOST).contains(count))?;
        let mut names = vec![0; 3 + count * STRING / 4];
        names[..3].copy_from_slice(&[GET_STRINGS, FEATURES, head[4]]);
        self.ask(&mut names).ok()?;
        let blocks = count.div_ceil(32);
        // struct ethtool_get_features_block: available, requested, active, never changed.
        let mut words = vec![0; 2 + blocks * 4];
        words[..2].copy_from_slice(&[GET_FEATURES, u32::try_from(blocks).ok()?]);
        self.ask(&mut words).ok()?;
        let names = octets(&names[3..]);
        let on = |bit: usize| words[2 + bit / 32 * 4 + 2] & 1 << (bit % 32) != 0;
        let named = names.chunks_exact(STRING).enumerate();
        Some(named.map(|(bit, name)| (string(name), on(bit))).collect())
    }
}

fn octets(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Bits each second that a link carries; `None` where there is no such link, it is down, or its driver does not tell.
pub fn speed(ifindex: Ifindex) -> Option<u64> {
    Ethtool::of(ifindex)?.speed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_tells_its_features_and_has_no_rings() {
        let loopback = Ethtool::of(1).expect("every namespace has one");
        let features = loopback.features().expect("the kernel knows them for every link");
        let find = |name: &str| features.iter().find(|(known, _)| known == name);
        assert_eq!(
            find("loopback"),
            Some(&("loopback".to_string(), true)),
            "{features:?}"
        );
        assert_eq!(find("rx-lro"), Some(&("rx-lro".to_string(), false)));
        assert_eq!(loopback.rings(), None);
        assert_eq!(loopback.spread(), None);
        assert_eq!(loopback.speed(), None);
        assert!(Ethtool::of(u32::MAX).is_none());
    }
}
