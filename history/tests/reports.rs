//! Reports against figures that were worked out by hand.

mod common;

use common::{Directory, prefix};
use forwarder_history::{
    Direction, History, Interval, Retention, Sample, Series, State, Work,
    report::{
        Trouble,
        calendar::{Month, Period, Zone},
        capacity, commit,
        names::{By, Traffic},
        p95, peering,
    },
};

const KEEP: Retention = Retention { days: 400 };
/// Octets in five minutes at 1 Mbit/s.
const MEGABIT: u64 = 37_500_000 / 1_000 * 1_000;
/// 2026-02-01T00:00:00Z
const FEBRUARY: i64 = 1_769_904_000;
/// 2026-03-01T00:00:00Z
const MARCH: i64 = FEBRUARY + 28 * 86_400;

fn interface(ifname: &str, direction: Direction) -> Series {
    Series::Interface {
        ifname: ifname.into(),
        direction,
    }
}

fn account(from: &str, to: &str, outside: bool) -> Series {
    Series::Account {
        from: from.into(),
        to: to.into(),
        outside,
    }
}

fn write(history: &mut History, start: i64, seconds: u64, counted: &[(Series, u64)]) {
    let samples = counted
        .iter()
        .map(|(series, bytes)| Sample {
            series: history.series_id(series).expect("it works"),
            packets: bytes / 1_000,
            bytes: *bytes,
        })
        .collect();
    let interval = Interval {
        start,
        milliseconds: seconds * 1_000,
        samples,
    };
    history.commit(&interval, State::Same).expect("it works");
}

fn month(word: &str, zone: &str) -> (Period, Zone) {
    let zone = Zone::of(zone).expect("it works");
    (word.parse::<Month>().expect("it works").period(&zone), zone)
}

fn all(by: By) -> p95::Question {
    p95::Question {
        by,
        names: vec![],
        top: None,
        traffic: Traffic::Outside,
    }
}

#[test]
fn a_month_in_which_every_rate_comes_once_is_billed_at_the_rate_below_the_highest_twentieth() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    // February 2026 has 28 * 288 = 8,064 samples. In: 1 to 8,064 Mbit/s, each once, in a strange order (5 is prime to 8,064).
    // Out: 10,000 Mbit/s in 403 samples, and 4 in all others. 8,064 / 20 = 403.2, so 403 are discarded:
    // in leaves 8,064 - 403 = 7,661 Mbit/s, out leaves 4.
    for n in 0..8_064i64 {
        let rate = (n * 5 % 8_064) as u64 + 1;
        let out = if n % 20 == 7 { 10_000 } else { 4 };
        let counted = [
            (interface("transit0", Direction::In), rate * MEGABIT),
            (interface("transit0", Direction::Out), out * MEGABIT),
        ];
        write(&mut history, FEBRUARY + n * 300, 300, &counted);
    }
    // Neither the month before nor the one behind has anything to say.
    for n in 0..40 {
        for at in [FEBRUARY - 300 - n * 300, MARCH + n * 300] {
            write(
                &mut history,
                at,
                300,
                &[(interface("transit0", Direction::In), 99_999 * MEGABIT)],
            );
        }
    }
    let (period, zone) = month("2026-02", "UTC");
    let report = |packed: &str| {
        let reader = History::open_read(directory.path()).unwrap();
        let report = p95::p95(&reader, &all(By::Interface), &period, &zone, MARCH + 86_400).unwrap();
        let row = &report.rows[0];
        assert_eq!((row.samples, row.expected), (8_064, 8_064), "{packed}");
        assert_eq!((row.gaps, row.averaged, row.left_out), (0, 0, 0));
        assert_eq!((row.p95_in, row.p95_out), (7_661_000_000, 4_000_000));
        assert_eq!((row.p95, row.direction), (7_661_000_000, Direction::In));
        assert_eq!((row.peak_in, row.peak_out), (8_064_000_000, 10_000_000_000));
        // 8,064 * 8,065 / 2 = 32,518,080 Mbit/s for five minutes.
        assert_eq!(row.bytes_in, 32_518_080 * MEGABIT);
    };
    report("running");
    while history.maintain(MARCH).unwrap() != Work::Nothing {}
    report("packed");

    // One of the highest twentieth more, and it is billed.
    let at = FEBRUARY + 8_063 * 300 + 100;
    write(
        &mut history,
        at,
        300,
        &[(interface("transit0", Direction::Out), 10_000 * MEGABIT)],
    );
    let reader = History::open_read(directory.path()).unwrap();
    let report = p95::p95(&reader, &all(By::Interface), &period, &zone, MARCH).unwrap();
    assert_eq!(report.rows[0].samples, 8_065);
    assert_eq!(report.rows[0].p95, 10_000_000_000);
}

