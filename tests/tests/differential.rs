//! A router with forwarder is a router: what leaves it is what leaves a plain Linux router, octet for octet.
//!
//! `FORWARDER_DIFF_SEED` and `FORWARDER_DIFF_COUNT` choose the frames, `FORWARDER_DIFF_ONLY` sends one of them alone, and
//! `FORWARDER_DIFF_FRAME` one that is written there (docs/conformance.md).

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use forwarder::filter::sources::{BOGONS4, BOGONS6, EXCEPTIONS4, EXCEPTIONS6};
use forwarder_common::{punt::Class, reason::Reason};
use forwarder_tests::differential::{
    BATCH, Bench, Routers,
    controller::{Controller, Counters, moved},
    generate::{Case, case, given},
    known,
    normalise::FREEDOMS,
    picture,
    topology::{PORTS, Port, mac},
};
use forwarder_tests::frame;
use ipnet::IpNet;

const SEED: u64 = 1;
/// Frames of the first test; the others send a tenth or a twenty-fifth of that.
const FRAMES: u64 = 1_000_000;
/// Findings after which it stops looking for more.
const ENOUGH: usize = 8;

/// A veth takes no longer frame than its MTU, a header and a tag.
const CABLE: usize = 1500 + 14 + 4;

/// Reasons that these routers give no cause for.
const NOT_HERE: &[Reason] = &[
    Reason::Unconfigured,
    Reason::ForwardingOff,
    Reason::BogonSource,
    Reason::SpoofedSource,
    Reason::ControllerStale,
    Reason::NoRoute,
    Reason::NextHopDown,
    Reason::FibFull,
    Reason::NoDevice,
    Reason::NoHeadroom,
    Reason::MultiBuffer,
    Reason::Internal,
    // Nothing would leave.
    Reason::DryRun,
    // Bonds are tried in `golden` and `ring_forwarding`.
    Reason::MemberInactive,
    // Feeds, rules and source validation have tests of their own.
    Reason::SourceNoRoute,
    Reason::SourceInterface,
    Reason::BlackholeSource,
    Reason::SourceUndecided,
    Reason::GatewayUnresolved,
    Reason::Rule,
    Reason::FlowSpec,
    Reason::RateLimited,
    // A veth has no padding of its own: what is behind a packet is cut off.
    Reason::TrailingBytes,
];

fn variable(name: &str) -> Result<Option<u64>> {
    match std::env::var(name) {
        Ok(text) => {
            Ok(Some(text.parse().with_context(|| {
                format!("{name}={text}: a number is expected")
            })?))
        }
        Err(_) => Ok(None),
    }
}

/// Which frames are sent.
struct Choice {
    seed: u64,
    numbers: Vec<u64>,
    /// In place of all others.
    given: Option<Case>,
}

impl Choice {
    /// The seed, and the numbers of the frames, of which there are one in `part` of the usual count.
    fn of(part: u64) -> Result<Choice> {
        let seed = variable("FORWARDER_DIFF_SEED")?.unwrap_or(SEED);
        let mut choice = Choice {
            seed,
            numbers: Vec::new(),
            given: None,
        };
        if let Ok(text) = std::env::var("FORWARDER_DIFF_FRAME") {
            choice.given = Some(given(&text).context("FORWARDER_DIFF_FRAME")?);
        } else if let Some(only) = variable("FORWARDER_DIFF_ONLY")? {
            choice.numbers.push(only);
        } else {
            let count = variable("FORWARDER_DIFF_COUNT")?.unwrap_or(FRAMES) / part;
            println!("seed {seed}, {count} frames");
            choice.numbers.extend(0..count);
        }
        Ok(choice)
    }

    fn batches(&self) -> impl Iterator<Item = Vec<Case>> {
        let chosen = self.numbers.chunks(BATCH).map(|batch| {
            let cases = batch.iter().map(|number| case(self.seed, *number));
            cases.collect()
        });
        self.given
            .clone()
            .map(|case| vec![case])
            .into_iter()
            .chain(chosen)
    }

    /// Whether one frame is looked at, rather than whether all are right.
    fn alone(&self) -> bool {
        self.given.is_some() || self.numbers.len() == 1
    }
}

/// Sends the frames of a seed through both routers and demands that nothing differs; answers what forwarder counted, by
/// reason.
fn same(bench: &mut Bench, controller: &Controller<'_>, part: u64) -> Result<Counters> {
    same_of(bench, controller, part, |_| true)
}

