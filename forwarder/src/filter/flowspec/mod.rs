//! FlowSpec rules: what a neighbour announced, as a [`Rule`], or the reason why it is not applied.
//!
//! What cannot be carried out exactly is refused, never approximated: a filter that drops a little more than was asked for is
//! a fault that nobody finds. So is what no packet can match, because whoever announced it meant something else.
//!
//! `components` takes the octets apart, `operators` works out the numbers of a list, `conditions` makes a match of them all,
//! `actions` reads the extended communities, `name` is what people read, `precedence` which of two rules is asked first,
//! `validate` whether it was its announcer's to make.

mod actions;
pub mod components;
mod conditions;
mod name;
mod operators;
mod precedence;
pub mod validate;

use thiserror::Error;

use self::components::{Component, MOST_OPEN_BITS, components, family};
use super::rule::{Origin, Rule};
use crate::rib::decision::Step;
use crate::source::feed::{Attributes, FeedId, FlowRule};

pub use self::precedence::precedence;

/// Why a rule is not applied.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Refusal {
    /// The NLRI cannot be read.
    #[error("{0}")]
    Malformed(&'static str),
    /// More of the first bits of an IPv6 address are left open than can be tried.
    #[error("{which} {pattern} leaves the first {open} bits open, and at most {MOST_OPEN_BITS} can be")]
    OpenBits {
        /// Destination or source.
        which: &'static str,
        /// As it is written.
        pattern: String,
        /// How many.
        open: u8,
    },
    /// A condition that no value fulfils.
    #[error("no packet can match it: there is no such {0}")]
    NoValue(&'static str),
    /// A condition on a field that packets of the protocols do not have.
    #[error("no packet can match it: its protocols, or other fields that it names, leave no packet with {0}")]
    NoProtocol(&'static str),
    /// RFC 8955 7.4, RFC 8956 6.1 and drafts.
    #[error("redirect is not supported")]
    Redirect,
    /// draft-ietf-idr-flowspec-interfaceset.
    #[error("it is for a set of interfaces, which is not supported")]
    InterfaceSet,
    /// RFC 9015.
    #[error("service function chaining is not supported")]
    ServiceChain,
    /// NaN.
    #[error("its rate is not a number")]
    NoNumber,
    /// Infinity, which no rule means that limits anything.
    #[error("its rate is infinite: a rule that limits nothing is announced without a rate")]
    Infinite,
    /// RFC 8955 7.3, the S bit.
    #[error("it asks for samples of its packets, which are not taken here")]
    Samples,
    /// Too far from any whole number.
    #[error("its rate is {0} a second, and only whole numbers can be kept")]
    Fraction(f32),
    /// RFC 8955 7.7.
    #[error("it limits octets and packets, and one rule can limit only one of them")]
    TwoRates,
    /// RFC 8955 7.7.
    #[error("it marks packets with two different DSCPs")]
    TwoMarks,
    /// RFC 8955 6, RFC 9117.
    #[error(transparent)]
    Infeasible(#[from] validate::Infeasible),
    /// RFC 8955 5.2: of several announcements of one rule the best counts.
    #[error("another neighbour's announcement of the same rule counts: {}", .0.words())]
    Lost(Step),
    /// There is no room for all.
    #[error("there is room for {0} rules of its family, shared fairly between sessions")]
    TooMany(usize),
}

/// An announced rule, taken apart.
#[derive(Clone, Debug)]
pub struct Flow<'a> {
    rule: &'a FlowRule,
    /// Its components, by ascending type.
    pub components: Vec<Component<'a>>,
}

impl<'a> Flow<'a> {
    /// Takes it apart.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], which cannot be of a rule that a session took.
    pub fn read(rule: &'a FlowRule) -> Result<Flow<'a>, Refusal> {
        let components = components(rule.table, &rule.nlri).map_err(Refusal::Malformed)?;
        Ok(Flow { rule, components })
    }

    /// What people read: `dst 203.0.113.5/32 proto udp src-port 123`.
    #[must_use]
    pub fn name(&self) -> String {
        name::name(family(self.rule.table), &self.components)
    }

    /// What was announced.
    #[must_use]
    pub fn announced(&self) -> &'a FlowRule {
        self.rule
    }

    /// What it carries.
    #[must_use]
    pub fn attributes(&self) -> &'a Attributes {
        &self.rule.attributes
    }

    /// What it asks for.
    ///
    /// # Errors
    /// Why it cannot be applied.
    pub fn rule(&self, feed: FeedId) -> Result<Rule, Refusal> {
        let when = conditions::conditions(family(self.rule.table), &self.components)?;
        let actions = actions::actions(&self.rule.attributes)?;
        Ok(Rule {
            name: self.name(),
            origin: Origin::FlowSpec(feed),
            when,
            action: actions.action,
            proceed: actions.proceed,
            mark: actions.mark,
        })
    }
}

/// The name of a rule that cannot be read.
#[must_use]
pub fn nameless(rule: &FlowRule) -> String {
    name::octets(&rule.nlri)
}
