//! Figures: from the memory of the maps to rows that can be shown, sent and scraped.
//!
//! Everything here reads [`Tables`](crate::dataplane::Tables) and nothing else, so it gives the same answer in the
//! controller, from pins that no controller serves, and on the heap in tests. Time and driver counters are inputs.
//!
//! Rows are flat and their fields are the JSON: packets, octets, seconds, no units inside values.

pub mod accounts;
pub mod attributes;
pub mod blackholes;
pub mod candidates;
pub mod counters;
pub mod drops;
pub mod interfaces;
pub mod json;
pub mod limits;
pub mod lookup;
pub mod losses;
pub mod names;
pub mod path;
pub mod prefixes;
pub mod rates;
pub mod residue;
pub mod routes;
pub mod rules;
#[cfg(test)]
pub(crate) mod sample;
pub mod sampler;
pub mod status;

pub use blackholes::{BlackholeRow, blackholes};
pub use candidates::CandidateRow;
pub use counters::{By, CounterRow, counters};
pub use drops::{DropRow, drops};
pub use interfaces::{InterfaceRow, interfaces};
pub use limits::{LimitRow, limits};
pub use rates::RateRow;
pub use routes::{RouteRow, Routes};
pub use rules::RuleRow;
pub use status::{StatusRow, status};

/// What a driver says of its interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Packets received.
    pub received_packets: u64,
    /// Their octets.
    pub received_bytes: u64,
    /// Packets sent, the kernel's among them.
    pub sent_packets: u64,
    /// Their octets.
    pub sent_bytes: u64,
    /// Bits each second that the link carries; `None` where the driver does not tell.
    pub speed: Option<u64>,
}

/// What a driver says, by ifindex; `None` where nobody can tell.
pub type LinkStats = dyn Fn(u32) -> Option<LinkCounts> + Send + Sync;

/// Every source's routes for what is selected; `None` where the controller does not answer.
pub type Candidates = dyn Fn(routes::Selection) -> Option<Vec<CandidateRow>> + Send + Sync;
