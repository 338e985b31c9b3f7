//! Which version of IP a rule is for.
//!
//! Several conditions say that: `family`, prefixes, `icmp` and `icmpv6`, and what only one of the two has. They must agree,
//! in each of their parts: an IPv6 prefix in a rule that its source makes one for IPv4 would never match.

use std::ops::Range;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::conditions::{Given, Written};
use super::words::DONT_FRAGMENT;
use crate::config::{ConfigError, check::Check};
use crate::filter::rule::Family;

/// `family`, as written.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FamilyWord {
    Ipv4,
    Ipv6,
}

/// Versions of IP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Families {
    pub v4: bool,
    pub v6: bool,
}

const V4: Families = Families { v4: true, v6: false };
const V6: Families = Families { v4: false, v6: true };
const BOTH: Families = Families { v4: true, v6: true };
const NONE: Families = Families { v4: false, v6: false };

impl Families {
    const fn and(self, other: Families) -> Families {
        Families {
            v4: self.v4 && other.v4,
            v6: self.v6 && other.v6,
        }
    }

    const fn or(self, other: Families) -> Families {
        Families {
            v4: self.v4 || other.v4,
            v6: self.v6 || other.v6,
        }
    }

    const fn of(net: &IpNet) -> Families {
        match net {
            IpNet::V4(_) => V4,
            IpNet::V6(_) => V6,
        }
    }

    pub const fn only(self) -> Option<Family> {
        match (self.v4, self.v6) {
            (true, false) => Some(Family::V4),
            (false, true) => Some(Family::V6),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self.only() {
            Some(Family::V4) => "IPv4",
            Some(Family::V6) => "IPv6",
            None => "IPv4 and IPv6",
        }
    }
}

/// What a condition says about the version of IP: each of its parts.
struct Evidence {
    key: &'static str,
    parts: Vec<Part>,
}

struct Part {
    at: Range<usize>,
    text: String,
    families: Families,
}

impl Evidence {
    fn families(&self) -> Families {
        self.parts.iter().fold(NONE, |all, part| all.or(part.families))
    }
}

/// A condition, and what each of its words says about the version of IP.
type Says<'a> = (Given<'a>, fn(&str) -> Families);

impl Check<'_> {
    /// For which versions of IP all conditions can hold.
    pub(super) fn families(&self, written: &Written) -> Result<Families, ConfigError> {
        let mut all: Vec<Evidence> = Vec::new();
        if let Some(at) = &written.family {
            let (text, families) = match at.get_ref() {
                FamilyWord::Ipv4 => ("ipv4", V4),
                FamilyWord::Ipv6 => ("ipv6", V6),
            };
            let part = Part {
                at: at.span(),
                text: text.into(),
                families,
            };
            all.push(Evidence {
                key: "family",
                parts: vec![part],
            });
        }
        for (key, at) in [("dst", &written.dst), ("src", &written.src)] {
            let Some(at) = at else { continue };
            let parts = self.prefixes(at)?.into_iter().map(|net| Part {
                at: net.span(),
                text: net.get_ref().to_string(),
                families: Families::of(net.get_ref()),
            });
            all.push(Evidence {
                key,
                parts: parts.collect(),
            });
        }
        let said: [Says<'_>; 3] = [
            (("proto", &written.proto), |word| match word {
                "icmp" => V4,
                // Extension headers in IPv6, which are looked past for the protocol (RFC 8956 3.3).
                "ah" | "51" | "0" | "43" | "44" | "60" => V4,
                "icmpv6" => V6,
                _ => BOTH,
            }),
            (("fragment", &written.fragment), |word| match word {
                DONT_FRAGMENT => V4,
                _ => BOTH,
            }),
            (("flow-label", &written.flow_label), |_| V6),
        ];
        for ((key, at), families) in said {
            let Some(at) = at else { continue };
            let parts = self.listed(at)?.into_iter().map(|word| {
                let text = word.get_ref().to_string();
                Part {
                    at: word.span(),
                    families: families(&text),
                    text,
                }
            });
            all.push(Evidence {
                key,
                parts: parts.collect(),
            });
        }
        // What stands behind is blamed, unless only a part of what stands before it is wrong.
        for (index, later) in all.iter().enumerate() {
            for earlier in &all[..index] {
                self.agree(earlier, later)?;
                self.agree(later, earlier)?;
            }
        }
        Ok(all
            .iter()
            .fold(BOTH, |families, said| families.and(said.families())))
    }

    fn agree(&self, one: &Evidence, other: &Evidence) -> Result<(), ConfigError> {
        let families = one.families();
        let wrong = other
            .parts
            .iter()
            .find(|part| part.families.and(families) == NONE);
        wrong.map_or(Ok(()), |part| {
            let key = if other.key == "flow-label" {
                other.key
            } else {
                &part.text
            };
            Err(self.error(
                &Spanned::new(part.at.clone(), ()),
                format!(
                    "`{key}` is {}, and `{}` makes this a rule for {}: it could never match",
                    part.families.name(),
                    one.key,
                    families.name()
                ),
                "write a rule for each version of IP, or remove one of the two",
            ))
        })
    }
}
