//! From counters to samples of the history.
//!
//! A commit writes what every counter did since the last one, and with it up to where that is, in one transaction. If it fails
//! (no room, a directory that went), nothing is lost: sums go on, the interval grows, and the next commit that succeeds has
//! all of it, with its true length.

use std::{collections::HashMap, time::Duration};

use foldhash::fast::RandomState;
use forwarder_common::counters::Counter;
use forwarder_history::{
    Direction, Error, History, Interval, Kind, SHARED, Sample, Series, SeriesId, State, Work,
};

use super::{
    anchors::Anchors,
    prefixes::{Both, Prefixes},
    schedule::{Clocks, Schedule},
    series::Standing,
    state::{self, Kept},
};
use crate::{
    dataplane::Tables,
    stats::{accounts::forwarded, names},
};

/// Commits after which the whole state is written again, so that what a start reads does not grow.
const WHOLE_EVERY: u32 = 12;

/// A side of a sum.
type Side = fn(&Both) -> Counter;
/// Both, by the direction that the history knows them by.
const SIDES: [(Direction, Side); 2] = [
    (Direction::Out, |both| both.to),
    (Direction::In, |both| both.from),
];

/// What the sums belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the pinned maps: drawn when they are made.
    pub maps: u64,
    /// Of this start of the machine.
    pub boot: String,
}

/// Writes the history.
pub struct Recorder {
    history: History,
    identity: Identity,
    schedule: Schedule,
    /// Counters as they were at the last commit, by key, and what they counted.
    known: HashMap<u64, (SeriesId, Counter), RandomState>,
    attributed: Both,
    unattributed: Both,
    since_whole: u32,
    /// While the history's file is gone: `known` without its numbers.
    named: Option<Vec<(u64, Series, Counter)>>,
}

