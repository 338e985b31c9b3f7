//! One packet through the real program, step by step, leaving no mark.
//!
//! A second instance of the program on the shared tables, with notes and with counters of its own, run by
//! `BPF_PROG_TEST_RUN`.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use aya::{
    Ebpf, TestRun,
    programs::{TestRunOptions, Xdp},
};
use forwarder_common::{maps, trace::Trace};

use super::{
    Array, Region,
    pins::Pins,
    program::{self, Purpose, TRACED},
};

/// What became of a packet.
#[derive(Clone, Debug)]
pub struct Traced {
    /// `XDP_DROP` 1, `XDP_PASS` 2, `XDP_REDIRECT` 4.
    pub action: u32,
    /// The packet as the program left it.
    pub packet: Vec<u8>,
    /// The steps.
    pub trace: Trace,
}

/// A tracing instance.
pub struct Tracer {
    ebpf: Ebpf,
    trace: Array<Trace>,
}

/// `struct xdp_md`, include/uapi/linux/bpf.h: six `u32`.
const CONTEXT: usize = 24;

impl Tracer {
    /// Loads a tracing instance on the tables of these pins.
    ///
    /// # Errors
    /// No pins, or the kernel's refusal.
    pub fn open(pins: &Pins) -> Result<Tracer> {
        let meta = pins.meta()?;
        let sizes = super::Sizes::of(&meta);
        let mut opened = program::open(pins, sizes, Purpose::Trace)?;
        let program: &mut Xdp = opened
            .ebpf
            .program_mut(TRACED)
            .context("the object has no XDP program")?
            .try_into()?;
        program::load(TRACED, || program.load())?;
        let mut ebpf = opened.ebpf;
        let map = ebpf
            .take_map(maps::TRACE)
            .context("the object has no trace map")?;
        let aya::maps::Map::Array(data) = map else {
            anyhow::bail!("the trace map is no array")
        };
        let region = Region::map(data.fd().as_fd(), size_of::<Trace>(), true).context("cannot map TRACE")?;
        Ok(Tracer {
            ebpf,
            trace: Array::new(region, 1),
        })
    }

    /// Instructions the verifier looked at for the tracing program.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn verified_instructions(&self) -> Result<u32> {
        program::verified_instructions(&self.ebpf, TRACED)
    }

    /// Runs a frame as if it had come in on an interface of this network namespace.
    ///
    /// # Errors
    /// No such interface, or a frame the kernel does not take (shorter than an Ethernet header).
    pub fn run(&mut self, ifindex: u32, packet: &[u8]) -> Result<Traced> {
        self.trace.set(0, &Trace::default());
        let program: &Xdp = self
            .ebpf
            .program(TRACED)
            .context("the object has no XDP program")?
            .try_into()?;
        let (action, packet) = run_frame(program, ifindex, packet)?;
        Ok(Traced {
            action,
            packet,
            trace: self.trace.get(0),
        })
    }
}

/// The context of a frame of so many octets that has come in there.
pub(super) fn context(ifindex: u32, octets: usize) -> [u8; CONTEXT] {
    let mut context = [0u8; CONTEXT];
    context[4..8].copy_from_slice(&(octets as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    context
}

/// Runs a frame through a loaded program as if it had come in on an interface of this network namespace. Answers the
/// verdict and the frame as the program left it.
///
/// # Errors
/// No such interface, or a frame the kernel does not take (shorter than an Ethernet header).
pub fn run_frame(program: &Xdp, ifindex: u32, packet: &[u8]) -> Result<(u32, Vec<u8>)> {
    run_split(program, ifindex, packet, packet.len())
}

/// The same of a frame of which only so many octets are in the first buffer, or as many as fit. Linux 6.18 and later take fewer than
/// fit, and some before.
pub(super) fn run_split(program: &Xdp, ifindex: u32, packet: &[u8], first: usize) -> Result<(u32, Vec<u8>)> {
    let context = context(ifindex, first);
    let mut out = vec![0u8; packet.len() + 64];
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        })
        .with_context(|| {
            format!(
                "the kernel does not run a frame of {} octets on ifindex {ifindex}",
                packet.len()
            )
        })?;
    out.truncate(result.data_size_out as usize);
    Ok((result.return_value, out))
}
