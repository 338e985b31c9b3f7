//! The compiler against a naive model, on the heap.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forwarder_common::fib::GROUP_INDIRECT;
use proptest::prelude::*;

use super::*;
use crate::dataplane::{Sizes, Tables};

const PUNT: u32 = 1;

/// Longest match by looking at every prefix.
fn naive(model: &BTreeMap<IpNet, u32>, address: IpAddr) -> Option<u32> {
    model
        .iter()
        .filter(|(prefix, _)| prefix.contains(&address))
        .max_by_key(|(prefix, _)| prefix.prefix_len())
        .map(|(_, group)| *group)
}

/// The group the program finds.
fn found(tables: &Tables, address: IpAddr) -> Option<u32> {
    let leaf = tables.lookup(address).expect("a walk that ends");
    if leaf.is_none() {
        return None;
    }
    Some(match leaf.group() {
        GROUP_INDIRECT => tables
            .slot_group(leaf.slot())
            .load(std::sync::atomic::Ordering::Relaxed),
        group => group,
    })
}

/// First and last address of a prefix, and their neighbours.
fn edges(prefix: IpNet) -> Vec<IpAddr> {
    match prefix {
        IpNet::V4(net) => {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|a| IpAddr::V4(a.into()))
                .to_vec()
        }
        IpNet::V6(net) => {
            let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|a| IpAddr::V6(a.into()))
                .to_vec()
        }
    }
}

fn grace(fib: &mut Fib, tables: &Tables) {
    fib.grace_begins();
    fib.grace_over(tables);
}

/// Lengths up to `longest`. One of fewer than ten bits is 2^15 words and more to write: drawn seldom, as nothing happens
/// to it that does not happen to the others.
fn length(longest: u8) -> impl Strategy<Value = u8> {
    prop_oneof![1 => 0u8..=9, 60 => 10u8..=longest]
}

/// Prefixes from a small part of the space, so that they nest.
fn prefix4() -> impl Strategy<Value = IpNet> {
    (0u32..1 << 14, length(32)).prop_map(|(bits, length)| {
        let address = 0x0a00_0000 | (bits & 0x3) << 22 | (bits >> 2 & 0xff) << 6 | bits >> 10;
        IpNet::new(IpAddr::V4(Ipv4Addr::from(address)), length)
            .expect("length")
            .trunc()
    })
}

fn prefix6() -> impl Strategy<Value = IpNet> {
    (0u128..1 << 15, length(128)).prop_map(|(bits, length)| {
        // Both parts of the root: where the Internet is, and elsewhere.
        let top = if bits >> 14 == 0 { 0x2a00 } else { 0xfd00 };
        let bits = bits & ((1 << 14) - 1);
        let address = top << 112 | (bits & 0x7) << 100 | (bits >> 3 & 0x7) << 66 | bits >> 6 << 3;
        IpNet::new(IpAddr::V6(Ipv6Addr::from(address)), length)
            .expect("length")
            .trunc()
    })
}

