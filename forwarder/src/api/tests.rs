use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use forwarder_history::{Direction, History, Interval, Retention, Sample, Series};

use super::*;
use crate::{daemon::state::HistoryState, stats::sample};

pub(super) struct Running {
    _dir: Dir,
    socket: PathBuf,
    pub(super) metrics: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forwarder-api-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A history of one interval: transit0 received 30 packets and sent 70, AS 64500 was sent 9, radio 40 from outside and 2 by the
/// library, which sent 5.
fn history(directory: &Path) -> HistoryState {
    let mut history = History::open(directory, Retention::default()).unwrap();
    let interface = |direction| Series::Interface {
        ifname: "transit0".into(),
        direction,
    };
    let account = |from: &str, to: &str, outside| Series::Account {
        from: from.into(),
        to: to.into(),
        outside,
    };
    let counted = [
        (interface(Direction::In), 30),
        (interface(Direction::Out), 70),
        (
            Series::OriginAs {
                asn: 64_500,
                direction: Direction::Out,
            },
            9,
        ),
        (account("", "members/radio", true), 40),
        (account("members/library", "members/radio", false), 2),
        (account("members/library", "", true), 5),
    ];
    let samples = counted.map(|(series, packets)| Sample {
        series: history.series_id(&series).unwrap(),
        packets,
        bytes: packets * 100,
    });
    for (series, fact, value) in [
        (interface(Direction::In), "role", "transit"),
        (interface(Direction::In), "commit", "1000"),
        (account("members/radio", "", true), "commit", "2000"),
    ] {
        history.describe(&series, fact, value).unwrap();
    }
    let interval = Interval {
        start: 1_750_000_000,
        milliseconds: 300_000,
        samples: samples.into(),
    };
    history.commit(&interval, forwarder_history::State::Same).unwrap();
    HistoryState {
        directory: directory.to_str().unwrap().into(),
        ..HistoryState::default()
    }
}

fn context(history: HistoryState) -> Arc<ApiContext> {
    Arc::new(ApiContext {
        live: Arc::default(),
        metrics: Default::default(),
        program_cost: Box::new(|| None),
        tables: Arc::new(sample::tables()),
        state: Arc::new(RwLock::new(State {
            pid: 7,
            roles: sample::roles(),
            history,
            rules: vec![stats::RuleRow {
                name: "ntp".into(),
                ..Default::default()
            }],
            ..State::default()
        })),
        link_stats: Box::new(|_| Some(sample::link(1045))),
        candidates: Box::new(|selection| {
            (selection != "192.0.2.0/24".parse().unwrap()).then(|| {
                vec![stats::CandidateRow {
                    by: "bgp".into(),
                    ..Default::default()
                }]
            })
        }),
    })
}

/// Metrics and page at an address.
pub(super) fn on(address: &str) -> ApiConfig {
    ApiConfig {
        metrics: Some(address.parse().unwrap()),
        ..ApiConfig::default()
    }
}

/// Nothing but the socket.
fn off() -> ApiConfig {
    ApiConfig {
        metrics: None,
        ..ApiConfig::default()
    }
}

pub(super) fn start() -> Running {
    serve(on("127.0.0.1:0"))
}

/// A controller's API with this configuration.
pub(super) fn serve(config: ApiConfig) -> Running {
    let dir = Dir::new();
    let socket = dir.0.join("below/forwarder.sock");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (tell, told) = std::sync::mpsc::channel();
    let path = socket.clone();
    let past = history(&dir.0.join("history"));
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let api = Api::bind(&path, &config).await.unwrap();
            let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
            tell.send(api.metrics_address().unwrap_or(nowhere)).unwrap();
            api.serve(context(past), async { drop(stopped.await) }).await;
        });
    });
    Running {
        _dir: dir,
        socket,
        metrics: told.recv().unwrap(),
        stop: Some(stop),
        thread: Some(thread),
    }
}

impl Running {
    pub(super) fn ask(&self, path: &str) -> (u16, String) {
        let stream = UnixStream::connect(&self.socket).unwrap();
        exchange(stream, path)
    }

    pub(super) fn rows(&self, path: &str) -> Vec<serde_json::Value> {
        let (status, body) = self.ask(path);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    fn stop(mut self) -> PathBuf {
        self.stop.take().unwrap().send(()).unwrap();
        self.thread.take().unwrap().join().unwrap();
        self.socket.clone()
    }
}

pub(super) fn exchange(stream: impl Read + Write, path: &str) -> (u16, String) {
    let (status, _, body) = request(stream, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    (status, body)
}

/// Status, headers in lower case, body.
pub(super) fn request(mut stream: impl Read + Write, request: &str) -> (u16, String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
        unchunk(body)
    } else {
        body.to_string()
    };
    (status, head.to_lowercase(), body)
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&tail[..size]);
        rest = &tail[size + 2..];
        if size == 0 {
            break;
        }
    }
    body
}

