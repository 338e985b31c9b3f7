//! ExaBGP on host b of the lab.

use std::{fmt::Write as _, fs};

use anyhow::Result;

use crate::{daemon::Daemon, lab::Lab};

/// A FlowSpec rule of each family.
pub const RULES: &str = "\
    route one { match { destination 203.0.113.5/32; source 198.18.0.0/15; protocol udp; \
    destination-port [ =53 >1000&<2000 ]; } then { discard; } }\n\
    route two { match { destination 2001:db8:ffff::/48; protocol udp; } then { rate-limit 1000000; } }\n";

/// ExaBGP of AS 64501, which calls port 1179 of the router, AS 64500, with routes of these numbers and these FlowSpec
/// rules ([`RULES`], or none: "").
///
/// # Errors
/// None.
pub fn config(numbers: std::ops::Range<usize>, restart: bool, rules: &str) -> Result<String> {
    let mut text = String::from(
        "neighbor 10.2.0.1 {\nrouter-id 10.2.0.2;\nlocal-address 10.2.0.2;\nlocal-as 64501;\npeer-as 64500;\n\
         connect 1179;\nhold-time 30;\n",
    );
    let restart = if restart { "graceful-restart 60;" } else { "" };
    writeln!(
        text,
        "capability {{ add-path send/receive; route-refresh enable; {restart} }}"
    )?;
    text += "family { ipv4 unicast; ipv6 unicast; ipv4 flow; ipv6 flow; }\nstatic {\n";
    for number in numbers {
        writeln!(
            text,
            "route 198.18.{number}.0/24 next-hop 10.2.0.2 path-information 0.0.0.1 community [64501:7] \
             large-community [64501:1:2] as-path [ 64501 4200000001 ];\n\
             route 198.18.{number}.0/24 next-hop 10.2.0.9 path-information 0.0.0.2;\n\
             route 2001:db8:{number:x}::/48 next-hop fd00:2::2;"
        )?;
    }
    text += "}\n";
    if !rules.is_empty() {
        write!(text, "flow {{\n{rules}}}\n")?;
    }
    Ok(text + "}\n")
}

/// One ExaBGP. Killed on drop.
pub struct ExaBgp<'a> {
    lab: &'a Lab,
    daemon: Option<Daemon>,
}

impl<'a> ExaBgp<'a> {
    /// Starts it with a configuration.
    ///
    /// # Errors
    /// It is not installed.
    pub fn start(lab: &'a Lab, config: &str) -> Result<ExaBgp<'a>> {
        let mut exabgp = ExaBgp { lab, daemon: None };
        exabgp.write(config)?;
        exabgp.run()?;
        Ok(exabgp)
    }

    /// Another configuration, for [`ExaBgp::reload`] or its next start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, config: &str) -> Result<()> {
        Ok(fs::write(self.lab.dir().join("exabgp.conf"), config)?)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// It is not installed.
    pub fn run(&mut self) -> Result<()> {
        let mut command = self.lab.command("b", "exabgp");
        command
            .arg(self.lab.dir().join("exabgp.conf"))
            .env("exabgp.daemon.user", "root")
            .env("exabgp.api.cli", "false")
            .env("exabgp.log.level", "INFO");
        self.daemon = Some(Daemon::start(self.lab, "exabgp", &mut command)?);
        Ok(())
    }

    /// It reads its configuration again.
    pub fn reload(&self) {
        if let Some(daemon) = &self.daemon {
            daemon.signal(libc::SIGUSR1);
        }
    }

    /// SIGKILL: it says goodbye to nobody.
    ///
    /// # Errors
    /// It ended before.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), Daemon::kill)
    }
}
