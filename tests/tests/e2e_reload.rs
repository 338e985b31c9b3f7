//! Another configuration under traffic: all of it or nothing, for good or for a trial, and no packet lost.

use std::{fs, path::PathBuf, process::Output, time::Duration};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    controller::Controller,
    lab::Lab,
    operator::{patient, row},
    traffic,
};
use serde_json::Value;

const TO: [&str; 2] = ["5.1.0.1", "2a05::1"];

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.1.0.0/16 via 10.2.0.2")?;
    lab.ip("router", "route add 2a05::/32 via fd00:2::2")?;
    lab.resolve_carriers()?;
    Ok(lab)
}

fn said(output: &Output) -> (String, String) {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A command that succeeds, and what it said.
fn good(lab: &Lab, line: &str) -> Result<String> {
    let output = lab.forwarder(line)?;
    let (out, error) = said(&output);
    ensure!(output.status.success(), "forwarder {line}: {out}{error}");
    Ok(out)
}

/// A command that fails, and why.
fn bad(lab: &Lab, line: &str) -> Result<String> {
    let output = lab.forwarder(line)?;
    let (out, error) = said(&output);
    ensure!(output.status.code() == Some(1), "forwarder {line}: {out}{error}");
    Ok(error)
}

fn status(lab: &Lab) -> Result<Value> {
    Ok(lab.json("status")?[0].clone())
}

fn mode(lab: &Lab, ifname: &str) -> Result<Value> {
    Ok(row(lab, "interfaces", "ifname", ifname)?["mode"].clone())
}

/// The configuration with c, and another maximum age, in a file of its own.
fn other(lab: &Lab) -> Result<(PathBuf, String)> {
    let before = fs::read_to_string(lab.dir().join("forwarder.toml"))?;
    let text =
        format!("{before}\n[[interface]]\nname = \"c\"\nrole = \"transit\"\n[routes]\nmax-age = \"17s\"\n");
    let path = lab.dir().join("other.toml");
    fs::write(&path, &text)?;
    Ok((path, text))
}

#[test]
fn a_reload_takes_all_of_it_and_loses_no_packet() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    let file = lab.dir().join("forwarder.toml");
    let (_, text) = other(&lab)?;
    let pid = controller.pid();
    let ((), arrived) = traffic::under(&lab, &TO, |traffic| {
        traffic.flow(50)?;
        ensure!(good(&lab, "reload")?.contains("nothing has changed"));
        fs::write(&file, &text)?;
        let would = good(&lab, "reload --dry-run")?;
        ensure!(
            would.contains("+ interface c = ") && would.contains("nothing was done"),
            "{would}"
        );
        ensure!(mode(&lab, "c")? == Value::Null, "it was not to be attached");
        let out = good(&lab, "reload")?;
        for wanted in [
            "+ interface c = { name = \"c\", role = \"transit\" }",
            "+ routes.max-age = \"17s\"",
            "is in force",
        ] {
            ensure!(out.contains(wanted), "no {wanted} in {out}");
        }
        let now = status(&lab)?;
        ensure!(
            now["pid"] == pid && now["max_age"] == 17.0 && now["config"]["refused"].is_null(),
            "{now}"
        );
        ensure!(mode(&lab, "c")? == "native", "{}", lab.picture());
        traffic.flow(50)?;
        // And away again.
        lab.config(&["a", "b"], "")?;
        let out = good(&lab, "reload --json")?;
        let rows: Value = serde_json::from_str(&out)?;
        ensure!(
            rows[0]["state"] == "in-force" && rows[0]["changes"].as_array().is_some_and(|all| all.len() == 2),
            "{out}"
        );
        ensure!(mode(&lab, "c")? == "detached", "{}", lab.picture());
        traffic.flow(50)?;
        Ok(())
    })?;
    // The kernel would have sent them, too: they were ours, but for those that came while nobody was attached.
    traffic::all_forwarded(&lab, 0, &arrived)?;
    drop(controller);
    Ok(())
}

