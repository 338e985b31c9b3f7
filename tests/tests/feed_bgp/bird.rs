//! BIRD 2, beside us on the router by loopback, and on a host with a password.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use forwarder::source::feed::{FeedState, FeedTable, Segment};
use forwarder_tests::bird::Bird;
use forwarder_tests::lab::Lab;
use forwarder_tests::table;
use ipnet::IpNet;

use crate::feed::{Feed, address};

/// The simple case of the manual: whoever calls from this host.
const SIMPLE: &str = "listen = \"127.0.0.2:1179\"\nlocal-as = 64500\n";
/// The same by name, so that it can be recorded from its first octet.
const NAMED: &str =
    "listen = \"127.0.0.2:1179\"\nlocal-as = 64500\n[[routes.bgp.neighbour]]\naddress = \"127.0.0.1\"\n";

/// Routes of both families, and what goes with them.
fn config(session: &str, v4: &[IpNet], v6: &[IpNet]) -> Result<String> {
    let mut text = format!("router id 10.2.0.1;\nprotocol device {{}}\n{session}\n");
    for (family, via, prefixes) in [("ipv4", "10.2.0.2", v4), ("ipv6", "fd00:2::2", v6)] {
        writeln!(text, "protocol static {{ {family};")?;
        for prefix in prefixes {
            writeln!(
                text,
                "route {prefix} via {via} {{ bgp_community.add((64500,7)); bgp_large_community.add((64500,1,2)); \
                 bgp_ext_community.add((rt,64500,100)); bgp_path.prepend(4200000001); bgp_path.prepend(64501); \
                 bgp_local_pref = 250; bgp_med = 5; }};"
            )?;
        }
        writeln!(text, "}}")?;
    }
    Ok(text)
}

/// Our session with these channels.
fn local(channels: &str) -> String {
    format!(
        "protocol bgp feed {{ local 127.0.0.1 as 64500; neighbor 127.0.0.2 port 1179 as 64500; graceful restart on; \
         connect retry time 1; connect delay time 1; error wait time 1, 2; {channels} }}"
    )
}

const UNICAST: &str =
    "ipv4 { import none; export all; next hop keep; }; ipv6 { import none; export all; next hop keep; };";

fn tables() -> Result<(Vec<IpNet>, Vec<IpNet>)> {
    let (mut v4, mut v6) = (table::v4(400)?, table::v6(200)?);
    v4.sort();
    v6.sort();
    Ok((v4, v6))
}

fn live(feed: &Feed) -> bool {
    feed.state == FeedState::Live
}

#[test]
fn bird_tells_its_tables_changes_them_and_takes_them_back() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, SIMPLE)?;
    let (v4, v6) = tables()?;
    let bird = Bird::start(&lab, "router", &config(&local(UNICAST), &v4, &v6)?)?;
    feed.wait(&lab, "BIRD's tables", live)?;
    ensure!(
        feed.prefixes(true) == v4 && feed.prefixes(false) == v6,
        "{}",
        feed.summary()
    );
    let attributes = feed.attributes(&v4[0].to_string())?;
    ensure!(
        attributes.as_path == [Segment::Sequence(vec![64_501, 4_200_000_001])],
        "{attributes:?}"
    );
    ensure!(attributes.communities == [64_500 << 16 | 7], "{attributes:?}");
    ensure!(attributes.large == [[64_500, 1, 2]], "{attributes:?}");
    ensure!(
        attributes.extended == [[0, 2, 0xfb, 0xf4, 0, 0, 0, 100]],
        "{attributes:?}"
    );
    ensure!((attributes.local_pref, attributes.med, attributes.external) == (250, Some(5), false));
    ensure!(feed.gateways(&v4[0].to_string())?[0].address == address("10.2.0.2"));
    ensure!(feed.gateways(&v6[0].to_string())?[0].address == address("fd00:2::2"));
    // A tenth goes.
    bird.write(&config(&local(UNICAST), &v4[40..], &v6[20..])?)?;
    bird.ask("configure")?;
    feed.wait(&lab, "a tenth to go", |feed| {
        feed.prefixes(true) == v4[40..] && feed.prefixes(false) == v6[20..]
    })?;
    // The session is reset: everything goes with it and comes again.
    bird.ask("restart feed")?;
    feed.wait(&lab, "a second session", |feed| {
        feed.sessions() == 2 && live(feed)
    })?;
    ensure!(
        feed.prefixes(true) == v4[40..] && feed.stale() == 0,
        "{}",
        feed.summary()
    );
    // All of it once more, because we ask.
    feed.routes.clear();
    ensure!(feed.speaker.refresh(0));
    feed.wait(&lab, "everything again", |feed| {
        feed.prefixes(true) == v4[40..] && feed.prefixes(false) == v6[20..]
    })?;
    ensure!(feed.errors() == 0, "{}", feed.summary());
    // It says goodbye, and nothing is left.
    bird.ask("disable feed")?;
    feed.wait(&lab, "the end", |feed| feed.state == FeedState::Down)?;
    ensure!(feed.routes.is_empty(), "{}", feed.summary());
    let said = feed.handle()?.counts.last_error().unwrap_or_default();
    ensure!(said == "it says: cease, administrative shutdown", "{said}");
    Ok(())
}

