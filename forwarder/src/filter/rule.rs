//! One filter rule: what it matches and what it does, whoever asked for it.
//!
//! Every condition is a set: of prefixes, of numbers, of interfaces. A packet matches when each condition that is there holds.
//! Ports are those of TCP and UDP, and exist where the packet shows them: not in later fragments (RFC 8955 4.2.2.4).

use ipnet::IpNet;

use super::ranges::Ranges;
use crate::source::feed::FeedId;

/// TCP flags as they stand in the header: octet 13, and the low four bits of octet 12 above them (RFC 8955 4.2.2.9).
pub const TCP_FLAGS_MAX: u32 = 0xfff;

/// `fragment`: don't fragment is set (IPv4).
pub const FRAGMENT_DF: u32 = 1;
/// `fragment`: a fragment other than the first.
pub const FRAGMENT_IS: u32 = 2;
/// `fragment`: the first of several.
pub const FRAGMENT_FIRST: u32 = 4;
/// `fragment`: the last of several.
pub const FRAGMENT_LAST: u32 = 8;
/// Largest combination of the above (RFC 8955 4.2.2.12).
pub const FRAGMENT_MAX: u32 = 15;

/// Version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a packet must be like. A condition that is absent always holds; one that is empty never does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Match {
    /// Its version of IP.
    pub family: Option<Family>,
    /// Destination: in one of these prefixes. Those of the other family are as good as absent.
    pub destination: Option<Vec<IpNet>>,
    /// Source: in one of these prefixes.
    pub source: Option<Vec<IpNet>>,
    /// Interface it comes in on: one of these names.
    pub interfaces: Option<Vec<String>>,
    /// Protocol; for IPv6 that of the first header that is no extension header (RFC 8956 3.3).
    pub protocol: Option<Ranges>,
    /// Source or destination port.
    pub port: Option<Ranges>,
    /// Destination port.
    pub destination_port: Option<Ranges>,
    /// Source port.
    pub source_port: Option<Ranges>,
    /// ICMP or ICMPv6 type.
    pub icmp_type: Option<Ranges>,
    /// ICMP or ICMPv6 code.
    pub icmp_code: Option<Ranges>,
    /// TCP flags, up to [`TCP_FLAGS_MAX`].
    pub tcp_flags: Option<Ranges>,
    /// Octets of the IP packet, header included.
    pub length: Option<Ranges>,
    /// DSCP, up to 63.
    pub dscp: Option<Ranges>,
    /// Fragment bits, up to [`FRAGMENT_MAX`].
    pub fragment: Option<Ranges>,
    /// IPv6 flow label.
    pub flow_label: Option<Ranges>,
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Octets of the frame without FCS, as every counter.
    Bytes,
    /// Packets.
    Packets,
}

/// How much is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Of what.
    pub unit: Unit,
    /// So many each second, at least 1.
    pub per_second: u64,
    /// So many at once after a silence.
    pub burst: u64,
}

/// What happens to a packet that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It goes on, and no later rule is asked.
    Accept,
    /// It is dropped.
    Drop,
    /// It is dropped where more than that come.
    Limit(Rate),
}

/// Who asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// `[[filter.rule]]`, the how-manieth, from 1.
    Config(usize),
    /// A FlowSpec neighbour.
    FlowSpec(FeedId),
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What it is called on screens: the configuration's name, or the neighbour's components in words.
    pub name: String,
    /// Who asked for it.
    pub origin: Origin,
    /// What it matches.
    pub when: Match,
    /// What it does.
    pub action: Action,
    /// Later rules are asked too, unless the packet is dropped here: `count`, and FlowSpec without the terminal action.
    pub proceed: bool,
    /// DSCP that a packet which matches is given (RFC 8955 7.5).
    pub mark: Option<u8>,
}
