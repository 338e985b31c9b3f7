//! FRR's zebra feeds us by FPM. What we know must be what zebra told the kernel, whatever happens.
//!
//! With `FORWARDER_CAPTURE` (`cargo xtask bless --captures`) what zebra said is kept in data/fpm.

use std::{
    collections::BTreeMap,
    sync::{
        atomic::Ordering::Relaxed,
        mpsc::{self, Receiver},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use forwarder::{
    config::FpmConfig,
    netlink::dump,
    source::{
        event::{Action, Hop, NexthopKind},
        feed::{Batch, FeedHandle, FeedState},
        fpm::Fpm,
        tap::Recording,
    },
};
use forwarder_tests::{
    frr::Frr,
    lab::Lab,
    replay::{self, Picture, way},
};
use ipnet::IpNet;

/// `RTPROT_ZSTATIC`, `RTPROT_BGP`.
const ZEBRA: [u8; 2] = [196, 186];

const FPM: &str = "hostname router\nfpm address 127.0.0.1 port 2620\n";
const WITHOUT_GROUPS: &str = "hostname router\nfpm address 127.0.0.1 port 2620\nno fpm use-next-hop-groups\n";

/// One of everything that staticd can say.
const STATICS: &str = "\
    ip route 198.51.100.0/24 10.2.0.2\n\
    ip route 198.51.101.0/24 10.2.0.2\n\
    ip route 198.51.101.0/24 10.3.0.2\n\
    ip route 203.0.113.0/25 blackhole\n\
    ip route 203.0.113.128/26 reject\n\
    ip route 192.0.2.0/24 198.51.100.7\n\
    ip route 192.0.2.0/24 198.51.101.7\n\
    ip route 100.64.0.0/10 c\n\
    ipv6 route 2001:db8:1::/48 fd00:2::2\n\
    ipv6 route 2001:db8:2::/48 fd00:2::2\n\
    ipv6 route 2001:db8:2::/48 fd00:3::2\n\
    ipv6 route 2001:db8:3::/48 fe80::2 b\n\
    ipv6 route 2001:db8:4::/48 blackhole\n\
    ipv6 route 2001:db8:5::/48 reject\n";

/// The feed, and a reader of it.
struct Feed {
    _fpm: Fpm,
    handle: FeedHandle,
    receiver: Receiver<Batch>,
    recording: Recording,
    picture: Picture,
}

impl Feed {
    fn start(lab: &Lab, restart_time: Duration) -> Result<Feed> {
        let (sender, receiver) = mpsc::sync_channel(16);
        let config = FpmConfig {
            quiet_time: Duration::from_secs(2),
            restart_time,
            ..FpmConfig::default()
        };
        let (fpm, handle) = lab.inside("router", || Ok(Fpm::start(config, 0, sender)?))?;
        let recording = handle.tap.open().expect("nobody else records");
        Ok(Feed {
            _fpm: fpm,
            handle,
            receiver,
            recording,
            picture: Picture::default(),
        })
    }

    fn update(&mut self) -> &Picture {
        for batch in self.receiver.try_iter() {
            batch.events.iter().for_each(|event| self.picture.apply(event));
        }
        &self.picture
    }

    /// Waits for a state.
    fn wait(&mut self, lab: &Lab, state: FeedState) -> Result<()> {
        lab.wait(&format!("the feed to be {}", state.name()), || {
            Ok((self.update().state == state).then_some(()))
        })
    }

    /// Waits until it says what `truth` does, and until `holds`.
    fn agrees(
        &mut self,
        lab: &Lab,
        truth: impl Fn() -> Result<BTreeMap<IpNet, String>>,
        what: &str,
        holds: impl Fn(&BTreeMap<IpNet, String>) -> bool,
    ) -> Result<()> {
        let mut last = (BTreeMap::new(), BTreeMap::new());
        let result = lab.wait(what, || {
            last = (self.update().ways(), truth()?);
            Ok((last.0 == last.1 && holds(&last.0)).then_some(()))
        });
        result.map_err(|error| {
            error.context(format!(
                "the feed:\n{:#?}\nand it should be:\n{:#?}",
                last.0, last.1
            ))
        })
    }

    fn errors(&self) -> Result<()> {
        let errors = self.handle.counts.errors.load(Relaxed);
        ensure!(
            errors == 0,
            "{errors} errors: {:?}",
            self.handle.counts.last_error()
        );
        Ok(())
    }

    /// Keeps what was said, when asked to.
    fn keep(&self, name: &str) -> Result<()> {
        replay::keep(&self.handle, &self.recording, name)
    }
}

/// What zebra laid in the kernel.
fn kernel(lab: &Lab) -> Result<BTreeMap<IpNet, String>> {
    let dump = lab.inside("router", || Ok(dump::dump(dump::Scope::ALL)?))?;
    let object = |id: u32| {
        dump.nexthops
            .iter()
            .find(|object| object.id == id)
            .map(|o| &o.kind)
    };
    let hops = |id: u32| -> Vec<Hop> {
        match object(id) {
            Some(NexthopKind::Hop(hop)) => vec![*hop],
            Some(NexthopKind::Group(members)) => {
                let member = |(id, weight): &(u32, u16)| match object(*id) {
                    Some(NexthopKind::Hop(hop)) => Some(Hop {
                        weight: *weight,
                        ..*hop
                    }),
                    _ => None,
                };
                members.iter().filter_map(member).collect()
            }
            _ => Vec::new(),
        }
    };
    let routes = dump.routes.iter().filter(|route| ZEBRA.contains(&route.protocol));
    let ways = routes.map(|route| {
        let way = match &route.action {
            Action::Hops(hops) => way(hops),
            Action::Nexthop(id) => way(&hops(*id)),
            other => format!("{other:?}").to_lowercase(),
        };
        (route.prefix, way)
    });
    Ok(ways.collect())
}

/// What zebra itself takes to be in its FIB.
fn zebra(frr: &Frr) -> Result<BTreeMap<IpNet, String>> {
    let mut ways = BTreeMap::new();
    for command in ["show ip route static json", "show ipv6 route static json"] {
        let routes: serde_json::Value = serde_json::from_str(&frr.show("zebra", command)?)?;
        for (prefix, entries) in routes.as_object().into_iter().flatten() {
            let entries = entries.as_array().into_iter().flatten();
            let Some(entry) = entries.into_iter().find(|entry| entry["selected"] == true) else {
                continue;
            };
            let nexthops = entry["nexthops"].as_array().into_iter().flatten();
            let counts = |hop: &&serde_json::Value| hop["fib"] == true && hop["duplicate"] != true;
            let fib: Vec<_> = nexthops.filter(counts).collect();
            let way = match fib[..] {
                [one] if one["reject"] == true => "unreachable".to_string(),
                [one] if one["blackhole"] == true => "blackhole".to_string(),
                _ => {
                    let hop = |hop: &&serde_json::Value| Hop {
                        ifindex: hop["interfaceIndex"].as_u64().unwrap_or(0) as u32,
                        gateway: hop["ip"].as_str().and_then(|ip| ip.parse().ok()),
                        weight: hop["weight"].as_u64().unwrap_or(1) as u16,
                        dead: false,
                        unsupported: false,
                    };
                    way(&fib.iter().map(hop).collect::<Vec<_>>())
                }
            };
            ways.insert(prefix.parse()?, way);
        }
    }
    Ok(ways)
}

fn prefix(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

/// zebra with this configuration and every static route, of which the feed knows.
fn filled<'a>(lab: &'a Lab, feed: &mut Feed, config: &str) -> Result<Frr<'a>> {
    let mut frr = Frr::new(lab, "router")?;
    frr.start("zebra", config, &["-M", "dplane_fpm_nl"])?;
    frr.start("staticd", STATICS, &[])?;
    feed.agrees(
        lab,
        || kernel(lab),
        "every static route to come",
        |ways| ways.len() == 11,
    )?;
    Ok(frr)
}

fn statics(lab: &Lab, config: &str, name: &str) -> Result<()> {
    let mut feed = Feed::start(lab, Duration::from_secs(120))?;
    let frr = filled(lab, &mut feed, config)?;
    feed.wait(lab, FeedState::Live)?;

    frr.configure(
        "staticd",
        &[
            "no ip route 203.0.113.0/25 blackhole",
            "no ipv6 route 2001:db8:1::/48 fd00:2::2",
        ],
    )?;
    feed.agrees(lab, || kernel(lab), "two to be withdrawn", |ways| ways.len() == 9)?;
    frr.configure(
        "staticd",
        &[
            "ip route 198.51.100.0/24 10.3.0.2",
            "no ip route 198.51.100.0/24 10.2.0.2",
        ],
    )?;
    feed.agrees(
        lab,
        || kernel(lab),
        "one to change",
        |ways| ways[&prefix("198.51.100.0/24")].starts_with("via 10.3.0.2"),
    )?;

    // The kernel drops what leads there, and zebra does not say so of next-hop objects. Nor does zebra 8.4 notice that
    // the kernel dropped members of groups that stay: with the link back, its own table is the measure.
    let truth = || zebra(&frr);
    for round in 0..3 {
        lab.ip("router", "link set dev c down")?;
        feed.agrees(lab, truth, "routes by c to go", |ways| {
            !ways.contains_key(&prefix("198.51.100.0/24"))
        })?;
        lab.ip("router", "link set dev c up")?;
        // The kernel takes the addresses of IPv6 away with the link.
        lab.ip("router", "addr add fd00:3::1/64 dev c nodad")?;
        feed.agrees(
            lab,
            truth,
            &format!("routes by c to be back, round {round}"),
            |ways| ways.len() == 9 && ways[&prefix("2001:db8:2::/48")].contains("fd00:3::2"),
        )?;
    }
    feed.errors()?;
    feed.keep(name)
}

#[test]
fn statics_by_next_hop_groups_come_change_and_go() -> Result<()> {
    statics(&Lab::new()?, FPM, "frr-groups")
}

#[test]
fn statics_without_next_hop_groups_come_change_and_go() -> Result<()> {
    statics(&Lab::new()?, WITHOUT_GROUPS, "frr-plain")
}

#[test]
fn a_killed_zebra_leaves_stale_routes_and_one_with_another_table_sweeps_them() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, Duration::from_secs(120))?;
    let mut frr = filled(&lab, &mut feed, FPM)?;
    feed.wait(&lab, FeedState::Live)?;
    let before = feed.update().ways();

    frr.kill("zebra")?;
    frr.kill("staticd")?;
    feed.wait(&lab, FeedState::Stale)?;
    ensure!(
        feed.update().ways() == before,
        "a lost session takes nothing away"
    );

    // Or it would tell us of what it finds there.
    frr.clear_kernel()?;
    // Another table: one route stays as it was, one changes, one is new. The numbers of objects start anew.
    frr.start("zebra", FPM, &["-M", "dplane_fpm_nl"])?;
    frr.start(
        "staticd",
        "ip route 198.51.100.0/24 10.2.0.2\nip route 198.51.101.0/24 10.3.0.2\nip route 192.0.2.128/25 10.1.0.2\n",
        &[],
    )?;
    feed.wait(&lab, FeedState::Syncing)?;
    lab.wait("the new table to come", || {
        Ok(feed
            .update()
            .ways()
            .contains_key(&prefix("192.0.2.128/25"))
            .then_some(()))
    })?;
    let meanwhile = feed.update().ways();
    ensure!(feed.picture.stale() > 0, "swept before the replay had ended");
    ensure!(
        meanwhile[&prefix("2001:db8:2::/48")] == before[&prefix("2001:db8:2::/48")],
        "a stale route leads where it led, whatever its number stands for now"
    );
    feed.wait(&lab, FeedState::Live)?;
    let after = feed.update().ways();
    ensure!(after.len() == 3, "{after:#?}");
    ensure!(feed.picture.stale() == 0);
    ensure!(
        after[&prefix("198.51.101.0/24")].starts_with("via 10.3.0.2"),
        "{after:#?}"
    );
    feed.errors()?;
    feed.keep("frr-restart")
}

#[test]
fn a_zebra_that_does_not_come_back_leaves_nothing_after_the_restart_time() -> Result<()> {
    let lab = Lab::new()?;
    let mut feed = Feed::start(&lab, Duration::from_secs(3))?;
    let mut frr = filled(&lab, &mut feed, FPM)?;
    frr.kill("zebra")?;
    feed.wait(&lab, FeedState::Stale)?;
    ensure!(feed.update().ways().len() == 11);
    feed.wait(&lab, FeedState::Down)?;
    ensure!(feed.update().ways().is_empty() && feed.picture.nexthops() == 0);
    Ok(())
}
