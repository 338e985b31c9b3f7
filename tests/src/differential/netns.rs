//! Network namespaces without names: they end with the process, however it ends.

use std::{
    fs::{self, File},
    io::Write,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// A network namespace, kept alive by a descriptor.
pub struct Namespace(File);

impl Namespace {
    /// A fresh one.
    ///
    /// # Errors
    /// Not root.
    pub fn new() -> Result<Namespace> {
        on_a_thread(|| {
            // SAFETY: unshare changes only this thread's namespaces.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                bail!(
                    "cannot make a network namespace ({}): this test needs root",
                    std::io::Error::last_os_error()
                );
            }
            Ok(Namespace(File::open("/proc/thread-self/ns/net")?))
        })
    }

    /// A path by which `ip link ... netns` finds it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs a function in it.
    ///
    /// # Errors
    /// The function's own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            enter(self.0.as_raw_fd())?;
            work()
        })
    }

    /// A command that will run in it, and not outlive the calling thread.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let namespace = self.0.as_raw_fd();
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        // SAFETY: between fork and exec, two system calls and no allocation.
        unsafe {
            command.pre_exec(move || {
                if libc::setns(namespace, libc::CLONE_NEWNET) != 0
                    || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0
                {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        command
    }

    /// Runs `ip` with each of these lines.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut child = self
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ip")?;
        child
            .stdin
            .take()
            .context("ip's input")?
            .write_all(lines.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "ip: {}in\n{lines}",
                String::from_utf8_lossy(&output.stderr).trim_start()
            );
        }
        Ok(())
    }

    /// Sets offloads of an interface.
    ///
    /// # Errors
    /// What `ethtool` says.
    pub fn ethtool(&self, ifname: &str, words: &str) -> Result<()> {
        let mut command = self.command("ethtool");
        command.args(["-K", ifname]).args(words.split_whitespace());
        crate::lab::run(&mut command).map(drop)
    }

    /// Writes sysctls: a path below `/proc/sys/net` and a value on each line.
    ///
    /// # Errors
    /// There is none of that name; those that end with `?` may be missing.
    pub fn sysctls(&self, lines: &str) -> Result<()> {
        self.run(|| {
            for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let (key, value) = line.split_once('=').context("a sysctl without value")?;
                let optional = key.ends_with('?');
                let path = Path::new("/proc/sys/net").join(key.trim_end_matches('?'));
                if optional && !path.exists() {
                    continue;
                }
                fs::write(&path, format!("{value}\n"))
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            Ok(())
        })
    }
}

fn enter(namespace: i32) -> Result<()> {
    // SAFETY: a namespace descriptor; changes only this thread.
    if unsafe { libc::setns(namespace, libc::CLONE_NEWNET) } != 0 {
        bail!("setns: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
