use super::*;
use crate::{config, source::event::Member};

fn link(ifindex: Ifindex, name: &str) -> Link {
    Link {
        ifindex,
        name: name.to_string(),
        mac: [2, 0, 0, 0, 0, ifindex as u8],
        ethernet: true,
        admin_up: true,
        carrier: true,
        running: true,
        mtu: 1500,
        mtu6: 1500,
        ..Link::default()
    }
}

fn bond(mode: BondMode, policy: HashPolicy) -> Detail {
    Detail::Bond(Bond {
        mode,
        policy,
        active: None,
        aggregator: None,
    })
}

fn member(ifindex: Ifindex, name: &str, master: Ifindex, active: bool) -> Link {
    Link {
        master: Some(master),
        member: Some(Member {
            active,
            up: true,
            aggregator: Some(1),
        }),
        ..link(ifindex, name)
    }
}

fn vlan(ifindex: Ifindex, name: &str, lower: Ifindex, id: u16, service: bool) -> Link {
    Link {
        lower: Some(lower),
        kind: "vlan".to_string(),
        detail: Detail::Vlan(Vlan {
            id,
            service,
            maps_priority: false,
        }),
        ..link(ifindex, name)
    }
}

fn interfaces(text: &str) -> Vec<InterfaceConfig> {
    config::parse("f", text).expect("sound").interfaces
}

/// Three members, of which the last waits; a VLAN, another in it, and a virtual gateway on that.
fn ring() -> Vec<Link> {
    let aggregated = Link {
        detail: bond(BondMode::Lacp, HashPolicy::Layer34),
        kind: "bond".to_string(),
        ..link(10, "bond0")
    };
    let gateway = Link {
        lower: Some(30),
        kind: "macvlan".to_string(),
        detail: Detail::Macvlan(MacvlanMode::Private),
        mac: [0, 0, 0x5e, 0, 1, 7],
        ..link(40, "vrrp.7")
    };
    vec![
        vlan(5, "bond0.30.7", 30, 7, false),
        member(11, "eth1", 10, true),
        member(12, "eth2", 10, true),
        member(13, "eth3", 10, false),
        aggregated,
        vlan(30, "bond0.30", 10, 30, true),
        gateway,
    ]
}

#[test]
fn a_bond_is_served_by_its_members_and_vlans_by_what_they_stand_on() {
    let configured = interfaces("[[interface]]\nname = \"bond0\"\nrole = \"customer\"\n");
    let layout = of(&configured, ring().iter(), |ifindex| ifindex == 40);
    assert!(layout.problems.is_empty(), "{:?}", layout.problems);
    let devices: Vec<_> = layout
        .devices
        .iter()
        .map(|(i, d)| (*i, d.root, d.active))
        .collect();
    assert_eq!(devices, [(11, 10, true), (12, 10, true), (13, 10, false)]);
    assert_eq!(
        layout.aggregates[&10],
        Aggregate {
            policy: BY_ADDRESSES | BY_PORTS,
            members: vec![11, 12]
        }
    );
    let names: Vec<_> = layout
        .stations
        .values()
        .map(|station| station.name.as_str())
        .collect();
    assert_eq!(names, ["bond0.30.7", "bond0", "bond0.30", "vrrp.7"]);
    let outer = Tag {
        id: 30,
        service: true,
    };
    let inner = Tag {
        id: 7,
        service: false,
    };
    let both = &layout.stations[&5];
    assert_eq!(both.vlan, Some((30, inner)));
    assert_eq!(both.frame.tags, [Some(outer), Some(inner)]);
    assert_eq!(
        (both.frame.most, both.frame.aggregated, both.root),
        (1496, true, 10)
    );
    assert_eq!(both.config.role, config::Role::Customer);
    let one = &layout.stations[&30];
    assert_eq!((one.frame.tags, one.frame.most), ([Some(outer), None], 1500));
    assert_eq!(one.virtual_macs, [(40, [0, 0, 0x5e, 0, 1, 7])]);
    let gateway = &layout.stations[&40];
    assert_eq!((gateway.receives, gateway.frame.wire), (false, 30));
    assert_eq!(gateway.frame.tags, one.frame.tags);
    // The backup has the same macvlan, without an address.
    let backup = of(&configured, ring().iter(), |_| false);
    assert!(backup.stations[&30].virtual_macs.is_empty());
}

#[test]
fn a_vlan_has_its_own_section_or_that_of_what_it_stands_on() {
    let configured = interfaces(
        "[[interface]]\nname = \"bond0\"\nrole = \"transit\"\n[[interface]]\nname = \"bond0.30\"\nrole = \"peer\"\n",
    );
    let layout = of(&configured, ring().iter(), |_| false);
    let role = |ifindex: Ifindex| layout.stations[&ifindex].config.role;
    assert_eq!(role(10), config::Role::Transit);
    assert_eq!((role(30), role(5)), (config::Role::Peer, config::Role::Peer));
}

