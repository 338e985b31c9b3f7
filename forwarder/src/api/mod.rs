//! Figures over HTTP, read-only: JSON rows on a Unix socket; Prometheus metrics, and a web page with its rows, on the loopback.
//!
//! Whoever may open the socket may be slow, greedy or hostile; the controller must not notice. So: few connections, short
//! deadlines, small buffers, no request body, one request per connection, and the work itself on threads that the packet
//! path's upkeep does not share.

mod body;
mod endpoints;
mod handlers;
pub mod history;
pub mod metrics;
mod openapi;
mod page;
mod question;
mod report;
mod server;
mod socket;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_page;
#[cfg(test)]
mod tests_schema;

use std::{
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{Arc, RwLock},
};

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;

pub use metrics::ProgramCost;
pub use socket::group_id;

use crate::{
    config::{ApiConfig, MetricsConfig},
    daemon::state::State,
    dataplane::Tables,
    locked::shared,
    stats,
    stats::{Candidates, LinkStats, rates::Live},
};

/// What the API reads.
pub struct ApiContext {
    /// The maps.
    pub tables: Arc<Tables>,
    /// What only the controller knows.
    pub state: Arc<RwLock<State>>,
    /// The drivers' counters.
    pub link_stats: Box<LinkStats>,
    /// Every source's routes for a prefix.
    pub candidates: Box<Candidates>,
    /// What moved between the last two passes of the sampler.
    pub live: Arc<RwLock<Arc<Live>>>,
    /// Which metrics are asked for.
    pub metrics: MetricsConfig,
    /// What the program cost; `None` where the kernel does not say.
    pub program_cost: Box<dyn Fn() -> Option<ProgramCost> + Send + Sync>,
}

impl ApiContext {
    /// The controller's state, as it was last written.
    pub fn state(&self) -> State {
        shared(&self.state).clone()
    }

    /// What moved lately.
    pub fn live(&self) -> Arc<Live> {
        shared(&self.live).clone()
    }

    /// Rows of `interfaces`.
    pub fn interfaces(&self) -> Vec<stats::InterfaceRow> {
        stats::interfaces(&self.tables, &shared(&self.state).roles, &self.link_stats)
    }
}

/// Listening sockets, before anything is served: a mistake in an address shows at the start.
pub struct Api {
    socket: socket::Bound,
    metrics: Option<TcpListener>,
    page: bool,
}

impl Api {
    /// Listens on the socket, and for metrics and the page where the configuration has an address.
    ///
    /// # Errors
    /// Another controller answers there, there is no such group, or the kernel's refusal.
    pub async fn bind(socket: &Path, config: &ApiConfig) -> Result<Api> {
        let metrics = match config.metrics {
            None => None,
            Some(address) => Some(TcpListener::bind(address).await.with_context(|| {
                format!(
                    "cannot serve metrics on {address}; name another address, or \"off\", as metrics in [api]"
                )
            })?),
        };
        Ok(Api {
            socket: socket::Bound::bind(socket, config.group.as_deref())?,
            metrics,
            page: config.page,
        })
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Serves until `shutdown` is done, then removes the socket.
    pub async fn serve(self, context: Arc<ApiContext>, shutdown: impl Future<Output = ()> + Send) {
        let limits = handlers::Limits::of_operators();
        let figures = handlers::figures(context.clone(), limits.clone());
        let loopback = self.metrics_address().is_some_and(|at| at.ip().is_loopback());
        let Api {
            socket,
            metrics,
            page,
        } = self;
        let scrapes = handlers::scrapes(context.clone(), limits);
        let shown = || page::guarded(page::files().merge(handlers::for_page(context)));
        let over_tcp = match (loopback, page) {
            // Whoever scrapes here is on this machine, and can ask as a browser would.
            (true, true) => page::guarded(scrapes).merge(shown()),
            (true, false) => page::guarded(scrapes),
            (false, true) => page::labelled(scrapes).merge(shown()),
            (false, false) => page::labelled(scrapes),
        };
        tokio::select! {
            () = shutdown => {}
            () = server::accept(&socket.listener, figures) => {}
            () = async {
                match &metrics {
                    Some(listener) => server::accept(listener, over_tcp).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}