impl Recorder {
    /// Goes on where the history ends, if that is of these maps. Otherwise: where `fresh` says that the maps are new, from their
    /// beginning; else from now on.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn resume(
        history: History,
        identity: Identity,
        length: Duration,
        (tables, prefixes): (&Tables, &mut Prefixes),
        fresh: bool,
        now: Clocks,
    ) -> Result<Recorder, Error> {
        let mut recorder = Recorder {
            history,
            schedule: Schedule::new(length, now),
            known: HashMap::default(),
            attributed: Both::default(),
            unattributed: Both::default(),
            since_whole: WHOLE_EVERY,
            named: None,
            identity,
        };
        let mut kept = None;
        for state in recorder.history.state()? {
            let Some(read) = state::decode(&state, &mut prefixes.anchors) else {
                tracing::warn!("the history's state cannot be read; counting goes on from now");
                kept = None;
                break;
            };
            kept = Some(read);
        }
        let ours = kept
            .as_ref()
            .is_some_and(|kept| kept.maps == recorder.identity.maps);
        if !ours {
            prefixes.anchors.iter_mut().for_each(Anchors::clear);
        }
        if let Some(kept) = kept {
            if ours && let Err(why) = prefixes.readings.again(kept.readings) {
                tracing::warn!(
                    "what slots had counted for prefixes that are gone cannot be read: {why}; it is counted as of no prefix"
                );
            }
            recorder.take_over(kept, length, now, ours);
        }
        if !ours && !fresh {
            prefixes.begin_here(tables);
            let total = forwarded(tables);
            recorder.attributed = Both {
                to: total,
                from: total,
            };
        }
        if !ours && fresh {
            recorder.say_fresh(prefixes, now)?;
        }
        Ok(recorder)
    }

    /// Notes that what these maps have counted so far is in no sample: a start after this one, before the first interval is over, could
    /// not tell them from maps whose history is lost.
    fn say_fresh(&mut self, prefixes: &Prefixes, now: Clocks) -> Result<(), Error> {
        let known = self.known.iter();
        let kept = Kept {
            maps: self.identity.maps,
            boot: self.identity.boot.clone(),
            ended: now,
            readings: prefixes.readings.taken(),
            counters: known
                .map(|(key, (series, counter))| (*key, *series, *counter))
                .collect(),
            ..Kept::default()
        };
        let nothing = || std::iter::empty::<(u32, [u64; 2])>();
        self.history
            .keep_state(&state::encode(&kept, [nothing(), nothing()]))
    }

    fn take_over(&mut self, kept: Kept, length: Duration, now: Clocks, ours: bool) {
        let same_boot = kept.boot == self.identity.boot;
        let driver = |series: SeriesId| matches!(series.kind(), Kind::InterfaceIn | Kind::InterfaceOut);
        let valid = |series| if driver(series) { same_boot } else { ours };
        let counters = kept.counters.into_iter();
        self.known = counters
            .filter(|(_, series, _)| valid(*series))
            .map(|(key, series, counter)| (key, (series, counter)))
            .collect();
        if ours {
            self.attributed = kept.attributed;
            self.unattributed = kept.unattributed;
        }
        // The time in between belongs to the interval that runs, as what was counted in it does.
        if ours && same_boot && kept.ended.boot <= now.boot {
            self.schedule = Schedule::new(length, kept.ended);
        }
    }

    /// Goes on in another file, where somebody has deleted the history's or put one in its place. What was counted since the last
    /// interval is not lost. Answers whether that was so.
    ///
    /// # Errors
    /// What is there now cannot be used; counters wait.
    pub fn stay_in_place(&mut self) -> Result<bool, Error> {
        if self.history.is_in_place() {
            return Ok(false);
        }
        if self.named.is_none() {
            let mut named = Vec::with_capacity(self.known.len());
            for (key, (id, counter)) in &self.known {
                // The file that went is still open and can be read. A counter without a name goes on as what it counts now.
                if let Ok(Some(series)) = self.history.series(*id) {
                    named.push((*key, series, *counter));
                }
            }
            self.named = Some(named);
        }
        self.history.reopen()?;
        let history = &mut self.history;
        let numbered = self.named.iter().flatten().map(|(key, series, counter)| {
            let id = history.series_id(series)?;
            Ok((*key, (id, *counter)))
        });
        self.known = numbered.collect::<Result<_, Error>>()?;
        self.named = None;
        self.since_whole = WHOLE_EVERY;
        Ok(true)
    }

    /// Packets and octets that are of no prefix that is known, since these maps were first looked at.
    pub fn unattributed(&self) -> Both {
        self.unattributed
    }

    /// Begins to follow drivers' counters that nobody looked at yet.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn notice(&mut self, drivers: &[Standing]) -> Result<(), Error> {
        for one in drivers {
            if !self.known.contains_key(&one.key) {
                let id = self.history.series_id(&one.series)?;
                self.known.insert(one.key, (id, one.counter));
            }
        }
        Ok(())
    }

    /// Whether an interval is over.
    pub fn is_due(&self, now: Clocks) -> bool {
        self.schedule.is_over(now)
    }

    /// Notes something for reports.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn describe(&mut self, series: &Series, name: &str, value: &str) -> Result<(), Error> {
        self.history.describe(series, name, value)
    }

    /// Packs finished days and forgets old ones, a slice of the work.
    ///
    /// # Errors
    /// The history cannot be written.
    pub fn maintain(&mut self, now: Clocks) -> Result<Work, Error> {
        self.history.maintain(now.wall.div_euclid(1000))
    }

    /// The history in figures.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn figures(&self) -> Result<forwarder_history::Figures, Error> {
        self.history.figures()
    }

    /// Writes what was counted since the last commit. `total` is all that was forwarded, read *before* the pass that
    /// `prefixes` has just made, so that no packet that is under way counts as of no prefix.
    ///
    /// # Errors
    /// Nothing was written; what was counted waits.
    pub fn commit(
        &mut self,
        tables: &Tables,
        prefixes: &mut Prefixes,
        standing: &[Standing],
        total: Counter,
        now: Clocks,
    ) -> Result<(), Error> {
        let totals = &prefixes.totals;
        let counted = 1 + usize::from(tables.sizes.sources);
        let named = totals.prefixes.len() + totals.origins.len() + totals.neighbours.len();
        let most = counted * (named + 1) + totals.origins_by_way.len() + 2 * standing.len();
        let mut samples = Vec::with_capacity(most);
        let mut push = |series: SeriesId, counter: Counter| {
            if counter != Counter::default() {
                samples.push(Sample {
                    series,
                    packets: counter.packets,
                    bytes: counter.bytes,
                });
            }
        };
        let history = &mut self.history;
        for (direction, side) in SIDES.into_iter().take(counted) {
            for (prefix, sum) in &totals.prefixes {
                let prefix = *prefix;
                push(
                    history.series_id(&Series::Prefix { prefix, direction })?,
                    side(sum),
                );
            }
            for (asn, sum) in &totals.origins {
                let asn = *asn;
                push(
                    history.series_id(&Series::OriginAs { asn, direction })?,
                    side(sum),
                );
            }
            for (asn, sum) in &totals.neighbours {
                let asn = *asn;
                push(
                    history.series_id(&Series::NeighbourAs { asn, direction })?,
                    side(sum),
                );
            }
        }
        for ((asn, way), sum) in &totals.origins_by_way {
            let ports = totals.ways.get(usize::from(*way)).into_iter().flatten();
            let ifnames: Option<Vec<String>> = ports
                .map(|port| names::port_name(tables, u32::from(*port)))
                .collect();
            if let Some(ifnames) = ifnames {
                let series = Series::OriginAsVia {
                    asn: *asn,
                    ifname: ifnames.join(SHARED),
                    direction: Direction::Out,
                };
                push(history.series_id(&series)?, *sum);
            }
        }
        let attributed = self.attributed.plus(totals.sum());
        let mut unattributed = self.unattributed;
        for (direction, side) in SIDES.into_iter().take(counted) {
            // Less than nothing: packets that came between the two readings. The next interval has them.
            let missing = at_least_none(total.since(side(&attributed)).since(side(&unattributed)));
            push(history.series_id(&Series::Unattributed { direction })?, missing);
            let place = match direction {
                Direction::Out => &mut unattributed.to,
                Direction::In => &mut unattributed.from,
            };
            *place = place.plus(missing);
        }
        let mut known = Vec::with_capacity(standing.len());
        for one in standing {
            if one.counter == Counter::default() && !self.known.contains_key(&one.key) {
                continue;
            }
            let id = history.series_id(&one.series)?;
            for (id, counter) in since(self.known.get(&one.key).copied(), id, one) {
                push(id, counter);
            }
            if one.counter != Counter::default() {
                known.push((one.key, id, one.counter));
            }
        }
        let mut schedule = self.schedule;
        let ended = schedule.end(now);
        let kept = Kept {
            maps: self.identity.maps,
            boot: self.identity.boot.clone(),
            ended: schedule.began(),
            attributed,
            unattributed,
            readings: prefixes.readings.taken(),
            counters: known,
        };
        let interval = Interval {
            start: ended.start,
            milliseconds: ended.milliseconds,
            samples,
        };
        let whole = self.since_whole >= WHOLE_EVERY;
        let written = if whole {
            state::encode(&kept, prefixes.anchors.each_ref().map(Anchors::words))
        } else {
            let [to, from] = &prefixes.anchors;
            state::encode(&kept, [to, from].map(|side| prefixes.moved_anchors(side)))
        };
        let state = if whole {
            State::Whole(&written)
        } else {
            State::Patch(&written)
        };
        self.history.commit(&interval, state)?;
        self.since_whole = if whole { 1 } else { self.since_whole + 1 };
        let known = kept.counters.iter();
        self.known = known
            .map(|(key, series, counter)| (*key, (*series, *counter)))
            .collect();
        self.attributed = kept.attributed;
        self.unattributed = kept.unattributed;
        self.schedule = schedule;
        prefixes.readings.sampled(kept.readings);
        prefixes.committed();
        Ok(())
    }
}

