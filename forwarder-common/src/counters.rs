//! Counters. Written by the XDP program (and its tracepoint companions) only, on the CPU they belong to; never zeroed.

use crate::{plain, reason::Reason};

/// Packets and bytes. Bytes are the ingress frame without FCS, tags included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}
plain!(Counter, 16);

impl Counter {
    /// The sum of two counters.
    #[must_use]
    pub const fn plus(self, other: Counter) -> Counter {
        Counter {
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }

    /// What was counted since `baseline`.
    #[must_use]
    pub const fn since(self, baseline: Counter) -> Counter {
        Counter {
            packets: self.packets.wrapping_sub(baseline.packets),
            bytes: self.bytes.wrapping_sub(baseline.bytes),
        }
    }
}

/// The packet that a CPU forwarded last and has not counted by prefix yet, packed in one word.
///
/// With a full table a prefix's counter is in no cache. Counted at the packet's end, that wait would stand alone; counted
/// while the next packet waits for the forwarding table, it costs nothing. So it is put down here and counted one packet
/// later; who reads a prefix's counter adds it ([`Pending::read`]). Where packets are counted by their source, too, that has a
/// word of its own beside it.
///
/// ```text
/// bits 0..21 slot (0: nothing pending), 21..40 octets, 40 being counted now, 41..64 changes with every packet
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Pending {
    /// The word: the slot is that of the destination's prefix.
    pub word: u64,
    /// Another, of the same packet or of one before it: the slot is that of the source's prefix.
    pub source: u64,
    /// How far this CPU's next sample is ([`crate::sample`]). It stands here because every packet that is forwarded has this line.
    pub skip: u64,
    /// Room up to a cache line: each CPU has its own.
    pub reserved: [u64; 5],
}
plain!(Pending, 64);

impl Pending {
    const BYTES_SHIFT: u32 = 21;
    const BYTES_MASK: u64 = (1 << 19) - 1;
    /// Set while the packet is being counted.
    pub const COUNTING: u64 = 1 << 40;
    const NEXT: u64 = 1 << 41;

    /// The word for a packet of `bytes` octets that went to a slot, after `none`, which says that the one before is counted.
    #[inline(always)]
    pub const fn packet(none: u64, slot: u32, bytes: usize) -> u64 {
        none | slot as u64 | (bytes as u64 & Self::BYTES_MASK) << Self::BYTES_SHIFT
    }

    /// The word that says that `before` is counted.
    #[inline(always)]
    pub const fn none(before: u64) -> u64 {
        (before & !(Self::NEXT - 1)).wrapping_add(Self::NEXT)
    }

    /// Slot of the packet; 0 where there is none.
    #[inline(always)]
    pub const fn slot(word: u64) -> u32 {
        word as u32 & crate::fib::SLOT_MAX
    }

    /// Octets of the packet.
    #[inline(always)]
    pub const fn bytes(word: u64) -> u64 {
        word >> Self::BYTES_SHIFT & Self::BYTES_MASK
    }

    /// What a slot has counted on one CPU, the pending packet included. `word` reads the CPU's word, `counter` the slot's
    /// counter; both are read until they belong together.
    pub fn read(slot: u32, word: impl Fn() -> u64, counter: impl Fn() -> Counter) -> Counter {
        // A CPU changes its word every packet, some hundred nanoseconds apart: the first or second try fits.
        const TRIES: usize = 1000;
        let mut before = word();
        for _ in 0..TRIES {
            let counted = counter();
            let after = word();
            if before == after && after & Self::COUNTING == 0 {
                return if Self::slot(after) == slot && slot != 0 {
                    counted.plus(Counter {
                        packets: 1,
                        bytes: Self::bytes(after),
                    })
                } else {
                    counted
                };
            }
            before = after;
        }
        counter()
    }
}

/// One port's counters on one CPU, indexed by [`Reason::index`].
pub type ReasonCounters = [Counter; Reason::SLOTS];

/// Why a frame for which the program returned `XDP_REDIRECT` was not transmitted, from the kernel's tracepoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EgressError {
    /// `-ENETDOWN`: the egress interface is down.
    Down = 0,
    /// `-EMSGSIZE`: larger than the egress interface takes.
    TooBig = 1,
    /// `-EOPNOTSUPP`: the egress driver has no `ndo_xdp_xmit`.
    NotSupported = 2,
    /// `-ENXIO`: the egress driver has no XDP transmit queue (on veth: the peer has no NAPI).
    NoQueue = 3,
    /// `-ENOSPC` or a short count: the transmit queue was full.
    QueueFull = 4,
    /// Any other errno.
    Other = 5,
}

