use std::sync::{Arc, RwLock};

use forwarder_common::{account::pair, counters::Counter, sample::SampleCounter};

use super::*;
use crate::{
    config::{AccountConfig, MetricsConfig},
    daemon::{
        accounts::claim,
        state::{CollectorState, Feed, HistoryState, SampleProtocol, SamplesState},
    },
    dataplane::Tables,
    stats::{BlackholeRow, LimitRow, RuleRow, rates::Live, sample, sampler::prefixes::Active},
};

fn rule(origin: &str, name: &str, packets: u64) -> RuleRow {
    RuleRow {
        origin: origin.into(),
        name: name.into(),
        session: (origin == "flowspec").then(|| "guard".into()),
        state: "active".into(),
        packets,
        bytes: packets * 100,
        ..RuleRow::default()
    }
}

/// Tables with an account of which 4 packets came in over the edge and 5 went to another, and one that is no longer configured.
fn accounts() -> Tables {
    let tables = sample::tables();
    let account = |name: &str| AccountConfig {
        name: name.into(),
        prefixes: Vec::new(),
        commit: Some(10_000_000),
    };
    claim(&tables, &["m/a", "m/b", "old/c"].map(account));
    claim(&tables, &["m/a", "m/b"].map(account));
    for (crossing, from, to, packets) in [(1, 0, 1, 4), (0, 1, 2, 5), (1, 3, 0, 6)] {
        let count = Counter {
            packets,
            bytes: packets * 100,
        };
        tables.pairs.set(pair(crossing, from, to) as usize, &count);
    }
    tables
}

/// A controller that has something to say of everything.
pub(super) fn everything() -> ApiContext {
    let prefix = "198.51.100.0/24".parse().expect("prefix");
    let counter = Counter {
        packets: 5,
        bytes: 5_000,
    };
    let live = Live {
        seconds: 10.0,
        at: 1,
        active: vec![Active {
            prefix,
            origin_as: 64_510,
            neighbour_as: 64_501,
            to: counter,
            from: Counter::default(),
        }],
        listed: vec![ListedRow { prefix, counter }],
    };
    let state = State {
        roles: sample::roles(),
        commits: [("transit0".to_string(), 1_000_000_000)].into(),
        feeds: vec![Feed {
            kind: "bgp".into(),
            name: "bird".into(),
            state: "live".into(),
            last_change: 1,
            ..Feed::default()
        }],
        rules: vec![
            rule("config", "ntp", 7),
            rule("flowspec", "one", 2),
            rule("flowspec", "two", 3),
        ],
        blackholes: vec![BlackholeRow {
            bytes_per_second: 90,
            ..BlackholeRow::default()
        }],
        limits: vec![LimitRow {
            class: "arp".into(),
            rate: Some(100),
            dropped_packets: 4,
            ..LimitRow::default()
        }],
        history: HistoryState {
            enabled: true,
            last: Some(1_700_000_000),
            disk_free_bytes: Some(1 << 30),
            ..HistoryState::default()
        },
        samples: SamplesState {
            rate: 1_000,
            collectors: vec![CollectorState {
                protocol: SampleProtocol::Ipfix,
                address: "192.0.2.10:4739".into(),
                datagrams: 12,
                errors: 3,
                ..CollectorState::default()
            }],
            ..SamplesState::default()
        },
        ..State::default()
    };
    let tables = accounts();
    tables
        .sample_counters
        .set(1, &SampleCounter { taken: 30, lost: 2 });
    ApiContext {
        tables: Arc::new(tables),
        state: Arc::new(RwLock::new(state)),
        link_stats: Box::new(|_| Some(sample::link(1_045))),
        candidates: Box::new(|_| None),
        live: Arc::new(RwLock::new(live.into())),
        metrics: MetricsConfig {
            top_prefixes: 3,
            top_networks: 3,
            ..MetricsConfig::default()
        },
        program_cost: Box::new(|| {
            Some(ProgramCost {
                nanoseconds: 1_000,
                runs: 10,
            })
        }),
    }
}

