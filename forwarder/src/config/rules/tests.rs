use super::*;
use crate::config::{Config, parse};
use crate::filter::{ranges::Ranges, rule::Family};

fn read(sections: &str) -> Result<Vec<Rule>, String> {
    let text = format!("[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n{sections}");
    let config: Config = parse("f.toml", &text).map_err(|error| error.to_string())?;
    Ok(config.filter.rules)
}

/// A rule whose match stands in line 6, from column 11.
fn matching(conditions: &str) -> Result<Rule, String> {
    let rules = read(&format!(
        "[[filter.rule]]\nmatch = {{ {conditions} }}\naction = \"drop\"\n"
    ))?;
    Ok(rules.into_iter().next().expect("a rule"))
}

/// A rule with other lines behind its match.
fn doing(lines: &str) -> Result<Rule, String> {
    let rules = read(&format!("[[filter.rule]]\nmatch = {{}}\n{lines}\n"))?;
    Ok(rules.into_iter().next().expect("a rule"))
}

fn refused(cases: &[(&str, &str)], read: impl Fn(&str) -> Result<Rule, String>) {
    for (lines, expected) in cases {
        match read(lines) {
            Ok(rule) => panic!("{lines:?} is accepted: {rule:?}"),
            Err(error) => assert!(
                error.contains(expected),
                "{lines:?} says\n{error}\nnot {expected:?}"
            ),
        }
    }
}

fn show(ranges: &Option<Ranges>) -> String {
    ranges.as_ref().expect("a condition").to_string()
}

#[test]
fn the_rule_of_the_contract_is_read() {
    let rules = read(
        "[[filter.rule]]\nname = \"ntp-amplification\"\n\
         match = { dst = \"192.0.2.1/32\", proto = \"udp\", src-port = 123 }\n\
         action = \"rate-limit\"\nrate = \"10Mbit\"\nburst = \"64kB\"\n\
         [[filter.rule]]\nmatch = { dst = [\"192.0.2.0/24\", \"2001:db8::1\"] }\naction = \"count\"\n",
    )
    .unwrap();
    let [ntp, count] = rules.as_slice() else {
        panic!("{rules:?}")
    };
    assert_eq!(
        (ntp.name.as_str(), &ntp.origin),
        ("ntp-amplification", &Origin::Config(1))
    );
    assert_eq!(ntp.when.destination, Some(vec!["192.0.2.1/32".parse().unwrap()]));
    assert_eq!(
        (show(&ntp.when.protocol), show(&ntp.when.source_port)),
        ("17".into(), "123".into())
    );
    assert_eq!(ntp.when.family, Some(Family::V4));
    let limit = Rate {
        unit: Unit::Bytes,
        per_second: 1_250_000,
        burst: 64_000,
    };
    assert_eq!((ntp.action, ntp.proceed), (Action::Limit(limit), false));
    assert_eq!(
        (count.name.as_str(), &count.origin),
        ("rule 2", &Origin::Config(2))
    );
    assert_eq!(
        (count.action, count.proceed, count.mark),
        (Action::Accept, true, None)
    );
    assert_eq!(count.when.family, None);
    let two = ["192.0.2.0/24", "2001:db8::1/128"].map(|net| net.parse().unwrap());
    assert_eq!(count.when.destination.as_deref(), Some(&two[..]));
}

