//! What the drivers of interfaces say: what they received and sent, and how fast the link is.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{
    locked::locked,
    netlink::{Error, command::Commander, ethtool},
    source::event::Ifindex,
    stats::LinkCounts,
};

/// A link's speed is asked for this often: some drivers ask their card's firmware, and all of them hold the kernel's lock on
/// links meanwhile.
const SPEED_FOR: Duration = Duration::from_secs(10);

/// When a speed was asked for, and the answer.
type Speeds = HashMap<Ifindex, (Instant, Option<u64>)>;

/// Asks them, in the network namespace of the thread that asks.
pub struct Drivers {
    commands: Mutex<Commander>,
    speeds: Mutex<Speeds>,
}

impl Drivers {
    /// With a socket of its own.
    ///
    /// # Errors
    /// The kernel's refusal of the socket.
    pub fn open() -> Result<Drivers, Error> {
        Ok(Drivers {
            commands: Mutex::new(Commander::open()?),
            speeds: Mutex::default(),
        })
    }

    /// What the driver of an interface says; `None` where there is no such interface.
    pub fn counts(&self, ifindex: Ifindex) -> Option<LinkCounts> {
        let speed = self.speed(ifindex);
        // Counters last: they are compared with those of the maps.
        let stats = locked(&self.commands).link_stats(ifindex).ok()?;
        Some(LinkCounts {
            received_packets: stats.rx_packets,
            received_bytes: stats.rx_bytes,
            sent_packets: stats.tx_packets,
            sent_bytes: stats.tx_bytes,
            speed,
        })
    }

    fn speed(&self, ifindex: Ifindex) -> Option<u64> {
        let known = locked(&self.speeds).get(&ifindex).copied();
        if let Some((asked, speed)) = known
            && asked.elapsed() < SPEED_FOR
        {
            return speed;
        }
        let speed = ethtool::speed(ifindex);
        let mut speeds = locked(&self.speeds);
        // Interfaces that are gone.
        speeds.retain(|_, (asked, _)| asked.elapsed() < 6 * SPEED_FOR);
        speeds.insert(ifindex, (Instant::now(), speed));
        speed
    }
}
