//! `forwarder doctor` in a namespace that is set up wrongly, one thing after the other: each is found, with what mends it.

use anyhow::{Context, Result, ensure};
use forwarder_tests::lab::{Lab, run};
use serde_json::Value;

/// Asks; what it says, and its exit code.
fn asked(lab: &Lab, words: &str) -> Result<(Vec<Value>, i32)> {
    let output = lab.forwarder(&format!("doctor --json {words}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).with_context(|| said)?;
    Ok((rows, output.status.code().context("a signal")?))
}

/// There is such a finding: of this check, about this interface, of this severity, with these words.
fn finds(rows: &[Value], check: &str, ifname: Option<&str>, severity: &str, found: &str) -> Result<()> {
    let fits = |row: &&Value| {
        row["check"] == check
            && row["ifname"].as_str() == ifname
            && row["severity"] == severity
            && row["found"].as_str().is_some_and(|text| text.contains(found))
    };
    let count = rows.iter().filter(fits).count();
    ensure!(
        count == 1,
        "{check} {ifname:?} {severity} {found:?}: {count} of {rows:#?}"
    );
    Ok(())
}

#[test]
fn what_is_set_up_wrongly_is_found() -> Result<()> {
    let lab = Lab::new()?;
    let (rows, code) = asked(&lab, "--interface a --interface b")?;
    for ifname in ["a", "b"] {
        finds(&rows, "link", Some(ifname), "ok", "driver veth")?;
        finds(&rows, "xdp", Some(ifname), "ok", "native XDP")?;
        finds(&rows, "mtu", Some(ifname), "ok", "MTU 1500")?;
        finds(&rows, "forwarding", Some(ifname), "ok", "")?;
    }
    finds(&rows, "nftables", None, "ok", "no chain")?;
    finds(&rows, "ip-rules", None, "ok", "")?;
    // The third interface of the lab has routes, too.
    ensure!(
        rows.iter()
            .any(|row| row["check"] == "other-links" && row["severity"] == "note"),
        "{rows:#?}"
    );
    ensure!(rows.iter().all(|row| row["severity"] != "error"), "{rows:#?}");
    ensure!(code == 0 || code == 3, "{code}: {rows:#?}");

    run(lab.command("router", "nft").arg(
        "table inet filter { chain onward { type filter hook forward priority 0; ct state invalid drop; }; \
         chain local { type filter hook input priority 0; ct state invalid drop; }; }; \
         table ip nat { chain post { type nat hook postrouting priority 100; masquerade; }; }",
    ))?;
    lab.ip("router", "rule add from 192.0.2.0/25 lookup 100")?;
    lab.ip("router", "link set dev a mtu 9000")?;
    lab.sysctl("router", "ipv4/conf/b/forwarding", "0")?;
    lab.ip("router", "link set dev b down")?;
    let (rows, code) = asked(&lab, "--interface a --interface b --interface nowhere0")?;
    finds(
        &rows,
        "nftables",
        None,
        "warning",
        "inet filter onward filters forwarded packets (1 rule)",
    )?;
    finds(
        &rows,
        "nftables",
        None,
        "error",
        "ip nat post translates addresses (1 rule)",
    )?;
    finds(&rows, "ip-rules", None, "error", "`ip rule`")?;
    finds(&rows, "mtu", Some("a"), "ok", "MTU 9000, in several buffers")?;
    finds(&rows, "forwarding", Some("b"), "warning", "off")?;
    finds(&rows, "link", Some("b"), "warning", "down")?;
    finds(&rows, "link", Some("nowhere0"), "error", "no such interface")?;
    ensure!(code == 1, "{code}");

    // What stands on an interface of the configuration is served with it, or it is said why not.
    lab.ip("router", "link set dev a mtu 1500")?;
    for (name, mode, prefix) in [
        ("vrrp0", "private", "203.0.113.0/25"),
        ("taps0", "source", "203.0.113.128/25"),
    ] {
        lab.ip(
            "router",
            &format!("link add link a name {name} type macvlan mode {mode}"),
        )?;
        lab.ip("router", &format!("link set dev {name} up"))?;
        lab.ip("router", &format!("route add {prefix} dev {name}"))?;
    }
    let (rows, _) = asked(&lab, "--interface a --interface b")?;
    finds(&rows, "macvlan", Some("vrrp0"), "ok", "macvlan (private) on a")?;
    finds(
        &rows,
        "macvlan",
        Some("taps0"),
        "warning",
        "macvlan (source) on a",
    )?;
    finds(
        &rows,
        "other-links",
        None,
        "warning",
        "1 route leads through taps0 (macvlan)",
    )?;
    ensure!(
        !rows.iter().any(|row| row["found"]
            .as_str()
            .is_some_and(|text| text.contains("through vrrp0"))),
        "{rows:#?}"
    );
    // Without it they are not.
    let (rows, code) = asked(&lab, "--interface b --interface vrrp0")?;
    finds(
        &rows,
        "macvlan",
        Some("vrrp0"),
        "error",
        "it stands on a, which is not in the configuration",
    )?;
    ensure!(code == 1, "{code}");

    // A bridge has no rings, no queues to choose, and no native XDP; its hardware is none.
    lab.ip("router", "link add bridge0 type bridge")?;
    let (rows, code) = asked(&lab, "--interface bridge0")?;
    finds(&rows, "xdp", Some("bridge0"), "error", "native XDP")?;
    ensure!(code == 1, "{code}");
    Ok(())
}

#[test]
fn wrong_words_and_a_wrong_configuration_are_said() -> Result<()> {
    let lab = Lab::new()?;
    let says = |line: &str, code: i32, word: &str| -> Result<()> {
        let output = lab.forwarder(line)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(code),
            "{line}: {:?}: {text}",
            output.status
        );
        ensure!(text.contains(word), "{line}: {text}");
        Ok(())
    };
    says("doctor --interface a --config x", 2, "cannot be used with")?;
    says("doctor --config /nowhere.toml", 1, "/nowhere.toml")?;
    let config = lab.config(&["a"], "[routes]\nmax-age = \"soon\"\n")?;
    says(&format!("doctor --config {}", config.display()), 1, "max-age")
}
