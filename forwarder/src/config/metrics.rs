//! `[metrics]`: what Prometheus is told beyond what everybody needs.

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, check::Check};

/// Prefixes at most: each is two series for ever.
const MOST_PREFIXES: usize = 1_000;
/// Of the fastest, at most.
const MOST_TOP: u32 = 100;

/// Metrics that are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Prefixes that are counted by themselves.
    pub prefixes: Vec<IpNet>,
    /// How many of the fastest prefixes are shown.
    pub top_prefixes: usize,
    /// How many of the fastest networks, by origin AS.
    pub top_networks: usize,
}

/// The section as written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Written {
    prefixes: Vec<Spanned<String>>,
    top_prefixes: Option<Spanned<i64>>,
    top_networks: Option<Spanned<i64>>,
}

impl Check<'_> {
    pub(super) fn metrics(&self, written: &Written) -> Result<MetricsConfig, ConfigError> {
        if let Some(at) = written.prefixes.get(MOST_PREFIXES) {
            let message = format!("more than {MOST_PREFIXES} prefixes");
            let advice = "each is a series of its own: name fewer, or ask /v1/counters";
            return Err(self.error(at, message, advice));
        }
        let mut prefixes: Vec<IpNet> = Vec::new();
        for at in &written.prefixes {
            let prefix = self.prefix_or_address(at, at.get_ref())?;
            if prefixes.contains(&prefix) {
                return Err(self.error(at, format!("{prefix} stands here twice"), "write it once"));
            }
            prefixes.push(prefix);
        }
        let top = |key, written: &Option<Spanned<i64>>| {
            let number = self.number(key, written.as_ref(), 0, 0..=MOST_TOP)?;
            Ok(number as usize)
        };
        Ok(MetricsConfig {
            prefixes,
            top_prefixes: top("top-prefixes", &written.top_prefixes)?,
            top_networks: top("top-networks", &written.top_networks)?,
        })
    }
}
