//! Asking a running controller.

use std::{io, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time};

/// How long an answer may take in all.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What came of a question.
pub enum Answer {
    /// The body.
    Body(Bytes),
    /// Nobody listens, or we may not ask.
    Unreachable(io::Error),
}

/// The controller does not answer this question: it is none, or none now.
#[derive(Debug, thiserror::Error)]
#[error("the controller refused: {0}")]
pub struct Refused(pub String);

/// GETs a path from the controller.
///
/// # Errors
/// The controller refused the question, or broke off.
pub fn get(socket: &Path, path: &str) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let asked = time_limit(socket, path);
    runtime.block_on(asked)
}

async fn time_limit(socket: &Path, path: &str) -> Result<Answer> {
    match time::timeout(ANSWER_WITHIN, ask(socket, path)).await {
        Ok(answer) => answer,
        Err(_) => bail!(
            "the controller on {} did not answer within {} s",
            socket.display(),
            ANSWER_WITHIN.as_secs()
        ),
    }
}

async fn ask(socket: &Path, path: &str) -> Result<Answer> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(why) => return Ok(Answer::Unreachable(why)),
    };
    let broken = || format!("the controller on {} broke off", socket.display());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .with_context(broken)?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(hyper::header::HOST, "forwarder")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.with_context(broken)?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .with_context(broken)?
        .to_bytes();
    connection.abort();
    if !status.is_success() {
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = said["error"].as_str().unwrap_or("no reason given");
        return Err(Refused(said.to_string()).into());
    }
    Ok(Answer::Body(body))
}