#[test]
fn a_month_by_the_clock_of_a_place_has_its_hours_where_the_clock_changes_and_states_its_gaps() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let (period, zone) = month("2026-03", "Europe/Zurich");
    assert_eq!(
        (period.from, period.to),
        (MARCH - 3_600, MARCH + 31 * 86_400 - 7_200)
    );
    // A day without a controller, of which the first ten hours were then counted in one piece.
    let away = MARCH + 10 * 86_400;
    let mut at = MARCH - 86_400;
    while at < period.to + 86_400 {
        if at == away {
            let octets = 120 * 7 * MEGABIT;
            write(
                &mut history,
                at,
                36_000,
                &[(interface("t", Direction::In), octets)],
            );
            at += 86_400;
            continue;
        }
        write(&mut history, at, 300, &[(interface("t", Direction::In), MEGABIT)]);
        at += 300;
    }
    let reader = History::open_read(directory.path()).unwrap();
    let report = p95::p95(&reader, &all(By::Interface), &period, &zone, period.to).unwrap();
    let row = &report.rows[0];
    // 31 days but an hour; 14 hours are missing; 120 samples have a mean of 7 Mbit/s.
    assert_eq!(row.expected, 31 * 288 - 12);
    assert_eq!(row.samples, 31 * 288 - 12 - 14 * 12);
    assert_eq!((row.averaged, row.gaps, row.gap_seconds), (120, 1, 14 * 3_600));
    assert_eq!((row.p95, row.peak_in), (1_000_000, 7_000_000));
    let gap = report.samples.gaps[0];
    assert_eq!(zone.written(gap.from), "2026-03-11 11:00 CET");
}

#[test]
fn an_account_has_what_its_parts_exchange_with_others_and_not_what_they_exchange_among_themselves() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    for n in 0..288 {
        let counted = [
            (account("", "members/a", true), MEGABIT),
            (account("members/a", "", true), 2 * MEGABIT),
            (account("", "members/b", true), 10 * MEGABIT),
            (account("members/a", "members/b", true), 50 * MEGABIT),
            (account("members/a", "servers", false), 400 * MEGABIT),
            (account("members-of-old", "", true), 7 * MEGABIT),
        ];
        write(&mut history, FEBRUARY + n * 300, 300, &counted);
    }
    let reader = History::open_read(directory.path()).unwrap();
    let (period, zone) = month("2026-02", "UTC");
    let bill = |names: &[&str], traffic| {
        let question = p95::Question {
            names: names.iter().map(|name| name.to_string()).collect(),
            traffic,
            ..all(By::Account)
        };
        let report = p95::p95(&reader, &question, &period, &zone, MARCH);
        report.map(|report| {
            report
                .rows
                .into_iter()
                .map(|row| (row.name, row.p95_in / 1_000_000, row.p95_out / 1_000_000))
                .collect::<Vec<_>>()
        })
    };
    let named = |name: &str, received, sent| (name.to_string(), received, sent);
    assert_eq!(
        bill(&[], Traffic::Outside).unwrap(),
        [
            named("members", 11, 2),
            named("members-of-old", 0, 7),
            named("members/a", 1, 52),
            named("members/b", 60, 0),
            named("servers", 0, 0)
        ]
    );
    assert_eq!(
        bill(&["members"], Traffic::Inside).unwrap(),
        [named("members", 0, 400)]
    );
    assert_eq!(
        bill(&["members"], Traffic::All).unwrap(),
        [named("members", 11, 402)]
    );
    let error = bill(&["member"], Traffic::Outside).unwrap_err().to_string();
    assert_eq!(
        error,
        "the history has no account `member`: it has members, members-of-old, members/a, members/b, servers"
    );
}

