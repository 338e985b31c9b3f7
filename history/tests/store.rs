//! What is written is what is read, whatever happens in between.

mod common;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, process::Command};

use common::{Directory, Random, everything, interval, prefix};
use forwarder_history::{
    Direction, Error, FILE, History, Interval, Kind, Retention, Sample, Series, State, Value, Which, Work,
};

const KEEP: Retention = Retention { days: 400 };
const DAY: i64 = 86_400;

fn finish(history: &mut History, now: i64) -> Vec<Work> {
    let mut done = Vec::new();
    loop {
        match history.maintain(now).expect("a slice") {
            Work::Nothing => return done,
            work => done.push(work),
        }
    }
}

#[test]
fn every_sample_comes_back_from_the_running_day_while_it_is_packed_and_from_the_packed_one() {
    let directory = Directory::new();
    let mut random = Random(11);
    let mut expected: BTreeMap<Kind, Vec<(i64, String, u64, u64)>> = BTreeMap::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    for n in 0..700 {
        let mut counted = Vec::new();
        for _ in 0..40 {
            // Few often, most seldom; more than one block of numbers.
            let number = random.below(9_000) as u32 / (1 + random.below(200) as u32);
            let direction = Direction::BOTH[random.below(2) as usize];
            counted.push((
                prefix(number, direction),
                random.below(1 << 20),
                random.below(1 << 30),
            ));
        }
        counted.push((
            Series::Account {
                from: "members/a".into(),
                to: String::new(),
                outside: true,
            },
            n as u64,
            u64::MAX,
        ));
        let written = interval(&mut history, n * 300, &counted);
        let seq = history.commit(&written, State::Same).unwrap();
        let mut sums = BTreeMap::<(Kind, String), (u64, u64)>::new();
        for (series, packets, bytes) in counted {
            let sum = sums.entry((series.kind(), series.name())).or_default();
            sum.0 += packets;
            sum.1 = sum.1.saturating_add(bytes);
        }
        for ((kind, name), (packets, bytes)) in sums {
            if (packets, bytes) != (0, 0) {
                expected
                    .entry(kind)
                    .or_default()
                    .push((seq, name, packets, bytes));
            }
        }
    }
    for expected in expected.values_mut() {
        expected.sort();
    }
    let compare = |when: &str| {
        let reader = History::open_read(directory.path()).unwrap();
        for (kind, expected) in &expected {
            assert!(everything(&reader, *kind) == *expected, "{kind:?}, {when}");
        }
        // One series, some intervals.
        let series = prefix(0, Direction::Out);
        let id = reader.find(&series).unwrap().unwrap();
        let mut one = Vec::new();
        reader
            .read(id.kind(), Which::Only(&[id.id()]), 200..=450, |value: Value| {
                one.push((value.seq, series.name(), value.packets, value.bytes));
            })
            .unwrap();
        one.sort();
        let all = expected[&id.kind()].iter();
        let some: Vec<_> = all
            .filter(|row| row.1 == series.name() && (200..=450).contains(&row.0))
            .cloned()
            .collect();
        assert!(!some.is_empty());
        assert_eq!(one, some, "{when}");
    };
    compare("running");
    let mut slices = 0;
    while history.maintain(700 * 300).unwrap() != Work::Nothing {
        slices += 1;
        if slices == 3 {
            compare("partly packed");
            drop(history);
            history = History::open(directory.path(), KEEP).unwrap();
        }
    }
    compare("packed");
    let figures = history.figures().unwrap();
    assert_eq!(
        (figures.intervals, figures.days, figures.packed_days),
        (700, 3, 2)
    );
    assert_eq!((figures.first, figures.last), (Some(0), Some(700 * 300)));
    history.check().unwrap();
}

#[test]
fn numbers_of_series_outlive_a_restart_and_one_that_never_counted_takes_none_away() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let first = history.series_id(&prefix(1, Direction::Out)).unwrap();
    assert_eq!(history.series_id(&prefix(1, Direction::Out)).unwrap(), first);
    assert_eq!(
        history.series_id(&prefix(1, Direction::In)).unwrap(),
        first.towards(Direction::In)
    );
    // Not written yet: a restart may give the number to another, which has no samples to be confused with.
    drop(history);
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let second = history.series_id(&prefix(2, Direction::Out)).unwrap();
    assert_eq!(second, first);
    let samples = vec![Sample {
        series: second,
        packets: 1,
        bytes: 60,
    }];
    let interval = Interval {
        start: 0,
        milliseconds: 1,
        samples,
    };
    history.commit(&interval, State::Same).unwrap();
    drop(history);
    let mut history = History::open(directory.path(), KEEP).unwrap();
    assert_eq!(history.series_id(&prefix(2, Direction::Out)).unwrap(), second);
    assert_ne!(history.series_id(&prefix(1, Direction::Out)).unwrap(), second);
}

