//! Lists of bogons in files, changed under a running controller.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    controller::Controller,
    frame,
    lab::{LIMIT, Lab},
    operator::{figure, row},
    packets::Wire,
};
use serde_json::Value;

const ROUTER_A: [u8; 6] = [2, 0, 0, 0, 1, 1];
const HOST_A: [u8; 6] = [2, 0, 0, 0, 1, 2];

/// From outside to host b, from an address whose first octet is this.
fn packet(first: u8) -> Vec<u8> {
    let data = frame::udp(5, 6, 40);
    let (source, to) = ([first, 0, 0, 1].into(), [10, 2, 0, 2].into());
    frame::ipv4((ROUTER_A, HOST_A), source, to, frame::UDP, 64, &data)
}

fn ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(30..34) == Some(&[10, 2, 0, 2])
}

struct Edge<'a> {
    lab: &'a Lab,
    outside: Wire,
    inside: Wire,
}

impl Edge<'_> {
    fn dropped(&self) -> Result<i64> {
        let row = row(self.lab, "drops", "reason", "bogon-source")?;
        match row.is_null() {
            true => Ok(0),
            false => figure(&row, "packets"),
        }
    }

    /// A packet from there is dropped and counted.
    fn refuses(&self, first: u8) -> Result<()> {
        let before = self.dropped()?;
        self.outside.send(&packet(first))?;
        let counted = || Ok((self.dropped()? == before + 1).then_some(()));
        self.lab
            .wait(&format!("a packet from {first}.0.0.1 to be counted"), counted)
            .with_context(|| self.lab.picture())
    }

    /// A packet from there arrives.
    fn admits(&self, first: u8) -> Result<()> {
        self.outside.send(&packet(first))?;
        let arrived = self.inside.receive(LIMIT, ours)?;
        let arrived = arrived.with_context(|| format!("{first}: lost\n{}", self.lab.picture()))?;
        ensure!(arrived[26] == first, "from {}", arrived[26]);
        Ok(())
    }

    /// Waits until the list in the file is so; answers the problems.
    fn wait(&self, what: &str, so: impl Fn(&Value) -> bool) -> Result<String> {
        let waited = self.lab.wait(what, || {
            let status = self.lab.json("status")?;
            let mut lists = status[0]["bogons"].as_array().into_iter().flatten();
            let list = lists.find(|list| list["kind"] == "file");
            Ok(list.is_some_and(&so).then(|| status[0]["problems"].to_string()))
        });
        waited.with_context(|| self.lab.picture())
    }
}

/// As a careful download does it.
fn replace(list: &Path, text: &str) -> Result<()> {
    let new = list.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, list).map_err(Into::into)
}

fn said(controller: &Controller<'_>, what: &str) -> usize {
    controller.log().matches(what).count()
}

#[test]
fn a_list_that_changes_takes_effect_and_one_that_is_bad_or_gone_keeps_the_old() -> Result<()> {
    let lab = Lab::new()?;
    lab.resolve("router", "10.2.0.2")?;
    let list = lab.dir().join("bogons");
    fs::write(&list, "# last updated 1758000000\n7.0.0.0/24\n2a00::/12\n")?;
    let config = format!(
        "[[interface]]\nname = \"a\"\nrole = \"transit\"\nsource-check = \"off\"\n\
         [filter]\nbogon-prefixes = [\"6.0.0.0/8\"]\nbogon-files = [\"{}\"]\n",
        list.display()
    );
    let controller = lab.start(&["b"], &config)?;
    let edge = Edge {
        lab: &lab,
        outside: lab.wire("a")?,
        inside: lab.wire("b")?,
    };
    edge.wait("the list", |list| list["ipv4"] == 1 && list["ipv6"] == 1)?;
    for first in [6, 7, 10] {
        edge.refuses(first)?;
    }
    edge.admits(5)?;

    // Written in place, and what covers a subnet of our own does not cut it.
    fs::write(&list, "5.0.0.0/8 ; all of it\n8.0.0.0/8\n10.2.0.0/16\n")?;
    let problems = edge.wait("the new list", |list| list["ipv4"] == 3)?;
    ensure!(problems == "[]", "{problems}");
    edge.refuses(5)?;
    edge.admits(7)?;
    let screen = lab.forwarder("filter show")?;
    let screen = String::from_utf8_lossy(&screen.stdout).into_owned();
    let line = format!("3 IPv4 + 0 IPv6 of {}, read ", list.display());
    ensure!(
        screen.contains(&line) && screen.contains("built in (IANA "),
        "{screen}"
    );

    fs::write(&list, "7.0.0.0/24\n5.0.0.0/8\n5.0.0/24\n")?;
    let problems = edge.wait("the problem", |list| !list["why"].is_null())?;
    ensure!(
        problems.contains("bogons, line 3, column 1: `5.0.0/24` is not a prefix"),
        "{problems}"
    );
    edge.refuses(8)?;
    edge.admits(7)?;

    replace(&list, "7.0.0.0/24\n")?;
    let problems = edge.wait("the list to be whole again", |list| list["why"].is_null())?;
    ensure!(problems == "[]", "{problems}");
    edge.refuses(7)?;
    edge.admits(5)?;

    fs::remove_file(&list)?;
    let problems = edge.wait("the problem", |list| !list["why"].is_null())?;
    ensure!(
        problems.contains("No such file") && problems.contains("The 1 prefixes"),
        "{problems}"
    );
    edge.refuses(7)?;

    // At once when it is told to.
    let many: String = (0..9_000)
        .map(|i| format!("1.{}.{}.0/25\n", i >> 8, i & 255))
        .collect();
    fs::write(&list, many)?;
    // SAFETY: a signal to a process that is ours.
    ensure!(unsafe { libc::kill(controller.pid() as i32, libc::SIGHUP) } == 0);
    let problems = edge.wait("the problem", |list| {
        list["why"]
            .as_str()
            .is_some_and(|why| why.contains("9000 prefixes"))
    })?;
    ensure!(
        problems.contains("has no room for so many prefixes"),
        "{problems}"
    );
    edge.refuses(7)?;
    edge.admits(5)?;
    for (what, times) in [("is not a prefix", 1), ("No such file", 1), ("SIGHUP", 1)] {
        let counted = said(&controller, what);
        ensure!(
            counted == times,
            "{what:?}: {counted} times in\n{}",
            controller.log()
        );
    }

    // A restart wants lists that are good: what is in force stays in force, and the data path with it.
    ensure!(controller.stop()?.success());
    let output = lab.forwarder(&format!(
        "check --config {}",
        lab.dir().join("forwarder.toml").display()
    ))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1) && text.contains("the 9000 prefixes here"),
        "{text}"
    );
    edge.refuses(7)
}
