//! What of the kernel's configuration the fast path does not follow, in a sentence for people.

use crate::{
    netlink::command::{Rule, tables_asked},
    source::route_tables::{RouteTables, table_name},
};

/// Policy rules that make packets go another way than the mirrored tables say.
pub fn rules(rules: &[Rule], mirrored: &RouteTables) -> Option<String> {
    [("", false), ("-6 ", true)].into_iter().find_map(|(option, ipv6)| {
        let asked = tables_asked(rules, ipv6);
        match asked {
            None => Some(format!(
                "there are policy routing rules that look at more than the destination (`ip {option}rule`): what the fast path \
                 forwards follows tables {mirrored} only"
            )),
            // Where IPv6 is off there are none.
            Some(asked) if asked.is_empty() && ipv6 => None,
            Some(asked) if asked.iter().copied().eq(mirrored.iter()) => None,
            Some(asked) => {
                let asked: Vec<String> = asked.into_iter().map(table_name).collect();
                Some(format!(
                    "the policy routing rules (`ip {option}rule`) ask tables {}, and what the fast path forwards follows tables \
                     {mirrored}: write those behind local into tables = [...] of [routes]",
                    asked.join(", ")
                ))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(ipv6: bool, priority: u32, table: u32) -> Rule {
        Rule {
            ipv6,
            priority,
            table,
            plain: true,
        }
    }

    #[test]
    fn rules_are_told_of_where_they_ask_other_tables_or_more_than_the_destination() {
        let defaults: Vec<Rule> = [false, true]
            .into_iter()
            .flat_map(|ipv6| [(0, 255), (32766, 254), (32767, 253)].map(|(p, table)| rule(ipv6, p, table)))
            .collect();
        let main = RouteTables::default();
        assert_eq!(rules(&defaults, &main), None);
        assert_eq!(rules(&defaults[..3], &main), None, "IPv6 is off");
        let mut more = defaults.clone();
        more.push(rule(false, 1000, 100));
        let said = rules(&more, &main).unwrap();
        assert!(
            said.contains("(`ip rule`) ask tables local, 100, main, and"),
            "{said}"
        );
        more.push(rule(true, 1000, 100));
        assert_eq!(rules(&more, &RouteTables::behind_local(&[100, 254])), None);
        let said = rules(&more, &RouteTables::behind_local(&[254, 100])).unwrap();
        assert!(said.contains("follows tables local, main, 100"), "{said}");
        more[4].plain = false;
        let said = rules(&more, &RouteTables::behind_local(&[100, 254])).unwrap();
        assert!(said.contains("`ip -6 rule`"), "{said}");
    }
}