#[test]
fn a_time_without_data_is_said_to_be_without_and_one_to_come_to_be_to_come() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let ask = |directory: &Directory, word, now| {
        let reader = History::open_read(directory.path()).unwrap();
        let (period, zone) = month(word, "UTC");
        p95::p95(&reader, &all(By::Interface), &period, &zone, now).unwrap_err()
    };
    let empty = ask(&directory, "2026-02", MARCH);
    assert!(matches!(&empty, Trouble::Nothing { .. }), "{empty}");
    write(&mut history, FEBRUARY, 300, &[]);
    let before = ask(&directory, "2026-01", MARCH).to_string();
    assert_eq!(
        before,
        "the history has nothing of 2026-01: it goes from 2026-02-01 00:00 UTC to 2026-02-01 00:05 UTC"
    );
    let future = ask(&directory, "2026-04", MARCH);
    assert_eq!(future.to_string(), "2026-04 has not begun");
    // This month, which is not over: it is measured by what it could have until now.
    let reader = History::open_read(directory.path()).unwrap();
    let (period, zone) = month("2026-02", "UTC");
    write(
        &mut history,
        FEBRUARY + 300,
        300,
        &[(interface("t", Direction::In), 1)],
    );
    drop(reader);
    let reader = History::open_read(directory.path()).unwrap();
    let report = p95::p95(&reader, &all(By::Interface), &period, &zone, FEBRUARY + 3_600).unwrap();
    assert_eq!(
        (
            report.rows[0].samples,
            report.rows[0].expected,
            report.samples.over
        ),
        (2, 12, false)
    );
    // No carrier is known.
    let error = p95::p95(&reader, &all(By::Carrier), &period, &zone, MARCH).unwrap_err();
    assert_eq!(error.to_string(), "the history has no carrier at all");
}

