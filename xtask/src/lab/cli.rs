//! `cargo xtask lab ...`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::{Daemon, Lab, Options, status};
use crate::interrupt;
use crate::table::Source;

/// The network in namespaces that demo and tests use.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// A second lab beside the first
    #[arg(long, global = true, value_name = "NAME")]
    name: Option<String>,
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Raise the lab: namespaces, BIRD (or FRR on the routers), forwarder on both routers
    Up(UpArgs),
    /// End its processes and remove everything
    Down,
    /// Run a command in a node, for example: lab exec router-a forwarder status
    Exec {
        /// transit-a, transit-b, router-a, router-b, core-a, core-b, server-1, server-2, internet-a, internet-b
        node: String,
        /// The command and its arguments
        #[arg(
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "COMMAND"
        )]
        words: Vec<OsString>,
    },
    /// Nodes, BGP sessions, route counts
    Status,
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Plain kernel forwarding
    #[arg(long)]
    no_forwarder: bool,
    /// Take the binary as it was last built
    #[arg(long)]
    no_build: bool,
}

impl LabArgs {
    /// Whether the binary is to be built first.
    pub fn builds(&self) -> bool {
        matches!(&self.command, LabCommand::Up(up) if !up.no_forwarder && !up.no_build)
    }
}

/// What the carriers announce, and what the routers hear it with.
#[derive(Debug, Clone, Args)]
pub struct NetworkArgs {
    /// What speaks BGP on the routers
    #[arg(long, value_enum, default_value_t)]
    daemon: Daemon,
    /// Lines `prefix origin-as`, plain or .xz; without it 20,000 generated prefixes
    #[arg(long, value_name = "FILE")]
    table_v4: Option<PathBuf>,
    /// Lines `prefix origin-as`, plain or .xz; without it 5,000 generated prefixes
    #[arg(long, value_name = "FILE")]
    table_v6: Option<PathBuf>,
}

impl NetworkArgs {
    /// Options for a lab with these tables.
    pub fn options(&self) -> Options {
        let defaults = Options::default();
        Options {
            table_v4: self.table_v4.clone().map_or(defaults.table_v4, Source::File),
            table_v6: self.table_v6.clone().map_or(defaults.table_v6, Source::File),
            daemon: self.daemon,
            ..Options::default()
        }
    }
}

/// Runs one `lab` command, with a binary for `up` (by default the newest one built).
pub fn run(args: LabArgs, binary: Option<PathBuf>) -> Result<()> {
    let lab = Lab::named(args.name.as_deref())?;
    match args.command {
        LabCommand::Up(up) => {
            interrupt::install()?;
            let started = std::time::Instant::now();
            let options = Options {
                name: args.name,
                forwarder: !up.no_forwarder,
                binary,
                ..up.network.options()
            };
            let lab = Lab::up(&options)?;
            status::print(&lab)?;
            println!(
                "\nup after {:.1} s; try: cargo xtask lab exec server-1 ping 33.20.1.10",
                started.elapsed().as_secs_f32()
            );
            Ok(())
        }
        LabCommand::Down => {
            let was_up = lab.is_up();
            lab.down()?;
            println!("{}", if was_up { "down" } else { "no lab was up" });
            Ok(())
        }
        LabCommand::Status => status::print(&lab),
        LabCommand::Exec { node, words } => {
            lab.require_up()?;
            let (program, arguments) = words.split_first().context("no command")?;
            let program = program.to_str().context("the command's name is not UTF-8")?;
            // Replaces this process: the command gets the terminal, the signals, and its exit code is ours.
            let error = lab.command(&node, program)?.args(arguments).exec();
            Err(error).with_context(|| format!("running {program} in {node}"))
        }
    }
}
