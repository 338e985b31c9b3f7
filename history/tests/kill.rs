//! A writer is killed at random moments: whatever was committed is whole, at most the interval it was at is missing, and the
//! sampler's state is that of the last interval. `FORWARDER_HISTORY_KILLS=200 cargo test -p forwarder-history --test kill` for as
//! many kills as you like.

mod common;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{Directory, Random, prefix};
use forwarder_history::{Direction, History, Interval, Kind, Retention, Sample, State, Value, Which, Work};

const DIRECTORY: &str = "FORWARDER_HISTORY_KILL";
const KEEP: Retention = Retention { days: 20 };
/// Samples in interval `seq`: prefix `p` has `seq * 1000 + p` packets.
const SERIES: u64 = 200;

/// The writer that is killed: intervals and maintenance without end. Says which it has written, after it was.
#[test]
fn writer_that_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let mut history = History::open(Path::new(&directory), KEEP).unwrap();
    loop {
        let seq = state(&history) + 1;
        // Twenty intervals a day, so that days are packed and forgotten all the time.
        let start = seq as i64 * 86_400 / 20;
        let samples = (0..SERIES)
            .map(|p| Sample {
                series: history.series_id(&prefix(p as u32, Direction::Out)).unwrap(),
                packets: seq * 1_000 + p,
                bytes: seq * 77_777 + p,
            })
            .collect();
        let interval = Interval {
            start,
            milliseconds: 300_000,
            samples,
        };
        let octets = seq.to_le_bytes();
        let state = if seq.is_multiple_of(10) {
            State::Whole(&octets)
        } else {
            State::Patch(&octets)
        };
        let written = history.commit(&interval, state).unwrap();
        assert_eq!(written, seq as i64);
        println!("written {seq}");
        for _ in 0..3 {
            if history.maintain(start).unwrap() == Work::Nothing {
                break;
            }
        }
    }
}

/// The last interval, by the sampler's state.
fn state(history: &History) -> u64 {
    let state = history.state().expect("a whole history");
    let numbers: Vec<u64> = state
        .iter()
        .map(|octets| u64::from_le_bytes(octets.as_slice().try_into().expect("eight octets")))
        .collect();
    for pair in numbers.windows(2) {
        assert_eq!(pair[1], pair[0] + 1, "a state is missing");
    }
    numbers.last().copied().unwrap_or(0)
}

fn whole(directory: &Path, said: u64) -> u64 {
    let history = History::open(directory, KEEP).expect("a whole history");
    history.check().expect("a whole history");
    let last = state(&history);
    assert!(last == said || last == said + 1, "said {said}, there is {last}");
    let reader = History::open_read(directory).expect("a whole history");
    let recorded = reader.intervals(0, i64::MAX).expect("a whole history");
    let (first, end) = (recorded[0].seq, recorded[recorded.len() - 1].seq);
    assert_eq!(end, last as i64);
    assert_eq!(recorded.len() as i64, end - first + 1, "an interval is missing");
    let names = reader.series(Kind::PrefixOut).expect("a whole history");
    let mut seen = vec![0u64; recorded.len()];
    let each = |value: Value| {
        let p = names[&value.id].clone();
        let number = (0..SERIES)
            .find(|n| prefix(*n as u32, Direction::Out) == p)
            .expect("a whole history");
        let seq = value.seq as u64;
        assert_eq!(
            (value.packets, value.bytes),
            (seq * 1_000 + number, seq * 77_777 + number)
        );
        seen[(value.seq - first) as usize] += 1;
    };
    reader
        .read(Kind::PrefixOut, Which::All, 0..=i64::MAX, each)
        .expect("a whole history");
    assert!(
        seen.iter().all(|samples| *samples == SERIES),
        "an interval is not whole"
    );
    last
}

#[test]
fn a_writer_killed_at_any_moment_leaves_whole_intervals_and_the_state_of_the_last_one() {
    let kills: u32 = std::env::var("FORWARDER_HISTORY_KILLS")
        .ok()
        .map_or(12, |kills| kills.parse().expect("a number of kills"));
    let directory = Directory::new();
    let mut random = Random(u64::from(std::process::id()) << 20 | 1);
    let mut last = 0;
    for kill in 0..kills {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_that_is_killed", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(writer.stdout.take().unwrap());
        let reading = thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            // The test harness writes before the first of them, on the same line.
            lines
                .filter_map(|line| line.split("written ").nth(1)?.parse::<u64>().ok())
                .last()
        });
        thread::sleep(Duration::from_micros(2_000 + random.below(300_000)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let said = reading.join().unwrap().unwrap_or(last);
        if said == 0 {
            continue;
        }
        last = whole(directory.path(), said);
        assert!(last > 0, "kill {kill}");
    }
    println!("{kills} kills, {last} intervals");
    assert!(last > u64::from(kills), "{last} intervals in {kills} kills");
}