#[test]
fn the_state_is_the_last_whole_one_and_the_patches_behind_it() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    assert!(history.state().unwrap().is_empty());
    for state in [
        State::Patch(b"a"),
        State::Whole(b"b"),
        State::Patch(b"c"),
        State::Same,
        State::Patch(b"d"),
    ] {
        history.commit(&Interval::default(), state).unwrap();
    }
    drop(history);
    let history = History::open(directory.path(), KEEP).unwrap();
    assert_eq!(history.state().unwrap(), [b"b", b"c", b"d"]);
}

#[test]
fn an_hour_that_comes_twice_is_here_twice_and_a_day_that_comes_again_is_another() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let series = prefix(1, Direction::Out);
    // An hour back; then a day back over midnight; then far ahead, and back.
    let starts = [
        DAY + 3_600,
        DAY + 3_900,
        DAY + 300,
        DAY + 600,
        900,
        1_200,
        DAY + 4_200,
        9_999 * DAY,
        DAY + 4_500,
    ];
    for (n, start) in starts.iter().enumerate() {
        let counted = [(series.clone(), n as u64 + 1, 1_000)];
        let interval = interval(&mut history, *start, &counted);
        assert_eq!(history.commit(&interval, State::Same).unwrap(), n as i64 + 1);
        finish(&mut history, *start);
    }
    let reader = History::open_read(directory.path()).unwrap();
    let packets: Vec<_> = everything(&reader, Kind::PrefixOut)
        .iter()
        .map(|row| (row.0, row.2))
        .collect();
    assert_eq!(packets, (1..=9).map(|n| (n, n as u64)).collect::<Vec<_>>());
    let of_that_hour = reader.intervals(DAY, DAY + 7_200).unwrap();
    assert_eq!(
        of_that_hour.iter().map(|i| i.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4, 7, 9]
    );
}

#[test]
fn an_interval_of_many_hours_is_found_by_every_one_of_them() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let long = Interval {
        start: 1_000,
        milliseconds: 36_000_500,
        samples: vec![],
    };
    history.commit(&long, State::Same).unwrap();
    let reader = History::open_read(directory.path()).unwrap();
    for (from, to, found) in [
        (0, 1_000, 0),
        (0, 1_001, 1),
        (20_000, 20_001, 1),
        (37_000, 37_001, 1),
        (37_001, 40_000, 0),
    ] {
        assert_eq!(reader.intervals(from, to).unwrap().len(), found, "{from} to {to}");
    }
}

#[test]
fn what_is_older_than_the_retention_goes_and_a_clock_that_is_wrong_for_a_while_takes_nothing() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), Retention { days: 3 }).unwrap();
    let series = prefix(1, Direction::Out);
    for n in 0..10 * 24 {
        let interval = interval(&mut history, n * 3_600, &[(series.clone(), 1, 60)]);
        history.commit(&interval, State::Same).unwrap();
    }
    let days = |history: &History| history.figures().unwrap().days;
    finish(&mut history, 10 * DAY);
    // The last 288 intervals are twelve days old here: all of them are witnesses, and none says that a day is too old.
    assert_eq!(days(&history), 10);
    let start = 10_000 * DAY;
    let strange = interval(&mut history, start, &[(series.clone(), 1, 60)]);
    history.commit(&strange, State::Same).unwrap();
    finish(&mut history, start);
    assert_eq!(days(&history), 11);
    for n in 0..288 {
        let interval = interval(&mut history, 10 * DAY + n * 300, &[(series.clone(), 1, 60)]);
        history.commit(&interval, State::Same).unwrap();
    }
    let done = finish(&mut history, 11 * DAY);
    assert!(
        done.contains(&Work::Forgotten { date: 6, done: true }),
        "{done:?}"
    );
    let first = history.figures().unwrap().first;
    assert_eq!(first, Some(7 * DAY), "three days before the tenth");
    let reader = History::open_read(directory.path()).unwrap();
    assert_eq!(everything(&reader, Kind::PrefixOut).len(), 3 * 24 + 1 + 288);
}

