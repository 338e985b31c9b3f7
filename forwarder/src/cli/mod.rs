//! The command line.
//!
//! Every reading command is a table for people or, with `--json`, rows for programs; both from the same figures. Exit codes:
//! 0 yes, 1 no or failed, 2 wrong usage; and 3 where `doctor` has only warnings.

mod bench;
mod bogons;
mod candidates;
mod change;
mod checksum;
mod client;
mod doctor;
mod figures;
mod filter;
mod lookup;
mod lookup_table;
mod operate;
mod output;
mod progress;
mod reader;
mod record;
mod report;
mod status;
mod top;
mod trace;
mod verify;

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::{
    config,
    dataplane::pins::DEFAULT_BPFFS,
    stats::{By, routes::Selection},
};

/// An XDP fast path for Linux edge routers: packets follow the kernel's routes, filtered and counted.
#[derive(Debug, Parser)]
#[command(
    name = "forwarder",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Command,
}

/// Where things are.
#[derive(Clone, Debug, Args)]
struct Places {
    /// The controller's socket [default: as configured, /run/forwarder/forwarder.sock]
    #[arg(
        long,
        global = true,
        env = "FORWARDER_SOCKET",
        value_name = "PATH",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,
    /// The directory of the pins, on a BPF file system
    #[arg(
        long,
        global = true,
        env = "FORWARDER_BPFFS",
        value_name = "DIR",
        default_value = DEFAULT_BPFFS,
        hide_env_values = true
    )]
    bpffs: PathBuf,
}

#[derive(Clone, Copy, Debug, Args)]
struct Format {
    /// Print a JSON array, one row on each line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller in the foreground: attach, follow the kernel's routes, serve figures
    Run {
        #[command(flatten)]
        file: ConfigFile,
        /// Serve this interface, with defaults for everything else, instead of reading a configuration
        #[arg(long, value_name = "NAME", conflicts_with = "config")]
        interface: Vec<String>,
        /// Keep what every feed reads, octet by octet with its time, in files of this directory
        #[arg(long, value_name = "DIR")]
        record: Option<PathBuf>,
        /// Keep samples of the past in this directory, whatever the configuration says; "off": none
        #[arg(long, value_name = "DIR")]
        history: Option<PathBuf>,
        /// Decide about every packet and do nothing: all go to the kernel untouched, and are counted as what would have become of them
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep what a feed says, octet by octet with its time, in a file, until Ctrl-C
    Record {
        #[command(flatten)]
        words: record::Words,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Check the configuration; what may be a mistake and may be meant so is a warning
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// Only answer whether the file names an interface at all; exit 1 when it does not, as before anything is configured
        #[arg(long, conflicts_with = "json")]
        configured: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Put what the configuration file says now in force: all of it, or nothing
    Reload(change::Reload),
    /// Put another configuration in force, for a trial with --confirm; all of it, or nothing
    Apply(change::Apply),
    /// Keep what is on trial: it becomes the configuration file
    Confirm {
        #[command(flatten)]
        format: Format,
    },
    /// End a trial now: the configuration file's comes back
    Rollback {
        #[command(flatten)]
        format: Format,
    },
    /// This machine and its interfaces: what keeps the fast path from working, from being fast, or from doing what the kernel would
    ///
    /// Exit code: 1 when there are errors, 3 when there is nothing worse than warnings, 0 otherwise.
    Doctor(doctor::Words),
    /// Health in one screen
    Status {
        #[command(flatten)]
        format: Format,
    },
    /// Per interface: received, forwarded, dropped, passed to the kernel, sent
    Interfaces {
        #[command(flatten)]
        format: Format,
    },
    /// Per reason: what was dropped, passed to the kernel, or lost on the way out
    Drops {
        /// Reasons that have counted nothing too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        format: Format,
    },
    /// The forwarding table: all of it, a prefix with its more specific ones, or the prefix of an address; and for that prefix
    /// every source's route, which of them counts and why
    Routes {
        /// Prefix or address
        #[arg(value_name = "PREFIX", value_parser = selection)]
        prefix: Option<(String, Selection)>,
        #[command(flatten)]
        format: Format,
    },
    /// What the data path does with an address, beside the kernel's own answer; exit 1 when they differ
    Lookup {
        /// Destination
        #[arg(value_name = "ADDR")]
        address: IpAddr,
        /// Ask this table dump instead (MRT, plain, gz or bz2): every peer's path, and which would win; exit 1 for none
        #[arg(long, value_name = "FILE")]
        table: Option<PathBuf>,
        #[command(flatten)]
        format: Format,
    },
    /// One packet through the real program, step by step, leaving no mark in the counters
    Trace {
        #[command(flatten)]
        packet: trace::Described,
        #[command(flatten)]
        format: Format,
    },
    /// What a packet costs on this CPU, and how many cores fill the links; no traffic is touched, no counter moves
    Bench(bench::Words),
    /// Filter rules: what each met, and which one a packet would meet
    #[command(subcommand)]
    Filter(filter::Command),
    /// Forwarded packets and bytes
    Counters {
        /// prefix, next-hop, interface, origin-as, neighbour-as, account, account-pair or source-prefix
        #[arg(long, value_name = "WHAT", default_value = "prefix", value_parser = by)]
        by: By,
        /// Only the N largest, and one row for the others
        #[arg(long, value_name = "N")]
        top: Option<usize>,
        /// Rows that have counted nothing too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Live: interfaces, reasons, prefixes, networks, next hops, rules, feeds; `?` there for its keys
    Top(top::Words),
    /// From the history: what is billed, how full links are and when they will be, what was delivered, whom to peer with
    #[command(subcommand)]
    Report(report::Command),
    /// Every prefix of data path and kernel: do they agree? Lists the differences; exit 1 when there are any
    Verify {
        #[command(flatten)]
        format: Format,
    },
    /// Take everything out of the kernel: programs, maps and their counters
    Detach {
        #[command(flatten)]
        format: Format,
    },
}

fn by(word: &str) -> Result<By, String> {
    word.parse()
}

fn selection(text: &str) -> Result<(String, Selection), String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    Ok((text.to_string(), text.parse()?))
}

/// The command line's own description of itself: manual pages and completions are made from it.
pub fn command() -> clap::Command {
    use clap::CommandFactory;
    Cli::command()
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::warn(&format!("error: {error:#}"));
            ExitCode::from(1)
        }
    }
}

