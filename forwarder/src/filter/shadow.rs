//! Whether a rule leaves anything for a later one.
//!
//! It is told condition by condition, so it is sure where it says yes, and silent where only several earlier rules together,
//! or what headers of a protocol imply, take everything.

use super::compile::{joined, possible};
use super::ranges::Ranges;
use super::rule::{Family, Match, Rule};

/// Whether every packet that `later` matches meets `earlier` before, and goes no further in the rules.
#[must_use]
pub fn covers(earlier: &Rule, later: &Rule) -> bool {
    if earlier.proceed {
        return false;
    }
    let (wide, narrow) = (&earlier.when, &later.when);
    let numbers = [
        (&wide.protocol, &narrow.protocol),
        (&wide.destination_port, &narrow.destination_port),
        (&wide.source_port, &narrow.source_port),
        (&wide.icmp_type, &narrow.icmp_type),
        (&wide.icmp_code, &narrow.icmp_code),
        (&wide.tcp_flags, &narrow.tcp_flags),
        (&wide.length, &narrow.length),
        (&wide.dscp, &narrow.dscp),
        (&wide.fragment, &narrow.fragment),
        (&wide.flow_label, &narrow.flow_label),
    ];
    let either = [&narrow.port, &narrow.destination_port, &narrow.source_port];
    numbers.into_iter().all(|(wide, narrow)| holds(wide, narrow))
        && (wide.port.is_none() || either.into_iter().any(|narrow| holds(&wide.port, narrow)))
        && interfaces(wide, narrow)
        && [Family::V4, Family::V6]
            .into_iter()
            .all(|family| of_family(wide, narrow, family))
}

/// Whether a condition that is there holds wherever the narrower one does. One on all values holds for packets that have
/// the field, which is less than none.
fn holds(wide: &Option<Ranges>, narrow: &Option<Ranges>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => wide.and(narrow) == *narrow,
    }
}

fn interfaces(wide: &Match, narrow: &Match) -> bool {
    match (&wide.interfaces, &narrow.interfaces) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow.iter().all(|name| wide.contains(name)),
    }
}

/// The same for one version of IP.
fn of_family(wide: &Match, narrow: &Match, family: Family) -> bool {
    let inside = |wide: &Option<Vec<_>>, narrow: &Option<Vec<_>>| {
        let Some(wide) = wide else { return true };
        let most = match family {
            Family::V4 => u32::MAX.into(),
            Family::V6 => u128::MAX,
        };
        let wide = joined(wide, family);
        let narrow = match narrow {
            Some(narrow) => joined(narrow, family),
            None => vec![(0, most)],
        };
        let within = |(first, last): &(u128, u128)| wide.iter().any(|(from, to)| from <= first && last <= to);
        narrow.iter().all(within)
    };
    let never = |prefixes: &Option<Vec<_>>| prefixes.as_ref().is_some_and(|p| joined(p, family).is_empty());
    let absent = !possible(narrow, family) || never(&narrow.destination) || never(&narrow.source);
    absent
        || possible(wide, family)
            && inside(&wide.destination, &narrow.destination)
            && inside(&wide.source, &narrow.source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Whether the first of two rules covers the second.
    fn covered(earlier: &str, later: &str) -> bool {
        let text = format!(
            "[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n\
             [[filter.rule]]\n{earlier}\n[[filter.rule]]\n{later}\n"
        );
        let rules = config::parse("f.toml", &text).expect("sound").filter.rules;
        covers(&rules[0], &rules[1])
    }

    fn matches(earlier: &str, later: &str) -> bool {
        let rule = |when: &str| format!("match = {{ {when} }}\naction = \"drop\"");
        covered(&rule(earlier), &rule(later))
    }

    #[test]
    fn a_wider_rule_covers_whatever_stands_in_the_narrower_one() {
        for (wide, narrow) in [
            ("", ""),
            ("", "dst = \"192.0.2.1\""),
            (
                "dst = \"192.0.2.0/24\"",
                "dst = [\"192.0.2.1\", \"192.0.2.128/25\"], proto = \"udp\"",
            ),
            (
                "dst = [\"192.0.2.0/25\", \"192.0.2.128/25\"]",
                "dst = \"192.0.2.0/24\"",
            ),
            (
                "proto = \"udp\", port = \"0-1023\"",
                "proto = \"udp\", src-port = 123",
            ),
            (
                "proto = \"udp\", src-port = \"100-200\"",
                "proto = \"udp\", src-port = [123, \"150-160\"]",
            ),
            ("interface = [\"eth0\", \"eth1\"]", "interface = \"eth1\""),
            // The only part of it that a packet can match is IPv6.
            ("family = \"ipv6\"", "dst = \"2001:db8::/32\""),
            (
                "src = [\"0.0.0.0/0\", \"2000::/3\"]",
                "src = [\"192.0.2.0/24\", \"2001:db8::/32\"]",
            ),
        ] {
            assert!(matches(wide, narrow), "{wide} before {narrow}");
        }
    }

    #[test]
    fn a_rule_that_leaves_anything_covers_nothing() {
        for (wide, narrow) in [
            ("dst = \"192.0.2.0/25\"", "dst = \"192.0.2.0/24\""),
            ("dst = \"192.0.2.0/24\"", ""),
            ("dst = \"192.0.2.0/24\"", "dst = [\"192.0.2.1\", \"2001:db8::1\"]"),
            ("proto = \"udp\", src-port = 123", "proto = \"udp\", port = 123"),
            ("proto = \"udp\", dst-port = \"0-65535\"", "proto = \"udp\""),
            ("proto = \"udp\"", ""),
            ("interface = \"eth0\"", "interface = [\"eth0\", \"eth1\"]"),
            ("family = \"ipv4\"", ""),
            ("dst = \"192.0.2.0/24\"", "src = \"192.0.2.0/24\""),
        ] {
            assert!(!matches(wide, narrow), "{wide} before {narrow}");
        }
        // One that counts lets everything go on.
        assert!(!covered(
            "match = {}\naction = \"count\"",
            "match = {}\naction = \"drop\""
        ));
        assert!(covered(
            "match = {}\naction = \"rate-limit\"\nrate = \"10Mbit\"",
            "match = {}\naction = \"drop\""
        ));
    }
}
