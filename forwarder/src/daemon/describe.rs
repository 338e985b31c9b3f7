//! The words of an interface's entry: what is done with packets that come in by it.

use forwarder_common::{
    interface::{
        CHECK_SOURCES, COUNT_PAIRS, COUNT_SOURCES, FILTER_SOURCES, FORWARD4, FORWARD6, GENERIC_MODE,
        Interface, MACS, OUTSIDE, REDIRECTS4,
    },
    nexthop::mac_bits,
    origin::{ANYWHERE, UNCHECKED},
};
use ipnet::IpNet;

use crate::{
    config::{Config, InterfaceConfig, Role, SourceCheck},
    layout::Station,
    link::Served,
    source::{event::Link, kernel::sysctl},
};

/// What is the same for all interfaces.
pub struct Context<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// `RULES4` and `RULES6`, where there are rules.
    pub rules: u32,
    /// Sources may be judged by the routes.
    pub checks: bool,
    /// The source filter is in force.
    pub filtered: bool,
    /// There are counters by source prefix.
    pub sources: bool,
    /// The kernel forwards IPv6.
    pub forward6: bool,
}

impl Context<'_> {
    /// The words of an interface's entry; which device a frame comes in by is not yet in it.
    pub fn entry(&self, station: &Station, link: &Link, served: Served) -> Interface {
        let interface = &station.config;
        let mut flags = self.rules;
        if self.filtered && filters(self.config, interface) {
            flags |= FILTER_SOURCES;
        }
        let forward4 = sysctl::forwarding4(&link.name).unwrap_or(false);
        if forward4 {
            flags |= FORWARD4;
        }
        if self.forward6 {
            flags |= FORWARD6;
        }
        // Where it cannot be read, take it that the kernel owes redirects.
        if sysctl::send_redirects4(&link.name).unwrap_or(true) {
            flags |= REDIRECTS4;
        }
        let checks = self.checks && interface.source_check != SourceCheck::Off;
        if checks {
            flags |= CHECK_SOURCES;
        }
        flags |= counts(self.config, interface, self.sources);
        if served.generic {
            flags |= GENERIC_MODE;
        }
        let origin = match interface.source_check {
            _ if !checks => UNCHECKED,
            SourceCheck::Off | SourceCheck::Loose => ANYWHERE,
            SourceCheck::Strict | SourceCheck::Feasible => u32::from(served.port),
        };
        let mut macs = [mac_bits(link.mac); MACS];
        for (place, (_, mac)) in macs[1..].iter_mut().zip(&station.virtual_macs) {
            *place = mac_bits(*mac);
        }
        Interface {
            port: u32::from(served.port),
            flags,
            macs,
            origin,
            ifindex: link.ifindex,
            ..Interface::default()
        }
    }
}

/// Sources are looked at where packets come in from outside.
pub fn filters(config: &Config, interface: &InterfaceConfig) -> bool {
    let filter = &config.filter;
    let lists = [&filter.bogon_prefixes, &filter.own_prefixes];
    let any = filter.bogons || !filter.bogon_files.is_empty() || lists.iter().any(|list| !list.is_empty());
    is_outside(interface) && any
}

/// Whether a prefix is of one link alone.
pub fn is_link_local(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.network().is_link_local(),
        IpNet::V6(net) => net.network().is_unicast_link_local(),
    }
}

/// Whether what is beyond an interface is not ours.
pub fn is_outside(interface: &InterfaceConfig) -> bool {
    matches!(interface.role, Role::Transit | Role::Peer)
}

/// What is counted of packets that come in by an interface, as flags. Accounts send from inside: only there their sources are
/// looked for. `sources`: the maps have counters by source prefix.
fn counts(config: &Config, interface: &InterfaceConfig, sources: bool) -> u32 {
    let accounts = !config.accounts.is_empty();
    let outside = is_outside(interface);
    let mut flags = 0;
    if outside {
        flags |= OUTSIDE;
    }
    if accounts {
        flags |= COUNT_PAIRS;
    }
    if accounts && !outside || config.statistics.sources && sources {
        flags |= COUNT_SOURCES;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn sources_are_looked_for_where_accounts_send_or_everywhere() {
        let of = |more: &str, role: &str, sources| {
            let text = format!("[[interface]]\nname = \"a\"\nrole = \"{role}\"\n{more}");
            let config = config::parse("f", &text).expect("sound");
            counts(&config, &config.interfaces[0], sources)
        };
        let account = "[[account]]\nname = \"a\"\nprefixes = [\"192.0.2.0/24\"]\n";
        let statistics = "[statistics]\nsources = true\n";
        for role in ["core", "customer"] {
            assert_eq!(of("", role, true), 0);
            assert_eq!(of(account, role, false), COUNT_PAIRS | COUNT_SOURCES);
            assert_eq!(of(statistics, role, true), COUNT_SOURCES);
            assert_eq!(of(statistics, role, false), 0);
        }
        for role in ["transit", "peer"] {
            assert_eq!(of("", role, true), OUTSIDE);
            assert_eq!(of(account, role, false), OUTSIDE | COUNT_PAIRS);
            assert_eq!(of(statistics, role, true), OUTSIDE | COUNT_SOURCES);
        }
    }
}
