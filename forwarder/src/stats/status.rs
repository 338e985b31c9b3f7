//! Health in one row.

use forwarder_common::directory::State as Entry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InterfaceRow, prefixes};
use crate::{
    daemon::state::{
        BogonList, BondState, CollectorState, ConfigState, GatewayState, HistoryState, State, Usage,
    },
    dataplane::Tables,
    fib::slots::RESERVED,
    shadow::Shadow,
    source::feed::{FeedTable, SessionView},
};

/// Everything `forwarder status` tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusRow {
    /// Of this program.
    pub version: String,
    /// "running", "not running".
    pub controller: String,
    /// Process id.
    pub pid: Option<u32>,
    /// Seconds since the controller started.
    pub uptime: Option<u64>,
    /// Seconds since the controller last said that the tables are true; null = never.
    pub heartbeat_age: Option<f64>,
    /// Seconds of silence after which packets pass to the kernel; 0 = never.
    pub max_age: f64,
    /// Packets pass to the kernel because of that.
    pub stale: bool,
    /// Packets are only decided about, and all pass to the kernel (`forwarder run --dry-run`).
    #[serde(default)]
    pub dry_run: bool,
    /// IPv4 prefixes laid.
    pub prefixes_ipv4: u64,
    /// IPv6 prefixes laid.
    pub prefixes_ipv6: u64,
    /// IPv4 prefixes that found no room; null while no controller runs.
    pub refused_ipv4: Option<u64>,
    /// IPv6 prefixes that found no room; null while no controller runs.
    pub refused_ipv6: Option<u64>,
    /// Paths that found no group or next hop; null while no controller runs.
    pub paths_refused: Option<u64>,
    /// Counter slots in use.
    pub slots_used: u64,
    /// Counter slots there are.
    pub slots_size: u64,
    /// IPv4 blocks in use; null while no controller runs.
    pub ipv4_blocks_used: Option<u64>,
    /// IPv4 blocks there are.
    pub ipv4_blocks_size: u64,
    /// IPv6 blocks in use; null while no controller runs.
    pub ipv6_blocks_used: Option<u64>,
    /// IPv6 blocks there are.
    pub ipv6_blocks_size: u64,
    /// Next-hop groups in use.
    pub groups_used: u64,
    /// Next-hop groups there are.
    pub groups_size: u64,
    /// Next hops in use.
    pub next_hops_used: u64,
    /// Next hops there are.
    pub next_hops_size: u64,
    /// Octets of all maps.
    pub memory_bytes: u64,
    /// Interfaces that carry the program.
    pub interfaces: u64,
    /// Packets the program saw, all interfaces.
    pub received_packets: u64,
    /// Packets forwarded.
    pub forwarded_packets: u64,
    /// Packets dropped.
    pub dropped_packets: u64,
    /// Packets handed to the kernel.
    pub passed_packets: u64,
    /// Packets forwarded and lost before or in the egress driver.
    pub lost_packets: u64,
    /// Sum of the sizes of all ingress residues: 0 where every sum closes.
    pub ingress_residue: u64,
    /// Sum of the sizes of all egress residues.
    pub egress_residue: u64,
    /// Route feeds.
    pub sources: Vec<SourceRow>,
    /// Connections to feeds that were closed: from addresses that are no neighbour's.
    #[serde(default)]
    pub strangers: u64,
    /// Because too many others were no sessions yet.
    #[serde(default)]
    pub crowded: u64,
    /// Lists of bogons in force; empty where no interface is filtered, or no controller runs.
    #[serde(default)]
    pub bogons: Vec<BogonRow>,
    /// The history; null while no controller runs.
    #[serde(default)]
    pub history: Option<HistoryState>,
    /// Flow samples; null where none are taken, or no controller runs.
    #[serde(default)]
    pub samples: Option<SamplesRow>,
    /// Bonds; empty where none is served, or no controller runs.
    #[serde(default)]
    pub bonds: Vec<BondState>,
    /// The configuration in force; empty while no controller runs.
    #[serde(default)]
    pub config: ConfigState,
    /// Virtual gateways, likewise.
    #[serde(default)]
    pub gateways: Vec<GatewayState>,
    /// Tables and kernel compared; null while no controller runs.
    #[serde(default)]
    pub shadow: Option<Shadow>,
    /// What is wrong, in sentences.
    pub problems: Vec<String>,
}