/// What a counter did since it was read last: for what it counted then, and for what it counts now.
fn since(known: Option<(SeriesId, Counter)>, id: SeriesId, one: &Standing) -> Vec<(SeriesId, Counter)> {
    match (known, one.baseline) {
        (Some((before, known)), Some(baseline)) if before != id => vec![
            (before, at_least_none(baseline.since(known))),
            (id, one.counter.since(baseline)),
        ],
        (Some((_, known)), Some(_)) => vec![(id, one.counter.since(known))],
        (None, Some(baseline)) => vec![(id, one.counter.since(baseline))],
        // A driver that begins again: its interface was made anew.
        (Some((_, known)), None)
            if one.counter.packets < known.packets || one.counter.bytes < known.bytes =>
        {
            vec![(id, one.counter)]
        }
        (Some((_, known)), None) => vec![(id, one.counter.since(known))],
        // It counts since the machine started, or longer than anybody looked: that is of no interval.
        (None, None) => Vec::new(),
    }
}

/// A difference that cannot be less than nothing.
fn at_least_none(counter: Counter) -> Counter {
    if (counter.packets as i64) < 0 {
        Counter::default()
    } else {
        counter
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use forwarder_common::{counters::Pending, directory::PortEntry, reason::Reason};
    use forwarder_history::{Reader, Retention, Which};
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        daemon::ports::NATIVE,
        dataplane::Sizes,
        fib::{Fib, Provenance, Readings, slots::RESERVED},
        stats::{
            sample,
            sampler::series::{of_drivers, standing},
        },
    };

    const SIZES: Sizes = Sizes {
        slots: RESERVED + 6,
        ..Sizes::SMALL
    };
    const LENGTH: Duration = Duration::from_secs(300);

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Announce(usize, u32),
        Withdraw(usize),
        Forward(usize, u64),
        Pass,
        Commit,
        Kill,
        Full,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..9usize, 1..3u32).prop_map(|(at, asn)| Step::Announce(at, asn)),
            2 => (0..9usize).prop_map(Step::Withdraw),
            6 => (0..9usize, 1..90u64).prop_map(|(at, packets)| Step::Forward(at, packets)),
            2 => Just(Step::Pass),
            2 => Just(Step::Commit),
            1 => Just(Step::Kill),
            1 => Just(Step::Full),
        ]
    }

    fn prefix(at: usize) -> IpNet {
        format!("10.{at}.0.0/16").parse().expect("prefix")
    }

    fn tables() -> Tables {
        let tables = Tables::heap(SIZES);
        let mut name = [0; 16];
        name[..5].copy_from_slice(b"core0");
        let entry = PortEntry {
            name,
            ifindex: 7,
            state: NATIVE,
            ..PortEntry::default()
        };
        tables.port_directory.set(1, &entry);
        // As after the first packet.
        let word = tables.pending.word(0, 0);
        word.store(Pending::none(0), std::sync::atomic::Ordering::Relaxed);
        tables
    }

    fn count(packets: u64) -> Counter {
        Counter {
            packets,
            bytes: packets * 100,
        }
    }

    fn forward(tables: &Tables, slot: u32, packets: u64) {
        let reason = Reason::SLOTS + Reason::Forwarded.index();
        for (array, at) in [
            (&tables.reason_counters, reason),
            (&tables.prefix_counters, slot as usize),
        ] {
            array.set(at, &array.get(at).plus(count(packets)));
        }
    }

    /// A controller's sampler, from start to SIGKILL.
    struct Life {
        readings: Readings,
        prefixes: Prefixes,
        recorder: Recorder,
    }

    fn begin(directory: &std::path::Path, tables: &Tables, now: Clocks, fresh: bool) -> Life {
        let readings = Readings::default();
        readings
            .write_down(&directory.join("readings"), 7)
            .expect("room for readings");
        let mut prefixes = Prefixes::new(tables, readings.clone());
        let history = History::open(directory, Retention::default()).expect("a history");
        let identity = Identity {
            maps: 7,
            boot: "one".into(),
        };
        let recorder = Recorder::resume(history, identity, LENGTH, (tables, &mut prefixes), fresh, now)
            .expect("resumed");
        Life {
            readings,
            prefixes,
            recorder,
        }
    }

    /// Packets by name, of what has counted any.
    fn by_name(reader: &Reader, kind: Kind) -> BTreeMap<String, u64> {
        let names = reader.series(kind).expect("names");
        let mut sums = BTreeMap::new();
        let each = |value: forwarder_history::Value| {
            *sums.entry(names[&value.id].name()).or_default() += value.packets;
        };
        reader
            .read(kind, Which::All, 0..=i64::MAX, each)
            .expect("samples");
        sums
    }

    fn sum(reader: &Reader, kind: Kind) -> Counter {
        let mut sum = Counter::default();
        let each = |value: forwarder_history::Value| {
            sum = sum.plus(Counter {
                packets: value.packets,
                bytes: value.bytes,
            });
        };
        reader
            .read(kind, Which::All, 0..=i64::MAX, each)
            .expect("samples");
        sum
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Whatever routes do and whenever the controller is killed or the disk is full, what is in the history is what was
        /// forwarded: of each prefix, of each network, of interfaces, and nothing of none. And no interval is doubled or lost.
        #[test]
        fn the_sum_of_the_history_is_what_was_forwarded(steps in prop::collection::vec(step(), 1..60)) {
            let directory = tempfile::tempdir().expect("a directory");
            let tables = tables();
            let mut now = Clocks { wall: 1_700_000_100_000, boot: 50_000 };
            let mut life = begin(directory.path(), &tables, now, true);
            let mut fib = Fib::new(&tables, 1);
            fib.leave_readings(life.readings.clone());
            let commit = |life: &mut Life, now: Clocks| {
                let total = forwarded(&tables);
                life.prefixes.pass(&tables);
                let list = standing(&tables, &[]);
                life.recorder.commit(&tables, &mut life.prefixes, &list, total, now)
            };
            let (mut networks, mut sent) = (BTreeMap::new(), [BTreeMap::new(), BTreeMap::new()]);
            for step in steps {
                now.wall += 7_000;
                now.boot += 7_000;
                match step {
                    Step::Announce(at, origin_as) => {
                        let provenance = Provenance { origin_as, ..Provenance::default() };
                        fib.announce(&tables, prefix(at), 2, provenance);
                        networks.insert(at, origin_as);
                    }
                    Step::Withdraw(at) => {
                        fib.withdraw(&tables, prefix(at));
                        fib.grace_begins();
                        fib.grace_over(&tables);
                    }
                    Step::Forward(at, packets) => {
                        if let Some(slot) = fib.slot(&tables, prefix(at)) {
                            forward(&tables, slot, packets);
                            for (sums, name) in sent.iter_mut().zip([prefix(at).to_string(), networks[&at].to_string()]) {
                                *sums.entry(name).or_default() += packets;
                            }
                        }
                    }
                    Step::Pass => life.prefixes.pass(&tables),
                    Step::Commit => {
                        commit(&mut life, now).expect("room");
                    }
                    Step::Kill => {
                        drop(life);
                        life = begin(directory.path(), &tables, now, false);
                        fib.leave_readings(life.readings.clone());
                    }
                    Step::Full => {
                        life.recorder.history.limit_pages(1).expect("a limit");
                        let _ = commit(&mut life, now);
                        life.recorder.history.limit_pages(u32::MAX - 1).expect("no limit");
                    }
                }
            }
            commit(&mut life, now).expect("room");
            let all = forwarded(&tables);
            let reader = History::open_read(directory.path()).expect("a reader");
            let by_prefix = sum(&reader, Kind::PrefixOut);
            let rest = sum(&reader, Kind::UnattributedOut);
            prop_assert_eq!(rest, Counter::default());
            prop_assert_eq!(by_prefix, all);
            prop_assert_eq!(by_name(&reader, Kind::PrefixOut), sent[0].clone());
            prop_assert_eq!(by_name(&reader, Kind::OriginAsOut), sent[1].clone());
            prop_assert_eq!(sum(&reader, Kind::ForwardedIn), all);
            prop_assert_eq!(sum(&reader, Kind::OriginAsOut), by_prefix);
            prop_assert_eq!(sum(&reader, Kind::NeighbourAsOut), by_prefix);
            let intervals = reader.intervals(0, i64::MAX).expect("intervals");
            let length: u64 = intervals.iter().map(|interval| interval.milliseconds).sum();
            prop_assert_eq!(length, (now.wall - intervals[0].start * 1_000) as u64);
        }
    }

    #[test]
    fn a_history_that_is_deleted_meanwhile_begins_anew_with_everything_since_its_last_interval() {
        let directory = tempfile::tempdir().expect("a directory");
        let tables = tables();
        let mut fib = Fib::new(&tables, 1);
        let mut now = Clocks {
            wall: 1_700_000_100_000,
            boot: 50_000,
        };
        let mut life = begin(directory.path(), &tables, now, true);
        fib.leave_readings(life.readings.clone());
        for at in 0..3 {
            fib.announce(&tables, prefix(at), 2, Provenance::default());
        }
        let mut received = 5_000;
        for (packets, gone) in [(500, false), (30, true), (7, false)] {
            for at in 0..3 {
                let slot = fib.slot(&tables, prefix(at)).expect("laid");
                forward(&tables, slot, packets);
            }
            received += packets;
            now.wall += 300_000;
            now.boot += 300_000;
            if gone {
                std::fs::remove_file(directory.path().join(forwarder_history::FILE)).expect("it was there");
            }
            assert_eq!(life.recorder.stay_in_place().expect("room"), gone);
            let total = forwarded(&tables);
            life.prefixes.pass(&tables);
            let link_stats = move |_| Some(sample::link(received));
            let mut list = standing(&tables, &[]);
            list.extend(of_drivers(&tables, &link_stats));
            life.recorder.notice(&list).expect("room");
            life.recorder
                .commit(&tables, &mut life.prefixes, &list, total, now)
                .expect("room");
        }
        let reader = History::open_read(directory.path()).expect("a reader");
        assert_eq!(reader.intervals(0, i64::MAX).expect("readable").len(), 2);
        let each = |at| (prefix(at).to_string(), 37);
        assert_eq!(
            by_name(&reader, Kind::PrefixOut),
            (0..3).map(each).collect::<BTreeMap<_, _>>()
        );
        assert_eq!(sum(&reader, Kind::ForwardedIn).packets, 3 * 37);
        // What the driver had counted when the file went is no past that nobody saw.
        assert_eq!(sum(&reader, Kind::InterfaceIn).packets, 37);
        assert_eq!(sum(&reader, Kind::UnattributedOut), count(0));
        drop(life);
        // And a sampler that is killed then goes on from there.
        let mut life = begin(directory.path(), &tables, now, false);
        life.prefixes.pass(&tables);
        assert_eq!(life.prefixes.totals.sum(), Both::default());
    }

    #[test]
    fn without_its_history_a_sampler_begins_where_it_is_and_a_drivers_past_is_of_no_interval() {
        let directory = tempfile::tempdir().expect("a directory");
        let tables = tables();
        let mut fib = Fib::new(&tables, 1);
        fib.announce(&tables, prefix(0), 2, Provenance::default());
        let slot = fib.slot(&tables, prefix(0)).expect("laid");
        forward(&tables, slot, 1_000);
        let mut now = Clocks {
            wall: 1_700_000_100_000,
            boot: 50_000,
        };
        let mut life = begin(directory.path(), &tables, now, false);
        let mut received = 5_000;
        for more in [0, 30] {
            forward(&tables, slot, more);
            received += more;
            now.wall += 300_000;
            now.boot += 300_000;
            let total = forwarded(&tables);
            life.prefixes.pass(&tables);
            let link_stats = move |_| Some(sample::link(received));
            let mut list = standing(&tables, &[]);
            list.extend(of_drivers(&tables, &link_stats));
            life.recorder
                .commit(&tables, &mut life.prefixes, &list, total, now)
                .expect("room");
        }
        let reader = History::open_read(directory.path()).expect("a reader");
        assert_eq!(sum(&reader, Kind::PrefixOut), count(30));
        assert_eq!(sum(&reader, Kind::UnattributedOut), count(0));
        assert_eq!(sum(&reader, Kind::InterfaceIn).packets, 30);
    }
}