#[test]
fn conditions_are_words_numbers_ranges_and_lists() {
    let rule = matching(
        "proto = [\"tcp\", 17], port = \"50-65535\", src-port = [53, \"123\", \"100-200\"], dst-port = 80, \
         length = \"0-64\", dscp = [\"ef\", \"af11\", 0], interface = [\"eth1\"], fragment = [\"none\", \"first\"]",
    )
    .unwrap()
    .when;
    assert_eq!(show(&rule.protocol), "6,17");
    assert_eq!(show(&rule.port), "50-65535");
    assert_eq!(show(&rule.source_port), "53,100-200");
    assert_eq!(show(&rule.destination_port), "80");
    assert_eq!(show(&rule.length), "0-64");
    assert_eq!(show(&rule.dscp), "0,10,46");
    assert_eq!(rule.interfaces, Some(vec!["eth1".to_string()]));
    // Don't fragment may be set or not.
    assert_eq!(show(&rule.fragment), "0-1,4-7,12-15");
    assert_eq!(
        (rule.family, rule.destination, rule.tcp_flags),
        (None, None, None)
    );
    let all = matching("").unwrap().when;
    assert_eq!(all, Default::default());
    let label = matching("flow-label = \"5-1048575\"").unwrap().when;
    assert_eq!(
        (label.family, show(&label.flow_label)),
        (Some(Family::V6), "5-1048575".into())
    );
    let family = matching("family = \"ipv6\"").unwrap().when;
    assert_eq!(family.family, Some(Family::V6));
}

#[test]
fn names_of_icmp_are_those_of_its_version() {
    let types = |conditions: &str| {
        let rule = matching(conditions).unwrap().when;
        (show(&rule.icmp_type), rule.family)
    };
    let (v4, v6) = (Some(Family::V4), Some(Family::V6));
    assert_eq!(
        types("proto = \"icmp\", icmp-type = \"echo-request\""),
        ("8".into(), v4)
    );
    assert_eq!(
        types("proto = \"icmpv6\", icmp-type = \"echo-request\""),
        ("128".into(), v6)
    );
    assert_eq!(
        types("dst = \"::/0\", icmp-type = \"packet-too-big\""),
        ("2".into(), v6)
    );
    assert_eq!(
        types("family = \"ipv4\", icmp-type = [\"redirect\", 200]"),
        ("5,200".into(), v4)
    );
    assert_eq!(types("icmp-type = \"3-4\""), ("3-4".into(), None));
    let codes = |conditions: &str| show(&matching(conditions).unwrap().when.icmp_code);
    let unreachable = "icmp-type = \"destination-unreachable\", icmp-code = \"port-unreachable\"";
    assert_eq!(codes(&format!("proto = \"icmp\", {unreachable}")), "3");
    assert_eq!(codes(&format!("proto = \"icmpv6\", {unreachable}")), "4");
    assert_eq!(codes("icmp-type = 11, icmp-code = [0, 1]"), "0-1");
}

#[test]
fn tcp_flags_are_set_and_of_which() {
    let holds = |word: &str, flags: u32| {
        let rule = matching(&format!("proto = \"tcp\", tcp-flags = {word}")).unwrap();
        rule.when.tcp_flags.expect("a condition").contains(flags)
    };
    let (fin, syn, rst, ack, ece, ae) = (1, 2, 4, 0x10, 0x40, 0x100);
    for (word, yes, no) in [
        ("\"syn\"", vec![syn, syn | ack, syn | fin], vec![0, ack]),
        ("\"syn,ack\"", vec![syn | ack, syn | ack | ece], vec![syn, ack]),
        (
            "\"syn/syn,ack\"",
            vec![syn, syn | ece, syn | fin],
            vec![syn | ack, ack, 0],
        ),
        ("\"syn / syn, ack\"", vec![syn], vec![syn | ack]),
        ("\"none/all\"", vec![0, 0x200], vec![fin, ae]),
        ("\"none/fin,ack\"", vec![0, syn], vec![fin, ack]),
        ("\"all\"", vec![0x1ff], vec![0xff]),
        (
            "[\"syn/syn,ack\", \"rst\"]",
            vec![syn, rst, rst | ack],
            vec![syn | ack, ack],
        ),
    ] {
        for flags in yes {
            assert!(holds(word, flags), "{word} {flags:#x}");
        }
        for flags in no {
            assert!(!holds(word, flags), "{word} {flags:#x}");
        }
    }
}

