//! BIRD feeds the kernel, the kernel feeds us: nothing may be missing at the end, whatever happens on the way.

use std::{
    fmt::Write as _,
    fs::{self, File},
    process::{Child, Stdio},
};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    lab::{Lab, run},
    table,
};

/// Routes that the neighbour announces.
const ROUTES: usize = 2_000;
/// Routes that come at once.
const BURST: u32 = 20_000;
/// How often they come and go while the controller does not read: more news than its receive buffer holds.
const ROUNDS: u32 = 6;

/// A BIRD in the foreground, killed on drop.
struct Bird {
    child: Child,
}

impl Bird {
    fn start(lab: &Lab, node: &str, config: &str) -> Result<Bird> {
        let path = lab.dir().join(format!("bird-{node}.conf"));
        fs::write(&path, config)?;
        // A mistake in the configuration is said here, and not as routes that never come.
        run(lab.command(node, "bird").arg("-p").arg("-c").arg(&path))?;
        let log = File::create(lab.dir().join(format!("bird-{node}.log")))?;
        let child = lab
            .command(node, "bird")
            .arg("-f")
            .arg("-c")
            .arg(&path)
            .arg("-s")
            .arg(lab.dir().join(format!("bird-{node}.ctl")))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run bird: `cargo xtask setup` installs it")?;
        Ok(Bird { child })
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

fn router() -> String {
    "router id 10.2.0.1;\nprotocol device {}\n\
     protocol kernel { ipv4 { export all; }; merge paths on; }\n\
     protocol kernel { ipv6 { export all; }; }\n\
     protocol bgp peer4 { local 10.2.0.1 as 64500; neighbor 10.2.0.2 as 64501; ipv4 { import all; export none; }; \
     connect retry time 1; connect delay time 1; error wait time 1, 2; }\n\
     protocol bgp peer6 { local fd00:2::1 as 64500; neighbor fd00:2::2 as 64501; ipv6 { import all; export none; }; \
     connect retry time 1; connect delay time 1; error wait time 1, 2; }\n"
        .into()
}

fn carrier() -> Result<String> {
    let mut text = String::from(
        "router id 10.2.0.2;\nprotocol device {}\n\
         protocol bgp peer4 { local 10.2.0.2 as 64501; neighbor 10.2.0.1 as 64500; ipv4 { import none; export all; }; \
         connect retry time 1; connect delay time 1; error wait time 1, 2; }\n\
         protocol bgp peer6 { local fd00:2::2 as 64501; neighbor fd00:2::1 as 64500; ipv6 { import none; export all; }; \
         connect retry time 1; connect delay time 1; error wait time 1, 2; }\n",
    );
    for (family, prefixes) in [
        ("ipv4", table::v4(ROUTES * 3 / 4)?),
        ("ipv6", table::v6(ROUTES / 4)?),
    ] {
        writeln!(text, "protocol static {{ {family};")?;
        for prefix in prefixes.iter().take(ROUTES) {
            writeln!(text, "route {prefix} blackhole;")?;
        }
        writeln!(text, "}}")?;
    }
    Ok(text)
}

/// Routes in the table of the fast path, both families.
fn laid(lab: &Lab) -> Result<u64> {
    let status = lab.json("status")?;
    let number = |key: &str| {
        status[0][key]
            .as_u64()
            .with_context(|| format!("no {key} in {status}"))
    };
    Ok(number("prefixes_ipv4")? + number("prefixes_ipv6")?)
}

/// `verify` finds no difference, now or soon.
fn verified(lab: &Lab) -> Result<()> {
    let mut text = String::new();
    lab.wait("verify to find no difference", || {
        let output = lab.forwarder("verify")?;
        text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output.status.success().then_some(()))
    })
    .with_context(|| text.clone())
}

#[test]
fn bird_comes_goes_and_comes_back() -> Result<()> {
    let lab = Lab::new()?;
    let controller = lab.start(&["a", "b"], "")?;
    let bare = laid(&lab)?;
    let _router = Bird::start(&lab, "router", &router())?;
    let carrier_config = carrier()?;
    let there = |lab: &Lab| Ok((laid(lab)? >= bare + ROUTES as u64).then_some(()));
    let carrier = Bird::start(&lab, "b", &carrier_config)?;
    lab.wait("the carrier's routes", || there(&lab))
        .with_context(|| lab.picture())?;
    verified(&lab)?;
    drop(carrier);
    lab.wait("the carrier's routes to go", || {
        Ok((laid(&lab)? <= bare + 2).then_some(()))
    })
    .with_context(|| lab.picture())?;
    verified(&lab)?;
    let _carrier = Bird::start(&lab, "b", &carrier_config)?;
    lab.wait("the carrier's routes to come back", || there(&lab))
        .with_context(|| lab.picture())?;
    verified(&lab)?;
    drop(controller);
    Ok(())
}

#[test]
fn a_burst_of_routes_is_followed_to_the_last() -> Result<()> {
    let lab = Lab::new()?;
    let controller = lab.start(&["a", "b"], "")?;
    lab.resolve("router", "10.2.0.2")?;
    let bare = laid(&lab)?;
    let batch = |verb: &str, from: u32| -> Result<()> {
        let mut lines = String::new();
        for number in 0..BURST {
            let [_, high, middle, low] = (number << 4).to_be_bytes();
            writeln!(
                lines,
                "route {verb} 5.{}.{middle}.{low}/28 via 10.2.0.{from}",
                high + 16
            )?;
        }
        let path = lab.dir().join("batch");
        fs::write(&path, lines)?;
        lab.ip("router", &format!("-batch {}", path.display()))
    };
    let resyncs = |lab: &Lab| -> Result<u64> {
        lab.json("status")?[0]["sources"][0]["resyncs"]
            .as_u64()
            .context("no resyncs")
    };
    let before = resyncs(&lab)?;
    // It does not read while they come, so that the kernel must throw some of its news away (ENOBUFS).
    controller.pause(true);
    let rounds = (0..ROUNDS).try_for_each(|_| batch("add", 2).and_then(|()| batch("del", 2)));
    let added = rounds.and_then(|()| batch("add", 2));
    controller.pause(false);
    added?;
    lab.wait("the burst", || {
        Ok((laid(&lab)? >= bare + u64::from(BURST)).then_some(()))
    })
    .with_context(|| lab.picture())?;
    verified(&lab)?;
    batch("replace", 3)?;
    verified(&lab)?;
    batch("del", 3)?;
    lab.wait("the burst to be taken back", || {
        Ok((laid(&lab)? <= bare + 4).then_some(()))
    })
    .with_context(|| lab.picture())?;
    verified(&lab)?;
    let status = lab.json("status")?;
    ensure!(status[0]["sources"][0]["state"] == "in step", "{status}");
    ensure!(
        resyncs(&lab)? > before,
        "nothing was lost, so nothing was tried: raise ROUNDS\n{status}"
    );
    drop(controller);
    Ok(())
}
