//! `[samples]`: one packet in so many, told to collectors.

use std::net::{IpAddr, SocketAddr};

use forwarder_common::sample::{HEADER, MOST};
use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, check::Check};

/// One packet in so many, where nobody says: a router of 10 Gbit/s then sends a collector some 3 Mbit/s.
const DEFAULT_RATE: u32 = 1_000;
/// Octets at least: Ethernet, IPv6 and TCP.
const LEAST_HEADER: u32 = 74;
/// Collectors of a kind at most.
const MOST_COLLECTORS: usize = 8;

/// Flow samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplesConfig {
    /// One packet in so many.
    pub rate: u32,
    /// Octets of a frame at most.
    pub header: u32,
    /// Collectors of sFlow.
    pub sflow: Vec<SocketAddr>,
    /// Collectors of IPFIX.
    pub ipfix: Vec<SocketAddr>,
    /// By which address collectors of sFlow know the router; `None`: the one it sends from.
    pub agent: Option<IpAddr>,
    /// Observation domain in IPFIX, sub-agent in sFlow: tells exporters at one address apart.
    pub domain: u32,
}

impl Default for SamplesConfig {
    fn default() -> SamplesConfig {
        SamplesConfig {
            rate: DEFAULT_RATE,
            header: HEADER as u32,
            sflow: Vec::new(),
            ipfix: Vec::new(),
            agent: None,
            domain: 0,
        }
    }
}

impl SamplesConfig {
    /// Whether samples are taken: there is somebody to tell.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.sflow.is_empty() || !self.ipfix.is_empty()
    }
}

/// The section as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    rate: Option<Spanned<i64>>,
    header: Option<Spanned<i64>>,
    #[serde(default)]
    sflow: Vec<Spanned<String>>,
    #[serde(default)]
    ipfix: Vec<Spanned<String>>,
    agent: Option<Spanned<String>>,
    domain: Option<Spanned<i64>>,
}

impl Check<'_> {
    pub(super) fn samples(&self, at: Option<&Spanned<Written>>) -> Result<SamplesConfig, ConfigError> {
        let default = SamplesConfig::default();
        let Some(at) = at else { return Ok(default) };
        let written = at.get_ref();
        let number = |key, value: &Option<Spanned<i64>>, default, range| {
            self.number(key, value.as_ref(), default, range)
        };
        let config = SamplesConfig {
            rate: number("rate", &written.rate, default.rate, 1..=MOST)?,
            header: number(
                "header",
                &written.header,
                default.header,
                LEAST_HEADER..=HEADER as u32,
            )?,
            sflow: self.collectors(&written.sflow, "192.0.2.10:6343 or [2001:db8::10]:6343")?,
            ipfix: self.collectors(&written.ipfix, "192.0.2.10:4739 or [2001:db8::10]:4739")?,
            agent: written.agent.as_ref().map(|at| self.agent(at)).transpose()?,
            domain: number("domain", &written.domain, default.domain, 0..=u32::MAX)?,
        };
        if !config.is_on() {
            return Err(self.error(
                at,
                "[samples] names no collector, so no packet would be sampled".into(),
                "add sflow = [\"address:6343\"] or ipfix = [\"address:4739\"], or remove the section",
            ));
        }
        Ok(config)
    }

    fn collectors(
        &self,
        written: &[Spanned<String>],
        examples: &str,
    ) -> Result<Vec<SocketAddr>, ConfigError> {
        if let Some(at) = written.get(MOST_COLLECTORS) {
            let message = format!("more than {MOST_COLLECTORS} collectors of a kind");
            return Err(self.error(at, message, "let one of them pass its samples on"));
        }
        let mut collectors = Vec::new();
        for at in written {
            let address = self.socket(at, at.get_ref(), examples)?;
            let ip = address.ip();
            if ip.is_unspecified() || ip.is_multicast() {
                let message = format!("`{}` is nobody's address", at.get_ref());
                return Err(self.error(at, message, "name the host that collects"));
            }
            if collectors.contains(&address) {
                return Err(self.error(at, format!("{address} stands here twice"), "write it once"));
            }
            collectors.push(address);
        }
        Ok(collectors)
    }

    fn agent(&self, at: &Spanned<String>) -> Result<IpAddr, ConfigError> {
        at.get_ref().parse().map_err(|_| {
            self.error(
                at,
                format!("`{}` is not an address", at.get_ref()),
                "write an address of this router, without a port; without the line it is the one that samples are sent from",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn samples(section: &str) -> Result<SamplesConfig, String> {
        let text = format!("[[interface]]\nname = \"eth0\"\n{section}");
        let config = parse("f.toml", &text).map_err(|why| why.to_string())?;
        Ok(config.samples)
    }

    #[test]
    fn the_section_is_read_and_without_it_nothing_is_sampled() {
        assert!(!samples("").expect("sound").is_on());
        let config = samples("[samples]\nsflow = [\"192.0.2.10:6343\"]\n").expect("sound");
        assert_eq!((config.rate, config.header, config.is_on()), (1000, 128, true));
        let text = "[samples]\nrate = 1\nheader = 80\nipfix = [\"[2001:db8::1]:4739\", \"192.0.2.1:2055\"]\n\
                    agent = \"192.0.2.254\"\ndomain = 4294967295\n";
        let config = samples(text).expect("sound");
        assert_eq!((config.rate, config.header, config.domain), (1, 80, u32::MAX));
        assert_eq!((config.ipfix.len(), config.sflow.len()), (2, 0));
        assert_eq!(config.agent, Some(IpAddr::from([192, 0, 2, 254])));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (line, words) in [
            ("rate = 0", "rate = 0 is out of range"),
            ("rate = 1073741825", "allowed here: 1 to 1073741824"),
            ("header = 129", "allowed here: 74 to 128"),
            ("sflow = [\"192.0.2.1\"]", "not an address with a port"),
            ("sflow = [\"0.0.0.0:1\"]", "nobody's address"),
            ("ipfix = [\"192.0.2.1:1\", \"192.0.2.1:1\"]", "stands here twice"),
            ("agent = \"router\"", "`router` is not an address"),
            ("port = 6343", "unknown key"),
        ] {
            let why = samples(&format!("[samples]\n{line}\n")).expect_err(line);
            assert!(
                why.contains(words) && why.contains("f.toml, line 4"),
                "{line}: {why}"
            );
        }
        let why = samples("[samples]\nrate = 10\n").expect_err("no collector");
        assert!(why.contains("names no collector"), "{why}");
        let many = ["\"192.0.2.1:1\""; 9].join(", ");
        let why = samples(&format!("[samples]\nsflow = [{many}]\n")).expect_err("too many");
        assert!(why.contains("more than 8 collectors"), "{why}");
    }
}
