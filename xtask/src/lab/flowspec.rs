//! FlowSpec rules for a router's forwarder, in the words of the daemon that announces them: BIRD, or ExaBGP beside FRR, which
//! announces none itself.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Result;

use super::routing::{self, Daemon};
use super::{Lab, bird, exabgp, system};

/// Drop UDP to an address from a port.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The victim.
    pub destination: Ipv4Addr,
    /// The service that is abused.
    pub source_port: u16,
}

impl Rule {
    fn bird(self) -> String {
        format!(
            "route flow4 {{ dst {}/32; proto = 17; sport = {}; }} {{ bgp_ext_community.add((generic, 0x80060000, 0)); }};",
            self.destination, self.source_port
        )
    }

    fn exabgp(self) -> String {
        format!(
            "route attack {{ match {{ destination {}/32; protocol udp; source-port ={}; }} then {{ discard; }} }}",
            self.destination, self.source_port
        )
    }
}

/// How a rule was announced.
#[derive(Debug)]
pub struct Announced {
    /// The file that it stands in.
    pub file: PathBuf,
    /// The rule there.
    pub line: String,
    /// What has the daemon read that.
    pub command: String,
}

/// Has a router's daemon announce this rule and no other, or none.
///
/// # Errors
/// The daemon does not take it.
pub fn announce(lab: &Lab, node: &str, rule: Option<Rule>) -> Result<Announced> {
    let words = |each: fn(Rule) -> String| rule.map(each).unwrap_or_default();
    match routing::of(lab, node)? {
        Daemon::Bird => {
            let (line, file) = (words(Rule::bird), bird::rules_path(lab, node));
            let text = format!("protocol static rules {{\n    flow4 {{ table rules4; }};\n    {line}\n}}\n");
            system::write(&file, &text)?;
            bird::birdc(lab, node, "configure")?;
            Ok(Announced {
                file,
                line,
                command: "birdc configure".into(),
            })
        }
        Daemon::Frr => {
            let line = words(Rule::exabgp);
            let process = exabgp::announce(lab, node, &line)?;
            Ok(Announced {
                file: exabgp::config_path(lab, node),
                line,
                command: format!("kill -USR1 {}", process.pid),
            })
        }
    }
}
