//! `match`: what a packet must be like, and whether one can be like that.
//!
//! Conditions must agree on the version of IP ([`super::families`]), and on the protocol: ports are those of TCP and UDP,
//! types those of ICMP, and a fragment other than the first shows none of them.

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::families::{Families, FamilyWord};
use super::words::{Word, Words};
use crate::config::{ConfigError, InterfaceConfig, check::Check};
use crate::filter::{
    names::{self, Numbers},
    ranges::Ranges,
    rule::{FRAGMENT_DF, FRAGMENT_FIRST, FRAGMENT_IS, FRAGMENT_LAST, Family, Match},
};

const ICMP: u32 = 1;
const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMPV6: u32 = 58;

/// The conditions as written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Written {
    pub(super) dst: Option<Spanned<Words>>,
    pub(super) src: Option<Spanned<Words>>,
    pub(super) proto: Option<Spanned<Words>>,
    port: Option<Spanned<Words>>,
    src_port: Option<Spanned<Words>>,
    dst_port: Option<Spanned<Words>>,
    icmp_type: Option<Spanned<Words>>,
    icmp_code: Option<Spanned<Words>>,
    tcp_flags: Option<Spanned<Words>>,
    length: Option<Spanned<Words>>,
    dscp: Option<Spanned<Words>>,
    pub(super) fragment: Option<Spanned<Words>>,
    pub(super) flow_label: Option<Spanned<Words>>,
    interface: Option<Spanned<Words>>,
    pub(super) family: Option<Spanned<FamilyWord>>,
}

/// A key, and what is written behind it.
pub(super) type Given<'a> = (&'static str, &'a Option<Spanned<Words>>);