fn same_of(
    bench: &mut Bench,
    controller: &Controller<'_>,
    part: u64,
    wanted: impl Fn(&Case) -> bool,
) -> Result<Counters> {
    let choice = Choice::of(part)?;
    let wanted = |case: &Case| case.given || wanted(case);
    let before = controller.counters()?;
    let mut findings = Vec::new();
    for mut cases in choice.batches() {
        cases.retain(&wanted);
        if let ([case], true) = (&cases[..], choice.alone()) {
            println!("{}", bench.show(choice.seed, case)?);
        }
        let difference = bench.compare(&cases)?;
        if !difference.is_empty() {
            findings.push(bench.blame(controller, choice.seed, &cases, &difference, wanted)?);
            if findings.len() >= ENOUGH {
                break;
            }
        }
    }
    let counted = by_reason(&moved(&before, &controller.counters()?));
    println!("counters: {counted:?}");
    for (freedom, why) in FREEDOMS {
        let taken = bench
            .normalisers
            .each_ref()
            .map(|router| router.taken.get(freedom).copied().unwrap_or(0));
        println!("{freedom:?}, taken {taken:?}: {why}");
    }
    ensure!(
        findings.is_empty(),
        "the routers differ\n{}\nforwarder said\n{}",
        findings.join("\n"),
        controller.log()
    );
    // A test in which nothing is forwarded says little.
    let received: u64 = counted.values().sum();
    let forwarded = counted.get(Reason::Forwarded.name()).copied().unwrap_or(0);
    ensure!(
        forwarded * 5 > received || received < 10_000,
        "only {forwarded} of {received} forwarded"
    );
    Ok(counted)
}

fn by_reason(counters: &Counters) -> Counters {
    let mut sums = BTreeMap::new();
    for (name, by) in counters {
        let reason = name.split_once(' ').map_or("", |(_, reason)| reason);
        *sums.entry(reason.to_string()).or_insert(0) += by;
    }
    sums
}

fn nets(list: &[&str]) -> Result<Vec<IpNet>> {
    list.iter()
        .map(|net| net.parse().with_context(|| net.to_string()))
        .collect()
}

#[test]
fn a_router_with_forwarder_emits_what_a_plain_router_emits() -> Result<()> {
    let routers = Routers::build("", "")?;
    let controller = Controller::start(&routers.fast, |_| "core", "")?;
    let mut bench = routers.connect()?;
    let counted = same(&mut bench, &controller, 1)?;
    let received: u64 = counted.values().sum();
    if received < FRAMES {
        return Ok(());
    }
    // A branch that is never taken is not tested.
    // What is too much depends on the clock: limits are off here.
    let limited = |reason: &&Reason| Class::ALL.iter().any(|class| class.limited() == **reason);
    for reason in Reason::ALL.iter().filter(|reason| !limited(reason)) {
        ensure!(
            counted.contains_key(reason.name()) != NOT_HERE.contains(reason),
            "{}: counted {:?} times",
            reason.name(),
            counted.get(reason.name())
        );
    }
    Ok(())
}

#[test]
fn what_would_leave_where_it_came_in_does_so_without_redirects_too() -> Result<()> {
    let off = ["all", "in0", "in1", "out0", "out1", "out2"]
        .map(|name| format!("ipv4/conf/{name}/send_redirects=0\n"))
        .concat();
    let routers = Routers::build(&off, "")?;
    let controller = Controller::start(&routers.fast, |_| "core", "")?;
    same(&mut routers.connect()?, &controller, 25).map(drop)
}

#[test]
fn local_routes_and_policy_rules_make_no_difference() -> Result<()> {
    let routes = "route add local 42.0.0.0/24 dev lo\nroute add local 2a42::/34 dev lo\n\
                  rule add from 44.0.0.0/8 lookup main\n";
    let routers = Routers::build("", routes)?;
    let controller = Controller::start(&routers.fast, |_| "core", "")?;
    let mut bench = routers.connect()?;
    for normaliser in &mut bench.normalisers {
        normaliser.local_routes = true;
    }
    same_of(&mut bench, &controller, 25, |case| {
        !known::from_local_prefix(case)
    })
    .map(drop)
}

