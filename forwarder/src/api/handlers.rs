//! What is answered to whom.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Query, State as Shared, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task, time};

use super::{ApiContext, body::Pieces, metrics};
use crate::stats::{
    self, By, Routes,
    lookup::lookup,
    path::Paths,
    rates::rates,
    routes::Selection,
    status::{self, Now},
};

/// Answers that are worked out at a time: a thread each.
const AT_WORK: usize = 2;
/// Listings of the whole table that are sent at a time: a thread each.
const LISTINGS: usize = 2;
/// How long a request waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(10);
/// Prefixes in one piece of a listing.
const PIECE: usize = 1024;

/// How much is done at a time, socket and metrics together.
#[derive(Clone)]
pub struct Limits {
    work: Arc<Semaphore>,
    listings: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            work: Arc::new(Semaphore::new(AT_WORK)),
            listings: Arc::new(Semaphore::new(LISTINGS)),
        }
    }
}

#[derive(Clone)]
struct Server {
    context: Arc<ApiContext>,
    limits: Limits,
}

/// What the Unix socket serves.
pub fn figures(context: Arc<ApiContext>, limits: Limits) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/interfaces", get(interfaces))
        .route("/v1/drops", get(drops))
        .route("/v1/counters", get(counters))
        .route("/v1/top", get(top))
        .route("/v1/routes", get(routes))
        .route("/v1/candidates", get(candidates))
        .route("/v1/lookup", get(lookup_one))
        .route("/v1/filter", get(filter))
        .route("/v1/blackholes", get(blackholes))
        .route("/v1/limits", get(punt))
        .route("/metrics", get(scrape))
        .fallback(nothing)
        .with_state(Server { context, limits })
}

/// What the loopback serves.
pub fn scrapes(context: Arc<ApiContext>, limits: Limits) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .fallback(nothing)
        .with_state(Server { context, limits })
}

fn refused(status: StatusCode, why: impl Into<String>) -> Response {
    let body = serde_json::json!({ "error": why.into() }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn nothing() -> Response {
    refused(
        StatusCode::NOT_FOUND,
        "no such path: /v1/status, /v1/interfaces, /v1/drops, /v1/counters, /v1/top, /v1/routes, /v1/candidates, /v1/lookup, \
         /v1/filter, /v1/blackholes, /v1/limits, /metrics",
    )
}

impl Server {
    /// Works something out on a thread of its own, a few at a time.
    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce(&ApiContext) -> T + Send + 'static,
    ) -> Result<T, Response> {
        let busy = || {
            refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests at a time: try again",
            )
        };
        let turn = time::timeout(TURN_WITHIN, self.limits.work.clone().acquire_owned());
        let Ok(Ok(permit)) = turn.await else {
            return Err(busy());
        };
        let context = self.context.clone();
        let result = task::spawn_blocking(move || {
            let _permit = permit;
            job(&context)
        })
        .await;
        result.map_err(|why| {
            tracing::error!(%why, "an API request failed");
            refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the answer could not be worked out: see the log",
            )
        })
    }

    async fn rows<T: Serialize + Send + 'static>(
        &self,
        job: impl FnOnce(&ApiContext) -> Vec<T> + Send + 'static,
    ) -> Response {
        match self.work(move |context| encode(&job(context))).await {
            Ok(Ok(body)) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Ok(Err(why)) => refused(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
            Err(response) => response,
        }
    }
}

fn encode<T: Serialize>(rows: &[T]) -> serde_json::Result<Vec<u8>> {
    let mut body = Vec::new();
    stats::json::write(&mut body, rows)?;
    Ok(body)
}

async fn status(Shared(server): Shared<Server>) -> Response {
    server
        .rows(|context| {
            let interfaces = context.interfaces();
            vec![status::status(
                &context.tables,
                Some(&context.state()),
                &interfaces,
                Now::read(),
            )]
        })
        .await
}

