//! The socket, on loopback, with clients that are not zebra.

use std::io::Write;
use std::sync::mpsc::{self, Receiver};

use super::*;
use crate::source::answers::{Answer, Fate};
use crate::source::feed::FeedTable;
use crate::source::logged;
use crate::source::tap::Kind;

const LIMIT: Duration = Duration::from_secs(10);

fn start(room: usize) -> (Fpm, FeedHandle, Receiver<Batch>) {
    let (sender, receiver) = mpsc::sync_channel(room);
    let config = FpmConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        quiet_time: Duration::from_millis(200),
        restart_time: Duration::from_millis(200),
        ..FpmConfig::default()
    };
    let (fpm, handle) = Fpm::start(config, 7, sender).unwrap();
    (fpm, handle, receiver)
}

fn connect(fpm: &Fpm) -> TcpStream {
    let stream = TcpStream::connect(fpm.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Events until the one that is waited for.
fn until(receiver: &Receiver<Batch>, wanted: &FeedEvent) -> Vec<FeedEvent> {
    let mut events = Vec::new();
    while events.last() != Some(wanted) {
        let batch = receiver
            .recv_timeout(LIMIT)
            .unwrap_or_else(|_| panic!("no {wanted:?} after {events:?}"));
        assert_eq!(batch.feed, 7);
        for event in batch.events {
            events.push(event);
            if events.last() == Some(wanted) {
                break;
            }
        }
    }
    events
}

/// A frame that announces 203.0.113.N/32 as a blackhole.
fn blackhole(last: u8) -> Vec<u8> {
    let mut frame = vec![1, 1, 0, 4 + 16 + 12 + 8, 36, 0, 0, 0, 24, 0];
    frame.extend([0; 10]);
    frame.extend([2, 32, 0, 0, 254, 186, 0, 6, 0, 0, 0, 0]);
    frame.extend([8, 0, 1, 0, 203, 0, 113, last]);
    frame
}

/// It was closed by the other side.
fn closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0)) || stream.read(&mut [0]).is_err()
}

#[test]
fn a_session_from_connection_to_loss_and_what_a_recorder_sees() {
    let (fpm, handle, receiver) = start(16);
    let recording = handle.tap.open().unwrap();
    let mut zebra = connect(&fpm);
    zebra.write_all(&blackhole(1)).unwrap();
    let events = until(&receiver, &FeedEvent::State(FeedState::Live));
    let routes = events
        .iter()
        .filter(|event| matches!(event, FeedEvent::Route { .. }));
    assert_eq!(routes.count(), 1);
    drop(zebra);
    until(&receiver, &FeedEvent::State(FeedState::Stale));
    let events = until(&receiver, &FeedEvent::State(FeedState::Down));
    assert!(events.contains(&FeedEvent::Sweep(FeedTable::Ipv4)));
    let kinds: Vec<Kind> = recording.chunks.try_iter().map(|chunk| chunk.kind).collect();
    assert_eq!(kinds, [Kind::Begin, Kind::Read, Kind::End]);
}

#[test]
fn a_client_of_another_version_is_shown_the_door_and_named() {
    logged::keep();
    let (fpm, handle, receiver) = start(16);
    let mut client = connect(&fpm);
    client.write_all(&blackhole(1)).unwrap();
    client.write_all(&[9, 1, 0, 8, 0, 0, 0, 0]).unwrap();
    let events = until(&receiver, &FeedEvent::State(FeedState::Stale));
    let came = |event: &FeedEvent| matches!(event, FeedEvent::Route { .. });
    let went = |event: &FeedEvent| matches!(event, FeedEvent::RouteGone { .. } | FeedEvent::Sweep(_));
    assert!(
        events.iter().any(came) && !events.iter().any(went),
        "what was valid stays"
    );
    assert!(closed(&mut client));
    assert_eq!(handle.counts.errors.load(Relaxed), 1);
    let note = handle.counts.last_error().unwrap();
    let peer = client.local_addr().unwrap();
    assert_eq!(
        note,
        format!("{peer}: FPM version 9, and this is version 1 (octets 0901000800000000)")
    );
    let words = [
        "the FPM session is lost",
        &format!("peer={peer}"),
        "octets 0901000800000000",
    ];
    assert_eq!(logged::lines(&words).len(), 1, "{:?}", logged::lines(&["FPM"]));
    let mut zebra = connect(&fpm);
    zebra.write_all(&blackhole(1)).unwrap();
    until(&receiver, &FeedEvent::State(FeedState::Live));
}