/// Flow samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SamplesRow {
    /// One in so many packets is sampled.
    pub rate: u32,
    /// Octets of a frame in a sample at most.
    pub header: u32,
    /// Samples taken since the tables were made.
    pub taken: u64,
    /// Samples lost since then: nobody had read those before them.
    pub lost: u64,
    /// Who is told.
    pub collectors: Vec<CollectorState>,
}

/// A list of bogons in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BogonRow {
    /// "built-in", "config", "file".
    pub kind: String,
    /// The registries and their date, the key, or the path.
    pub name: String,
    /// IPv4 prefixes.
    pub ipv4: u64,
    /// IPv6 prefixes.
    pub ipv6: u64,
    /// Seconds since the file was read.
    pub read_age: Option<u64>,
    /// Why this is not what stands in the file now.
    pub why: Option<String>,
}

/// One source of routes: the kernel, or a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SourceRow {
    /// "kernel", "bgp", "fpm".
    pub kind: String,
    /// "kernel", or the neighbour's name.
    pub name: String,
    /// Of the kernel "synchronising", "in step"; of a feed "down", "connecting", "syncing", "live", "stale", "ended".
    pub state: String,
    /// Its routes forward; else it only tells attributes.
    pub forwards: bool,
    /// Its first synchronisation has not ended, and what was found laid at the start is kept for it.
    pub awaited: bool,
    /// IPv4 routes it gives.
    pub routes_ipv4: u64,
    /// IPv6 routes it gives.
    pub routes_ipv6: u64,
    /// Of these, those that were not announced again since its session was lost.
    pub stale_ipv4: u64,
    /// Of these, those that were not announced again since its session was lost.
    pub stale_ipv6: u64,
    /// FlowSpec rules for IPv4.
    pub flowspec_ipv4: u64,
    /// FlowSpec rules for IPv6.
    pub flowspec_ipv6: u64,
    /// Seconds since it last said something; null = never.
    pub last_change_age: Option<u64>,
    /// Announcements and withdrawals since the controller started.
    pub updates: u64,
    /// Those of the last second.
    pub updates_per_second: u64,
    /// Full comparisons since the controller started.
    pub resyncs: u64,
    /// Sessions that came up since the controller started.
    pub sessions: u64,
    /// Messages received.
    pub messages: u64,
    /// End-of-RIB, or what stands for it, was seen in this session: of IPv4.
    pub end_of_rib_ipv4: bool,
    /// Of IPv6.
    pub end_of_rib_ipv6: bool,
    /// Of FlowSpec for IPv4.
    pub end_of_rib_flowspec_ipv4: bool,
    /// Of FlowSpec for IPv6.
    pub end_of_rib_flowspec_ipv6: bool,
    /// Messages, routes or attributes that were not understood, or not applied.
    pub errors: u64,
    /// Routes that are missing because they were refused: there were too many.
    pub refused: u64,
    /// Messages or routes that were understood and are none of ours: through our own AS, or of tables that are not used.
    pub left_out: u64,
    /// Routes of which its daemon was told what became of them (`[routes.fpm] offload`).
    pub answered: u64,
    /// Those of which it was not at once, because it did not read what it was told; they are told again when it does.
    pub answers_dropped: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// What both sides of its session agreed on.
    #[serde(flatten)]
    pub session: SessionView,
}

/// The moment a status is for.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
    /// Seconds since 1970.
    pub unix_seconds: u64,
}

impl Now {
    /// Now.
    pub fn read() -> Now {
        Now {
            monotonic_ns: crate::clock::monotonic_ns(),
            unix_seconds: crate::clock::unix_seconds(),
        }
    }
}

