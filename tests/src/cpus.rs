//! Doing something on one CPU and not on another.

use anyhow::{Context, Result};
use forwarder::cpus::{ours, tie};

/// Two CPUs that this thread may run on.
///
/// # Errors
/// There is only one.
pub fn two() -> Result<[usize; 2]> {
    let all = ours()?;
    let both = all.first_chunk().copied();
    both.context("this test needs two CPUs, and may run on one only")
}

/// Does something on a CPU; afterwards this thread runs where it did.
///
/// # Errors
/// It may not run there, or what it does fails.
pub fn on<T>(cpu: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = ours()?;
    tie(&[cpu]).with_context(|| format!("cannot run on CPU {cpu}"))?;
    let done = work();
    tie(&before)?;
    done
}
