//! A passive BGP speaker: a routing daemon connects, as it would to an internal neighbour, and tells its routes. None is ever
//! told to it, only that there are none (End-of-RIB), which daemons that have restarted wait for.
//!
//! ```text
//! speaker      the handle                           neighbour   connections, which of them is the session
//! service      the thread: poll, read, write        session     state machine of one (RFC 4271 8)
//! connection   what is between octets and logic     restart     what is kept while it is away (RFC 4724, 9494, 7313)
//! callers      who has called and may become one
//! socket       listening, TCP-MD5, GTSM             update      routes: attributes, nlri, flow, limit
//! wire         header, short messages               open        OPEN, and what both agree on
//! ```
//!
//! From `neighbour` down everything is pure: octets and the time go in; octets, ends of connections and
//! [`FeedEvent`](super::feed::FeedEvent)s come out. What a peer sends is hostile until it is read: each piece is bounded, and
//! what is wrong costs what RFC 7606 says and is counted.
//!
//! netgauze-bgp-pkt writes our OPEN and reads the values of capabilities. UPDATEs are read here: it refuses a whole UPDATE
//! for one broken attribute, where RFC 7606 has us withdraw its routes or leave the attribute out, and takes some that are
//! broken (an empty list of communities). In tests it is what the reader here is held against.

pub mod attributes;
mod callers;
mod connection;
pub mod flow;
pub mod limit;
pub mod neighbour;
pub mod nlri;
pub mod notification;
pub mod open;
pub mod restart;
mod service;
pub mod session;
pub mod socket;
pub mod speaker;
pub mod table;
pub mod update;
mod view;
pub mod wire;

#[cfg(test)]
mod testing;

pub use service::UNNAMED;
pub use speaker::{Speaker, SpeakerCounts, Stranger};
