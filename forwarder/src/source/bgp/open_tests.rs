use super::*;
use crate::source::bgp::testing::{capability, hex, open, us};
use crate::source::bgp::wire::{self, Kind};

fn offer(capabilities: &[Vec<u8>]) -> Offer {
    Offer::read(&open(capabilities)).unwrap()
}

#[test]
fn our_open_offers_what_we_take_and_is_read_by_the_same_code() {
    let message = us().open();
    let (message, _) = wire::first(&message, LONGEST).unwrap().unwrap();
    assert_eq!(message.kind, Kind::Open);
    let offer = Offer::read(message.body).unwrap();
    assert_eq!((offer.peer_as, offer.hold_time), (64_500, 90));
    assert_eq!(offer.tables, Some([true; 4]));
    assert!(offer.four_octets && offer.refresh && offer.enhanced_refresh && offer.extended_message);
    let graceful = offer.graceful.unwrap();
    assert_eq!(
        (graceful.time, graceful.notification, graceful.tables),
        (Duration::ZERO, true, [None; 4])
    );
    assert_eq!(offer.sends_paths, [false; 4], "we send nothing");
    assert!(offer.malformed.is_empty());
    // RFC 8950 for IPv4, ADD-PATH receive, long-lived restart without a family.
    for expected in ["05 06 0001 0001 0002", "45 08 0001 01 01 0002 01 01", "47 00"] {
        let expected = hex(expected);
        assert!(
            message
                .body
                .windows(expected.len())
                .any(|window| window == expected),
            "{expected:02x?}"
        );
    }
}

#[test]
fn an_as_of_four_octets_stands_behind_as_trans() {
    let identity = Identity {
        local_as: 4_200_000_000,
        ..us()
    };
    let message = identity.open();
    assert_eq!(message[20..22], AS_TRANS.to_be_bytes());
    assert_eq!(Offer::read(&message[19..]).unwrap().peer_as, 4_200_000_000);
}

/// OPENs as captured from BIRD 2.0.12, FRR 8.4.4, GoBGP 3.10 and ExaBGP 4.2.21, their AS changed to ours.
#[test]
fn opens_of_the_daemons_are_understood() {
    let bird = offer(&[
        hex("0104 0001 0001"),
        hex("0104 0001 0085"),
        hex("0200"),
        hex("4002 0078"),
        hex("4104 0000fbf4"),
        hex("4508 0001 01 02 0002 01 02"),
        hex("4600"),
        hex("4700"),
    ]);
    assert_eq!(bird.tables, Some([true, false, true, false]));
    assert_eq!(bird.sends_paths, [true, true, false, false]);
    let graceful = bird.graceful.unwrap();
    assert_eq!((graceful.time.as_secs(), graceful.tables), (120, [None; 4]));

    let frr = offer(
        &[
            hex("0104 0002 0001"),
            hex("8000"),
            hex("4510 0001 01 03 0001 85 03 0002 01 03 0002 85 03"),
            hex("4902 5241 00"),
            hex("4002 c078"),
            hex("471c 0001 01 80 000000 0001 85 80 000000 0002 01 80 000010 0002 85 80 000000"),
        ]
        .map(|mut value| {
            value[1] = value.len() as u8 - 2;
            value
        }),
    );
    assert_eq!(frr.sends_paths, [true; 4]);
    assert!(frr.graceful.as_ref().unwrap().restarting && frr.graceful.as_ref().unwrap().notification);
    assert_eq!(frr.long_lived[1], Some((true, Duration::from_secs(16))));

    let gobgp = offer(&[
        hex("0518 0001 0001 0002 0001 0085 0002 0002 0001 0002 0002 0085 0002"),
        hex("4904 03766d00"),
    ]);
    assert!(gobgp.malformed.is_empty() && gobgp.tables.is_none());
}

#[test]
fn one_unknown_family_does_not_cost_the_known_ones() {
    let offer = offer(&[
        capability(1, &[0x40, 4, 0, 71]),
        capability(1, &[9, 9, 0, 9]),
        capability(1, &[0, 2, 0, 1]),
        capability(69, &hex("0909 09 03 0001 01 02")),
        capability(64, &hex("0078 0909 09 80 0002 01 80")),
        capability(71, &hex("0909 09 80 000001 0002 01 80 000e10")),
        capability(200, &[1, 2, 3]),
    ]);
    assert_eq!(offer.tables, Some([false, true, false, false]));
    assert_eq!(offer.sends_paths, [true, false, false, false]);
    assert_eq!(offer.graceful.unwrap().tables, [None, Some(true), None, None]);
    assert_eq!(offer.long_lived[1], Some((true, Duration::from_secs(3600))));
    assert!(offer.malformed.is_empty());
}