#[test]
fn every_sources_route_is_asked_of_the_controller() {
    let api = start();
    assert_eq!(api.rows("/v1/candidates?prefix=198.51.100.7")[0]["by"], "bgp");
    assert_eq!(api.ask("/v1/candidates").0, 400);
    assert_eq!(api.ask("/v1/candidates?prefix=nonsense").0, 400);
    let (status, body) = api.ask("/v1/candidates?prefix=192.0.2.0/24");
    assert!(status == 503 && body.contains("busy"), "{body}");
}

#[test]
fn every_path_answers_rows() {
    let api = start();
    let mode = std::fs::metadata(&api.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let status = &api.rows("/v1/status")[0];
    assert_eq!(
        (&status["controller"], &status["pid"]),
        (&"running".into(), &7.into())
    );
    assert_eq!(status["forwarded_packets"], 30);
    let interfaces = api.rows("/v1/interfaces");
    assert_eq!(interfaces[0]["ifname"], "transit0");
    assert_eq!(interfaces[0]["ingress_residue"], 3);
    assert_eq!(api.rows("/v1/drops").len(), 4);
    assert!(api.rows("/v1/drops?all=true").len() > 50);
    let prefixes = api.rows("/v1/counters?by=prefix&top=1");
    assert_eq!(prefixes[0]["prefix"], "198.51.100.0/24");
    assert_eq!(api.rows("/v1/counters?by=interface")[0]["ifname"], "core0");
    assert_eq!(api.rows("/v1/filter")[0]["name"], "ntp");
    assert_eq!(api.rows("/v1/routes").len(), 2);
    assert_eq!(
        api.rows("/v1/routes?prefix=2001:db8::/32")[0]["prefix"],
        "2001:db8:5::/48"
    );
    assert_eq!(api.rows("/v1/routes?prefix=10.0.0.0/8").len(), 0);
    let answer = api.rows("/v1/lookup?address=198.51.100.7");
    assert_eq!(answer[0]["via"], "192.0.2.9");
    let socket = api.stop();
    assert!(!socket.exists(), "the socket goes with its controller");
}

#[test]
fn the_past_is_told_of_what_has_one() {
    let api = start();
    assert_eq!(
        api.rows("/v1/history/names?of=interface"),
        [serde_json::json!({"of": "interface", "name": "transit0"})]
    );
    let rows = api.rows("/v1/history?of=interface&name=transit0&from=1749999000&to=1750001000");
    assert_eq!(
        rows,
        [serde_json::json!({
            "time": 1_750_000_000, "milliseconds": 300_000, "samples": 1,
            "in_packets": 30, "in_bytes": 3000, "in_bytes_per_second_most": 10,
            "out_packets": 70, "out_bytes": 7000, "out_bytes_per_second_most": 23
        })]
    );
    let none = api.rows("/v1/history?of=interface&name=transit0&from=1&to=2");
    assert!(none.is_empty(), "nothing was watched then");
}

#[test]
fn an_accounts_past_is_what_crosses_the_edge_and_a_pairs_is_all_between_them() {
    let api = start();
    let names = |of: &str| -> Vec<String> {
        let rows = api.rows(&format!("/v1/history/names?of={of}"));
        rows.iter()
            .map(|row| row["name"].as_str().unwrap().to_string())
            .collect()
    };
    assert_eq!(names("account"), ["members", "members/library", "members/radio"]);
    assert_eq!(
        names("account-pair"),
        [
            "(elsewhere) -> members/radio",
            "members/library -> (elsewhere)",
            "members/library -> members/radio",
            "members/radio -> (elsewhere)"
        ]
    );
    let packets = |of: &str, name: &str| {
        let name = name.replace(' ', "%20").replace('>', "%3E");
        let path = format!("/v1/history?of={of}&name={name}&from=1749999000&to=1750001000");
        let rows = api.rows(&path);
        assert_eq!(rows.len(), 1, "{path}");
        (rows[0]["in_packets"].as_u64(), rows[0]["out_packets"].as_u64())
    };
    assert_eq!(packets("account", "members"), (Some(40), Some(5)));
    assert_eq!(packets("account", "members/radio"), (Some(40), Some(0)));
    assert_eq!(
        packets("account-pair", "members/library -> members/radio"),
        (None, Some(2))
    );
    assert_eq!(
        packets("account-pair", "(elsewhere) -> members/radio"),
        (None, Some(40))
    );
    for (path, words) in [
        ("of=account&name=nobody", "no account `nobody`: it has members"),
        (
            "of=account-pair&name=nobody",
            "names?of=account-pair tells what has",
        ),
    ] {
        let (status, body) = api.ask(&format!("/v1/history?{path}"));
        assert!(status == 400 && body.contains(words), "{path}: {body}");
    }
}

#[test]
fn reports_are_the_rows_of_the_command() {
    let api = start();
    let ask = |report: &str| api.rows(&format!("/v1/report/{report}&month=2025-06"));
    // 40 packets of 100 octets in five minutes are 106 bits a second.
    let bills = ask("p95?by=account");
    let names: Vec<_> = bills.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["members", "members/library", "members/radio"]);
    let radio = &bills[2];
    assert_eq!(
        (
            &radio["p95_in"],
            &radio["p95_out"],
            &radio["commit"],
            &radio["samples"]
        ),
        (&106.into(), &0.into(), &2000.into(), &1.into())
    );
    assert!(bills[0]["commit"].is_null(), "{bills:?}");
    assert_eq!(radio["expected"], 30 * 288);
    let inside = ask("p95?by=account&name=members/radio&traffic=inside");
    assert_eq!(inside[0]["p95_in"], 5);
    let carriers = ask("p95?by=carrier&time_zone=Europe/Zurich");
    assert_eq!(
        (
            &carriers[0]["name"],
            &carriers[0]["p95"],
            &carriers[0]["direction"]
        ),
        (&"transit0".into(), &186.into(), &"out".into())
    );
    assert_eq!(carriers[0]["time_zone"], "Europe/Zurich");
    let rows = ask("commit?by=carrier");
    assert_eq!((&rows[0]["commit"], &rows[0]["below"]), (&1000.into(), &1.into()));
    let shortfalls = ask("commit/shortfalls?by=carrier&longest=1");
    assert_eq!(shortfalls.len(), 2, "one each way: {shortfalls:?}");
    assert_eq!(ask("peering?asn=64500")[1]["bytes"], 900);
    let capacity = api.rows("/v1/report/capacity?days=3660");
    assert_eq!(capacity[0]["outlook"], "unknown-speed");
}

