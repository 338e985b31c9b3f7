//! A flood from spoofed sources, dropped: by the least that XDP can do, by nftables on the netdev hook, by the kernel's
//! rp_filter, and by the shipped program. Generator and receiver are on one CPU, joined by a veth pair; what the generator takes
//! is in the time of each, and XDP_DROP shows how much that is.
//!
//! The sources are bogons: half of the built-in ones, half of a list as long as that of all IPv4 that nobody has. nftables has all of
//! them in a set of intervals, and forwarder in its table of sources.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::Xdp;
use aya::programs::xdp::XdpLink;
use forwarder::dataplane::Tables;
use forwarder::filter::sources::{self, BOGONS4, BOGONS6, Sources};
use forwarder_bench_ebpf::abi::{FRAME, TRACE_LEN};
use forwarder_common::reason::Reason;
use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;
use xtask::bench::Options;

use super::{print, verdict};
use crate::frame;
use crate::live::{self, Sent};
use crate::model::Model;
use crate::object::{self, Object};
use crate::random::Random;
use crate::report::{median, rounded};
use crate::router::{Router, index_of};
use crate::run;
use crate::table::Table;
use crate::trace::{Pattern, Trace};
use forwarder_history::plot::Bar;

/// Prefixes of the list.
const LISTED: usize = 1_500;
/// Different sources.
const SOURCES: usize = 65_536;
/// Frames before the clock starts, and those that are counted before anything is timed.
const WARM_UP: usize = 1 << 16;
/// Frames of a round.
const FRAMES: usize = 1 << 19;
/// Part of the frames that may be lost before they are dropped, before a result says nothing.
const LOSS: f64 = 0.01;
/// Frames that kernels send on their own meanwhile: neighbour discovery, multicast listeners.
const STRAYS: u64 = 16;
/// Built-in bogons that the sources are of: those that rp_filter counts as such, and that are not the bench's own.
const SPOOFED: [&str; 5] = [
    "10.128.0.0/9",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
];
/// The interface that the flood comes in on.
const INGRESS: &str = "in0";

/// What a candidate gets rid of.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    bench: &'static str,
    candidate: &'static str,
    /// Frames a second that were dropped: the median over the rounds.
    pps: f64,
    /// Times forwarder's rate is that: the median over the rounds' pairs.
    ratio: f64,
    #[serde(skip)]
    spread: f64,
}

/// Everything that was found.
pub struct Found {
    /// A row for each candidate.
    pub rows: Vec<Row>,
    notes: Vec<String>,
}

/// What drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    XdpDrop,
    Nft,
    RpFilter,
    Forwarder,
}

impl Candidate {
    const ALL: [Candidate; 4] = [
        Candidate::XdpDrop,
        Candidate::Nft,
        Candidate::RpFilter,
        Candidate::Forwarder,
    ];

    const fn name(self) -> &'static str {
        match self {
            Candidate::XdpDrop => "xdp_drop",
            Candidate::Nft => "nft",
            Candidate::RpFilter => "rp_filter",
            Candidate::Forwarder => "forwarder",
        }
    }
}

/// A candidate in its place, until dropped.
enum Armed {
    Linked(#[allow(dead_code, reason = "held")] XdpLink),
    Table,
    Sysctl,
}

impl Drop for Armed {
    fn drop(&mut self) {
        let undone = match self {
            Armed::Linked(_) => Ok(()),
            Armed::Table => nft("delete table netdev bench\n"),
            Armed::Sysctl => rp_filter("0"),
        };
        if let Err(why) = undone {
            eprintln!("filter: {why:#}");
        }
    }
}

/// The lane that the flood comes by, and who may drop it.
struct Lane<'a> {
    router: &'a Router,
    ours: Tables,
    shipped: &'a mut Xdp,
    object: &'a mut Object,
    /// The generator's end of the cable.
    source: u32,
    listed: Vec<IpNet>,
    packet: [u8; FRAME],
}