/// Health of the tables, and of the controller where one runs.
pub fn status(tables: &Tables, state: Option<&State>, interfaces: &[InterfaceRow], now: Now) -> StatusRow {
    let settings = tables.settings.get(0);
    let age_ns = (settings.heartbeat_ns != 0).then(|| now.monotonic_ns.saturating_sub(settings.heartbeat_ns));
    // As the program decides (forwarder-ebpf/src/nexthop.rs).
    let stale = settings.max_age_ns != 0
        && now.monotonic_ns.saturating_sub(settings.heartbeat_ns) > settings.max_age_ns;
    let usage = state.map_or_else(|| count(tables), |state| state.usage);
    let sum = |field: fn(&InterfaceRow) -> u64| interfaces.iter().map(field).sum::<u64>();
    let sizes = &tables.sizes;
    let mut row = StatusRow {
        version: env!("CARGO_PKG_VERSION").to_string(),
        controller: if state.is_some() { "running" } else { "not running" }.to_string(),
        pid: state.map(|state| state.pid),
        uptime: state.map(|state| now.unix_seconds.saturating_sub(state.started)),
        heartbeat_age: age_ns.map(seconds),
        max_age: seconds(settings.max_age_ns),
        stale,
        dry_run: tables.is_dry_run(),
        prefixes_ipv4: usage.prefixes_ipv4,
        prefixes_ipv6: usage.prefixes_ipv6,
        refused_ipv4: state.map(|state| state.refused_ipv4),
        refused_ipv6: state.map(|state| state.refused_ipv6),
        paths_refused: state.map(|state| state.paths_refused),
        slots_used: usage.slots,
        slots_size: sizes.slots.saturating_sub(RESERVED) as u64,
        ipv4_blocks_used: state.map(|_| usage.ipv4_blocks),
        ipv4_blocks_size: sizes.blocks4 as u64,
        ipv6_blocks_used: state.map(|_| usage.ipv6_blocks),
        ipv6_blocks_size: sizes.blocks6 as u64,
        groups_used: usage.groups,
        groups_size: sizes.groups.saturating_sub(1) as u64,
        next_hops_used: usage.next_hops,
        next_hops_size: sizes.nexthops.saturating_sub(1) as u64,
        memory_bytes: sizes.memory(),
        interfaces: interfaces.iter().filter(|row| row.mode != "detached").count() as u64,
        received_packets: sum(|row| row.received_packets),
        forwarded_packets: sum(|row| row.forwarded_packets),
        dropped_packets: sum(|row| row.dropped_packets),
        passed_packets: sum(|row| row.passed_packets),
        lost_packets: sum(|row| row.redirect_errors + row.transmit_errors),
        ingress_residue: sum(|row| row.ingress_residue.map_or(0, i64::unsigned_abs)),
        egress_residue: sum(|row| row.egress_residue.map_or(0, i64::unsigned_abs)),
        sources: Vec::new(),
        strangers: state.map_or(0, |state| state.strangers),
        crowded: state.map_or(0, |state| state.crowded),
        bogons: Vec::new(),
        history: None,
        samples: None,
        bonds: Vec::new(),
        config: ConfigState::default(),
        gateways: Vec::new(),
        shadow: None,
        problems: Vec::new(),
    };
    if let Some(state) = state {
        row.samples = samples(tables, state);
        row.history = Some(state.history.clone());
        row.bonds.clone_from(&state.bonds);
        row.gateways.clone_from(&state.gateways);
        row.shadow = Some(state.shadow.clone());
        row.config.clone_from(&state.config);
        row.bogons = state.bogons.iter().map(|list| bogons(list, now)).collect();
        row.sources = state.feeds.iter().map(|feed| source(feed, now)).collect();
        row.problems.clone_from(&state.problems);
    }
    let found = problems(&row);
    row.problems.extend(found);
    row
}

fn samples(tables: &Tables, state: &State) -> Option<SamplesRow> {
    let told = &state.samples;
    if told.rate == 0 {
        return None;
    }
    let ports = (0..tables.sizes.ports).map(|port| tables.samples(port));
    let (taken, lost) = ports.fold((0, 0), |(taken, lost), of| (taken + of.taken, lost + of.lost));
    Some(SamplesRow {
        rate: told.rate,
        header: told.header,
        taken,
        lost,
        collectors: told.collectors.clone(),
    })
}

