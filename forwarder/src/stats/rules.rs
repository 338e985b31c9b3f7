//! Filter rules: those in force in the order in which they are asked, and those that are not applied, with why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::filter::rule::{Action, Family, Origin, Rule, Unit};

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RuleRow {
    /// How many rules are asked before it, and one; null where it is not applied.
    pub order: Option<u32>,
    /// "ipv4", "ipv6"; null: both.
    pub family: Option<String>,
    /// What it is called.
    pub name: String,
    /// "config" or "flowspec".
    pub origin: String,
    /// The session that it came by.
    pub session: Option<String>,
    /// "active" or "not-applied".
    pub state: String,
    /// Why it is not applied; of one in force, what of it is not done.
    pub why: Option<String>,
    /// "drop", "accept", "count", "rate-limit".
    pub action: String,
    /// What is let through each second.
    pub rate: Option<u64>,
    /// What that counts: "bytes" or "packets".
    pub rate_unit: Option<String>,
    /// What may come at once.
    pub burst: Option<u64>,
    /// DSCP that packets are given.
    pub dscp: Option<u8>,
    /// The slot that it counts in; null where it is not applied.
    pub slot: Option<u32>,
    /// Packets that matched.
    pub packets: u64,
    /// Octets of them.
    pub bytes: u64,
    /// Packets of those that were dropped.
    pub dropped_packets: u64,
    /// Octets of them.
    pub dropped_bytes: u64,
    /// Packets that matched in the last second.
    pub packets_per_second: u64,
    /// Octets of them.
    pub bytes_per_second: u64,
    /// Seconds since a packet matched; null where none has.
    pub last_hit_seconds_ago: Option<u64>,
}

impl RuleRow {
    /// A rule with nothing counted, not applied yet; `session` is the name of the neighbour that sent it.
    #[must_use]
    pub fn of(rule: &Rule, session: Option<String>) -> RuleRow {
        let limit = match rule.action {
            Action::Limit(rate) => Some(rate),
            Action::Accept | Action::Drop => None,
        };
        RuleRow {
            family: rule.when.family.map(|family| family_name(family).to_string()),
            name: rule.name.clone(),
            origin: match rule.origin {
                Origin::Config(_) => "config",
                Origin::FlowSpec(_) => "flowspec",
            }
            .to_string(),
            session,
            state: NOT_APPLIED.to_string(),
            action: match rule.action {
                Action::Drop => "drop",
                Action::Limit(_) => "rate-limit",
                Action::Accept if rule.proceed => "count",
                Action::Accept => "accept",
            }
            .to_string(),
            rate: limit.map(|rate| rate.per_second),
            rate_unit: limit.map(|rate| unit_name(rate.unit).to_string()),
            burst: limit.map(|rate| rate.burst),
            dscp: rule.mark,
            ..RuleRow::default()
        }
    }

    /// A FlowSpec rule that is not applied.
    #[must_use]
    pub fn refused(family: Family, name: &str, why: String, session: Option<String>) -> RuleRow {
        RuleRow {
            family: Some(family_name(family).into()),
            name: name.into(),
            origin: "flowspec".into(),
            session,
            state: NOT_APPLIED.into(),
            why: Some(why),
            ..RuleRow::default()
        }
    }

    /// Whether it is in force.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state == ACTIVE
    }
}

/// `state` of a rule in force.
pub const ACTIVE: &str = "active";
/// `state` of a rule that is not.
pub const NOT_APPLIED: &str = "not-applied";

const fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

const fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Packets => "packets",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::filter::rule::{Match, Rate};

    /// A rule as the configuration has it.
    pub(crate) fn rule(name: &str, action: Action, proceed: bool) -> Rule {
        Rule {
            name: name.into(),
            origin: Origin::Config(1),
            when: Match::default(),
            action,
            proceed,
            mark: None,
        }
    }

    #[test]
    fn a_row_says_what_its_rule_does() {
        let does = |action, proceed| RuleRow::of(&rule("r", action, proceed), None).action;
        assert_eq!(does(Action::Drop, false), "drop");
        assert_eq!(does(Action::Accept, false), "accept");
        assert_eq!(does(Action::Accept, true), "count");
        let rate = Rate {
            unit: Unit::Packets,
            per_second: 5_000,
            burst: 50,
        };
        let mut limit = rule("ntp", Action::Limit(rate), false);
        limit.when.family = Some(Family::V6);
        limit.mark = Some(8);
        let row = RuleRow::of(&limit, Some("scrubber".into()));
        assert_eq!(
            (row.action.as_str(), row.rate, row.burst),
            ("rate-limit", Some(5_000), Some(50))
        );
        assert_eq!(
            (row.rate_unit.as_deref(), row.family.as_deref()),
            (Some("packets"), Some("ipv6"))
        );
        assert_eq!((row.dscp, row.session.as_deref()), (Some(8), Some("scrubber")));
        assert!(!row.is_active() && row.origin == "config");
    }

    #[test]
    fn rows_are_flat() {
        let row = RuleRow::of(&rule("r", Action::Drop, false), None);
        let value = serde_json::to_value(&row).unwrap();
        let fields = value.as_object().unwrap();
        assert!(
            fields
                .values()
                .all(|value| !value.is_object() && !value.is_array())
        );
        assert_eq!(serde_json::from_value::<RuleRow>(value).unwrap(), row);
    }
}