impl Lane<'_> {
    fn arm(&mut self, candidate: Candidate) -> Result<Armed> {
        let ingress = self.router.ingress;
        Ok(match candidate {
            Candidate::XdpDrop => Armed::Linked(self.object.attach("flood_drop", ingress)?),
            Candidate::Forwarder => Armed::Linked(
                object::attach(self.shipped, ingress).context("cannot attach forwarder's pinned program")?,
            ),
            Candidate::Nft => {
                nft(&ruleset(&self.listed))?;
                Armed::Table
            }
            Candidate::RpFilter => {
                rp_filter("1")?;
                Armed::Sysctl
            }
        })
    }

    /// What a candidate has counted of what it dropped, ever.
    fn dropped(&self, candidate: Candidate) -> Result<u64> {
        Ok(match candidate {
            Candidate::XdpDrop => self.object.sunk(),
            Candidate::Nft => nft_counter()?,
            Candidate::RpFilter => netstat("IPReversePathFilter")?,
            Candidate::Forwarder => {
                let port = self.ours.interfaces.get(self.router.ingress as usize).port;
                self.ours.reasons(port)[Reason::BogonSource.index()].packets
            }
        })
    }

    fn send(&self, frames: usize) -> Result<Sent> {
        self.object.rewind();
        let program = self.object.program("flood_source4")?;
        self.router
            .outside(|| live::send(program, self.source, &self.packet, frames))
    }

    /// Has a candidate drop a round's frames; answers how many a second.
    fn round(&mut self, candidate: Candidate) -> Result<f64> {
        let held = self.arm(candidate)?;
        self.send(WARM_UP)?;
        let before = self.dropped(candidate)?;
        let sent = self.send(FRAMES)?;
        let dropped = self.dropped(candidate)? - before;
        drop(held);
        let lost = sent.frames.saturating_sub(dropped) as f64 / sent.frames as f64;
        ensure!(
            dropped <= sent.frames + STRAYS && lost <= LOSS,
            "{}: {} frames were sent and {dropped} counted as dropped",
            candidate.name(),
            sent.frames
        );
        Ok(sent.rate * (1.0 - lost))
    }

    /// A candidate drops every spoofed frame, and where it looks at the source none from an ordinary one.
    fn verify(&mut self, candidate: Candidate, spoofed: &[u64], ordinary: &[u64]) -> Result<()> {
        let held = self.arm(candidate)?;
        for (sources, all) in [(ordinary, false), (spoofed, true)] {
            if !all && !matches!(candidate, Candidate::Nft | Candidate::Forwarder) {
                continue;
            }
            self.object.lay_sources(sources);
            let before = self.dropped(candidate)?;
            let sent = self.send(WARM_UP)?;
            let dropped = self.dropped(candidate)? - before;
            let wanted = if all { sent.frames } else { 0 };
            ensure!(
                (wanted..=wanted + STRAYS).contains(&dropped),
                "{}: of {} frames from {} sources {dropped} were dropped",
                candidate.name(),
                sent.frames,
                if all { "spoofed" } else { "ordinary" }
            );
        }
        drop(held);
        Ok(())
    }
}

/// Measures the candidates in turns.
///
/// # Errors
/// One does not drop what it should, or something is missing.
pub fn measure(
    options: &Options,
    router: &Router,
    shipped: &mut Xdp,
    object: &mut Object,
    table: &Table,
) -> Result<Found> {
    for name in ["flood_source4", "flood_drop"] {
        object.load_program(name)?;
    }
    live::make_napi(INGRESS)?;
    let ours = router.pins.open(true)?;
    let mut random = Random::new(4);
    let listed = list(&mut random);
    sources::install(
        &ours,
        &sources::compile(&Sources {
            bogons: true,
            listed: Arc::new(listed.clone()),
            ..Sources::default()
        })?,
    );
    // A destination that is forwarded, were it not for the source.
    let trace = Trace::new(table, &Model::new(&table.prefixes), Pattern::Hot);
    let destination = trace.destinations[0];
    let spoofed = entries(&mut random, destination, |random| source(random, &listed));
    let ordinary = entries(&mut random, destination, |random| {
        Ipv4Net::new([8, 8, 8, 0].into(), 24)
            .map(|net| inside(random, net))
            .unwrap_or_default()
    });
    let mut lane = Lane {
        source: router.outside(|| index_of(INGRESS))?,
        packet: frame::incoming(table.family, destination),
        router,
        ours,
        shipped,
        object,
        listed,
    };
    run::first_in_line()?;
    for candidate in Candidate::ALL {
        lane.verify(candidate, &spoofed, &ordinary)?;
    }
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); Candidate::ALL.len()];
    for round in 0..options.rounds as usize {
        eprintln!("filter: flood, round {}", round + 1);
        for turn in 0..Candidate::ALL.len() {
            let at = (round + turn) % Candidate::ALL.len();
            rates[at].push(lane.round(Candidate::ALL[at])?);
        }
    }
    Ok(found(options, &rates))
}