#[test]
fn what_cannot_be_served_is_said_and_the_rest_is_served() {
    let why = |names: &[&str], links: &[Link]| -> Vec<String> {
        let text: String = names
            .iter()
            .map(|name| format!("[[interface]]\nname = \"{name}\"\n"))
            .collect();
        of(&interfaces(&text), links.iter(), |_| false)
            .problems
            .into_values()
            .collect()
    };
    let all = ring();
    assert!(why(&["eth1"], &all)[0].contains("is a member of bond0: configure bond0"));
    assert!(
        why(&["bond0.30"], &all)[0].contains("stands on bond0, which is not served: configure bond0 too")
    );
    let mut apart = ring();
    apart[5].lower = None;
    assert!(why(&["bond0", "bond0.30"], &apart)[0].contains("is not in this network namespace"));
    assert!(why(&["bond0"], &apart).is_empty(), "nobody asked for bond0.30");
    assert!(why(&["eth9"], &all)[0].contains("there is no such interface"));
    let mut tunnel = link(9, "gre1");
    tunnel.ethernet = false;
    assert!(why(&["gre1"], &[tunnel])[0].contains("not an Ethernet interface"));
    assert!(why(&["far"], &[link(IFINDEX_MAX, "far")])[0].contains("is beyond 65536"));
    let alone: Vec<Link> = all.iter().filter(|link| link.member.is_none()).cloned().collect();
    assert!(why(&["bond0"], &alone)[0].contains("has no members"));
    for (mode, policy, word) in [
        (BondMode::Alb, HashPolicy::Layer34, "balance-alb"),
        (BondMode::Broadcast, HashPolicy::Layer2, "broadcast"),
        (BondMode::Xor, HashPolicy::VlanSrcMac, "vlan+srcmac"),
    ] {
        let mut other = ring();
        other[4].detail = bond(mode, policy);
        assert!(why(&["bond0"], &other)[0].contains(word), "{word}");
    }
    // A VLAN that only the kernel understands is no reason not to serve the others.
    let mut maps = ring();
    maps[5].detail = Detail::Vlan(Vlan {
        id: 30,
        service: true,
        maps_priority: true,
    });
    let configured = interfaces("[[interface]]\nname = \"bond0\"\n");
    let layout = of(&configured, maps.iter(), |_| false);
    assert_eq!(layout.stations.keys().copied().collect::<Vec<_>>(), [10]);
    assert!(why(&["bond0", "bond0.30"], &maps)[0].contains("maps priorities"));
    // So is one of a bridge.
    let mut bridged = ring();
    bridged[5].master = Some(77);
    let layout = of(&configured, bridged.iter(), |_| false);
    assert_eq!(layout.stations.len(), 1);
    // Hardware that takes tags off hides VLANs; a virtual link without VLANs is trusted.
    let of_ring = || of(&configured, ring().iter(), |_| false);
    let mut stripped = of_ring();
    stripped.refuse_stripped(|ifindex| ifindex == 12);
    assert!(stripped.stations.is_empty() && stripped.devices.is_empty());
    assert!(stripped.problems["bond0"].contains("`ethtool -K eth2 rxvlan off`"));
    let virtual_links = |tagged: bool| -> Layout {
        let all = ring().into_iter().filter(|link| tagged || link.lower.is_none());
        let kinds = all.map(|link| Link {
            kind: "veth".to_string(),
            ..link
        });
        let links: Vec<Link> = kinds.collect();
        let mut layout = of(&configured, links.iter(), |_| false);
        layout.refuse_stripped(|_| true);
        layout
    };
    assert!(virtual_links(true).stations.is_empty());
    assert_eq!(virtual_links(false).stations.len(), 1);
    // What is said of links may be half old: no chain is followed for ever.
    let mut round = ring();
    round[0].lower = Some(5);
    assert_eq!(of(&configured, round.iter(), |_| false).stations.len(), 3);
}

#[test]
fn what_may_be_sent_by_an_interface_is_what_all_that_send_there_take() {
    let links = ring();
    let configured = interfaces("[[interface]]\nname = \"bond0\"\n");
    let asked = |refuses: Option<Ifindex>, gathers: &[Ifindex]| {
        let mut layout = of(&configured, links.iter(), |_| false);
        layout.ask_egress(|ifindex, _| Takes {
            frames: refuses != Some(ifindex),
            several: gathers.contains(&ifindex),
        });
        let frame = layout.stations[&10].frame;
        for station in layout.stations.values() {
            let same = (station.frame.closed, station.frame.several) == (frame.closed, frame.several);
            assert!(same, "{}", station.name);
        }
        let closed: Vec<String> = layout.closed().into_iter().map(String::from).collect();
        assert_eq!(closed.is_empty(), !frame.closed);
        (frame.closed, frame.several)
    };
    let layout = of(&configured, links.iter(), |_| false);
    let sending: Vec<Ifindex> = layout.aggregates[&10].members.clone();
    let waiting = layout.devices_of(10).find(|(_, device)| !device.active);
    let waiting = waiting.expect("one waits").0;
    assert_eq!(sending.len(), 2);
    assert_eq!(asked(None, &sending), (false, true));
    assert_eq!(asked(None, &sending[..1]), (false, false));
    assert_eq!(asked(Some(sending[1]), &sending), (true, true));
    // Nothing leaves by the one that waits.
    assert_eq!(asked(Some(waiting), &sending), (false, true));
}
