//! The first process of the machine that `cargo xtask vm` boots: makes a system of an initramfs, loads the modules, runs
//! the tests that its plan names, and turns the machine off. Whatever goes wrong is said, and ends in power-off.

mod run_tests;
mod system;

use std::{
    fs::{self, File},
    io::Write,
    process::Command,
};

use anyhow::{Context, Result};
use vm_init::{plan, plan::Plan, say::Say};

/// The kernel's console is the first serial port; this one is ours.
const PORT: &str = "/dev/ttyS1";

/// Where lines for the host go.
struct Host(File);

impl Host {
    fn say(&mut self, say: &Say) -> Result<()> {
        // One write per line: nothing can come in between.
        let line = format!("{say}\n");
        self.0
            .write_all(line.as_bytes())
            .with_context(|| format!("cannot write to {PORT}"))
    }
}

fn main() {
    if std::process::id() != 1 {
        eprintln!(
            "vm-init is the first process of a machine that `cargo xtask vm` boots; it does nothing elsewhere"
        );
        std::process::exit(2);
    }
    if let Err(error) = run() {
        // The kernel's console, which the host shows when a machine ends without its last word.
        eprintln!("vm-init: {error:#}");
    }
    system::power_off();
}

fn run() -> Result<()> {
    system::mount_all()?;
    let mut host = Host(
        File::options()
            .write(true)
            .open(PORT)
            .with_context(|| PORT.to_owned())?,
    );
    let text = fs::read_to_string(plan::PATH).context(plan::PATH)?;
    let plan: Plan = text.parse()?;
    system::settle()?;
    for module in &plan.modules {
        // One that this kernel refuses is missed by the tests that need it, and by no other.
        if let Err(error) = system::load(module) {
            host.say(&Say::Note(format!("{error:#}")))?;
        }
    }
    host.say(&Say::Ready(system::uptime()))?;
    if plan.shell {
        return shell(&plan);
    }
    for binary in &plan.binaries {
        run_tests::binary(&plan, binary, &mut |say| host.say(&say))?;
    }
    host.say(&Say::End)
}

/// A shell with job control, as root, with the tests' environment.
fn shell(plan: &Plan) -> Result<()> {
    for line in [
        "Test binaries: /vm/tests (run one with --include-ignored --test-threads 1); forwarder is on PATH.",
        "`exit` turns the machine off; Ctrl-A X ends QEMU.",
    ] {
        println!("{line}");
    }
    Command::new("/bin/busybox")
        .args(["setsid", "cttyhack", "bash"])
        .envs(run_tests::environment(plan))
        .status()
        .context("cannot run busybox")?;
    Ok(())
}
