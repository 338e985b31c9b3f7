//! `[routes.fpm]`: where zebra connects, and how long what it said is worth something.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::check::Check;
use super::file::Age;
use super::{ConfigError, MAX_ROUTES, Source};

/// The FPM feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FpmConfig {
    /// Address and port that zebra connects to.
    pub listen: SocketAddr,
    /// How long routes of a lost session are kept.
    pub restart_time: Duration,
    /// How long there must be few updates for zebra's replay to have ended.
    pub quiet_time: Duration,
    /// When the replay is taken to have ended in any case.
    pub sync_time: Duration,
    /// Routes of a session at most; one that says more is not used at all.
    pub max_routes: u32,
    /// zebra is told what became of its routes.
    pub offload: bool,
}

impl Default for FpmConfig {
    fn default() -> Self {
        Self {
            // FRR's own default (FPM_DEFAULT_PORT).
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2620),
            restart_time: Duration::from_secs(120),
            quiet_time: Duration::from_secs(5),
            sync_time: Duration::from_secs(300),
            max_routes: MAX_ROUTES,
            offload: false,
        }
    }
}

/// The section as written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Fpm {
    listen: Option<Spanned<String>>,
    restart_time: Option<Age>,
    quiet_time: Option<Spanned<Age>>,
    sync_time: Option<Spanned<Age>>,
    max_routes: Option<Spanned<i64>>,
    offload: Option<Spanned<bool>>,
}

impl Fpm {
    /// Checks it; `sources` are those that forward, the preferred one first.
    pub(super) fn check(&self, check: &Check<'_>, sources: &[Source]) -> Result<FpmConfig, ConfigError> {
        let default = FpmConfig::default();
        let listen = match &self.listen {
            None => default.listen,
            Some(at) => check.socket(at, at.get_ref(), "127.0.0.1:2620 or [::1]:2620")?,
        };
        let positive = |key: &str, value: &Option<Spanned<Age>>, default: Duration| match value {
            None => Ok(default),
            Some(at) if at.get_ref().0.is_zero() => Err(check.error(
                at,
                format!("{key} = \"0\": a replay has no end of its own, so it must end some time"),
                &format!("without the line it is {} seconds", default.as_secs()),
            )),
            Some(at) => Ok(at.get_ref().0),
        };
        let range = 1..=MAX_ROUTES;
        let max_routes = check.number("max-routes", self.max_routes.as_ref(), default.max_routes, range)?;
        Ok(FpmConfig {
            listen,
            restart_time: self
                .restart_time
                .as_ref()
                .map_or(default.restart_time, |age| age.0),
            quiet_time: positive("quiet-time", &self.quiet_time, default.quiet_time)?,
            sync_time: positive("sync-time", &self.sync_time, default.sync_time)?,
            max_routes,
            offload: self.offload(check, sources)?,
        })
    }

    fn offload(&self, check: &Check<'_>, sources: &[Source]) -> Result<bool, ConfigError> {
        let Some(written) = self.offload.as_ref().filter(|offload| *offload.get_ref()) else {
            return Ok(false);
        };
        let place = |source| sources.iter().position(|listed| *listed == source);
        match (place(Source::Fpm), place(Source::Kernel)) {
            (Some(fpm), kernel) if kernel.is_none_or(|kernel| fpm < kernel) => Ok(true),
            _ => Err(check.error(
                written,
                "zebra would be told of every route that it is not laid: the kernel's routes come before those of fpm, \
                 or fpm is not among `sources`"
                    .into(),
                "write sources = [\"fpm\", \"kernel\"], or offload = false",
            )),
        }
    }
}