fn bogons(list: &BogonList, now: Now) -> BogonRow {
    BogonRow {
        kind: list.kind.clone(),
        name: list.name.clone(),
        ipv4: list.ipv4,
        ipv6: list.ipv6,
        read_age: list.read.map(|at| now.unix_seconds.saturating_sub(at)),
        why: list.why.clone(),
    }
}

fn source(feed: &crate::daemon::state::Feed, now: Now) -> SourceRow {
    let ended = |table| feed.end_of_rib.contains(&table);
    SourceRow {
        kind: feed.kind.clone(),
        name: feed.name.clone(),
        state: feed.state.clone(),
        forwards: feed.forwards,
        awaited: feed.awaited,
        routes_ipv4: feed.routes_ipv4,
        routes_ipv6: feed.routes_ipv6,
        stale_ipv4: feed.stale_ipv4,
        stale_ipv6: feed.stale_ipv6,
        flowspec_ipv4: feed.flowspec_ipv4,
        flowspec_ipv6: feed.flowspec_ipv6,
        last_change_age: (feed.last_change != 0).then(|| now.unix_seconds.saturating_sub(feed.last_change)),
        updates: feed.updates,
        updates_per_second: feed.updates_per_second,
        resyncs: feed.resyncs,
        sessions: feed.sessions,
        messages: feed.messages,
        end_of_rib_ipv4: ended(FeedTable::Ipv4),
        end_of_rib_ipv6: ended(FeedTable::Ipv6),
        end_of_rib_flowspec_ipv4: ended(FeedTable::FlowSpec4),
        end_of_rib_flowspec_ipv6: ended(FeedTable::FlowSpec6),
        errors: feed.errors,
        refused: feed.refused,
        left_out: feed.left_out,
        answered: feed.answered,
        answers_dropped: feed.answers_dropped,
        last_error: feed.last_error.clone(),
        session: feed.session.clone(),
    }
}

/// Nanoseconds as seconds, to the millisecond.
fn seconds(ns: u64) -> f64 {
    (ns / 1_000_000) as f64 / 1_000.0
}

/// What the directories tell where no controller keeps books.
fn count(tables: &Tables) -> Usage {
    let (prefixes_ipv4, prefixes_ipv6) = prefixes::count(tables);
    let live = |state: u8| Entry::from_number(state) == Some(Entry::Live);
    let groups =
        (1..tables.sizes.groups).filter(|group| live(tables.group_directory.get(*group as usize).state));
    let hops = (1..tables.sizes.nexthops).filter(|id| live(tables.nexthop_directory.get(*id as usize).state));
    Usage {
        slots: prefixes_ipv4 + prefixes_ipv6,
        ipv4_blocks: 0,
        ipv6_blocks: 0,
        groups: groups.count() as u64,
        next_hops: hops.count() as u64,
        prefixes_ipv4,
        prefixes_ipv6,
    }
}

