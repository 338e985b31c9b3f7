//! The same figures for Prometheus, in OpenMetrics text.
//!
//! Every label has values that the operator chose or that do not grow: no prefix and no network by itself, FlowSpec rules by
//! session. `[metrics]` asks for more.

mod accounts;
mod families;
mod filters;
mod forwarding;
mod health;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    registry::Registry,
};

use self::families::Families;
use super::ApiContext;
use crate::{
    daemon::state::State,
    stats::{
        self, By, CounterRow, DropRow, InterfaceRow, RateRow, StatusRow,
        accounts::AccountFigures,
        prefixes::ListedRow,
        rates::{Live, rates},
        status::{self, Now},
    },
};

/// What the text is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One scrape.
///
/// # Errors
/// None in practice: the text is written to memory.
pub fn text(context: &ApiContext) -> Result<String, fmt::Error> {
    let interfaces = context.interfaces();
    let state = context.state();
    let live = context.live();
    let wanted = &context.metrics;
    let snapshot = Snapshot {
        status: status::status(&context.tables, Some(&state), &interfaces, Now::read()),
        interfaces,
        drops: stats::drops(&context.tables, true),
        next_hops: stats::counters(&context.tables, By::NextHop, None, true),
        accounts: accounts::configured(
            stats::counters(&context.tables, By::Account, None, true)
                .into_iter()
                .filter_map(|row| row.account)
                .collect(),
        ),
        prefixes: live.listed.clone(),
        top_prefixes: fastest(&live, By::Prefix, wanted.top_prefixes),
        top_networks: fastest(&live, By::OriginAs, wanted.top_networks),
        program: (context.program_cost)(),
        state,
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// The fastest, and the others in one row; none where none are asked for.
fn fastest(live: &Live, by: By, top: usize) -> Vec<RateRow> {
    if top == 0 {
        Vec::new()
    } else {
        rates(live, by, top)
    }
}

/// What the kernel says the program cost, since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramCost {
    /// Nanoseconds it ran.
    pub nanoseconds: u64,
    /// How many times.
    pub runs: u64,
}

#[derive(Debug)]
struct Snapshot {
    status: StatusRow,
    interfaces: Vec<InterfaceRow>,
    drops: Vec<DropRow>,
    next_hops: Vec<CounterRow>,
    accounts: Vec<AccountFigures>,
    prefixes: Vec<ListedRow>,
    top_prefixes: Vec<RateRow>,
    top_networks: Vec<RateRow>,
    /// `None` where the administrator has not enabled the kernel's statistics.
    program: Option<ProgramCost>,
    state: State,
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        self.interfaces(&mut families)?;
        self.reasons(&mut families)?;
        self.next_hops(&mut families)?;
        self.chosen(&mut families)?;
        self.accounts(&mut families)?;
        self.sources(&mut families)?;
        self.rules(&mut families)?;
        self.blackholes(&mut families)?;
        self.limits(&mut families)?;
        self.health(&mut families)?;
        self.history(&mut families)?;
        self.samples(&mut families)?;
        self.cost(&mut families)
    }
}
