//! Bad input: a clear message, the right exit code, and nothing left behind.

use std::fs;

use anyhow::{Result, ensure};
use forwarder_tests::{
    controller::binary,
    lab::{Lab, run},
};

/// Runs the controller with this configuration; it must fail with this code and say all of these.
fn refused(lab: &Lab, interfaces: &[&str], more: &str, code: i32, says: &[&str]) -> Result<()> {
    let config = lab.config(interfaces, more)?;
    let output = lab.forwarder(&format!("run --config {}", config.display()))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(code),
        "{interfaces:?} {more}: {:?}: {text}",
        output.status
    );
    for word in says {
        ensure!(
            text.contains(word),
            "{interfaces:?} {more}: no {word:?} in {text}"
        );
    }
    ensure!(!text.contains("panicked"), "{text}");
    clean(lab)
}

/// Nothing is attached and nothing is pinned.
fn clean(lab: &Lab) -> Result<()> {
    let links = lab.ip_json("router", "link show")?;
    let carrying: Vec<_> = links
        .as_array()
        .into_iter()
        .flatten()
        .filter(|link| link["xdp"].is_object())
        .collect();
    ensure!(carrying.is_empty(), "left attached: {carrying:?}");
    let left: Vec<_> = fs::read_dir(lab.pins())
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    ensure!(left.is_empty(), "left pinned: {left:?}");
    Ok(())
}

#[test]
fn an_interface_that_cannot_be_served_is_named_and_the_others_are_let_go() -> Result<()> {
    let lab = Lab::new()?;
    refused(
        &lab,
        &["a", "nowhere0"],
        "",
        1,
        &["nowhere0", "no such interface", "ip -br link"],
    )?;
    lab.ip("router", "link add bridge0 type bridge")?;
    lab.ip("router", "link set bridge0 up")?;
    refused(
        &lab,
        &["a", "b", "bridge0"],
        "",
        1,
        &["bridge0", "no native XDP", "xdp = \"generic\""],
    )?;
    refused(&lab, &["a", "lo"], "", 1, &["lo", "Ethernet"])?;
    Ok(())
}

#[test]
fn another_program_on_an_interface_is_left_there() -> Result<()> {
    let lab = Lab::new()?;
    let controller = lab.start(&["a"], "")?;
    // A second set of pins, as if another program were there.
    let config = lab.config(&["b", "a"], "")?;
    let pins = lab.pins().with_file_name("other");
    let output = lab
        .command("router", binary()?)
        .arg("run")
        .arg("--config")
        .arg(&config)
        .arg("--bpffs")
        .arg(&pins)
        .arg("--socket")
        .arg(lab.dir().join("other.sock"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{text}");
    ensure!(text.contains("another XDP program is attached"), "{text}");
    ensure!(
        fs::read_dir(&pins).map_or(0, Iterator::count) == 0,
        "pins are left"
    );
    let links = lab.ip_json("router", "link show type veth")?;
    let carrying = links
        .as_array()
        .into_iter()
        .flatten()
        .filter(|link| link["xdp"].is_object())
        .count();
    ensure!(carrying == 1, "{links}");
    drop(controller);
    Ok(())
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_line_and_remedy() -> Result<()> {
    let lab = Lab::new()?;
    for (more, says) in [
        (
            "[routes]\nmaxage = \"2s\"\n",
            &["maxage", "max-age", "forwarder.toml, line"][..],
        ),
        ("[routes]\nmax-age = 2\n", &["max-age", "forwarder.toml, line"]),
        (
            "[[interface]]\nname = \"a\"\n",
            &["\"a\"", "forwarder.toml, line"],
        ),
        (
            "[filter]\nown-prefixes = [\"192.0.2.0/33\"]\n",
            &["192.0.2.0/33", "forwarder.toml, line"],
        ),
    ] {
        refused(&lab, &["a"], more, 1, says)?;
        let config = lab.dir().join("forwarder.toml");
        let output = lab.forwarder(&format!("check --config {}", config.display()))?;
        ensure!(!output.status.success(), "check finds nothing in {more}");
    }
    Ok(())
}

#[test]
fn an_unprivileged_user_and_a_missing_bpffs_are_told_what_to_do() -> Result<()> {
    let lab = Lab::new()?;
    let config = lab.config(&["a"], "")?;
    // Readable for nobody, wherever the tree is.
    let place = std::env::temp_dir().join(format!("fwdt-bin-{}", std::process::id()));
    fs::copy(binary()?, &place)?;
    let mut command = lab.command("router", "setpriv");
    let output = command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&place)
        .arg("run")
        .arg("--config")
        .arg(&config)
        .arg("--bpffs")
        .arg(lab.pins())
        .output();
    fs::remove_file(&place)?;
    let output = output?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{:?}: {text}", output.status);
    ensure!(text.contains("root") && text.contains("CAP_BPF"), "{text}");
    clean(&lab)?;

    let mut command = lab.command("router", binary()?);
    let elsewhere = lab.dir().join("no-bpffs");
    let output = command
        .arg("run")
        .arg("--config")
        .arg(&config)
        .arg("--bpffs")
        .arg(&elsewhere)
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{:?}: {text}", output.status);
    ensure!(text.contains("mount -t bpf"), "{text}");
    ensure!(!elsewhere.exists());
    clean(&lab)
}

#[test]
fn a_reader_without_a_controller_says_so() -> Result<()> {
    let lab = Lab::new()?;
    for line in ["status", "drops", "routes", "lookup 192.0.2.1"] {
        let output = lab.forwarder(line)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1),
            "{line}: {:?}: {text}",
            output.status
        );
        ensure!(text.contains("forwarder run"), "{line}: {text}");
    }
    let output = lab.forwarder("routes nonsense")?;
    ensure!(output.status.code() == Some(2), "{:?}", output.status);
    run(&mut lab.command("router", "true")).map(drop)
}
