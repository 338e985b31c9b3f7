//! The configuration file: what may stand in it, and what is said when something else does.
//!
//! [`file`] is the file as written, [`whole`] what only all of it shows, [`error`] the sentence for a mistake with its line
//! and column; this module holds what the rest of the program works with.

mod accounts;
mod bgp;
mod check;
mod error;
mod file;
mod fpm;
mod history;
mod metrics;
mod prefixes;
mod punt;
mod rules;
mod samples;
#[cfg(test)]
mod tests;
mod whole;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use forwarder_common::fib::SLOT_MAX;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use accounts::{AccountConfig, StatisticsConfig};
pub use bgp::{BgpConfig, BgpNeighbour, Limits as BgpLimits, Secret};
pub use error::ConfigError;
pub use fpm::FpmConfig;
pub use history::HistoryConfig;
pub use metrics::MetricsConfig;
pub use prefixes::read_list;
pub use punt::PuntConfig;
pub use rules::{MOST_RULES, bits_per_second};
pub use samples::SamplesConfig;
pub use whole::{check, load, names_an_interface, read, text};

use crate::{filter::rule::Rule, source::route_tables::RouteTables};

/// Where the configuration is, unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/forwarder/forwarder.toml";
/// Where the socket is, unless configuration or command line say otherwise.
pub const DEFAULT_SOCKET: &str = "/run/forwarder/forwarder.sock";

/// What the network beyond an interface is to us: chooses the filter's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A carrier that sells us the whole Internet.
    Transit,
    /// A network we exchange our own prefixes with.
    Peer,
    /// Our own network.
    #[default]
    Core,
    /// A network that buys from us.
    Customer,
}

impl Role {
    /// The word in the file, in JSON and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Transit => "transit",
            Role::Peer => "peer",
            Role::Core => "core",
            Role::Customer => "customer",
        }
    }

    /// How sources are checked, unless something else is written: where routing may be asymmetric, only whether there is
    /// a route at all (RFC 3704 2.4).
    pub const fn source_check(self) -> SourceCheck {
        match self {
            Role::Transit | Role::Peer => SourceCheck::Loose,
            Role::Core => SourceCheck::Off,
            Role::Customer => SourceCheck::Strict,
        }
    }
}

/// Which sources may come in (RFC 3704, RFC 8704).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceCheck {
    /// Any.
    Off,
    /// Those that a route leads to.
    Loose,
    /// Those that the best route leads to, by the interface they come in on.
    Strict,
    /// Those that some route leads to, by the interface they come in on.
    Feasible,
}

impl SourceCheck {
    /// The word in the file, in JSON and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            SourceCheck::Off => "off",
            SourceCheck::Loose => "loose",
            SourceCheck::Strict => "strict",
            SourceCheck::Feasible => "feasible",
        }
    }
}

/// How the program is attached to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// In the driver.
    #[default]
    Native,
    /// In the kernel's stack: works with every driver, and is slow.
    Generic,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Its name.
    pub name: String,
    /// What lies beyond it.
    pub role: Role,
    /// How the program is attached.
    pub xdp: XdpMode,
    /// Which sources may come in.
    pub source_check: SourceCheck,
    /// Rules of FlowSpec neighbours hold for what comes in here.
    pub flowspec: bool,
    /// What is contracted with the carrier behind it, bits a second.
    pub commit: Option<u64>,
}

impl InterfaceConfig {
    /// An interface of which only the name is known.
    #[must_use]
    pub fn plain(name: &str) -> InterfaceConfig {
        let role = Role::default();
        InterfaceConfig {
            name: name.to_string(),
            role,
            xdp: XdpMode::default(),
            source_check: role.source_check(),
            flowspec: true,
            commit: None,
        }
    }
}

/// Where routes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The kernel's own tables.
    Kernel,
    /// BGP sessions.
    Bgp,
    /// FRR's forwarding plane manager.
    Fpm,
}