#[test]
fn fragment_words_are_the_bits_of_rfc_8955() {
    // Of every packet there is: whole, first, in the middle, last; each with and without DF.
    let holds = |word: &str| -> Vec<u32> {
        let rule = matching(&format!("fragment = \"{word}\"")).unwrap();
        let bits = rule.when.fragment.expect("a condition");
        [0, 1, 4, 5, 2, 3, 10, 11]
            .into_iter()
            .filter(|n| bits.contains(*n))
            .collect()
    };
    assert_eq!(holds("none"), [0, 1]);
    assert_eq!(holds("any"), [4, 5, 2, 3, 10, 11]);
    assert_eq!(holds("first"), [4, 5]);
    assert_eq!(holds("later"), [2, 3, 10, 11]);
    assert_eq!(holds("last"), [10, 11]);
    assert_eq!(holds("dont-fragment"), [1, 5, 3, 11]);
    let rule = matching("fragment = \"dont-fragment\"").unwrap();
    assert_eq!(rule.when.family, Some(Family::V4));
}

#[test]
fn unknown_keys_and_words_name_the_allowed_ones() {
    refused(
        &[
            (
                "dsts = \"192.0.2.1\"",
                "line 6, column 11: unknown key `dsts`\n  6 | match = { dsts = \"192.0.2.1\" }\n    |           ^\n  \
                 did you mean `dst`? Allowed here: dst, src, proto, port, src-port, dst-port, icmp-type, icmp-code, \
                 tcp-flags, length, dscp, fragment, flow-label, interface, family",
            ),
            ("proto = \"tcpp\"", "line 6, column 19: `tcpp` is not a protocol"),
            (
                "proto = \"tcpp\"",
                "did you mean `tcp`? Allowed here: tcp, udp, icmp, icmpv6, gre",
            ),
            (
                "proto = \"tcpp\"",
                ", udplite, a number up to 255, or a range as \"0-255\"",
            ),
            ("family = \"inet\"", "allowed here: ipv4, ipv6"),
            (
                "fragment = \"frst\"",
                "did you mean `first`? Allowed here: none, any, first, later, last, dont-fragment",
            ),
            ("fragment = 4", "`4` is not known here"),
            ("dscp = \"ef1\"", "did you mean `ef`? Allowed here: cs0,"),
            ("tcp-flags = \"sin\"", "`sin` is not a TCP flag"),
            ("tcp-flags = \"\"", "`` is not a TCP flag"),
            (
                "tcp-flags = \"syn,\"",
                "\"syn/syn,ack\": of syn and ack, exactly syn is set; \"none/all\": none of all is set. Flags: fin, syn",
            ),
            (
                "proto = \"icmp\", icmp-type = \"echo\"",
                "`echo` is not a type of ICMP\n",
            ),
            (
                "proto = \"icmpv6\", icmp-type = \"source-quench\"",
                "`source-quench` is not a type of ICMPv6",
            ),
            (
                "interface = \"eth7\"",
                "line 6, column 23: interface \"eth7\" is not configured",
            ),
            ("interface = \"eth7\"", "configured are: eth0, eth1"),
            ("dst = \"here\"", "line 6, column 17: `here` is not a prefix"),
            ("dst = 5", "`5` is not a prefix"),
            (
                "src = [\"192.0.2.1/24\"]",
                "line 6, column 18: `192.0.2.1/24` has bits set beyond its length",
            ),
            ("port = true", "line 6, column 18: wrong type: boolean `true`"),
            (
                "port = true",
                "write a word between double quotes, a whole number without, or a list: [...]",
            ),
            ("port = [1.5]", "wrong type: floating point `1.5`"),
            ("port = []", "an empty list: nothing would ever match"),
            ("port = [1, 2, 1]", "line 6, column 25: `1` stands here twice"),
            (
                "dst = [\"192.0.2.1\", \"192.0.2.1/32\"]",
                "`192.0.2.1/32` stands here twice",
            ),
        ],
        matching,
    );
    refused(
        &[
            (
                "action = \"reject\"",
                "allowed here: drop, accept, count, rate-limit",
            ),
            (
                "action = \"drop\"\nburts = \"1kB\"",
                "did you mean `burst`? Allowed here: name, match, action, rate, burst",
            ),
        ],
        doing,
    );
    let read = |lines: &str| read(lines).map(|_| doing("action = \"drop\"").unwrap());
    refused(
        &[
            (
                "[[filter.rule]]\naction = \"drop\"",
                "line 5, column 1: the key `match` is missing",
            ),
            ("[[filter.rule]]\nmatch = {}", "the key `action` is missing"),
            ("[filter]\nrule = 5", "write it as a list: [...]"),
        ],
        read,
    );
}

