//! Figures over HTTP, read-only: JSON rows on a Unix socket, Prometheus metrics on the loopback.
//!
//! Whoever may open the socket may be slow, greedy or hostile; the controller must not notice. So: few connections, short
//! deadlines, small buffers, no request body, one request per connection, and the work itself on threads that the packet
//! path's upkeep does not share.

mod body;
mod handlers;
pub mod metrics;
mod server;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;

pub use metrics::ProgramCost;

use crate::{
    config::MetricsConfig,
    daemon::state::State,
    dataplane::Tables,
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
        match self.state.read() {
            Ok(state) => state.clone(),
            // A writer that panicked half-way leaves an older value: still the best there is.
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    /// What moved lately.
    pub fn live(&self) -> Arc<Live> {
        match self.live.read() {
            Ok(live) => live.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    /// Rows of `interfaces`.
    pub fn interfaces(&self) -> Vec<stats::InterfaceRow> {
        stats::interfaces(&self.tables, &self.state().roles, &self.link_stats)
    }
}

/// Listening sockets, before anything is served: a mistake in an address shows at the start.
pub struct Api {
    socket: socket::Bound,
    metrics: Option<TcpListener>,
}

impl Api {
    /// Listens on the socket, and for metrics where an address is given.
    ///
    /// # Errors
    /// Another controller answers there, or the kernel's refusal.
    pub async fn bind(socket: &Path, metrics: Option<SocketAddr>) -> Result<Api> {
        let metrics = match metrics {
            None => None,
            Some(address) => Some(TcpListener::bind(address).await.with_context(|| {
                format!(
                    "cannot serve metrics on {address}; name another address, or \"off\", as metrics in [api]"
                )
            })?),
        };
        Ok(Api {
            socket: socket::Bound::bind(socket)?,
            metrics,
        })
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Serves until `shutdown` is done, then removes the socket.
    pub async fn serve(self, context: Arc<ApiContext>, shutdown: impl Future<Output = ()> + Send) {
        let limits = handlers::Limits::default();
        let figures = handlers::figures(context.clone(), limits.clone());
        let scrapes = handlers::scrapes(context, limits);
        let Api { socket, metrics } = self;
        tokio::select! {
            () = shutdown => {}
            () = server::accept(&socket.listener, figures) => {}
            () = async {
                match &metrics {
                    Some(listener) => server::accept(listener, scrapes).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

/// Listens and serves until `shutdown` is done.
///
/// # Errors
/// As [`Api::bind`].
pub async fn serve(
    context: Arc<ApiContext>,
    socket: PathBuf,
    metrics: Option<SocketAddr>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    Api::bind(&socket, metrics).await?.serve(context, shutdown).await;
    Ok(())
}