/// With filters, the fast router emits what a plain one would that never saw the filtered packets.
#[test]
fn filters_drop_what_they_should_and_nothing_else() -> Result<()> {
    let routers = Routers::build("", "")?;
    // Source validation has tests of its own.
    let says = |name: &str| match name {
        "in0" => "role = \"transit\"\nsource-check = \"off\"\n".to_string(),
        _ => String::new(),
    };
    let filter = "[filter]\nbogons = true\nown-prefixes = [\"51.0.0.0/8\", \"2a51::/16\"]\n";
    let controller = Controller::of(&routers.fast, says, filter)?;
    let mut bench = routers.connect()?;
    // What is connected on our side of the edge is ours, said or not; out2 is not served.
    let own = nets(&[
        "51.0.0.0/8",
        "2a51::/16",
        "20.0.2.0/23",
        "20.0.4.0/24",
        "2a00:2::/64",
        "2a00:3::/64",
        "2a00:4::/64",
    ])?;
    let bogons = nets(&[BOGONS4, BOGONS6].concat())?;
    let ordinary = nets(&[EXCEPTIONS4, EXCEPTIONS6].concat())?;
    let dropped = |case: &Case| {
        let longest = |list: &[IpNet], address: IpAddr| {
            let covering = list.iter().filter(|net| net.contains(&address));
            covering
                .map(|net| i32::from(net.prefix_len()))
                .max()
                .unwrap_or(-1)
        };
        // Neighbour discovery from the link is not filtered; what a router has touched is none.
        let discovery = case.frame[12..14] == [0x86, 0xdd]
            && case.frame[20..22] == [58, 255]
            && matches!(case.frame.get(54), Some(133..=137));
        case.port == 0
            && !discovery
            && case.source.is_some_and(|source| {
                longest(&own, source) >= 0 || longest(&bogons, source) > longest(&ordinary, source)
            })
    };
    let choice = Choice::of(25)?;
    let seed = choice.seed;
    let wanted = |case: &Case| case.source.is_some() && case.frame.len() <= CABLE;
    let mut filtered = Vec::new();
    for mut cases in choice.batches() {
        cases.retain(wanted);
        let (drops, cases): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(dropped);
        let difference = bench.compare(&cases)?;
        if !difference.is_empty() {
            let wanted = |case: &Case| wanted(case) && !dropped(case);
            let blame = bench.blame(&controller, seed, &cases, &difference, wanted)?;
            bail!("the routers differ\n{blame}");
        }
        filtered.extend(drops);
    }
    ensure!(
        choice.alone() || filtered.len() > choice.numbers.len() / 50,
        "only {} to filter",
        filtered.len()
    );
    // Every one of the others is dropped and counted; where not, halves are sent again until one frame is left.
    let mut suspects = &filtered[..];
    while !all_dropped(&mut bench, &controller, suspects)? {
        let [_, _, ..] = suspects else {
            bail!("seed {seed}: not filtered: {:?}", suspects[0]);
        };
        let (first, second) = suspects.split_at(suspects.len() / 2);
        suspects = if all_dropped(&mut bench, &controller, first)? {
            second
        } else {
            first
        };
    }
    Ok(())
}

/// Source validation drops what `rp_filter` drops, and the kernel's own stays on behind it. The kernel has none for IPv6; there the
/// golden records say what is right.
fn sources(role: &'static str, rp_filter: u8, reasons: &[Reason]) -> Result<()> {
    // Markers have sources of their own.
    let markers = |port: &Port| {
        let (name, number) = (port.name, port.number);
        format!("route add 61.0.{number}.0/24 via 20.0.{number}.2 dev {name}\n")
    };
    let markers: String = PORTS.iter().map(markers).collect();
    let routers = Routers::build(&format!("ipv4/conf/all/rp_filter={rp_filter}\n"), &markers)?;
    let controller = Controller::start(&routers.fast, |_| role, "[filter]\nbogons = false\n")?;
    let mut bench = routers.connect()?;
    let ipv4 = |case: &Case| case.frame[12..14] == [8, 0] && !known::refused(case);
    let counted = same_of(&mut bench, &controller, 10, ipv4)?;
    for reason in reasons.iter().chain([&Reason::Forwarded]) {
        ensure!(
            counted.contains_key(reason.name()) || counted.values().sum::<u64>() < FRAMES / 20,
            "nothing left as {}: {counted:?}",
            reason.name()
        );
    }
    Ok(())
}

#[test]
fn strict_sources_are_those_of_the_kernel() -> Result<()> {
    let reasons = [
        Reason::SourceNoRoute,
        Reason::SourceInterface,
        Reason::BlackholeSource,
        Reason::SourceUndecided,
    ];
    sources("customer", 1, &reasons)
}

