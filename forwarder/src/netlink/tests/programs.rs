//! XDP programs as the kernel reports them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::*;
use crate::netlink::command::{Commander, XdpMode};
use crate::netlink::constants::IFLA_XDP;
use crate::netlink::parse::link;
use crate::netlink::socket::{REQUEST_BUFFER, Socket, push_attribute, wildcard};

/// `r0 = XDP_PASS; exit`, loaded.
fn pass_program() -> OwnedFd {
    let instructions: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let license: &CStr = c"GPL";
    // union bpf_attr of BPF_PROG_LOAD: u32 type (XDP is 6), u32 count, u64 instructions, u64 license.
    let attribute: [u64; 16] = {
        let mut words = [0; 16];
        words[0] = 6 | (instructions.len() as u64) << 32;
        words[1] = instructions.as_ptr() as u64;
        words[2] = license.as_ptr() as u64;
        words
    };
    // SAFETY: the attribute and what it points to live for the call, and its size is given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, 5, attribute.as_ptr(), size_of_val(&attribute)) };
    assert!(fd >= 0, "BPF_PROG_LOAD: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just given it to us and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

/// RTM_SETLINK with IFLA_XDP: IFLA_XDP_FD (1), IFLA_XDP_FLAGS (3).
fn attach(ifindex: Ifindex, program: i32, flags: u32) {
    let mut nest = Vec::new();
    push_attribute(&mut nest, 1, &program.to_ne_bytes());
    push_attribute(&mut nest, 3, &flags.to_ne_bytes());
    let mut body = wildcard(0, link::HEADER);
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    push_attribute(&mut body, IFLA_XDP | 0x8000, &nest);
    Socket::open(REQUEST_BUFFER)
        .unwrap()
        .acknowledged(19, 0, &body)
        .unwrap();
}

#[test]
fn mode_and_id_of_an_attached_program() {
    in_namespace(|| {
        let (va, _) = two_links();
        let program = pass_program();
        let mut commander = Commander::open().unwrap();
        for (flags, mode) in [(1 << 2, XdpMode::Native), (1 << 1, XdpMode::Generic)] {
            attach(va, program.as_raw_fd(), flags);
            let (seen, id) = commander.xdp_attached(va).unwrap().unwrap();
            assert_eq!(seen, mode);
            assert!(ip("link show va").contains(&format!("prog/xdp id {id}")));
            attach(va, -1, flags);
            assert_eq!(commander.xdp_attached(va).unwrap(), None);
        }
    });
}
