//! What only the running controller knows: its feeds, its refusals, its problems. Served with the figures of the maps.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::Role,
    shadow::Shadow,
    source::feed::{FeedTable, SessionView},
    stats::{BlackholeRow, LimitRow, RuleRow},
};

/// The controller, as it was within the last second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Process id.
    pub pid: u32,
    /// When it started, seconds since 1970.
    pub started: u64,
    /// Sources of routes: the kernel, then feeds.
    pub feeds: Vec<Feed>,
    /// What was found laid at the start is kept until its sources have spoken.
    pub gated: bool,
    /// IPv4 prefixes that found no room.
    pub refused_ipv4: u64,
    /// IPv6 prefixes that found no room.
    pub refused_ipv6: u64,
    /// Paths that found no group or next hop.
    pub paths_refused: u64,
    /// How full the tables are.
    pub usage: Usage,
    /// Roles by interface name.
    pub roles: BTreeMap<String, Role>,
    /// What is contracted with carriers, bits a second, by interface name.
    pub commits: BTreeMap<String, u64>,
    /// Connections to feeds from addresses that are no neighbour's.
    pub strangers: u64,
    /// Connections to feeds that were closed because too many others were no sessions yet.
    pub crowded: u64,
    /// Filter rules: those in force in the order in which they are asked, then those that are not applied.
    pub rules: Vec<RuleRow>,
    /// Blackhole routes.
    pub blackholes: Vec<BlackholeRow>,
    /// Lists of bogons in force; empty where no interface is filtered.
    pub bogons: Vec<BogonList>,
    /// Punt classes.
    pub limits: Vec<LimitRow>,
    /// Samples of the past.
    pub history: HistoryState,
    /// Flow samples.
    pub samples: SamplesState,
    /// Bonds.
    pub bonds: Vec<BondState>,
    /// Virtual gateways.
    pub gateways: Vec<GatewayState>,
    /// The configuration.
    pub config: ConfigState,
    /// Tables and kernel compared.
    pub shadow: Shadow,
    /// What is wrong, in sentences.
    pub problems: Vec<String>,
}

/// Which configuration is in force, and what came of reading another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConfigState {
    /// Its file; empty where interfaces were named on the command line.
    pub file: String,
    /// Where what is in force and what is on trial are kept.
    pub directory: String,
    /// When one was read last, taken or not: milliseconds since 1970.
    pub read_ms: u64,
    /// Why what was read last is not in force; null where it is.
    pub refused: Option<String>,
    /// Seconds until the file's comes back unless what is on trial is confirmed; null where nothing is on trial.
    pub trial_seconds: Option<u64>,
}

/// A bond that is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BondState {
    /// Its name.
    pub ifname: String,
    /// Its mode, as `ip -d link` names it.
    pub mode: String,
    /// Its transmit hash policy.
    pub policy: String,
    /// Members that send.
    pub sending: Vec<String>,
    /// Members that do not.
    pub waiting: Vec<String>,
}

/// A virtual gateway (VRRP): a macvlan with the virtual MAC on an interface that is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GatewayState {
    /// Its name.
    pub ifname: String,
    /// The interface that it stands on.
    pub on: String,
    /// The virtual MAC address.
    pub mac: String,
    /// It is up and has an address: what is sent to it is ours.
    pub held: bool,
}

/// The history: samples of five minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HistoryState {
    /// It is to be kept.
    pub enabled: bool,
    /// That it is not written is a problem: somebody asked for it, or there is one.
    pub is_problem: bool,
    /// Where it is.
    pub directory: String,
    /// Octets of its files.
    pub bytes: u64,
    /// Octets that the file system has left.
    pub disk_free_bytes: Option<u64>,
    /// Intervals in it.
    pub intervals: u64,
    /// When the first begins, seconds since 1970.
    pub first: Option<i64>,
    /// When the last ends.
    pub last: Option<i64>,
    /// How long an interval is.
    pub interval_seconds: u64,
    /// Forwarded packets that are of no prefix that is known, since these maps were first looked at: counters went on while nobody
    /// could say whose they were.
    pub unattributed_packets: u64,
    /// Octets of those.
    pub unattributed_bytes: u64,
    /// When its files were last found deleted or replaced, seconds since 1970; null while this controller has not found that.
    pub replaced: Option<i64>,
    /// Why it is not written now.
    pub why: Option<String>,
}

