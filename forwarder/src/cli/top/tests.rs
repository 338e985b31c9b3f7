//! Screens of known rows, at the sizes that people have.

use std::collections::VecDeque;

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    app::{App, Step, Watched},
    past::Past,
    rates::Listing,
    reading::{Destinations, Detail, Reading},
    screen::{Palette, draw},
    views::View,
};
use crate::api::history::HistoryRow;
use crate::stats::{
    CandidateRow, CounterRow, DropRow, InterfaceRow, RouteRow, RuleRow, StatusRow, accounts::AccountFigures,
    rates::RateRow, status::SourceRow,
};

fn interface(number: u64, seconds: u64) -> InterfaceRow {
    InterfaceRow {
        ifname: format!("transit{number}"),
        ifindex: number as u32,
        port: number as u32,
        role: Some("transit".into()),
        mode: "native".into(),
        // 100 kpps of 1000 octets come in: 99 of 100 forwarded, the rest passed, but for 5 a second dropped.
        received_packets: 100_000 * seconds * number,
        received_bytes: 100_000_000 * seconds * number,
        forwarded_packets: 98_995 * seconds * number,
        forwarded_bytes: 98_995_000 * seconds * number,
        passed_packets: 1_000 * seconds * number,
        dropped_packets: 5 * seconds * number,
        link_sent_packets: Some(1_000_000 * seconds),
        link_sent_bytes: Some(1_100_000_000 * seconds),
        link_speed: Some(10_000_000_000),
        ..InterfaceRow::default()
    }
}

fn rate_to(prefix: &str, packets: u64) -> RateRow {
    RateRow {
        prefix: Some(prefix.into()),
        origin_as: Some("64510".into()),
        neighbour_as: Some("64501".into()),
        prefixes: 1,
        packets_per_second: packets,
        bytes_per_second: packets * 1000,
        milliseconds: 10_000,
        ..RateRow::default()
    }
}

fn counter(name: &str, rate: u64, seconds: u64) -> CounterRow {
    CounterRow {
        prefix: Some(name.into()),
        packets: rate * seconds,
        bytes: rate * seconds * 1000,
        ..CounterRow::default()
    }
}

fn drop_row(reason: &str, verdict: &str, packets: u64) -> DropRow {
    DropRow {
        ifname: "transit1".into(),
        reason: reason.into(),
        verdict: verdict.into(),
        packets,
        bytes: Some(packets * 100),
        help: format!("A sentence that says what {reason} means"),
    }
}

/// What is read after so many seconds of steady traffic.
fn reading(seconds: u64) -> Reading {
    fn at<T>(seconds: u64, rows: Vec<T>) -> Listing<T> {
        Listing {
            at: seconds as f64,
            rows,
        }
    }
    let source = SourceRow {
        kind: "bgp".into(),
        name: "twin".into(),
        state: "live".into(),
        routes_ipv4: 1_012_345,
        routes_ipv6: 201_233,
        updates_per_second: 12,
        ..SourceRow::default()
    };
    Reading {
        at: seconds as f64,
        status: StatusRow {
            version: "0.1.0".into(),
            controller: "running".into(),
            pid: Some(7),
            uptime: Some(3_700),
            prefixes_ipv4: 1_012_345,
            prefixes_ipv6: 201_233,
            sources: vec![source],
            problems: vec!["routes is 93 % full: raise it in [tables]".into()],
            ..StatusRow::default()
        },
        interfaces: at(seconds, vec![interface(1, seconds), interface(2, seconds)]),
        drops: at(
            seconds,
            vec![
                drop_row("bogon-source", "drop", 5 * seconds),
                drop_row("local", "pass", 1_000 * seconds),
                drop_row("ttl-expired", "pass", 77),
            ],
        ),
        next_hops: at(
            seconds,
            vec![CounterRow {
                nexthop: Some("203.0.113.1".into()),
                af: Some("ipv4".into()),
                ifname: Some("transit1".into()),
                state: Some("usable".into()),
                prefix: None,
                ..counter("", 150_000, seconds)
            }],
        ),
        prefixes: Destinations::Rates(vec![
            rate_to("192.0.2.0/24", 80_000),
            rate_to("198.51.100.0/24", 1_000),
            rate_to("2001:db8:1234:5678:9abc:def0:1234:5678/128", 20),
            rate_to("(others)", 5_000),
        ]),
        networks: Destinations::Rates(vec![RateRow {
            prefix: None,
            prefixes: 3,
            ..rate_to("", 81_020)
        }]),
        rules: Some(at(
            seconds,
            vec![RuleRow {
                order: Some(1),
                name: "ntp-amplification".into(),
                origin: "config".into(),
                state: "active".into(),
                action: "drop".into(),
                slot: Some(3),
                packets: 250 * seconds,
                bytes: 125_000 * seconds,
                dropped_packets: 250 * seconds,
                ..RuleRow::default()
            }],
        )),
        accounts: at(
            seconds,
            vec![
                account("members", 30_000, 10_000, seconds),
                account("members/garden-radio", 20_000, 10_000, seconds),
                account("members/library", 10_000, 0, seconds),
            ],
        ),
        detail: None,
    }
}