impl Source {
    /// Every source there is.
    pub const ALL: [Source; 3] = [Source::Kernel, Source::Bgp, Source::Fpm];

    /// The word in the file, in JSON and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Kernel => "kernel",
            Source::Bgp => "bgp",
            Source::Fpm => "fpm",
        }
    }
}

/// Routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutesConfig {
    /// How old the heartbeat may be before packets pass to the kernel; zero = any age.
    pub max_age: Duration,
    /// Sources, the preferred one first. One that is configured and not named here only tells attributes.
    pub sources: Vec<Source>,
    /// The kernel's tables, in the order in which its rules ask them.
    pub tables: RouteTables,
    /// How long after its start the controller keeps the routes it found laid, while a source has not ended its first
    /// synchronisation; zero = as long as that takes.
    pub sync_timeout: Duration,
    /// BGP sessions, where they are configured.
    pub bgp: Option<BgpConfig>,
    /// FRR's forwarding plane manager, where it is configured.
    pub fpm: Option<FpmConfig>,
}

/// What may not come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterConfig {
    /// Drop sources that must not appear on the Internet, on transit and peer interfaces.
    pub bogons: bool,
    /// More sources to drop there, whatever `bogons` says.
    pub bogon_prefixes: Vec<IpNet>,
    /// Lists with more of them, for [`read_list`].
    pub bogon_files: Vec<PathBuf>,
    /// Our own prefixes: nobody outside may send from them.
    pub own_prefixes: Vec<IpNet>,
    /// Rules, in the order in which they are asked.
    pub rules: Vec<Rule>,
    /// Rules of FlowSpec neighbours are applied, behind those.
    pub flowspec: bool,
}

impl Default for FilterConfig {
    fn default() -> FilterConfig {
        FilterConfig {
            bogons: true,
            bogon_prefixes: Vec::new(),
            bogon_files: Vec::new(),
            own_prefixes: Vec::new(),
            rules: Vec::new(),
            flowspec: true,
        }
    }
}

/// Sizes of the tables, for when the maps are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TablesConfig {
    /// Counter slots: prefixes of both families together.
    pub routes: u32,
    /// IPv4 blocks of 256 leaves.
    pub ipv4_blocks: u32,
    /// IPv6 blocks of 256 leaves.
    pub ipv6_blocks: u32,
    /// Next-hop groups.
    pub next_hop_groups: u32,
    /// Next hops.
    pub next_hops: u32,
    /// Interfaces.
    pub interfaces: u32,
    /// There are counters by source prefix, too: `[statistics] sources`.
    pub source_counters: bool,
}

impl TablesConfig {
    /// The sizes of the maps on a machine with so many possible CPUs. What every CPU has counters of is rounded up, so that the
    /// counters of two CPUs are never in one cache line: four counters fill one.
    pub const fn sizes(&self, cpus: u32) -> crate::dataplane::Sizes {
        crate::dataplane::Sizes {
            slots: self.routes.next_multiple_of(4),
            blocks4: self.ipv4_blocks,
            blocks6: self.ipv6_blocks,
            groups: self.next_hop_groups,
            nexthops: self.next_hops.next_multiple_of(4),
            // Port 0 stands for "not configured".
            ports: (self.interfaces + 1).next_multiple_of(4),
            cpus,
            sources: self.source_counters,
        }
    }
}

/// Most prefixes a table may be made for: below what a leaf can name.
pub const MAX_ROUTES: u32 = 2_000_000;
const _: () = assert!(MAX_ROUTES < SLOT_MAX);

/// Where figures are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiConfig {
    /// Unix socket.
    pub socket: PathBuf,
    /// The group that may ask there; `None` = that of the controller.
    pub group: Option<String>,
    /// Prometheus metrics, and the web page; `None` = off.
    pub metrics: Option<SocketAddr>,
    /// The web page is served there, with the rows that it shows.
    pub page: bool,
}

