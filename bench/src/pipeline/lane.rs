//! The way from generator to sink.

use anyhow::{Result, ensure};
use aya::programs::xdp::XdpLink;
use forwarder_bench_ebpf::abi::{NOTHING, TTL, sunk_answer};

use super::{LOSS, SAMPLE};
use crate::frame;
use crate::live;
use crate::object::Object;
use crate::router::{Router, index_of};
use crate::table::{Family, Table};
use crate::trace::Trace;

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
        live::make_napi(&names[0])?;
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
        object.rewind();
        let before = object.sunk();
        let sent = self
            .router
            .outside(|| live::send(program, self.source, &packet, frames))?;
        Ok(Passed {
            sent: sent.frames,
            arrived: object.sunk() - before,
            rate: sent.rate,
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