#[test]
fn the_largest_prefixes_and_networks_are_found_among_many() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    for n in 0..20 {
        let counted: Vec<_> = (0..500u32)
            .flat_map(|p| {
                Direction::BOTH.map(|direction| (prefix(p, direction), u64::from(p * 7 % 500) * MEGABIT))
            })
            .chain([(
                Series::Unattributed {
                    direction: Direction::Out,
                },
                17,
            )])
            .collect();
        write(&mut history, FEBRUARY + n * 300, 300, &counted);
    }
    let reader = History::open_read(directory.path()).unwrap();
    let (period, zone) = month("2026-02", "UTC");
    let question = p95::Question {
        top: Some(2),
        ..all(By::Prefix)
    };
    let report = p95::p95(&reader, &question, &period, &zone, MARCH).unwrap();
    assert_eq!(report.unattributed, 20 * 17);
    // 7 * 357 = 2,499: 499 Mbit/s; 7 * 214 = 1,498: 498.
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| (row.name.clone(), row.p95 / 1_000_000))
        .collect();
    let name = |p| prefix(p, Direction::In).name();
    assert_eq!(rows, [(name(357), 499), (name(214), 498)]);
    let question = p95::Question {
        names: vec![name(214)],
        ..all(By::Prefix)
    };
    assert_eq!(
        p95::p95(&reader, &question, &period, &zone, MARCH).unwrap().rows[0].p95_in,
        498_000_000
    );
    for (by, name, words) in [
        (By::Prefix, "nonsense", "neither a prefix nor an address"),
        (By::Prefix, "10.0.0.0/8", "nothing was ever counted for it"),
        (By::OriginAs, "64500", "nothing was ever counted for it"),
        (By::OriginAs, "nonsense", "is no AS number"),
    ] {
        let question = p95::Question {
            names: vec![name.to_string()],
            ..all(by)
        };
        let error = p95::p95(&reader, &question, &period, &zone, MARCH)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Two links of a bond; `a` grows by 10 Mbit/s each day from 100, `b` stays at 50. Every hundredth sample is a burst.
fn growing(directory: &Directory, days: i64) -> i64 {
    let mut history = History::open(directory.path(), KEEP).expect("it works");
    for ifname in ["a", "b"] {
        let series = interface(ifname, Direction::In);
        history
            .describe(&series, "speed", "10000000000")
            .expect("it works");
    }
    for n in 0..days * 288 {
        let day = (n / 288) as u64;
        let burst = if n % 100 == 0 { 9_000 } else { 0 };
        let counted = [
            (interface("a", Direction::In), (100 + 10 * day + burst) * MEGABIT),
            (interface("b", Direction::In), 50 * MEGABIT),
        ];
        write(&mut history, FEBRUARY + n * 300, 300, &counted);
    }
    FEBRUARY + days * 86_400
}

#[test]
fn a_link_that_grows_is_full_on_the_day_it_will_be_and_one_that_does_not_never() {
    let directory = Directory::new();
    let now = growing(&directory, 30);
    let reader = History::open_read(directory.path()).unwrap();
    let zone = Zone::of("UTC").unwrap();
    let mut question = capacity::Question {
        names: vec![],
        speeds: vec![],
        bonds: vec![("bond0".into(), vec!["a".into(), "b".into()])],
        percent: 8.0,
        days: 30,
    };
    let report = capacity::capacity(&reader, &question, &zone, now).unwrap();
    let row = |report: &capacity::Report, name: &str| {
        let mut rows = report.rows.iter();
        rows.find(|row| row.ifname == name && row.direction == Direction::In)
            .unwrap()
            .clone()
    };
    let a = row(&report, "a");
    // 8 % of 10 Gbit/s are 800 Mbit/s: 100 + 10 * 70, so day 70 of those that began on the first of February.
    assert_eq!(
        (a.days, a.growth_per_day, a.outlook),
        (30, Some(10_000_000.0), "growing")
    );
    assert_eq!(a.reached.as_deref(), Some("2026-04-12"));
    assert_eq!(
        (a.earliest, a.latest),
        (Some("2026-04-12".into()), Some("2026-04-12".into()))
    );
    assert_eq!(a.peak, (100 + 290 + 9_000) * 1_000_000);
    assert_eq!(a.bond.as_deref(), Some("bond0"));
    let b = row(&report, "b");
    assert_eq!((b.outlook, b.reached), ("no-growth", None));
    let bond = row(&report, "bond0");
    assert_eq!(bond.speed, Some(20_000_000_000));
    let sum = a.share_percent.unwrap() + b.share_percent.unwrap();
    assert!((sum - 100.0).abs() < 0.02, "{sum}");
    // a: 95th percentile of 100 to 390 with bursts; b: 50.
    let expected = (a.p95 as f64 / ((a.p95 + b.p95) as f64 / 2.0) * 100.0).round() / 100.0;
    assert_eq!(bond.imbalance, Some(expected));

    question.percent = 1.0;
    let report = capacity::capacity(&reader, &question, &zone, now).unwrap();
    assert_eq!(row(&report, "a").outlook, "reached");
    // Counted twice, or under one name with another.
    for (bonds, words) in [
        (
            &[("bond0", &["a", "a"][..])][..],
            "a is twice among the members of bond0",
        ),
        (&[("a", &["a", "b"])], "a cannot be a member of itself"),
        (
            &[("bond0", &["a"]), ("bond1", &["b", "a"])],
            "a is in bond0 and in bond1",
        ),
        (&[("bond0", &["a"]), ("bond0", &["b"])], "bond0 is given twice"),
    ] {
        let bond = |(bond, members): &(&str, &[&str])| {
            let members = members.iter().map(|member| member.to_string());
            (bond.to_string(), members.collect())
        };
        question.bonds = bonds.iter().map(bond).collect();
        let why = capacity::capacity(&reader, &question, &zone, now)
            .unwrap_err()
            .to_string();
        assert!(why.starts_with(words), "{why}");
    }
    question.bonds = vec![];
    question.speeds = vec![("c".into(), 1)];
    assert!(capacity::capacity(&reader, &question, &zone, now).is_err());
    question.speeds = vec![];
    question.days = 7;
    let report = capacity::capacity(&reader, &question, &zone, now).unwrap();
    assert_eq!(row(&report, "a").outlook, "too-few-days");
}

#[test]
fn what_was_contracted_is_held_against_what_came_with_the_times_that_prove_it() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    history
        .describe(&interface("t", Direction::In), "commit", "100000000")
        .unwrap();
    // 150 Mbit/s but for an hour of 40 that crosses the end of February, with ten minutes of 20 in it.
    for n in -288..288 {
        let low = if (-2..0).contains(&n) {
            20
        } else if (-6..6).contains(&n) {
            40
        } else {
            150
        };
        let counted = [
            (interface("t", Direction::In), low * MEGABIT),
            (interface("t", Direction::Out), 200 * MEGABIT),
        ];
        write(&mut history, MARCH + n * 300, 300, &counted);
    }
    let reader = History::open_read(directory.path()).unwrap();
    let zone = Zone::of("Europe/Zurich").unwrap();
    let utc = Zone::of("UTC").unwrap();
    let mut question = commit::Question {
        by: By::Interface,
        names: vec![],
        commits: vec![],
        from: "2026-02".parse().unwrap(),
        to: "2026-03".parse().unwrap(),
        longest: 3,
        curves: false,
    };
    let report = commit::commit(&reader, &question, &utc, MARCH + 40 * 86_400).unwrap();
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| {
            (
                row.period.as_str(),
                row.direction,
                row.below,
                row.above,
                row.samples,
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("2026-02", Direction::In, 6, 282, 288),
            ("2026-02", Direction::Out, 0, 288, 288),
            ("2026-03", Direction::In, 6, 282, 288),
            ("2026-03", Direction::Out, 0, 288, 288)
        ]
    );
    assert_eq!(report.rows[0].above_percent, Some(97.92));
    assert_eq!(report.shortfalls.len(), 1);
    let evidence = &commit::commit(&reader, &question, &zone, MARCH + 40 * 86_400)
        .unwrap()
        .shortfalls[0];
    assert_eq!(
        (&*evidence.from, &*evidence.to, evidence.seconds),
        ("2026-03-01T00:30:00+01:00", "2026-03-01T01:30:00+01:00", 3_600)
    );
    // Ten of 40 and two of 20.
    assert_eq!((evidence.lowest, evidence.mean), (20_000_000, 440_000_000 / 12));
    question.commits = vec![("t".into(), 1_000)];
    assert_eq!(
        commit::commit(&reader, &question, &utc, MARCH)
            .unwrap()
            .shortfalls
            .len(),
        0
    );
    // Months without samples are there, and say that they have none; those to come are not.
    question.commits = vec![];
    question.from = "2026-01".parse().unwrap();
    question.to = "2026-09".parse().unwrap();
    let report = commit::commit(&reader, &question, &utc, MARCH + 40 * 86_400).unwrap();
    let rows = report.rows.iter().filter(|row| row.direction == Direction::In);
    let rows = rows.map(|row| {
        (
            &*row.period,
            row.p95.is_some(),
            row.peak.is_some(),
            row.samples,
            row.expected,
        )
    });
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [
            ("2026-01", false, false, 0, 31 * 288),
            ("2026-02", true, true, 288, 28 * 288),
            ("2026-03", true, true, 288, 31 * 288),
            ("2026-04", false, false, 0, 9 * 288)
        ]
    );
    question.from = "2025-01".parse().unwrap();
    question.to = "2025-03".parse().unwrap();
    let error = commit::commit(&reader, &question, &utc, MARCH).unwrap_err();
    assert!(matches!(error, Trouble::Nothing { .. }), "{error}");
}