fn check(fib: &Fib, tables: &Tables, model: &BTreeMap<IpNet, u32>, around: &[IpNet]) {
    for prefix in model.keys().chain(around) {
        for address in edges(*prefix) {
            assert_eq!(
                found(tables, address),
                naive(model, address),
                "{address} near {prefix}"
            );
        }
    }
    let (v4, v6) = fib.len();
    assert_eq!(v4 + v6, model.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_the_models(
        steps in prop::collection::vec((prop_oneof![prefix4(), prefix6()], 2u32..1200, any::<bool>()), 1..120),
    ) {
        let tables = Tables::heap(Sizes { groups: 4096, ..Sizes::SMALL });
        let mut fib = Fib::new(&tables, PUNT);
        let mut model = BTreeMap::new();
        for (index, (prefix, group, announce)) in steps.iter().enumerate() {
            if *announce {
                prop_assert_eq!(fib.announce(&tables, *prefix, *group, Provenance::default()), Outcome::Installed);
                model.insert(*prefix, *group);
            } else {
                prop_assert_eq!(fib.withdraw(&tables, *prefix).is_some(), model.remove(prefix).is_some());
            }
            if index % 7 == 0 {
                grace(&mut fib, &tables);
            }
        }
        let touched: Vec<IpNet> = steps.iter().map(|(prefix, ..)| *prefix).collect();
        check(&fib, &tables, &model, &touched);

        // The next controller finds the same.
        let adopted = Fib::adopt(&tables, PUNT).expect("a sound table");
        check(&adopted, &tables, &model, &touched);
        prop_assert_eq!(adopted.usage().slots, fib.usage().slots);

        // And nothing is left when all is withdrawn.
        let mut fib = adopted;
        for prefix in model.keys() {
            fib.withdraw(&tables, *prefix);
        }
        grace(&mut fib, &tables);
        prop_assert_eq!(fib.usage(), Usage { slots: 0, blocks4: 0, blocks6: 0 });
        for prefix in touched {
            prop_assert_eq!(found(&tables, prefix.addr()), None);
        }
    }

    /// Whatever does not fit goes to the kernel, everything else stays exact, and room that comes back is used.
    #[test]
    fn a_full_table_punts_only_what_it_refused(
        prefixes in prop::collection::btree_set(prop_oneof![prefix4(), prefix6()], 20..60),
        blocks in 0u32..6,
        slots in 0u32..50,
    ) {
        let sizes = Sizes { blocks4: blocks, blocks6: blocks, slots: slots::RESERVED + slots, ..Sizes::SMALL };
        let tables = Tables::heap(sizes);
        let mut fib = Fib::new(&tables, PUNT);
        let mut installed = BTreeMap::new();
        let mut all = BTreeMap::new();
        for (index, prefix) in prefixes.iter().enumerate() {
            let group = 2 + index as u32;
            all.insert(*prefix, group);
            if fib.announce(&tables, *prefix, group, Provenance::default()) == Outcome::Installed {
                installed.insert(*prefix, group);
            }
        }
        let refused = fib.refused();
        prop_assert_eq!(refused.0 + refused.1, all.len() - installed.len());
        for prefix in &prefixes {
            for address in edges(*prefix) {
                let answer = found(&tables, address);
                let right = naive(&all, address);
                // The right answer, or the kernel's. Never another prefix's.
                prop_assert!(answer == right || answer == Some(PUNT), "{address}: {answer:?}, not {right:?}");
                if installed.len() == all.len() {
                    prop_assert_eq!(answer, right);
                }
            }
        }
        // Withdraw half, then try the refused ones again.
        for prefix in prefixes.iter().step_by(2) {
            fib.withdraw(&tables, *prefix);
            all.remove(prefix);
            installed.remove(prefix);
        }
        for prefix in &prefixes {
            for address in edges(*prefix) {
                let (answer, right) = (found(&tables, address), naive(&all, address));
                prop_assert!(answer == right || answer == Some(PUNT), "{address}: {answer:?}, not {right:?}");
                if installed.len() == all.len() {
                    prop_assert_eq!(answer, right);
                }
            }
        }
        grace(&mut fib, &tables);
        for prefix in fib.take_refused(usize::MAX) {
            fib.announce(&tables, prefix, all[&prefix], Provenance::default());
        }
        let full = fib.refused() != (0, 0);
        for prefix in &prefixes {
            for address in edges(*prefix) {
                let (answer, right) = (found(&tables, address), naive(&all, address));
                prop_assert!(answer == right || full && answer == Some(PUNT), "{address}: {answer:?}, not {right:?}");
            }
        }
    }
}

#[test]
fn the_default_route_covers_everything_and_a_host_route_one_address() {
    let tables = Tables::heap(Sizes::SMALL);
    let mut fib = Fib::new(&tables, PUNT);
    for (prefix, group) in [
        ("0.0.0.0/0", 2),
        ("::/0", 3),
        ("192.0.2.7/32", 1500),
        ("2001:db8::7/128", 1501),
    ] {
        fib.announce(
            &tables,
            prefix.parse().expect("prefix"),
            group,
            Provenance::default(),
        );
    }
    let answer = |address: &str| found(&tables, address.parse().expect("address"));
    assert_eq!(answer("255.255.255.255"), Some(2));
    assert_eq!(answer("192.0.2.7"), Some(1500));
    assert_eq!(answer("192.0.2.8"), Some(2));
    assert_eq!(answer("2001:db8::7"), Some(1501));
    assert_eq!(answer("2001:db8::8"), Some(3));
    let cover = |prefix: &str| fib.cover(&tables, prefix.parse().expect("prefix"));
    assert_eq!(
        cover("192.0.2.7/32"),
        Some(("0.0.0.0/0".parse().expect("prefix"), 2))
    );
    assert_eq!(cover("::/0"), None);
}

#[test]
fn a_prefix_that_was_being_laid_when_the_controller_died_is_laid_again() {
    let tables = Tables::heap(Sizes::SMALL);
    let mut fib = Fib::new(&tables, PUNT);
    let prefix: IpNet = "192.0.2.128/25".parse().expect("prefix");
    fib.announce(
        &tables,
        "192.0.2.0/24".parse().expect("prefix"),
        2,
        Provenance::default(),
    );
    fib.announce(&tables, prefix, 3, Provenance::default());
    let slot = fib.slot(&tables, prefix).expect("laid");
    for state in [State::Installing, State::Removing] {
        // As a SIGKILL leaves it: some leaves written, the entry not finished.
        let entry = tables.slot_directory.get(slot as usize);
        tables.slot_directory.set(
            slot as usize,
            &forwarder_common::directory::SlotEntry {
                state: state as u8,
                ..entry
            },
        );
        let adopted = Fib::adopt(&tables, PUNT).expect("a sound table");
        let expected = if state == State::Installing {
            Some(3)
        } else {
            Some(2)
        };
        assert_eq!(
            found(&tables, "192.0.2.200".parse().expect("address")),
            expected,
            "{state:?}"
        );
        assert_eq!(
            adopted.group(&tables, prefix).is_some(),
            state == State::Installing
        );
    }
}

/// The state alone of a slot's entry, as a SIGKILL leaves it.
fn interrupted(tables: &Tables, slot: u32, state: State) {
    let entry = tables.slot_directory.get(slot as usize);
    let entry = forwarder_common::directory::SlotEntry {
        state: state as u8,
        ..entry
    };
    tables.slot_directory.set(slot as usize, &entry);
}

#[test]
fn a_prefix_interrupted_at_any_point_leaves_its_neighbours_alone() {
    // The lower half of a word, so that its leaf is the first of the block.
    for (cover, prefix, beside) in [
        ("192.0.2.0/24", "192.0.2.0/25", "192.0.2.200"),
        ("2001:db8::/32", "2001:db8::/41", "2001:db8:80::1"),
    ] {
        let [cover, prefix]: [IpNet; 2] = [cover, prefix].map(|text| text.parse().expect("prefix"));
        let beside: IpAddr = beside.parse().expect("address");
        // Blocks linked and leaves written; or not yet, or no longer.
        for (state, linked) in [
            (State::Installing, true),
            (State::Installing, false),
            (State::Removing, true),
            (State::Removing, false),
        ] {
            let tables = Tables::heap(Sizes::SMALL);
            let mut fib = Fib::new(&tables, PUNT);
            fib.announce(&tables, cover, 2, Provenance::default());
            fib.announce(&tables, prefix, 3, Provenance::default());
            let slot = fib.slot(&tables, prefix).expect("laid");
            if !linked {
                fib.withdraw(&tables, prefix);
            }
            interrupted(&tables, slot, state);
            let mut adopted = Fib::adopt(&tables, PUNT).expect("a sound table");
            let expected = if state == State::Installing {
                Some(3)
            } else {
                Some(2)
            };
            assert_eq!(
                found(&tables, prefix.addr()),
                expected,
                "{prefix} {state:?}, linked: {linked}"
            );
            assert_eq!(
                found(&tables, beside),
                Some(2),
                "{beside} {state:?}, linked: {linked}"
            );
            adopted.withdraw(&tables, prefix);
            adopted.withdraw(&tables, cover);
            grace(&mut adopted, &tables);
            assert_eq!(
                adopted.usage(),
                Usage {
                    slots: 0,
                    blocks4: 0,
                    blocks6: 0
                }
            );
        }
    }
}

#[test]
fn room_that_comes_back_gives_each_word_its_own_cover() {
    let sizes = Sizes {
        slots: slots::RESERVED + 3,
        blocks6: 5,
        ..Sizes::SMALL
    };
    let tables = Tables::heap(sizes);
    let mut fib = Fib::new(&tables, PUNT);
    let prefix = |text: &str| text.parse::<IpNet>().expect("prefix");
    let fillers = ["10.0.0.0/24", "10.0.1.0/24"].map(prefix);
    let (cover, middle, inner) = (
        prefix("2a00::/22"),
        prefix("2a00::/55"),
        prefix("2a00:0:0:14::/64"),
    );
    for (group, filler) in fillers.into_iter().enumerate() {
        fib.announce(&tables, filler, 10 + group as u32, Provenance::default());
    }
    assert_eq!(
        fib.announce(&tables, cover, 2, Provenance::default()),
        Outcome::Installed
    );
    assert_eq!(
        fib.announce(&tables, inner, 4, Provenance::default()),
        Outcome::Refused
    );
    assert_eq!(
        fib.announce(&tables, middle, 3, Provenance::default()),
        Outcome::Refused
    );
    for filler in fillers {
        fib.withdraw(&tables, filler);
    }
    grace(&mut fib, &tables);
    assert_eq!(
        fib.announce(&tables, middle, 3, Provenance::default()),
        Outcome::Installed
    );
    assert_eq!(
        fib.announce(&tables, inner, 4, Provenance::default()),
        Outcome::Installed
    );
    for (address, group) in [
        (cover.addr(), 3),
        (inner.addr(), 4),
        ("2a00:1::".parse().expect("address"), 2),
    ] {
        assert_eq!(found(&tables, address), Some(group), "{address}");
    }
}

#[test]
fn two_refused_halves_of_a_word_leave_nothing_behind() {
    let sizes = Sizes {
        slots: slots::RESERVED + 1,
        ..Sizes::SMALL
    };
    let tables = Tables::heap(sizes);
    let mut fib = Fib::new(&tables, PUNT);
    let [host, low, high] =
        ["192.0.2.1/32", "192.0.2.0/25", "192.0.2.128/25"].map(|text| text.parse::<IpNet>().expect("prefix"));
    assert_eq!(
        fib.announce(&tables, host, 2, Provenance::default()),
        Outcome::Installed
    );
    assert_eq!(
        fib.announce(&tables, low, 3, Provenance::default()),
        Outcome::Refused
    );
    assert_eq!(
        fib.announce(&tables, high, 4, Provenance::default()),
        Outcome::Refused
    );
    // The block goes, all of its words being the same punt: of prefixes longer than the word that is left.
    fib.withdraw(&tables, host);
    for prefix in [low, high] {
        assert_eq!(found(&tables, prefix.addr()), Some(PUNT), "{prefix}");
    }
    fib.withdraw(&tables, low);
    assert_eq!(found(&tables, high.addr()), Some(PUNT));
    fib.withdraw(&tables, high);
    for prefix in [low, high] {
        assert_eq!(found(&tables, prefix.addr()), None, "{prefix}");
    }
}

#[test]
fn a_word_that_thaws_gives_every_prefix_in_it_its_own_answer() {
    let sizes = Sizes {
        blocks4: 1,
        ..Sizes::SMALL
    };
    let tables = Tables::heap(sizes);
    let mut fib = Fib::new(&tables, PUNT);
    let prefix = |text: &str| text.parse::<IpNet>().expect("prefix");
    let answer = |address: &str| found(&tables, address.parse().expect("address"));
    let filler = prefix("203.0.113.1/32");
    fib.announce(&tables, filler, 2, Provenance::default());
    let (outer, first, second) = (
        prefix("192.0.2.0/24"),
        prefix("192.0.2.0/26"),
        prefix("192.0.2.64/26"),
    );
    assert_eq!(
        fib.announce(&tables, outer, 3, Provenance::default()),
        Outcome::Installed
    );
    assert_eq!(
        fib.announce(&tables, first, 4, Provenance::default()),
        Outcome::Refused
    );
    assert_eq!(
        fib.announce(&tables, second, 5, Provenance::default()),
        Outcome::Refused
    );
    assert_eq!(answer("192.0.2.200"), Some(PUNT));
    fib.withdraw(&tables, filler);
    grace(&mut fib, &tables);
    assert_eq!(
        fib.announce(&tables, first, 4, Provenance::default()),
        Outcome::Installed
    );
    // The one that is still refused, and no other address, is the kernel's.
    assert_eq!(answer("192.0.2.70"), Some(PUNT));
    assert_eq!((answer("192.0.2.1"), answer("192.0.2.200")), (Some(4), Some(3)));
    assert_eq!(
        fib.announce(&tables, second, 5, Provenance::default()),
        Outcome::Installed
    );
    assert_eq!((answer("192.0.2.70"), answer("192.0.2.200")), (Some(5), Some(3)));
}
