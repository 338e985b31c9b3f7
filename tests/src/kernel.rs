//! Which kernel runs.

use anyhow::{Result, bail};

/// Its version, such as (6, 12).
///
/// # Errors
/// It calls itself otherwise.
pub fn version() -> Result<(u32, u32)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        bail!("this kernel calls itself {release:?}");
    };
    Ok((major, minor))
}
