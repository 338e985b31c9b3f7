//! Bonds, VLANs and macvlans: what is made of facts about them.

use super::{
    Finding, Severity, examine,
    facts::{Bond, Host, Nic, Other, Stacked},
    tests::{nic, one, said, sound},
};
use crate::netlink::{
    command::XdpMode,
    ethtool::{Channels, Driver},
};
use crate::source::event::{BondMode, Detail, HashPolicy, MacvlanMode, Member, Vlan};

/// A sound machine whose interface is a bond, bond0, of eth0, eth1...
fn bonded(members: usize) -> Host {
    let mut host = sound();
    let device = host.nics.remove(0);
    let members = (0..members).map(|at| Nic {
        name: format!("eth{at}"),
        master: Some(("bond0".into(), "bond".into())),
        speed: Some(10_000_000_000),
        member: Some(Member {
            active: true,
            up: true,
            aggregator: Some(1),
        }),
        ..device.clone()
    });
    host.nics.push(Nic {
        name: "bond0".into(),
        native: true,
        exists: true,
        admin_up: true,
        carrier: true,
        ethernet: true,
        kind: "bond".into(),
        mtu: 9000,
        forwarding4: Some(true),
        bond: Some(Bond {
            mode: BondMode::Lacp,
            policy: HashPolicy::Layer34,
            aggregator: Some(1),
            slow: Some(false),
            members: members.collect(),
        }),
        ..Nic::default()
    });
    host
}

fn bond(host: &mut Host) -> &mut Bond {
    nic(host).bond.as_mut().expect("a bond")
}

fn open(host: &Host) -> Vec<Finding> {
    let mut findings = examine(host);
    findings.retain(|finding| finding.severity != Severity::Ok);
    findings
}

/// The one finding of a bond of two that was changed, as (interface, severity, found).
fn of_bond(change: impl FnOnce(&mut Bond)) -> (String, Severity, String) {
    let mut host = bonded(2);
    change(bond(&mut host));
    let mut findings = open(&host);
    assert_eq!(findings.len(), 1, "{findings:?}");
    let finding = findings.remove(0);
    assert!(finding.why.is_some(), "{finding:?}");
    (finding.ifname.expect("of one"), finding.severity, finding.found)
}

#[test]
fn a_sound_bond_has_no_findings_and_its_members_are_looked_at() {
    let host = bonded(2);
    assert_eq!(open(&host), []);
    let findings = examine(&host);
    let of = |name: &str, check| {
        let mut of = findings.iter().filter(|f| f.ifname.as_deref() == Some(name));
        of.any(|f| f.check == check)
    };
    for check in ["link", "xdp", "mtu", "offloads", "queues", "rings", "spread"] {
        assert!(of("eth0", check) && of("eth1", check), "{check}");
    }
    assert!(of("bond0", "bond") && of("bond0", "forwarding"));
    assert!(!of("bond0", "xdp"), "no program runs on the bond itself");
    assert!(!of("eth0", "forwarding"), "a member has no routes");
    let (name, severity, _) = of_bond(|bond| {
        bond.members[1].channels = Some(Channels {
            rx: 1,
            rx_max: 8,
            tx: 8,
            tx_max: 8,
        });
        bond.members[1].spread = None;
    });
    assert_eq!((name.as_str(), severity), ("eth1", Severity::Warning));
    let (name, severity, _) = of_bond(|bond| bond.members[0].mtu = 9000);
    assert_eq!((name.as_str(), severity), ("eth0", Severity::Error));
}

#[test]
fn modes_and_hashes_that_the_fast_path_does_not_have() {
    use Severity::{Error, Note, Ok, Warning};
    for (mode, policy, expected) in [
        (BondMode::Lacp, HashPolicy::Layer23, Ok),
        (BondMode::Lacp, HashPolicy::Layer2, Warning),
        (BondMode::Xor, HashPolicy::Layer2, Warning),
        (BondMode::Lacp, HashPolicy::Encap23, Note),
        (BondMode::Xor, HashPolicy::Encap34, Note),
        (BondMode::Lacp, HashPolicy::VlanSrcMac, Error),
        (BondMode::Xor, HashPolicy::Other(9), Error),
        // These do not hash.
        (BondMode::RoundRobin, HashPolicy::VlanSrcMac, Ok),
        (BondMode::ActiveBackup, HashPolicy::Layer2, Ok),
        (BondMode::Broadcast, HashPolicy::Layer34, Error),
        (BondMode::Tlb, HashPolicy::Layer34, Error),
        (BondMode::Alb, HashPolicy::Layer34, Error),
        (BondMode::Other(7), HashPolicy::Layer34, Error),
    ] {
        let mut host = bonded(2);
        (bond(&mut host).mode, bond(&mut host).policy) = (mode, policy);
        let findings = examine(&host);
        let finding = findings.iter().find(|f| f.check == "bond").expect("said");
        assert_eq!(finding.severity, expected, "{mode:?} {policy:?}");
        assert_eq!(finding.why.is_some(), expected != Ok);
        assert_eq!(finding.fix.is_some(), matches!(expected, Error | Warning));
        assert!(!finding.safe, "a bond is not changed by --fix");
    }
    let (_, _, found) = of_bond(|bond| bond.policy = HashPolicy::Layer2);
    assert_eq!(found, "bond of mode 802.3ad, policy layer2");
    let (_, _, found) = of_bond(|bond| bond.mode = BondMode::Alb);
    assert_eq!(found, "bond of mode balance-alb");
}

