//! Threads inside a network namespace: sockets made there belong to it for good.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};

/// Moves the calling thread into the namespace. It never moves back: use it in threads of your own.
pub fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("network namespace {}", path.display()))?;
    // SAFETY: setns takes a descriptor, which `file` keeps open over the call, and touches no memory of ours; it changes
    // only the calling thread's network namespace.
    let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("entering {}", path.display()));
    }
    Ok(())
}

/// Starts a thread in the namespace.
pub fn spawn<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> JoinHandle<Result<T>> {
    let path = path.to_path_buf();
    std::thread::spawn(move || {
        enter(&path)?;
        work()
    })
}

/// Runs a function in the namespace and waits for its result.
pub fn run<T: Send>(path: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(path)?;
            work()
        });
        thread
            .join()
            .map_err(|_| anyhow!("a thread in {} panicked", path.display()))?
    })
}
