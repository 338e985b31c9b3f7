//! `XDP_PASS` on the far ends of the cables: a veth takes redirected frames only if its peer has NAPI, and of the two ways
//! to give it one this does not merge segments.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 4;

/// `union bpf_attr` of `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    first: u64,
    license: u64,
    rest: [u64; 4],
}

/// `union bpf_attr` of `BPF_LINK_CREATE`.
#[repr(C)]
struct Create {
    program: u32,
    ifindex: u32,
    attach: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> Result<OwnedFd> {
    // SAFETY: the attributes are live and their size is given; the kernel only reads them.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("bpf(2): this test needs root");
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches it to an interface of the calling thread's namespace, until the answer is dropped.
///
/// # Errors
/// The kernel's refusal.
pub fn attach(ifindex: u32) -> Result<OwnedFd> {
    // r0 = XDP_PASS; exit
    let instructions: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let program = bpf(
        BPF_PROG_LOAD,
        &Load {
            kind: BPF_PROG_TYPE_XDP,
            instructions: 2,
            first: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            rest: [0; 4],
        },
    )?;
    bpf(
        BPF_LINK_CREATE,
        &Create {
            program: program.as_raw_fd() as u32,
            ifindex,
            attach: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        },
    )
}