#[test]
fn bird_killed_and_back_with_another_table_is_swept_at_its_end_of_rib() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NAMED)?;
    let (v4, v6) = tables()?;
    let mut bird = Bird::start(&lab, "router", &config(&local(UNICAST), &v4, &v6)?)?;
    feed.wait(&lab, "BIRD's tables", live)?;
    bird.kill()?;
    feed.wait(&lab, "the loss", |feed| feed.state == FeedState::Stale)?;
    ensure!(feed.stale() == 600, "{}", feed.summary());
    bird.write(&config(&local(UNICAST), &v4[40..], &v6[20..])?)?;
    bird.run(&["-R"])?;
    feed.wait(&lab, "BIRD's return", live)?;
    ensure!(
        feed.prefixes(true) == v4[40..] && feed.prefixes(false) == v6[20..],
        "{}",
        feed.summary()
    );
    ensure!(
        (feed.swept, feed.stale(), feed.errors()) == (60, 0, 0),
        "{}",
        feed.summary()
    );
    // Once more, but it does not say that it kept forwarding: nothing stale is kept.
    bird.kill()?;
    feed.wait(&lab, "the loss", |feed| feed.state == FeedState::Stale)?;
    bird.run(&[])?;
    feed.wait(&lab, "BIRD's return", live)?;
    ensure!(
        feed.prefixes(true) == v4[40..] && feed.swept == 60 + 540,
        "{}",
        feed.summary()
    );
    feed.keep(0, "bird-restart")
}

#[test]
fn bird_that_stays_away_is_swept_when_its_time_is_over() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, SIMPLE)?;
    let (v4, v6) = tables()?;
    let session = local(&format!("graceful restart time 3; {UNICAST}"));
    let mut bird = Bird::start(&lab, "router", &config(&session, &v4, &v6)?)?;
    feed.wait(&lab, "BIRD's tables", live)?;
    bird.kill()?;
    feed.wait(&lab, "the loss", |feed| feed.state == FeedState::Stale)?;
    ensure!(feed.routes.len() == 600);
    feed.wait(&lab, "the end of its time", |feed| feed.state == FeedState::Down)?;
    ensure!(feed.routes.is_empty(), "{}", feed.summary());
    Ok(())
}

#[test]
fn bird_sends_more_than_one_path() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NAMED)?;
    let channels = "ipv4 { import none; export all; next hop keep; add paths tx; };";
    let two =
        |second: &str| config(&local(channels), &["198.51.100.0/24".parse()?], &[]).map(|text| text + second);
    let second = "protocol static { ipv4 { preference 50; }; route 198.51.100.0/24 via 10.3.0.2; }\n";
    let bird = Bird::start(&lab, "router", &two(second)?)?;
    feed.wait(&lab, "two paths", |feed| live(feed) && feed.routes.len() == 2)?;
    let mut hops: Vec<_> = feed
        .gateways("198.51.100.0/24")?
        .iter()
        .map(|gateway| gateway.address)
        .collect();
    hops.sort();
    ensure!(hops == [address("10.2.0.2"), address("10.3.0.2")], "{hops:?}");
    bird.write(&two("")?)?;
    bird.ask("configure")?;
    feed.wait(&lab, "one path", |feed| feed.routes.len() == 1)?;
    ensure!(feed.gateways("198.51.100.0/24")?[0].address == address("10.2.0.2"));
    feed.keep(0, "bird-add-path")
}

