//! What a packet costs: the program as it forwards, on the tables as they are, with counters of its own.
//!
//! A second instance ([`Purpose::Bench`]), run by `BPF_PROG_TEST_RUN`, in which a redirect is asked for and no frame sent. Every
//! repetition goes through a harness (`forwarder_common::harness`), whose own time is measured likewise and taken off.

use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun,
    maps::{Map, MapData, ProgramArray, RingBuf},
    programs::{ProgramFd, TestRunOptions, Xdp},
};
use forwarder_common::{
    counters::Counter,
    harness::{self, Course, Packet},
    maps,
    reason::Reason,
};

use super::{
    Array, Region, Sizes,
    pins::Pins,
    program::{self, Purpose, XDP},
    tracer::{context, run_frame},
};
use crate::{clock, source::event::Ifindex};

/// The harness, as the build made it.
static HARNESS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/forwarder-harness.o"));

/// `XDP_REDIRECT`.
pub const REDIRECT: u32 = 4;
/// `XDP_ABORTED`: what the harness answers where it called nothing.
const ABORTED: u32 = 0;
/// `XDP_TX`: what [`harness::IDLE`] answers.
const IDLE: u32 = 3;

/// What the harness calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// A program that does nothing: the harness alone.
    Idle,
    /// The program that forwards.
    Forwarder,
}

/// A course that was laid: packets that come one after the other, again and again.
#[derive(Clone, Copy, Debug)]
pub struct Laid {
    /// IPv6.
    pub six: bool,
    /// Where it begins in what was laid.
    pub first: usize,
    /// How many; a power of two.
    pub packets: usize,
}

/// A measuring instance, and the harness it runs in.
pub struct Bencher {
    live: Ebpf,
    harness: Ebpf,
    called: ProgramArray<MapData>,
    packets: Region,
    course: Array<Course>,
    reasons: Array<Counter>,
    samples: RingBuf<MapData>,
    sizes: Sizes,
}

impl Bencher {
    /// Loads an instance on the tables of these pins, and a harness with room for so many packets.
    ///
    /// # Errors
    /// No pins, or the kernel's refusal.
    pub fn open(pins: &Pins, packets: usize) -> Result<Bencher> {
        let sizes = Sizes::of(&pins.meta()?);
        let mut opened = program::open(pins, sizes, Purpose::Bench)?;
        load(&mut opened.ebpf, XDP)?;
        let counters = opened.tables.get(maps::REASON_COUNTERS);
        let counters = counters.context("the object counts no reasons")?;
        let length = sizes.cpus as usize * sizes.ports as usize * Reason::SLOTS;
        let octets = length * size_of::<Counter>();
        let region =
            Region::map(counters.fd().as_fd(), octets, false).context("cannot map REASON_COUNTERS")?;
        let mut live = opened.ebpf;
        let samples = live
            .take_map(maps::SAMPLES)
            .context("the object has no SAMPLES")?;
        let mut harness = EbpfLoader::new()
            .map_max_entries(harness::PACKETS, u32::try_from(packets)?)
            .load(HARNESS)
            .context("cannot load the harness")?;
        for name in [harness::HARNESS4, harness::HARNESS6, harness::IDLE] {
            load(&mut harness, name)?;
        }
        let called = harness.take_map(harness::CALLED).context("no CALLED")?;
        Ok(Bencher {
            called: ProgramArray::try_from(called)?,
            packets: region_of(&mut harness, harness::PACKETS, packets * size_of::<Packet>())?,
            course: Array::new(region_of(&mut harness, harness::COURSE, size_of::<Course>())?, 1),
            reasons: Array::new(region, length),
            samples: RingBuf::try_from(samples).context("SAMPLES")?,
            live,
            harness,
            sizes,
        })
    }

    /// Lays a packet at this place.
    pub fn lay(&self, at: usize, packet: Packet) {
        for (number, word) in packet.words.iter().enumerate() {
            let offset = at * size_of::<Packet>() + number * 8;
            self.packets
                .u64(offset)
                .store(*word, std::sync::atomic::Ordering::Release);
        }
    }