#[test]
fn a_wrong_question_is_told_what_is_wrong() {
    let api = start();
    for (path, status, words) in [
        ("/v1/counters?by=colour", 400, "use one of prefix, source-prefix"),
        (
            "/v1/counters?by=account",
            400,
            "nothing is counted by account: the configuration has to say [[account]]",
        ),
        ("/v1/counters?top=x", 400, "top"),
        (
            "/v1/routes?prefix=nonsense",
            400,
            "neither a prefix nor an address",
        ),
        ("/v1/routes?prefiks=::/0", 400, "prefiks"),
        ("/v1/routes?limit=0", 400, "limit may be from 1 to 10000"),
        ("/v1/routes?limit=10001", 400, "limit may be"),
        ("/v1/routes?limit=-1", 400, "limit"),
        ("/v1/routes?after=192.0.2.0/24", 400, "after goes with limit"),
        ("/v1/routes?limit=1&after=x", 400, "after"),
        ("/v1/lookup", 400, "address"),
        ("/v1/top?by=interface", 400, "no rates are kept by interface"),
        ("/v1/top?top=10001", 400, "at most 10000"),
        ("/v1/history?of=x&name=y", 400, "one of interface"),
        ("/v1/history?of=interface&name=eth9", 400, "has no history"),
        (
            "/v1/history?of=interface&name=transit0&from=2&to=1",
            400,
            "from must be before to",
        ),
        (
            "/v1/history?of=interface&name=transit0&points=0",
            400,
            "points may be",
        ),
        ("/v1/history?of=origin-as&name=AS1", 400, "write 64500"),
        ("/v1/report/p95", 404, "the history has nothing of"),
        ("/v1/report/p95?month=2025-13", 400, "is not a month"),
        ("/v1/report/p95?month=9000-01", 404, "has not begun"),
        ("/v1/report/p95?time_zone=Mars/Olympus", 400, "is no time zone"),
        ("/v1/report/p95?by=colour", 400, "write one of account"),
        ("/v1/report/p95?month=2025-06&name=nobody", 400, "it has members"),
        ("/v1/report/p95?top=101", 400, "top may be from 1 to 100"),
        ("/v1/report/p95?traffic=up", 400, "write outside"),
        (
            "/v1/report/p95?from=1",
            400,
            "/v1/report/p95 has no parameter \\\"from\\\": it takes by, name, month, time_zone, traffic, top",
        ),
        (
            "/v1/report/p95?top=ten",
            400,
            "top cannot be \\\"ten\\\": write a number from 1 to 100, such as",
        ),
        (
            "/v1/report/capacity?share=much",
            400,
            "share cannot be \\\"much\\\": write a number above 0 and up to 100, such as 80",
        ),
        (
            "/v1/drops?all=yes",
            400,
            "all cannot be \\\"yes\\\": write true or false",
        ),
        (
            "/v1/history?of=interface&name=transit0&from=yesterday",
            400,
            "from cannot be \\\"yesterday\\\": write seconds since 1970",
        ),
        ("/v1/history?of=interface", 400, "name is missing ("),
        (
            "/v1/history?of=interface&of=prefix&name=x",
            400,
            "of is there twice: it can be given once",
        ),
        (
            "/v1/report/commit?by=prefix",
            400,
            "by carrier, interface or account",
        ),
        ("/v1/report/commit?until=2025-06", 400, "until goes with month"),
        ("/v1/report/commit?commit=1Mbit", 400, "commit goes with name"),
        ("/v1/report/commit?name=t&commit=1kpps", 400, "counts packets"),
        (
            "/v1/report/commit?month=2025-06&until=2026-07",
            400,
            "at most 13 months",
        ),
        (
            "/v1/report/commit?month=2025-06&until=2025-05",
            400,
            "2025-05 is before 2025-06",
        ),
        ("/v1/report/capacity?share=0", 400, "above 0"),
        ("/v1/report/capacity?days=0", 400, "days may be"),
        ("/v1/report/peering?asn=x", 400, "is no AS number"),
        ("/", 404, "/v1/status"),
    ] {
        let (got, body) = api.ask(path);
        assert_eq!(got, status, "{path}: {body}");
        assert!(
            body.contains(words) && body.starts_with("{\"error\""),
            "{path}: {body}"
        );
    }
}