#[test]
fn numbers_out_of_range_and_ranges_upside_down_are_named() {
    refused(
        &[
            ("dst-port = 65536", "line 6, column 22: `65536` is out of range"),
            ("dst-port = 65536", "a port is 0 to 65535"),
            ("port = -1", "`-1` is out of range"),
            ("port = \"-1\"", "`-1` is not a port"),
            ("port = \"1-\"", "`1-` is not a port"),
            (
                "port = \"http\"",
                "write a number up to 65535, or a range as \"0-65535\"",
            ),
            ("port = \"1-70000\"", "`1-70000` is out of range"),
            ("port = \"99999999999\"", "is out of range"),
            (
                "src-port = [80, \"2000-1000\"]",
                "line 6, column 27: the range `2000-1000` is upside down",
            ),
            ("src-port = [80, \"2000-1000\"]", "write \"1000-2000\""),
            ("proto = 256", "a protocol is 0 to 255"),
            ("dscp = 64", "a DSCP is 0 to 63"),
            ("icmp-type = 256", "an ICMP type is 0 to 255"),
            ("proto = \"icmp\", icmp-type = 256", "a type of ICMP is 0 to 255"),
            ("icmp-code = \"9-300\"", "an ICMP code is 0 to 255"),
            ("length = 65536", "a length is 0 to 65535"),
            ("flow-label = 1048576", "a flow label is 0 to 1048575"),
        ],
        matching,
    );
}