#[test]
fn a_second_client_is_refused_and_the_first_goes_on() {
    let (fpm, handle, receiver) = start(16);
    let mut first = connect(&fpm);
    until(&receiver, &FeedEvent::State(FeedState::Syncing));
    let mut second = connect(&fpm);
    assert!(closed(&mut second));
    assert_eq!(handle.counts.errors.load(Relaxed), 1);
    assert_eq!(handle.counts.sessions.load(Relaxed), 1);
    first.write_all(&blackhole(1)).unwrap();
    until(&receiver, &FeedEvent::State(FeedState::Live));
}

#[test]
fn a_client_that_says_nothing_gives_its_place_to_the_next_and_status_names_who_has_it() {
    logged::keep();
    let (fpm, handle, receiver) = start(16);
    let mut silent = connect(&fpm);
    until(&receiver, &FeedEvent::State(FeedState::Syncing));
    let silent_at = silent.local_addr().unwrap().to_string();
    assert_eq!(handle.counts.session().connected, Some(silent_at.clone()));
    // Too early, zebra is refused; it calls again until it has the place.
    let end = Instant::now() + LIMIT;
    let mut zebra = loop {
        assert!(Instant::now() < end, "zebra is kept out");
        let mut zebra = connect(&fpm);
        let _ = zebra.write_all(&blackhole(1));
        let own = zebra.local_addr().unwrap().to_string();
        thread::sleep(Duration::from_millis(100));
        if handle.counts.session().connected == Some(own) {
            break zebra;
        }
    };
    assert!(closed(&mut silent));
    until(&receiver, &FeedEvent::State(FeedState::Live));
    // It has spoken, and stays however long it is silent then.
    thread::sleep(SILENCE + Duration::from_millis(100));
    let mut other = connect(&fpm);
    assert!(closed(&mut other));
    zebra.write_all(&blackhole(2)).unwrap();
    // A client that was refused just now hides no loss.
    let peer = zebra.local_addr().unwrap();
    drop(zebra);
    until(&receiver, &FeedEvent::State(FeedState::Stale));
    assert_eq!(handle.counts.session().connected, None);
    let lost = logged::lines(&["the FPM session is lost", &format!("peer={peer}")]);
    assert_eq!(lost.len(), 1, "{:?}", logged::lines(&["FPM"]));
}

#[test]
fn a_rib_that_is_behind_makes_zebra_wait_and_loses_nothing() {
    let (fpm, handle, receiver) = start(1);
    let mut zebra = connect(&fpm);
    let writer = thread::spawn(move || {
        for _ in 0..2_000 {
            let all: Vec<u8> = (0..=255).flat_map(blackhole).collect();
            zebra.write_all(&all).unwrap();
        }
        zebra
    });
    // What is not taken stays in sockets and channel: megabytes, and not the twenty that are written.
    thread::sleep(Duration::from_secs(1));
    assert!(
        !writer.is_finished(),
        "nobody read, and yet everything was written"
    );
    let mut routes = 0;
    while routes < 2_000 * 256 {
        let batch = receiver.recv_timeout(LIMIT).unwrap();
        let are = batch
            .events
            .iter()
            .filter(|event| matches!(event, FeedEvent::Route { .. }));
        routes += are.count();
        assert!(batch.events.len() < 32_768);
    }
    let zebra = writer.join().unwrap();
    assert_eq!(handle.counts.updates.load(Relaxed), routes as u64);
    drop(zebra);
}

