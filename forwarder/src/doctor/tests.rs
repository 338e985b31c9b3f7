//! What is made of facts, without the machine they would be of.

use std::collections::BTreeSet;

use super::{
    Severity, examine,
    facts::{Host, Nic, Other},
    mend::mend,
    worst,
};
use crate::netlink::{
    command::{Rule, XdpMode},
    ethtool::{Channels, Driver, Rings},
    netdev::XdpFeatures,
    nftables::Chain,
};

/// A sound machine with one sound interface.
pub(super) fn sound() -> Host {
    let rules = [false, true].into_iter().flat_map(|ipv6| {
        [(0, 255), (32766, 254), (32767, 253)].map(|(priority, table)| Rule {
            ipv6,
            priority,
            table,
            plain: true,
        })
    });
    Host {
        release: "6.1.0-28-amd64".into(),
        btf: true,
        jit: Some(1),
        program_statistics: Some(0),
        bpffs: "/sys/fs/bpf/forwarder".into(),
        bpffs_mounted: true,
        capabilities: Some(u64::MAX),
        cpus: (0..8).collect(),
        smt: Some(false),
        forwarding6: Some(true),
        rules: Some(rules.collect()),
        chains: Some(Vec::new()),
        nics: vec![Nic {
            name: "eth0".into(),
            native: true,
            exists: true,
            admin_up: true,
            carrier: true,
            ethernet: true,
            mtu: 1500,
            forwarding4: Some(true),
            driver: Some(Driver {
                name: "ixgbe".into(),
                bus: "0000:03:00.0".into(),
            }),
            xdp: Some(XdpFeatures::from_bits(0x7)),
            rings: Some(Rings {
                rx: 2048,
                rx_max: 4096,
                tx: 2048,
                tx_max: 4096,
            }),
            channels: Some(Channels {
                rx: 8,
                rx_max: 63,
                tx: 8,
                tx_max: 63,
            }),
            spread: Some((0..128).map(|row| row % 8).collect()),
            features: Some(BTreeSet::new()),
            interrupts: (0..8).map(|cpu| BTreeSet::from([cpu])).collect(),
            ..Nic::default()
        }],
        ..Host::default()
    }
}

/// The findings of a check that are not ok, as (severity, found, fix).
pub(super) fn said(check: &str, change: impl FnOnce(&mut Host)) -> Vec<(Severity, String, Option<String>)> {
    let mut host = sound();
    change(&mut host);
    let findings = examine(&host);
    assert!(
        findings.iter().all(
            |finding| (finding.severity == Severity::Ok) == finding.why.is_none()
                || finding.check == "capabilities"
                || finding.severity == Severity::Note
        ),
        "what is not well says why: {findings:?}"
    );
    let of_it = findings
        .into_iter()
        .filter(|finding| finding.check == check && finding.severity != Severity::Ok);
    of_it
        .map(|finding| (finding.severity, finding.found, finding.fix))
        .collect()
}

