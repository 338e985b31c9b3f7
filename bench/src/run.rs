//! Running programs: on one CPU, many times, and by the clock.

use std::io;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use aya::TestRun;
use aya::programs::{TestRunOptions, Xdp};
use forwarder::cpus;
use forwarder_bench_ebpf::abi::FRAME;

/// Runs before the clock starts, so that the caches hold what this candidate uses and not what the last one did.
pub const WARM_UP: usize = 1 << 16;

/// The last two CPUs that this process may run on.
///
/// # Errors
/// There is only one.
pub fn last_two() -> Result<[usize; 2]> {
    match cpus::ours().context("cannot tell which CPUs there are")?[..] {
        [.., first, second] => Ok([first, second]),
        _ => bail!("this bench needs two CPUs, and may run on one only"),
    }
}

/// Ties this thread, and what it starts from now on, to a CPU: the one named, or the last. Answers its number.
///
/// # Errors
/// There is no such CPU, or it is not ours to use.
pub fn pin(cpu: Option<usize>) -> Result<usize> {
    let last = cpus::ours().context("cannot tell which CPUs there are")?.pop();
    let cpu = cpu.or(last).context("this process may not run on any CPU")?;
    cpus::tie(&[cpu]).with_context(|| format!("cannot run on CPU {cpu}"))?;
    Ok(cpu)
}

/// Gives this thread the highest priority below those that would keep softirqs waiting.
///
/// # Errors
/// Not root.
pub fn first_in_line() -> Result<()> {
    // SAFETY: three numbers; 0 is this thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot raise the priority of this thread");
    }
    Ok(())
}

/// Runs a program once on a frame that came in on an interface. Answers the verdict and the frame as it was left.
///
/// # Errors
/// The kernel's refusal.
pub fn once(program: &Xdp, ifindex: u32, frame: &[u8; FRAME]) -> Result<(u32, [u8; FRAME])> {
    let mut out = [0; FRAME];
    let verdict = repeat(program, ifindex, frame, &mut out, 1)?;
    Ok((verdict, out))
}

/// Runs a program many times in a row on one frame, which stays as each run leaves it. Answers nanoseconds a run, and the
/// verdict of the last.
///
/// The time is this thread's on the CPU: unlike the duration that the kernel answers it is not in whole nanoseconds, and
/// what other processes take from us is not in it.
///
/// # Errors
/// The kernel's refusal, or a signal.
pub fn timed(program: &Xdp, ifindex: u32, frame: &[u8; FRAME], runs: usize) -> Result<(f64, u32)> {
    let mut out = [0; FRAME];
    let start = cpu_time()?;
    let verdict = repeat(program, ifindex, frame, &mut out, runs)?;
    Ok(((cpu_time()? - start) as f64 / runs as f64, verdict))
}

fn repeat(
    program: &Xdp,
    ifindex: u32,
    frame: &[u8; FRAME],
    out: &mut [u8; FRAME],
    runs: usize,
) -> Result<u32> {
    // struct xdp_md: six u32, of which data_end is the second and ingress_ifindex the fourth.
    let mut context = [0u8; 24];
    context[4..8].copy_from_slice(&(FRAME as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(out),
        ctx_in: Some(&context),
        repeat: u32::try_from(runs)?,
        ..TestRunOptions::new()
    });
    xtask::interrupt::check()?;
    Ok(result
        .context("the kernel does not run the program")?
        .return_value)
}

/// What something took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Seconds by the clock on the wall.
    pub seconds: f64,
    /// Seconds of all threads on a CPU.
    pub cpu: f64,
}

/// Runs something by the clock.
///
/// # Errors
/// Its own.
pub fn clocked<T>(run: impl FnOnce() -> Result<T>) -> Result<(T, Taken)> {
    let (wall, cpu) = (Instant::now(), cpu_clock(libc::CLOCK_PROCESS_CPUTIME_ID)?);
    let result = run()?;
    let taken = Taken {
        seconds: wall.elapsed().as_secs_f64(),
        cpu: (cpu_clock(libc::CLOCK_PROCESS_CPUTIME_ID)? - cpu) as f64 / 1e9,
    };
    Ok((result, taken))
}

/// Nanoseconds that this thread has been on a CPU.
///
/// # Errors
/// There is no such clock.
pub fn cpu_time() -> Result<u64> {
    cpu_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn cpu_clock(clock: libc::clockid_t) -> Result<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a clock and memory for its time.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error()).context("the CPU's clock");
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
