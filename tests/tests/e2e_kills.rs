//! SIGKILL at any moment, during load, churn, reload and attach, under traffic: no packet is lost, no counter drifts, and the next start
//! finds its way. `FORWARDER_KILLS` says how often, `FORWARDER_KILLS_SEED` at which moments.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    controller::Controller,
    lab::Lab,
    operator::{forwarded, row, sound},
    random::Random,
    traffic,
};

const TO: [&str; 2] = ["5.1.0.1", "2a05::1"];
/// Kills of a usual run; a thousand take some twenty minutes.
const KILLS: u64 = 25;
/// A start takes about half of this; the other half something happens.
const LONGEST_MS: usize = 1_200;
/// Routes that come and go.
const CHURN: usize = 200;

fn variable(name: &str, otherwise: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name}={text}: a number is expected")),
        Err(_) => Ok(otherwise),
    }
}

/// Some routes, each by one of two carriers or gone.
fn churn(lab: &Lab, random: &mut Random) -> Result<()> {
    let mut lines = String::new();
    for _ in 0..CHURN {
        let number = random.below(CHURN);
        let (v4, v6) = (format!("5.2.{number}.0/24"), format!("2a06:{number:x}::/32"));
        lines += &match random.below(3) {
            0 => format!("route replace {v4} via 10.2.0.2\nroute replace {v6} via fd00:2::2\n"),
            1 => format!("route replace {v4} via 10.3.0.2\nroute replace {v6} via fd00:3::2\n"),
            _ => format!("route replace blackhole {v4}\nroute replace blackhole {v6}\n"),
        };
    }
    lab.batch("router", &lines)
}

#[test]
fn a_controller_killed_at_any_moment_loses_no_packet_and_no_count() -> Result<()> {
    let (kills, seed) = (
        variable("FORWARDER_KILLS", KILLS)?,
        variable("FORWARDER_KILLS_SEED", 1)?,
    );
    println!("{kills} kills, seed {seed}");
    let mut random = Random::new(seed);
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.1.0.0/16 via 10.2.0.2")?;
    lab.ip("router", "route add 2a05::/32 via fd00:2::2")?;
    lab.resolve_carriers()?;
    // Many deaths one after the other before the first heartbeat are longer than its usual age, and then the kernel forwards.
    let file = lab.config(&["a", "b"], "[routes]\nmax-age = \"1h\"\n")?;
    let plain = fs::read_to_string(&file)?;
    let more = format!("{plain}\n[[interface]]\nname = \"c\"\nrole = \"transit\"\n");
    Controller::start(&lab, &file)?.kill()?;
    let before = forwarded(&lab, "a")?;
    let (unsaid, arrived) = traffic::under(&lab, &TO, |_| {
        let mut unsaid = 0;
        for kill in 0..kills {
            // What it starts with is another configuration half of the time: something to attach or to let go.
            let text = if random.below(2) == 0 { &plain } else { &more };
            fs::write(&file, text)?;
            let mut controller = Controller::spawn(&lab, &file)?;
            let mut left = random.below(LONGEST_MS) as u64;
            match random.below(3) {
                0 => churn(&lab, &mut random)?,
                1 => {
                    let until = left * random.below(100) as u64 / 100;
                    std::thread::sleep(Duration::from_millis(until));
                    left -= until;
                    fs::write(&file, if random.below(2) == 0 { &plain } else { &more })?;
                    // Before it listens for that signal, it ends by it: which is a death like any other.
                    // SAFETY: a signal to our own child, which has not been waited for.
                    unsafe { libc::kill(controller.pid() as i32, libc::SIGHUP) };
                }
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(left));
            if controller.alive()? {
                controller.kill()?;
            } else {
                unsaid += 1;
            }
            if kill % 100 == 99 {
                println!("{} killed", kill + 1);
            }
        }
        Ok(unsaid)
    })?;
    println!("{arrived:?} arrived; {unsaid} had ended by SIGHUP");
    fs::write(&file, &plain)?;
    let controller = Controller::start(&lab, &file)?;
    traffic::all_forwarded(&lab, before, &arrived)?;
    sound(&lab, &["a", "b"])?;
    ensure!(
        row(&lab, "interfaces", "ifname", "c")?["mode"] != "native",
        "c is attached still"
    );
    drop(controller);
    Ok(())
}
