//! What is answered to whom.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State as Shared,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::body::Bytes;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task, time};

use super::{
    ApiContext,
    body::Pieces,
    endpoints::ENDPOINTS,
    metrics,
    openapi::DOCUMENT,
    question::{Asked, Query},
};
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
/// Prefixes of one page, or rows of counters, that may be asked for.
pub(super) const PAGE_MOST: usize = 10_000;
/// Those that come to a browser that does not say how many.
const PAGE: usize = 1_000;

/// How much is done at a time.
#[derive(Clone)]
pub struct Limits {
    work: Arc<Semaphore>,
    listings: Arc<Semaphore>,
}

impl Limits {
    /// Of the socket and of Prometheus, together.
    pub fn of_operators() -> Limits {
        Limits {
            work: Arc::new(Semaphore::new(AT_WORK)),
            listings: Arc::new(Semaphore::new(LISTINGS)),
        }
    }

    /// Of browsers: whatever they ask for, nobody else waits for it.
    pub fn of_browsers() -> Limits {
        Limits {
            work: Arc::new(Semaphore::new(1)),
            listings: Arc::new(Semaphore::new(1)),
        }
    }
}

/// Who asks.
#[derive(Clone)]
pub struct Server {
    context: Arc<ApiContext>,
    limits: Limits,
    /// Over TCP: no listing is without an end.
    bounded: bool,
}

/// What the Unix socket serves.
pub fn figures(context: Arc<ApiContext>, limits: Limits) -> Router {
    endpoints(Server {
        context: context.clone(),
        limits: limits.clone(),
        bounded: false,
    })
    .merge(scrapes(context, limits))
}

/// Metrics alone.
pub fn scrapes(context: Arc<ApiContext>, limits: Limits) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .fallback(nothing)
        .method_not_allowed_fallback(only_get)
        .with_state(Server {
            context,
            limits,
            bounded: true,
        })
}

/// The rows, for a page.
pub fn for_page(context: Arc<ApiContext>) -> Router {
    endpoints(Server {
        context,
        limits: Limits::of_browsers(),
        bounded: true,
    })
}

fn endpoints(server: Server) -> Router {
    let mut router = Router::new().route("/v1/openapi.json", get(document));
    for endpoint in ENDPOINTS {
        router = router.route(endpoint.path, (endpoint.handler)());
    }
    router.method_not_allowed_fallback(only_get).with_state(server)
}

async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

