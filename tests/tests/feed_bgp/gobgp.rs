//! GoBGP, on a host of the lab.

use anyhow::{Result, ensure};
use forwarder::source::feed::FeedState;
use forwarder_tests::gobgp::GoBgp;
use forwarder_tests::lab::Lab;

use crate::feed::{Feed, address};

const NEIGHBOUR: &str = "listen = \"10.2.0.1:1179\"\nlocal-as = 64500\n\
                         [[routes.bgp.neighbour]]\naddress = \"10.2.0.2\"\nas = 64501\n";

#[test]
fn gobgp_tells_its_tables_changes_them_and_resets() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NEIGHBOUR)?;
    let gobgp = GoBgp::start(&lab, "", "")?;
    for number in 0..40 {
        gobgp.route("add", number)?;
    }
    feed.wait(&lab, "its routes", |feed| feed.is_whole(40))?;
    let attributes = feed.attributes("198.18.7.0/24")?;
    ensure!((attributes.med, attributes.external, attributes.origin_as()) == (Some(10), true, Some(64_501)));
    ensure!(attributes.communities == [64_501 << 16 | 7], "{attributes:?}");
    ensure!(feed.gateways("2001:db8:7::/48")?[0].address == address("fd00:2::2"));
    for number in 0..10 {
        gobgp.route("del", number)?;
    }
    feed.wait(&lab, "a quarter to go", |feed| {
        feed.prefixes(true).len() == 30 && feed.prefixes(false).len() == 30
    })?;
    gobgp.ask("neighbor 10.2.0.1 reset")?;
    feed.wait(&lab, "a second session", |feed| {
        feed.sessions() == 2 && feed.state == FeedState::Live && feed.routes.len() == 60
    })?;
    ensure!(feed.errors() == 0, "{}", feed.summary());
    Ok(())
}

#[test]
fn gobgp_killed_and_back_with_another_table_is_swept() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NEIGHBOUR)?;
    let restart = "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 60\n";
    let mut gobgp = GoBgp::start(&lab, restart, "")?;
    for number in 0..20 {
        gobgp.route("add", number)?;
    }
    feed.wait(&lab, "its routes", |feed| {
        feed.state == FeedState::Live && feed.routes.len() == 40
    })?;
    gobgp.kill()?;
    feed.wait(&lab, "the loss", |feed| feed.state == FeedState::Stale)?;
    ensure!(feed.stale() == 40, "{}", feed.summary());
    // It keeps its End-of-RIB until it has heard ours, or a time has passed: we have routes for nobody.
    gobgp.run(&["-r"])?;
    for number in 10..20 {
        gobgp.route("add", number)?;
    }
    feed.wait(&lab, "its return", |feed| {
        feed.sessions() == 2 && feed.routes.len() == 20
    })?;
    ensure!(
        feed.stale() == 0 && feed.state == FeedState::Live,
        "{}",
        feed.summary()
    );
    Ok(())
}

#[test]
fn gobgp_sends_flowspec_rules_and_its_malformed_ones_are_counted() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, &format!("{NEIGHBOUR}add-path = false\n"))?;
    let gobgp = GoBgp::start(&lab, "", "")?;
    let v4 = "global rib add -a ipv4-flowspec match destination 203.0.113.5/32 protocol udp destination-port ==53 then discard";
    let v6 = "global rib add -a ipv6-flowspec match destination 2001:db8:ffff::/48 protocol udp then discard";
    gobgp.ask(v4)?;
    gobgp.ask(v6)?;
    feed.wait(&lab, "two rules", |feed| feed.rules.len() == 2)?;
    let rule = feed
        .rules
        .values()
        .next()
        .map(|(rule, _)| rule.attributes.extended.clone());
    ensure!(rule == Some(vec![[0x80, 6, 0, 0, 0, 0, 0, 0]]), "{rule:?}");
    gobgp.ask(&v4.replace("add", "del"))?;
    feed.wait(&lab, "one rule to go", |feed| feed.rules.len() == 1)?;
    ensure!(feed.errors() == 0, "{}", feed.summary());
    feed.keep(0, "gobgp-flowspec")
}

/// With ADD-PATH, GoBGP 3.10 puts path identifiers inside the prefixes of IPv4 rules.
#[test]
fn gobgp_with_add_path_costs_its_rules_and_not_its_routes() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NEIGHBOUR)?;
    // For one family alone, as an operator would who wants two paths to choose from.
    let gobgp = GoBgp::start(&lab, "", "[neighbors.afi-safis.add-paths.config]\nsend-max = 4\n")?;
    gobgp
        .ask("global rib add -a ipv4-flowspec match destination 203.0.113.5/32 protocol udp then discard")?;
    for number in 0..10 {
        gobgp.route("add", number)?;
    }
    feed.wait(&lab, "its routes", |feed| feed.is_whole(10))?;
    let session = feed.handle()?.counts.session();
    ensure!(
        session.tables.first().is_some_and(|table| table.add_path),
        "{}",
        feed.summary()
    );
    // Malformed and counted, or in a version that does better, a rule.
    feed.wait(&lab, "the rule, or its error", |feed| {
        feed.errors() as usize + feed.rules.len() == 1
    })?;
    ensure!(feed.sessions() == 1, "{}", feed.summary());
    feed.keep(0, "gobgp-add-path")
}
