//! Namespaces of this process' own. Nothing in them has a name outside, so nothing of them is left when it ends, were it
//! by SIGKILL.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A network namespace for the router, in which this thread and what it starts then are, one for everything around it,
/// and a BPF file system that nobody else sees.
pub struct World {
    dir: PathBuf,
    around: File,
}

impl World {
    /// Makes it and enters it. To be called before any thread is started.
    ///
    /// # Errors
    /// Not root.
    pub fn enter() -> Result<World> {
        unshare(libc::CLONE_NEWNS | libc::CLONE_NEWNET)?;
        let around = File::open("/proc/thread-self/ns/net").context("the network namespace")?;
        unshare(libc::CLONE_NEWNET)?;
        mount(c"none", Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE)?;
        let dir = std::env::temp_dir().join(format!("forwarder-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let world = World { dir, around };
        // In memory, and gone with the last process that sees it.
        mount(c"tmpfs", &world.dir, Some(c"tmpfs"), 0)?;
        let bpffs = world.bpffs();
        fs::create_dir(&bpffs).with_context(|| format!("cannot make {}", bpffs.display()))?;
        mount(c"bpf", &bpffs, Some(c"bpf"), 0)?;
        Ok(world)
    }

    /// A directory for files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The BPF file system.
    pub fn bpffs(&self) -> PathBuf {
        self.dir.join("bpf")
    }

    /// The namespace around the router, as a path that `ip` takes for a name.
    pub fn around(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.around.as_raw_fd())
    }

    /// Does something with this thread in the namespace around the router.
    ///
    /// # Errors
    /// Whatever `work` answers.
    pub fn outside<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let inside = File::open("/proc/thread-self/ns/net").context("the network namespace")?;
        enter(&self.around)?;
        let done = work();
        enter(&inside)?;
        done
    }

    /// Runs lines of `ip` in the router.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, lines: &[String]) -> Result<()> {
        batch(Command::new("ip").args(["-batch", "-"]), lines)
    }

    /// Runs lines of `ip` around the router.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip_around(&self, lines: &[String]) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.around()));
        batch(command.args(["--", "ip", "-batch", "-"]), lines)
    }

    /// Writes a sysctl of the router, named by its path below /proc/sys/net.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(key);
        fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Ok(path) = CString::new(self.dir.as_os_str().as_bytes()) {
            // SAFETY: a NUL-terminated path.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
        if let Err(why) = fs::remove_dir(&self.dir) {
            eprintln!("cannot remove {}: {why}", self.dir.display());
        }
    }
}

fn enter(namespace: &File) -> Result<()> {
    // SAFETY: a namespace's descriptor; changes only what this thread sees.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot change the network namespace");
    }
    Ok(())
}

fn unshare(flags: libc::c_int) -> Result<()> {
    // SAFETY: unshare changes only what this thread sees.
    if unsafe { libc::unshare(flags) } != 0 {
        bail!(
            "cannot make namespaces ({}): the benches load XDP programs and need root",
            io::Error::last_os_error()
        );
    }
    Ok(())
}

fn mount(source: &CStr, target: &Path, kind: Option<&CStr>, flags: libc::c_ulong) -> Result<()> {
    let path = CString::new(target.as_os_str().as_bytes())?;
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: NUL-terminated strings, or null where none is needed.
    if unsafe { libc::mount(source.as_ptr(), path.as_ptr(), kind, flags, std::ptr::null()) } != 0 {
        let why = io::Error::last_os_error();
        return Err(why).with_context(|| format!("cannot mount {source:?} on {}", target.display()));
    }
    Ok(())
}

/// Runs a command that reads lines.
fn batch(command: &mut Command, lines: &[String]) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip (Debian: iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(lines.join("\n").as_bytes())
            .context("ip -batch")?;
    }
    let output = child.wait_with_output().context("ip -batch")?;
    if !output.status.success() {
        bail!("ip -batch: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
