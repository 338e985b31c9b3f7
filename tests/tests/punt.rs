//! Punt protection through the live program: who passes when there is too much, and who does not.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use forwarder::{
    config::PuntConfig,
    dataplane::{Dataplane, Sizes},
    punt::install,
    source::event::Action,
    stats::{self, LimitRow},
};
use forwarder_common::punt::{Class, Flow, mapped};
use forwarder_tests::{
    frame::{TCP, ipv4, udp},
    random::Random,
    routes::route,
    sandbox::{Sandbox, mac},
};

const PASS: u32 = 2;
const ICMP: u8 = 1;
const GRE: u8 = 47;
const ME: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const CLEAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// A router with one interface and one address.
struct Bench {
    sandbox: Sandbox,
    ifindex: u32,
}

impl Bench {
    fn new(rates: &[(Class, (u32, u32))]) -> Result<Bench> {
        let mut sandbox = Sandbox::new(Sizes::SMALL)?;
        let ifindex = sandbox.interface("in0", 0, 1500)?;
        sandbox.announce(route("203.0.113.1/32", Action::Local)?);
        let mut config = PuntConfig::default();
        for (class, rate) in rates {
            config.rates[*class as usize] = *rate;
        }
        install(sandbox.engine.view(), &config, false);
        Ok(Bench { sandbox, ifindex })
    }

    fn to_me(&self, from: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        ipv4(
            (mac(self.ifindex), [2, 0, 0, 0, 0, 9]),
            from,
            ME,
            protocol,
            64,
            payload,
        )
    }

    fn ping(&self, from: Ipv4Addr) -> Vec<u8> {
        self.to_me(from, ICMP, &[8, 0, 0, 0, 0, 0, 0, 0])
    }

    fn passes(&self, packet: &[u8]) -> Result<bool> {
        Ok(self.sandbox.programs.run(self.ifindex, packet)?.0 == PASS)
    }

    fn row(&self, class: Class) -> LimitRow {
        stats::limits(self.sandbox.engine.view()).swap_remove(class as usize)
    }
}

fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    segment
}

const SYN: u8 = 2;
const ACK: u8 = 0x10;

/// An address that nobody has chosen.
fn anybody(random: &mut Random) -> Ipv4Addr {
    Ipv4Addr::from(0x0100_0000 | random.bits() as u32 & 0x7eff_ffff)
}

#[test]
fn a_loud_source_loses_its_own_packets_and_a_quiet_one_none() -> Result<()> {
    let bench = Bench::new(&[(Class::LocalIcmp, (100_000, 200))])?;
    let (loud, quiet) = (bench.ping([198, 51, 100, 7].into()), bench.ping(CLEAN));
    let (mut through, began) = (0, Instant::now());
    for number in 0..20_000 {
        through += u64::from(bench.passes(&loud)?);
        if number % 500 == 0 {
            ensure!(bench.passes(&quiet)?, "packet {number}: the quiet one lost one");
        }
    }
    let allowed = 200.0 * began.elapsed().as_secs_f64() + 100.0;
    ensure!(
        (through as f64 - allowed).abs() <= 5.0,
        "{through} of {allowed} passed"
    );
    let row = bench.row(Class::LocalIcmp);
    ensure!(
        row.over_share_packets == 20_000 - through && row.dropped_packets == 0,
        "{row:?}"
    );
    ensure!(row.passed_packets == through + 40, "{row:?}");
    Ok(())
}

