use super::*;
use crate::source::bgp::testing::{graceful, terms};
use FeedTable::{Ipv4, Ipv6};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn mark(table: FeedTable, least_preferred: bool) -> FeedEvent {
    FeedEvent::Mark {
        table,
        least_preferred,
    }
}

/// Terms of a neighbour with IPv4 and IPv6 unicast that offers graceful restart.
fn restarting() -> Terms {
    Terms {
        tables: [true, true, false, false],
        graceful: Some(graceful()),
        ..terms()
    }
}

struct Play {
    tables: Tables,
    start: Instant,
}

impl Play {
    /// A session that is whole.
    fn whole(terms: &Terms) -> Play {
        let start = Instant::now();
        let mut play = Play {
            tables: Tables::default(),
            start,
        };
        play.up(terms, 0);
        for table in TABLES {
            play.tables.end_of_rib(table, &mut Vec::new());
        }
        assert!(play.tables.whole());
        play
    }

    fn up(&mut self, terms: &Terms, second: u64) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        self.tables
            .established(terms, self.start + at(second), &mut events);
        events
    }

    fn down(&mut self, graceful: bool, terms: &Terms, second: u64) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        self.tables
            .lost(graceful, terms, self.start + at(second), &mut events);
        events
    }

    fn tick(&mut self, second: u64) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        self.tables.tick(self.start + at(second), &mut events);
        events
    }

    fn end_of_rib(&mut self, table: FeedTable) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        self.tables.end_of_rib(table, &mut events);
        events
    }
}

#[test]
fn without_graceful_restart_everything_goes_with_the_session() {
    let plain = Terms {
        graceful: None,
        ..restarting()
    };
    let mut play = Play::whole(&plain);
    let gone = [
        mark(Ipv4, false),
        FeedEvent::Sweep(Ipv4),
        mark(Ipv6, false),
        FeedEvent::Sweep(Ipv6),
    ];
    assert_eq!(play.down(true, &plain, 100), gone);
    assert!(!play.tables.stale());
    assert_eq!(play.tables.next(), None);
}

#[test]
fn a_neighbour_that_comes_back_in_time_is_swept_at_its_end_of_rib() {
    let terms = restarting();
    let mut play = Play::whole(&terms);
    assert_eq!(
        play.down(true, &terms, 100),
        [mark(Ipv4, false), mark(Ipv6, false)]
    );
    assert_eq!(play.tick(219), []);
    assert_eq!(play.up(&terms, 219), []);
    assert_eq!(play.tick(230), [], "the restart time ended with the restart");
    assert_eq!(
        play.end_of_rib(Ipv6),
        [FeedEvent::Sweep(Ipv6), FeedEvent::Synchronised(Ipv6)]
    );
    assert!(play.tables.stale() && !play.tables.whole());
    assert_eq!(
        play.end_of_rib(Ipv4),
        [FeedEvent::Sweep(Ipv4), FeedEvent::Synchronised(Ipv4)]
    );
    assert!(!play.tables.stale() && play.tables.whole());
    assert_eq!(play.end_of_rib(Ipv4), [], "a second one says nothing");
}

#[test]
fn one_that_stays_away_is_swept_when_its_time_is_over() {
    let terms = restarting();
    let mut play = Play::whole(&terms);
    play.down(true, &terms, 100);
    assert_eq!(play.tables.next(), Some(play.start + at(220)));
    assert_eq!(play.tick(220), [FeedEvent::Sweep(Ipv4), FeedEvent::Sweep(Ipv6)]);
    assert_eq!((play.tables.next(), play.tables.stale()), (None, false));
}

#[test]
fn an_end_that_forbids_restart_keeps_nothing() {
    let terms = restarting();
    let mut play = Play::whole(&terms);
    let events = play.down(false, &terms, 100);
    assert!(events.contains(&FeedEvent::Sweep(Ipv4)) && events.contains(&FeedEvent::Sweep(Ipv6)));
    assert!(!play.tables.stale());
}

#[test]
fn a_table_that_did_not_go_on_forwarding_is_swept_at_once() {
    let terms = restarting();
    let mut play = Play::whole(&terms);
    play.down(true, &terms, 100);
    let mut back = restarting();
    back.graceful.as_mut().unwrap().tables = [Some(false), None, None, None];
    assert_eq!(
        play.up(&back, 110),
        [FeedEvent::Sweep(Ipv4), FeedEvent::Sweep(Ipv6)]
    );
}

#[test]
fn a_table_that_did_not_come_back_is_swept_at_once() {
    let terms = restarting();
    let mut play = Play::whole(&terms);
    play.down(true, &terms, 100);
    let only4 = Terms {
        tables: [true, false, false, false],
        ..restarting()
    };
    assert_eq!(play.up(&only4, 110), [FeedEvent::Sweep(Ipv6)]);
}

