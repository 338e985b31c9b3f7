//! Commands that do something: run, check, detach.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use anyhow::Result;
use forwarder_common::counters::Counter;
use tracing_subscriber::EnvFilter;

use super::{Places, output};
use crate::{
    change::begin::Told,
    config::{self, Config, ConfigError, HistoryConfig},
    daemon, netlink, privileges,
};

/// `forwarder run`
pub fn run(
    places: &Places,
    file: &Path,
    interfaces: &[String],
    record: Option<PathBuf>,
    history: Option<&Path>,
    dry_run: bool,
) -> Result<bool> {
    let filter = EnvFilter::try_from_env("FORWARDER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let mut beginning = None;
    let config = if interfaces.is_empty() {
        // Named from where this process stands, as it may stand elsewhere for others.
        let file = std::path::absolute(file)?;
        let told = Told::read();
        let begun = told.begin(&file).inspect_err(|why| told.put_back(why))?;
        let config = begun.config.clone();
        beginning = Some((file, told, begun));
        config
    } else {
        Config::from_interfaces(interfaces)?
    };
    let history = match history {
        None => config.history.clone(),
        Some(word) if word == Path::new("off") => HistoryConfig {
            enabled: Some(false),
            ..config.history.clone()
        },
        Some(directory) => HistoryConfig {
            enabled: Some(true),
            directory: Some(std::path::absolute(directory)?),
            ..config.history.clone()
        },
    };
    let config = Config { history, ..config };
    let socket = places.socket.clone().unwrap_or_else(|| config.api.socket.clone());
    privileges::drop_to(&config)?;
    daemon::run(daemon::RunOptions {
        config,
        bpffs: places.bpffs.clone(),
        socket,
        record,
        dry_run,
        beginning,
    })?;
    Ok(true)
}

/// `forwarder check --configured`
pub fn configured(file: &Path) -> Result<bool> {
    let yes = config::names_an_interface(file);
    if !yes {
        output::print(&format!(
            "{} names no interface yet: there is nothing to forward on\n",
            file.display()
        ))?;
    }
    Ok(yes)
}

/// `forwarder check`
pub fn check(file: &Path, json: bool) -> Result<bool> {
    let links = netlink::dump::dump_links();
    // Where the kernel does not tell its interfaces, none of them is called absent.
    let present = |name: &str| {
        links
            .as_ref()
            .map_or(true, |links| links.iter().any(|link| link.name == name))
    };
    let checked = config::check(file, &present);
    if json {
        let findings: Vec<Finding> = match &checked {
            Ok((_, warnings)) => warnings.iter().map(|why| Finding::of("warning", why)).collect(),
            Err(why) => vec![Finding::of("error", why)],
        };
        output::print_json(&findings)?;
        return Ok(checked.is_ok());
    }
    let (config, warnings) = checked?;
    let mut text = format!("{}: sound\n{}", file.display(), summary(&config));
    for warning in &warnings {
        text += &format!("warning: {warning}\n");
    }
    if let Err(why) = links {
        text += &format!("warning: cannot tell which interfaces are there: {why}\n");
    }
    output::print(&text)?;
    Ok(true)
}

/// What is wrong with a configuration, or may be: a row of `check --json`.
#[derive(Debug, serde::Serialize)]
struct Finding {
    /// "error" or "warning".
    severity: &'static str,
    /// The file.
    file: String,
    /// Line, from 1; null where none is to blame.
    line: Option<usize>,
    /// Column, from 1.
    column: Option<usize>,
    /// What is wrong.
    message: String,
    /// What to do.
    advice: String,
}

impl Finding {
    fn of(severity: &'static str, why: &ConfigError) -> Finding {
        Finding {
            severity,
            file: why.place.clone(),
            line: why.position.map(|(line, _)| line),
            column: why.position.map(|(_, column)| column),
            message: why.message.clone(),
            advice: why.advice.clone(),
        }
    }
}

fn summary(config: &Config) -> String {
    let mut text = String::new();
    for interface in &config.interfaces {
        let mode = match interface.xdp {
            config::XdpMode::Native => "native",
            config::XdpMode::Generic => "generic",
        };
        text += &format!(
            "  interface {}: {}, {mode}, source-check {}\n",
            interface.name,
            interface.role.name(),
            interface.source_check.name()
        );
    }
    let own: Vec<String> = config
        .filter
        .own_prefixes
        .iter()
        .map(ToString::to_string)
        .collect();
    let own = if own.is_empty() {
        "none".to_string()
    } else {
        own.join(", ")
    };
    let bogons = if config.filter.bogons {
        "dropped"
    } else {
        "let through"
    };
    text += &format!("  on transit and peer: built-in bogon sources {bogons}; own prefixes: {own}\n");
    let files = config
        .filter
        .bogon_files
        .iter()
        .map(|path| path.display().to_string());
    let mut lists: Vec<String> = files.collect();
    if !config.filter.bogon_prefixes.is_empty() {
        lists.insert(0, "bogon-prefixes".to_string());
    }
    if !lists.is_empty() {
        text += &format!("  and bogon sources of: {}\n", lists.join(", "));
    }
    if !config.filter.rules.is_empty() {
        text += &format!("  rules: {}\n", config.filter.rules.len());
    }
    let age = config.routes.max_age;
    text += &match age.is_zero() {
        true => "  max-age: never stale\n".to_string(),
        false => format!("  max-age: {age:?}\n"),
    };
    let tables = &config.tables;
    text += &format!(
        "  tables: {} routes, {} + {} blocks, {} groups, {} next hops, {} interfaces\n",
        output::grouped(tables.routes.into()),
        output::grouped(tables.ipv4_blocks.into()),
        output::grouped(tables.ipv6_blocks.into()),
        output::grouped(tables.next_hop_groups.into()),
        output::grouped(tables.next_hops.into()),
        tables.interfaces,
    );
    if !config.accounts.is_empty() {
        let prefixes: usize = config.accounts.iter().map(|account| account.prefixes.len()).sum();
        text += &format!(
            "  accounts: {}, with {} prefixes\n",
            config.accounts.len(),
            output::grouped(prefixes as u64)
        );
    }
    if config.statistics.sources {
        // One counter for each CPU, and what was counted before.
        let counters = u64::from(tables.routes) * size_of::<Counter>() as u64;
        text += &format!(
            "  statistics: packets are counted by source prefix, which takes {} a CPU, and one more\n",
            output::octets(counters)
        );
    }
    let metrics = config
        .api
        .metrics
        .map_or("off".to_string(), |address| address.to_string());
    let history = &config.history;
    let kept = match (history.enabled, history.retention.days) {
        (Some(false), _) => "off".to_string(),
        (_, days) => format!("{}, {days} days", history.place().display()),
    };
    text += &format!("  history: {kept}\n");
    text + &format!("  socket: {}; metrics: {metrics}\n", config.api.socket.display())
}

/// `forwarder detach`
pub fn detach(bpffs: &Path, json: bool) -> Result<bool> {
    let report = daemon::detach(bpffs)?;
    if json {
        output::print_json(&[report])?;
        return Ok(true);
    }
    for pin in &report.removed {
        output::print(&format!("removed {pin}\n"))?;
    }
    output::print("forwarder is out of the kernel; the kernel forwards every packet\n")?;
    Ok(true)
}
