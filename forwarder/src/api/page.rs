//! The web page: a few static files in the binary, beside the rows that they show.
//!
//! Whatever a person's browser has open can ask 127.0.0.1 for things. A page from elsewhere may not read the answers (there
//! is no CORS here), but it could point a name of its own at this address and then ask as if it were ours (DNS rebinding):
//! so a question must have been asked of an address or of localhost, which no other page's name is. And it could ask without
//! reading, to have us work: browsers say where a question comes from (Sec-Fetch-Site), and only our own page may ask for rows.

use std::net::{IpAddr, Ipv6Addr};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};

use super::handlers::refused;

/// What the page may do: nothing but what comes from here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, what it is, octets.
const FILES: [(&str, &str, &str); 9] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/bills.js", SCRIPT, include_str!("page/bills.js")),
    ("/chart.js", SCRIPT, include_str!("page/chart.js")),
    ("/figures.js", SCRIPT, include_str!("page/figures.js")),
    ("/grids.js", SCRIPT, include_str!("page/grids.js")),
    ("/past.js", SCRIPT, include_str!("page/past.js")),
    ("/table.js", SCRIPT, include_str!("page/table.js")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page's files.
pub(super) fn files() -> Router {
    FILES
        .into_iter()
        .fold(Router::new(), |router, (path, kind, text)| {
            // A newer controller's page is not the one that a browser has kept.
            let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
            router.route(path, get(move || async move { (headers, text) }))
        })
}

/// Lets through what our own page, or a person, asks; and tells browsers what the answers may be used for.
pub(super) fn guarded(router: Router) -> Router {
    router.layer(middleware::from_fn(guard))
}

/// For metrics on an address that others reach, too: a scraper there asks by whatever name it knows.
pub(super) fn labelled(router: Router) -> Router {
    router.layer(middleware::map_response(label))
}

async fn guard(request: Request, next: Next) -> Response {
    let response = match fault(request.uri().path(), request.headers()) {
        Some((status, why)) => refused(status, why),
        None => next.run(request).await,
    };
    label(response).await
}

async fn label(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let labels: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in labels {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response.into_response()
}

/// Why a question is not answered.
fn fault(path: &str, headers: &HeaderMap) -> Option<(StatusCode, String)> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match host {
        None => return Some((StatusCode::BAD_REQUEST, "the question has no Host header".into())),
        Some(host) if !is_ours(host) => {
            return Some((
                StatusCode::MISDIRECTED_REQUEST,
                format!("nothing is served under the name {host:?}: ask by address, or as localhost"),
            ));
        }
        Some(_) => {}
    }
    // A link from elsewhere may lead a person to the page itself.
    let own = |site: &str| matches!(site, "same-origin" | "none") || path == "/";
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| !site.to_str().is_ok_and(own)).then(|| {
        (
            StatusCode::FORBIDDEN,
            "another site's page may not ask for this".into(),
        )
    })
}

/// Whether a Host header is an address or localhost, with or without a port.
fn is_ours(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            return rest.split_once(']').is_some_and(|(address, port)| {
                address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port))
            });
        }
        None => match host.find(':') {
            Some(at) if is_port(&host[at..]) => &host[..at],
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_hosts() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9177",
            "[::1]:9177",
            "[::1]",
            "localhost:9177",
            "LOCALHOST",
            "192.0.2.1:80",
        ] {
            assert!(is_ours(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9177",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost:9177:1",
            "localhost:x",
            "[::1",
            "[::1]evil",
            "[localhost]",
            "127.0.0.1:",
        ] {
            assert!(!is_ours(host), "{host}");
        }
    }

    #[test]
    fn rows_are_for_our_own_page_and_for_people() {
        let status = |path, site: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1"));
            if let Some(site) = site {
                headers.insert("sec-fetch-site", site.parse().unwrap());
            }
            fault(path, &headers).map(|(status, _)| status.as_u16())
        };
        for site in [None, Some("same-origin"), Some("none")] {
            assert_eq!(status("/v1/status", site), None);
        }
        for site in ["cross-site", "same-site", "nonsense"] {
            assert_eq!(status("/v1/status", Some(site)), Some(403));
            assert_eq!(status("/metrics", Some(site)), Some(403));
            assert_eq!(status("/", Some(site)), None, "a link leads to the page");
        }
        assert_eq!(
            fault("/", &HeaderMap::new()).map(|(status, _)| status.as_u16()),
            Some(400)
        );
    }
}
