//! `forwarder doctor`: what of this machine keeps the fast path from working, from being fast, or from doing what the kernel would do.
//!
//! [`facts`] is what was found, plain data; [`gather`] finds it, and alone touches the machine; [`system`], [`interfaces`], [`bonds`],
//! [`stacked`] (VLANs, macvlans) and [`bypass`] judge it, pure; [`mend`] carries out what is safe. A finding names what is the case, why it matters, and the command that changes it.

mod bonds;
mod bypass;
pub mod facts;
pub mod gather;
mod interfaces;
pub mod mend;
mod stacked;
mod system;

use serde::Serialize;

use facts::Host;

/// How bad a finding is, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Slower, or other than one may expect.
    Warning,
    /// The fast path does not work so, or forwards what it should not.
    Error,
}

impl Severity {
    /// The word on screens and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at, such as "jit" or "rings".
    pub check: &'static str,
    /// The interface it is about.
    pub ifname: Option<String>,
    /// What is the case.
    pub found: String,
    /// Why that matters; absent where all is well.
    pub why: Option<String>,
    /// What changes it: a command line, or what to do.
    pub fix: Option<String>,
    /// `--fix` may run that command: it takes no link down and lets nothing in.
    pub safe: bool,
    /// It was run: whether it did what it should.
    pub fixed: Option<bool>,
}

impl Finding {
    fn new(severity: Severity, check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            severity,
            check,
            ifname: None,
            found: found.into(),
            why: None,
            fix: None,
            safe: false,
            fixed: None,
        }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(Severity::Ok, check, found)
    }

    fn on(mut self, ifname: &str) -> Finding {
        self.ifname = Some(ifname.to_string());
        self
    }

    fn because(mut self, why: impl Into<String>) -> Finding {
        self.why = Some(why.into());
        self
    }

    fn mend(mut self, fix: impl Into<String>) -> Finding {
        self.fix = Some(fix.into());
        self
    }

    /// A command without anything that a shell would have to read: its words are separated by spaces.
    fn mend_safely(mut self, command: impl Into<String>) -> Finding {
        self.safe = true;
        self.mend(command)
    }
}

/// Every finding about this machine: of the system first, then interface by interface, then what the fast path does not follow.
pub fn examine(host: &Host) -> Vec<Finding> {
    let mut findings = system::examine(host);
    for nic in &host.nics {
        findings.extend(interfaces::examine(host, nic));
    }
    for link in &host.stacked {
        findings.extend(stacked::examine(host, link));
    }
    findings.extend(bypass::examine(host));
    findings
}

/// The worst of them.
pub fn worst(findings: &[Finding]) -> Severity {
    let open = findings.iter().filter(|finding| finding.fixed != Some(true));
    open.map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

#[cfg(test)]
mod stacked_tests;
#[cfg(test)]
mod tests;
