//! `forwarder-manual DIRECTORY` writes manual pages and shell completions of `forwarder` there. `cargo xtask dist` calls it.
//!
//! They are made from the definitions that the program itself reads its command line by, so none is ever stale.
//! forwarder.toml(5) is written by hand, in `dist/man`; a test holds it against what the program reads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

const SECTION: &str = "1";
const NAME: &str = "forwarder";

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), None) = (arguments.next(), arguments.next()) else {
        bail!("name one directory to write to")
    };
    let directory = PathBuf::from(directory);
    write(&directory).with_context(|| format!("cannot write to {}", directory.display()))
}

fn write(directory: &Path) -> Result<()> {
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    for place in [&man, &completions] {
        fs::create_dir_all(place)?;
    }
    let mut command = forwarder::cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, NAME, &completions)?;
    }
    pages(&command, NAME, &man)
}

/// A page for a command, and one for each below it.
fn pages(command: &Command, name: &str, directory: &Path) -> Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(below, &format!("{name}-{}", below.get_name()), directory)?;
    }
    let page = command
        .clone()
        .display_name(name.to_string())
        .bin_name(name.replace('-', " "))
        // A page's heading has the version once.
        .version(env!("CARGO_PKG_VERSION"));
    let man = Man::new(page)
        .title(name.to_uppercase())
        .section(SECTION)
        .date(String::new())
        .source(format!("{NAME} {}", env!("CARGO_PKG_VERSION")))
        .manual("forwarder".to_string());
    let mut text = Vec::new();
    man.render(&mut text)?;
    if name == NAME {
        text.extend_from_slice(SEE_ALSO.as_bytes());
    }
    fs::write(directory.join(format!("{name}.{SECTION}")), text)?;
    Ok(())
}

const SEE_ALSO: &str = "\
.SH FILES
.TP
/etc/forwarder/forwarder.toml
The configuration: forwarder.toml(5).
.TP
/sys/fs/bpf/forwarder/
Programs and tables of the data path, which outlive the controller.
.TP
/run/forwarder/forwarder.sock
Where the controller answers the reading commands.
.TP
/var/lib/forwarder/
The history.
.SH \"EXIT STATUS\"
0: yes. 1: no, or it failed. 2: wrong usage. 3: only warnings, from \\fBforwarder doctor\\fR.
.SH \"SEE ALSO\"
forwarder.toml(5), /usr/share/doc/forwarder/, bird(8), frr(8), keepalived(8)
";
