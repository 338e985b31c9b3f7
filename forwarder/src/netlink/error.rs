//! What can go wrong between the kernel and us.

use std::io;

/// Octets that do not have the shape the kernel's headers promise; the text says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed netlink message: {0}")]
pub struct Malformed(pub &'static str);

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused, with its own words where it gave some (`NLMSGERR_ATTR_MSG`).
    #[error("kernel refused {what}: {}{}", io::Error::from_raw_os_error(*.errno), .text.as_ref().map(|t| format!(" ({t})")).unwrap_or_default())]
    Refused {
        /// The request, as `RTM_GETROUTE`.
        what: &'static str,
        /// Positive errno.
        errno: i32,
        /// The kernel's text.
        text: Option<String>,
    },
    /// `ENOBUFS`: the kernel had messages for us and no room to queue them.
    #[error("netlink messages were lost (ENOBUFS)")]
    Overrun,
    /// `NLM_F_DUMP_INTR`: what was dumped changed meanwhile, as often as we tried. Discard what came, try again.
    #[error("the kernel's tables kept changing during the dump of {0} (NLM_F_DUMP_INTR)")]
    Interrupted(&'static str),
    /// The kernel's answer cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl Error {
    /// A closure for `map_err` that says what was tried.
    pub(crate) fn os(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Os { what, source }
    }

    /// The errno with which the kernel refused, if it did.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}