#[test]
fn a_second_controller_is_told_who_writes() {
    let directory = Directory::new();
    let history = History::open(directory.path(), KEEP).unwrap();
    let Err(error) = History::open(directory.path(), KEEP) else {
        panic!("two writers");
    };
    let text = error.to_string();
    assert!(
        matches!(error, Error::Busy { .. }) && text.contains(&std::process::id().to_string()),
        "{text}"
    );
    drop(history);
    History::open(directory.path(), KEEP).unwrap();
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    let foreign = |make: &dyn Fn(&std::path::Path)| {
        let directory = Directory::new();
        let path = directory.path().join(FILE);
        make(&path);
        let before = fs::read(&path).unwrap();
        let Err(error) = History::open(directory.path(), KEEP) else {
            panic!("it was opened");
        };
        assert!(History::open_read(directory.path()).is_err());
        assert_eq!(fs::read(&path).unwrap(), before, "{error}");
        error
    };
    let text = foreign(&|path| {
        fs::write(
            path,
            "a letter to a friend, of more than a hundred octets ".repeat(40),
        )
        .unwrap()
    });
    assert!(matches!(text, Error::Foreign { .. }), "{text}");
    let other = foreign(&|path| {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection
            .execute_batch("CREATE TABLE bookmarks (url TEXT);")
            .unwrap();
    });
    assert!(matches!(other, Error::Foreign { .. }), "{other}");
    let newer = foreign(&|path| {
        drop(History::open(path.parent().unwrap(), KEEP).unwrap());
        let connection = rusqlite::Connection::open(path).unwrap();
        connection
            .execute_batch("PRAGMA user_version = 77; PRAGMA wal_checkpoint(TRUNCATE);")
            .unwrap();
    });
    assert!(matches!(newer, Error::Version { found: 77, .. }), "{newer}");
}

#[test]
fn a_damaged_file_is_said_to_be_damaged() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    for n in 0..600 {
        let counted: Vec<_> = (0..50)
            .map(|p| (prefix(p, Direction::Out), p.into(), u64::from(p) * 60))
            .collect();
        let interval = interval(&mut history, n * 300, &counted);
        history.commit(&interval, State::Patch(&[7; 500])).unwrap();
    }
    drop(history);
    let path = directory.path().join(FILE);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE);")
        .unwrap();
    drop(connection);
    let whole = fs::read(&path).unwrap();
    let mut random = Random(5);
    let (mut noticed, mut tries) = (0, 0);
    for _ in 0..100 {
        let mut octets = whole.clone();
        let place = 100 + random.below(octets.len() as u64 - 5_000) as usize;
        for octet in &mut octets[place..place + 4_096] {
            *octet = random.next() as u8;
        }
        fs::write(&path, &octets).unwrap();
        // Whatever else: never a panic.
        tries += 1;
        let read = History::open_read(directory.path()).and_then(|reader| {
            reader.figures()?;
            reader.intervals(0, i64::MAX)?;
            reader.series(Kind::PrefixOut)?;
            reader.read(Kind::PrefixOut, Which::All, 0..=i64::MAX, |_| ())
        });
        let wrote = History::open(directory.path(), KEEP).and_then(|mut history| {
            history.state()?;
            while history.maintain(10 * DAY)? != Work::Nothing {}
            history.check()
        });
        match wrote {
            Ok(()) => assert!(read.is_ok(), "{read:?}"),
            Err(Error::Corrupt { .. } | Error::Foreign { .. }) => noticed += 1,
            Err(error) => panic!("{error}"),
        }
        for extra in ["history.db-wal", "history.db-shm"] {
            let _ = fs::remove_file(directory.path().join(extra));
        }
    }
    assert!(noticed > tries * 8 / 10, "{noticed} of {tries}");
}

#[test]
fn without_room_nothing_is_written_and_with_room_it_goes_on() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let mut random = Random(9);
    let mut big = |history: &mut History, n: i64| {
        let counted: Vec<_> = (0..3_000)
            .map(|p| {
                (
                    prefix(p, Direction::Out),
                    1 + random.below(1 << 40),
                    random.below(1 << 50),
                )
            })
            .collect();
        interval(history, n * 300, &counted)
    };
    let written = big(&mut history, 0);
    history.commit(&written, State::Whole(b"one")).unwrap();
    let pages = history.figures().unwrap().bytes / 4_096;
    history.limit_pages(pages as u32 + 2).unwrap();
    let refused = big(&mut history, 1);
    for _ in 0..3 {
        let error = history.commit(&refused, State::Whole(b"two")).unwrap_err();
        assert!(error.is_full(), "{error}");
        assert_eq!(history.state().unwrap(), [b"one"]);
    }
    let reader = History::open_read(directory.path()).unwrap();
    assert_eq!(everything(&reader, Kind::PrefixOut).len(), 3_000);
    history.limit_pages(1 << 30).unwrap();
    assert_eq!(history.commit(&refused, State::Whole(b"two")).unwrap(), 2);
    assert_eq!(history.state().unwrap(), [b"two"]);
    history.check().unwrap();
}

