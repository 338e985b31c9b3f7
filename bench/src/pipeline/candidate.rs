//! What stands between generator and sink.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use aya::programs::xdp::XdpLink;

use crate::object::{self, Object};
use crate::router::Router;

/// The program of xdp-tools.
const XDP_FORWARD: &str = "xdp-forward";

/// What the ingress interface carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// The sink: what the generator costs alone.
    Drop,
    /// No program: the kernel forwards.
    Kernel,
    /// The minimal forwarder on the kernel's FIB.
    Lookup,
    /// The one of xdp-tools, where it is installed.
    XdpForward,
    /// The shipped program.
    Forwarder,
}

/// A candidate in its place, until dropped.
pub enum Armed {
    /// Nothing is needed.
    Bare,
    /// Its link, which goes with its descriptor.
    Linked(#[allow(dead_code, reason = "held")] XdpLink),
    /// What `xdp-forward load` did.
    Loaded(Vec<String>),
}

impl Candidate {
    /// All that there are on this machine.
    pub fn present() -> Vec<Candidate> {
        let installed = command().arg("help").status().is_ok();
        if !installed {
            eprintln!("pipeline: without {XDP_FORWARD} (xdp-tools 1.4 or newer), which is not installed");
        }
        let all = [
            Candidate::Drop,
            Candidate::Kernel,
            Candidate::Lookup,
            Candidate::XdpForward,
            Candidate::Forwarder,
        ];
        let here = |candidate: &Candidate| installed || *candidate != Candidate::XdpForward;
        all.into_iter().filter(here).collect()
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Candidate::Drop => "drop",
            Candidate::Kernel => "kernel",
            Candidate::Lookup => "bpf_fib_lookup",
            Candidate::XdpForward => "xdp_forward",
            Candidate::Forwarder => "forwarder",
        }
    }

    /// Puts it on the ingress interface.
    ///
    /// # Errors
    /// It does not let itself be put there.
    pub fn arm(self, router: &Router, object: &mut Object, shipped: &mut Xdp) -> Result<Armed> {
        let ingress = router.ingress;
        Ok(match self {
            Candidate::Kernel => Armed::Bare,
            Candidate::Drop => Armed::Linked(object.attach("pipeline_sink", ingress)?),
            Candidate::Lookup => Armed::Linked(object.attach("forward_kernel", ingress)?),
            Candidate::Forwarder => Armed::Linked(
                object::attach(shipped, ingress).context("cannot attach forwarder's pinned program")?,
            ),
            Candidate::XdpForward => {
                let names = Router::names();
                let output = command()
                    .arg("load")
                    .args(&names)
                    .stderr(Stdio::piped())
                    .output()
                    .context(XDP_FORWARD)?;
                ensure!(
                    output.status.success(),
                    "{XDP_FORWARD} load: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                Armed::Loaded(names)
            }
        })
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if let Armed::Loaded(names) = self
            && !matches!(command().arg("unload").args(names).status(), Ok(status) if status.success())
        {
            eprintln!("{XDP_FORWARD} unload failed");
        }
    }
}

fn command() -> Command {
    let mut command = Command::new(XDP_FORWARD);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