#[test]
fn it_ends_while_the_rib_does_not_listen() {
    let (fpm, _handle, receiver) = start(1);
    let mut zebra = connect(&fpm);
    let all: Vec<u8> = (0..=255).flat_map(blackhole).collect();
    zebra.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while zebra.write_all(&all).is_ok() {}
    let began = Instant::now();
    drop(fpm);
    assert!(began.elapsed() < Duration::from_secs(1));
    drop(receiver);
}

#[test]
fn an_address_in_use_is_an_error_that_says_so() {
    let (fpm, _handle, _receiver) = start(1);
    let config = FpmConfig {
        listen: fpm.address(),
        ..FpmConfig::default()
    };
    let error = Fpm::start(config, 1, mpsc::sync_channel(1).0)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&fpm.address().to_string()) && error.contains("in use"),
        "{error}"
    );
}

fn offloading() -> (Fpm, FeedHandle, Receiver<Batch>) {
    let (sender, receiver) = mpsc::sync_channel(16);
    let config = FpmConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        offload: true,
        ..FpmConfig::default()
    };
    let (fpm, handle) = Fpm::start(config, 7, sender).unwrap();
    (fpm, handle, receiver)
}

fn laid(number: u32) -> Answer {
    Answer {
        prefix: ipnet::IpNet::new(std::net::Ipv4Addr::from(number).into(), 32).unwrap(),
        protocol: 186,
        fate: Fate::Laid,
    }
}

#[test]
fn zebra_is_told_what_became_of_its_routes_a_frame_for_each() {
    let (fpm, handle, receiver) = offloading();
    let answers = handle.answers.unwrap();
    let mut zebra = connect(&fpm);
    until(&receiver, &FeedEvent::State(FeedState::Syncing));
    answers.tell(laid(0xc000_0201));
    let mut frame = [0; 40];
    zebra.read_exact(&mut frame).unwrap();
    assert_eq!(frame[..8], [1, 1, 0, 40, 36, 0, 0, 0]);
    assert_eq!(frame[32..], [8, 0, 1, 0, 192, 0, 2, 1]);
    drop(zebra);
    // The next session hears nothing of this one's.
    until(&receiver, &FeedEvent::State(FeedState::Down));
    answers.tell(laid(1));
    let mut zebra = connect(&fpm);
    until(&receiver, &FeedEvent::State(FeedState::Syncing));
    answers.tell(laid(2));
    zebra.read_exact(&mut frame).unwrap();
    assert_eq!(frame[36..], [0, 0, 0, 2]);
}

#[test]
fn without_offload_nobody_is_told_anything() {
    let (_fpm, handle, _receiver) = start(1);
    assert!(handle.answers.is_none());
}

#[test]
fn a_zebra_that_does_not_read_loses_answers_and_no_route_and_hears_all_that_had_room() {
    let (fpm, handle, receiver) = offloading();
    let answers = handle.answers.unwrap();
    let mut zebra = connect(&fpm);
    until(&receiver, &FeedEvent::State(FeedState::Syncing));
    let mut told = 0;
    while answers.counts()[1] == 0 {
        answers.tell(laid(told));
        told += 1;
    }
    // Nothing moves any more, and routes are taken as ever.
    zebra.write_all(&blackhole(1)).unwrap();
    let batch = receiver.recv_timeout(LIMIT).unwrap();
    assert!(matches!(batch.events[..], [FeedEvent::Route { .. }]), "{batch:?}");
    let dropped = answers.counts()[1];
    let mut last = None;
    for _ in 0..u64::from(told) - dropped {
        let mut frame = [0; 40];
        zebra.read_exact(&mut frame).unwrap();
        let number = u32::from_be_bytes(*frame.last_chunk().unwrap());
        assert!(last.is_none_or(|last| last < number), "{last:?} {number}");
        last = Some(number);
    }
    assert!(answers.owes().is_some());
    assert_eq!(handle.counts.errors.load(Relaxed), 0);
}