#[test]
fn a_malformed_capability_is_as_if_it_had_not_been_there() {
    let offer = offer(&[
        capability(65, &[0, 0, 1]),
        capability(64, &[0]),
        capability(69, &[0, 1, 1]),
        capability(1, &[0, 1]),
        capability(2, &[]),
    ]);
    assert_eq!(offer.malformed, [65, 64, 69, 1]);
    assert!(offer.refresh && !offer.four_octets && offer.graceful.is_none());
    assert_eq!(offer.peer_as, 64_500);
}

#[test]
fn parameters_with_wide_lengths_are_read() {
    let mut body = hex(
        "04 fbf4 001e 0a000001 ff ff 000d 02 0004 4600 0200 02 0003 050100"
            .replace(' ', "")
            .as_str(),
    );
    assert_eq!(Offer::read(&body).unwrap().malformed, Vec::<u8>::new());
    assert!(Offer::read(&body).unwrap().enhanced_refresh);
    body.truncate(body.len() - 1);
    assert_eq!(Offer::read(&body).unwrap_err().code, 2);
}

#[test]
fn what_cannot_be_accepted_has_its_subcode_and_data() {
    let fault = |body: &[u8]| {
        let fault = Offer::read(body).unwrap_err();
        assert_eq!(fault.code, 2, "{fault:?}");
        (fault.subcode, fault.data)
    };
    let body = open(&[]);
    let changed = |at: usize, value: &[u8]| {
        let mut body = body.clone();
        body[at..at + value.len()].copy_from_slice(value);
        body
    };
    assert_eq!(fault(&changed(0, &[3])), (1, vec![0, 4]));
    assert_eq!(fault(&changed(3, &[0, 1])).0, 6);
    assert_eq!(fault(&changed(3, &[0, 2])).0, 6);
    assert_eq!(fault(&changed(5, &[0, 0, 0, 0])).0, 3);
    assert_eq!(fault(&changed(5, &[224, 0, 0, 5])).0, 3);
    assert_eq!(fault(&changed(10, &[1])).0, 4, "authentication, of RFC 1771");
    assert_eq!(fault(&changed(9, &[9])).0, 0);
    assert_eq!(fault(&open(&[vec![65, 200, 0]])).0, 0);
    assert_eq!(fault(&body[..5]).0, 0);
    assert_eq!(Offer::read(&changed(3, &[0, 0])).unwrap().hold_time, 0);
}

#[test]
fn only_the_neighbour_that_is_expected_comes_in() {
    let good = offer(&[]);
    let terms = Terms::agree(&us(), &good).unwrap();
    assert_eq!(
        (terms.hold, terms.external()),
        (Some(Duration::from_secs(30)), false)
    );
    assert_eq!(
        terms.tables,
        [true, false, false, false],
        "no word on families is IPv4 unicast"
    );
    let wrong = Offer {
        peer_as: 64_501,
        ..good.clone()
    };
    let fault = Terms::agree(&us(), &wrong).unwrap_err();
    assert_eq!((fault.code, fault.subcode), (2, 2));
    assert_eq!(fault.why, "its AS is 64501, and 64500 is expected");
    let twin = Offer {
        router_id: us().router_id,
        ..good.clone()
    };
    let fault = Terms::agree(&us(), &twin).unwrap_err();
    assert_eq!((fault.code, fault.subcode), (2, 3));
    let external = Identity {
        peer_as: 64_501,
        ..us()
    };
    let other = Offer {
        peer_as: 64_501,
        ..twin
    };
    assert!(
        Terms::agree(&external, &other).unwrap().external(),
        "the same identifier in another AS is no matter"
    );
}

#[test]
fn what_only_one_side_offers_is_not_agreed_on() {
    let them = offer(&[
        capability(1, &[0, 1, 0, 1]),
        capability(64, &hex("0078 0001 01 80")),
        capability(71, &hex("0001 01 80 000e10")),
        capability(69, &hex("0001 01 02 0002 01 02")),
        capability(6, &[]),
    ]);
    let terms = Terms::agree(&us(), &them).unwrap();
    assert_eq!(
        terms.add_path,
        [true, false, false, false],
        "IPv6 has paths, but is no table of this session"
    );
    assert_eq!(terms.longest, LONGEST_EXTENDED);
    assert!(terms.graceful.is_some() && terms.long_lived[0].is_some());
    let bare = Identity {
        add_path: false,
        graceful_restart: false,
        hold_time: 0,
        ..us()
    };
    let terms = Terms::agree(&bare, &them).unwrap();
    assert_eq!((terms.add_path, terms.hold), ([false; 4], None));
    assert!(terms.graceful.is_none() && terms.long_lived == [None; 4]);
}