/// The one finding of a check.
pub(super) fn one(check: &str, change: impl FnOnce(&mut Host)) -> (Severity, String, Option<String>) {
    let mut found = said(check, change);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

pub(super) fn nic(host: &mut Host) -> &mut Nic {
    &mut host.nics[0]
}

#[test]
fn a_sound_machine_has_no_findings() {
    let findings = examine(&sound());
    let wrong: Vec<_> = findings
        .iter()
        .filter(|finding| finding.severity != Severity::Ok)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(findings.len() > 15, "{findings:?}");
    assert_eq!(worst(&findings), Severity::Ok);
}

#[test]
fn the_kernel_is_old_interpreting_or_without_types() {
    assert_eq!(
        one("kernel", |host| host.release = "5.10.0-26-amd64".into()).0,
        Severity::Error
    );
    assert_eq!(
        one("kernel", |host| host.release = "5.19.0".into()).0,
        Severity::Warning
    );
    assert_eq!(
        one("kernel", |host| host.release = "odd".into()).0,
        Severity::Note
    );
    assert!(said("kernel", |host| host.release = "10.0.1".into()).is_empty());
    let (severity, _, fix) = one("jit", |host| host.jit = Some(0));
    assert_eq!(
        (severity, fix.as_deref()),
        (Severity::Error, Some("sysctl -w net.core.bpf_jit_enable=1"))
    );
    assert_eq!(one("jit", |host| host.jit = None).0, Severity::Note);
    assert_eq!(one("btf", |host| host.btf = false).0, Severity::Error);
    assert_eq!(one("bpffs", |host| host.bpffs_mounted = false).0, Severity::Error);
    let (severity, found, _) = one("capabilities", |host| host.capabilities = Some(1 << 12));
    assert_eq!(severity, Severity::Error);
    assert_eq!(found, "this process is without CAP_PERFMON, CAP_BPF");
}

#[test]
fn a_driver_without_native_xdp_is_an_error_unless_generic_is_wanted() {
    let none = XdpFeatures::from_bits(0);
    assert_eq!(one("xdp", |host| nic(host).xdp = Some(none)).0, Severity::Error);
    let (severity, found, _) = one("xdp", |host| {
        nic(host).xdp = Some(none);
        nic(host).native = false;
    });
    assert_eq!(
        (severity, found.as_str()),
        (Severity::Warning, "the configuration says generic mode")
    );
    assert_eq!(
        one("xdp", |host| nic(host).xdp = Some(XdpFeatures::from_bits(1))).0,
        Severity::Error,
        "it cannot redirect"
    );
    assert_eq!(one("xdp", |host| nic(host).xdp = None).0, Severity::Note);
    assert_eq!(
        one("xdp", |host| nic(host).attached = Some(XdpMode::Generic)).0,
        Severity::Error
    );
    assert!(said("xdp", |host| nic(host).attached = Some(XdpMode::Native)).is_empty());
    // A veth whose peer has neither a program nor GRO: it receives, and nothing can be sent out by it.
    let deaf = XdpFeatures::from_bits(0x3);
    for (attached, severity) in [
        (None, Severity::Warning),
        (Some(XdpMode::Native), Severity::Error),
    ] {
        let (found, _, fix) = one("xdp", |host| {
            nic(host).driver = Some(Driver {
                name: "veth".into(),
                bus: String::new(),
            });
            nic(host).mtu = 1500;
            (nic(host).xdp, nic(host).attached) = (Some(deaf), attached);
        });
        assert_eq!(found, severity);
        assert!(fix.is_some_and(|fix| fix.contains("gro on")));
    }
}

#[test]
fn offloads_are_mended_safely_only_while_nothing_is_attached() {
    for (feature, word) in [
        ("rx-lro", "lro"),
        ("rx-gro-hw", "rx-gro-hw"),
        ("rx-vlan-hw-parse", "rxvlan"),
        ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse"),
    ] {
        for attached in [None, Some(XdpMode::Native)] {
            let mut host = sound();
            nic(&mut host).features = Some(BTreeSet::from([feature.to_string()]));
            nic(&mut host).attached = attached;
            let findings = examine(&host);
            let finding = findings.iter().find(|f| f.check == "offloads").expect("said");
            assert_eq!(finding.severity, Severity::Error);
            assert_eq!(
                finding.fix.as_deref(),
                Some(&*format!("ethtool -K eth0 {word} off"))
            );
            assert_eq!(finding.safe, attached.is_none());
        }
    }
}

#[test]
fn the_mtu_is_held_against_what_the_driver_takes() {
    let (severity, found, fix) = one("mtu", |host| nic(host).mtu = 9000);
    assert_eq!((severity, found.as_str()), (Severity::Error, "MTU 9000"));
    assert!(fix.unwrap().starts_with("ip link set eth0 mtu 3050"));
    assert!(said("mtu", |host| nic(host).mtu = 3050).is_empty());
    assert!(said("mtu", |host| (nic(host).mtu, nic(host).native) = (9000, false)).is_empty());
}

#[test]
fn frames_in_several_buffers_are_taken_by_some_drivers_and_kernels() {
    let jumbo = |driver: &'static str, told: Option<u64>, attached: Option<XdpMode>| {
        move |host: &mut Host| {
            let nic = nic(host);
            nic.mtu = 9000;
            nic.driver = Some(Driver {
                name: driver.into(),
                ..Driver::default()
            });
            nic.xdp = told.map(XdpFeatures::from_bits);
            nic.attached = attached;
        }
    };
    let native = Some(XdpMode::Native);
    let (in_alone, both) = (0x7 | 32, 0x7 | 32 | 64);
    for (driver, told, attached) in [
        ("ice", Some(both), None),
        ("ice", Some(both), native),
        ("ice", Some(in_alone), None),
        ("veth", Some(both), native),
    ] {
        assert!(said("mtu", jumbo(driver, told, attached)).is_empty(), "{driver}");
    }
    for (driver, told, attached, says) in [
        ("ice", Some(in_alone), native, "from others"),
        ("veth", None, native, "6.3"),
        ("new", Some(0x7), None, "attaching shows"),
    ] {
        let mut host = sound();
        jumbo(driver, told, attached)(&mut host);
        let found = examine(&host);
        let finding = found.iter().find(|finding| finding.check == "mtu").expect("one");
        assert_eq!(finding.severity, Severity::Note, "{driver}");
        let why = finding.why.as_deref().unwrap_or_default();
        assert!(why.contains(says), "{driver}: {why}");
    }
    assert_eq!(one("mtu", jumbo("ice", Some(0x7), None)).0, Severity::Error);
}