/// The part of the next test that runs where it may mount a small file system.
#[test]
fn on_a_full_disk_helper() {
    let Some(path) = std::env::var_os("FORWARDER_HISTORY_FULL") else {
        return;
    };
    let path = std::path::Path::new(&path);
    let mut history = History::open(path, KEEP).unwrap();
    let mut random = Random(9);
    let (mut written, mut refused) = (0, 0);
    let ballast = path.join("ballast");
    for n in 0..900 {
        let counted: Vec<_> = (0..400)
            .map(|p| {
                (
                    prefix(p, Direction::Out),
                    1 + random.below(1 << 40),
                    random.below(1 << 50),
                )
            })
            .collect();
        let interval = interval(&mut history, n * 300, &counted);
        match history.commit(&interval, State::Whole(&n.to_le_bytes())) {
            Ok(_) => written += 1,
            Err(error) if error.is_full() => refused += 1,
            Err(error) => panic!("{error}"),
        }
        match history.maintain(n * 300) {
            Ok(_) => {}
            Err(error) if error.is_full() => refused += 1,
            Err(error) => panic!("{error}"),
        }
        // Somebody else takes all room, and later gives it back.
        if n % 100 == 20 {
            let _ = fs::write(&ballast, vec![1; 64 << 20]);
        }
        if n % 100 == 60 {
            fs::remove_file(&ballast).unwrap();
        }
    }
    assert!(
        refused > 100 && written > 300,
        "{written} written, {refused} refused"
    );
    history.check().unwrap();
    let reader = History::open_read(path).unwrap();
    assert_eq!(everything(&reader, Kind::PrefixOut).len(), written * 400);
    println!("full disk: {written} written, {refused} refused");
}

#[test]
fn on_a_full_disk_it_waits_for_room_and_loses_nothing_that_was_written() {
    let directory = Directory::new();
    let script = format!(
        "mount -t tmpfs -o size=24m none {0} && FORWARDER_HISTORY_FULL={0} {1} --exact on_a_full_disk_helper --nocapture",
        directory.path().display(),
        std::env::current_exe().unwrap().display()
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("full disk: "), "{text}");
}

/// The part of the next test that runs as nobody.
#[test]
fn as_nobody_helper() {
    let Some(path) = std::env::var_os("FORWARDER_HISTORY_NOBODY") else {
        return;
    };
    let path = std::path::Path::new(&path);
    let error = History::open(path, KEEP).err().map(|error| error.to_string());
    println!("writing: {error:?}");
    let reader = History::open_read(path).unwrap();
    println!("reading: {} samples", everything(&reader, Kind::PrefixOut).len());
}

fn as_nobody(directory: &Directory) -> String {
    let exe = directory.path().with_extension("exe");
    fs::copy(std::env::current_exe().expect("this program"), &exe).expect("a copy that nobody may run");
    fs::set_permissions(&exe, fs::Permissions::from_mode(0o755)).expect("its mode");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&exe)
        .args(["--exact", "as_nobody_helper", "--nocapture"])
        .env("FORWARDER_HISTORY_NOBODY", directory.path())
        .output()
        .expect("setpriv");
    fs::remove_file(&exe).expect("the copy goes");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn who_may_not_write_reads_beside_the_writer_after_its_end_and_a_copy() {
    let directory = Directory::new();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let first = interval(&mut history, 0, &[(prefix(1, Direction::Out), 1, 60)]);
    history.commit(&first, State::Same).unwrap();
    let open = |directory: &Directory| {
        for entry in fs::read_dir(directory.path()).unwrap().flatten() {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o644)).unwrap();
        }
    };
    open(&directory);
    let text = as_nobody(&directory);
    assert!(
        text.contains("reading: 1 samples") && text.contains("cannot write in"),
        "{text}"
    );
    let second = interval(&mut history, 300, &[(prefix(1, Direction::Out), 1, 60)]);
    history.commit(&second, State::Same).unwrap();
    drop(history);
    let text = as_nobody(&directory);
    assert!(text.contains("reading: 2 samples"), "{text}");

    let copy = Directory::new();
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let connection = rusqlite::Connection::open(directory.path().join(FILE)).unwrap();
    connection
        .execute("VACUUM INTO ?", [copy.path().join(FILE).to_str().unwrap()])
        .unwrap();
    open(&copy);
    let text = as_nobody(&copy);
    assert!(text.contains("reading: 2 samples"), "{text}");
    // The copy goes on being written where that is wanted.
    History::open(copy.path(), KEEP).unwrap();
}

