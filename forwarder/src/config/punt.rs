//! `[punt]`: how much of what is no business of the fast path is let up to the kernel, by class
//! (`forwarder_common::punt`).

use forwarder_common::punt::{Class, MOST_PER_SECOND};
use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, check::Check, rules::rate};

/// Control ports at most.
const MOST_PORTS: usize = 64;
/// SSH, BGP and LDP.
const PORTS: [u16; 3] = [22, 179, 646];

/// What is let up to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PuntConfig {
    /// Anything is limited.
    pub enabled: bool,
    /// Packets a second by class: of all sources, and of one; 0: as many as come.
    pub rates: [(u32, u32); Class::ALL.len()],
    /// Ports of TCP and UDP, ours or the other side's, that control protocols use.
    pub control_ports: Vec<u16>,
    /// UDP ports of ours that tunnels end on, beside the known ones of the tunnels that there are.
    pub tunnel_ports: Vec<u16>,
}

impl Default for PuntConfig {
    fn default() -> PuntConfig {
        let mut rates = [(0, 0); Class::ALL.len()];
        for class in Class::ALL {
            rates[*class as usize] = class.default_rates();
        }
        PuntConfig {
            enabled: true,
            rates,
            control_ports: PORTS.into(),
            tunnel_ports: Vec::new(),
        }
    }
}

/// The section as written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Written {
    enabled: Option<bool>,
    control_ports: Option<Spanned<Vec<Spanned<i64>>>>,
    tunnel_ports: Option<Spanned<Vec<Spanned<i64>>>>,
    arp: Option<Spanned<Limit>>,
    nd: Option<Spanned<Limit>>,
    link_control: Option<Spanned<Limit>>,
    multicast: Option<Spanned<Limit>>,
    ttl_expired: Option<Spanned<Limit>>,
    unresolved: Option<Spanned<Limit>>,
    options: Option<Spanned<Limit>>,
    malformed: Option<Spanned<Limit>>,
    local_icmp: Option<Spanned<Limit>>,
    local_control: Option<Spanned<Limit>>,
    local_other: Option<Spanned<Limit>>,
    session: Option<Spanned<Limit>>,
}

impl Written {
    const fn limit(&self, class: Class) -> Option<&Spanned<Limit>> {
        match class {
            Class::Arp => self.arp.as_ref(),
            Class::Nd => self.nd.as_ref(),
            Class::LinkControl => self.link_control.as_ref(),
            Class::Multicast => self.multicast.as_ref(),
            Class::TtlExpired => self.ttl_expired.as_ref(),
            Class::Unresolved => self.unresolved.as_ref(),
            Class::Options => self.options.as_ref(),
            Class::Malformed => self.malformed.as_ref(),
            Class::LocalIcmp => self.local_icmp.as_ref(),
            Class::LocalControl => self.local_control.as_ref(),
            Class::LocalOther => self.local_other.as_ref(),
            Class::Session => self.session.as_ref(),
        }
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a limit is \"5kpps\", \"off\", a number of packets a second, or { rate = ..., per-source = ... }"
)]
enum Limit {
    One(Amount),
    Both(Both),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Both {
    rate: Option<Amount>,
    per_source: Option<Amount>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Word(String),
    Number(i64),
}

const ADVICE: &str = "write \"5kpps\" or a number of packets a second; \"off\" lets all of it up";

impl Check<'_> {
    pub(super) fn punt(&self, written: &Written) -> Result<PuntConfig, ConfigError> {
        let default = PuntConfig::default();
        let mut rates = default.rates;
        for class in Class::ALL {
            if let Some(at) = written.limit(*class) {
                rates[*class as usize] = self.limit(*class, at)?;
            }
        }
        Ok(PuntConfig {
            enabled: written.enabled.unwrap_or(default.enabled),
            rates,
            control_ports: self.ports(
                "control-ports",
                written.control_ports.as_ref(),
                default.control_ports,
            )?,
            tunnel_ports: self.ports(
                "tunnel-ports",
                written.tunnel_ports.as_ref(),
                default.tunnel_ports,
            )?,
        })
    }

    fn limit(&self, class: Class, at: &Spanned<Limit>) -> Result<(u32, u32), ConfigError> {
        let (rate, share) = class.default_rates();
        let amount =
            |written: Option<&Amount>, default| written.map_or(Ok(default), |amount| self.amount(at, amount));
        let (rate, per_source) = match at.get_ref() {
            // A session has a share and no rate.
            Limit::One(one) if class == Class::Session => (0, self.amount(at, one)?),
            Limit::One(one) => {
                let rate = self.amount(at, one)?;
                // Fewer than a source may send by default: then one may send them all.
                (rate, if rate == 0 { 0 } else { share.min(rate) })
            }
            Limit::Both(Both { rate: Some(_), .. }) if class == Class::Session => {
                return Err(self.error(
                    at,
                    "sessions have no rate together".into(),
                    "write session = \"20kpps\" for the share of each",
                ));
            }
            Limit::Both(Both {
                rate: None,
                per_source: None,
            }) => {
                return Err(self.error(
                    at,
                    "neither a rate nor a share of a source".into(),
                    "write { rate = \"5kpps\", per-source = \"500pps\" }, or one of them",
                ));
            }
            Limit::Both(both) => {
                let rate = amount(both.rate.as_ref(), rate)?;
                let least = if class == Class::Session {
                    share
                } else {
                    share.min(rate)
                };
                (rate, amount(both.per_source.as_ref(), least)?)
            }
        };
        if class != Class::Session && per_source > rate {
            let message = match rate {
                0 => "a share of a source, and the rate is off".to_string(),
                _ => format!("a source may send {per_source} packets a second, and all together {rate}"),
            };
            return Err(self.error(at, message, "write a rate that is no smaller than per-source"));
        }
        Ok((rate, per_source))
    }