async fn interfaces(Shared(server): Shared<Server>) -> Response {
    server.rows(ApiContext::interfaces).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DropsQuery {
    #[serde(default)]
    all: bool,
}

type Asked<T> = Result<Query<T>, QueryRejection>;

async fn drops(Shared(server): Shared<Server>, query: Asked<DropsQuery>) -> Response {
    match query {
        Ok(Query(DropsQuery { all })) => {
            server
                .rows(move |context| stats::drops(&context.tables, all))
                .await
        }
        Err(why) => refused(StatusCode::BAD_REQUEST, why.body_text()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CountersQuery {
    by: Option<String>,
    top: Option<usize>,
    #[serde(default)]
    all: bool,
}

async fn counters(Shared(server): Shared<Server>, query: Asked<CountersQuery>) -> Response {
    let CountersQuery { by, top, all } = match query {
        Ok(Query(query)) => query,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why.body_text()),
    };
    match by.as_deref().unwrap_or("prefix").parse::<By>() {
        Ok(by) => {
            server
                .rows(move |context| stats::counters(&context.tables, by, top, all))
                .await
        }
        Err(why) => refused(StatusCode::BAD_REQUEST, why),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopQuery {
    by: Option<String>,
    #[serde(default = "TopQuery::rows")]
    top: usize,
}

impl TopQuery {
    fn rows() -> usize {
        20
    }
}

async fn top(Shared(server): Shared<Server>, query: Asked<TopQuery>) -> Response {
    let TopQuery { by, top } = match query {
        Ok(Query(query)) => query,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why.body_text()),
    };
    match by.as_deref().unwrap_or("prefix").parse::<By>() {
        Ok(by @ (By::Prefix | By::OriginAs | By::NeighbourAs)) => {
            server.rows(move |context| rates(&context.live(), by, top)).await
        }
        Ok(other) => refused(
            StatusCode::BAD_REQUEST,
            format!(
                "no rates are kept by {}: ask for prefix, origin-as or neighbour-as, or take two readings of /v1/counters",
                other.name()
            ),
        ),
        Err(why) => refused(StatusCode::BAD_REQUEST, why),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupQuery {
    address: std::net::IpAddr,
}

async fn lookup_one(Shared(server): Shared<Server>, query: Asked<LookupQuery>) -> Response {
    match query {
        Ok(Query(LookupQuery { address })) => {
            server
                .rows(move |context| lookup(&mut Paths::new(&context.tables), address))
                .await
        }
        Err(why) => refused(StatusCode::BAD_REQUEST, why.body_text()),
    }
}

async fn punt(Shared(server): Shared<Server>) -> Response {
    server.rows(|context| context.state().limits).await
}

async fn filter(Shared(server): Shared<Server>) -> Response {
    server.rows(|context| context.state().rules).await
}

async fn blackholes(Shared(server): Shared<Server>) -> Response {
    server.rows(|context| context.state().blackholes).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoutesQuery {
    #[serde(default)]
    prefix: String,
}

async fn routes(Shared(server): Shared<Server>, query: Asked<RoutesQuery>) -> Response {
    let prefix = match query {
        Ok(Query(query)) => query.prefix,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why.body_text()),
    };
    let selection = match prefix.parse::<Selection>() {
        Ok(selection) => selection,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why),
    };
    let turn = time::timeout(TURN_WITHIN, server.limits.listings.clone().acquire_owned());
    let Ok(Ok(permit)) = turn.await else {
        return refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many listings at a time: try again",
        );
    };
    let (sender, pieces) = Pieces::channel();
    task::spawn_blocking(move || {
        let _permit = permit;
        let mut routes = Routes::new(&server.context.tables, selection);
        let mut encoder = stats::json::Rows::default();
        loop {
            let rows = routes.take(PIECE);
            let mut piece = Vec::new();
            let encoded = if rows.is_empty() {
                encoder.end(&mut piece)
            } else {
                encoder.push(&mut piece, &rows)
            };
            let piece = encoded.map(|()| Bytes::from(piece)).map_err(io::Error::other);
            // Nobody listens any more: the client went, or its time was up.
            if sender.blocking_send(piece).is_err() || rows.is_empty() {
                return;
            }
        }
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::new(pieces)).into_response()
}

async fn candidates(Shared(server): Shared<Server>, query: Asked<RoutesQuery>) -> Response {
    let prefix = match query {
        Ok(Query(query)) => query.prefix,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why.body_text()),
    };
    let selection = match prefix.parse::<Selection>() {
        Ok(Selection::All) => {
            return refused(
                StatusCode::BAD_REQUEST,
                "of which prefix? Ask /v1/candidates?prefix=192.0.2.0/24, or an address",
            );
        }
        Ok(selection) => selection,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why),
    };
    match server.work(move |context| (context.candidates)(selection)).await {
        Ok(Some(rows)) => server.rows(move |_| rows).await,
        Ok(None) => refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "the controller is busy with a full table: try again",
        ),
        Err(response) => response,
    }
}

async fn scrape(Shared(server): Shared<Server>) -> Response {
    match server.work(metrics::text).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Ok(Err(why)) => refused(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
        Err(response) => response,
    }
}