#[test]
fn no_history_is_said_to_be_none_and_nothing_is_made_by_looking() {
    let directory = Directory::new();
    let Err(error) = History::open_read(directory.path()) else {
        panic!("there is none");
    };
    assert!(matches!(error, Error::Absent { .. }), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn what_was_described_is_known_and_the_last_word_counts() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let series = Series::Interface {
        ifname: "transit0".into(),
        direction: Direction::In,
    };
    history.describe(&series, "role", "peer").unwrap();
    history.commit(&Interval::default(), State::Same).unwrap();
    history.describe(&series, "role", "transit").unwrap();
    history.commit(&Interval::default(), State::Same).unwrap();
    let reader = History::open_read(directory.path()).unwrap();
    let id = reader.find(&series).unwrap().unwrap();
    let facts = reader.facts(Kind::InterfaceOut, "role").unwrap();
    assert_eq!(facts, BTreeMap::from([(id.id(), "transit".to_string())]));
}

fn write_one(history: &mut History, start: i64, number: u32, packets: u64) -> i64 {
    let counted = [(prefix(number, Direction::Out), packets, packets * 100)];
    let written = interval(history, start, &counted);
    history.commit(&written, State::Same).expect("room")
}

fn there(directory: &Directory) -> Vec<(i64, String, u64, u64)> {
    let reader = History::open_read(directory.path()).expect("a history");
    everything(&reader, Kind::PrefixOut)
}

fn remove(directory: &Directory, endings: &[&str]) {
    for ending in endings {
        fs::remove_file(directory.path().join(FILE.to_string() + ending)).expect("it is there");
    }
}

#[test]
fn a_writer_whose_files_are_deleted_notices_and_goes_on_in_new_ones() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    write_one(&mut history, 0, 3, 7);
    for (round, endings) in [&["", "-wal", "-shm"][..], &[""], &["", "-wal"]]
        .into_iter()
        .enumerate()
    {
        let old = history
            .series_id(&prefix(3 + round as u32, Direction::Out))
            .unwrap();
        assert!(history.is_in_place());
        remove(&directory, endings);
        assert!(!history.is_in_place());
        // What a number stood for is known as long as the old file is open.
        let was = prefix(3 + round as u32, Direction::Out);
        assert_eq!(history.series(old).unwrap(), Some(was));
        history.reopen().unwrap();
        assert!(history.is_in_place());
        assert_eq!(write_one(&mut history, 300, 4 + round as u32, 9), 1);
        let name = prefix(4 + round as u32, Direction::Out).name();
        assert_eq!(there(&directory), [(1, name, 9, 900)]);
        history.check().unwrap();
        let second = History::open(directory.path(), KEEP);
        assert!(matches!(second, Err(Error::Busy { .. })), "the lock went");
    }
    // Everything.
    fs::remove_dir_all(directory.path()).unwrap();
    assert!(!history.is_in_place());
    history.reopen().unwrap();
    write_one(&mut history, 600, 9, 1);
    assert_eq!(there(&directory).len(), 1);
    let second = History::open(directory.path(), KEEP);
    assert!(
        matches!(second, Err(Error::Busy { .. })),
        "nobody has the new lock"
    );
}

#[test]
fn a_log_that_is_deleted_alone_takes_nothing_with_it() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    for n in 0..4 {
        write_one(&mut history, n * 300, 3, 7);
    }
    remove(&directory, &["-wal"]);
    assert!(!history.is_in_place());
    history.reopen().unwrap();
    assert_eq!(write_one(&mut history, 1_200, 3, 7), 5);
    assert_eq!(there(&directory).len(), 5);
    history.check().unwrap();
}