#[test]
fn tables_that_were_not_offered_go_at_once_and_the_others_stay() {
    let mut some = restarting();
    some.graceful.as_mut().unwrap().tables = [None, Some(true), None, None];
    let mut play = Play::whole(&some);
    let events = play.down(true, &some, 100);
    assert_eq!(
        events,
        [mark(Ipv4, false), FeedEvent::Sweep(Ipv4), mark(Ipv6, false)]
    );
    assert!(play.tables.stale());
}

#[test]
fn what_is_stale_is_not_kept_through_a_second_restart() {
    let terms = restarting();
    let mut play = Play::whole(&terms);
    play.down(true, &terms, 100);
    play.up(&terms, 110);
    let events = play.down(true, &terms, 115);
    assert_eq!(
        events,
        [
            FeedEvent::Sweep(Ipv4),
            mark(Ipv4, false),
            FeedEvent::Sweep(Ipv6),
            mark(Ipv6, false)
        ]
    );
    assert_eq!(play.tables.next(), Some(play.start + at(235)));
}

#[test]
fn one_that_never_gets_to_its_end_of_rib_is_swept_all_the_same() {
    let terms = restarting();
    let mut play = Play::whole(&terms);
    play.down(true, &terms, 100);
    play.up(&terms, 110);
    assert_eq!(play.tick(469), []);
    let both = |table| [FeedEvent::Sweep(table), FeedEvent::Synchronised(table)];
    assert_eq!(play.tick(470), [both(Ipv4), both(Ipv6)].concat());
}

#[test]
fn a_long_lived_restart_goes_on_as_the_last_choice() {
    let mut terms = restarting();
    terms.long_lived[0] = Some((true, at(3600)));
    let mut play = Play::whole(&terms);
    play.down(true, &terms, 100);
    assert_eq!(play.tick(220), [mark(Ipv4, true), FeedEvent::Sweep(Ipv6)]);
    assert!(play.tables.stale());
    // It comes back, and is lost again before it is whole: the long time goes on from where it began.
    assert_eq!(play.up(&terms, 1000), []);
    assert!(play.down(true, &terms, 1100).contains(&mark(Ipv4, true)));
    assert_eq!(play.tick(3819), [FeedEvent::Sweep(Ipv6)]);
    assert_eq!(play.tick(3820), [FeedEvent::Sweep(Ipv4)]);
    assert!(!play.tables.stale());
}

#[test]
fn a_long_lived_restart_without_a_short_one_begins_at_once() {
    let mut terms = restarting();
    terms.graceful.as_mut().unwrap().time = Duration::ZERO;
    terms.long_lived[1] = Some((false, at(60)));
    let mut play = Play::whole(&terms);
    let events = play.down(true, &terms, 100);
    assert_eq!(
        events,
        [mark(Ipv4, false), FeedEvent::Sweep(Ipv4), mark(Ipv6, true)]
    );
    // Its F bit is not set: what it had is gone when it comes back.
    assert_eq!(play.up(&terms, 110), [FeedEvent::Sweep(Ipv6)]);
}

#[test]
fn who_does_not_know_end_of_rib_is_whole_when_quiet() {
    let plain = Terms {
        graceful: None,
        tables: [true, false, false, false],
        ..terms()
    };
    let mut play = Play {
        tables: Tables::default(),
        start: Instant::now(),
    };
    play.up(&plain, 0);
    for second in [3, 6, 9] {
        assert_eq!(play.tick(second), []);
        play.tables.heard(Ipv4, play.start + at(second));
    }
    assert_eq!(play.tick(13), []);
    assert_eq!(play.tick(14), [FeedEvent::Synchronised(Ipv4)]);
    assert!(play.tables.whole());
}

#[test]
fn a_refresh_with_marks_is_mark_and_sweep() {
    let terms = restarting();
    let mut play = Play::whole(&terms);
    let (now, mut events) = (play.start, Vec::new());
    assert!(play.tables.refresh_begins(Ipv4, now, &mut events));
    assert!(play.tables.refresh_ends(Ipv4, &mut events));
    assert!(
        !play.tables.refresh_ends(Ipv4, &mut events),
        "an end without a beginning"
    );
    assert_eq!(events, [mark(Ipv4, false), FeedEvent::Sweep(Ipv4)]);
    // An end that never comes.
    play.tables.refresh_begins(Ipv4, now, &mut events);
    assert_eq!(play.tick(359), []);
    assert_eq!(play.tick(360), [FeedEvent::Sweep(Ipv4)]);
}

#[test]
fn a_refresh_before_the_end_of_rib_means_nothing() {
    let terms = restarting();
    let mut play = Play::whole(&terms);
    play.down(true, &terms, 100);
    play.up(&terms, 110);
    let (now, mut events) = (play.start + at(111), Vec::new());
    assert!(!play.tables.refresh_begins(Ipv4, now, &mut events));
    assert!(!play.tables.refresh_ends(Ipv4, &mut events));
    assert_eq!(events, []);
}