#[test]
fn queues_are_held_against_cpus_and_rows_against_queues() {
    let few = |rx, tx, max| {
        one("queues", |host| {
            nic(host).channels = Some(Channels {
                rx,
                rx_max: max,
                tx,
                tx_max: max,
            });
            nic(host).spread = None;
        })
    };
    let (severity, found, fix) = few(4, 4, 63);
    assert_eq!(severity, Severity::Warning);
    assert_eq!(found, "queues: 4 for receiving, 4 for sending; 8 CPUs");
    assert!(fix.unwrap().starts_with("ethtool -L eth0 combined 8 "));
    assert_eq!(
        few(4, 4, 4).2.as_deref(),
        Some("a device with more queues, or fewer CPUs for it")
    );
    assert!(
        few(4, 8, 63)
            .2
            .unwrap()
            .starts_with("ethtool -L eth0 combined 8 ")
    );
    let (severity, found, fix) = one("spread", |host| nic(host).spread = Some(vec![0; 128]));
    assert_eq!(severity, Severity::Warning);
    assert_eq!(found, "the hash spreads packets over 1 of 8 receive queues");
    assert_eq!(fix.as_deref(), Some("ethtool -X eth0 equal 8"));
    // A row that names no queue of the device is no reason to fall over.
    assert_eq!(
        said("spread", |host| nic(host).spread = Some(vec![u32::MAX; 4])).len(),
        1
    );
}

#[test]
fn rings_interrupts_and_virtual_functions() {
    let (severity, _, fix) = one("rings", |host| {
        nic(host).rings = Some(Rings {
            rx: 512,
            rx_max: 4096,
            tx: 4096,
            tx_max: 4096,
        });
    });
    assert_eq!(severity, Severity::Note);
    assert!(fix.unwrap().starts_with("ethtool -G eth0 rx 2048 tx 4096"));
    let (severity, found, _) = one("interrupts", |host| {
        nic(host).interrupts = vec![BTreeSet::from([0]); 8]
    });
    assert_eq!(
        (severity, found.as_str()),
        (Severity::Warning, "its 8 interrupts go to 1 of 8 CPUs")
    );
    assert_eq!(
        one("sr-iov", |host| nic(host).virtual_functions = 4).0,
        Severity::Note
    );
}

