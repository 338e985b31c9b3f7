//! ExaBGP beside FRR on a router, for the FlowSpec rules that FRR announces to nobody.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::peers::OUR_AS;
use super::process::Process;
use super::{Lab, system};

/// A session with forwarder that announces these rules.
fn config(rules: &str) -> String {
    let flow = if rules.is_empty() {
        String::new()
    } else {
        format!("    flow {{\n        {rules}\n    }}\n")
    };
    format!(
        "neighbor 127.0.0.2 {{\n    router-id 127.0.0.1;\n    local-address 127.0.0.1;\n    connect 1179;\n    \
         local-as {OUR_AS};\n    peer-as {OUR_AS};\n    family {{ ipv4 flow; }}\n{flow}}}\n"
    )
}

/// Starts it on a router.
pub fn start(lab: &Lab, node: &str) -> Result<Process> {
    system::write(&config_path(lab, node), &config(""))?;
    let mut command = system::inside(&lab.netns(node), "exabgp");
    command
        .arg(config_path(lab, node))
        .env("exabgp.daemon.user", "root")
        .env("exabgp.api.cli", "false");
    Process::start("exabgp", node, &mut command, &log_path(lab, node))
}

/// Has it announce these rules and no others. Answers its process, which was told by a signal.
pub fn announce(lab: &Lab, node: &str, rules: &str) -> Result<Process> {
    system::write(&config_path(lab, node), &config(rules))?;
    let process = lab
        .processes()?
        .into_iter()
        .find(|process| process.what == "exabgp" && process.node == node && process.alive())
        .with_context(|| format!("no ExaBGP runs on {node}"))?;
    process.signal(libc::SIGUSR1);
    Ok(process)
}

/// Its configuration.
pub fn config_path(lab: &Lab, node: &str) -> PathBuf {
    lab.dir().join(format!("{node}.exabgp.conf"))
}

/// What it prints.
pub fn log_path(lab: &Lab, node: &str) -> PathBuf {
    lab.dir().join(format!("{node}.exabgp.log"))
}