#[test]
fn everything_there_is_has_a_metric() {
    let text = text(&everything()).expect("text");
    for line in [
        "forwarder_rule_matched_packets_total{origin=\"config\",rule=\"ntp\"} 7",
        "forwarder_rule_matched_packets_total{origin=\"flowspec\",rule=\"guard\"} 5",
        "forwarder_rules{origin=\"flowspec\",session=\"guard\",state=\"active\"} 2.0",
        "forwarder_blackhole_bytes_per_second 90.0",
        "forwarder_punt_dropped_packets_total{class=\"arp\"} 4",
        "forwarder_punt_limit_packets_per_second{class=\"arp\"} 100.0",
        "forwarder_prefix_bytes_total{prefix=\"198.51.100.0/24\"} 5000",
        "forwarder_top_prefix_bytes_per_second{prefix=\"198.51.100.0/24\"} 500.0",
        "forwarder_top_network_bytes_per_second{origin_as=\"64510\"} 500.0",
        "forwarder_account_bytes_total{account=\"m/a\",direction=\"in\",traffic=\"edge\"} 400",
        "forwarder_account_packets_total{account=\"m/a\",direction=\"out\",traffic=\"accounts\"} 5",
        "forwarder_account_packets_total{account=\"m\",direction=\"in\",traffic=\"edge\"} 4",
        "forwarder_account_inside_packets_total{account=\"m\"} 5",
        "forwarder_account_commit_bits_per_second{account=\"m/b\"} 10000000.0",
        "forwarder_link_commit_bits_per_second{ifname=\"transit0\"} 1000000000.0",
        "forwarder_history_up 1.0",
        "forwarder_history_last_interval_timestamp_seconds 1700000000.0",
        "forwarder_program_run_nanoseconds_total 1000",
        "forwarder_sample_rate 1000.0",
        "forwarder_samples_total 30",
        "forwarder_samples_lost_total 2",
        "forwarder_sample_datagrams_total{protocol=\"ipfix\",collector=\"192.0.2.10:4739\"} 12",
        "forwarder_sample_datagram_errors_total{protocol=\"ipfix\",collector=\"192.0.2.10:4739\"} 3",
        "forwarder_interface_info{ifname=\"transit0\",role=\"transit\",mode=\"native\"} 1.0",
    ] {
        assert!(
            text.lines().any(|known| known == line),
            "{line} is not in:\n{text}"
        );
    }
}

#[test]
fn an_account_that_is_no_longer_configured_has_no_series() {
    let text = text(&everything()).expect("text");
    assert!(!text.contains("account=\"old"), "{text}");
    let series = text
        .lines()
        .filter(|line| line.starts_with("forwarder_account_bytes_total"));
    assert_eq!(series.count(), 3 * 6, "m, m/a and m/b, six each");
}

#[test]
fn where_nobody_asks_for_them_there_are_no_series_by_prefix_or_network() {
    let mut context = everything();
    context.metrics = MetricsConfig::default();
    context.live = Arc::default();
    let text = text(&context).expect("text");
    assert!(
        !text.contains("prefix=") && !text.contains("origin_as="),
        "{text}"
    );
}

/// Every metric that a file of Prometheus or Grafana names.
fn named(file: &str) -> std::collections::BTreeSet<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../dist")
        .join(file);
    let text = std::fs::read_to_string(&path).expect("a file that is shipped");
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let names = text
        .split(word)
        .filter(|word| word.starts_with("forwarder_") || word.starts_with("forwarder:"));
    names.map(str::to_string).collect()
}

#[test]
fn dashboard_and_rules_name_metrics_that_exist() {
    let text = text(&everything()).expect("text");
    let sample = |line: &str| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        (!line.starts_with('#') && !name.is_empty()).then(|| name.to_string())
    };
    let mut known: std::collections::BTreeSet<String> = text.lines().filter_map(sample).collect();
    // What the recording rules make is there for the others.
    known.extend(
        named("prometheus/forwarder-recording.yml")
            .into_iter()
            .filter(|name| name.contains(':')),
    );
    for file in [
        "prometheus/forwarder-recording.yml",
        "prometheus/forwarder-alerts.yml",
        "grafana/forwarder.json",
    ] {
        let names = named(file);
        assert!(names.len() > 5, "{file}: {names:?}");
        let unknown: Vec<_> = names.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?} of {known:?}");
    }
}
