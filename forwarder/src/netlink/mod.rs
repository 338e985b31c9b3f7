//! Everything that is said to and heard from the kernel over `NETLINK_ROUTE`.
//!
//! No type of a netlink crate leaves this module: their interfaces change often, ours are in
//! [`crate::source::event`]. The netlink-packet-route crate writes the requests. What the kernel sends is read by
//! hand, for three reasons: the crate rejects a whole message for one attribute whose size a newer kernel changed, it knows
//! neither next-hop objects nor netconf, and a dump of a full table has to be read in a fraction of a second.
//!
//! - [`socket`]: requests, acknowledgements, dumps, and what can go wrong with them ([`Error`])
//! - [`parse`]: octets into our types, pure
//! - [`watch`]: the stream of changes; [`dump`]: the state as it stands
//! - [`relayed`]: the same messages from a routing daemon
//! - [`sockets`]: TCP connections, over `NETLINK_SOCK_DIAG`
//! - [`command`], [`lookup`]: neighbours to keep alive, and what the kernel would do with a packet
//! - [`ethtool`]: what drivers say of themselves, by ioctl; [`netdev`]: what their XDP can
//! - [`nftables`]: chains on the way of forwarded packets

pub mod command;
mod constants;
pub mod dump;
mod error;
pub mod ethtool;
pub mod lookup;
pub mod netdev;
pub mod nftables;
pub mod parse;
pub mod relayed;
pub mod socket;
pub mod sockets;
#[cfg(test)]
mod tests;
pub mod watch;
mod wire;

pub use error::{Error, Malformed};
