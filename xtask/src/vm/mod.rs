//! `cargo xtask vm`: Debian's kernels under QEMU, with bonding, VLANs and whatever else this machine's kernel may lack.
//!
//! `packages` gets a kernel, `modules` chooses from it, `chosen` builds and names the tests, `initramfs` puts them into one
//! archive (`cpio`) with the programs that they run and the first process (the crate `vm-init`), `boot` runs QEMU, `nics`
//! gives it network cards, `report` prints what it hears. Nothing is installed but QEMU; the kernels are unpacked below the
//! target directory.

mod boot;
mod chosen;
mod cpio;
mod initramfs;
mod modules;
mod nics;
mod packages;
mod report;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use vm_init::plan::Plan;
use xtask::interrupt;

use crate::sh;

/// One test that takes longer hangs, under emulation on a busy machine too.
const TEST_LIMIT: Duration = Duration::from_secs(300);

/// Options of `cargo xtask vm`.
#[derive(clap::Args)]
pub struct Args {
    /// Which of Debian's kernels
    #[arg(value_enum, default_value = "6.1")]
    kernel: Choice,
    /// Run only tests whose name has WORD in it, such as `ring_kernel` or `golden::law`
    #[arg(long, value_name = "WORD", default_value = "")]
    filter: String,
    /// Run this test of tests/tests in place of the usual ones; may be given more than once
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
    /// Name the tests that would run, and run none
    #[arg(long)]
    list: bool,
    /// A shell in the machine in place of the tests
    #[arg(long, conflicts_with = "list")]
    shell: bool,
    /// Use the processor's virtualisation: quick, where /dev/kvm works
    #[arg(long)]
    kvm: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Debian 12's own
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, which Debian 12 has as well
    #[value(name = "6.12")]
    V6_12,
    /// One after the other
    All,
}

impl Choice {
    fn versions(self) -> &'static [&'static str] {
        match self {
            Self::V6_1 => &["6.1"],
            Self::V6_12 => &["6.12"],
            Self::All => &["6.1", "6.12"],
        }
    }
}

/// Builds, boots, reports.
///
/// # Errors
/// A test failed, or the machine did not run to its end; what there was to say has been said.
pub fn run(args: &Args) -> Result<()> {
    let versions = args.kernel.versions();
    if args.shell && versions.len() > 1 {
        bail!("one shell at a time: cargo xtask vm 6.1 --shell, or 6.12");
    }
    let tests = chosen::build(&args.tests)?;
    if args.list {
        return chosen::print(&tests, &args.filter);
    }
    let mut failed = Vec::new();
    for version in versions {
        let dir = sh::target_dir()?.join("vm").join(version);
        let kernel = packages::kernel(version, &dir)?;
        let plan = Plan {
            filter: args.filter.clone(),
            shell: args.shell,
            limit: TEST_LIMIT,
            ..Plan::default()
        };
        let initramfs = initramfs::build(&dir, &kernel, &tests, plan)?;
        let machine = boot::Machine {
            kernel: &kernel,
            initramfs: &initramfs,
            dir: &dir,
            kvm: args.kvm,
        };
        if args.shell {
            return machine.shell();
        }
        interrupt::install()?;
        eprintln!("== {} under QEMU", kernel.release);
        let start = Instant::now();
        let outcome = machine.run()?;
        outcome.write(&dir.join("tests.log"))?;
        eprintln!("{}", outcome.summary(version, start.elapsed()));
        interrupt::check()?;
        if !outcome.is_good() {
            failed.push(*version);
        }
    }
    if !failed.is_empty() {
        bail!("kernel {}: see above", failed.join(" and "));
    }
    Ok(())
}