/// An account that gets and sends so many packets of 1000 octets a second over the edge, and half as many inside.
fn account(name: &str, into: u64, out: u64, seconds: u64) -> CounterRow {
    let figures = AccountFigures {
        account: name.into(),
        commit: (name == "members").then_some(200_000_000),
        in_packets: into * seconds,
        in_bytes: into * 1_000 * seconds,
        out_packets: out * seconds,
        out_bytes: out * 1_000 * seconds,
        inside_bytes: into * 500 * seconds,
        ..AccountFigures::default()
    };
    CounterRow {
        account: Some(figures),
        bytes: (into + out + into / 2) * 1_000 * seconds,
        ..CounterRow::default()
    }
}

fn app() -> App {
    let mut app = App::new(2.0);
    app.take(Ok(reading(100)));
    app.take(Ok(reading(102)));
    app
}

fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, app, Palette { colours: false }))
        .unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| {
        let cells = (0..width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_string()
    };
    (0..height).map(line).collect()
}

fn press(app: &mut App, keys: &str) {
    for key in keys.chars() {
        assert_eq!(app.key(KeyCode::Char(key).into()), Step::Draw, "{key}");
    }
}

#[test]
fn the_first_screen_says_how_it_is_on_80_by_24() {
    let lines = screen(&mut app(), 80, 24);
    assert_eq!(
        lines[..14],
        [
            "forwarder 0.1.0  up 1 h 1 min  every 2 s",
            "in 2.40 Gbit/s 300 kpps; fast path 99.0%, passed 3.00k, dropped 15, lost 0 pps",
            "1,012,345 IPv4 + 201,233 IPv6 prefixes; bgp twin live",
            "problem: routes is 93 % full: raise it in [tables]",
            "1 now 2 links 3 reasons 4 prefixes 5 networks 6 hops 7 rules 8 feeds 9 accounts",
            "interfaces: 2",
            "interface^  in bit/s    pps  out bit/s    pps   load   fast  dropped   lost",
            "transit1        800M   100k      8.80G  1.00M  89.9%  99.0%        5      0",
            "transit2       1.60G   200k      8.80G  1.00M  89.9%  99.0%       10      0",
            "",
            "prefixes: 3",
            "prefix                                      bit/sv    pps  share  origin AS",
            "192.0.2.0/24                                  640M  80.0k  93.0%  64510",
            "198.51.100.0/24                              8.00M  1.00k   1.2%  64510",
        ]
    );
}