#[test]
fn a_rule_that_can_never_match_is_refused_with_the_reason() {
    refused(
        &[
            (
                "family = \"ipv6\", dst = \"192.0.2.0/24\"",
                "line 6, column 34: `192.0.2.0/24` is IPv4, and `family` makes this a rule for IPv6: it could never match",
            ),
            (
                "dst = \"192.0.2.1\", src = \"2001:db8::/32\"",
                "line 6, column 36: `2001:db8::/32` is IPv6, and `dst` makes this a rule for IPv4",
            ),
            (
                "dst = [\"192.0.2.1\", \"2001:db8::1\"], src = \"10.0.0.0/8\"",
                "line 6, column 31: `2001:db8::1/128` is IPv6, and `src` makes this a rule for IPv4",
            ),
            (
                "family = \"ipv4\", proto = \"icmpv6\"",
                "`icmpv6` is IPv6, and `family` makes this a rule for IPv4",
            ),
            (
                "src = \"::/0\", proto = [\"tcp\", \"icmp\"]",
                "`icmp` is IPv4, and `src` makes this a rule for IPv6",
            ),
            ("proto = \"icmp\", family = \"ipv6\"", "`icmp` is IPv4"),
            (
                "dst = \"2001:db8::1\", proto = [\"esp\", \"ah\"]",
                "`ah` is IPv4, and `dst` makes this a rule for IPv6",
            ),
            ("family = \"ipv6\", proto = 44", "`44` is IPv4"),
            (
                "dst = \"192.0.2.1\", flow-label = 5",
                "`flow-label` is IPv6, and `dst` makes this a rule for IPv4",
            ),
            (
                "dst = \"::1\", fragment = \"dont-fragment\"",
                "`dont-fragment` is IPv4, and `dst`",
            ),
            (
                "flow-label = 1, fragment = [\"first\", \"dont-fragment\"]",
                "`dont-fragment` is IPv4",
            ),
            (
                "proto = \"gre\", dst-port = 80",
                "line 6, column 37: `dst-port` in a rule for `gre`: ports are those of TCP and UDP",
            ),
            (
                "proto = [\"udp\", \"sctp\"], port = 80",
                "`port` in a rule for `sctp`",
            ),
            ("proto = \"6-7\", src-port = 80", "`src-port` in a rule for `6-7`"),
            (
                "proto = \"gre\", dst-port = 80",
                "write proto = \"tcp\", proto = \"udp\" or both, or remove `dst-port`",
            ),
            (
                "proto = \"tcp\", icmp-type = 8",
                "`icmp-type` in a rule for `tcp`: ICMP has them",
            ),
            (
                "proto = \"udp\", tcp-flags = \"syn\"",
                "`tcp-flags` in a rule for `udp`: TCP has them",
            ),
            (
                "family = \"ipv4\", proto = 58, icmp-code = 0",
                "`icmp-code` in a rule for `58`",
            ),
            (
                "port = 80, icmp-type = 8",
                "no packet has both `port` and `icmp-type`",
            ),
            (
                "tcp-flags = \"syn\", icmp-code = 0",
                "no packet has both `tcp-flags` and `icmp-code`",
            ),
            (
                "port = 53, src-port = 80, dst-port = \"1-20\"",
                "line 6, column 18: neither `src-port` nor `dst-port` allows this port",
            ),
            (
                "length = \"0-19\"",
                "no packet is so short: the header alone is 20 octets",
            ),
            ("family = \"ipv6\", length = 39", "the header alone is 40 octets"),
            (
                "fragment = \"later\", dst-port = 80",
                "only the first fragment shows what `dst-port` asks for: it could never match",
            ),
            (
                "fragment = [\"later\", \"last\"], tcp-flags = \"syn\"",
                "shows what `tcp-flags` asks for",
            ),
            (
                "tcp-flags = \"none\"",
                "`none` names no flag: every packet would match",
            ),
            (
                "tcp-flags = \"syn/ack\"",
                "`syn/ack` wants a flag set that is not behind the slash",
            ),
            (
                "icmp-type = \"echo-request\"",
                "line 6, column 23: `echo-request` is 8 in ICMP and 128 in ICMPv6",
            ),
            (
                "icmp-type = \"packet-too-big\"",
                "`packet-too-big` is 2 in ICMPv6, and this rule is for ICMP too",
            ),
            (
                "icmp-type = \"source-quench\"",
                "`source-quench` is 4 in ICMP, and this rule is for ICMPv6 too",
            ),
            (
                "proto = \"icmp\", icmp-code = \"port-unreachable\"",
                "`port-unreachable` is a code of destination-unreachable, and this rule is not for that alone",
            ),
        ],
        matching,
    );
    for sound in [
        "dst = [\"192.0.2.1\", \"2001:db8::1\"], src = [\"10.0.0.0/8\", \"fd00::/8\"]",
        "proto = [\"icmp\", \"icmpv6\"], icmp-type = 1",
        "proto = [\"icmp\", \"tcp\"]",
        "port = 53, src-port = 53, dst-port = 80",
        "port = 80, tcp-flags = \"syn\"",
        "fragment = [\"first\", \"later\"], dst-port = 80",
        "fragment = \"any\", proto = \"udp\", port = 80",
        "family = \"ipv4\", length = 20",
    ] {
        matching(sound).unwrap();
    }
}

