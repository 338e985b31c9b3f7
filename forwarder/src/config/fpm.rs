//! `[routes.fpm]`: where zebra connects, and how long what it said is worth something.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::check::Check;
use super::file::Age;
use super::{ConfigError, MAX_ROUTES};

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
}

impl Fpm {
    pub(super) fn check(&self, check: &Check<'_>) -> Result<FpmConfig, ConfigError> {
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
        })
    }
}