#[test]
fn what_would_move_to_a_peer_is_what_carriers_take_there_and_what_they_would_bill_without() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    for (ifname, role) in [
        ("t0", "transit"),
        ("t1", "transit"),
        ("ix", "peer"),
        ("core", "core"),
    ] {
        history
            .describe(&interface(ifname, Direction::In), "role", role)
            .unwrap();
    }
    let out = Direction::Out;
    let origin = |asn, direction| Series::OriginAs { asn, direction };
    for n in 0..100 {
        let via = |ifname: &str| Series::OriginAsVia {
            asn: 64_501,
            ifname: ifname.into(),
            direction: out,
        };
        let counted = [
            (interface("t0", out), 100 * MEGABIT),
            (interface("t1", out), 60 * MEGABIT),
            (interface("t0", Direction::In), 80 * MEGABIT),
            (interface("ix", out), 500 * MEGABIT),
            // Over everything there is more of it than the carriers carry.
            (origin(64_501, out), 325 * MEGABIT),
            (origin(64_501, Direction::In), 900 * MEGABIT),
            (via("t0"), 10 * MEGABIT),
            (via("t1"), 20 * MEGABIT),
            (via("t0/t1"), 10 * MEGABIT),
            (via("ix"), 280 * MEGABIT),
            (via("ix/t1"), 5 * MEGABIT),
            (origin(64_502, out), 90 * MEGABIT),
            // Connected, static, local: more than all the rest.
            (origin(0, out), 7_000 * MEGABIT),
            (origin(0, Direction::In), 6_000 * MEGABIT),
            (
                Series::NeighbourAs {
                    asn: 64_510,
                    direction: out,
                },
                400 * MEGABIT,
            ),
        ];
        write(&mut history, FEBRUARY + n * 300, 300, &counted);
    }
    let reader = History::open_read(directory.path()).unwrap();
    let (period, zone) = month("2026-02", "UTC");
    let ask = |asn, top| {
        let question = peering::Question { asn, top };
        peering::peering(&reader, &question, &period, &zone, MARCH)
    };
    let report = ask(Some(64_501), 10).unwrap();
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| {
            (
                row.ifname.as_deref(),
                row.direction,
                row.p95 / 1_000_000,
                row.share_percent,
                row.carrier_p95.map(|rate| rate / 1_000_000),
                row.carrier_p95_without.map(|rate| rate / 1_000_000),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            (None, Direction::In, 900, None, Some(80), None),
            // 10 + 20 + 10 of the carriers' 160.
            (None, out, 325, Some(25.0), Some(160), Some(120)),
            (Some("ix"), out, 280, Some(56.0), Some(500), Some(220)),
            (Some("ix/t1"), out, 5, Some(0.89), Some(560), Some(555)),
            (Some("t0"), out, 10, Some(10.0), Some(100), Some(90)),
            (Some("t0/t1"), out, 10, Some(6.25), Some(160), Some(150)),
            (Some("t1"), out, 20, Some(33.33), Some(60), Some(40)),
        ]
    );
    assert_eq!(report.rows[1].carrier_bytes, Some(100 * 40 * MEGABIT));

    // What has no AS is the most, and no network.
    let largest = ask(None, 2).unwrap();
    let rows: Vec<_> = largest
        .rows
        .iter()
        .map(|row| (row.by, row.asn, row.direction, row.carrier_p95_without.is_some()))
        .collect();
    assert_eq!(
        rows,
        [
            ("origin-as", 64_501, Direction::In, false),
            ("origin-as", 64_501, out, true),
            ("origin-as", 64_502, Direction::In, false),
            // By which way it goes is not recorded.
            ("origin-as", 64_502, out, false),
            ("neighbour-as", 64_510, Direction::In, false),
            ("neighbour-as", 64_510, out, false),
        ]
    );
    let most = |row: &peering::Row| row.share_percent.unwrap_or(0.0);
    assert!(largest.rows.iter().all(|row| most(row) <= 100.0));
    let unknown = &largest.unknown[..];
    let [unknown] = unknown else { panic!("{unknown:?}") };
    assert_eq!(
        (unknown.by, unknown.bytes_in, unknown.bytes_out),
        ("origin-as", 600_000 * MEGABIT, 700_000 * MEGABIT)
    );
    let error = ask(Some(0), 1).unwrap_err().to_string();
    assert!(error.starts_with("AS0 is what has no AS path"), "{error}");
    assert!(
        ask(Some(1), 1)
            .unwrap_err()
            .to_string()
            .contains("nothing was ever counted")
    );
}