fn found(options: &Options, rates: &[Vec<f64>]) -> Found {
    let of = |wanted| {
        let found = Candidate::ALL.iter().position(|candidate| *candidate == wanted);
        found.map_or(&[][..], |at| &rates[at])
    };
    let pairs = |one: &[f64], other: &[f64], with: fn(f64, f64) -> f64| -> Vec<f64> {
        one.iter().zip(other).map(|(a, b)| with(*a, *b)).collect()
    };
    let ours = of(Candidate::Forwarder);
    let rows: Vec<Row> = Candidate::ALL
        .into_iter()
        .map(|candidate| {
            let rates = of(candidate);
            let pps = median(rates);
            let highest = rates.iter().copied().fold(f64::MIN, f64::max);
            let lowest = rates.iter().copied().fold(f64::MAX, f64::min);
            Row {
                bench: "filter",
                candidate: candidate.name(),
                pps: pps.round(),
                ratio: rounded(median(&pairs(ours, rates, |ours, other| ours / other)), 100.0),
                spread: (highest - lowest) / pps * 100.0,
            }
        })
        .collect();
    // Nanoseconds a frame beyond the round's own XDP_DROP, which is the generator and as little else as can be.
    let bare = of(Candidate::XdpDrop);
    let added = |candidate| pairs(of(candidate), bare, |rate, bare| 1e9 / rate - 1e9 / bare);
    let [we, nft, rp] =
        [Candidate::Forwarder, Candidate::Nft, Candidate::RpFilter].map(|one| median(&added(one)));
    let share = median(&pairs(
        &added(Candidate::Forwarder),
        &added(Candidate::Nft),
        |we, nft| we / nft,
    ));
    let ratio = median(&pairs(ours, of(Candidate::Nft), |ours, nft| ours / nft));
    let generator = 1e9 / median(bare);
    Found {
        rows,
        notes: vec![
            format!(
                "medians of {} interleaved rounds of {FRAMES} frames, each in slices; {SOURCES} sources, {} bogons; ratio: \
                 forwarder's rate over the candidate's, pair by pair; spread: highest minus lowest round",
                options.rounds,
                LISTED + BOGONS4.len()
            ),
            format!(
                "forwarder drops {ratio:.2} times what nft does (at least 1.25: {})",
                verdict(ratio >= 1.25)
            ),
            format!(
                "a frame takes {generator:.0} ns with XDP_DROP, most of it the generator's; what others add: forwarder {we:.0} ns, nft \
                 {nft:.0} ns, rp_filter {rp:.0} ns. Forwarder's is {share:.2} of nft's (at most 0.33: {})",
                verdict(share <= 1.0 / 3.0)
            ),
        ],
    }
}

/// The bars of a chart.
pub fn bars(rows: &[Row]) -> Vec<Bar> {
    let ns = |row: &Row| 1e9 / row.pps;
    rows.iter()
        .map(|row| Bar {
            name: row.candidate.to_owned(),
            value: ns(row),
            label: format!("{:.0} ns, {:.2} Mpps", ns(row), row.pps / 1e6),
        })
        .collect()
}

/// Prints what was found.
///
/// # Errors
/// Stdout cannot be written.
pub fn show(options: &Options, method: &[String], found: &Found) -> Result<()> {
    let method = [method, &found.notes].concat();
    let title = "A flood of spoofed frames of 64 octets, dropped, generator and receiver on one CPU";
    let columns = ["candidate", "Mpps", "ratio", "spread"];
    print(options, &found.rows, title, &method, &columns, |row| {
        vec![
            row.candidate.to_owned(),
            format!("{:.3}", row.pps / 1e6),
            format!("{:.2}", row.ratio),
            format!("{:.0} %", row.spread),
        ]
    })
}

