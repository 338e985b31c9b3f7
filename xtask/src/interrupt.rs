//! Ctrl-C and SIGTERM as a flag, so that a half-built lab can be taken down in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static FLAG: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(false)));

/// From here on the first Ctrl-C only sets a flag that [`check`] turns into an error; a second one ends the process.
pub fn install() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // The order matters: the second signal must find the flag set by the first.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&FLAG))?;
        signal_hook::flag::register(signal, Arc::clone(&FLAG))?;
    }
    Ok(())
}

/// Whether somebody asked us to stop.
pub fn requested() -> bool {
    FLAG.load(Ordering::Relaxed)
}

/// Clears the flag: what follows is the tidying up, which a second signal may end.
pub fn forget() {
    FLAG.store(false, Ordering::Relaxed);
}

/// An error once somebody asked us to stop.
pub fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps in slices, and returns early with an error when interrupted.
pub fn sleep(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}
