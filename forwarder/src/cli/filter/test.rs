//! `forwarder filter test`: a described packet through the real program, and the rule that it meets.

use anyhow::{Result, bail};
use forwarder_common::{reason::Reason, trace::Trace};
use serde::Serialize;

use super::words;
use crate::{
    cli::{
        output::{self, Paint},
        reader::Reader,
        trace::{self, Described, verdict},
    },
    stats::RuleRow,
};

/// What became of the packet, and by which rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct TestRow {
    /// Interface it came in on.
    ifname: String,
    /// Source address.
    source: String,
    /// Destination address.
    destination: String,
    /// Octets of the frame.
    bytes: usize,
    /// The last rule it met, as its place in the order; null where it met none.
    order: Option<u32>,
    /// What the rule is called.
    name: Option<String>,
    /// Who asked for it: "config" or "flowspec".
    origin: Option<String>,
    /// The session it came by.
    session: Option<String>,
    /// What it does.
    action: Option<String>,
    /// What it lets through each second.
    rate: Option<u64>,
    /// What that counts: "bytes" or "packets".
    rate_unit: Option<String>,
    /// "forward", "pass", "drop".
    verdict: String,
    /// The reason it left with.
    reason: String,
    /// The reason in a sentence.
    help: String,
}

/// Runs the packet and prints the rule.
pub fn test(reader: &Reader, described: &Described, json: bool) -> Result<bool> {
    let rules = super::rules(reader)?;
    let ran = trace::run(&reader.pins(), described)?;
    let met = rule_of(&ran.traced.trace, &rules)?;
    let reason = Reason::from_index(ran.traced.trace.reason as usize).unwrap_or(Reason::Internal);
    let row = TestRow {
        ifname: described.interface.clone(),
        source: ran.packet.source.to_string(),
        destination: ran.packet.destination.to_string(),
        bytes: ran.frame.len(),
        order: met.and_then(|rule| rule.order),
        name: met.map(|rule| rule.name.clone()),
        origin: met.map(|rule| rule.origin.clone()),
        session: met.and_then(|rule| rule.session.clone()),
        action: met.map(|rule| rule.action.clone()),
        rate: met.and_then(|rule| rule.rate),
        rate_unit: met.and_then(|rule| rule.rate_unit.clone()),
        verdict: verdict(ran.traced.action).to_string(),
        reason: reason.name().to_string(),
        help: reason.help().to_string(),
    };
    if json {
        output::print_json(&[row])?;
    } else {
        output::print(&screen(&row, met, Paint::stdout()))?;
    }
    Ok(true)
}

/// The last rule that a traced packet met.
///
/// # Errors
/// One that is not among these: they were asked for before, and have changed.
fn rule_of<'a>(trace: &Trace, rules: &'a [RuleRow]) -> Result<Option<&'a RuleRow>> {
    if trace.rule == 0 {
        return Ok(None);
    }
    match rules.iter().find(|rule| rule.slot == Some(trace.rule_slot)) {
        Some(rule) => Ok(Some(rule)),
        None => bail!("the rules changed while the packet was on its way: ask again"),
    }
}

fn screen(row: &TestRow, met: Option<&RuleRow>, paint: Paint) -> String {
    let rule = match met {
        None => "none: no rule matches".to_string(),
        Some(rule) => format!(
            "{}: {} ({}): {}",
            rule.order.unwrap_or(0),
            rule.name,
            words::origin(rule),
            words::action(rule)
        ),
    };
    let verdict = match row.verdict.as_str() {
        "drop" => paint.bad("drop"),
        "pass" => "pass to the kernel".to_string(),
        other => paint.good(other),
    };
    let lines = [
        (
            "packet",
            format!(
                "{} to {}, {} octets, in on {}",
                row.source, row.destination, row.bytes, row.ifname
            ),
        ),
        ("rule", rule),
        ("verdict", format!("{verdict}: {} ({})", row.reason, row.help)),
    ];
    lines
        .iter()
        .map(|(name, value)| format!("{} {value}\n", paint.bold(&format!("{name:9}"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(order: u32, slot: u32, name: &str) -> RuleRow {
        RuleRow {
            order: Some(order),
            slot: Some(slot),
            name: name.into(),
            origin: "config".into(),
            action: "drop".into(),
            ..RuleRow::default()
        }
    }

    #[test]
    fn a_rule_is_known_by_the_slot_that_it_counts_in() {
        let rules = [rule(1, 7, "chargen"), rule(2, 0, "ntp"), RuleRow::default()];
        let met = |rule, rule_slot| {
            let trace = Trace {
                rule,
                rule_slot,
                ..Trace::default()
            };
            rule_of(&trace, &rules).map(|rule| rule.map(|rule| rule.name.as_str()))
        };
        assert_eq!(met(0, 0).unwrap(), None);
        assert_eq!(met(1, 7).unwrap(), Some("chargen"));
        assert_eq!(met(2, 0).unwrap(), Some("ntp"));
        assert!(met(3, 9).unwrap_err().to_string().contains("ask again"));
    }

    #[test]
    fn the_screen_names_the_rule_and_what_became_of_the_packet() {
        let row = TestRow {
            ifname: "transit0".into(),
            source: "10.0.0.1".into(),
            destination: "192.0.2.1".into(),
            bytes: 42,
            verdict: "drop".into(),
            reason: "rule".into(),
            help: "A rule of the configuration".into(),
            ..TestRow::default()
        };
        assert_eq!(
            screen(&row, Some(&rule(3, 0, "ntp")), Paint::off()),
            "packet    10.0.0.1 to 192.0.2.1, 42 octets, in on transit0\n\
             rule      3: ntp (config): drop\n\
             verdict   drop: rule (A rule of the configuration)\n"
        );
        assert!(screen(&row, None, Paint::off()).contains("rule      none: no rule matches\n"));
    }
}
