//! `forwarder record`: the kernel, a zebra and a file system that is full.
//!
//! With `FORWARDER_CAPTURE` (`cargo xtask bless --captures`) what the kernel said is kept in data/kernel.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{controller, frr::Frr, lab::Lab, replay};

/// `forwarder record` on the router.
fn recorder(lab: &Lab, words: &str, file: &Path) -> Result<Command> {
    let mut command = lab.command("router", controller::binary()?);
    command
        .arg("record")
        .args(words.split(' '))
        .arg("--output")
        .arg(file);
    Ok(command)
}

/// What it says when it fails.
fn refused(lab: &Lab, words: &str, file: &Path) -> Result<String> {
    let output = recorder(lab, words, file)?.output()?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Ctrl-C, and what it said.
fn end(child: Child) -> Result<String> {
    // SAFETY: a signal to our own child, which has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits until the file, played, has this.
fn has(lab: &Lab, file: &Path, what: &str) -> Result<()> {
    lab.wait(&format!("{what:?} in the recording"), || {
        Ok(replay::play(file)
            .is_ok_and(|text| text.contains(what))
            .then_some(()))
    })
    .with_context(|| replay::play(file).unwrap_or_default())
}

#[test]
fn the_kernels_dump_and_announcements_are_kept_and_play_again() -> Result<()> {
    let lab = Lab::new()?;
    lab.ip("router", "nexthop add id 7 via 10.2.0.2 dev b")?;
    lab.ip("router", "route add 198.51.100.0/24 nhid 7")?;
    lab.ip("router", "route add blackhole 2001:db8:bad::/48")?;
    let file = lab.dir().join("kernel.rec");
    let child = recorder(&lab, "--feed kernel", &file)?
        .stdout(Stdio::piped())
        .spawn()?;
    has(&lab, &file, "end of dump")?;
    lab.ip("router", "route add 192.0.2.0/24 via 10.3.0.2 metric 5")?;
    lab.ip("router", "route replace 192.0.2.0/24 via 10.2.0.2 metric 5")?;
    lab.ip("router", "route add 192.0.2.0/24 via 10.3.0.2 metric 9")?;
    lab.ip(
        "router",
        "route add 2001:db8:1::/48 nexthop via fd00:2::2 nexthop via fd00:3::2 weight 3",
    )?;
    lab.ip("router", "route del 192.0.2.0/24 metric 9")?;
    has(&lab, &file, "route gone 192.0.2.0/24")?;
    // IPv4 routes by it go without a word: a controller dumps again, and so does this.
    lab.ip("router", "nexthop del id 7")?;
    lab.wait("a second dump", || {
        Ok((replay::play(&file)?.matches("end of dump").count() >= 2).then_some(()))
    })?;
    let said = end(child)?;
    ensure!(said.contains("kernel.rec: ") && said.contains("pieces"), "{said}");
    let text = replay::play(&file)?;
    let (_, routes) = text.split_once("in the end:").context("no table")?;
    for wanted in [
        "192.0.2.0/24 via 10.2.0.2",
        "2001:db8:1::/48 via fd00:2::2",
        "2001:db8:bad::/48 blackhole",
        "weight 3",
    ] {
        ensure!(routes.contains(wanted), "{wanted} is not in\n{text}");
    }
    for gone in [
        "198.51.100.0/24",
        "via 10.3.0.2 if4 table 254 protocol 3 metric 9",
    ] {
        ensure!(!routes.contains(gone), "{gone} is in\n{text}");
    }
    ensure!(text.contains("198.51.100.0/24 next-hop 7"), "{text}");
    if std::env::var_os("FORWARDER_CAPTURE").is_some() {
        let dir = replay::data().join("kernel");
        fs::create_dir_all(&dir)?;
        fs::copy(&file, dir.join("routes.rec"))?;
    }
    let twice = refused(&lab, "--feed kernel", &file)?;
    ensure!(
        twice.contains("kernel.rec exists: name another file, or say --force"),
        "{twice}"
    );
    let again = recorder(&lab, "--feed kernel --seconds 1 --force", &file)?.output()?;
    ensure!(again.status.success(), "{again:?}");
    ensure!(replay::play(&file)?.contains("end of dump"));
    Ok(())
}

#[test]
fn a_full_disk_ends_a_recording_with_what_was_whole() -> Result<()> {
    let lab = Lab::new()?;
    let dir = lab.dir().join("small");
    fs::create_dir(&dir)?;
    let mount = |command: &mut Command| -> Result<()> {
        let output = command.output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    };
    mount(
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"])
            .arg(&dir),
    )?;
    let file = dir.join("kernel.rec");
    let said = refused(&lab, "--feed kernel", &file);
    let played = fs::read(&file);
    mount(Command::new("umount").arg(&dir))?;
    let (said, played) = (said?, played?);
    ensure!(
        said.contains("No space left on device") && said.contains("The recording ends here"),
        "{said}"
    );
    let player = forwarder::source::record::Player::open(&played[..])?;
    for chunk in player {
        chunk?;
    }
    Ok(())
}

#[test]
fn a_zebra_is_recorded_where_no_controller_runs() -> Result<()> {
    let lab = Lab::new()?;
    let config = lab.config(
        &["a", "b", "c"],
        "[routes]\nsources = [\"fpm\", \"kernel\"]\n[routes.fpm]\n",
    )?;
    let words = format!("--feed fpm --config {}", config.display());
    let file = lab.dir().join("zebra.rec");
    let log = File::create(lab.dir().join("record.log"))?;
    let child = recorder(&lab, &words, &file)?
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    lab.wait("the recorder", || Ok(file.exists().then_some(())))?;
    let other = lab.dir().join("other.rec");
    let second = refused(&lab, &words, &other)?;
    ensure!(
        second.contains("a controller that runs has the session") && second.contains("in use"),
        "{second}"
    );
    ensure!(!other.exists(), "a file without a session");
    let mut frr = Frr::new(&lab, "router")?;
    let zebra = "hostname router\nfpm address 127.0.0.1 port 2620\n";
    frr.start("zebra", zebra, &["-M", "dplane_fpm_nl"])?;
    frr.start("staticd", "ip route 198.51.100.0/24 10.2.0.2\n", &[])?;
    has(&lab, &file, "route 198.51.100.0/24")?;
    end(child)?;
    ensure!(replay::play(&file)?.contains("198.51.100.0/24 via 10.2.0.2"));
    Ok(())
}