#[test]
fn rates_are_bits_or_packets_a_second() {
    let limit = |lines: &str| match doing(&format!("action = \"rate-limit\"\n{lines}"))
        .unwrap()
        .action
    {
        Action::Limit(rate) => (rate.unit, rate.per_second, rate.burst),
        other => panic!("{other:?}"),
    };
    assert_eq!(limit("rate = \"8bit\""), (Unit::Bytes, 1, 1_514));
    assert_eq!(limit("rate = \"1kbit\""), (Unit::Bytes, 125, 1_514));
    assert_eq!(limit("rate = \"10Mbit\""), (Unit::Bytes, 1_250_000, 12_500));
    assert_eq!(limit("rate = \"1.5gbit\""), (Unit::Bytes, 187_500_000, 1_875_000));
    assert_eq!(
        limit("rate = \"10Tbit\""),
        (Unit::Bytes, 1_250_000_000_000, 12_500_000_000)
    );
    assert_eq!(limit("rate = \"50pps\""), (Unit::Packets, 50, 1));
    assert_eq!(limit("rate = \"5kpps\""), (Unit::Packets, 5_000, 50));
    assert_eq!(
        limit("rate = \"0.5Mpps\"\nburst = \"100p\""),
        (Unit::Packets, 500_000, 100)
    );
    assert_eq!(limit("rate = \"10Mbit\"\nburst = \"64KiB\"").2, 65_536);
    assert_eq!(limit("rate = \"10Mbit\"\nburst = \"1514B\"").2, 1_514);
    assert_eq!(limit("rate = \"8bit\"\nburst = \"1514B\"").2, 1_514);
    assert_eq!(limit("rate = \"10Gbit\"\nburst = \"2.5GB\"").2, 2_500_000_000);
}

#[test]
fn mistakes_in_rates_have_their_place_and_what_to_do() {
    refused(
        &[
            (
                "action = \"rate-limit\"",
                "line 7, column 10: a \"rate-limit\" without a rate",
            ),
            (
                "action = \"rate-limit\"",
                "add a line: rate = \"10Mbit\", or rate = \"5000pps\"",
            ),
            (
                "action = \"drop\"\nrate = \"10Mbit\"",
                "line 8, column 8: a rate, and the action is not \"rate-limit\"",
            ),
            (
                "action = \"count\"\nburst = \"10p\"",
                "a burst, and the action is not \"rate-limit\"",
            ),
        ],
        doing,
    );
    let limit = |lines: &str| doing(&format!("action = \"rate-limit\"\n{lines}"));
    refused(
        &[
            (
                "rate = \"0Mbit\"",
                "line 8, column 8: a rate of \"0Mbit\" lets nothing through",
            ),
            ("rate = \"0Mbit\"", "write action = \"drop\", or a rate"),
            ("rate = \"0pps\"", "lets nothing through"),
            ("rate = \"0.000bit\"", "lets nothing through"),
            ("rate = \"10\"", "`10` has no unit"),
            (
                "rate = \"10\"",
                "write \"10Mbit\" or \"5000pps\"; units: bit, kbit, Mbit, Gbit, Tbit, pps, kpps, Mpps, each for a second",
            ),
            ("rate = 10", "wrong type: integer `10`"),
            ("rate = \"10Mbps\"", "`Mbps` is no unit of a rate"),
            ("rate = \"10 Mbit\"", "` Mbit` is no unit of a rate"),
            ("rate = \"fast\"", "`fast` is not a rate"),
            ("rate = \"-1Mbit\"", "`-1Mbit` is not a rate"),
            ("rate = \"\"", "`` is not a rate"),
            ("rate = \"1.Mbit\"", "`1.Mbit` is not a rate"),
            ("rate = \"1.2.3Mbit\"", "`1.2.3Mbit` is not a rate"),
            ("rate = \"1.5bit\"", "`1.5bit` is no whole number"),
            (
                "rate = \"1.0000000001Gbit\"",
                "has more digits than are looked at",
            ),
            ("rate = \"12bit\"", "is no whole number of octets a second"),
            ("rate = \"10.1Tbit\"", "the rate \"10.1Tbit\" is out of range"),
            (
                "rate = \"10.1Tbit\"",
                "the largest are \"10Tbit\" and \"15000Mpps\"",
            ),
            ("rate = \"9223372036854775808bit\"", "is out of range"),
            ("rate = \"9223372036854775808pps\"", "is out of range"),
            ("rate = \"15001Mpps\"", "is out of range"),
            (
                "rate = \"10Mbit\"\nburst = \"100p\"",
                "line 9, column 9: the burst \"100p\" does not go with a rate of octets",
            ),
            (
                "rate = \"10pps\"\nburst = \"64kB\"",
                "write the burst in packets, as \"100p\"",
            ),
            ("rate = \"10Mbit\"\nburst = \"64\"", "`64` has no unit"),
            (
                "rate = \"10Mbit\"\nburst = \"64kbit\"",
                "`kbit` is no unit of a burst",
            ),
            (
                "rate = \"10Mbit\"\nburst = \"1513B\"",
                "a full frame would never pass with a burst of \"1513B\"",
            ),
            (
                "rate = \"10pps\"\nburst = \"0p\"",
                "nothing would ever pass with a burst of \"0p\"",
            ),
            (
                "rate = \"8Mbit\"\nburst = \"60.000001MB\"",
                "the burst \"60.000001MB\" is more than comes in a minute at that rate",
            ),
            (
                "rate = \"8Mbit\"\nburst = \"99999999999999999999999GB\"",
                "more than comes in a minute",
            ),
        ],
        limit,
    );
}

