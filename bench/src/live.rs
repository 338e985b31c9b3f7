//! Live frames: a program makes them, and the kernel sends them out of an interface (`BPF_F_TEST_XDP_LIVE_FRAMES`), into the
//! router at the other end of its cable.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::TestRun;
use aya::programs::{TestRunAttrs, TestRunOptions, Xdp};
use forwarder_bench_ebpf::abi::FRAME;
use xtask::interrupt;

use crate::report::median;

/// Frames that the generator sends before the router gets its turn, as many as NAPI takes at a time. A veth's ring holds
/// 256.
const BATCH: u32 = 64;

/// Frames between two looks at the clock: a fifth of a second's worth. A call of the kernel that sends live frames ends at a
/// tick of its timer, so shorter slices measure the ticks (4 ms at 250 Hz); the median counts, for what other processes take
/// away is not in all.
const SLICE: usize = 1 << 17;

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// Frames a second, each as it was done with: the median over the slices.
    pub rate: f64,
}

/// Sends so many frames that `program` makes of `packet`, as if it had come in at `ifindex` of this thread's namespace, in whole
/// slices where there are more than one.
///
/// # Errors
/// The kernel's refusal, or a signal.
pub fn send(program: &Xdp, ifindex: u32, packet: &[u8; FRAME], frames: usize) -> Result<Sent> {
    // struct xdp_md: data_end is the second u32 and ingress_ifindex the fourth.
    let mut context = [0u8; 24];
    context[4..8].copy_from_slice(&(FRAME as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    let slice = SLICE.min(frames);
    let mut rates = Vec::with_capacity(frames / slice);
    for _ in 0..frames / slice {
        let start = Instant::now();
        let result = program.test_run(TestRunOptions {
            data_in: Some(packet),
            ctx_in: Some(&context),
            repeat: slice as u32,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        });
        rates.push(slice as f64 / start.elapsed().as_secs_f64());
        interrupt::check()?;
        result.context("the kernel does not send live frames: that takes Linux 5.18 or newer")?;
    }
    // What is still in a ring is less than a batch.
    thread::sleep(Duration::from_millis(5));
    Ok(Sent {
        frames: (frames / slice * slice) as u64,
        rate: median(&rates),
    })
}

/// Lets an interface take redirected frames where it carries no program: a veth does only where a program or GRO made it a
/// NAPI.
///
/// # Errors
/// What ethtool says.
pub fn make_napi(name: &str) -> Result<()> {
    let status = Command::new("ethtool")
        .args(["-K", name, "gro", "on"])
        .status()
        .context("cannot run ethtool")?;
    ensure!(status.success(), "ethtool -K {name} gro on: {status}");
    Ok(())
}
