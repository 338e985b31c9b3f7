//! What a controller uses, when nothing is under way.

use std::{
    ffi::CString,
    fs,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::wait;
use crate::{controller::Controller, lab::Lab};

/// Of `status`, and by how much it may differ when the routes are what they were. Which group a prefix has depends on what covered it
/// when it came (its anchor), and there are at most 256 of those.
pub const IN_USE: [(&str, &str, u64); 7] = [
    ("prefixes_ipv4", "IPv4 prefixes", 0),
    ("prefixes_ipv6", "IPv6 prefixes", 0),
    ("slots_used", "slots in use", 0),
    ("ipv4_blocks_used", "IPv4 blocks in use", 0),
    ("ipv6_blocks_used", "IPv6 blocks in use", 0),
    ("groups_used", "groups in use", 256),
    ("next_hops_used", "next hops in use", 0),
];
/// Times in a row that they must be read the same: freed blocks wait out a grace period.
const CALM: usize = 4;

/// What is in use at one moment.
#[derive(Clone, Debug)]
pub struct Measure {
    /// In the order of [`IN_USE`].
    pub in_use: [u64; IN_USE.len()],
    /// KiB of memory that is the process's own.
    pub memory: u64,
    /// KiB of all of its maps, as the kernel counts them.
    pub maps: u64,
    /// Its descriptors.
    pub descriptors: u64,
    /// Its threads.
    pub threads: u64,
}

impl Measure {
    /// Waits until what is in use stays as it is, and looks.
    ///
    /// # Errors
    /// It does not, or there is no controller.
    pub fn take(lab: &Lab, controller: &Controller<'_>) -> Result<Measure> {
        let mut calm = 0;
        let mut before = None;
        let in_use = wait(lab, "what is in use to stay as it is", || {
            std::thread::sleep(Duration::from_millis(500));
            let status = lab.json("status")?;
            let now = in_use(&status[0])?;
            calm = if before == Some(now) && status[0]["sources"][0]["state"] == "in step" {
                calm + 1
            } else {
                0
            };
            before = Some(now);
            Ok((calm >= CALM).then_some(now))
        })?;
        let process = format!("/proc/{}", controller.pid());
        let count = |of: &str| -> Result<u64> { Ok(fs::read_dir(format!("{process}/{of}"))?.count() as u64) };
        let status = fs::read_to_string(format!("{process}/status"))?;
        Ok(Measure {
            in_use,
            memory: number(&status, "RssAnon:").context("no RssAnon")?,
            maps: maps(&lab.pins().join("maps"))? >> 10,
            descriptors: count("fd")?,
            threads: count("task")?,
        })
    }
}

fn in_use(status: &Value) -> Result<[u64; IN_USE.len()]> {
    let mut figures = [0; IN_USE.len()];
    for (figure, (key, _, _)) in figures.iter_mut().zip(IN_USE) {
        *figure = status[key]
            .as_u64()
            .with_context(|| format!("no {key} in {status}"))?;
    }
    Ok(figures)
}

/// The number behind a word that begins a line.
fn number(text: &str, word: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Octets of every pinned map, as the kernel counts them (bpf_map_show_fdinfo, kernel/bpf/syscall.c).
fn maps(directory: &Path) -> Result<u64> {
    let mut octets = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let map = open_pin(&path).with_context(|| path.display().to_string())?;
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
        octets += number(&text, "memlock:").context("the kernel does not tell a map's memory")?;
    }
    Ok(octets)
}

/// A pinned map, for looking at.
fn open_pin(path: &Path) -> Result<OwnedFd> {
    const BPF_OBJ_GET: libc::c_long = 7;
    const BPF_F_RDONLY: u32 = 1 << 3;
    /// The part of `union bpf_attr` that this takes (linux/bpf.h).
    #[repr(C)]
    struct Get {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    let get = Get {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: BPF_F_RDONLY,
    };
    // SAFETY: a structure of ours with its size, and a path in it that lives for the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw const get, size_of::<Get>()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}
