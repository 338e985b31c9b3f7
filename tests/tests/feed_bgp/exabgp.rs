//! ExaBGP, on a host of the lab.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Result, ensure};
use forwarder::source::feed::{FeedState, FeedTable};
use forwarder_tests::daemon::Daemon;
use forwarder_tests::lab::Lab;

use crate::feed::{Feed, address};

const NEIGHBOUR: &str = "listen = \"10.2.0.1:1179\"\nlocal-as = 64500\n\
                         [[routes.bgp.neighbour]]\naddress = \"10.2.0.2\"\nas = 64501\n";

/// ExaBGP with routes of these numbers and, where asked for, rules.
fn config(numbers: std::ops::Range<usize>, restart: bool, rules: bool) -> Result<String> {
    let mut text = String::from(
        "neighbor 10.2.0.1 {\nrouter-id 10.2.0.2;\nlocal-address 10.2.0.2;\nlocal-as 64501;\npeer-as 64500;\n\
         connect 1179;\nhold-time 30;\n",
    );
    let restart = if restart { "graceful-restart 60;" } else { "" };
    writeln!(
        text,
        "capability {{ add-path send/receive; route-refresh enable; {restart} }}"
    )?;
    text += "family { ipv4 unicast; ipv6 unicast; ipv4 flow; ipv6 flow; }\nstatic {\n";
    for number in numbers {
        writeln!(
            text,
            "route 198.18.{number}.0/24 next-hop 10.2.0.2 path-information 0.0.0.1 community [64501:7] \
             large-community [64501:1:2] as-path [ 64501 4200000001 ];\n\
             route 198.18.{number}.0/24 next-hop 10.2.0.9 path-information 0.0.0.2;\n\
             route 2001:db8:{number:x}::/48 next-hop fd00:2::2;"
        )?;
    }
    text += "}\n";
    if rules {
        text += "flow {\n\
                 route one { match { destination 203.0.113.5/32; source 198.18.0.0/15; protocol udp; \
                 destination-port [ =53 >1000&<2000 ]; } then { discard; } }\n\
                 route two { match { destination 2001:db8:ffff::/48; protocol udp; } then { rate-limit 1000000; } }\n}\n";
    }
    Ok(text + "}\n")
}

struct ExaBgp<'a> {
    lab: &'a Lab,
    daemon: Option<Daemon>,
}

impl<'a> ExaBgp<'a> {
    fn start(lab: &'a Lab, config: &str) -> Result<ExaBgp<'a>> {
        let mut exabgp = ExaBgp { lab, daemon: None };
        exabgp.write(config)?;
        exabgp.run()?;
        Ok(exabgp)
    }

    fn write(&self, config: &str) -> Result<()> {
        Ok(fs::write(self.lab.dir().join("exabgp.conf"), config)?)
    }

    fn run(&mut self) -> Result<()> {
        let mut command = self.lab.command("b", "exabgp");
        command
            .arg(self.lab.dir().join("exabgp.conf"))
            .env("exabgp.daemon.user", "root")
            .env("exabgp.api.cli", "false")
            .env("exabgp.log.level", "INFO");
        self.daemon = Some(Daemon::start(self.lab, "exabgp", &mut command)?);
        Ok(())
    }
}

fn whole(feed: &Feed, numbers: usize) -> bool {
    feed.state == FeedState::Live
        && feed.prefixes(true).len() == numbers
        && feed.prefixes(false).len() == numbers
}

#[test]
fn exabgp_tells_its_tables_changes_them_and_comes_back() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NEIGHBOUR)?;
    let mut exabgp = ExaBgp::start(&lab, &config(0..100, false, true)?)?;
    feed.wait(&lab, "its tables", |feed| whole(feed, 100))?;
    let hops: Vec<_> = feed
        .gateways("198.18.7.0/24")?
        .iter()
        .map(|gateway| gateway.address)
        .collect();
    ensure!(
        hops == [address("10.2.0.2"), address("10.2.0.9")],
        "two paths: {hops:?}"
    );
    let attributes = feed.attributes("198.18.7.0/24")?;
    ensure!(attributes.origin_as() == Some(4_200_000_001) && attributes.neighbour_as() == Some(64_501));
    ensure!(attributes.large == [[64_501, 1, 2]], "{attributes:?}");
    let tables: Vec<_> = feed.rules.keys().map(|(table, _)| *table).collect();
    ensure!(
        tables == [FeedTable::FlowSpec4, FeedTable::FlowSpec6],
        "{tables:?}"
    );
    // It reads its configuration again.
    exabgp.write(&config(10..100, false, true)?)?;
    if let Some(daemon) = &exabgp.daemon {
        daemon.signal(libc::SIGUSR1);
    }
    feed.wait(&lab, "a tenth to go", |feed| whole(feed, 90))?;
    ensure!(feed.errors() == 0, "{}", feed.summary());
    // Killed, it offered no restart: everything goes.
    if let Some(daemon) = exabgp.daemon.take() {
        daemon.kill()?;
    }
    feed.wait(&lab, "the end", |feed| {
        feed.state == FeedState::Down && feed.routes.is_empty()
    })?;
    ensure!(feed.rules.is_empty(), "{}", feed.summary());
    exabgp.write(&config(50..100, false, false)?)?;
    exabgp.run()?;
    feed.wait(&lab, "its return", |feed| whole(feed, 50))?;
    Ok(())
}

#[test]
fn exabgp_killed_and_back_with_another_table_is_swept() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NEIGHBOUR)?;
    let mut exabgp = ExaBgp::start(&lab, &config(0..50, true, true)?)?;
    feed.wait(&lab, "its tables", |feed| {
        whole(feed, 50) && feed.rules.len() == 2
    })?;
    if let Some(daemon) = exabgp.daemon.take() {
        daemon.kill()?;
    }
    feed.wait(&lab, "the loss", |feed| feed.state == FeedState::Stale)?;
    ensure!(feed.routes.len() == 150, "{}", feed.summary());
    exabgp.write(&config(20..50, true, false)?)?;
    exabgp.run()?;
    feed.wait(&lab, "its return", |feed| feed.sessions() == 2 && whole(feed, 30))?;
    ensure!(feed.stale() == 0 && feed.rules.is_empty(), "{}", feed.summary());
    feed.keep(0, "exabgp-restart")
}