#[test]
fn loose_sources_are_those_of_the_kernel() -> Result<()> {
    sources("peer", 2, &[Reason::SourceNoRoute, Reason::BlackholeSource])
}

fn all_dropped(bench: &mut Bench, controller: &Controller<'_>, cases: &[Case]) -> Result<bool> {
    let before = controller.counters()?;
    for batch in cases.chunks(BATCH) {
        for case in batch {
            bench.wire.send(1, case.port, &case.frame)?;
        }
        let emitted = bench.wire.settle()?;
        ensure!(bench.difference(emitted).is_empty(), "a filtered frame came out");
    }
    let counted = by_reason(&moved(&before, &controller.counters()?));
    let sum: u64 = [Reason::BogonSource, Reason::SpoofedSource]
        .iter()
        .filter_map(|reason| counted.get(reason.name()))
        .sum();
    Ok(sum == cases.len() as u64)
}

/// The kernel asks for a neighbour, waits, and answers the sender that the host is unreachable.
#[test]
fn neighbours_that_do_not_resolve_are_reported_alike() -> Result<()> {
    let routers = Routers::build("", "")?;
    let controller = Controller::start(&routers.fast, |_| "core", "")?;
    for router in [&routers.plain, &routers.fast] {
        for family in ["ipv4", "ipv6"] {
            router.sysctls(&format!(
                "{family}/neigh/out0/mcast_solicit=2\n{family}/neigh/out0/retrans_time_ms=200"
            ))?;
        }
    }
    let mut bench = routers.connect()?;
    let seed = variable("FORWARDER_DIFF_SEED")?.unwrap_or(SEED);
    let cases: Vec<Case> = (0..)
        .map(|number| case(seed, number))
        .filter(|case| case.source.is_some() && case.port == 0)
        .filter(|case| case.story.contains("resolved") && !case.story.contains("on-link, resolved"))
        .take(24)
        .collect();
    for case in &cases {
        for router in 0..2 {
            bench.wire.send(router, case.port, &case.frame)?;
        }
    }
    let emitted = bench.wire.linger(Duration::from_secs(3))?;
    let errors = emitted.each_ref().map(Vec::len);
    let difference = bench.difference(emitted);
    ensure!(
        difference.is_empty(),
        "{}\nforwarder said\n{}",
        picture(&difference),
        controller.log()
    );
    ensure!(errors[0] > cases.len() / 2, "only {errors:?} frames came out");
    Ok(())
}

/// Two routers that do differ: the frame that shows it is found, made small, and shows it again from the line that is printed.
#[test]
fn a_difference_is_found_made_small_and_sent_again() -> Result<()> {
    let routers = Routers::build("", "")?;
    routers.fast.ip("route add prohibit 30.2.0.0/17\n")?;
    let controller = Controller::start(&routers.fast, |_| "core", "")?;
    let mut bench = routers.connect()?;
    // A whole packet, long, damaged where it does not matter.
    let mut failing = (0..)
        .map(|number| case(SEED, number))
        .find(|case| {
            let frame = &case.frame;
            let elsewhere = case.source.is_some() && frame.len() > 100 && frame.len() < 1200;
            elsewhere && frame[12..14] == [8, 0] && frame[14] == 0x45 && frame[22] == 64 && frame[26] == 50
        })
        .context("no such frame")?;
    failing.given = true;
    failing.port = 0;
    failing.frame[..6].copy_from_slice(&mac(1, 1));
    failing.frame[30..34].copy_from_slice(&[30, 2, 1, 1]);
    frame::fix_checksum(&mut failing.frame);
    let cases = [case(SEED, 0), failing.clone(), case(SEED, 1)];
    let difference = bench.compare(&cases)?;
    let report = bench.blame(&controller, SEED, &cases, &difference, |_| true)?;
    println!("{report}");
    let (_, line) = report.split_once("smallest of ").context("nothing made small")?;
    let (_, line) = line
        .split_once("FORWARDER_DIFF_FRAME=")
        .context("no line to replay")?;
    let text = line.split_whitespace().next().context("no frame in it")?;
    let small = given(text)?;
    // The fault needs an IPv4 header and a way to answer: no more than that is left.
    ensure!(small.frame.len() <= 34, "{} octets are left", small.frame.len());
    ensure!(small.frame[30..32] == [30, 2], "{text}");
    ensure!(!bench.compare(&[small])?.is_empty(), "it is not shown again");
    Ok(())
}