/// A list as long as that of the IPv4 addresses that nobody has, of /20s to /24s all over what is assigned.
fn list(random: &mut Random) -> Vec<IpNet> {
    let mut listed = Vec::new();
    while listed.len() < LISTED {
        let address = (random.bits() >> 32) as u32;
        let ours = matches!(address >> 24, 0 | 8 | 10 | 127 | 169 | 224..);
        if let Ok(net) = Ipv4Net::new(address.into(), 20 + random.below(5) as u8)
            && !ours
        {
            listed.push(net.trunc().into());
        }
    }
    listed.sort_unstable();
    listed.dedup();
    listed
}

/// A spoofed source.
fn source(random: &mut Random, listed: &[IpNet]) -> u32 {
    let net = match random.below(2) {
        0 => SPOOFED[random.below(SPOOFED.len())].parse().ok(),
        _ => Some(listed[random.below(listed.len())]),
    };
    match net {
        Some(IpNet::V4(net)) => inside(random, net),
        _ => 0,
    }
}

fn inside(random: &mut Random, net: Ipv4Net) -> u32 {
    net.network().to_bits() | (random.bits() as u32 & net.hostmask().to_bits())
}

/// A trace of sources: what the generator writes into its frames.
fn entries(random: &mut Random, destination: u128, mut draw: impl FnMut(&mut Random) -> u32) -> Vec<u64> {
    let few: Vec<u64> = (0..SOURCES)
        .map(|_| frame::entry_from(draw(random).to_be_bytes(), destination))
        .collect();
    (0..TRACE_LEN).map(|_| few[random.below(SOURCES)]).collect()
}

/// The rules that an operator would write: the list of bogons as sets, one rule for each family.
fn ruleset(listed: &[IpNet]) -> String {
    let built_in = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let four: Vec<String> = built_in(BOGONS4)
        .into_iter()
        .chain(listed.iter().map(ToString::to_string))
        .collect();
    // What is left of ::/0 without global unicast.
    let mut six: Vec<String> = built_in(BOGONS6)
        .into_iter()
        .filter(|text| text != "::/0")
        .collect();
    six.extend(["::/3", "4000::/2", "8000::/1"].map(String::from));
    format!(
        "table netdev bench {{
  set bogons4 {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {} }}; }}
  set bogons6 {{ type ipv6_addr; flags interval; auto-merge; elements = {{ {} }}; }}
  counter spoofed {{ }}
  chain ingress {{
    type filter hook ingress device \"{INGRESS}\" priority -500; policy accept;
    ip saddr @bogons4 counter name spoofed drop
    ip6 saddr @bogons6 counter name spoofed drop
  }}
}}
",
        four.join(", "),
        six.join(", ")
    )
}

fn nft(script: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run nft (Debian: nftables)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).context("nft -f -")?;
    }
    let output = child.wait_with_output().context("nft -f -")?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn nft_counter() -> Result<u64> {
    let output = Command::new("nft")
        .args(["-j", "list", "counter", "netdev", "bench", "spoofed"])
        .output()
        .context("cannot run nft (Debian: nftables)")?;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).context("nft -j")?;
    let mut objects = json["nftables"].as_array().into_iter().flatten();
    let packets = objects.find_map(|object| object["counter"]["packets"].as_u64());
    packets.with_context(|| format!("nft shows no counter: {json}"))
}

/// A counter of the kernel's TCP/IP, of this thread's namespace (net/ipv4/proc.c).
fn netstat(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").context("/proc/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let value = pairs.find_map(|(known, value)| (known == name).then_some(value));
    let value = value.with_context(|| format!("the kernel has no counter {name}"))?;
    value.parse().context("a counter of the kernel")
}

fn rp_filter(value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{INGRESS}/rp_filter");
    fs::write(&path, value).with_context(|| format!("cannot write {path}"))
}
