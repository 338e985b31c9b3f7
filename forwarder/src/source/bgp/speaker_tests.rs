use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::*;
use crate::config::{BgpNeighbour, Secret};
use crate::source::bgp::testing::{plain, restart_capability, update, usual_open};
use crate::source::bgp::wire::{KEEPALIVE, message};
use crate::source::feed::{FeedEvent, FeedState};
use crate::source::tap::Kind;

const LIMIT: Duration = Duration::from_secs(10);

fn config(neighbours: &[&str]) -> BgpConfig {
    let neighbours = neighbours
        .iter()
        .map(|address| BgpNeighbour::plain(address.parse().unwrap(), 64_500));
    BgpConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        local_as: 64_500,
        router_id: Ipv4Addr::new(127, 0, 0, 2),
        hold_time: 9,
        graceful_restart: true,
        flowspec_validation: true,
        blackhole_communities: Vec::new(),
        neighbours: neighbours.collect(),
    }
}

fn start(config: &BgpConfig, room: usize) -> (Speaker, Receiver<Batch>) {
    let (sink, batches) = mpsc::sync_channel(room);
    (Speaker::start(config, 10, sink).unwrap(), batches)
}

/// Connects as a daemon on this host would.
fn call(speaker: &Speaker) -> TcpStream {
    let stream = TcpStream::connect(speaker.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn establish(speaker: &Speaker) -> TcpStream {
    let mut stream = call(speaker);
    stream
        .write_all(
            &[
                &usual_open(&[restart_capability(60, false, true)])[..],
                &KEEPALIVE,
            ]
            .concat(),
        )
        .unwrap();
    assert_eq!(next(&mut stream).unwrap().0, 1);
    assert_eq!(next(&mut stream).unwrap().0, 4);
    for _ in 0..2 {
        assert_eq!(next(&mut stream).unwrap().0, 2, "the end of no routes");
    }
    stream
}

/// Type and body of the next message; `None` at the end.
fn next(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 19];
    stream.read_exact(&mut header).ok()?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])) - 19];
    stream.read_exact(&mut body).ok()?;
    Some((header[18], body))
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Events until this state was said.
fn events_to(batches: &Receiver<Batch>, state: FeedState) -> Vec<FeedEvent> {
    let mut events = Vec::new();
    while !events.contains(&FeedEvent::State(state)) {
        let batch = batches.recv_timeout(LIMIT).unwrap();
        assert_eq!(batch.feed, 10);
        events.extend(batch.events);
    }
    events
}

/// Events until this one.
fn events_to_last(batches: &Receiver<Batch>, last: &FeedEvent) {
    while !batches.recv_timeout(LIMIT).unwrap().events.contains(last) {}
}

#[test]
fn a_daemon_on_this_host_is_a_feed_when_it_calls() {
    let (speaker, batches) = start(&config(&[]), 100);
    assert!(speaker.feeds().is_empty());
    let recording = {
        let mut stream = establish(&speaker);
        stream
            .write_all(&message(2, &update(&[], &plain(), &[8, 10, 8, 11])))
            .unwrap();
        stream.write_all(&message(2, &[0; 4])).unwrap();
        let [feed] = speaker.feeds().try_into().unwrap();
        assert_eq!((feed.id, feed.kind, feed.name.as_str()), (10, "bgp", "127.0.0.1"));
        until("the routes", || feed.counts.updates.load(Relaxed) == 2);
        until("the view", || {
            feed.counts
                .session()
                .tables
                .first()
                .is_some_and(|table| table.routes == 2)
        });
        assert!(speaker.refresh(10) && !speaker.refresh(11));
        assert_eq!(next(&mut stream), Some((5, vec![0, 1, 0, 1])));
        feed.tap.open().unwrap()
    };
    // The stream is dropped: the daemon died.
    let events = events_to(&batches, FeedState::Stale);
    let routes = events
        .iter()
        .filter(|event| matches!(event, FeedEvent::Route { .. }));
    assert_eq!(routes.count(), 2);
    let mut recorded = recording.chunks.iter();
    assert!(recorded.any(|chunk| chunk.kind == Kind::End));
    // It comes back by another connection and is the same feed.
    let _again = establish(&speaker);
    events_to(&batches, FeedState::Syncing);
    assert_eq!(speaker.feeds().len(), 1);
    assert_eq!(recorded.next().unwrap().kind, Kind::Begin);
    assert_eq!(recorded.next().unwrap().bytes[18], 1, "its OPEN");
}