impl Default for ApiConfig {
    fn default() -> ApiConfig {
        ApiConfig {
            socket: DEFAULT_SOCKET.into(),
            group: None,
            metrics: Some(DEFAULT_METRICS),
            page: true,
        }
    }
}

/// The configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interfaces, at least one.
    pub interfaces: Vec<InterfaceConfig>,
    /// Routes.
    pub routes: RoutesConfig,
    /// Filter.
    pub filter: FilterConfig,
    /// What is let up to the kernel.
    pub punt: PuntConfig,
    /// Sizes.
    pub tables: TablesConfig,
    /// Socket and metrics.
    pub api: ApiConfig,
    /// Samples of the past.
    pub history: HistoryConfig,
    /// Metrics beyond what everybody needs.
    pub metrics: MetricsConfig,
    /// Whose traffic is whose.
    pub accounts: Vec<AccountConfig>,
    /// What is counted beside what always is.
    pub statistics: StatisticsConfig,
    /// Packets that are told to collectors.
    pub samples: SamplesConfig,
}

impl Config {
    /// The configuration of `run --interface N...`: these interfaces, everything else as it is by default.
    ///
    /// # Errors
    /// No name, a name that no interface can have, or one given twice.
    pub fn from_interfaces<S: AsRef<str>>(names: &[S]) -> Result<Config, ConfigError> {
        let plain = |message, advice: &str| ConfigError::plain("--interface", message, advice);
        if names.is_empty() {
            return Err(plain(
                "no interface is named".into(),
                "name at least one: --interface eth0",
            ));
        }
        let mut interfaces: Vec<InterfaceConfig> = Vec::new();
        for name in names.iter().map(AsRef::as_ref) {
            if let Some(fault) = name_fault(name) {
                return Err(plain(
                    format!("{name:?} cannot be the name of an interface: {fault}"),
                    "`ip link` lists the names",
                ));
            }
            if interfaces.iter().any(|known| known.name == name) {
                return Err(plain(
                    format!("interface {name:?} is given twice"),
                    "name it once",
                ));
            }
            interfaces.push(InterfaceConfig::plain(name));
        }
        Ok(Config {
            interfaces,
            routes: RoutesConfig {
                max_age: DEFAULT_MAX_AGE,
                sources: vec![Source::Kernel],
                tables: RouteTables::default(),
                sync_timeout: DEFAULT_SYNC_TIMEOUT,
                bgp: None,
                fpm: None,
            },
            filter: FilterConfig::default(),
            punt: PuntConfig::default(),
            tables: DEFAULT_TABLES,
            api: ApiConfig::default(),
            history: HistoryConfig::default(),
            metrics: MetricsConfig::default(),
            accounts: Vec::new(),
            statistics: StatisticsConfig::default(),
            samples: SamplesConfig::default(),
        })
    }

    /// The configuration of an interface.
    pub fn interface(&self, name: &str) -> Option<&InterfaceConfig> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }
}

const DEFAULT_MAX_AGE: Duration = Duration::from_secs(30);
const DEFAULT_SYNC_TIMEOUT: Duration = Duration::from_secs(300);
const DEFAULT_METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9177);
const DEFAULT_TABLES: TablesConfig = TablesConfig {
    routes: 1_499_000,
    ipv4_blocks: 16_384,
    ipv6_blocks: 81_000,
    next_hop_groups: 16_384,
    next_hops: 8_192,
    interfaces: 64,
    source_counters: false,
};

/// Checks the text of a configuration; `name` is what errors call it.
///
/// What only shows beside the machine it is for is [`load`]'s.
///
/// # Errors
/// As [`load`].
pub fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
    Ok(file::parse(name, text)?.0)
}

/// Why the kernel would not give an interface this name (`dev_valid_name`, net/core/dev.c).
fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > 15 {
        Some("it is longer than 15 characters")
    } else if name == "." || name == ".." {
        Some("the kernel reserves it")
    } else if name.contains(['/', ':']) {
        Some("it holds '/' or ':'")
    } else if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Some("it holds white space or a control character")
    } else {
        None
    }
}
