//! The way from generator to sink.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::TestRun;
use aya::programs::xdp::XdpLink;
use aya::programs::{TestRunAttrs, TestRunOptions};
use forwarder_bench_ebpf::abi::{FRAME, NOTHING, TTL, sunk_answer};
use xtask::interrupt;

use super::{LOSS, SAMPLE};
use crate::frame;
use crate::object::Object;
use crate::report::median;
use crate::router::{Router, index_of};
use crate::table::{Family, Table};
use crate::trace::Trace;

/// Frames that the generator sends before the router gets its turn, as many as NAPI takes at a time. A veth's ring holds
/// 256.
const BATCH: u32 = 64;

/// Frames between two looks at the clock: a fifth of a second's worth. A call of the kernel that sends live frames ends at a
/// tick of its timer, so shorter slices measure the ticks (4 ms at 250 Hz); the median counts, for what other processes take
/// away is not in all.
const SLICE: usize = 1 << 17;

/// The way, with sinks at its end.
pub struct Lane<'a> {
    router: &'a Router,
    /// The generator's end of the ingress cable.
    source: u32,
    _sinks: Vec<XdpLink>,
}

/// What became of a round.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// Frames sent.
    pub sent: u64,
    /// Frames that reached the sink.
    pub arrived: u64,
    /// Frames a second that were sent, each as it was done with: the median over the slices.
    rate: f64,
}

impl Passed {
    /// Frames a second that got through.
    pub fn rate(&self) -> f64 {
        self.rate * (1.0 - self.loss())
    }

    /// Part of the frames that never arrived.
    pub fn loss(&self) -> f64 {
        self.sent.saturating_sub(self.arrived) as f64 / self.sent as f64
    }
}

impl<'a> Lane<'a> {
    /// Loads the programs and sets the sinks up.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open(router: &'a Router, object: &mut Object) -> Result<Lane<'a>> {
        for name in [
            "pipeline_source4",
            "pipeline_source6",
            "pipeline_sink",
            "forward_kernel",
        ] {
            object.load_program(name)?;
        }
        let names = Router::names();
        // A veth takes redirected frames only where a program or GRO made it a NAPI; the kernel has no program.
        let status = Command::new("ethtool")
            .args(["-K", &names[0], "gro", "on"])
            .status()
            .context("cannot run ethtool")?;
        ensure!(status.success(), "ethtool -K {} gro on: {status}", names[0]);
        let (source, sinks) = router.outside(|| {
            let sinks: Result<Vec<XdpLink>> = names[1..]
                .iter()
                .map(|name| object.attach("pipeline_sink", index_of(name)?))
                .collect();
            Ok((index_of(&names[0])?, sinks?))
        })?;
        Ok(Lane {
            router,
            source,
            _sinks: sinks,
        })
    }

    /// Sends so many frames, to the destinations of the trace from its beginning.
    ///
    /// # Errors
    /// The kernel's refusal, or a signal.
    pub fn send(&self, object: &Object, family: Family, frames: usize) -> Result<Passed> {
        let program = object.program(match family {
            Family::V4 => "pipeline_source4",
            Family::V6 => "pipeline_source6",
        })?;
        let packet = frame::incoming(family, 0);
        // struct xdp_md: data_end is the second u32 and ingress_ifindex the fourth.
        let mut context = [0u8; 24];
        context[4..8].copy_from_slice(&(FRAME as u32).to_ne_bytes());
        context[12..16].copy_from_slice(&self.source.to_ne_bytes());
        object.rewind();
        let before = object.sunk();
        let slice = SLICE.min(frames);
        let rates = self.router.outside(|| {
            let mut rates = Vec::with_capacity(frames / slice);
            for _ in 0..frames / slice {
                let start = Instant::now();
                let result = program.test_run(TestRunOptions {
                    data_in: Some(&packet),
                    ctx_in: Some(&context),
                    repeat: slice as u32,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::new()
                });
                rates.push(slice as f64 / start.elapsed().as_secs_f64());
                interrupt::check()?;
                result.context("the kernel does not send live frames: that takes Linux 5.18 or newer")?;
            }
            Ok(rates)
        })?;
        // What is still in a ring is less than a batch.
        thread::sleep(Duration::from_millis(5));
        Ok(Passed {
            sent: (frames / slice * slice) as u64,
            arrived: object.sunk() - before,
            rate: median(&rates),
        })
    }

    /// Sends frames to the first destinations of the trace; compares what each carries at the sink with what a router
    /// must give it.
    ///
    /// # Errors
    /// A frame is wrong, or too many are missing.
    pub fn verify(&self, object: &Object, table: &Table, trace: &Trace) -> Result<()> {
        object.forget();
        object.note(true);
        let passed = self.send(object, table.family, SAMPLE);
        object.note(false);
        let passed = passed?;
        let mut missing = 0u64;
        for at in 0..SAMPLE {
            let answer = object.answer(at);
            if answer == NOTHING {
                missing += 1;
                continue;
            }
            let prefix = table.prefixes[trace.expected[at] as usize];
            let way = self.router.way(table.family, &prefix);
            let end = |mac: [u8; 6]| u16::from_ne_bytes([mac[4], mac[5]]);
            let right = sunk_answer(end(way.destination), end(way.source), TTL - 1);
            ensure!(
                answer == right,
                "a frame to {} carried {answer:#x} at the sink and not {right:#x} (ends of the MAC addresses, TTL)",
                table.family.address(trace.destinations[at])
            );
        }
        ensure!(
            missing == passed.sent.saturating_sub(passed.arrived) && passed.loss() <= LOSS,
            "{} of {} frames reached the sink, {missing} are missing there",
            passed.arrived,
            passed.sent
        );
        Ok(())
    }
}