#[test]
fn who_is_no_neighbour_is_closed_and_counted() {
    let (speaker, _batches) = start(&config(&["127.0.0.9"]), 100);
    assert_eq!(
        speaker.feeds().len(),
        1,
        "a neighbour that is configured is a feed at once"
    );
    let mut stream = call(&speaker);
    assert_eq!(next(&mut stream), None);
    until("the count", || speaker.counts().strangers.load(Relaxed) == 1);
}

#[test]
fn what_is_wrong_is_said_before_the_connection_ends() {
    let (speaker, _batches) = start(&config(&[]), 100);
    let mut stream = call(&speaker);
    // More than is read: the end must not overtake the words.
    stream.write_all(&[b'x'; 3_000]).unwrap();
    assert_eq!(next(&mut stream).unwrap().0, 1);
    assert_eq!(next(&mut stream), Some((3, vec![1, 1])));
    assert_eq!(next(&mut stream), None);
}

#[test]
fn a_rib_that_takes_nothing_stops_the_reading_and_not_the_keepalives() {
    let short = BgpConfig {
        hold_time: 3,
        ..config(&[])
    };
    let (speaker, batches) = start(&short, 1);
    let mut stream = establish(&speaker);
    let mut writer = stream.try_clone().unwrap();
    let nlri: Vec<u8> = (0..=255).flat_map(|octet| [16, 10, octet]).collect();
    let one = message(2, &update(&[], &plain(), &nlri));
    const MESSAGES: u64 = 40_000;
    // 35 MB, more than any buffer on the way.
    let sending = std::thread::spawn(move || (0..MESSAGES).try_for_each(|_| writer.write_all(&one)));
    // A third of the hold time, three times.
    for _ in 0..3 {
        assert_eq!(next(&mut stream), Some((4, vec![])));
    }
    let [feed] = speaker.feeds().try_into().unwrap();
    let read = feed.counts.updates.load(Relaxed);
    assert!(read < 50_000, "{read} were read with room for one batch");
    assert!(!sending.is_finished());
    // The RIB goes on, and nothing was lost.
    let mut routes = 0;
    while routes < MESSAGES * 256 {
        let batch = batches.recv_timeout(LIMIT).unwrap();
        routes += batch
            .events
            .iter()
            .filter(|event| matches!(event, FeedEvent::Route { .. }))
            .count() as u64;
    }
    sending.join().unwrap().unwrap();
    assert_eq!(feed.counts.sessions.load(Relaxed), 1);
}