#[test]
fn nothing_overlaps_or_is_cut_where_there_is_room_on_200_by_60() {
    let lines = screen(&mut app(), 200, 60);
    let text = lines.join("\n");
    for words in [
        "interface^  role     in bit/s    pps  out bit/s    pps   load     of   fast  passed  dropped   lost",
        "transit1    transit      800M   100k      8.80G  1.00M  89.9%  10.0G  99.0%   1.00k        5      0",
        "64510",
        "203.0.113.1  ipv4  transit1",
        "ntp-amplification",
        "drop     bogon-source",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    assert!(!text.contains('~'), "{text}");
}

#[test]
fn columns_give_way_by_rank_and_words_are_cut_last() {
    let mut app = app();
    press(&mut app, "3");
    let lines = screen(&mut app, 80, 24);
    assert_eq!(
        lines[6..10],
        [
            "interface  verdict  reason         ppsv  bit/s  packets  what it means",
            "transit1   pass     local         1.00k   800k     102k  A sentence that says w~",
            "transit1   drop     bogon-source      5  4.00k      510  A sentence that says w~",
            "transit1   pass     ttl-expired       0      0       77  A sentence that says w~",
        ]
    );
    for (width, height) in [(20, 5), (1, 1), (40, 10), (500, 200)] {
        for view in 1..=9 {
            press(&mut app, &view.to_string());
            screen(&mut app, width, height);
        }
    }
}

#[test]
fn keys_choose_view_order_and_rows() {
    let mut app = app();
    press(&mut app, "4");
    assert_eq!(app.view, View::Prefixes);
    press(&mut app, "<");
    let lines = screen(&mut app, 80, 24);
    assert!(lines[6].starts_with("prefix^"), "{lines:#?}");
    assert!(lines[7].starts_with("192.0.2.0/24"), "{lines:#?}");
    press(&mut app, "r");
    assert!(screen(&mut app, 80, 24)[7].starts_with("2001:db8"));
    press(&mut app, "/51.1");
    let lines = screen(&mut app, 80, 24);
    assert_eq!(lines[5], "prefixes: 1");
    assert!(lines[23].starts_with("/51.1"), "{lines:#?}");
    app.key(KeyCode::Enter.into());
    app.key(KeyCode::Enter.into());
    assert_eq!(app.prefix(), Some("198.51.100.0/24".parse().unwrap()));
    app.key(KeyCode::Esc.into());
    app.key(KeyCode::Esc.into());
    assert_eq!((app.prefix(), app.filter.as_str()), (None, ""));
    app.key(KeyCode::End.into());
    assert_eq!(app.cursor(3), 2);
    app.key(KeyCode::Tab.into());
    assert_eq!(app.view, View::Networks);
    app.key(KeyCode::BackTab.into());
    press(&mut app, "2");
    app.key(KeyCode::Enter.into());
    assert_eq!((app.view, app.filter.as_str()), (View::Reasons, "transit1"));
    assert_eq!(app.key(KeyCode::Char('q').into()), Step::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.key(interrupt), Step::Quit);
}

#[test]
fn accounts_have_what_they_get_and_send_and_how_much_of_it_is_agreed() {
    let mut app = app();
    press(&mut app, "9");
    let lines = screen(&mut app, 80, 24);
    assert_eq!(
        lines[5..10],
        [
            "accounts: 3",
            "account               in bit/sv    pps  out bit/s    pps  share  of commit",
            "members                    240M  30.0k      80.0M  10.0k  18.5%     120.0%",
            "members/garden-radio       160M  20.0k      80.0M  10.0k  13.5%          -",
            "members/library           80.0M  10.0k          0      0   5.1%          -",
        ]
    );
    press(&mut app, ">>");
    assert!(
        screen(&mut app, 80, 24)[6].contains("out bit/sv"),
        "sorted by what goes out"
    );
    press(&mut app, "/library");
    assert_eq!(screen(&mut app, 80, 24)[5], "accounts: 1");
    app.key(KeyCode::Esc.into());
    let mut none = reading(104);
    none.accounts.rows.clear();
    app.take(Ok(none));
    assert!(screen(&mut app, 80, 24)[6].starts_with("no accounts: the configuration has no [[account]]"));
}

#[test]
fn a_pause_keeps_the_figures_and_its_end_shows_the_newest() {
    let mut app = app();
    press(&mut app, " ");
    let before = screen(&mut app, 80, 24);
    assert!(before[0].ends_with("PAUSED"), "{before:#?}");
    let mut faster = reading(104);
    faster.prefixes = Destinations::Rates(Vec::new());
    app.take(Ok(faster));
    app.take(Ok(reading(106)));
    assert_eq!(screen(&mut app, 80, 24), before);
    press(&mut app, " ");
    let readings = app.shown.as_ref().unwrap();
    let before = readings.before.as_ref().map(|reading| reading.at);
    assert_eq!((before, readings.now.at), (Some(104.0), 106.0));
}

#[test]
fn a_controller_that_is_away_leaves_the_last_figures_and_says_so() {
    let mut app = app();
    let before = screen(&mut app, 80, 24);
    app.take(Err("no controller answers".into()));
    let lines = screen(&mut app, 80, 24);
    assert_eq!(lines[3], "NO NEWER FIGURES: no controller answers");
    assert_eq!((&lines[..3], &lines[4..]), (&before[..3], &before[4..]));
    // The rate is of all the time since.
    app.take(Ok(reading(112)));
    // Below them stand counts.
    assert_eq!(screen(&mut app, 80, 24)[..16], before[..16]);
}

#[test]
fn counters_made_anew_show_no_rate() {
    let mut app = app();
    app.take(Ok(reading(1)));
    let lines = screen(&mut app, 80, 24);
    assert_eq!(
        lines[7],
        "transit1           -      -          -      -      -      -        -      -"
    );
    assert_eq!(lines[1], "rates are known from the second reading on");
}

#[test]
fn a_prefix_is_shown_with_its_next_hops_and_what_sources_say() {
    let prefix = "192.0.2.0/24".parse().unwrap();
    let detailed = |seconds: u64| Reading {
        detail: Some(Detail {
            prefix,
            routes: Listing {
                at: seconds as f64,
                rows: vec![RouteRow {
                    prefix: "192.0.2.0/24".into(),
                    via: Some("203.0.113.1".into()),
                    ifname: Some("transit1".into()),
                    state: "usable".into(),
                    next_hops: 1,
                    weight: 1,
                    protocol: "bird".into(),
                    packets: Some(1_000 * seconds),
                    bytes: Some(1_250_000 * seconds),
                    ..RouteRow::default()
                }],
            },
            candidates: Some(vec![CandidateRow {
                by: "bgp".into(),
                peer: Some("twin".into()),
                best: true,
                why: "won: highest LOCAL_PREF".into(),
                next_hops: "10.255.0.1".into(),
                resolved: Some("via 203.0.113.1 dev transit1".into()),
                as_path: Some("64500 64501".into()),
                ..CandidateRow::default()
            }]),
            past: Past::Samples {
                until: 1_750_086_400,
                rows: (0..288)
                    .map(|n| HistoryRow {
                        time: 1_750_000_000 + n * 300,
                        milliseconds: 300_000,
                        samples: 1,
                        out_bytes: n as u64 * 37_500_000,
                        out_bytes_per_second_most: n as u64 * 125_000,
                        ..HistoryRow::default()
                    })
                    .collect(),
            },
        }),
        ..reading(seconds)
    };
    let mut app = App::new(2.0);
    app.watched = Some(Watched {
        prefix,
        rates: VecDeque::new(),
        scroll: 0,
    });
    app.take(Ok(detailed(10)));
    app.take(Ok(detailed(12)));
    let text = screen(&mut app, 80, 24).join("\n");
    for words in [
        "192.0.2.0/24\nnow 10.0 Mbit/s 1.00 kpps; most 10 Mbit/s in 1 readings\n",
        "the past day: mean 143.5 Mbit/s, most 287 Mbit/s of a sample\n",
        "via 203.0.113.1 dev transit1: usable\n",
        "counted 12,000 packets, 15.0 MB; by bird; no backup",
        "* bgp twin: 10.255.0.1 -> via 203.0.113.1 dev transit1\n    won: highest LOCAL_PREF\n    AS path 64500 64501",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
}

#[test]
fn words_from_outside_cannot_move_the_cursor() {
    let mut app = app();
    let mut hostile = reading(104);
    hostile.status.problems = vec!["\x1b[2J\x07wrong\nline".into()];
    app.take(Ok(hostile));
    let text = screen(&mut app, 80, 24).join("\n");
    assert!(!text.contains('\x1b') && !text.contains('\x07'), "{text}");
}

#[test]
fn without_a_controllers_rates_those_of_two_listings_are_shown() {
    let listing = |seconds: u64| Reading {
        prefixes: Destinations::Counted(Listing {
            at: seconds as f64,
            rows: vec![
                counter("198.51.100.0/24", 1_000, seconds),
                counter("(withdrawn)", 7, 1),
                counter("192.0.2.0/24", 99_000, seconds),
            ],
        }),
        ..reading(seconds)
    };
    let mut app = App::new(2.0);
    app.take(Ok(listing(10)));
    app.take(Ok(listing(12)));
    press(&mut app, "4");
    let lines = screen(&mut app, 80, 24);
    assert_eq!(lines[5], "prefixes: 2");
    assert!(
        lines[7].starts_with("192.0.2.0/24       792M  99.0k  33.3%"),
        "{lines:#?}"
    );
}
