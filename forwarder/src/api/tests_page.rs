//! What a browser gets, and what it does not.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::MetadataExt, net::UnixStream},
    time::{Duration, Instant},
};

use super::{
    tests::{exchange, on, request, serve, start},
    *,
};

fn get(at: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    let stream = TcpStream::connect(at).unwrap();
    request(stream, &format!("GET {path} HTTP/1.1\r\n{headers}\r\n"))
}

#[test]
fn the_page_and_its_rows_come_from_the_loopback_with_nothing_from_elsewhere() {
    let api = start();
    let host = format!("Host: {}\r\n", api.metrics);
    let (status, head, body) = get(api.metrics, "/", &host);
    assert_eq!(status, 200);
    assert!(body.starts_with("<!DOCTYPE html>"));
    for header in [
        "content-type: text/html",
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "cross-origin-resource-policy: same-origin",
    ] {
        assert!(head.contains(header), "{header} is not in\n{head}");
    }
    assert!(!head.contains("access-control"));
    for path in [
        "/page.css",
        "/page.js",
        "/bills.js",
        "/chart.js",
        "/figures.js",
        "/grids.js",
        "/past.js",
        "/table.js",
    ] {
        let (status, _, text) = get(api.metrics, path, &host);
        assert_eq!(status, 200, "{path}");
        for word in ["http://", "https://"] {
            let outside = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!outside.contains(word), "{path} asks elsewhere");
        }
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!text.contains(word), "{path} has {word}");
        }
    }
    let (status, head, body) = get(api.metrics, "/v1/interfaces", &host);
    assert!(status == 200 && body.contains("transit0"), "{body}");
    assert!(head.contains("cache-control: no-store"), "{head}");
}

#[test]
fn a_name_that_was_made_to_lead_here_gets_nothing() {
    let api = start();
    for path in ["/", "/v1/status", "/metrics", "/v1/nothing"] {
        let (status, _, body) = get(api.metrics, path, "Host: evil.example:9177\r\n");
        assert_eq!(status, 421, "{path}");
        assert!(body.contains("ask by address"), "{body}");
    }
    let foreign = "Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\n";
    assert_eq!(get(api.metrics, "/v1/routes", foreign).0, 403);
    assert_eq!(get(api.metrics, "/", foreign).0, 200);
    assert_eq!(get(api.metrics, "/", "").0, 400);
}

#[test]
fn nothing_can_be_changed() {
    let api = start();
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let stream = TcpStream::connect(api.metrics).unwrap();
        let (status, head, _) = request(
            stream,
            &format!("{method} /v1/status HTTP/1.1\r\nHost: [::1]:9177\r\nContent-Length: 0\r\n\r\n"),
        );
        assert_eq!(status, 405, "{method}");
        assert!(!head.contains("access-control"), "{head}");
    }
}

#[test]
fn listings_over_tcp_have_an_end() {
    let api = start();
    let host = "Host: localhost\r\n";
    let (status, _, body) = get(api.metrics, "/v1/counters?top=10001", host);
    assert!(status == 400 && body.contains("at most 10000"), "{body}");
    let (status, head, body) = get(api.metrics, "/v1/routes?limit=1", host);
    assert_eq!(status, 200);
    assert!(
        head.contains("link: </v1/routes?prefix=&limit=1&after=198.51.100.0/24>; rel=\"next\""),
        "{head}"
    );
    assert!(body.contains("198.51.100.0/24") && !body.contains("2001:db8"));
    let (_, head, body) = get(api.metrics, "/v1/routes?limit=1&after=198.51.100.0/24", host);
    assert!(
        !head.contains("link:") && body.contains("2001:db8:5::/48"),
        "{head}"
    );
}

#[test]
fn a_page_can_be_left_out() {
    let api = serve(ApiConfig {
        page: false,
        ..on("127.0.0.1:0")
    });
    let host = "Host: localhost\r\n";
    assert_eq!(get(api.metrics, "/", host).0, 404);
    assert_eq!(get(api.metrics, "/v1/routes", host).0, 404);
    assert_eq!(get(api.metrics, "/metrics", host).0, 200);
    assert_eq!(get(api.metrics, "/metrics", "Host: evil.example\r\n").0, 421);
}

#[test]
fn metrics_that_others_reach_are_served_under_any_name_and_the_page_is_not() {
    let api = serve(ApiConfig {
        page: true,
        ..on("0.0.0.0:0")
    });
    let at = SocketAddr::new("127.0.0.1".parse().unwrap(), api.metrics.port());
    assert_eq!(get(at, "/metrics", "Host: router-a.example\r\n").0, 200);
    assert_eq!(get(at, "/", "Host: router-a.example\r\n").0, 421);
    assert_eq!(get(at, "/", "Host: 192.0.2.1:9177\r\n").0, 200);
}

#[test]
fn a_browser_that_asks_for_everything_at_once_keeps_nobody_else_waiting() {
    let api = start();
    let mut many: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(api.metrics).unwrap();
            let _ = stream.write_all(b"GET /v1/routes HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(api.rows("/v1/interfaces").len(), 2);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let (mut answered, mut refused) = (0, 0);
    for stream in &mut many {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        answered += u32::from(text.starts_with("HTTP/1.1 200"));
        refused += u32::from(text.starts_with("HTTP/1.1 503"));
    }
    assert!(answered > 0, "{answered} were answered, {refused} refused");
    let stream = TcpStream::connect(api.metrics).unwrap();
    assert_eq!(exchange(stream, "/v1/status").0, 200);
}

#[test]
fn those_that_are_too_many_are_told_so() {
    let api = start();
    // Silent ones take all the room there is.
    let silent: Vec<TcpStream> = (0..64)
        .map(|_| TcpStream::connect(api.metrics).unwrap())
        .collect();
    let mut told = None;
    for _ in 0..50 {
        let (status, head, body) = get(api.metrics, "/v1/status", "Host: localhost\r\n");
        if status == 503 {
            told = Some((head, body));
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (head, body) = told.expect("an answer to those that are too many");
    assert!(
        head.contains("retry-after: 1") && body.contains("too many"),
        "{head}\n{body}"
    );
    drop(silent);
}

#[test]
fn the_socket_is_its_groups_and_a_group_that_is_none_is_refused() {
    // Of the groups that every system has, one that is not root's.
    let api = serve(ApiConfig {
        group: Some("daemon".into()),
        metrics: None,
        ..ApiConfig::default()
    });
    let file = std::fs::metadata(api.socket()).unwrap();
    assert_eq!((file.gid(), file.mode() & 0o777), (1, 0o660));
    assert!(UnixStream::connect(api.socket()).is_ok());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ApiConfig {
        group: Some("no-such-group".into()),
        metrics: None,
        ..ApiConfig::default()
    };
    let path = std::env::temp_dir().join(format!("forwarder-group-{}", std::process::id()));
    let why = runtime.block_on(Api::bind(&path, &config)).err().unwrap();
    assert!(
        why.to_string().contains("groupadd --system no-such-group"),
        "{why}"
    );
    assert!(!path.exists());
}
