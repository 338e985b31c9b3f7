//! The shadow check: every second some prefixes are asked for in the tables and in the kernel, and what differs is named.
//!
//! `forwarder verify` asks for all of them when somebody wants to know. This asks for a few all the time: those that packets went to
//! lately, and one after the other all that are laid, each by an address inside it that is drawn anew. The tables are read by the
//! program's own walk, not from the controller's books: so a word that was not written, or that somebody else wrote, is found
//! like a route that was missed.
//!
//! Routes change while they are compared, so a difference has to be there at [`suspects::LOOKS`] looks in a row, a second
//! apart, before it is one. While the controller knows that its tables are not the kernel's (its dump, a restart that waits for sources)
//! nothing is looked at. Where daemons' feeds forward beside the kernel's routes, the controller is asked whose route counts
//! for the prefix: what a feed says is not held against the kernel.

pub mod agreement;
pub mod choose;
pub mod suspects;
mod watch;

pub use self::{
    suspects::{Difference, Shadow},
    watch::{Needs, start},
};