#[test]
fn a_history_put_in_the_place_of_the_one_that_is_written_is_gone_on_with_and_a_foreign_file_is_left() {
    let (directory, other) = (Directory::new(), Directory::new());
    let mut history = History::open(other.path(), KEEP).unwrap();
    for n in 0..3 {
        write_one(&mut history, n * 300, 8, 50);
    }
    drop(history);
    // A backup: one file.
    let source = other.path().join(FILE);
    let sqlite = rusqlite::Connection::open(&source).unwrap();
    sqlite
        .pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
        .unwrap();
    drop(sqlite);
    let mut history = History::open(directory.path(), KEEP).unwrap();
    for n in 0..9 {
        write_one(&mut history, n * 300, 3, 7);
    }
    // The log of the other stays beside it, full of pages that are none of this one's.
    let place = directory.path().join(FILE);
    fs::rename(&source, &place).unwrap();
    assert!(!history.is_in_place());
    history.reopen().unwrap();
    assert_eq!(write_one(&mut history, 9_000, 8, 1), 4);
    let packets: Vec<u64> = there(&directory).iter().map(|row| row.2).collect();
    assert_eq!(packets, [50, 50, 50, 1]);
    history.check().unwrap();

    remove(&directory, &["", "-wal", "-shm"]);
    fs::write(&place, "nothing of ours").unwrap();
    for _ in 0..2 {
        let why = history.reopen().unwrap_err();
        assert!(matches!(why, Error::Foreign { .. }), "{why}");
        assert!(!history.is_in_place());
    }
    assert_eq!(fs::read(&place).unwrap(), b"nothing of ours");
    fs::remove_file(&place).unwrap();
    history.reopen().unwrap();
    assert_eq!(write_one(&mut history, 9_300, 8, 2), 1);
}

#[test]
fn what_is_no_file_is_neither_waited_for_nor_taken_for_one() {
    for kind in ["directory", "pipe"] {
        let directory = Directory::new();
        let place = directory.path().join(FILE);
        match kind {
            "pipe" => assert!(Command::new("mkfifo").arg(&place).status().unwrap().success()),
            _ => fs::create_dir(&place).unwrap(),
        }
        let read = History::open_read(directory.path()).err().unwrap();
        let write = History::open(directory.path(), KEEP).err().unwrap();
        for why in [read.to_string(), write.to_string()] {
            assert!(why.contains("is not a history of forwarder: it is "), "{why}");
        }
    }
}

#[test]
fn the_names_of_a_full_tables_first_interval_do_not_wait_in_memory_and_nothing_is_lost_with_them() {
    let directory = Directory::new();
    let mut history = History::open(directory.path(), KEEP).unwrap();
    write_one(&mut history, 0, 60_000, 1);
    let names = || {
        let reader = History::open_read(directory.path()).unwrap();
        reader.series(Kind::PrefixOut).unwrap().len()
    };
    let all = 40_000;
    let counted: Vec<_> = (0..all)
        .map(|number| (prefix(number, Direction::Out), u64::from(number) + 1, 77))
        .collect();
    let written = interval(&mut history, 300, &counted);
    assert_eq!(names(), 1 + 2 * 16_384);
    // Of a controller that was killed here, names are left without samples; the next one finds their numbers.
    drop(history);
    let mut history = History::open(directory.path(), KEEP).unwrap();
    let again = interval(&mut history, 300, &counted);
    assert_eq!(&again.samples[..32_768], &written.samples[..32_768]);
    // Without room they wait.
    history.limit_pages(1).unwrap();
    let more = interval(&mut history, 300, &[]);
    let new = (50_000..70_000).map(|number| history.series_id(&prefix(number, Direction::Out)).unwrap());
    let new: std::collections::BTreeSet<_> = new.collect();
    assert_eq!(new.len(), 20_000);
    assert!(history.commit(&again, State::Same).unwrap_err().is_full());
    history.limit_pages(u32::MAX - 1).unwrap();
    history.commit(&again, State::Same).unwrap();
    history.commit(&more, State::Same).unwrap();
    let found = there(&directory);
    let sum: u64 = found.iter().map(|row| row.2).sum();
    assert_eq!(
        (found.len(), sum),
        (1 + all as usize, 1 + u64::from(all * (all + 1) / 2))
    );
    let reader = History::open_read(directory.path()).unwrap();
    for number in [50_000, 60_000, 69_999] {
        let id = reader.find(&prefix(number, Direction::Out)).unwrap().unwrap();
        assert!(new.contains(&id), "{number}");
    }
}
