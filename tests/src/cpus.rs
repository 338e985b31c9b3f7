//! Doing something on one CPU and not on another.

use std::{io, mem::MaybeUninit};

use anyhow::{Context, Result, ensure};

fn affinity() -> Result<libc::cpu_set_t> {
    // SAFETY: a set of CPUs is an array of words, all of which may be zero.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the set and its size; 0 is this thread.
    let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0;
    ensure!(!failed, "sched_getaffinity: {}", io::Error::last_os_error());
    Ok(set)
}

fn tie(set: &libc::cpu_set_t) -> Result<()> {
    // SAFETY: the set and its size; 0 is this thread.
    let failed = unsafe { libc::sched_setaffinity(0, size_of_val(set), set) } != 0;
    ensure!(!failed, "sched_setaffinity: {}", io::Error::last_os_error());
    Ok(())
}

/// Two CPUs that this thread may run on.
///
/// # Errors
/// There is only one.
pub fn two() -> Result<[usize; 2]> {
    let set = affinity()?;
    // SAFETY: numbers below the size of the set.
    let mut ours = (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) });
    let both = ours.next().zip(ours.next());
    let (first, second) = both.context("this test needs two CPUs, and may run on one only")?;
    Ok([first, second])
}

/// Does something on a CPU; afterwards this thread runs where it did.
///
/// # Errors
/// It may not run there, or what it does fails.
pub fn on<T>(cpu: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = affinity()?;
    ensure!(cpu < libc::CPU_SETSIZE as usize, "there is no CPU {cpu}");
    // SAFETY: as above, and the number is below the size of the set.
    let set = unsafe {
        let mut set: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    tie(&set)?;
    let done = work();
    tie(&before)?;
    done
}
