//! The file as written, and what must hold between its lines.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

use forwarder_common::origin::MAX_PORT;

use crate::source::route_tables::{MOST, RouteTables, TABLE_LOCAL, TABLE_MAIN};

use super::accounts::{Written as Account, WrittenStatistics as Statistics};
use super::bgp::Written as Bgp;
use super::check::Check;
use super::fpm::Fpm;
use super::history::Written as History;
use super::metrics::Written as Metrics;
use super::punt::Written as Punt;
use super::rules::Written as Rule;
use super::samples::Written as Samples;
use super::whole::Spots;
use super::{
    ApiConfig, Config, ConfigError, DEFAULT_MAX_AGE, DEFAULT_METRICS, DEFAULT_SOCKET, DEFAULT_SYNC_TIMEOUT,
    DEFAULT_TABLES, FilterConfig, InterfaceConfig, MAX_ROUTES, Role, RoutesConfig, Source, SourceCheck,
    StatisticsConfig, TablesConfig, XdpMode, name_fault,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    interface: Vec<Spanned<Interface>>,
    #[serde(default)]
    routes: Routes,
    #[serde(default)]
    filter: Filter,
    #[serde(default)]
    punt: Punt,
    #[serde(default)]
    tables: Tables,
    #[serde(default)]
    api: Api,
    #[serde(default)]
    history: History,
    #[serde(default)]
    metrics: Metrics,
    #[serde(default)]
    account: Vec<Spanned<Account>>,
    #[serde(default)]
    statistics: Statistics,
    samples: Option<Spanned<Samples>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Interface {
    name: Spanned<String>,
    #[serde(default)]
    role: Role,
    #[serde(default)]
    xdp: XdpMode,
    source_check: Option<Spanned<SourceCheck>>,
    flowspec: Option<Spanned<bool>>,
    commit: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Routes {
    max_age: Option<Age>,
    sources: Option<Spanned<Vec<Spanned<String>>>>,
    tables: Option<Spanned<Vec<Spanned<TableWord>>>>,
    sync_timeout: Option<Age>,
    bgp: Option<Spanned<Bgp>>,
    fpm: Option<Spanned<Fpm>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Filter {
    bogons: Option<bool>,
    bogon_prefixes: Vec<Spanned<String>>,
    bogon_files: Vec<Spanned<PathBuf>>,
    own_prefixes: Vec<Spanned<String>>,
    rule: Vec<Spanned<Rule>>,
    flowspec: Option<Spanned<bool>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Tables {
    routes: Option<Spanned<i64>>,
    ipv4_blocks: Option<Spanned<i64>>,
    ipv6_blocks: Option<Spanned<i64>>,
    next_hop_groups: Option<Spanned<i64>>,
    next_hops: Option<Spanned<i64>>,
    interfaces: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Api {
    socket: Option<Spanned<PathBuf>>,
    metrics: Option<Spanned<String>>,
    group: Option<Spanned<String>>,
    page: Option<Spanned<bool>>,
}

/// A table of the kernel: a name or a number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a table is \"main\" or a number")]
enum TableWord {
    Name(String),
    Number(i64),
}

/// A duration: "30s", "5m", "1h", "500ms" or "0".
pub(super) struct Age(pub(super) Duration);

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Age, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration(&text).map(Age).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is not a duration: write \"30s\", \"5m\", \"1h\", or \"0\" for never"
            ))
        })
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let milliseconds = match &text[digits..] {
        "" if number == 0 => 0,
        "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    // Nanoseconds must fit the data path's word.
    (milliseconds <= u64::MAX / 1_000_000).then(|| Duration::from_millis(milliseconds))
}

/// Reads and checks, and says where things stand.
pub(super) fn parse(name: &str, text: &str) -> Result<(Config, Spots), ConfigError> {
    let file: File = toml::from_str(text).map_err(|error| ConfigError::of_toml(name, text, &error))?;
    let config = Check { name, text }.config(&file)?;
    let named = |interface: &Spanned<Interface>| interface.get_ref().name.span();
    let spots = Spots {
        interfaces: file.interface.iter().map(named).collect(),
        rules: file.filter.rule.iter().map(Spanned::span).collect(),
        group: file.api.group.as_ref().map(Spanned::span),
    };
    Ok((config, spots))
}

impl Check<'_> {
    fn config(&self, file: &File) -> Result<Config, ConfigError> {
        let interfaces = self.interfaces(&file.interface)?;
        let sources = self.sources(&file.routes)?;
        let statistics = file.statistics.read();
        Ok(Config {
            filter: self.filter(&file.filter, &interfaces)?,
            interfaces,
            routes: RoutesConfig {
                max_age: file.routes.max_age.as_ref().map_or(DEFAULT_MAX_AGE, |age| age.0),
                tables: self.route_tables(&file.routes)?,
                sync_timeout: file
                    .routes
                    .sync_timeout
                    .as_ref()
                    .map_or(DEFAULT_SYNC_TIMEOUT, |age| age.0),
                bgp: file
                    .routes
                    .bgp
                    .as_ref()
                    .map(|bgp| self.bgp(bgp.get_ref()))
                    .transpose()?,
                fpm: file
                    .routes
                    .fpm
                    .as_ref()
                    .map(|fpm| fpm.get_ref().check(self, &sources))
                    .transpose()?,
                sources,
            },
            punt: self.punt(&file.punt)?,
            tables: self.tables(&file.tables, statistics)?,
            api: self.api(&file.api)?,
            history: self.history(&file.history)?,
            metrics: self.metrics(&file.metrics)?,
            accounts: self.accounts(&file.account)?,
            statistics,
            samples: self.samples(file.samples.as_ref())?,
        })
    }

    fn interfaces(&self, written: &[Spanned<Interface>]) -> Result<Vec<InterfaceConfig>, ConfigError> {
        if written.is_empty() {
            return Err(ConfigError::plain(
                self.name,
                "no interface is configured".into(),
                "add at least one section: [[interface]] with name = \"eth0\"",
            ));
        }
        let mut interfaces: Vec<InterfaceConfig> = Vec::new();
        for interface in written.iter().map(Spanned::get_ref) {
            let name = interface.name.get_ref();
            if let Some(fault) = name_fault(name) {
                return Err(self.error(
                    &interface.name,
                    format!("{name:?} cannot be the name of an interface: {fault}"),
                    "`ip link` lists the names",
                ));
            }
            if interfaces.iter().any(|known| known.name == *name) {
                return Err(self.error(
                    &interface.name,
                    format!("interface {name:?} is configured twice"),
                    "keep one of the two sections",
                ));
            }
            interfaces.push(InterfaceConfig {
                role: interface.role,
                xdp: interface.xdp,
                source_check: interface
                    .source_check
                    .as_ref()
                    .map_or(interface.role.source_check(), |at| *at.get_ref()),
                flowspec: interface.flowspec.as_ref().is_none_or(|at| *at.get_ref()),
                commit: interface.commit.as_ref().map(|at| self.commit(at)).transpose()?,
                ..InterfaceConfig::plain(name)
            });
        }
        Ok(interfaces)
    }

    fn sources(&self, routes: &Routes) -> Result<Vec<Source>, ConfigError> {
        let Some(list) = &routes.sources else {
            return Ok(vec![Source::Kernel]);
        };
        let mut sources = Vec::new();
        for written in list.get_ref() {
            let word = written.get_ref();
            let Some(source) = Source::ALL.into_iter().find(|source| source.name() == word) else {
                return Err(self.error(
                    written,
                    format!("`{word}` is not a source of routes"),
                    "allowed here: kernel, bgp, fpm",
                ));
            };
            if sources.contains(&source) {
                return Err(self.error(written, format!("`{word}` stands here twice"), "write it once"));
            }
            let configured = match source {
                Source::Kernel => true,
                Source::Bgp => routes.bgp.is_some(),
                Source::Fpm => routes.fpm.is_some(),
            };
            if !configured {
                return Err(self.error(
                    written,
                    format!("`{word}` is not configured"),
                    &format!("add the section [routes.{word}], or remove the word"),
                ));
            }
            sources.push(source);
        }
        if sources.is_empty() {
            return Err(self.error(
                list,
                "no source of routes is named".into(),
                "write sources = [\"kernel\"], or remove the line",
            ));
        }
        Ok(sources)
    }

    fn route_tables(&self, routes: &Routes) -> Result<RouteTables, ConfigError> {
        let Some(list) = &routes.tables else {
            return Ok(RouteTables::default());
        };
        let mut tables = Vec::new();
        for written in list.get_ref() {
            let (table, text) = match written.get_ref() {
                TableWord::Name(name) => (
                    (name == "main")
                        .then_some(TABLE_MAIN)
                        .or_else(|| name.parse().ok()),
                    name.clone(),
                ),
                TableWord::Number(number) => (u32::try_from(*number).ok(), number.to_string()),
            };
            let Some(table) = table.filter(|table| *table != 0) else {
                return Err(self.error(
                    written,
                    format!("`{text}` is not a table of the kernel"),
                    "allowed here: \"main\" and numbers from 1, as `ip rule` and /etc/iproute2/rt_tables show them",
                ));
            };
            if table == TABLE_LOCAL {
                return Err(self.error(
                    written,
                    "table local is always asked first".into(),
                    "name the tables behind it",
                ));
            }
            if tables.contains(&table) {
                return Err(self.error(written, format!("`{text}` stands here twice"), "write it once"));
            }
            tables.push(table);
        }
        if tables.is_empty() || tables.len() > MOST {
            return Err(self.error(
                list,
                format!("{} tables are named", tables.len()),
                &format!("name 1 to {MOST}, or remove the line for [\"main\"]"),
            ));
        }
        Ok(RouteTables::behind_local(&tables))
    }

    fn filter(&self, written: &Filter, interfaces: &[InterfaceConfig]) -> Result<FilterConfig, ConfigError> {
        let mut bogon_files: Vec<PathBuf> = Vec::new();
        for at in &written.bogon_files {
            let path = self.absolute(at)?;
            if bogon_files.contains(path) {
                let message = format!("`{}` stands here twice", path.display());
                return Err(self.error(at, message, "write it once"));
            }
            bogon_files.push(path.clone());
        }
        Ok(FilterConfig {
            bogons: written.bogons.unwrap_or(true),
            bogon_prefixes: self
                .prefix_list(&written.bogon_prefixes, "nobody could send anything: name less")?,
            bogon_files,
            own_prefixes: self.prefix_list(&written.own_prefixes, "name only prefixes that are yours")?,
            rules: self.rules(&written.rule, interfaces)?,
            flowspec: written.flowspec.as_ref().is_none_or(|at| *at.get_ref()),
        })
    }

    fn absolute<'a>(&self, at: &'a Spanned<PathBuf>) -> Result<&'a PathBuf, ConfigError> {
        let path = at.get_ref();
        if !path.is_absolute() {
            return Err(self.error(
                at,
                format!("`{}` is not an absolute path", path.display()),
                "begin it with /",
            ));
        }
        Ok(path)
    }

    fn tables(&self, written: &Tables, statistics: StatisticsConfig) -> Result<TablesConfig, ConfigError> {
        let size = |key: &str, value: &Option<Spanned<i64>>, default: u32, least: u32, most: u32| {
            self.number(key, value.as_ref(), default, least..=most)
        };
        let default = DEFAULT_TABLES;
        Ok(TablesConfig {
            routes: size("routes", &written.routes, default.routes, 1_024, MAX_ROUTES)?,
            ipv4_blocks: size(
                "ipv4-blocks",
                &written.ipv4_blocks,
                default.ipv4_blocks,
                64,
                1 << 20,
            )?,
            ipv6_blocks: size(
                "ipv6-blocks",
                &written.ipv6_blocks,
                default.ipv6_blocks,
                64,
                1 << 20,
            )?,
            next_hop_groups: size(
                "next-hop-groups",
                &written.next_hop_groups,
                default.next_hop_groups,
                64,
                1 << 20,
            )?,
            // An id is 16 bits wide.
            next_hops: size("next-hops", &written.next_hops, default.next_hops, 64, 65_535)?,
            interfaces: size("interfaces", &written.interfaces, default.interfaces, 1, MAX_PORT)?,
            source_counters: statistics.sources,
        })
    }

    fn api(&self, written: &Api) -> Result<ApiConfig, ConfigError> {
        let socket = match &written.socket {
            None => DEFAULT_SOCKET.into(),
            Some(at) => self.absolute(at)?.clone(),
        };
        let metrics = match &written.metrics {
            None => Some(DEFAULT_METRICS),
            Some(at) if at.get_ref() == "off" => None,
            Some(at) => Some(self.socket(at, at.get_ref(), "127.0.0.1:9177 or [::1]:9177, or \"off\"")?),
        };
        let group = match &written.group {
            None => None,
            Some(at) if group_fault(at.get_ref()) => {
                return Err(self.error(
                    at,
                    format!("{:?} cannot be the name of a group", at.get_ref()),
                    "`getent group` lists the groups",
                ));
            }
            Some(at) => Some(at.get_ref().clone()),
        };
        let page = match (&written.page, metrics) {
            (Some(at), None) if *at.get_ref() => {
                return Err(self.error(
                    at,
                    "the page is served beside metrics, which are off".into(),
                    "give metrics an address, or leave page out",
                ));
            }
            (Some(at), _) => *at.get_ref(),
            // What others reach is not shown to them unasked.
            (None, metrics) => metrics.is_some_and(|at| at.ip().is_loopback()),
        };
        Ok(ApiConfig {
            socket,
            group,
            metrics,
            page,
        })
    }
}

/// What no system has as the name of a group (useradd(8): shells and files would read it otherwise).
fn group_fault(name: &str) -> bool {
    let odd = |letter: char| letter.is_whitespace() || letter.is_control() || ":,/".contains(letter);
    name.is_empty() || name.len() > 32 || name.starts_with('-') || name.contains(odd)
}
