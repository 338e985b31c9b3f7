//! `forwarder doctor`: the host and its interfaces, each finding with its reason and what mends it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::output::{self, Paint};
use crate::{
    config::{self, Config},
    doctor::{Finding, Severity, examine, gather, mend, worst},
};

/// What `forwarder doctor` takes.
#[derive(Debug, Args)]
pub struct Words {
    /// The configuration [default: /etc/forwarder/forwarder.toml; without one, every Ethernet interface]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look at this interface instead of those of the configuration; may be given more than once
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    interface: Vec<String>,
    /// Run the commands that are safe: those that take no link down and let nothing in
    #[arg(long)]
    fix: bool,
    /// What is as it should be, too
    #[arg(long)]
    all: bool,
    /// Print a JSON array, one row on each line
    #[arg(long)]
    json: bool,
}

/// Examines, mends if it is asked to, prints; answers the exit code.
pub fn doctor(words: &Words, bpffs: &Path) -> Result<u8> {
    let (config, origin) = configuration(words)?;
    let mut findings = examine(&gather::gather(&config, bpffs));
    if words.fix {
        mend::mend(&mut findings, &mut |line| eprintln!("{line}"));
    }
    if words.json {
        output::print_json(&findings)?;
    } else {
        output::print(&screen(&findings, words.all, &origin, Paint::stdout()))?;
    }
    Ok(exit_code(worst(&findings)))
}

/// By the worst finding that is left; 2 is clap's, for wrong usage.
const fn exit_code(worst: Severity) -> u8 {
    match worst {
        Severity::Ok | Severity::Note => 0,
        Severity::Error => 1,
        Severity::Warning => 3,
    }
}

/// The configuration, and in words where it is from.
fn configuration(words: &Words) -> Result<(Config, String)> {
    if !words.interface.is_empty() {
        return Ok((
            Config::from_interfaces(&words.interface)?,
            words.interface.join(", "),
        ));
    }
    let path = words
        .config
        .clone()
        .unwrap_or_else(|| config::DEFAULT_PATH.into());
    if words.config.is_none() && !path.exists() {
        let names = gather::candidates();
        let config = Config::from_interfaces(&names)
            .context("no configuration, and no Ethernet interface to look at in this network namespace")?;
        return Ok((config, format!("no {}: {}", path.display(), names.join(", "))));
    }
    let config = config::load(&path)?;
    Ok((config, path.display().to_string()))
}

fn screen(findings: &[Finding], all: bool, origin: &str, paint: Paint) -> String {
    let mut text = String::new();
    for finding in findings {
        if finding.severity == Severity::Ok && !all {
            continue;
        }
        text += &entry(finding, paint);
    }
    let count = |severity| {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    let some = |severity: Severity, plural: &str| match count(severity) {
        1 => format!("1 {}", severity.name()),
        many => format!("{many} {plural}"),
    };
    let (errors, warnings) = (
        some(Severity::Error, "errors"),
        some(Severity::Warning, "warnings"),
    );
    let notes = some(Severity::Note, "notes");
    text + &format!(
        "{errors}, {warnings}, {notes}, {} as it should be ({origin})\n",
        count(Severity::Ok)
    )
}

fn entry(finding: &Finding, paint: Paint) -> String {
    // Padded before it is coloured: colours are octets too.
    let word = format!("{:<9}", finding.severity.name());
    let word = match finding.severity {
        Severity::Ok => paint.good(&word),
        Severity::Note => word,
        Severity::Warning => paint.bold(&word),
        Severity::Error => paint.bad(&word),
    };
    let place = finding
        .ifname
        .as_ref()
        .map_or_else(String::new, |name| format!("{name}: "));
    let mut text = format!("{word}{place}{}\n", finding.found);
    let mut line = |head: &str, said: &str| text += &format!("         {head}{said}\n");
    if let Some(why) = &finding.why {
        line("", why);
    }
    match (&finding.fix, finding.fixed) {
        (Some(fix), None) => line(
            if finding.safe {
                "mend (--fix does it): "
            } else {
                "mend: "
            },
            fix,
        ),
        (Some(fix), Some(true)) => line("mended: ", fix),
        (Some(fix), Some(false)) => line("could not be mended: ", fix),
        (None, _) => {}
    }
    text
}
