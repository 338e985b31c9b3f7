//! GoBGP of another AS, which may ask only for what goes to its own prefixes.

use anyhow::{Result, ensure};
use forwarder_tests::{gobgp::GoBgp, lab::Lab};

use crate::scene::{NAMES, NEXT_DOOR, Scene};

const RESTART: &str = "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 15\n";

fn rule(verb: &str, family: u8, destination: &str, action: &str) -> String {
    format!(
        "global rib {verb} -a ipv{family}-flowspec match destination {destination} protocol udp source-port ==123 then {action}"
    )
}

/// Adds or deletes the rules against both attacks.
fn rules(gobgp: &GoBgp<'_>, verb: &str) -> Result<()> {
    gobgp.ask(&rule(verb, 4, "198.18.7.9/32", "discard"))?;
    gobgp
        .ask(&rule(verb, 6, "2001:db8:7::9/128", "discard"))
        .map(drop)
}

#[test]
fn rules_of_gobgp_cut_and_limit_what_they_name_until_its_restart_time_is_over() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::new(&lab, NEXT_DOOR)?;
    let mut gobgp = GoBgp::start(&lab, RESTART, "")?;
    // Nobody vouches for the rules before the prefixes are announced.
    rules(&gobgp, "add")?;
    scene.told("next door", [1, 1])?;
    let why = scene.refused(NAMES[0])?;
    ensure!(
        why.starts_with("no BGP route covers its destination 198.18.7.9/32"),
        "{why}"
    );
    scene.only_cut([false, false])?;
    gobgp.route("add", 7)?;
    scene.both_cut("next door")?;

    rules(&gobgp, "del")?;
    scene.listed("no rules", <[_]>::is_empty)?;
    scene.only_cut([false, false])?;

    gobgp.ask(&rule("add", 4, "198.18.7.9/32", "rate-limit 200000"))?;
    scene.limited(NAMES[0], 200_000, 2_000, scene.attacks[0].bytes())?;
    gobgp.ask(&rule("del", 4, "198.18.7.9/32", "rate-limit 200000"))?;

    rules(&gobgp, "add")?;
    scene.both_cut("next door")?;
    gobgp.kill()?;
    scene.session("next door", "the loss", |row| row["state"] == "stale")?;
    scene.both_cut("next door")?;
    scene.gone("next door")?;
    scene.only_cut([false, false])
}
