//! Accepting connections from anyone, without ever giving one of them much.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time,
};

use super::handlers;

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// Of those on the Unix socket as many may be of users that are neither root nor the controller's own: its group may ask, and keep nobody
/// from looking at what it does.
const OTHERS: usize = 48;
/// So many more are told that there are too many; what comes beyond that is closed at once.
const TOLD: usize = 64;
/// From the connection to the end of the request's headers.
pub const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// From the connection to the end of the answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Octets of request headers.
pub const HEADER_OCTETS: usize = 16 * 1024;

/// Something that connections come from.
pub trait Listener {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next one.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
    /// Whether it is known to be root's, or of the user as whom the controller runs.
    fn is_operators(stream: &Self::Stream) -> bool;
}

impl Listener for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }

    fn is_operators(stream: &Self::Stream) -> bool {
        // SAFETY: geteuid takes nothing and cannot fail.
        let own = unsafe { libc::geteuid() };
        // As it was when it connected (unix(7), SO_PEERCRED).
        stream
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
    }
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }

    fn is_operators(_: &Self::Stream) -> bool {
        // TCP does not tell, and nobody has a share of his own.
        true
    }
}

/// Serves whoever connects, for ever.
pub async fn accept<L: Listener>(listener: &L, service: Router) {
    let [room, others, told] =
        [CONNECTIONS, OTHERS, TOLD].map(|connections| Arc::new(Semaphore::new(connections)));
    let crowded = Router::new().fallback(too_many);
    loop {
        let stream = match listener.next().await {
            Ok(stream) => stream,
            Err(why) => {
                // No descriptors left, or a client that was gone before it was taken.
                tracing::debug!(%why, "a connection was not accepted");
                time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let permits = if L::is_operators(&stream) {
            room.clone().try_acquire_owned().map(|permit| (permit, None))
        } else {
            let share = others.clone().try_acquire_owned();
            share.and_then(|share| Ok((room.clone().try_acquire_owned()?, Some(share))))
        };
        let (permit, service) = match permits {
            Ok(permits) => (permits, service.clone()),
            Err(_) => match told.clone().try_acquire_owned() {
                Ok(permit) => ((permit, None), crowded.clone()),
                Err(_) => continue,
            },
        };
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_WITHIN)
                .keep_alive(false)
                .max_buf_size(HEADER_OCTETS)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            match time::timeout(ANSWER_WITHIN, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::debug!(%why, "a client of the API went wrong"),
                Err(_) => tracing::debug!("a client of the API took too long"),
            }
            drop(permit);
        });
    }
}

async fn too_many() -> Response {
    let again = [(header::RETRY_AFTER, "1")];
    let why = "too many connections at a time: try again";
    (again, handlers::refused(StatusCode::SERVICE_UNAVAILABLE, why)).into_response()
}
