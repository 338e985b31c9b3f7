//! BIRD, beside the controller on the router.

use anyhow::{Result, ensure};
use forwarder_tests::{bird::Bird, lab::Lab, operator::figure};

use crate::scene::{BESIDE, NAMES, Scene};

const DISCARD: &str = "{ bgp_ext_community.add((generic, 0x80060000, 0)); }";

/// A session that offers to come back or not, and these rules of each family.
fn config(restart: &str, v4: &str, v6: &str) -> String {
    format!(
        "router id 10.2.0.1;\nflow4 table rules4;\nflow6 table rules6;\nprotocol device {{}}\n\
         protocol bgp feed {{ local 127.0.0.1 as 64500; neighbor 127.0.0.2 port 1179 as 64500; {restart} \
         connect retry time 1; connect delay time 1; error wait time 1, 2; \
         flow4 {{ table rules4; import none; export all; }}; flow6 {{ table rules6; import none; export all; }}; }}\n\
         protocol static {{ flow4 {{ table rules4; }}; {v4} }}\n\
         protocol static {{ flow6 {{ table rules6; }}; {v6} }}\n"
    )
}

fn attack4(action: &str) -> String {
    format!("route flow4 {{ dst 198.18.7.9/32; proto = 17; sport = 123; }} {action};")
}

fn attack6() -> String {
    format!("route flow6 {{ dst 2001:db8:7::9/128; next header = 17; sport = 123; }} {DISCARD};")
}

#[test]
fn rules_of_bird_cut_what_they_name_until_they_are_withdrawn_or_it_dies() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::new(&lab, BESIDE)?;
    scene.only_cut([false, false])?;
    let mut bird = Bird::start(&lab, "router", &config("", &attack4(DISCARD), &attack6()))?;
    scene.told("bird", [1, 1])?;
    scene.both_cut("bird")?;

    // Withdrawn, one after the other.
    bird.configure(&config("", "", &attack6()))?;
    scene.told("bird", [0, 1])?;
    scene.listed("one rule", |rows| rows.len() == 1)?;
    scene.only_cut([false, true])?;
    bird.configure(&config("", "", ""))?;
    scene.listed("no rules", <[_]>::is_empty)?;
    scene.only_cut([false, false])?;

    // It comes back, and its counters go on: they were another rule's in between, if anybody's.
    bird.configure(&config("", &attack4(DISCARD), &attack6()))?;
    scene.told("bird", [1, 1])?;
    scene.both_cut("bird")?;

    // Killed, it offered no restart.
    bird.kill()?;
    scene.gone("bird")?;
    scene.only_cut([false, false])?;

    // So many packets each second, and what cannot be done at all.
    let packets = "{ bgp_ext_community.add((generic, 0x800c0000, 0x43fa0000)); }";
    let redirect = "route flow4 { dst 198.18.7.10/32; } { bgp_ext_community.add((generic, 0x8008fbf4, 100)); \
                    bgp_ext_community.add((generic, 0x80060000, 0)); };";
    let rules = format!("{} {redirect}", attack4(packets));
    bird.write(&config("", &rules, &attack6()))?;
    bird.run(&[])?;
    scene.told("bird", [2, 1])?;
    scene.limited(NAMES[0], 500, 5, 1)?;
    ensure!(scene.refused("dst 198.18.7.10/32")? == "redirect is not supported");
    Ok(())
}

#[test]
fn rules_of_a_killed_bird_stay_until_its_next_end_of_rib() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::new(&lab, BESIDE)?;
    let restart = "graceful restart on; graceful restart time 300;";
    let mut bird = Bird::start(&lab, "router", &config(restart, &attack4(DISCARD), &attack6()))?;
    scene.told("bird", [1, 1])?;
    scene.both_cut("bird")?;
    bird.kill()?;
    scene.session("bird", "the loss", |row| row["state"] == "stale")?;
    scene.both_cut("bird")?;
    // It comes back with one of them.
    bird.write(&config(restart, "", &attack6()))?;
    bird.run(&["-R"])?;
    scene.told("bird", [0, 1])?;
    scene.listed("one rule", |rows| rows.len() == 1)?;
    scene.only_cut([false, true])
}

#[test]
fn a_restarted_controller_keeps_rules_until_they_are_told_again() -> Result<()> {
    let lab = Lab::new()?;
    let mut scene = Scene::new(&lab, BESIDE)?;
    let bird = Bird::start(&lab, "router", &config("", &attack4(DISCARD), &attack6()))?;
    scene.told("bird", [1, 1])?;
    scene.both_cut("bird")?;
    let before = scene.in_force(NAMES[1], "drop")?;
    // While nobody listens one of them goes; and BIRD does not call before the next controller has started.
    scene.restart(|| {
        bird.configure(&config("", "", &attack6()))?;
        bird.pause(true);
        Ok(())
    })?;
    scene.only_cut([true, true])?;
    let status = lab.json("status")?;
    let problems = status[0]["problems"].to_string();
    ensure!(
        problems.contains("filter rules found at the start stay in force") && problems.contains("bgp bird"),
        "{problems}"
    );
    bird.pause(false);
    scene.told("bird", [0, 1])?;
    scene.listed("one rule", |rows| rows.len() == 1)?;
    scene.only_cut([false, true])?;
    let after = scene.in_force(NAMES[1], "drop")?;
    ensure!(
        figure(&after, "packets")? > figure(&before, "packets")? && after["slot"] == before["slot"],
        "{after} after {before}"
    );
    let status = lab.json("status")?;
    let problems = status[0]["problems"].to_string();
    ensure!(!problems.contains("filter rules found"), "{problems}");
    Ok(())
}
