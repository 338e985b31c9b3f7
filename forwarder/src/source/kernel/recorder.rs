//! What the kernel says, datagram by datagram, into a file: everything as it stands, its announcements, and everything again
//! whenever a controller would ask for it. So what is played again makes of it what a controller made.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Policy;
use crate::netlink::{
    Error, dump,
    watch::{Watcher, poll, read_datagram},
};
use crate::source::event::{Event, Link};
use crate::source::record::{Output, OutputError};
use crate::source::tap::{Chunk, Kind};

/// How long to wait for the kernel before looking whether to stop.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often a dump is begun again that changes interrupted.
const ATTEMPTS: usize = 10;

/// A recording of the kernel has ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The kernel cannot be heard.
    #[error("cannot hear the kernel: {0}")]
    Kernel(#[from] Error),
    /// The file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Records until `stop` says so. Every table, in the network namespace of this thread.
///
/// # Errors
/// The kernel cannot be heard, or the file cannot be written any further.
pub fn record(output: &mut Output, stop: &dyn Fn() -> bool) -> Result<(), Failed> {
    // Watch first, then dump: what changes meanwhile waits in the socket.
    let mut watcher = Watcher::open()?;
    let mut policy = Policy::default();
    dump_into(output, &mut policy)?;
    while !stop() {
        poll([watcher.as_fd()], Some(PATIENCE))?;
        let mut events = Vec::new();
        let mut written = Ok(());
        let overrun = watcher.read_datagrams(&mut |datagram| {
            if written.is_ok() {
                written = output.chunk(&Chunk::now(Kind::Read, datagram));
            }
            if read_datagram(datagram, &mut events).is_err() {
                events.push(Event::Resync);
            }
        })?;
        written?;
        if overrun {
            output.chunk(&Chunk::now(Kind::Missed, &[0; 8]))?;
            events.push(Event::Resync);
        }
        if policy.pass(&mut events, Instant::now()).contains(&Event::Resync) {
            dump_into(output, &mut policy)?;
        }
    }
    Ok(())
}

fn dump_into(output: &mut Output, policy: &mut Policy) -> Result<(), Failed> {
    let started = Instant::now();
    dump::settle()?;
    for attempt in 1.. {
        output.chunk(&Chunk::now(Kind::Begin, &[]))?;
        let mut written = Ok(());
        let mut events = Vec::new();
        let dumped = dump::dump_datagrams(&mut |datagram| {
            if written.is_ok() {
                written = output.chunk(&Chunk::now(Kind::Read, datagram));
            }
            // Links come first; of what follows nothing is looked at.
            if !matches!(events.last(), Some(other) if !matches!(other, Event::Link(_))) {
                let _ = read_datagram(datagram, &mut events);
            }
        });
        written?;
        match dumped {
            Err(Error::Interrupted(_)) if attempt < ATTEMPTS => continue,
            other => other?,
        }
        output.chunk(&Chunk::now(Kind::End, &[]))?;
        let links: Vec<Link> = events
            .into_iter()
            .filter_map(|event| match event {
                Event::Link(link) => Some(link),
                _ => None,
            })
            .collect();
        policy.dumped(&links, started, Instant::now());
        return Ok(());
    }
    Ok(())
}