#[test]
fn bird_sends_flowspec_rules_and_takes_them_back() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, NAMED)?;
    let channels =
        "flow4 { table rules4; import none; export all; }; flow6 { table rules6; import none; export all; };";
    let rules = |second: bool| -> Result<String> {
        let session = format!("flow4 table rules4;\nflow6 table rules6;\n{}", local(channels));
        let mut text = config(&session, &[], &[])?;
        text += "protocol static { flow4 { table rules4; }; route flow4 { dst 203.0.113.5/32; src 198.18.0.0/15; proto = 17; \
                 dport 53,1000..2000; length 0..100; dscp = 10; fragment is_fragment; } \
                 { bgp_ext_community.add((generic, 0x80060000, 0)); }; ";
        if second {
            text += "route flow4 { dst 203.0.113.0/24; proto = 6; tcp flags 0x02/0x12; };";
        }
        text += "}\nprotocol static { flow6 { table rules6; }; route flow6 { dst 2001:db8:ffff::/48; next header = 17; dport = 123; }; }\n";
        Ok(text)
    };
    let bird = Bird::start(&lab, "router", &rules(true)?)?;
    feed.wait(&lab, "three rules", |feed| live(feed) && feed.rules.len() == 3)?;
    let first = feed
        .rules
        .values()
        .find(|(rule, _)| rule.nlri.starts_with(&[1, 32, 203, 0, 113, 5]));
    ensure!(
        first.is_some_and(|(rule, _)| rule.attributes.extended == [[0x80, 6, 0, 0, 0, 0, 0, 0]]),
        "{first:?}"
    );
    let tables: Vec<_> = feed.rules.keys().map(|(table, _)| *table).collect();
    ensure!(
        tables == [FeedTable::FlowSpec4, FeedTable::FlowSpec4, FeedTable::FlowSpec6],
        "{tables:?}"
    );
    bird.write(&rules(false)?)?;
    bird.ask("configure")?;
    feed.wait(&lab, "one to go", |feed| feed.rules.len() == 2)?;
    ensure!(feed.errors() == 0, "{}", feed.summary());
    feed.keep(0, "bird-flowspec")
}

/// BIRD on the next host: IPv4 with a password, IPv6 with a link-local next hop, both one hop away.
fn remote(password: &str) -> String {
    let common = "graceful restart on; connect retry time 1; connect delay time 1; error wait time 1, 2; ttl security on;";
    format!(
        "protocol bgp feed4 {{ local 10.2.0.2 as 64501; neighbor 10.2.0.1 port 1179 as 64500; password \"{password}\"; \
         {common} ipv4 {{ import none; export all; next hop self; }}; }}\n\
         protocol bgp feed6 {{ local fd00:2::2 as 64501; neighbor fd00:2::1 port 1179 as 64500; {common} \
         ipv6 {{ import none; export all; next hop self; }}; ipv4 {{ import none; export all; next hop self; extended next hop on; }}; }}\n"
    )
}

#[test]
fn bird_next_door_needs_the_password_and_has_a_link_local_next_hop() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(
        &lab,
        "listen = [\"10.2.0.1:1179\", \"[fd00:2::1]:1179\"]\nlocal-as = 64500\n\
         [[routes.bgp.neighbour]]\nname = \"four\"\naddress = \"10.2.0.2\"\nas = 64501\npassword = \"hush\"\nttl-security = true\n\
         [[routes.bgp.neighbour]]\nname = \"six\"\naddress = \"fd00:2::2\"\nas = 64501\nttl-security = true\n",
    )?;
    let (v4, v6) = tables()?;
    let bird = Bird::start(&lab, "b", &config(&remote("wrong"), &v4, &v6)?)?;
    // Six has all of it; IPv4 behind an IPv6 next hop (RFC 8950).
    feed.wait(&lab, "the session without a password", |feed| {
        feed.prefixes(true) == v4 && feed.prefixes(false) == v6
    })?;
    let handles = feed.speaker.feeds();
    let sessions = |index: usize| {
        handles[index]
            .counts
            .sessions
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    ensure!(
        (sessions(0), sessions(1)) == (0, 1),
        "with a wrong password: {}",
        feed.summary()
    );
    for prefix in [v4[0], v6[0]] {
        let gateway = feed.gateways(&prefix.to_string())?[0];
        ensure!(gateway.address == address("fd00:2::2"), "{gateway:?}");
        let local = gateway
            .link_local
            .filter(std::net::Ipv6Addr::is_unicast_link_local);
        ensure!(local.is_some() && gateway.interface.is_some(), "{gateway:?}");
    }
    let index = lab.ip_json("router", "link show dev b")?[0]["ifindex"].as_u64();
    let gateway = feed.gateways(&v6[0].to_string())?[0];
    ensure!(
        gateway.interface.map(u64::from) == index,
        "{gateway:?} and not {index:?}"
    );
    ensure!(feed.attributes(&v4[0].to_string())?.external);
    bird.write(&config(&remote("hush"), &v4, &v6)?)?;
    bird.ask("configure")?;
    feed.wait(&lab, "the session with its password", |_| sessions(0) == 1)?;
    feed.keep(1, "bird-extended-next-hop")
}