#[test]
fn what_is_not_sound_or_cannot_be_started_with_changes_nothing() -> Result<()> {
    let lab = lab()?;
    let mut controller = lab.start(&["a", "b"], "")?;
    let file = lab.dir().join("forwarder.toml");
    let sound = fs::read_to_string(&file)?;
    let ((), _) = traffic::under(&lab, &TO, |traffic| {
        traffic.flow(20)?;
        // A mistake: the command says where, and the controller is not even told.
        fs::write(&file, format!("{sound}\n[routes]\nmax-ages = \"3s\"\n"))?;
        let why = bad(&lab, "reload")?;
        ensure!(
            why.contains("max-ages") && why.contains("forwarder.toml, line "),
            "{why}"
        );
        // Told by a signal, it says so in its status, and goes on.
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(controller.pid() as i32, libc::SIGHUP) };
        patient(&lab, "the refusal", || {
            let now = status(&lab)?;
            let told = now["problems"].to_string().contains("stays in force")
                && now["config"]["refused"].is_string();
            Ok(told.then_some(()))
        })?;
        traffic.flow(20)?;
        // Sound, and yet no start: nobody has that address.
        fs::write(
            &file,
            format!("{sound}\n[api]\nmetrics = \"198.51.100.77:9177\"\n"),
        )?;
        let why = bad(&lab, "reload")?;
        ensure!(
            why.contains("198.51.100.77") && why.contains("stays in force"),
            "{why}"
        );
        ensure!(controller.alive()?, "{}", controller.log());
        let now = status(&lab)?;
        ensure!(
            now["pid"] == controller.pid() && now["config"]["refused"].is_string(),
            "{now}"
        );
        traffic.flow(20)?;
        let why = bad(&lab, &format!("apply {}", file.display()))?;
        ensure!(why.contains("198.51.100.77"), "{why}");
        fs::write(&file, &sound)?;
        good(&lab, "reload")?;
        ensure!(
            status(&lab)?["problems"].as_array().is_some_and(Vec::is_empty),
            "{}",
            lab.picture()
        );
        Ok(())
    })?;
    ensure!(mode(&lab, "a")? == "native");
    drop(controller);
    Ok(())
}

#[test]
fn a_trial_ends_by_itself_unless_it_is_confirmed() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    let file = lab.dir().join("forwarder.toml");
    let before = fs::read_to_string(&file)?;
    let (other, text) = other(&lab)?;
    let apply = format!("apply {} --confirm 5s", other.display());
    let on_trial = |lab: &Lab| -> Result<bool> { Ok(status(lab)?["config"]["trial_seconds"].is_u64()) };
    for line in ["confirm", "rollback"] {
        let why = bad(&lab, line)?;
        ensure!(why.contains("no configuration is on trial"), "{line}: {why}");
    }
    let ((), _) = traffic::under(&lab, &TO, |traffic| {
        // Nobody confirms.
        let out = good(&lab, &apply)?;
        ensure!(
            out.contains("on trial for 5 s") && out.contains("+ interface c"),
            "{out}"
        );
        ensure!(
            on_trial(&lab)? && mode(&lab, "c")? == "native",
            "{}",
            lab.picture()
        );
        ensure!(fs::read_to_string(&file)? == before, "the file was changed");
        for line in ["reload".to_owned(), format!("apply {}", other.display())] {
            ensure!(bad(&lab, &line)?.contains("is on trial"), "{line}");
        }
        ensure!(fs::read_to_string(&file)? == before, "the file was changed");
        traffic.flow(20)?;
        patient(&lab, "the trial to end", || {
            Ok((matches!(on_trial(&lab), Ok(false)) && mode(&lab, "c")? == "detached").then_some(()))
        })?;
        // Taken back by hand.
        good(&lab, &apply)?;
        good(&lab, "rollback")?;
        ensure!(
            !on_trial(&lab)? && mode(&lab, "c")? == "detached",
            "{}",
            lab.picture()
        );
        // Kept.
        good(&lab, &apply)?;
        ensure!(good(&lab, "confirm")?.contains("is in force"));
        ensure!(!on_trial(&lab)? && fs::read_to_string(&file)? == text);
        std::thread::sleep(Duration::from_secs(6));
        ensure!(mode(&lab, "c")? == "native", "{}", lab.picture());
        traffic.flow(20)?;
        Ok(())
    })?;
    // Killed while something is on trial: what comes back is the file.
    fs::write(&other, &before)?;
    good(&lab, &format!("apply {} --confirm 60s", other.display()))?;
    ensure!(mode(&lab, "c")? == "detached");
    controller.kill()?;
    let controller = Controller::start(&lab, &file)?;
    ensure!(
        !on_trial(&lab)? && mode(&lab, "c")? == "native",
        "{}",
        lab.picture()
    );
    drop(controller);
    Ok(())
}

#[test]
fn a_controller_without_a_file_has_nothing_to_reload() -> Result<()> {
    let lab = lab()?;
    let why = bad(&lab, "reload")?;
    ensure!(why.contains("no controller"), "{why}");
    let controller = lab.start(&["a", "b"], "")?;
    controller.stop()?;
    let why = bad(&lab, "reload").context("with maps and no controller")?;
    ensure!(why.contains("no controller runs"), "{why}");
    Ok(())
}
