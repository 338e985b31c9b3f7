//! ExaBGP, on a host of the lab.

use anyhow::{Result, ensure};
use forwarder::source::feed::{FeedState, FeedTable};
use forwarder_tests::exabgp::{ExaBgp, RULES, config};
use forwarder_tests::lab::Lab;

use crate::feed::{Feed, address};

const NEIGHBOUR: &str = "listen = \"10.2.0.1:1179\"\nlocal-as = 64500\n\
                         [[routes.bgp.neighbour]]\naddress = \"10.2.0.2\"\nas = 64501\n";

#[test]
fn exabgp_tells_its_tables_changes_them_and_comes_back() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NEIGHBOUR)?;
    let mut exabgp = ExaBgp::start(&lab, &config(0..100, false, RULES)?)?;
    feed.wait(&lab, "its tables", |feed| feed.is_whole(100))?;
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
    exabgp.write(&config(10..100, false, RULES)?)?;
    exabgp.reload();
    feed.wait(&lab, "a tenth to go", |feed| feed.is_whole(90))?;
    ensure!(feed.errors() == 0, "{}", feed.summary());
    // Killed, it offered no restart: everything goes.
    exabgp.kill()?;
    feed.wait(&lab, "the end", |feed| {
        feed.state == FeedState::Down && feed.routes.is_empty()
    })?;
    ensure!(feed.rules.is_empty(), "{}", feed.summary());
    exabgp.write(&config(50..100, false, "")?)?;
    exabgp.run()?;
    feed.wait(&lab, "its return", |feed| feed.is_whole(50))?;
    Ok(())
}

#[test]
fn exabgp_killed_and_back_with_another_table_is_swept() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NEIGHBOUR)?;
    let mut exabgp = ExaBgp::start(&lab, &config(0..50, true, RULES)?)?;
    feed.wait(&lab, "its tables", |feed| {
        feed.is_whole(50) && feed.rules.len() == 2
    })?;
    exabgp.kill()?;
    feed.wait(&lab, "the loss", |feed| feed.state == FeedState::Stale)?;
    ensure!(feed.routes.len() == 150, "{}", feed.summary());
    exabgp.write(&config(20..50, true, "")?)?;
    exabgp.run()?;
    feed.wait(&lab, "its return", |feed| {
        feed.sessions() == 2 && feed.is_whole(30)
    })?;
    ensure!(feed.stale() == 0 && feed.rules.is_empty(), "{}", feed.summary());
    feed.keep(0, "exabgp-restart")
}