impl EgressError {
    /// Every kind, in counter order.
    pub const ALL: [EgressError; 6] = [
        EgressError::Down,
        EgressError::TooBig,
        EgressError::NotSupported,
        EgressError::NoQueue,
        EgressError::QueueFull,
        EgressError::Other,
    ];

    /// Stable name for metrics and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            EgressError::Down => "down",
            EgressError::TooBig => "too-big",
            EgressError::NotSupported => "not-supported",
            EgressError::NoQueue => "no-queue",
            EgressError::QueueFull => "queue-full",
            EgressError::Other => "other",
        }
    }

    /// The kind for a negative errno as the tracepoints carry it; 0 stands for a short count.
    pub const fn from_errno(errno: i32) -> EgressError {
        match errno {
            -100 => EgressError::Down,
            -90 => EgressError::TooBig,
            -95 => EgressError::NotSupported,
            -6 => EgressError::NoQueue,
            -28 | 0 => EgressError::QueueFull,
            _ => EgressError::Other,
        }
    }
}

/// One egress port on one CPU. `forwarded` is written by the XDP program, the rest by the tracepoint programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct EgressCounters {
    /// The program returned `XDP_REDIRECT` to this port.
    pub forwarded: Counter,
    /// Frames the driver took (`xdp_devmap_xmit`, sent).
    pub transmitted: u64,
    /// Frames lost between the verdict and the driver's queue (`xdp_redirect_err`), by [`EgressError`].
    pub redirect_errors: [u64; 6],
    /// Frames the driver refused (`xdp_devmap_xmit`, drops), by [`EgressError`].
    pub transmit_errors: [u64; 6],
    /// Room up to two cache lines.
    pub reserved: u64,
}
plain!(EgressCounters, 128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_subtracts_a_baseline_even_across_a_wrap() {
        let baseline = Counter {
            packets: u64::MAX - 1,
            bytes: 10,
        };
        let now = baseline.plus(Counter {
            packets: 5,
            bytes: 300,
        });
        assert_eq!(
            now.since(baseline),
            Counter {
                packets: 5,
                bytes: 300
            }
        );
    }

    #[test]
    fn errors_have_their_index() {
        for (index, error) in EgressError::ALL.iter().enumerate() {
            assert_eq!(*error as usize, index);
        }
        assert_eq!(EgressError::from_errno(-100), EgressError::Down);
        assert_eq!(EgressError::from_errno(-12345), EgressError::Other);
    }

    #[test]
    fn a_pending_packet_is_counted_once() {
        let word = Pending::packet(Pending::none(u64::MAX), 77, 1514);
        assert_eq!((Pending::slot(word), Pending::bytes(word)), (77, 1514));
        assert_eq!(
            (Pending::slot(Pending::none(word)), word & Pending::COUNTING),
            (0, 0)
        );
        assert_ne!(Pending::none(word), Pending::none(Pending::none(word)));
        let counted = Counter {
            packets: 5,
            bytes: 500,
        };
        let read = |slot| Pending::read(slot, || word, || counted);
        assert_eq!(
            read(77),
            Counter {
                packets: 6,
                bytes: 2014
            }
        );
        assert_eq!(read(78), counted);
        // The program counts it while it is read: before, half-way, after.
        let step = core::cell::Cell::new(0);
        let words = [
            word,
            word | Pending::COUNTING,
            Pending::none(word),
            Pending::none(word),
        ];
        let read = Pending::read(
            77,
            || words[step.replace(step.get() + 1).min(3)],
            || {
                if step.get() > 1 {
                    counted.plus(Counter {
                        packets: 1,
                        bytes: 1514,
                    })
                } else {
                    counted
                }
            },
        );
        assert_eq!(
            read,
            Counter {
                packets: 6,
                bytes: 2014
            }
        );
    }
}
