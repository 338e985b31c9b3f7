//! A flood of frames out of a host: as many as the ring in front of the other side's XDP takes without dropping any.
//!
//! A veth pair hands frames over in a ring of 256 (drivers/net/veth.c, `VETH_RING_SIZE`). One that finds it full is counted as
//! `tx_dropped` at the sending end: when that moves the flood sends slower, and while it does not, faster.

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use forwarder::netlink::command::Commander;

use crate::{
    lab::Lab,
    packets::bind,
    sandbox::{Home, index_of},
};

/// Frames of one system call.
const BATCH: usize = 32;
/// Calls between two looks at the ring.
const LOOK: u64 = 8;

/// What a flood was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Frames sent.
    pub sent: u64,
    /// Of these, those that found the ring full.
    pub dropped: u64,
    /// How long it took, seconds.
    pub seconds: f64,
}

/// A flood that goes on until it is stopped.
pub struct Flood {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Report>>>,
}

impl Flood {
    /// Begins to send these frames from a host's end of its cable, over and over.
    ///
    /// # Errors
    /// Not root.
    pub fn start(lab: &Lab, host: &str, frames: Vec<Vec<u8>>) -> Result<Flood> {
        let over = Arc::new(AtomicBool::new(false));
        let (stop, host) = (Arc::clone(&over), host.to_string());
        let netns = format!("/run/netns/{}", lab.netns(&host));
        let thread = std::thread::Builder::new().name("flood".into()).spawn(move || {
            Home::at(netns.as_ref())?.enter()?;
            send(&host, &frames, &stop)
        })?;
        Ok(Flood {
            over,
            thread: Some(thread),
        })
    }

    /// Stops it.
    ///
    /// # Errors
    /// It could not send.
    pub fn stop(mut self) -> Result<Report> {
        self.over.store(true, Relaxed);
        let thread = self.thread.take().context("stopped twice")?;
        thread.join().map_err(|_| anyhow!("the flood panicked"))?
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn send(ifname: &str, frames: &[Vec<u8>], over: &AtomicBool) -> Result<Report> {
    // SAFETY: three integers; the result is checked before it is owned. Protocol 0: it hears nothing.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("AF_PACKET");
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let ifindex = index_of(ifname)?;
    bind(&socket, ifindex, 0)?;
    let mut commander = Commander::open()?;
    let mut dropped = || -> Result<u64> { Ok(commander.link_stats(ifindex)?.tx_dropped) };
    let before = dropped()?;
    let (mut seen, mut calls, mut report) = (before, 0u64, Report::default());
    let mut pause = Duration::from_micros(50);
    let began = Instant::now();
    let mut next = frames.chunks(BATCH).cycle();
    while !over.load(Relaxed) {
        let Some(batch) = next.next() else { break };
        report.sent += transmit(&socket, batch) as u64;
        calls += 1;
        if calls.is_multiple_of(LOOK) {
            let now = dropped()?;
            pause = if now > seen {
                pause * 2 + Duration::from_micros(20)
            } else {
                pause * 31 / 32
            };
            seen = now;
        }
        let until = Instant::now() + pause;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
    report.seconds = began.elapsed().as_secs_f64();
    report.dropped = dropped()? - before;
    Ok(report)
}

/// Sends a batch; how many of it the kernel took.
fn transmit(socket: &OwnedFd, frames: &[Vec<u8>]) -> usize {
    let mut vectors: Vec<libc::iovec> = frames
        .iter()
        .map(|frame| libc::iovec {
            iov_base: frame.as_ptr().cast_mut().cast(),
            iov_len: frame.len(),
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: all zero is a message without address, control data or flags.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    // SAFETY: messages, vectors and frames live for the call, and their number is given; sending writes to no frame.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            messages.len() as u32,
            0,
        )
    };
    usize::try_from(sent).unwrap_or(0)
}
