//! forwarder on the two routers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::peers::OUR_AS;
use super::process::Process;
use super::routing::Daemon;
use super::topology::OWN_PREFIXES;
use super::{Lab, system};
use crate::progress::{self, Poll};

/// The configuration of one router, as an operator would write it. What BIRD, or ExaBGP beside FRR, tells by BGP is attributes
/// and rules: packets go by the kernel's routes.
fn config(daemon: Daemon) -> String {
    let teller = match daemon {
        Daemon::Bird => "bird",
        Daemon::Frr => "exabgp",
    };
    let own = OWN_PREFIXES.map(|prefix| format!("\"{prefix}\"")).join(", ");
    format!(
        "[[interface]]\nname = \"transit0\"\nrole = \"transit\"\n\n\
         [[interface]]\nname = \"core0\"\nrole = \"core\"\n\n\
         [[interface]]\nname = \"twin0\"\nrole = \"core\"\n\n\
         [filter]\nbogons = true\nown-prefixes = [{own}]\n\n\
         [routes]\nsources = [\"kernel\"]\n\n\
         [routes.bgp]\nlisten = \"127.0.0.2:1179\"\nlocal-as = {OUR_AS}\n\n\
         [[routes.bgp.neighbour]]\nname = \"{teller}\"\naddress = \"127.0.0.1\"\n"
    )
}

/// Writes the configuration of a router.
pub fn write_config(lab: &Lab, node: &str, daemon: Daemon) -> Result<()> {
    std::fs::create_dir_all(bpffs(lab, node)).with_context(|| format!("bpffs of {node}"))?;
    system::write(&config_path(lab, node), &config(daemon))
}

/// Starts the controller on a router and waits until it answers.
pub fn start(lab: &Lab, node: &str) -> Result<Process> {
    let binary = lab
        .binary()
        .context("no forwarder binary; build it first (cargo xtask build)")?;
    let mut command = system::inside(&lab.netns(node), binary);
    command.arg("run").arg("--config").arg(config_path(lab, node));
    command
        .arg("--bpffs")
        .arg(bpffs(lab, node))
        .arg("--socket")
        .arg(socket(lab, node));
    Process::start("forwarder", node, &mut command, &log_path(lab, node))
}

/// Waits until the controller on a router answers.
pub fn wait_ready(lab: &Lab, process: &Process, limit: Duration) -> Result<()> {
    let node = process.node.as_str();
    progress::wait(
        &format!("forwarder on {node}"),
        limit,
        Duration::from_millis(100),
        || {
            if !process.alive() {
                bail!(
                    "it ended; its log ({}) closes with:\n{}",
                    log_path(lab, node).display(),
                    tail(&log_path(lab, node))
                );
            }
            Ok(
                match system::run(&mut command(lab, node, &["status", "--json"])?) {
                    Ok(text) => readiness(&text),
                    Err(error) => Poll::Waiting(format!("{error:#}").replace('\n', "; ")),
                },
            )
        },
    )
}

/// Ready is a controller that runs and is in step with the kernel: without one, `status` answers from the pinned maps.
fn readiness(text: &str) -> Poll<()> {
    let rows: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let row = &rows[0];
    if row["controller"] != "running" {
        return Poll::Waiting("the controller does not answer yet".into());
    }
    match &row["sources"][0]["state"] {
        state if state == "in step" => Poll::Ready(()),
        state => Poll::Waiting(format!("the kernel's routes: {state}")),
    }
}

/// Waits until a router's controller is told attributes and rules, too.
pub fn wait_told(lab: &Lab, node: &str, limit: Duration) -> Result<()> {
    progress::wait(
        &format!("the BGP session of forwarder on {node}"),
        limit,
        Duration::from_millis(100),
        || {
            let text = system::run(&mut command(lab, node, &["status", "--json"])?)?;
            let rows: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let mut sources = rows[0]["sources"].as_array().into_iter().flatten();
            Ok(match sources.find(|source| source["kind"] == "bgp") {
                Some(source) if source["state"] == "live" => Poll::Ready(()),
                Some(source) => Poll::Waiting(format!("it is {}", source["state"])),
                None => Poll::Waiting("nobody has called".into()),
            })
        },
    )
}

/// A `forwarder` command line on a router, with socket and bpffs filled in.
pub fn command(lab: &Lab, node: &str, words: &[&str]) -> Result<Command> {
    let binary = lab
        .binary()
        .context("no forwarder binary; build it first (cargo xtask build)")?;
    let mut command = system::inside(&lab.netns(node), binary);
    command.args(words).envs(environment(lab, node));
    Ok(command)
}

/// What makes a plain `forwarder` talk to this router's controller.
pub fn environment(lab: &Lab, node: &str) -> [(&'static str, PathBuf); 2] {
    [
        ("FORWARDER_SOCKET", socket(lab, node)),
        ("FORWARDER_BPFFS", bpffs(lab, node)),
    ]
}

/// The newest forwarder binary in the target directory this program was built into.
pub fn find_binary() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    // target/PROFILE/xtask, or target/PROFILE/deps/test-name
    let target = here
        .ancestors()
        .find(|dir| dir.join("release").is_dir() || dir.join("debug").is_dir())?;
    ["release", "debug"]
        .iter()
        .map(|profile| target.join(profile).join("forwarder"))
        .filter_map(|path| Some((std::fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
}

fn config_path(lab: &Lab, node: &str) -> PathBuf {
    lab.dir().join(format!("{node}.toml"))
}

fn bpffs(lab: &Lab, node: &str) -> PathBuf {
    lab.dir().join("bpf").join(node)
}

fn socket(lab: &Lab, node: &str) -> PathBuf {
    lab.dir().join(format!("{node}.sock"))
}

fn log_path(lab: &Lab, node: &str) -> PathBuf {
    lab.dir().join(format!("{node}.forwarder.log"))
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