fn problems(row: &StatusRow) -> Vec<String> {
    let mut problems = Vec::new();
    let running = row.pid.is_some();
    if row.stale {
        problems.push(match row.heartbeat_age {
            Some(age) => format!(
                "no heartbeat for {age:.0} s (max-age {:.0} s): packets pass to the kernel. {}",
                row.max_age,
                if running {
                    "The controller hangs: restart it"
                } else {
                    "Start it: forwarder run"
                }
            ),
            None => {
                "the controller never finished its first synchronisation: packets pass to the kernel".into()
            }
        });
    } else if !running {
        problems.push(
            "the controller is not running: routes and neighbours are as they were. Start it: forwarder run"
                .into(),
        );
    }
    if row.paths_refused.unwrap_or(0) > 0 {
        problems.push(
            "routes found no next-hop group or next hop and are left to the kernel: raise next-hop-groups or \
             next-hops in [tables]"
                .into(),
        );
    }
    for (key, used, size) in [
        ("routes", Some(row.slots_used), row.slots_size),
        ("ipv4-blocks", row.ipv4_blocks_used, row.ipv4_blocks_size),
        ("ipv6-blocks", row.ipv6_blocks_used, row.ipv6_blocks_size),
        ("next-hop-groups", Some(row.groups_used), row.groups_size),
        ("next-hops", Some(row.next_hops_used), row.next_hops_size),
    ] {
        if let Some(used) = used
            && size > 0
            && used * 10 >= size * 9
        {
            problems.push(format!(
                "{key} is {} % full ({used} of {size}): raise it in [tables]",
                used * 100 / size
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{daemon::state::Feed, stats::sample};

    const NOW: Now = Now {
        monotonic_ns: 100_000_000_000,
        unix_seconds: 1_000_000,
    };

    fn state() -> State {
        State {
            pid: 7,
            started: 999_900,
            feeds: vec![Feed {
                name: "kernel".into(),
                state: "in step".into(),
                routes_ipv4: 3,
                last_change: 999_999,
                ..Feed::default()
            }],
            ..State::default()
        }
    }

    #[test]
    fn samples_are_told_while_they_are_taken() {
        use crate::daemon::state::SamplesState;
        use forwarder_common::sample::SampleCounter;
        let tables = sample::tables();
        let mut state = state();
        assert_eq!(status(&tables, Some(&state), &[], NOW).samples, None);
        state.samples = SamplesState {
            rate: 100,
            header: 128,
            collectors: vec![CollectorState::default()],
        };
        // Of two ports, on both CPUs.
        let ports = tables.sizes.ports as usize;
        for (at, taken, lost) in [(1, 5, 1), (ports + 1, 6, 0), (ports + 2, 7, 2)] {
            tables.sample_counters.set(at, &SampleCounter { taken, lost });
        }
        let row = status(&tables, Some(&state), &[], NOW).samples.expect("samples");
        assert_eq!((row.rate, row.taken, row.lost), (100, 18, 3));
        assert_eq!(row.collectors.len(), 1);
        assert_eq!(status(&tables, None, &[], NOW).samples, None);
    }

    #[test]
    fn a_healthy_controller_has_no_problems() {
        let tables = sample::tables();
        let row = status(&tables, Some(&state()), &[], NOW);
        assert_eq!(
            (row.controller.as_str(), row.pid, row.uptime),
            ("running", Some(7), Some(100))
        );
        assert_eq!(
            (row.heartbeat_age, row.max_age, row.stale),
            (Some(1.0), 30.0, false)
        );
        assert_eq!(row.sources[0].last_change_age, Some(1));
        assert!(row.problems.is_empty(), "{:?}", row.problems);
    }

    #[test]
    fn without_a_controller_the_directories_tell_and_the_problem_is_named() {
        let tables = sample::tables();
        let row = status(&tables, None, &[], NOW);
        assert_eq!((row.prefixes_ipv4, row.prefixes_ipv6, row.slots_used), (1, 1, 2));
        assert_eq!((row.refused_ipv4, row.ipv4_blocks_used), (None, None));
        assert!(row.problems[0].contains("the controller is not running"));
        let later = Now {
            monotonic_ns: NOW.monotonic_ns + 60_000_000_000,
            ..NOW
        };
        let row = status(&tables, None, &[], later);
        assert!(row.stale);
        assert!(
            row.problems[0].starts_with("no heartbeat for 61 s (max-age 30 s)"),
            "{:?}",
            row.problems
        );
    }

    #[test]
    fn the_controllers_problems_come_first_then_full_tables() {
        let tables = sample::tables();
        let mut state = state();
        state.problems = vec!["said by the controller".into()];
        state.usage.slots = 8000;
        let row = status(&tables, Some(&state), &[], NOW);
        assert_eq!(row.problems[0], "said by the controller");
        assert!(
            row.problems[1].starts_with("routes is 99 % full"),
            "{:?}",
            row.problems
        );
    }
}
