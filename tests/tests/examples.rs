//! The examples of the package are taken by the programs that they are for.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{controller::binary, lab::run};

fn example(name: &str) -> PathBuf {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/examples");
    PathBuf::from(directory).join(name)
}

/// Runs it to its end; what it said on both ways out.
fn asks(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ({}): {said}", output.status);
    Ok(said)
}

#[test]
fn bird_takes_its_example() -> Result<()> {
    asks(Command::new("bird").arg("-p").arg("-c").arg(example("bird.conf"))).map(drop)
}

#[test]
fn frr_takes_its_example() -> Result<()> {
    let said = asks(Command::new("vtysh").arg("-C").arg("-f").arg(example("frr.conf")))?;
    ensure!(!said.contains("Unknown command") && !said.contains('%'), "{said}");
    Ok(())
}

#[test]
fn gobgp_takes_its_example() -> Result<()> {
    asks(
        Command::new("gobgpd")
            .arg("-d")
            .arg("-f")
            .arg(example("gobgpd.toml")),
    )
    .map(drop)
}

/// It wants to see the interface that the file names.
#[test]
fn keepalived_takes_its_example() -> Result<()> {
    let script = "ip link add bond0 type veth peer name other && exec keepalived -t -f \"$0\"";
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--net", "sh", "-c", script])
        .arg(example("keepalived.conf"));
    asks(&mut unshare).map(drop)
}

#[test]
fn forwarder_takes_its_example_and_says_what_the_packaged_configuration_lacks() -> Result<()> {
    let check = |file: PathBuf, more: &str| {
        let mut command = Command::new(binary()?);
        command
            .arg("check")
            .arg("--config")
            .arg(file)
            .args(more.split_whitespace());
        command.output().context("cannot run forwarder")
    };
    let said = check(example("forwarder.toml"), "")?;
    ensure!(said.status.success(), "{said:?}");
    let packaged = example("../forwarder.toml");
    let said = check(packaged.clone(), "")?;
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(
        said.status.code() == Some(1) && words.contains("no interface is configured"),
        "{words}"
    );
    // What the service asks before it starts.
    ensure!(check(packaged, "--configured")?.status.code() == Some(1));
    ensure!(check(example("forwarder.toml"), "--configured")?.status.success());
    Ok(())
}

#[test]
fn systemd_takes_the_service() -> Result<()> {
    let unit = example("../systemd/forwarder.service");
    // Elsewhere than where the package puts it the binary is not there, and nothing else may be amiss.
    let said = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output()?;
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    let ours = |line: &&str| {
        line.contains("forwarder.service") && !line.contains("/usr/bin/forwarder is not executable")
    };
    let faults: Vec<&str> = words.lines().filter(ours).collect();
    ensure!(faults.is_empty(), "{faults:?}");
    // Of 100; root with three capabilities cannot have much less.
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=yes", "--no-pager", "--threshold=30"]);
    run(security.arg(&unit)).map(drop)
}