#[test]
fn a_month_without_a_whole_sample_says_since_when_there_is_a_history_and_when_the_first_will_be_there() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let ask = |word: &str, now| {
        let reader = History::open_read(directory.path()).unwrap();
        let (period, zone) = month(word, "UTC");
        let report = p95::p95(&reader, &all(By::Interface), &period, &zone, now);
        report
            .map(|report| report.rows[0].samples)
            .map_err(|error| error.to_string())
    };
    let noon = FEBRUARY + 43_200;
    assert_eq!(
        ask("2026-02", noon + 20).unwrap_err(),
        "the history has nothing of 2026-02: it is still empty; while the controller runs, the first is there by 2026-02-01 12:10 UTC"
    );
    // Of ten seconds each, from 12:03:20 on.
    for n in 0..4 {
        let counted = [(interface("t", Direction::In), MEGABIT)];
        write(&mut history, noon + 200 + n * 10, 10, &counted);
    }
    assert_eq!(
        ask("2026-02", noon + 243).unwrap_err(),
        "2026-02 has no sample of five minutes: the history begins at 2026-02-01 12:03 UTC, and has 4 intervals of 40 s together; while \
         the controller runs, the first is there by 2026-02-01 12:10 UTC"
    );
    // The controller ended.
    let later = ask("2026-02", noon + 7_200).unwrap_err();
    assert!(
        later.ends_with("4 intervals of 40 s together; none is long enough"),
        "{later}"
    );
    for n in 4..40 {
        write(&mut history, noon + 200 + n * 10, 10, &[]);
    }
    assert_eq!(ask("2026-02", noon + 600), Ok(1));
    for n in 40..100 {
        write(&mut history, noon + 200 + n * 10, 10, &[]);
    }
    assert_eq!(ask("2026-02", noon + 1_200), Ok(3));
}