#[test]
fn members_that_are_down_apart_or_unlike() {
    use Severity::{Error, Note, Warning};
    let ailing = |change: fn(&mut Nic)| of_bond(|bond| change(&mut bond.members[1]));
    let member = |nic: &mut Nic, change: fn(&mut Member)| change(nic.member.as_mut().expect("a member"));
    assert_eq!(
        ailing(|nic| nic.carrier = false),
        ("eth1".into(), Warning, "it is down for its bond bond0".into())
    );
    for down in [
        of_bond(|bond| member(&mut bond.members[1], |said| said.up = false)),
        of_bond(|bond| {
            // What LACP thinks of one that is down is of no use.
            member(&mut bond.members[1], |said| {
                (said.up, said.active) = (false, false)
            });
        }),
    ] {
        assert_eq!(down.2, "it is down for its bond bond0");
    }
    let apart = "it is up, and LACP has not taken it into the active aggregator of bond0";
    for found in [
        of_bond(|bond| member(&mut bond.members[1], |said| said.active = false)),
        of_bond(|bond| member(&mut bond.members[1], |said| said.aggregator = Some(2))),
    ] {
        assert_eq!(found, ("eth1".into(), Warning, apart.into()));
    }
    // A backup is no failure, nor one of which the kernel does not tell.
    for change in [(|nic| member_of(nic).active = false) as fn(&mut Nic), |nic| {
        nic.member = None
    }] {
        let mut host = bonded(2);
        bond(&mut host).mode = BondMode::ActiveBackup;
        change(&mut bond(&mut host).members[1]);
        assert_eq!(open(&host), []);
    }
    let (_, severity, found) = of_bond(|bond| {
        bond.members[1].driver = Some(Driver {
            name: "ice".into(),
            bus: String::new(),
        });
    });
    assert_eq!(
        (severity, found.as_str()),
        (Note, "its members have different drivers: ice, ixgbe")
    );
    for (mode, expected) in [
        (BondMode::Lacp, Warning),
        (BondMode::RoundRobin, Warning),
        (BondMode::ActiveBackup, Note),
    ] {
        let (_, severity, found) = of_bond(|bond| {
            bond.mode = mode;
            bond.members[0].speed = Some(100_000_000);
        });
        assert_eq!(
            (severity, found.as_str()),
            (
                expected,
                "its members have different speeds: 100 Mbit/s, 10 Gbit/s"
            )
        );
    }
    // One that does not tell its speed is not unlike the others.
    let mut host = bonded(2);
    bond(&mut host).members[0].speed = None;
    assert_eq!(open(&host), []);
    let (name, severity, _) = of_bond(|bond| bond.slow = Some(true));
    assert_eq!((name.as_str(), severity), ("bond0", Note));
    assert_eq!(of_bond(|bond| bond.members.clear()).2, "a bond without members");
    let mut host = bonded(2);
    bond(&mut host)
        .members
        .iter_mut()
        .for_each(|member| member.carrier = false);
    let findings = open(&host);
    assert_eq!(findings.len(), 3, "{findings:?}");
    assert_eq!(
        (findings[0].severity, findings[0].found.as_str()),
        (Error, "none of its 2 members sends")
    );
    // It does not send because it is down.
    nic(&mut host).admin_up = false;
    assert_eq!(open(&host)[0].check, "link");
}

fn member_of(nic: &mut Nic) -> &mut Member {
    nic.member.as_mut().expect("a member")
}