/// Runs a command; answers the exit code.
fn run(cli: Cli) -> Result<u8> {
    let reader = reader::Reader::new(cli.places.socket.as_deref(), &cli.places.bpffs);
    let yes = match cli.command {
        Command::Run {
            file,
            interface,
            record,
            history,
            dry_run,
        } => operate::run(
            &cli.places,
            &file.config,
            &interface,
            record,
            history.as_deref(),
            dry_run,
        ),
        Command::Record { words, file } => record::record(&words, &file.config),
        Command::Check {
            file,
            configured: true,
            ..
        } => operate::configured(&file.config),
        Command::Check { file, format, .. } => operate::check(&file.config, format.json),
        Command::Reload(words) => change::reload(&reader, &words),
        Command::Apply(words) => change::apply(&reader, &words),
        Command::Confirm { format } => change::confirm(&reader, format.json),
        Command::Rollback { format } => change::rollback(&reader, format.json),
        Command::Doctor(words) => return doctor::doctor(&words, &cli.places.bpffs),
        Command::Detach { format } => operate::detach(&cli.places.bpffs, format.json),
        Command::Status { format } => status::status(&reader, format.json),
        Command::Interfaces { format } => figures::interfaces(&reader, format.json),
        Command::Drops { all, format } => figures::drops(&reader, all, format.json),
        Command::Routes { prefix, format } => figures::routes(&reader, prefix, format.json),
        Command::Counters { by, top, all, format } => figures::counters(&reader, by, top, all, format.json),
        Command::Lookup {
            address,
            table,
            format,
        } => match table {
            None => lookup::lookup(&reader, address, format.json),
            Some(file) => lookup_table::lookup(&file, address, format.json),
        },
        Command::Trace { packet, format } => trace::trace(&cli.places.bpffs, &packet, format.json),
        Command::Bench(words) => bench::bench(&words, &cli.places.bpffs),
        Command::Filter(command) => filter::run(&reader, &command),
        Command::Top(words) => top::top(reader, &words),
        Command::Report(command) => report::run(&command),
        Command::Verify { format } => verify::verify(&reader, format.json),
    };
    yes.map(|yes| u8::from(!yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn wrong_words_are_usage_errors_that_name_the_right_ones() {
        let error = Cli::try_parse_from(["forwarder", "counters", "--by", "colour"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains("cannot count by \"colour\": use one of prefix"),
            "{error}"
        );
        let error = Cli::try_parse_from(["forwarder", "routes", "nonsense"]).unwrap_err();
        assert!(
            error.to_string().contains("neither a prefix nor an address"),
            "{error}"
        );
        let absent = Cli::try_parse_from(["forwarder", "nurse"]).unwrap_err();
        assert_eq!(absent.exit_code(), 2);
        let both = ["forwarder", "run", "--config", "f", "--interface", "eth0"];
        assert!(Cli::try_parse_from(both).is_err());
    }

    #[test]
    fn places_stand_before_or_after_the_command() {
        for words in [
            ["forwarder", "--bpffs", "/x", "status", "--json"],
            ["forwarder", "status", "--json", "--bpffs", "/x"],
        ] {
            assert_eq!(
                Cli::try_parse_from(words).unwrap().places.bpffs,
                PathBuf::from("/x")
            );
        }
    }
}
