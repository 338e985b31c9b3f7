//! `[[filter.rule]]`: rules that the operator writes, in the order in which they are asked.
//!
//! [`conditions`] reads what a packet must be like, [`families`] for which version of IP that is, [`words`] words, numbers
//! and lists of them, [`rate`] how much is let through. A rule that can never match, or could be meant in two ways, is refused: whoever finds that out otherwise does
//! so during an attack.

mod conditions;
mod families;
pub(super) mod rate;
#[cfg(test)]
mod tests;
mod words;

pub(super) use words::EXPECTED;

use std::collections::HashSet;

use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, InterfaceConfig, check::Check};
use crate::filter::rule::{Action, Family, Origin, Rate, Rule, Unit};

/// Rules in a configuration at most.
pub const MOST_RULES: usize = 1_024;
/// Rules with `count` at most, of each version of IP: a packet that meets one goes on to the next, and how often it may is
/// bounded in the program.
const MOST_COUNTING: usize = forwarder_common::rules::PROCEEDING;
/// Longest name of a rule, characters.
const LONGEST_NAME: usize = 64;

/// Bits a second in words as "10Gbit", for commands.
///
/// # Errors
/// What is wrong, and what to write.
pub fn bits_per_second(text: &str) -> Result<u64, String> {
    match rate::rate(text) {
        Ok((Unit::Bytes, octets)) => Ok(octets * 8),
        Ok((Unit::Packets, _)) => Err(format!("`{text}` counts packets: write \"10Gbit\", for a second")),
        Err(fault) => Err(format!(
            "{}: write \"10Gbit\"; units: bit, kbit, Mbit, Gbit, Tbit, each for a second",
            fault.message
        )),
    }
}

/// The section as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    name: Option<Spanned<String>>,
    #[serde(rename = "match")]
    when: conditions::Written,
    action: Spanned<ActionWord>,
    rate: Option<Spanned<String>>,
    burst: Option<Spanned<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ActionWord {
    Drop,
    Accept,
    Count,
    RateLimit,
}

impl Check<'_> {
    /// The rules, in the order written.
    pub(super) fn rules(
        &self,
        written: &[Spanned<Written>],
        interfaces: &[InterfaceConfig],
    ) -> Result<Vec<Rule>, ConfigError> {
        if let Some(excess) = written.get(MOST_RULES) {
            return Err(self.error(
                excess,
                format!("{} rules, and at most {MOST_RULES} fit", written.len()),
                "let one rule name several prefixes or ports: dst = [\"192.0.2.0/24\", \"2001:db8::/32\"]",
            ));
        }
        let names = self.names(written)?;
        let rules: Vec<Rule> = written
            .iter()
            .map(Spanned::get_ref)
            .zip(names)
            .enumerate()
            .map(|(index, (rule, name))| {
                Ok(Rule {
                    name,
                    origin: Origin::Config(index + 1),
                    when: self.conditions(&rule.when, interfaces)?,
                    action: self.action(rule)?,
                    proceed: *rule.action.get_ref() == ActionWord::Count,
                    mark: None,
                })
            })
            .collect::<Result<_, ConfigError>>()?;
        for other in [Family::V6, Family::V4] {
            let counts = |rule: &Rule| rule.proceed && rule.when.family != Some(other);
            let mut counting = written.iter().zip(&rules).filter(|(_, rule)| counts(rule));
            if let Some((excess, _)) = counting.nth(MOST_COUNTING) {
                return Err(self.error(
                    &excess.get_ref().action,
                    format!("more than {MOST_COUNTING} rules count packets of one version of IP"),
                    "let one rule name several prefixes or ports, or remove those that have been tried",
                ));
            }
        }
        Ok(rules)
    }

    /// What each is called: as written, or by its number.
    fn names(&self, written: &[Spanned<Written>]) -> Result<Vec<String>, ConfigError> {
        let numbered = |index: usize| format!("rule {}", index + 1);
        let nameless = |(index, rule): (usize, &Spanned<Written>)| {
            rule.get_ref().name.is_none().then(|| numbered(index))
        };
        let mut taken: HashSet<String> = written.iter().enumerate().filter_map(nameless).collect();
        let mut names = Vec::with_capacity(written.len());
        for (index, rule) in written.iter().enumerate() {
            let Some(at) = &rule.get_ref().name else {
                names.push(numbered(index));
                continue;
            };
            let name = at.get_ref();
            let fault = if name.trim().is_empty() {
                Some("an empty name".to_string())
            } else if name.chars().count() > LONGEST_NAME {
                Some(format!("a name of more than {LONGEST_NAME} characters"))
            } else if name.contains(char::is_control) {
                Some("a name with a control character".to_string())
            } else {
                None
            };
            if let Some(fault) = fault {
                return Err(self.error(
                    at,
                    fault,
                    "write another, or remove the line for the rule's number",
                ));
            }
            if !taken.insert(name.clone()) {
                return Err(self.error(
                    at,
                    format!("{name:?} is the name of two rules"),
                    "give each its own; one without a name is called by its number, as \"rule 3\"",
                ));
            }
            names.push(name.clone());
        }
        Ok(names)
    }

    fn action(&self, rule: &Written) -> Result<Action, ConfigError> {
        let limits = *rule.action.get_ref() == ActionWord::RateLimit;
        for (key, written) in [("rate", &rule.rate), ("burst", &rule.burst)] {
            if let (false, Some(at)) = (limits, written) {
                return Err(self.error(
                    at,
                    format!("a {key}, and the action is not \"rate-limit\""),
                    "write action = \"rate-limit\", or remove the line",
                ));
            }
        }
        match rule.action.get_ref() {
            ActionWord::Drop => return Ok(Action::Drop),
            ActionWord::Accept | ActionWord::Count => return Ok(Action::Accept),
            ActionWord::RateLimit => {}
        }
        let Some(at) = &rule.rate else {
            return Err(self.error(
                &rule.action,
                "a \"rate-limit\" without a rate".into(),
                "add a line: rate = \"10Mbit\", or rate = \"5000pps\"",
            ));
        };
        let said = |at: &Spanned<String>, fault: rate::Fault| self.error(at, fault.message, &fault.advice);
        let (unit, per_second) = rate::rate(at.get_ref()).map_err(|fault| said(at, fault))?;
        let burst = match &rule.burst {
            None => rate::default_burst(unit, per_second),
            Some(at) => rate::burst(at.get_ref(), unit, per_second).map_err(|fault| said(at, fault))?,
        };
        Ok(Action::Limit(Rate {
            unit,
            per_second,
            burst,
        }))
    }
}
