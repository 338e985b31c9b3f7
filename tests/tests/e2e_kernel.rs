//! A daemon feeds the kernel, the kernel feeds us: nothing may be missing at the end, whatever happens on the way. What is
//! tried is tried with BIRD and with FRR.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    bird::Bird,
    frr::Frr,
    lab::Lab,
    operator::{forwarded, patient, settle},
    table, traffic,
};

/// Routes that the neighbour announces.
const ROUTES: usize = 2_000;
/// Routes that come at once.
const BURST: u32 = 20_000;
/// How often they come and go while the controller does not read: more news than its receive buffer holds.
const ROUNDS: u32 = 6;

/// The router's daemon: what it learns from the carrier at b goes into the kernel.
trait Daemon {
    /// Without a chance to say goodbye: what it laid in the kernel stays there.
    fn kill(&mut self) -> Result<()>;
    /// Starts again, and leaves what it finds in the kernel there until it knows better.
    fn restart(&mut self) -> Result<()>;
}

type Start = for<'a> fn(&'a Lab) -> Result<Box<dyn Daemon + 'a>>;

impl Daemon for Bird<'_> {
    fn kill(&mut self) -> Result<()> {
        Bird::kill(self)
    }

    fn restart(&mut self) -> Result<()> {
        self.run(&["-R"])
    }
}

fn bird(lab: &Lab) -> Result<Box<dyn Daemon + '_>> {
    let session = "graceful restart on; connect retry time 1; connect delay time 1; error wait time 1, 2;";
    let config = format!(
        "router id 10.2.0.1;\nprotocol device {{}}\n\
         protocol kernel {{ graceful restart on; ipv4 {{ export all; }}; merge paths on; }}\n\
         protocol kernel {{ graceful restart on; ipv6 {{ export all; }}; }}\n\
         protocol bgp peer4 {{ local 10.2.0.1 as 64500; neighbor 10.2.0.2 as 64501; {session} \
         ipv4 {{ import all; export none; }}; }}\n\
         protocol bgp peer6 {{ local fd00:2::1 as 64500; neighbor fd00:2::2 as 64501; {session} \
         ipv6 {{ import all; export none; }}; }}\n"
    );
    Ok(Box::new(Bird::start(lab, "router", &config)?))
}

impl Daemon for Frr<'_> {
    fn kill(&mut self) -> Result<()> {
        // zebra first: it takes bgpd's routes away as soon as it sees it go.
        Frr::kill(self, "zebra")?;
        Frr::kill(self, "bgpd")
    }

    fn restart(&mut self) -> Result<()> {
        self.start("zebra", "hostname router\n", &["-K", "60"])?;
        self.start("bgpd", BGPD, &["-p", "0"])
    }
}

const BGPD: &str = "hostname router\nrouter bgp 64500\nbgp router-id 10.2.0.1\nno bgp ebgp-requires-policy\n\
    no bgp default ipv4-unicast\n\
    neighbor 10.2.0.2 remote-as 64501\nneighbor 10.2.0.2 timers connect 1\n\
    neighbor fd00:2::2 remote-as 64501\nneighbor fd00:2::2 timers connect 1\n\
    address-family ipv4 unicast\nneighbor 10.2.0.2 activate\nexit-address-family\n\
    address-family ipv6 unicast\nneighbor fd00:2::2 activate\nexit-address-family\n";

fn frr(lab: &Lab) -> Result<Box<dyn Daemon + '_>> {
    let mut frr = Frr::new(lab, "router")?;
    frr.start("zebra", "hostname router\n", &[])?;
    frr.start("bgpd", BGPD, &["-p", "0"])?;
    Ok(Box::new(frr))
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

/// The carrier's routes come: so many prefixes are laid, and all as the kernel has them.
fn come(lab: &Lab, whole: u64) -> Result<()> {
    patient(lab, "the carrier's routes", || {
        Ok((laid(lab)? >= whole).then_some(()))
    })?;
    verified(lab)
}

/// The carrier ends its session, and its routes go: of those before it came there may be two more.
fn leave(lab: &Lab, carrier: &mut Bird<'_>, bare: u64) -> Result<()> {
    carrier.stop()?;
    patient(lab, "the carrier's routes to go", || {
        Ok((laid(lab)? <= bare + 2).then_some(()))
    })?;
    verified(lab)
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

/// The carrier's session ends, and its table with it; then both are back.
fn comes_goes_and_comes_back(start: Start) -> Result<()> {
    let lab = Lab::new()?;
    let controller = lab.start(&["a", "b"], "")?;
    let bare = laid(&lab)?;
    let _router = start(&lab)?;
    let whole = bare + ROUTES as u64;
    let mut carrier = Bird::start(&lab, "b", &carrier()?)?;
    come(&lab, whole)?;
    leave(&lab, &mut carrier, bare)?;
    carrier.run(&[])?;
    come(&lab, whole)?;
    drop(controller);
    Ok(())
}

#[test]
fn a_table_that_bird_learns_comes_goes_and_comes_back() -> Result<()> {
    comes_goes_and_comes_back(bird)
}

#[test]
fn a_table_that_frr_learns_comes_goes_and_comes_back() -> Result<()> {
    comes_goes_and_comes_back(frr)
}

/// The router's daemon dies and comes back: what it had laid in the kernel is what packets follow meanwhile, and when it has
/// laid it again.
fn killed_and_back(start: Start) -> Result<()> {
    let lab = Lab::new()?;
    lab.resolve("router", "10.2.0.2")?;
    let controller = lab.start(&["a", "b"], "")?;
    let bare = laid(&lab)?;
    let mut router = start(&lab)?;
    let mut carrier = Bird::start(&lab, "b", &carrier()?)?;
    let whole = bare + ROUTES as u64;
    come(&lab, whole)?;
    let v4 = table::v4(ROUTES * 3 / 4)?;
    let to: Vec<String> = v4[..4].iter().map(|prefix| prefix.addr().to_string()).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    for address in &to {
        settle(&lab, address, &["10.2.0.2"])?;
    }
    let before = forwarded(&lab, "a")?;
    let ((), arrived) = traffic::under(&lab, &to, |traffic| {
        traffic.flow(20)?;
        router.kill()?;
        traffic.flow(50)?;
        router.restart()?;
        // It has laid its own again when the carrier's end takes all of it away.
        lab.wait("the carrier's session", || {
            let text = carrier.ask("show protocols peer4")?;
            Ok(text.contains("Established").then_some(()))
        })?;
        traffic.flow(50).map(drop)
    })?;
    traffic::all_forwarded(&lab, before, &arrived)?;
    ensure!(laid(&lab)? >= whole, "{}", lab.picture());
    verified(&lab)?;
    leave(&lab, &mut carrier, bare)?;
    drop(controller);
    Ok(())
}

#[test]
fn bird_killed_and_back_loses_no_packet() -> Result<()> {
    killed_and_back(bird)
}

#[test]
fn frr_killed_and_back_loses_no_packet() -> Result<()> {
    killed_and_back(frr)
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
        lab.batch("router", &lines)
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