#[test]
fn metrics_are_openmetrics() {
    let api = start();
    let stream = std::net::TcpStream::connect(api.metrics).unwrap();
    let (status, text) = exchange(stream, "/metrics");
    assert_eq!(status, 200);
    for line in [
        "# TYPE forwarder_received_packets counter",
        "forwarder_received_packets_total{ifname=\"transit0\"} 42",
        "forwarder_dropped_packets_total{ifname=\"transit0\",reason=\"bogon-source\"} 5",
        "forwarder_passed_bytes_total{ifname=\"transit0\",reason=\"local\"} 700",
        "forwarder_redirect_errors_total{ifname=\"core0\",reason=\"down\"} 6",
        "forwarder_nexthop_packets_total{ifname=\"core0\",nexthop=\"192.0.2.9\",af=\"ipv4\"} 30",
        "forwarder_ingress_residue_packets{ifname=\"transit0\"} 3.0",
        "forwarder_table_size{table=\"next-hops\"} 511.0",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
    }
}

#[test]
fn a_second_controller_is_refused_and_a_dead_ones_socket_replaced() {
    let api = start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let why = runtime
        .block_on(Api::bind(&api.socket, &off()))
        .err()
        .unwrap()
        .to_string();
    assert!(why.contains("another controller answers on"), "{why}");
    let dir = Dir::new();
    let path = dir.0.join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    runtime.block_on(async { drop(Api::bind(&path, &off()).await.unwrap()) });
    std::fs::write(&path, "not a socket").unwrap();
    let why = runtime
        .block_on(Api::bind(&path, &off()))
        .err()
        .unwrap()
        .to_string();
    assert!(why.contains("is no socket"), "{why}");
}

#[test]
fn hostile_clients_are_cut_off_and_others_still_served() {
    let api = start();
    // More than there is room for, all silent.
    let silent: Vec<UnixStream> = (0..200)
        .filter_map(|_| UnixStream::connect(&api.socket).ok())
        .collect();
    let begun = Instant::now();
    // Those the server kept are closed when their headers do not come.
    for mut stream in silent {
        stream.set_read_timeout(Some(server::HEADERS_WITHIN * 3)).unwrap();
        let mut octets = Vec::new();
        let _ = stream.read_to_end(&mut octets);
    }
    assert!(begun.elapsed() < server::HEADERS_WITHIN * 3);
    // Garbage, and headers without end.
    let mut garbage = UnixStream::connect(&api.socket).unwrap();
    garbage.write_all(&[0xff; 1000]).unwrap();
    let mut endless = UnixStream::connect(&api.socket).unwrap();
    endless.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let _ = endless.write_all(b"GET / HTTP/1.1\r\n");
    let line = format!("X-Filler: {}\r\n", "y".repeat(1000));
    let mut taken = 0;
    while taken < 10_000_000 && endless.write_all(line.as_bytes()).is_ok() {
        taken += line.len();
    }
    assert!(taken < 2_000_000, "the server took {taken} octets of headers");
    // A body is not read.
    let mut posting = UnixStream::connect(&api.socket).unwrap();
    posting.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let head = "POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n";
    posting.write_all(head.as_bytes()).unwrap();
    let mut taken = 0;
    while taken < 100_000_000 && posting.write_all(&[b'x'; 65_536]).is_ok() {
        taken += 65_536;
    }
    assert!(taken < 10_000_000, "the server took {taken} octets of a body");
    assert_eq!(api.rows("/v1/interfaces").len(), 2);
}
