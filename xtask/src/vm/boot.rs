//! Runs QEMU: the kernel's console goes to a file, what the machine says about its tests comes to us line by line.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use vm_init::say::Say;
use xtask::interrupt;

use super::{
    nics,
    packages::Kernel,
    report::{self, Outcome},
};
use crate::sh;

/// A machine that runs longer is stopped.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// The tables alone take some hundred megabytes, and there is no disk. What is not touched costs the host nothing.
const MEMORY: &str = "3072";

/// What the kernel is told. It prints its warnings, which are failures. Emulation is slow, and has no secrets to keep: no
/// mitigations, no watchdogs, no words about stalls.
const PARAMETERS: &str = "console=ttyS0 panic=-1 loglevel=5 mitigations=off nowatchdog \
                          rcupdate.rcu_cpu_stall_suppress=1 random.trust_cpu=on net.ifnames=0";

/// A machine to boot.
pub struct Machine<'a> {
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// All that it has.
    pub initramfs: &'a Path,
    /// Where the kernel's console is kept.
    pub dir: &'a Path,
    /// By the processor's virtualisation.
    pub kvm: bool,
}

impl Machine<'_> {
    /// Boots, prints a line per test, and waits for the end.
    ///
    /// # Errors
    /// QEMU does not run.
    pub fn run(&self) -> Result<Outcome> {
        let console = self.dir.join("console.log");
        let mut qemu = self.qemu(PARAMETERS);
        // The first serial port is the kernel's, the second that of the machine's first process.
        qemu.arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-serial", "stdio", "-monitor", "none"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut running = Running::start(&mut qemu)?;
        let lines = running.lines()?;
        let until = Instant::now() + LIMIT;
        let mut outcome = Outcome::default();
        loop {
            if interrupt::requested() {
                outcome.stopped = Some("interrupted".to_owned());
                break;
            }
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    if let Ok(say) = line.parse::<Say>() {
                        report::line(&say);
                        outcome.hear(say);
                    }
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(RecvTimeoutError::Timeout) => {
                    outcome.stopped = Some(format!("stopped after {}", sh::seconds(LIMIT)));
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        drop(running);
        outcome.console(&console);
        Ok(outcome)
    }

    /// Boots with a shell on this terminal.
    ///
    /// # Errors
    /// QEMU does not run.
    pub fn shell(&self) -> Result<()> {
        let terminal = std::env::var("TERM").unwrap_or_else(|_| "linux".to_owned());
        let mut qemu = self.qemu(&format!("{PARAMETERS} TERM={terminal}"));
        qemu.args(["-serial", "mon:stdio", "-serial", "null"]);
        sh::run(&mut qemu)
    }

    fn qemu(&self, parameters: &str) -> Command {
        let refusal = nics::refusal();
        let mut qemu = match &refusal {
            None => nics::inside("qemu-system-x86_64"),
            Some(why) => {
                eprintln!("note: no network cards, which ring_virtio needs; as root there would be: {why}");
                Command::new("qemu-system-x86_64")
            }
        };
        let (accelerator, processor) = if self.kvm {
            ("kvm", "host")
        } else {
            // With all that QEMU can emulate ("max") the same tests take a quarter more.
            ("tcg,thread=multi", "Nehalem")
        };
        if refusal.is_none() {
            qemu.args(nics::arguments());
        }
        qemu.args(["-accel", accelerator, "-cpu", processor])
            .args(["-smp", "2", "-m", MEMORY])
            // No card of QEMU's own, whose boot ROM would look for an image.
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", parameters]);
        qemu
    }
}

/// QEMU, which ends when this is dropped.
struct Running(Child);

impl Running {
    fn start(qemu: &mut Command) -> Result<Running> {
        let child = qemu
            .spawn()
            .context("cannot run qemu-system-x86_64: cargo xtask setup installs it")?;
        Ok(Running(child))
    }

    /// Its output by lines, read on a thread so that waiting for one can have an end.
    fn lines(&mut self) -> Result<mpsc::Receiver<String>> {
        let output = self.0.stdout.take().context("QEMU's output is not ours")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(receiver)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to do where it has ended; there is nobody to tell where it cannot be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
