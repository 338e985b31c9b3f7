//! GoBGP on host b of the lab.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    daemon::{Daemon, log},
    lab::{Lab, run},
};

/// gobgpd of AS 64501, which calls port 1179 of the router, AS 64500, with unicast and FlowSpec of both families. Killed on
/// drop.
pub struct GoBgp<'a> {
    lab: &'a Lab,
    daemon: Option<Daemon>,
}

impl<'a> GoBgp<'a> {
    /// Starts it; `more` goes with the neighbour, `paths` with IPv4 unicast.
    ///
    /// # Errors
    /// It does not answer: what it said.
    pub fn start(lab: &'a Lab, more: &str, paths: &str) -> Result<GoBgp<'a>> {
        let families: String = ["ipv4-unicast", "ipv6-unicast", "ipv4-flowspec", "ipv6-flowspec"]
            .iter()
            .map(|family| {
                format!(
                    "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n\
                     [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n{}",
                    if *family == "ipv4-unicast" { paths } else { "" }
                )
            })
            .collect();
        let config = format!(
            "[global.config]\nas = 64501\nrouter-id = \"10.2.0.2\"\nport = -1\n\
             [[neighbors]]\n[neighbors.config]\nneighbor-address = \"10.2.0.1\"\npeer-as = 64500\n\
             [neighbors.transport.config]\nremote-port = 1179\n\
             [neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\n{more}{families}"
        );
        fs::write(lab.dir().join("gobgp.toml"), config)?;
        let mut gobgp = GoBgp { lab, daemon: None };
        gobgp.run(&[])?;
        Ok(gobgp)
    }

    /// Starts it again, with these options more.
    ///
    /// # Errors
    /// As [`GoBgp::start`].
    pub fn run(&mut self, more: &[&str]) -> Result<()> {
        let mut command = self.lab.command("b", "gobgpd");
        command
            .arg("-f")
            .arg(self.lab.dir().join("gobgp.toml"))
            .args(more);
        self.daemon = Some(Daemon::start(self.lab, "gobgpd", &mut command)?);
        self.lab
            .wait("gobgpd to answer", || Ok(self.ask("global").ok().map(drop)))
            .with_context(|| log(self.lab, "gobgpd"))
    }

    /// SIGKILL: it says goodbye to nobody.
    ///
    /// # Errors
    /// It ended before.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), Daemon::kill)
    }

    /// What `gobgp` answers.
    ///
    /// # Errors
    /// It does not take the command.
    pub fn ask(&self, words: &str) -> Result<String> {
        run(self.lab.command("b", "gobgp").args(words.split_whitespace()))
    }

    /// Adds a route of each family of this number, or takes them back.
    ///
    /// # Errors
    /// As [`GoBgp::ask`].
    pub fn route(&self, verb: &str, number: usize) -> Result<()> {
        self.ask(&format!(
            "global rib {verb} 198.18.{number}.0/24 nexthop 10.2.0.2 med 10 community 64501:7"
        ))?;
        self.ask(&format!(
            "global rib {verb} -a ipv6 2001:db8:{number:x}::/48 nexthop fd00:2::2"
        ))?;
        Ok(())
    }
}