#[test]
fn a_flood_from_everywhere_is_limited_and_who_was_known_before_loses_nothing() -> Result<()> {
    let bench = Bench::new(&[(Class::LocalIcmp, (2_000, 200))])?;
    let (known, new) = (bench.ping(CLEAN), bench.ping([192, 0, 2, 10].into()));
    // It comes again after more than a second: then it is known.
    for _ in 0..3 {
        ensure!(bench.passes(&known)?);
        std::thread::sleep(Duration::from_millis(1_100));
    }
    let mut random = Random::new(9);
    let before = bench.row(Class::LocalIcmp).passed_packets;
    let (began, mut at) = (Instant::now(), Instant::now());
    let (mut sent, mut strangers) = (0u64, 0u64);
    let (mut pings, mut fresh) = (0u64, 0u64);
    while began.elapsed() < Duration::from_secs(3) {
        strangers += u64::from(bench.passes(&bench.ping(anybody(&mut random)))?);
        sent += 1;
        // Twenty a second of each.
        if at.elapsed() > Duration::from_millis(50) {
            at = Instant::now();
            pings += 1;
            ensure!(bench.passes(&known)?, "ping {pings} is lost");
            fresh += u64::from(bench.passes(&new)?);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    ensure!(
        sent as f64 / seconds > 6_000.0,
        "{sent} in {seconds} s is no flood"
    );
    let row = bench.row(Class::LocalIcmp);
    ensure!(row.reserve_packets > 0 && row.dropped_packets > 0, "{row:?}");
    // The rate is that of all, its burst is a fifth of a second, and what passed by the reserve is more.
    let by_rate = (row.passed_packets - before - row.reserve_packets) as f64;
    let allowed = 2_000.0 * (seconds + 0.2);
    ensure!(
        (by_rate - allowed).abs() <= allowed * 0.02,
        "{by_rate} of {allowed}"
    );
    ensure!(
        strangers < sent && fresh < pings,
        "who was not known loses, too: {strangers} {fresh}"
    );
    Ok(())
}

#[test]
fn sessions_come_before_limits_and_peers_may_open_one_in_a_flood() -> Result<()> {
    let mut bench = Bench::new(&[(Class::LocalControl, (100, 50)), (Class::Session, (0, 1_000))])?;
    let local = |from: u16, flags| tcp(from, 179, flags);
    let session = Flow {
        remote: mapped(u32::from_le_bytes(CLEAN.octets())),
        local: mapped(u32::from_le_bytes(ME.octets())),
        remote_port: 40_000,
        local_port: 179,
        protocol: u32::from(TCP),
    };
    let peer = Ipv4Addr::new(192, 0, 2, 77);
    let flows = [session, Flow::peer(mapped(u32::from_le_bytes(peer.octets())))];
    bench.sandbox.engine.dataplane.set_flows(&flows.into())?;
    let mut random = Random::new(10);
    let mut flood = || -> Result<u32> {
        let mut passed = 0;
        for _ in 0..2_000 {
            passed += u32::from(bench.passes(&bench.to_me(anybody(&mut random), TCP, &local(7, SYN)))?);
        }
        Ok(passed)
    };
    let passed = flood()?;
    ensure!(
        passed < 1_000,
        "{passed} of 2000 passed: that is no flood to be in"
    );
    // The session has its share, and so much at once.
    for number in 0..400 {
        let packet = bench.to_me(CLEAN, TCP, &local(40_000, ACK));
        ensure!(bench.passes(&packet)?, "packet {number} of the session is lost");
    }
    ensure!(bench.row(Class::Session).passed_packets == 400);
    // Another port, or a SYN, is no packet of it.
    flood()?;
    let mut others = 0;
    for _ in 0..20 {
        others += u32::from(bench.passes(&bench.to_me(CLEAN, TCP, &local(40_001, ACK)))?);
        others += u32::from(bench.passes(&bench.to_me(CLEAN, TCP, &local(40_000, SYN)))?);
    }
    ensure!(others < 20, "{others} of 40 passed");
    ensure!(
        bench.passes(&bench.to_me(peer, TCP, &local(50_000, SYN)))?,
        "the peer's SYN is lost"
    );
    // Beyond its share a session is limited as any other.
    let mut lost = 0;
    for _ in 0..4_000 {
        lost += u32::from(!bench.passes(&bench.to_me(CLEAN, TCP, &local(40_000, ACK)))?);
    }
    ensure!(lost > 0 && bench.row(Class::Session).over_share_packets > 0);
    Ok(())
}

#[test]
fn tunnels_that_end_here_are_forwarding_and_what_is_off_is_not_limited() -> Result<()> {
    let slow = (10, 10);
    let mut bench = Bench::new(&[
        (Class::LocalOther, slow),
        (Class::LocalControl, slow),
        (Class::LocalIcmp, (0, 0)),
    ])?;
    let gre = bench.to_me(CLEAN, GRE, &[0; 8]);
    let wireguard = bench.to_me(CLEAN, 17, &udp(51_820, 51_820, 40));
    let passed = |bench: &Bench, packet: &[u8]| -> Result<usize> {
        let mut passed = 0;
        for _ in 0..100 {
            passed += usize::from(bench.passes(packet)?);
        }
        Ok(passed)
    };
    ensure!(passed(&bench, &gre)? < 50 && passed(&bench, &wireguard)? < 50);
    let flows = [Flow::tunnel(GRE.into(), 0), Flow::tunnel(17, 51_820)];
    bench.sandbox.engine.dataplane.set_flows(&flows.into())?;
    ensure!(passed(&bench, &gre)? == 100 && passed(&bench, &wireguard)? == 100);
    let other = bench.to_me(CLEAN, 17, &udp(51_820, 53, 40));
    ensure!(passed(&bench, &other)? < 50, "another port is no tunnel");
    // A control port is no tunnel's either way.
    ensure!(passed(&bench, &bench.to_me(CLEAN, TCP, &tcp(1, 22, SYN)))? < 50);
    ensure!(passed(&bench, &bench.ping(CLEAN))? == 100, "off");
    ensure!(bench.row(Class::LocalIcmp).passed_packets == 0, "and not counted");
    Ok(())
}
