//! Which CPUs a thread runs on (sched_setaffinity(2)).

use std::{io, mem::MaybeUninit};

const MOST: usize = libc::CPU_SETSIZE as usize;

fn none() -> libc::cpu_set_t {
    // SAFETY: a set of CPUs is an array of words, all of which may be zero.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// The CPUs that this thread may run on.
///
/// # Errors
/// The kernel does not tell.
pub fn ours() -> io::Result<Vec<usize>> {
    let mut set = none();
    // SAFETY: the set and its size; 0 is this thread.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers below the size of the set.
    Ok((0..MOST)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// The CPU that this thread is on.
pub fn here() -> Option<usize> {
    // SAFETY: no arguments.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// Ties this thread, and those that it starts from now on, to these CPUs.
///
/// # Errors
/// There is no such CPU, or none of them is ours to use.
pub fn tie(cpus: &[usize]) -> io::Result<()> {
    let mut set = none();
    for cpu in cpus {
        if *cpu >= MOST {
            return Err(io::Error::other(format!("there is no CPU {cpu}")));
        }
        // SAFETY: the number is below the size of the set.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    // SAFETY: the set and its size; 0 is this thread.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