pub(super) fn refused(status: StatusCode, why: impl Into<String>) -> Response {
    let body = serde_json::json!({ "error": why.into() }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn nothing() -> Response {
    let paths: Vec<&str> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
    let why = format!("no such path: {}, /v1/openapi.json, /metrics", paths.join(", "));
    refused(StatusCode::NOT_FOUND, why)
}

async fn only_get() -> Response {
    refused(
        StatusCode::METHOD_NOT_ALLOWED,
        "nothing can be changed from here: ask with GET",
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

    /// The same for what may be refused.
    pub(super) async fn rows_or<T: Serialize + Send + 'static, E: Send + 'static>(
        &self,
        job: impl FnOnce(&ApiContext) -> Result<Vec<T>, E> + Send + 'static,
        refuse: impl FnOnce(E) -> Response,
    ) -> Response {
        let work = move |context: &ApiContext| job(context).map(|rows| encode(&rows));
        match self.work(work).await {
            Ok(Ok(Ok(body))) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Ok(Ok(Err(why))) => refused(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
            Ok(Err(why)) => refuse(why),
            Err(response) => response,
        }
    }

    /// Rows.
    async fn rows<T: Serialize + Send + 'static>(
        &self,
        job: impl FnOnce(&ApiContext) -> Vec<T> + Send + 'static,
    ) -> Response {
        let sure = move |context: &ApiContext| Ok::<_, Infallible>(job(context));
        self.rows_or(sure, |never| match never {}).await
    }
}

fn encode<T: Serialize>(rows: &[T]) -> serde_json::Result<Vec<u8>> {
    let mut body = Vec::new();
    stats::json::write(&mut body, rows)?;
    Ok(body)
}

pub(super) async fn status(Shared(server): Shared<Server>) -> Response {
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

pub(super) async fn interfaces(Shared(server): Shared<Server>) -> Response {
    server.rows(ApiContext::interfaces).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DropsQuery {
    #[serde(default)]
    all: bool,
}

pub(super) async fn drops(Shared(server): Shared<Server>, query: Asked<DropsQuery>) -> Response {
    match query {
        Ok(Query(DropsQuery { all })) => {
            server
                .rows(move |context| stats::drops(&context.tables, all))
                .await
        }
        Err(why) => refused(StatusCode::BAD_REQUEST, why.text()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CountersQuery {
    by: Option<String>,
    top: Option<usize>,
    #[serde(default)]
    all: bool,
}

pub(super) async fn counters(Shared(server): Shared<Server>, query: Asked<CountersQuery>) -> Response {
    let CountersQuery { by, top, all } = match query {
        Ok(Query(query)) => query,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why.text()),
    };
    let top = match top {
        Some(top) if server.bounded && top > PAGE_MOST => {
            return refused(
                StatusCode::BAD_REQUEST,
                format!("top may be at most {PAGE_MOST} here; on the Unix socket it may be more"),
            );
        }
        None if server.bounded => Some(PAGE),
        top => top,
    };
    match by.as_deref().unwrap_or("prefix").parse::<By>() {
        Ok(by) => match by.missing(&server.context.tables) {
            Some(why) => refused(StatusCode::BAD_REQUEST, why),
            None => {
                server
                    .rows(move |context| stats::counters(&context.tables, by, top, all))
                    .await
            }
        },
        Err(why) => refused(StatusCode::BAD_REQUEST, why),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopQuery {
    by: Option<String>,
    #[serde(default = "TopQuery::rows")]
    top: usize,
}

impl TopQuery {
    fn rows() -> usize {
        20
    }
}

pub(super) async fn top(Shared(server): Shared<Server>, query: Asked<TopQuery>) -> Response {
    let TopQuery { by, top } = match query {
        Ok(Query(query)) => query,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why.text()),
    };
    if top > PAGE_MOST {
        return refused(StatusCode::BAD_REQUEST, format!("top may be at most {PAGE_MOST}"));
    }
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
pub(super) struct LookupQuery {
    address: std::net::IpAddr,
}

pub(super) async fn lookup_one(Shared(server): Shared<Server>, query: Asked<LookupQuery>) -> Response {
    match query {
        Ok(Query(LookupQuery { address })) => {
            server
                .rows(move |context| lookup(&mut Paths::new(&context.tables), address))
                .await
        }
        Err(why) => refused(StatusCode::BAD_REQUEST, why.text()),
    }
}

pub(super) async fn punt(Shared(server): Shared<Server>) -> Response {
    server.rows(|context| context.state().limits).await
}

pub(super) async fn filter(Shared(server): Shared<Server>) -> Response {
    server.rows(|context| context.state().rules).await
}

pub(super) async fn blackholes(Shared(server): Shared<Server>) -> Response {
    server.rows(|context| context.state().blackholes).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoutesQuery {
    #[serde(default)]
    prefix: String,
    limit: Option<usize>,
    after: Option<IpNet>,
}

impl RoutesQuery {
    /// Where one page ends; `None`: the listing is sent whole.
    fn page(&self, bounded: bool) -> Result<Option<usize>, String> {
        match self.limit {
            Some(limit) if !(1..=PAGE_MOST).contains(&limit) => {
                Err(format!("limit may be from 1 to {PAGE_MOST}"))
            }
            Some(limit) => Ok(Some(limit)),
            None if bounded => Ok(Some(PAGE)),
            None if self.after.is_some() => Err("after goes with limit".into()),
            None => Ok(None),
        }
    }
}

/// One page, with the address of the next.
async fn page(server: Server, query: RoutesQuery, selection: Selection, limit: usize) -> Response {
    let page = server
        .work(move |context| {
            let mut routes = Routes::new(&context.tables, selection);
            if let Some(after) = query.after {
                routes = routes.after(after);
            }
            let rows = routes.take(limit);
            let next = routes.last().map(|last| {
                format!(
                    "</v1/routes?prefix={}&limit={limit}&after={last}>; rel=\"next\"",
                    query.prefix
                )
            });
            encode(&rows).map(|body| (body, next))
        })
        .await;
    match page {
        Ok(Ok((body, next))) => {
            let next = next.map(|next| [(header::LINK, next)]);
            ([(header::CONTENT_TYPE, "application/json")], next, body).into_response()
        }
        Ok(Err(why)) => refused(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
        Err(response) => response,
    }
}

pub(super) async fn routes(Shared(server): Shared<Server>, query: Asked<RoutesQuery>) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why.text()),
    };
    let selection = match query.prefix.parse::<Selection>() {
        Ok(selection) => selection,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why),
    };
    match query.page(server.bounded) {
        Ok(Some(limit)) => return page(server, query, selection, limit).await,
        Ok(None) => {}
        Err(why) => return refused(StatusCode::BAD_REQUEST, why),
    }
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CandidatesQuery {
    #[serde(default)]
    prefix: String,
}

pub(super) async fn candidates(Shared(server): Shared<Server>, query: Asked<CandidatesQuery>) -> Response {
    let prefix = match query {
        Ok(Query(query)) => query.prefix,
        Err(why) => return refused(StatusCode::BAD_REQUEST, why.text()),
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
