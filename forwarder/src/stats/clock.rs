//! The clocks that figures are told by.

/// `CLOCK_MONOTONIC`, nanoseconds: what the heartbeat is stamped with.
pub fn monotonic_ns() -> u64 {
    crate::daemon::monotonic_ns()
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}
