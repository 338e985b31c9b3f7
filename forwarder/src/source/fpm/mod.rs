//! Routes from FRR by FPM: zebra's plugin `dplane_fpm_nl` connects to us and says what it would tell the kernel, in netlink.
//!
//! - `frame`: the framing; `crate::netlink::relayed`: the messages, by the kernel's parsers
//! - `objects`, `table`: next-hop objects and routes; `session`: when a table is whole, stale, gone
//! - `listen`: the socket and the thread
//!
//! All but the last take octets and time and give events, so they are tested with neither.
//!
//! In zebra's configuration: `fpm address 127.0.0.1 port 2620`, and `-M dplane_fpm_nl` among its options; with or without
//! `fpm use-next-hop-groups`.
//!
//! With `offload = true` zebra is told what became of each route: FRR 8.5 and later read routes with `RTM_F_OFFLOAD` on this
//! connection (`fpm_read` in zebra/dplane_fpm_nl.c), for `bgp suppress-fib-pending` with zebra's option
//! `--asic-offload=notify_on_offload`. FRR 8.4, which is Debian 12's, throws away whatever it reads. Without that option nobody
//! needs it: the kernel has every route that we have, and forwards what we do not (docs/fpm.md).

mod frame;
mod listen;
mod objects;
mod session;
mod table;

#[cfg(test)]
mod tests;

pub use listen::{Error, Fpm};
pub use session::Session;

use crate::source::octets;

/// Octets of a fault that are shown.
const SHOWN: usize = 32;

/// Why a connection cannot go on, with the octets that say so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", behind(.bytes))]
pub struct Fault {
    /// What is wrong.
    pub reason: String,
    /// The octets, the first [`SHOWN`] of them.
    pub bytes: Vec<u8>,
}

impl Fault {
    fn new(reason: String, bytes: &[u8]) -> Self {
        Self {
            reason,
            bytes: bytes[..bytes.len().min(SHOWN)].to_vec(),
        }
    }
}

/// The octets in brackets, where there are any.
fn behind(bytes: &[u8]) -> String {
    match bytes {
        [] => String::new(),
        _ => format!(" ({})", octets::shown(bytes, SHOWN)),
    }
}