#[test]
fn names_are_given_once() {
    let rule = |name: &str| format!("[[filter.rule]]\n{name}match = {{}}\naction = \"drop\"\n");
    let named = |name: &str| rule(&format!("name = \"{name}\"\n"));
    let said = |text: String| read(&text).unwrap_err();
    let twice = said(format!("{}{}", named("ntp"), named("ntp")));
    assert!(
        twice.contains("line 10, column 8: \"ntp\" is the name of two rules"),
        "{twice}"
    );
    let number = said(format!("{}{}", named("rule 2"), rule("")));
    assert!(
        number.contains("line 6, column 8: \"rule 2\" is the name of two rules"),
        "{number}"
    );
    for (name, why) in [
        ("", "an empty name"),
        ("  ", "an empty name"),
        ("a\\tb", "a name with a control character"),
        (
            "0123456789012345678901234567890123456789012345678901234567890123x",
            "a name of more than 64 characters",
        ),
    ] {
        let text = said(named(name));
        assert!(text.contains(why), "{text}");
    }
    let rules = read(&format!("{}{}", named("rule 1"), rule(""))).unwrap();
    assert_eq!([&rules[0].name, &rules[1].name], ["rule 1", "rule 2"]);
}

#[test]
fn a_thousand_and_twenty_four_rules_fit_and_no_more() {
    let rule = "[[filter.rule]]\nmatch = { dst = \"192.0.2.1\" }\naction = \"drop\"\n";
    assert_eq!(read(&rule.repeat(MOST_RULES)).unwrap().len(), MOST_RULES);
    let text = read(&rule.repeat(10_000)).unwrap_err();
    assert!(text.contains("10000 rules, and at most 1024 fit"), "{text}");
    assert!(
        text.contains(&format!("line {}, column 1", 5 + 3 * MOST_RULES)),
        "{text}"
    );
}

#[test]
fn thirty_two_rules_count_packets_of_each_version_of_ip() {
    let rules = |family: &str, many: usize| {
        format!("[[filter.rule]]\nmatch = {{ family = \"{family}\" }}\naction = \"count\"\n").repeat(many)
    };
    let both = format!("{}{}", rules("ipv4", 32), rules("ipv6", 32));
    assert_eq!(read(&both).unwrap().len(), 64);
    let any = "[[filter.rule]]\nmatch = {}\naction = \"count\"\n";
    for text in [format!("{both}{any}"), rules("ipv6", 33)] {
        let said = read(&text).unwrap_err();
        assert!(
            said.contains("column 10: more than 32 rules count packets of one version of IP"),
            "{said}"
        );
    }
}