#[test]
fn a_program_on_the_bond_itself_and_members_of_their_own() {
    let mut host = bonded(2);
    nic(&mut host).attached = Some(XdpMode::Native);
    let findings = open(&host);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].fix.as_deref(), Some("ip link set bond0 xdp off"));
    // eth0 beside its bond: what there is to know of it is told once.
    let mut host = bonded(2);
    let member = bond(&mut host).members[0].clone();
    host.nics.push(member.clone());
    let findings = open(&host);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(
        (findings[0].check, findings[0].severity),
        ("master", Severity::Error)
    );
    let links = examine(&host);
    let links = links
        .iter()
        .filter(|f| f.check == "link" && f.ifname.as_deref() == Some("eth0"));
    assert_eq!(links.count(), 1);
    // Without it.
    host.nics = vec![member];
    let findings = open(&host);
    assert_eq!(findings.len(), 1, "{findings:?}");
    let fix = findings[0].fix.as_deref();
    assert_eq!(
        fix,
        Some("[[interface]] with name = \"bond0\" instead of name = \"eth0\"")
    );
    let master = |kind: &str| {
        one("master", |host| {
            nic(host).master = Some(("up".into(), kind.into()))
        })
        .0
    };
    assert_eq!(master("bridge"), Severity::Warning);
    assert_eq!(master("vrf"), Severity::Warning);
}

fn tag(id: u16) -> Detail {
    Detail::Vlan(Vlan {
        id,
        service: false,
        maps_priority: false,
    })
}

/// On eth0.
fn on_eth0(name: &str, chain: &[Detail]) -> Stacked {
    Stacked {
        name: name.into(),
        kind: "vlan".into(),
        chain: chain.to_vec(),
        base: ("eth0".into(), 1500),
        below: ("eth0".into(), 1500),
        mtu: 1500,
        forwarding4: Some(true),
    }
}

/// What is said of it, well or not.
fn of_stacked(link: Stacked) -> Vec<(Severity, &'static str, String)> {
    let mut host = sound();
    let name = link.name.clone();
    host.stacked.push(link);
    let mut findings = examine(&host);
    findings.retain(|finding| finding.ifname.as_deref() == Some(&name));
    let all = findings.into_iter();
    all.map(|finding| (finding.severity, finding.check, finding.found))
        .collect()
}

#[test]
fn vlans_and_macvlans_are_served_or_why_not() {
    use Severity::{Note, Ok, Warning};
    let service = Detail::Vlan(Vlan {
        id: 7,
        service: true,
        maps_priority: false,
    });
    let maps = Detail::Vlan(Vlan {
        id: 9,
        service: false,
        maps_priority: true,
    });
    let macvlan = Detail::Macvlan;
    for (chain, severity, check, found) in [
        (vec![tag(100)], Ok, "vlan", "VLAN 100 of eth0"),
        (
            vec![tag(100), service],
            Ok,
            "vlan",
            "VLAN 100 in service VLAN 7 of eth0",
        ),
        (
            vec![tag(1), tag(2), service],
            Warning,
            "vlan",
            "VLAN 1 in VLAN 2 in service VLAN 7 of eth0",
        ),
        (vec![maps], Warning, "vlan", "VLAN 9 of eth0"),
        (vec![tag(5), maps], Warning, "vlan", "VLAN 5 in VLAN 9 of eth0"),
        (
            vec![macvlan(MacvlanMode::Private)],
            Ok,
            "macvlan",
            "macvlan (private) on eth0",
        ),
        (
            vec![macvlan(MacvlanMode::Private), tag(100)],
            Ok,
            "macvlan",
            "macvlan (private) on VLAN 100 of eth0",
        ),
        (
            vec![macvlan(MacvlanMode::Vepa), maps],
            Warning,
            "macvlan",
            "macvlan (vepa) on VLAN 9 of eth0",
        ),
        (
            vec![macvlan(MacvlanMode::Passthru)],
            Warning,
            "macvlan",
            "macvlan (passthru) on eth0",
        ),
        (
            vec![macvlan(MacvlanMode::Source)],
            Warning,
            "macvlan",
            "macvlan (source) on eth0",
        ),
        (
            vec![macvlan(MacvlanMode::Other(3))],
            Warning,
            "macvlan",
            "macvlan (unknown) on eth0",
        ),
        (
            vec![tag(4), macvlan(MacvlanMode::Private)],
            Warning,
            "vlan",
            "VLAN 4 in macvlan (private) on eth0",
        ),
    ] {
        let mut link = on_eth0("x", &chain);
        link.mtu = 1496;
        assert_eq!(of_stacked(link), [(severity, check, found.to_string())]);
    }
    // Of an ipvlan, or a chain that makes no sense, nothing is said but where routes lead there.
    assert!(of_stacked(on_eth0("x", &[Detail::Plain])).is_empty());
    assert!(of_stacked(on_eth0("x", &[])).is_empty());
    let mtu = |change: fn(&mut Stacked), chain: &[Detail]| {
        let mut link = on_eth0("x", chain);
        change(&mut link);
        let mut said = of_stacked(link);
        assert_eq!(said.remove(0).0, Ok);
        said
    };
    let expected = (
        Note,
        "mtu",
        "MTU 1500, with 2 tags on eth0 of MTU 1500".to_string(),
    );
    assert_eq!(mtu(|_| {}, &[tag(1), service]), [expected]);
    assert!(mtu(|link| link.base.1 = 1504, &[tag(1), service]).is_empty());
    assert!(mtu(|_| {}, &[tag(1)]).is_empty());
    let too_long = mtu(|link| link.mtu = 9000, &[tag(1)]);
    assert_eq!(too_long, [(Warning, "mtu", "MTU 9000".to_string())]);
    let off = mtu(|link| link.forwarding4 = Some(false), &[tag(1)]);
    assert_eq!(off[0].1, "forwarding");
}

