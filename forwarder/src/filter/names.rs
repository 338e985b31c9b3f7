//! Names of the numbers in packets, as the configuration and the command line know them.

/// A kind of number.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// What it is called, with its article.
    pub what: &'static str,
    /// The largest.
    pub most: u32,
    /// Names that some have.
    pub names: &'static [(&'static str, u32)],
}

/// Protocols: IANA, protocol-numbers.
pub const PROTOCOLS: Numbers = Numbers {
    what: "a protocol",
    most: 255,
    names: &[
        ("tcp", 6),
        ("udp", 17),
        ("icmp", 1),
        ("icmpv6", 58),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("sctp", 132),
        ("ospf", 89),
        ("igmp", 2),
        ("ipip", 4),
        ("ipv6", 41),
        ("dccp", 33),
        ("eigrp", 88),
        ("pim", 103),
        ("vrrp", 112),
        ("l2tp", 115),
        ("udplite", 136),
    ],
};
/// Ports.
pub const PORTS: Numbers = Numbers {
    what: "a port",
    most: 65_535,
    names: &[],
};
/// Lengths of IP packets.
pub const LENGTHS: Numbers = Numbers {
    what: "a length",
    most: 65_535,
    names: &[],
};
/// IPv6 flow labels.
pub const FLOW_LABELS: Numbers = Numbers {
    what: "a flow label",
    most: 0xf_ffff,
    names: &[],
};
/// DSCPs: RFC 2474, RFC 2597, RFC 3246, RFC 5865, RFC 8622.
pub const DSCPS: Numbers = Numbers {
    what: "a DSCP",
    most: 63,
    names: &[
        ("cs0", 0),
        ("cs1", 8),
        ("cs2", 16),
        ("cs3", 24),
        ("cs4", 32),
        ("cs5", 40),
        ("cs6", 48),
        ("cs7", 56),
        ("af11", 10),
        ("af12", 12),
        ("af13", 14),
        ("af21", 18),
        ("af22", 20),
        ("af23", 22),
        ("af31", 26),
        ("af32", 28),
        ("af33", 30),
        ("af41", 34),
        ("af42", 36),
        ("af43", 38),
        ("ef", 46),
        ("va", 44),
        ("le", 1),
    ],
};
/// Types of ICMP: IANA, icmp-parameters.
pub const ICMP_TYPES: Numbers = Numbers {
    what: "a type of ICMP",
    most: 255,
    names: &[
        ("echo-reply", 0),
        ("destination-unreachable", 3),
        ("source-quench", 4),
        ("redirect", 5),
        ("echo-request", 8),
        ("router-advertisement", 9),
        ("router-solicitation", 10),
        ("time-exceeded", 11),
        ("parameter-problem", 12),
        ("timestamp-request", 13),
        ("timestamp-reply", 14),
    ],
};
/// Types of ICMPv6: IANA, icmpv6-parameters.
pub const ICMPV6_TYPES: Numbers = Numbers {
    what: "a type of ICMPv6",
    most: 255,
    names: &[
        ("destination-unreachable", 1),
        ("packet-too-big", 2),
        ("time-exceeded", 3),
        ("parameter-problem", 4),
        ("echo-request", 128),
        ("echo-reply", 129),
        ("mld-query", 130),
        ("mld-report", 131),
        ("mld-done", 132),
        ("router-solicitation", 133),
        ("router-advertisement", 134),
        ("neighbour-solicitation", 135),
        ("neighbour-advertisement", 136),
        ("redirect", 137),
        ("mld2-report", 143),
    ],
};
/// Codes of ICMP's destination-unreachable.
pub const ICMP_CODES: Numbers = Numbers {
    what: "a code of ICMP's destination-unreachable",
    most: 255,
    names: &[
        ("net-unreachable", 0),
        ("host-unreachable", 1),
        ("protocol-unreachable", 2),
        ("port-unreachable", 3),
        ("fragmentation-needed", 4),
        ("net-prohibited", 9),
        ("host-prohibited", 10),
        ("admin-prohibited", 13),
    ],
};
/// Codes of ICMPv6's destination-unreachable.
pub const ICMPV6_CODES: Numbers = Numbers {
    what: "a code of ICMPv6's destination-unreachable",
    most: 255,
    names: &[
        ("no-route", 0),
        ("admin-prohibited", 1),
        ("address-unreachable", 3),
        ("port-unreachable", 4),
        ("policy-failed", 5),
        ("reject-route", 6),
    ],
};
/// ICMP codes of other types than destination-unreachable.
pub const CODES: Numbers = Numbers {
    what: "an ICMP code",
    most: 255,
    names: &[],
};

impl Numbers {
    /// The number of a name.
    pub fn named(&self, name: &str) -> Option<u32> {
        let known = self.names.iter().find(|(known, _)| *known == name);
        known.map(|(_, number)| *number)
    }

    /// The name of a number.
    pub fn name(&self, number: u32) -> Option<&'static str> {
        let known = self.names.iter().find(|(_, known)| *known == number);
        known.map(|(name, _)| *name)
    }
}

/// Bits of TCP flags by their names; `ae` is RFC 9768's, once `ns`.
pub const TCP_FLAGS: &[(&str, u32)] = &[
    ("fin", 0x01),
    ("syn", 0x02),
    ("rst", 0x04),
    ("psh", 0x08),
    ("ack", 0x10),
    ("urg", 0x20),
    ("ece", 0x40),
    ("cwr", 0x80),
    ("ae", 0x100),
];

/// The bits of TCP flags with commas between them; "none" and "all" stand for themselves.
///
/// # Errors
/// The word that is no flag.
pub fn tcp_flags(list: &str) -> Result<u32, &str> {
    match list.trim() {
        "none" => Ok(0),
        "all" => Ok(TCP_FLAGS.iter().fold(0, |bits, (_, bit)| bits | bit)),
        list => list.split(',').map(str::trim).try_fold(0, |bits, word| {
            let flag = TCP_FLAGS.iter().find(|(name, _)| *name == word);
            flag.map(|(_, bit)| bits | bit).ok_or(word)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_of_one_number_within_its_range() {
        for kind in [
            PROTOCOLS,
            DSCPS,
            ICMP_TYPES,
            ICMPV6_TYPES,
            ICMP_CODES,
            ICMPV6_CODES,
        ] {
            for (index, (name, number)) in kind.names.iter().enumerate() {
                assert!(*number <= kind.most, "{name}");
                assert!(
                    kind.names[..index]
                        .iter()
                        .all(|(other, known)| other != name && known != number)
                );
                assert_eq!(kind.named(name), Some(*number));
            }
        }
        assert_eq!(PROTOCOLS.named("tpc"), None);
    }

    #[test]
    fn flags_are_bits() {
        assert_eq!(tcp_flags("syn, ack"), Ok(0x12));
        assert_eq!((tcp_flags("none"), tcp_flags("all")), (Ok(0), Ok(0x1ff)));
        assert_eq!((tcp_flags("syn,sin"), tcp_flags("")), (Err("sin"), Err("")));
    }
}
