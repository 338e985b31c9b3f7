//! File systems, modules, and the end.

use std::{
    ffi::CString,
    fs::{self, File},
    io::Error,
    os::fd::AsRawFd,
    path::Path,
    process::Command,
    ptr,
};

use anyhow::{Context, Result, bail};
use vm_init::plan::Module;

/// File system, place, options.
const MOUNTS: [(&str, &str, &str); 9] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", ""),
    ("tmpfs", "/dev/shm", ""),
    ("tmpfs", "/run", "mode=755"),
    ("tmpfs", "/tmp", ""),
    ("bpf", "/sys/fs/bpf", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
];

/// Where programs are; the kernel gives its first process no such thing.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Mounts what a system has.
///
/// # Errors
/// The kernel has no such file system.
pub fn mount_all() -> Result<()> {
    for (kind, place, options) in MOUNTS {
        // Below /sys there is a place already, or none can be made.
        if !Path::new(place).is_dir() {
            fs::create_dir_all(place).with_context(|| place.to_owned())?;
        }
        let kind_c = CString::new(kind)?;
        let place_c = CString::new(place)?;
        let options_c = CString::new(options)?;
        // SAFETY: NUL-terminated strings that outlive the call.
        let result = unsafe {
            libc::mount(
                kind_c.as_ptr(),
                place_c.as_ptr(),
                kind_c.as_ptr(),
                0,
                options_c.as_ptr().cast(),
            )
        };
        // The kernel may have mounted devtmpfs itself.
        let error = Error::last_os_error();
        if result != 0 && error.raw_os_error() != Some(libc::EBUSY) {
            bail!("cannot mount {kind} on {place}: {error}");
        }
    }
    Ok(())
}

/// What makes it a host: a name, a loopback.
///
/// # Errors
/// /proc is not as expected.
pub fn settle() -> Result<()> {
    let name = "vm";
    fs::write("/proc/sys/kernel/hostname", name).context("hostname")?;
    // Modules of tunnels would put a device into every namespace, where tests count devices.
    fs::write("/proc/sys/net/core/fb_tunnels_only_for_init_net", "2").context("fb_tunnels")?;
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .env("PATH", PATH)
        .status()
        .context("cannot run ip")?;
    if !status.success() {
        bail!("ip link set lo up: {status}");
    }
    Ok(())
}

/// Loads a module whose dependencies are loaded.
///
/// # Errors
/// There is no such file, or the kernel's refusal.
pub fn load(module: &Module) -> Result<()> {
    let file = File::open(&module.path).with_context(|| module.path.clone())?;
    let options = CString::new(module.options.as_str())?;
    // SAFETY: an open descriptor and a NUL-terminated string that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), options.as_ptr(), 0) };
    let error = Error::last_os_error();
    if result != 0 && error.raw_os_error() != Some(libc::EEXIST) {
        bail!("module {}: {error}", module.path);
    }
    Ok(())
}

/// Seconds since the kernel started.
pub fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().and_then(|word| word.parse().ok());
    seconds.unwrap_or_default()
}

/// Waits for every child that has ended: what a test left behind becomes ours.
pub fn reap() {
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Turns the machine off.
pub fn power_off() -> ! {
    // SAFETY: no arguments that are read.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    // The kernel refused. The end of the first process is a panic, and QEMU ends with that.
    std::process::exit(1);
}
