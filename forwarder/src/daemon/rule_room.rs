//! Which rules of neighbours find room: in the program's tables, and among those that let the next one be asked.

use std::collections::HashSet;

use forwarder_common::rules::PROCEEDING;

use crate::{
    config::Config,
    filter::{
        compile::{CompileError, Placed},
        fit::{self, Fit},
        order::Applied,
        rule::Rule,
        share,
    },
};

/// Rules of neighbours that fit behind those of the configuration, and their tables.
pub struct Fitting<T> {
    /// Those that fit.
    pub fit: Vec<Applied>,
    /// Those that do not, with why.
    pub unfit: Vec<(Rule, CompileError)>,
    /// The tables.
    pub set: T,
}

/// As many of these rules as fit, in the order in which sessions get room, to a sixty-fourth of them.
///
/// # Errors
/// Not even the configuration's own rules fit.
pub fn fitting<T>(
    own: &[Rule],
    flows: &[Applied],
    compile: impl Fn(&[Placed<'_>]) -> Result<T, CompileError>,
) -> Result<Fitting<T>, CompileError> {
    let with = |flows: &mut dyn Iterator<Item = &Applied>| {
        let rules = own.iter().chain(flows.map(|applied| &applied.rule));
        let placed: Vec<Placed<'_>> = rules.map(|rule| Placed { rule, slot: 0 }).collect();
        compile(&placed)
    };
    let why = match with(&mut flows.iter()) {
        Ok(set) => {
            return Ok(Fitting {
                fit: flows.to_vec(),
                unfit: Vec::new(),
                set,
            });
        }
        Err(why) => why,
    };
    let order = share::by_share(flows.iter().map(|applied| &applied.rule));
    let first = |count: usize| {
        let mut chosen = order[..count].to_vec();
        chosen.sort_unstable();
        chosen
    };
    let Fit { count, made, why } = fit::most(flows.len(), 1 + flows.len() / 64, why, |count| {
        with(&mut first(count).into_iter().map(|at| &flows[at]))
    });
    let set = match made {
        Some(set) => set,
        None => with(&mut std::iter::empty())?,
    };
    let chosen = first(count);
    let (mut fit, mut unfit) = (Vec::new(), Vec::new());
    for (at, applied) in flows.iter().enumerate() {
        match chosen.binary_search(&at) {
            Ok(_) => fit.push(applied.clone()),
            Err(_) => unfit.push((applied.rule.clone(), why.clone())),
        }
    }
    Ok(Fitting { fit, unfit, set })
}

/// Why a rule is not even tried.
#[derive(Debug, thiserror::Error)]
pub enum Unwanted {
    /// Neither here nor on any interface.
    #[error("the configuration says flowspec = false")]
    Configured,
    /// It lets the next be asked, and too many do.
    #[error(
        "there is room for {PROCEEDING} rules that let the next one be asked, shared fairly between sessions"
    )]
    NoTurn,
}

/// The FlowSpec rules that may be applied here: on interfaces that take them, and no more that let the next be asked than the
/// program takes turns for.
pub fn applicable(
    half: Vec<Applied>,
    config: &Config,
    room: usize,
    mut refuse: impl FnMut(&Rule, Unwanted),
) -> Vec<Applied> {
    let takes: Vec<String> = config
        .interfaces
        .iter()
        .filter(|interface| interface.flowspec)
        .map(|interface| interface.name.clone())
        .collect();
    if !config.filter.flowspec || takes.is_empty() {
        half.iter()
            .for_each(|flow| refuse(&flow.rule, Unwanted::Configured));
        return Vec::new();
    }
    let everywhere = takes.len() == config.interfaces.len();
    let proceeding = || half.iter().map(|flow| &flow.rule).filter(|rule| rule.proceed);
    let turns: HashSet<usize> = share::in_turn(proceeding()).into_iter().take(room).collect();
    let mut turn = 0;
    let mut applied = Vec::new();
    for mut flow in half {
        if flow.rule.proceed {
            turn += 1;
            if !turns.contains(&(turn - 1)) {
                refuse(&flow.rule, Unwanted::NoTurn);
                continue;
            }
        }
        if !everywhere {
            flow.rule.when.interfaces = Some(takes.clone());
        }
        applied.push(flow);
    }
    applied
}