#[test]
fn what_is_agreed_stands_beside_what_is_billed() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    for (series, commit) in [
        (account("members/a", "", true), "2000000"),
        (account("members/b", "", true), "0"),
        (interface("t", Direction::In), "7000000"),
    ] {
        history.describe(&series, "commit", commit).unwrap();
    }
    write(
        &mut history,
        FEBRUARY,
        300,
        &[(interface("t", Direction::In), MEGABIT)],
    );
    let reader = History::open_read(directory.path()).unwrap();
    let (period, zone) = month("2026-02", "UTC");
    let commits = |by| -> Vec<(String, Option<u64>)> {
        let report = p95::p95(&reader, &all(by), &period, &zone, MARCH).unwrap();
        let rows = report.rows.into_iter();
        rows.map(|row| (row.name, row.commit)).collect()
    };
    // Those that have counted nothing yet are there, and what is nought is not agreed.
    assert_eq!(
        commits(By::Account),
        [
            ("members".into(), None),
            ("members/a".into(), Some(2_000_000)),
            ("members/b".into(), None)
        ]
    );
    assert_eq!(commits(By::Interface), [("t".into(), Some(7_000_000))]);
}

#[test]
fn a_question_that_looks_through_more_than_it_may_is_refused_whatever_it_is() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    for n in 0..600 {
        let counted: Vec<_> = (0..50).map(|p| (prefix(p, Direction::Out), MEGABIT)).collect();
        write(&mut history, FEBRUARY + n * 300, 300, &counted);
    }
    // Two days are over: packed and not.
    while history.maintain(FEBRUARY + 3 * 86_400).unwrap() != Work::Nothing {}
    let (period, zone) = month("2026-02", "UTC");
    let question = p95::Question {
        top: Some(3),
        ..all(By::Prefix)
    };
    let ask = |limit| {
        let reader = History::open_read(directory.path()).unwrap().limited(limit);
        p95::p95(&reader, &question, &period, &zone, MARCH).map(|report| report.rows.len())
    };
    // Intervals; 30,000 samples for the sums; the curves, and the same once more for them.
    assert_eq!(ask(200_000).unwrap(), 3);
    for limit in [0, 599, 20_000, 33_000] {
        let error = ask(limit).unwrap_err().to_string();
        assert!(error.starts_with("that is more than"), "{limit}: {error}");
    }
}

