//! Neighbours that the kernel keeps alive for us.

use super::*;
use crate::netlink::command::{Commander, NeighbourOutcome};
use crate::netlink::dump::dump_neighbours;
use crate::source::event::Neighbour;

const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

/// va here, vb with .2 and ::2 in another namespace.
fn with_peer() -> (Peer, Ifindex) {
    let (va, _) = two_links();
    // Without a link-local address the kernel has no source for its probes (ndisc_send_ns).
    ip("-6 addr add fe80::a/64 dev va nodad");
    let peer = Peer::start();
    peer.take("vb");
    peer.ip("link set vb address 02:00:00:00:00:0b up");
    peer.ip("addr add 192.0.2.2/24 dev vb");
    peer.ip("-6 addr add 2001:db8:1::2/64 dev vb nodad");
    eventually("va is up", || ip("link show va").contains("state UP"));
    (peer, va)
}

fn neighbour(ifindex: Ifindex, address: IpAddr) -> Option<Neighbour> {
    dump_neighbours()
        .unwrap()
        .into_iter()
        .find(|n| n.ifindex == ifindex && n.address == address)
}

#[test]
fn managing_resolves_and_keeps_and_letting_go_keeps_the_address() {
    in_namespace(|| {
        let (_peer, va) = with_peer();
        let mut commander = Commander::open().unwrap();
        for address in ["192.0.2.2", "2001:db8:1::2"].map(address) {
            assert_eq!(
                commander.manage_neighbour(va, address).unwrap(),
                NeighbourOutcome::Done
            );
            let resolved = Neighbour {
                ifindex: va,
                address,
                mac: Some(PEER_MAC),
                failed: false,
                stale: false,
                managed: true,
            };
            eventually("resolved", || neighbour(va, address) == Some(resolved));
            // Again, and in use: it stays what it is.
            assert_eq!(
                commander.manage_neighbour(va, address).unwrap(),
                NeighbourOutcome::Done
            );
            assert_eq!(
                commander.use_neighbour(va, address).unwrap(),
                NeighbourOutcome::Done
            );
            assert_eq!(neighbour(va, address), Some(resolved));
            assert_eq!(
                commander.unmanage_neighbour(va, address).unwrap(),
                NeighbourOutcome::Done
            );
            assert_eq!(
                neighbour(va, address),
                Some(Neighbour {
                    managed: false,
                    ..resolved
                })
            );
            assert_eq!(
                commander.unmanage_neighbour(va, address).unwrap(),
                NeighbourOutcome::Done
            );
        }
        let absent = commander.unmanage_neighbour(va, address("192.0.2.77")).unwrap();
        assert_eq!(absent, NeighbourOutcome::Absent);
    });
}

#[test]
fn an_entry_that_exists_is_managed_without_losing_its_address_and_use_probes_it() {
    in_namespace(|| {
        let (_peer, va) = with_peer();
        let mut commander = Commander::open().unwrap();
        for address in ["192.0.2.2", "2001:db8:1::2"].map(address) {
            // A wrong address that only a probe puts right.
            let stale = format!("neigh replace {address} lladdr 02:00:00:00:00:99 dev va nud stale");
            let wrong = [2, 0, 0, 0, 0, 0x99];
            ip(&stale);
            assert_eq!(
                commander.manage_neighbour(va, address).unwrap(),
                NeighbourOutcome::Done
            );
            let entry = neighbour(va, address).unwrap();
            assert!(
                entry.managed && (entry.mac == Some(wrong) || entry.mac == Some(PEER_MAC)),
                "{entry:?}"
            );
            commander.unmanage_neighbour(va, address).unwrap();
            ip(&stale);
            assert!(neighbour(va, address).unwrap().stale);
            assert_eq!(
                commander.use_neighbour(va, address).unwrap(),
                NeighbourOutcome::Done
            );
            let entry = neighbour(va, address).unwrap();
            assert!(
                !entry.stale && entry.mac == Some(wrong),
                "DELAY keeps the address: {entry:?}"
            );
            // DELAY lasts five seconds, then unicast probes fail and a broadcast one finds the true one.
            eventually("probed", || {
                neighbour(va, address).and_then(|n| n.mac) != Some(wrong)
            });
        }
    });
}

#[test]
fn an_administrators_entry_is_left_alone() {
    in_namespace(|| {
        let (_peer, va) = with_peer();
        let mut commander = Commander::open().unwrap();
        ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:99 dev va nud permanent");
        let before = ip("neigh show");
        let two = address("192.0.2.2");
        assert_eq!(
            commander.manage_neighbour(va, two).unwrap(),
            NeighbourOutcome::Static
        );
        assert_eq!(
            commander.use_neighbour(va, two).unwrap(),
            NeighbourOutcome::Static
        );
        assert_eq!(
            commander.unmanage_neighbour(va, two).unwrap(),
            NeighbourOutcome::Static
        );
        assert_eq!(ip("neigh show"), before);
    });
}

#[test]
fn what_never_answers_has_no_mac() {
    in_namespace(|| {
        let (_peer, va) = with_peer();
        let mut commander = Commander::open().unwrap();
        let nobody = address("192.0.2.99");
        commander.manage_neighbour(va, nobody).unwrap();
        let entry = neighbour(va, nobody).unwrap();
        assert_eq!((entry.mac, entry.managed), (None, true));
        let error = commander.manage_neighbour(9999, nobody).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
    });
}
