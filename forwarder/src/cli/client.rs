//! Asking a running controller.

use std::{
    future::{Future as _, poll_fn},
    io,
    path::Path,
    pin::pin,
    task::Poll,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time};

/// How long an answer may take.
#[derive(Clone, Copy)]
struct Patience {
    /// In all: of a busy controller with a full table.
    answer: Duration,
    /// Until it begins, before the controller is asked whether it answers anything at all.
    start: Duration,
    /// Until it answers that.
    sign: Duration,
}

const PATIENCE: Patience = Patience {
    answer: Duration::from_secs(60),
    start: Duration::from_secs(4),
    sign: Duration::from_secs(2),
};
/// What any controller answers at once: that there is nothing here.
const SIGN: &str = "/";

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
    runtime.block_on(time_limit(socket, path, PATIENCE))
}

async fn time_limit(socket: &Path, path: &str, patience: Patience) -> Result<Answer> {
    let mut asked = pin!(ask(socket, path));
    if let Ok(answer) = time::timeout(patience.start, &mut asked).await {
        return answer;
    }
    // It may be at work on a large answer, or not at work at all: one that is stopped accepts connections, too.
    let mut alive = pin!(time::timeout(patience.sign, ask(socket, SIGN)));
    let first = poll_fn(|context| {
        if let Poll::Ready(answer) = asked.as_mut().poll(context) {
            return Poll::Ready(First::Answer(answer));
        }
        alive.as_mut().poll(context).map(|sign| First::Sign(sign.is_ok()))
    });
    match first.await {
        First::Answer(answer) => return answer,
        First::Sign(true) => {}
        First::Sign(false) => bail!(silent(socket).await),
    }
    match time::timeout(patience.answer, asked).await {
        Ok(answer) => answer,
        Err(_) => bail!(
            "the controller on {} did not answer within {} s",
            socket.display(),
            patience.answer.as_secs()
        ),
    }
}

/// What came first of a slow controller.
enum First {
    Answer(Result<Answer>),
    /// Whether it gave a sign of life in time.
    Sign(bool),
}

/// What is to be said of a controller that takes connections and answers nothing.
async fn silent(socket: &Path) -> String {
    let peer = time::timeout(Duration::from_secs(1), UnixStream::connect(socket)).await;
    let peer = peer
        .ok()
        .and_then(Result::ok)
        .and_then(|stream| stream.peer_cred().ok());
    let pid = peer.and_then(|peer| peer.pid());
    let (who, what) = match pid {
        None => (String::new(), "it is stopped or gets no CPU".to_string()),
        Some(pid) if is_stopped(pid) => (
            format!(" (pid {pid})"),
            format!("it is stopped; `kill -CONT {pid}` lets it go on"),
        ),
        Some(pid) => (format!(" (pid {pid})"), "it gets no CPU, or hangs".to_string()),
    };
    format!(
        "the controller{who} on {} does not answer: {what}. Packets follow the tables it left until its heartbeat is older \
         than max-age, then they go to the kernel",
        socket.display()
    )
}

/// Whether a process is stopped: the third field of its `stat` (proc_pid_stat(5)), behind a name that may hold anything.
fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('T' | 't'))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(socket: &Path) -> Result<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let short = Duration::from_millis(200);
        let patience = Patience {
            answer: short * 50,
            start: short,
            sign: short,
        };
        runtime.block_on(time_limit(socket, "/v1/status", patience))
    }

    #[test]
    fn a_controller_that_takes_connections_and_answers_nothing_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        let error = asked(&socket).map(|_| ()).unwrap_err().to_string();
        let own = std::process::id();
        assert!(error.contains(&format!("(pid {own})")), "{error}");
        assert!(
            error.contains("does not answer: it gets no CPU, or hangs"),
            "{error}"
        );
        drop(listener);
        assert!(matches!(asked(&socket), Ok(Answer::Unreachable(_))));
    }

    #[test]
    fn one_that_is_busy_with_a_large_answer_is_waited_for() {
        use std::io::{Read as _, Write as _};
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        let server = std::thread::spawn(move || {
            let answer = |stream: &mut std::os::unix::net::UnixStream, status: &str, body: &str| {
                let mut octets = [0; 1024];
                let _ = stream.read(&mut octets);
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"
                );
            };
            let (mut first, _) = listener.accept().expect("the question");
            let (mut sign, _) = listener.accept().expect("whether anybody is there");
            answer(&mut sign, "404 Not Found", "{}");
            std::thread::sleep(Duration::from_millis(300));
            answer(&mut first, "200 OK", "[]");
        });
        match asked(&socket) {
            Ok(Answer::Body(body)) => assert_eq!(&body[..], b"[]"),
            Ok(Answer::Unreachable(why)) => panic!("{why}"),
            Err(why) => panic!("{why:#}"),
        }
        server.join().expect("no panic");
    }

    #[test]
    fn a_process_that_runs_is_not_stopped() {
        assert!(!is_stopped(i32::try_from(std::process::id()).expect("a pid")));
    }
}
