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
}