impl Check<'_> {
    pub(super) fn conditions(
        &self,
        written: &Written,
        interfaces: &[InterfaceConfig],
    ) -> Result<Match, ConfigError> {
        let optional = |at: &Option<Spanned<Words>>, of: &Numbers| {
            at.as_ref().map(|at| self.numbers(at, of)).transpose()
        };
        let protocol = optional(&written.proto, &names::PROTOCOLS)?;
        let families = self.families(written)?;
        self.protocols(written, protocol.as_ref(), families)?;
        let icmp = |at: &Option<Spanned<Words>>, read: fn(&Self, &Spanned<Words>, Families) -> _| {
            at.as_ref().map(|at| read(self, at, families)).transpose()
        };
        let icmp_type = icmp(&written.icmp_type, Self::icmp_types)?;
        let code_names = Self::code_names(icmp_type.as_ref(), families);
        let matched = Match {
            family: families.only(),
            destination: self.matched_prefixes(&written.dst)?,
            source: self.matched_prefixes(&written.src)?,
            interfaces: written
                .interface
                .as_ref()
                .map(|at| self.interface_names(at, interfaces))
                .transpose()?,
            protocol,
            port: optional(&written.port, &names::PORTS)?,
            destination_port: optional(&written.dst_port, &names::PORTS)?,
            source_port: optional(&written.src_port, &names::PORTS)?,
            icmp_type,
            icmp_code: match &written.icmp_code {
                None => None,
                Some(at) => Some(self.icmp_codes(at, code_names)?),
            },
            tcp_flags: written
                .tcp_flags
                .as_ref()
                .map(|at| self.tcp_flags(at))
                .transpose()?,
            length: optional(&written.length, &names::LENGTHS)?,
            dscp: optional(&written.dscp, &names::DSCPS)?,
            fragment: written
                .fragment
                .as_ref()
                .map(|at| self.fragments(at))
                .transpose()?,
            flow_label: optional(&written.flow_label, &names::FLOW_LABELS)?,
        };
        self.possible(written, &matched, families)?;
        Ok(matched)
    }

    /// Conditions on what only some protocols have, in a rule for others.
    fn protocols(
        &self,
        written: &Written,
        protocol: Option<&Ranges>,
        families: Families,
    ) -> Result<(), ConfigError> {
        let icmp = match families.only() {
            Some(Family::V4) => vec![ICMP],
            Some(Family::V6) => vec![ICMPV6],
            None => vec![ICMP, ICMPV6],
        };
        let kinds: [(Vec<Given<'_>>, Vec<u32>, &str, &str); 3] = [
            (
                vec![
                    ("port", &written.port),
                    ("src-port", &written.src_port),
                    ("dst-port", &written.dst_port),
                ],
                vec![TCP, UDP],
                "ports are those of TCP and UDP",
                "write proto = \"tcp\", proto = \"udp\" or both",
            ),
            (
                vec![("tcp-flags", &written.tcp_flags)],
                vec![TCP],
                "TCP has them",
                "write proto = \"tcp\"",
            ),
            (
                vec![
                    ("icmp-type", &written.icmp_type),
                    ("icmp-code", &written.icmp_code),
                ],
                icmp,
                "ICMP has them",
                "write proto = \"icmp\" for IPv4, proto = \"icmpv6\" for IPv6",
            ),
        ];
        let mut before: Option<(&str, Ranges)> = None;
        for (keys, wanted, whose, advice) in kinds {
            let Some((key, Some(at))) = keys.into_iter().find(|(_, at)| at.is_some()) else {
                continue;
            };
            let advice = format!("{advice}, or remove `{key}`");
            let wanted = Ranges::of(wanted.into_iter().map(|number| number..=number));
            if let (Some(proto), Some(protocol)) = (&written.proto, protocol)
                && protocol.and(&wanted) != *protocol
            {
                let text = self.first_without(proto, &wanted)?;
                return Err(self.error(at, format!("`{key}` in a rule for `{text}`: {whose}"), &advice));
            }
            if let Some((other, has)) = &before
                && has.and(&wanted).is_empty()
            {
                let message = format!("no packet has both `{other}` and `{key}`: it could never match");
                return Err(self.error(at, message, "write two rules"));
            }
            before = Some((key, wanted));
        }
        Ok(())
    }

    /// The first protocol written that is none of those wanted.
    fn first_without(&self, proto: &Spanned<Words>, wanted: &Ranges) -> Result<String, ConfigError> {
        for word in self.listed(proto)? {
            let numbers = Ranges::of([self.range(&word, &names::PROTOCOLS)?]);
            if numbers.and(wanted) != numbers {
                return Ok(word.get_ref().to_string());
            }
        }
        Ok(String::new())
    }

    fn icmp_types(&self, written: &Spanned<Words>, families: Families) -> Result<Ranges, ConfigError> {
        let (v4, v6) = (&names::ICMP_TYPES, &names::ICMPV6_TYPES);
        let known = match families.only() {
            Some(Family::V4) => return self.numbers(written, v4),
            Some(Family::V6) => return self.numbers(written, v6),
            None => |word: &Spanned<Word>| {
                let name = word.get_ref().to_string();
                (name.clone(), v4.named(&name), v6.named(&name))
            },
        };
        for word in self.listed(written)? {
            let message = match known(&word) {
                (_, None, None) => continue,
                (name, Some(v4), Some(v6)) => format!("`{name}` is {v4} in ICMP and {v6} in ICMPv6"),
                (name, Some(v4), None) => {
                    format!("`{name}` is {v4} in ICMP, and this rule is for ICMPv6 too")
                }
                (name, None, Some(v6)) => {
                    format!("`{name}` is {v6} in ICMPv6, and this rule is for ICMP too")
                }
            };
            return Err(self.error(
                &word,
                message,
                "add proto = \"icmp\" for IPv4 or proto = \"icmpv6\" for IPv6, or write a number",
            ));
        }
        self.numbers(
            written,
            &Numbers {
                what: "an ICMP type",
                most: 255,
                names: &[],
            },
        )
    }

    /// Which names codes have: those of destination-unreachable, in a rule for just that.
    fn code_names(types: Option<&Ranges>, families: Families) -> &'static Numbers {
        let only = |number: u32| types.is_some_and(|types| *types == Ranges::of([number..=number]));
        match families.only() {
            Some(Family::V4) if only(3) => &names::ICMP_CODES,
            Some(Family::V6) if only(1) => &names::ICMPV6_CODES,
            _ => &names::CODES,
        }
    }

    fn icmp_codes(&self, written: &Spanned<Words>, names: &Numbers) -> Result<Ranges, ConfigError> {
        for word in self.listed(written)? {
            let name = word.get_ref().to_string();
            let known = names::ICMP_CODES
                .named(&name)
                .or(names::ICMPV6_CODES.named(&name));
            if names.names.is_empty() && known.is_some() {
                return Err(self.error(
                    &word,
                    format!("`{name}` is a code of destination-unreachable, and this rule is not for that alone"),
                    "add icmp-type = \"destination-unreachable\" and proto = \"icmp\" or \"icmpv6\", or write a number",
                ));
            }
        }
        self.numbers(written, names)
    }

    fn matched_prefixes(&self, written: &Option<Spanned<Words>>) -> Result<Option<Vec<IpNet>>, ConfigError> {
        let Some(at) = written else { return Ok(None) };
        let prefixes = self.prefixes(at)?;
        Ok(Some(prefixes.into_iter().map(Spanned::into_inner).collect()))
    }

    /// Prefixes, or addresses, which are the longest ones.
    pub(super) fn prefixes(&self, written: &Spanned<Words>) -> Result<Vec<Spanned<IpNet>>, ConfigError> {
        let mut prefixes: Vec<Spanned<IpNet>> = Vec::new();
        for word in self.listed(written)? {
            let net = self.prefix_or_address(&word, &word.get_ref().to_string())?;
            if prefixes.iter().any(|known| *known.get_ref() == net) {
                return Err(self.error(&word, format!("`{net}` stands here twice"), "write it once"));
            }
            prefixes.push(Spanned::new(word.span(), net));
        }
        Ok(prefixes)
    }

    fn interface_names(
        &self,
        written: &Spanned<Words>,
        interfaces: &[InterfaceConfig],
    ) -> Result<Vec<String>, ConfigError> {
        let mut names = Vec::new();
        for word in self.listed(written)? {
            let name = word.get_ref().to_string();
            if !interfaces.iter().any(|known| known.name == name) {
                let known: Vec<&str> = interfaces.iter().map(|known| known.name.as_str()).collect();
                return Err(self.error(
                    &word,
                    format!("interface {name:?} is not configured"),
                    &format!("configured are: {}", known.join(", ")),
                ));
            }
            names.push(name);
        }
        Ok(names)
    }

    /// Conditions that exclude each other.
    fn possible(&self, written: &Written, matched: &Match, families: Families) -> Result<(), ConfigError> {
        if let (Some(at), Some(port), Some(source), Some(destination)) = (
            &written.port,
            &matched.port,
            &matched.source_port,
            &matched.destination_port,
        ) && port.and(&source.or(destination)).is_empty()
        {
            return Err(self.error(
                at,
                "neither `src-port` nor `dst-port` allows this port: it could never match".into(),
                "`port` is either of the two; remove it, or one of them",
            ));
        }
        if let (Some(at), Some(length)) = (&written.length, &matched.length) {
            let least = if families.v4 { 20 } else { 40 };
            if length.and(&Ranges::of([least..=u32::MAX])).is_empty() {
                return Err(self.error(
                    at,
                    format!("no packet is so short: the header alone is {least} octets"),
                    "`length` is the octets of the whole IP packet",
                ));
            }
        }
        let (Some(at), Some(fragment)) = (&written.fragment, &matched.fragment) else {
            return Ok(());
        };
        let transport = [
            ("port", &written.port),
            ("src-port", &written.src_port),
            ("dst-port", &written.dst_port),
            ("tcp-flags", &written.tcp_flags),
            ("icmp-type", &written.icmp_type),
            ("icmp-code", &written.icmp_code),
        ];
        let shows = Ranges::where_true(FRAGMENT_DF | FRAGMENT_FIRST, |bits| {
            bits & (FRAGMENT_IS | FRAGMENT_LAST) == 0 && fragment.contains(bits)
        });
        if let Some((key, _)) = transport.iter().find(|(_, at)| at.is_some())
            && shows.is_empty()
        {
            return Err(self.error(
                at,
                format!("only the first fragment shows what `{key}` asks for: it could never match"),
                "write fragment = \"first\" or \"none\", or remove one of the two",
            ));
        }
        Ok(())
    }
}