#[test]
fn what_an_interface_received_is_whole_frames_whatever_its_driver_counts_and_its_drivers_while_the_program_was_away()
 {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let forwarded = |ifname: &str, direction| Series::Forwarded {
        ifname: ifname.into(),
        direction,
    };
    let reason = |ifname: &str, reason: &str| Series::Reason {
        ifname: ifname.into(),
        reason: reason.into(),
    };
    for ifname in ["veth", "nic", "bare"] {
        let series = interface(ifname, Direction::In);
        history.describe(&series, "role", "transit").unwrap();
    }
    for n in 0..288 {
        // The program was attached to the first two for the second half of the day. Frames of 74 octets: veth leaves out 14 of them, the
        // other counts 4 of FCS besides.
        let at = |octets: u64| if n < 144 { 0 } else { octets };
        let counted = [
            (interface("veth", Direction::In), 60 * MEGABIT),
            (forwarded("veth", Direction::In), at(70 * MEGABIT)),
            (reason("veth", "no-route"), at(3 * MEGABIT)),
            (reason("veth", "bogon-source"), at(MEGABIT)),
            (interface("veth", Direction::Out), 9 * MEGABIT),
            (forwarded("veth", Direction::Out), at(5 * MEGABIT)),
            (interface("nic", Direction::In), 78 * MEGABIT),
            (forwarded("nic", Direction::In), at(74 * MEGABIT)),
            // What leaves by XDP is not counted.
            (interface("nic", Direction::Out), 2 * MEGABIT),
            (forwarded("nic", Direction::Out), at(50 * MEGABIT)),
            (interface("bare", Direction::In), 10 * MEGABIT),
            (interface("bare", Direction::Out), 20 * MEGABIT),
        ];
        write(&mut history, FEBRUARY + n * 300, 300, &counted);
    }
    let reader = History::open_read(directory.path()).unwrap();
    let (period, zone) = month("2026-02", "UTC");
    for by in [By::Interface, By::Carrier] {
        let report = p95::p95(&reader, &all(by), &period, &zone, MARCH).unwrap();
        let half = |octets: u64| octets / MEGABIT / 144;
        let rows = report.rows.iter();
        let rows = rows.map(|row| (&*row.name, half(row.bytes_in), half(row.bytes_out)));
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [
                ("bare", 20, 40),
                ("nic", 78 + 74, 2 + 50),
                ("veth", 60 + 74, 9 + 9)
            ]
        );
    }
    // A bond is what its members are, each by itself.
    let question = capacity::Question {
        names: vec![],
        speeds: vec![],
        bonds: vec![("bond0".into(), vec!["nic".into(), "veth".into()])],
        percent: 80.0,
        days: 30,
    };
    let now = FEBRUARY + 86_400;
    let report = capacity::capacity(&reader, &question, &zone, now).unwrap();
    assert_eq!(report.rows[0].ifname, "bond0");
    assert_eq!(report.rows[0].peak, 148_000_000);
}