#[test]
fn too_many_that_only_connect_are_turned_away() {
    let addresses: Vec<String> = (1..=20).map(|last| format!("127.0.1.{last}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let (speaker, _batches) = start(&config(&addresses), 100);
    let mut streams = Vec::new();
    for address in &addresses {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let from = SocketAddr::new(address.parse::<IpAddr>().unwrap(), 0);
        socket.bind(&from.into()).unwrap();
        socket.connect(&speaker.addresses()[0].into()).unwrap();
        streams.push(socket);
    }
    until("the count", || speaker.counts().crowded.load(Relaxed) == 4);
}

#[test]
fn a_speaker_that_stops_says_so_and_tells_the_rib_nothing() {
    let (speaker, batches) = start(&config(&[]), 100);
    let mut stream = establish(&speaker);
    events_to(&batches, FeedState::Syncing);
    drop(speaker);
    assert_eq!(next(&mut stream), Some((3, vec![6, 2])));
    assert_eq!(batches.iter().count(), 0);
}

#[test]
fn when_the_rib_is_gone_the_speaker_ends() {
    let (speaker, batches) = start(&config(&[]), 1);
    drop(batches);
    let mut stream = call(&speaker);
    // The state that nobody takes any more.
    stream.write_all(&usual_open(&[])).unwrap();
    while next(&mut stream).is_some() {}
    until("the end", || speaker.thread.as_ref().unwrap().is_finished());
}

#[test]
fn with_a_key_who_has_none_does_not_even_connect() {
    let mut config = config(&["127.0.0.1"]);
    config.neighbours[0].password = Some(Secret::new("hush".into()));
    config.neighbours[0].ttl_security = true;
    let (speaker, _batches) = start(&config, 1);
    let refused = TcpStream::connect_timeout(&speaker.addresses()[0], Duration::from_millis(300));
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let (speaker, _batches) = start(&config(&[]), 1);
    let taken = BgpConfig {
        listen: speaker.addresses().to_vec(),
        ..config(&[])
    };
    let (sink, _other) = mpsc::sync_channel(1);
    let error = Speaker::start(&taken, 0, sink).unwrap_err().to_string();
    assert!(error.starts_with("BGP cannot listen on 127.0.0.1:"), "{error}");
}

#[test]
fn who_only_connects_is_no_neighbour_and_keeps_nobody_out() {
    let (speaker, batches) = start(&config(&[]), 100);
    let flood: Vec<TcpStream> = (0..200).map(|_| call(&speaker)).collect();
    // Each of eight addresses that a neighbour could have; none of them becomes one.
    let mut others = Vec::new();
    for last in 10..20 {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let from = SocketAddr::from(([127, 0, 1, last], 0));
        socket.bind(&from.into()).unwrap();
        socket.connect(&speaker.addresses()[0].into()).unwrap();
        others.push(socket);
    }
    let _daemon = establish(&speaker);
    events_to(&batches, FeedState::Syncing);
    let names: Vec<String> = speaker.feeds().into_iter().map(|feed| feed.name).collect();
    assert_eq!(names, ["127.0.0.1"]);
    assert!(speaker.counts().crowded.load(Relaxed) >= 200 - 64);
    drop(flood);
}

#[test]
fn an_open_that_is_refused_makes_no_neighbour_and_is_told_with_why() {
    let (speaker, _batches) = start(&config(&[]), 100);
    let mut stream = call(&speaker);
    let mut open = usual_open(&[]);
    // Its AS, in four octets.
    let own = [65, 4, 0, 0, 0xfb, 0xf4];
    let at = open.windows(6).position(|octets| octets == own).unwrap();
    open[at + 4..at + 6].copy_from_slice(&64_999_u16.to_be_bytes());
    stream.write_all(&open).unwrap();
    assert_eq!(next(&mut stream).unwrap().0, 1);
    let (kind, body) = next(&mut stream).unwrap();
    assert_eq!((kind, &body[..2]), (3, &[2, 2][..]));
    assert_eq!(next(&mut stream), None);
    until("the stranger", || speaker.counts().last_stranger().is_some());
    let stranger = speaker.counts().last_stranger().unwrap();
    assert_eq!(
        stranger.why.as_deref(),
        Some("its AS is 64999, and 64500 is expected")
    );
    assert!(speaker.feeds().is_empty());
}

#[test]
fn who_goes_without_a_route_is_forgotten_and_its_place_is_free() {
    let (speaker, batches) = start(&config(&[]), 100);
    drop(establish(&speaker));
    events_to_last(&batches, &FeedEvent::Forgotten);
    assert!(speaker.feeds().is_empty());
    let _again = establish(&speaker);
    events_to(&batches, FeedState::Syncing);
    assert_eq!(speaker.feeds().len(), 1);
}

#[test]
fn neighbours_without_a_route_make_room_for_another() {
    let (speaker, batches) = start(&config(&[]), 100);
    let open = [&usual_open(&[])[..], &KEEPALIVE].concat();
    let mut idle = Vec::new();
    for last in 1..=8 {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let from = SocketAddr::from(([127, 0, 1, last], 0));
        socket.bind(&from.into()).unwrap();
        socket.connect(&speaker.addresses()[0].into()).unwrap();
        let mut stream: TcpStream = socket.into();
        stream.write_all(&open).unwrap();
        idle.push(stream);
    }
    until("eight of them", || speaker.feeds().len() == 8);
    let _daemon = establish(&speaker);
    let name = |speaker: &Speaker| speaker.feeds().iter().any(|feed| feed.name == "127.0.0.1");
    until("the ninth", || name(&speaker));
    assert_eq!(speaker.feeds().len(), 8);
    drop(batches);
}