#[test]
fn a_vlan_that_is_named_needs_the_interface_it_stands_on() {
    let named = |base: Option<&str>| {
        let mut host = sound();
        host.nics.push(Nic {
            name: "v100".into(),
            exists: true,
            admin_up: true,
            ethernet: true,
            kind: "vlan".into(),
            detail: tag(100),
            base: base.map(Into::into),
            mtu: 1500,
            forwarding4: Some(false),
            ..Nic::default()
        });
        let configured = base == Some("eth0");
        host.stacked = configured
            .then(|| on_eth0("v100", &[tag(100)]))
            .into_iter()
            .collect();
        host.stacked
            .iter_mut()
            .for_each(|link| link.forwarding4 = Some(false));
        let found = open(&host);
        let found = found
            .into_iter()
            .map(|f| (f.severity, f.check, f.fix.unwrap_or_default()));
        found.collect::<Vec<_>>()
    };
    let forwarding = (
        Severity::Warning,
        "forwarding",
        "sysctl -w net.ipv4.ip_forward=1".to_string(),
    );
    assert_eq!(named(Some("eth0")), std::slice::from_ref(&forwarding), "once");
    let error = (
        Severity::Error,
        "vlan",
        "[[interface]] with name = \"eth7\"".to_string(),
    );
    assert_eq!(named(Some("eth7")), [forwarding, error]);
    assert_eq!(
        named(None)[1].2,
        "take it out of the configuration: the kernel serves it"
    );
}

#[test]
fn links_with_routes_are_told_of_where_they_are_not_served() {
    let other = |name: &str, kind: &str, base: Option<&str>| Other {
        name: name.into(),
        kind: kind.into(),
        base: base.map(Into::into),
        routes: 2,
    };
    let found = said("other-links", |host| {
        host.stacked = vec![
            on_eth0("eth0.100", &[tag(100)]),
            on_eth0("vrrp0", &[Detail::Macvlan(MacvlanMode::Private)]),
            on_eth0("pass0", &[Detail::Macvlan(MacvlanMode::Passthru)]),
        ];
        host.others = vec![
            other("eth0.100", "vlan", Some("eth0")),
            other("vrrp0", "macvlan", Some("eth0")),
            other("pass0", "macvlan", Some("eth0")),
            other("eth1.5", "vlan", Some("eth1")),
            other("gre1", "gre", None),
            other("eth2", "", None),
            other("bond1", "bond", None),
        ];
    });
    let found: Vec<_> = found
        .iter()
        .map(|(s, found, fix)| (*s, found.as_str(), fix.as_deref()))
        .collect();
    let serve =
        |name: &str| format!("[[interface]] with name = \"{name}\", if the fast path should serve it");
    use Severity::{Note, Warning};
    assert_eq!(
        found,
        [
            (Warning, "2 routes lead through pass0 (macvlan)", None),
            (Note, "2 routes lead through eth1.5 (vlan)", Some(&*serve("eth1"))),
            (Note, "2 routes lead through gre1 (gre)", None),
            (Note, "2 routes lead through eth2", Some(&*serve("eth2"))),
            (Note, "2 routes lead through bond1 (bond)", Some(&*serve("bond1"))),
        ]
    );
}
