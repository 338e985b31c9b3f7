//! `forwarder filter`: the rules with what they met, the rule that a packet would meet, and what is let up to the kernel.

mod blackholes;
mod limits;
mod show;
mod test;
pub mod words;

use anyhow::{Result, bail};
use clap::Subcommand;
use serde::de::DeserializeOwned;

use super::{Format, reader::Reader, trace};
use crate::stats::{BlackholeRow, RuleRow, StatusRow};

/// What is asked of the filter.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Rules in the order in which they are asked: what each matched and dropped, how much now, when last. Behind them those that are
    /// not applied, with why
    Show {
        #[command(flatten)]
        format: Format,
    },
    /// Blackhole routes: what each threw away, how much now, when last
    Blackholes {
        #[command(flatten)]
        format: Format,
    },
    /// What goes up to the kernel, by class: how much is let up of each and of one source, what passed and what was dropped
    Limits {
        #[command(flatten)]
        format: Format,
    },
    /// The rule that a packet meets, asked of the real program, leaving no mark in the counters
    Test {
        #[command(flatten)]
        packet: trace::Described,
        #[command(flatten)]
        format: Format,
    },
}

/// Runs it.
pub fn run(reader: &Reader, command: &Command) -> Result<bool> {
    match command {
        Command::Show { format } => {
            let rules = rules(reader)?;
            let status: Vec<StatusRow> = match format.json {
                true => Vec::new(),
                false => ask(reader, "/v1/status")?,
            };
            let bogons = status.first().map_or(&[][..], |row| &row.bogons);
            show::show(&rules, bogons, format.json)
        }
        Command::Blackholes { format } => blackholes::show(&blackholes(reader)?, format.json),
        Command::Limits { format } => limits::limits(reader, format.json),
        Command::Test { packet, format } => test::test(reader, packet, format.json),
    }
}

fn rules(reader: &Reader) -> Result<Vec<RuleRow>> {
    ask(reader, "/v1/filter")
}

/// Rows of the controller: what rules are called and where they come from is not in the maps.
fn ask<T: DeserializeOwned>(reader: &Reader, path: &str) -> Result<Vec<T>> {
    match reader.ask_controller(path)? {
        Some(body) => Ok(serde_json::from_slice(&body)?),
        None => bail!(
            "only a running controller knows what the rules are called and where they come from. Those that were in \
             force still are: start the controller again with `forwarder run`"
        ),
    }
}

/// The blackholes, from the controller: what they do now nobody else knows.
fn blackholes(reader: &Reader) -> Result<Vec<BlackholeRow>> {
    match reader.ask_controller("/v1/blackholes")? {
        Some(body) => Ok(serde_json::from_slice(&body)?),
        None => bail!(
            "only a running controller knows what blackhole routes throw away now. Those that were in force still are: \
             start the controller again with `forwarder run`"
        ),
    }
}