    /// Runs a frame once, as if it had come in on an interface of this network namespace; answers the verdict.
    ///
    /// # Errors
    /// As [`run_frame`].
    pub fn once(&self, ifindex: Ifindex, frame: &[u8]) -> Result<u32> {
        Ok(run_frame(xdp(&self.live, XDP)?, ifindex, frame)?.0)
    }

    /// Runs so many packets of a course, from the one that is at its turn, in frames like this one; answers nanoseconds for each,
    /// the harness's among them.
    ///
    /// The time is this thread's on the CPU, which unlike the kernel's answer is not in whole nanoseconds and has no time of other
    /// processes in it.
    ///
    /// # Errors
    /// The kernel's refusal, or a signal.
    pub fn run(
        &mut self,
        called: Called,
        course: Laid,
        come: u64,
        ifindex: Ifindex,
        frame: &[u8],
        packets: u32,
    ) -> Result<f64> {
        let program = match called {
            Called::Idle => fd(&self.harness, harness::IDLE)?,
            Called::Forwarder => fd(&self.live, XDP)?,
        };
        self.called
            .set(0, &program, 0)
            .context("the kernel does not let the harness call the program")?;
        self.course.set(
            0,
            &Course {
                come,
                first: course.first as u64,
                mask: course.packets as u64 - 1,
                to: word(frame, 0),
                from: word(frame, 8) & u64::from(u32::MAX),
                reserved: [0; 3],
            },
        );
        // Nobody else takes them, and what finds no room costs less.
        while self.samples.next().is_some() {}
        let name = if course.six {
            harness::HARNESS6
        } else {
            harness::HARNESS4
        };
        let harness = xdp(&self.harness, name)?;
        let (context, mut out) = (context(ifindex, frame.len()), vec![0; frame.len() + 64]);
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            repeat: packets,
            ..TestRunOptions::new()
        };
        let start = clock::thread_ns();
        let answer = harness
            .test_run(options)
            .context("the kernel does not run the program")?
            .return_value;
        let taken = clock::thread_ns() - start;
        // The last packet's. One that is not forwarded is the program's to answer; that nothing was called is the harness's.
        ensure!(
            answer != ABORTED && (called == Called::Forwarder || answer == IDLE),
            "the harness answers {answer}"
        );
        Ok(taken as f64 / f64::from(packets))
    }

    /// How many packets have left with each reason so far, over all ports.
    pub fn exits(&self) -> [u64; Reason::SLOTS] {
        let mut sums = [0; Reason::SLOTS];
        for entry in 0..(self.sizes.cpus * self.sizes.ports) as usize {
            for (reason, sum) in sums.iter_mut().enumerate() {
                *sum += self.reasons.get(entry * Reason::SLOTS + reason).packets;
            }
        }
        sums
    }

    /// Octets of the program as the kernel has it; those of one with other numbers in it are as many.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn length(&self) -> Result<u32> {
        let info = xdp(&self.live, XDP)?.info()?;
        info.size_translated()
            .context("this kernel does not tell a program's length")
    }
}

/// Eight octets of a frame, which has as many.
fn word(frame: &[u8], at: usize) -> u64 {
    let mut octets = [0; 8];
    if let Some(found) = frame.get(at..at + 8) {
        octets.copy_from_slice(found);
    }
    u64::from_ne_bytes(octets)
}

fn load(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let program: &mut Xdp = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no {name}"))?
        .try_into()?;
    program::load(name, || program.load())
}

fn xdp<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Xdp> {
    let program = ebpf.program(name);
    Ok(program
        .with_context(|| format!("the object has no {name}"))?
        .try_into()?)
}

fn fd(ebpf: &Ebpf, name: &str) -> Result<ProgramFd> {
    Ok(xdp(ebpf, name)?.fd()?.try_clone()?)
}

/// The memory of an array; the programs that use it are loaded.
fn region_of(ebpf: &mut Ebpf, name: &str, octets: usize) -> Result<Region> {
    let map = ebpf
        .take_map(name)
        .with_context(|| format!("the harness has no {name}"))?;
    let Map::Array(data) = map else {
        anyhow::bail!("{name} is no array")
    };
    Region::map(data.fd().as_fd(), octets, true).with_context(|| format!("cannot map {name} into memory"))
}