/// Flow samples, as they are told to collectors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplesState {
    /// One in so many packets; 0: none.
    pub rate: u32,
    /// Octets of a frame in a sample at most.
    pub header: u32,
    /// Who is told.
    pub collectors: Vec<CollectorState>,
}

/// What samples are told in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SampleProtocol {
    /// sFlow version 5.
    #[default]
    Sflow,
    /// IPFIX (RFC 7011).
    Ipfix,
}

impl SampleProtocol {
    /// The word in `--json` and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            SampleProtocol::Sflow => "sflow",
            SampleProtocol::Ipfix => "ipfix",
        }
    }
}

/// A collector of flow samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CollectorState {
    /// "sflow", "ipfix".
    pub protocol: SampleProtocol,
    /// Its address and port.
    pub address: String,
    /// Datagrams sent since the controller started.
    pub datagrams: u64,
    /// Samples in them, those of counters among them.
    pub samples: u64,
    /// Datagrams that could not be sent, or that nobody listened for.
    pub errors: u64,
    /// Why the last of those could not, or why the collector cannot be reached.
    pub last_error: Option<String>,
}

/// A list of bogons, as it is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BogonList {
    /// "built-in", "config", "file".
    pub kind: String,
    /// The registries and their date, the key, or the path.
    pub name: String,
    /// IPv4 prefixes.
    pub ipv4: u64,
    /// IPv6 prefixes.
    pub ipv6: u64,
    /// When the file was read, seconds since 1970.
    pub read: Option<u64>,
    /// Why this is not what stands in the file now.
    pub why: Option<String>,
}

/// One source of routes: the kernel, or a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Feed {
    /// "kernel", "bgp", "fpm".
    pub kind: String,
    /// "kernel", or the neighbour's name.
    pub name: String,
    /// Of the kernel "synchronising", "in step"; of a feed "down", "connecting", "syncing", "live", "stale", "ended".
    pub state: String,
    /// Its routes forward; else it only tells attributes.
    pub forwards: bool,
    /// What was found laid at the start is kept because its first synchronisation has not ended.
    pub awaited: bool,
    /// IPv4 routes it gives.
    pub routes_ipv4: u64,
    /// IPv6 routes it gives.
    pub routes_ipv6: u64,
    /// Of these, the stale ones.
    pub stale_ipv4: u64,
    /// Of these, the stale ones.
    pub stale_ipv6: u64,
    /// FlowSpec rules for IPv4.
    pub flowspec_ipv4: u64,
    /// FlowSpec rules for IPv6.
    pub flowspec_ipv6: u64,
    /// When it last said something, seconds since 1970; 0 = never.
    pub last_change: u64,
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
    /// Tables whose End-of-RIB, or what stands for it, was seen in this session.
    pub end_of_rib: Vec<FeedTable>,
    /// Messages, routes or attributes that were not understood, or not applied.
    pub errors: u64,
    /// Routes that are missing because they were refused: there were too many.
    pub refused: u64,
    /// Of these, those that found no place in the RIB and are not asked for again.
    pub unplaced: u64,
    /// Messages or routes that were understood and are none of ours.
    pub left_out: u64,
    /// Routes of which its daemon was told what became of them (`[routes.fpm] offload`).
    pub answered: u64,
    /// Those of which it was not at once, because it did not read what it was told; they are told again when it does.
    pub answers_dropped: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// What both sides of its session agreed on.
    pub session: SessionView,
}

/// How full the tables are, as only the controller's own books tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Slots in use, those that wait for a grace period included.
    pub slots: u64,
    /// IPv4 blocks in use.
    pub ipv4_blocks: u64,
    /// IPv6 blocks in use.
    pub ipv6_blocks: u64,
    /// Next-hop groups in use.
    pub groups: u64,
    /// Next hops in use.
    pub next_hops: u64,
    /// IPv4 prefixes laid.
    pub prefixes_ipv4: u64,
    /// IPv6 prefixes laid.
    pub prefixes_ipv6: u64,
}