    /// Packets a second; 0 where it is off.
    fn amount(&self, at: &Spanned<Limit>, amount: &Amount) -> Result<u32, ConfigError> {
        let (number, text) = match amount {
            Amount::Word(word) if word == "off" => return Ok(0),
            Amount::Word(word) => {
                let packets =
                    rate::packets(word).map_err(|fault| self.error(at, fault.message, &fault.advice))?;
                (packets, format!("{word:?}"))
            }
            Amount::Number(number) => (u64::try_from(*number).unwrap_or(0), number.to_string()),
        };
        match u32::try_from(number) {
            Ok(0) => Err(self.error(at, format!("a rate of {text} would let nothing up"), ADVICE)),
            Ok(number) if number <= MOST_PER_SECOND => Ok(number),
            _ => Err(self.error(
                at,
                format!("the rate {text} is out of range"),
                "the largest is \"150Mpps\"; \"off\" lets all of it up",
            )),
        }
    }

    fn ports(
        &self,
        key: &str,
        written: Option<&Spanned<Vec<Spanned<i64>>>>,
        default: Vec<u16>,
    ) -> Result<Vec<u16>, ConfigError> {
        let Some(list) = written else { return Ok(default) };
        let mut ports = Vec::new();
        for at in list.get_ref() {
            let Some(port) = u16::try_from(*at.get_ref()).ok().filter(|port| *port != 0) else {
                return Err(self.error(
                    at,
                    format!("{} is no port", at.get_ref()),
                    "allowed here: 1 to 65535",
                ));
            };
            if ports.contains(&port) {
                return Err(self.error(at, format!("port {port} stands here twice"), "write it once"));
            }
            ports.push(port);
        }
        if ports.len() > MOST_PORTS {
            let message = format!("{} {key}", ports.len());
            return Err(self.error(list, message, &format!("name {MOST_PORTS} at most")));
        }
        Ok(ports)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn punt(lines: &str) -> Result<PuntConfig, String> {
        let text = format!("[[interface]]\nname = \"eth0\"\n[punt]\n{lines}\n");
        parse("f", &text)
            .map(|config| config.punt)
            .map_err(|why| why.to_string())
    }

    fn class(lines: &str, class: Class) -> (u32, u32) {
        punt(lines).unwrap().rates[class as usize]
    }

    #[test]
    fn without_the_section_the_defaults_hold() {
        assert_eq!(punt("").unwrap(), PuntConfig::default());
        assert!(!punt("enabled = false").unwrap().enabled);
        let config = PuntConfig::default();
        assert_eq!(
            config.rates[Class::LocalIcmp as usize],
            Class::LocalIcmp.default_rates()
        );
    }

    #[test]
    fn a_limit_is_a_rate_a_number_a_share_or_off() {
        assert_eq!(class("arp = \"20kpps\"", Class::Arp), (20_000, 500));
        assert_eq!(class("arp = 100", Class::Arp), (100, 100));
        assert_eq!(class("local-icmp = \"off\"", Class::LocalIcmp), (0, 0));
        assert_eq!(
            class(
                "local-icmp = { rate = \"1kpps\", per-source = 50 }",
                Class::LocalIcmp
            ),
            (1_000, 50)
        );
        assert_eq!(class("nd = { per-source = \"off\" }", Class::Nd), (5_000, 0));
        assert_eq!(class("session = \"50kpps\"", Class::Session), (0, 50_000));
        assert_eq!(class("session = { per-source = 9 }", Class::Session), (0, 9));
        assert_eq!(
            punt("control-ports = [22, 2222]").unwrap().control_ports,
            [22, 2_222]
        );
    }

    #[test]
    fn a_mistake_is_said_with_its_place() {
        for (lines, words) in [
            (
                "arp = \"10Mbit\"",
                "the rate \"10Mbit\" is in bits, and packets are counted here",
            ),
            ("arp = 0", "a rate of 0 would let nothing up"),
            ("arp = \"0pps\"", "a rate of \"0pps\" would let nothing up"),
            ("arp = \"200Mpps\"", "the rate \"200Mpps\" is out of range"),
            (
                "arp = { rate = 10, per-source = 20 }",
                "a source may send 20 packets a second, and all together 10",
            ),
            (
                "arp = { rate = \"off\", per-source = 20 }",
                "a share of a source, and the rate is off",
            ),
            ("arp = { }", "neither a rate nor a share of a source"),
            ("arp = true", "a limit is \"5kpps\", \"off\""),
            ("session = { rate = 5 }", "sessions have no rate together"),
            ("control-ports = [70000]", "70000 is no port"),
            ("control-ports = [22, 22]", "port 22 stands here twice"),
            ("arpp = 5", "did you mean `arp`?"),
        ] {
            let why = punt(lines).unwrap_err();
            assert!(
                why.contains(words) && why.contains("f, line 4, "),
                "{lines}: {why}"
            );
        }
    }
}