#[test]
fn an_interface_that_is_not_there_is_one_finding() {
    let mut host = sound();
    host.nics = vec![Nic {
        name: "eth9".into(),
        ..Nic::default()
    }];
    let findings = examine(&host);
    let of_it: Vec<_> = findings
        .iter()
        .filter(|f| f.ifname.as_deref() == Some("eth9"))
        .collect();
    assert_eq!(of_it.len(), 1);
    assert_eq!(of_it[0].severity, Severity::Error);
    assert_eq!(worst(&findings), Severity::Error);
}

#[test]
fn what_the_fast_path_goes_around_is_said() {
    let chain = |kind: &str, rules, drops| Chain {
        family: "inet",
        table: "filter".into(),
        name: "fwd".into(),
        kind: kind.into(),
        drops,
        rules,
    };
    let (severity, found, _) = one("nftables", |host| {
        host.chains = Some(vec![chain("filter", 3, false)])
    });
    assert_eq!(severity, Severity::Warning);
    assert_eq!(found, "inet filter fwd filters forwarded packets (3 rules)");
    let (severity, found, _) = one("nftables", |host| {
        host.chains = Some(vec![chain("nat", 1, false)])
    });
    assert_eq!(
        (severity, found.as_str()),
        (Severity::Error, "inet filter fwd translates addresses (1 rule)")
    );
    assert_eq!(one("nftables", |host| host.chains = None).0, Severity::Note);
    assert_eq!(
        one("iptables", |host| host.legacy_tables = vec!["nat".into()]).0,
        Severity::Warning
    );
    let (severity, found, _) = one("ip-rules", |host| {
        host.rules.as_mut().expect("there are").push(Rule {
            ipv6: false,
            priority: 100,
            table: 7,
            plain: false,
        });
    });
    assert_eq!(severity, Severity::Error);
    assert!(found.contains("policy routing rules"), "{found}");
    let networkd = |manages| {
        said("networkd", |host| {
            host.networkd = true;
            host.manages_foreign_routes = manages;
        })
    };
    assert_eq!(networkd(None).len(), 1);
    assert_eq!(networkd(Some(true)).len(), 1);
    assert!(networkd(Some(false)).is_empty());
    let links = said("other-links", |host| {
        host.others = (0..8)
            .map(|at| Other {
                name: format!("wg{at}"),
                kind: "wireguard".into(),
                base: None,
                routes: 9 - at,
            })
            .collect();
    });
    assert_eq!(links.len(), 6);
    assert_eq!(links[0].1, "9 routes lead through wg0 (wireguard)");
    assert_eq!(links[5].1, "routes lead through 3 more links that are not served");
}

#[test]
fn safe_commands_are_run_and_what_came_of_them_is_said() {
    let mut host = sound();
    host.jit = Some(0);
    nic(&mut host).mtu = 9000;
    let mut findings = examine(&host);
    for finding in &mut findings {
        if finding.safe {
            finding.fix = Some("true and more".into());
        }
    }
    let mut told = Vec::new();
    mend(&mut findings, &mut |line| told.push(line.to_string()));
    assert_eq!(told, ["$ true and more"]);
    assert_eq!(
        worst(&findings),
        Severity::Error,
        "the MTU is not mended by itself"
    );
    findings.retain(|finding| finding.check != "mtu");
    assert_eq!(worst(&findings), Severity::Ok);
    for finding in findings.iter_mut().filter(|finding| finding.safe) {
        finding.fix = Some("no-such-command-at-all x".into());
    }
    told.clear();
    mend(&mut findings, &mut |line| told.push(line.to_string()));
    assert!(
        told[1].starts_with("  failed: no-such-command-at-all: "),
        "{told:?}"
    );
    assert_eq!(worst(&findings), Severity::Error);
}
