//! One interface of the configuration: its driver and mode, queues against CPUs, rings, interrupts, what the hardware does to frames
//! before a program sees them, MTU.

use std::collections::BTreeSet;

use super::{
    Finding, Severity, bonds,
    facts::{Host, Nic},
    stacked,
};
use crate::dataplane::refusal::{largest_mtu, one_buffer};
use crate::netlink::{command::XdpMode, netdev::XdpFeatures};
use crate::source::event::Detail;

/// What every driver takes, and in one buffer.
const ETHERNET_MTU: u32 = 1500;

/// What is to be said of it.
pub fn examine(host: &Host, nic: &Nic) -> Vec<Finding> {
    if !nic.exists {
        return vec![
            Finding::new(Severity::Error, "link", "there is no such interface")
                .because("the controller does not start without it, unless it found it served before")
                .mend("ip -br link lists those there are; correct the configuration")
                .on(&nic.name),
        ];
    }
    let own = |findings: Vec<Finding>| findings.into_iter().map(|finding| finding.on(&nic.name));
    if let Some((bond, kind)) = &nic.master
        && kind == "bond"
        && host.nics.iter().any(|nic| nic.name == *bond)
    {
        // The rest is told of it with its bond.
        return own(master(nic).into_iter().collect()).collect();
    }
    let mut findings = vec![link(nic)];
    findings.extend(forwarding(nic));
    findings.extend(master(nic));
    match (&nic.bond, nic.detail) {
        (Some(bond), _) => own(findings).chain(bonds::examine(host, nic, bond)).collect(),
        (None, Detail::Vlan(_) | Detail::Macvlan(_)) => {
            findings.extend(stacked::named(host, nic));
            own(findings).collect()
        }
        (None, _) => own(findings).chain(hardware(host, nic)).collect(),
    }
}

/// What is to be said of a device as such: of a member of a bond, which has no routes of its own.
pub fn device(host: &Host, nic: &Nic) -> Vec<Finding> {
    let mut findings = vec![link(nic).on(&nic.name)];
    findings.extend(hardware(host, nic));
    findings
}

/// Of its driver and what stands behind it.
fn hardware(host: &Host, nic: &Nic) -> Vec<Finding> {
    let mut findings = vec![mode(nic), mtu(nic)];
    findings.extend(offloads(nic));
    findings.extend(queues(host, nic));
    findings.extend(spread(nic));
    findings.extend(rings(nic));
    findings.extend(interrupts(host, nic));
    findings.extend(virtual_functions(nic));
    findings
        .into_iter()
        .map(|finding| finding.on(&nic.name))
        .collect()
}

fn link(nic: &Nic) -> Finding {
    let driver = match &nic.driver {
        Some(driver) if !driver.bus.is_empty() => format!("driver {} at {}", driver.name, driver.bus),
        Some(driver) => format!("driver {}", driver.name),
        None => "its driver does not tell its name".to_string(),
    };
    if !nic.ethernet {
        return Finding::new(Severity::Error, "link", "it has no Ethernet frames")
            .because("the program reads Ethernet headers: everything that comes in would pass to the kernel")
            .mend("take it out of the configuration: the kernel serves it");
    }
    match nic.admin_up {
        true => Finding::ok("link", driver),
        false => Finding::new(Severity::Warning, "link", "it is down")
            .because("nothing comes in or leaves by it")
            .mend(format!("ip link set {} up", nic.name)),
    }
}

fn forwarding(nic: &Nic) -> Option<Finding> {
    Some(match nic.forwarding4? {
        true => Finding::ok("forwarding", "IPv4 forwarding is on"),
        false => no_forwarding4(),
    })
}

/// Of an interface, whatever its kind.
pub fn no_forwarding4() -> Finding {
    Finding::new(Severity::Warning, "forwarding", "IPv4 forwarding is off")
        .because("neither the kernel nor the fast path forwards IPv4 that comes in there")
        .mend("sysctl -w net.ipv4.ip_forward=1")
}

fn mode(nic: &Nic) -> Finding {
    match (nic.attached, nic.native) {
        (Some(XdpMode::Native | XdpMode::Hardware), _) if nic.xdp.is_none_or(XdpFeatures::transmits) => {
            return Finding::ok("xdp", "a program runs in its driver");
        }
        (Some(XdpMode::Native | XdpMode::Hardware), _) => {
            return Finding::new(
                Severity::Error,
                "xdp",
                "a program runs in its driver, and nothing can be sent out by it",
            )
            .because("all that is forwarded there is lost: on veth the peer needs a program or GRO")
            .mend("on veth ethtool -K PEER gro on, at the other end; else take it out of the configuration");
        }
        (Some(XdpMode::Several), _) => {
            return Finding::new(Severity::Error, "xdp", "programs are attached in several modes")
                .because("each packet meets both")
                .mend(format!(
                    "ip link show {name}; ip link set {name} xdpgeneric off",
                    name = nic.name
                ));
        }
        (Some(XdpMode::Generic), true) => {
            return Finding::new(Severity::Error, "xdp", "a program is attached in generic mode")
                .because("the configuration wants it in the driver; generic mode is many times slower")
                .mend(format!("ip link set {} xdpgeneric off", nic.name));
        }
        (Some(XdpMode::Generic) | None, false) => {
            return Finding::new(Severity::Warning, "xdp", "the configuration says generic mode")
                .because("it works with every driver and is many times slower: behind the kernel's own reception of the packet")
                .mend("xdp = \"native\" in its [[interface]], where the driver can");
        }
        (None, true) => {}
    }
    match nic.xdp {
        Some(xdp) if !xdp.native() => Finding::new(Severity::Error, "xdp", "its driver has no native XDP")
            .because("the program cannot be attached in the driver, and forwarder never falls back by itself")
            .mend("take it out of the configuration (the kernel serves it), or say xdp = \"generic\""),
        Some(xdp) if !xdp.redirects() => Finding::new(
            Severity::Error,
            "xdp",
            "its driver's XDP cannot send packets out by other interfaces",
        )
        .because("what comes in there would be lost")
        .mend("take it out of the configuration: the kernel serves it"),
        Some(xdp) if !xdp.transmits() && nic.driver.as_ref().is_some_and(|driver| driver.name == "veth") => {
            Finding::new(Severity::Warning, "xdp", "nothing can be sent out by it yet")
                .because("a veth takes frames of XDP once its peer has a program or GRO: until then all that is forwarded there is lost")
                .mend("ethtool -K PEER gro on, at the other end")
        }
        Some(_) => Finding::ok("xdp", "its driver has native XDP"),
        None => Finding::new(
            Severity::Note,
            "xdp",
            "whether its driver has native XDP is not told by this kernel",
        )
        .because("Linux 6.3 and later tell; attaching shows"),
    }
}

fn master(nic: &Nic) -> Option<Finding> {
    let (name, kind) = nic.master.as_ref()?;
    Some(match kind.as_str() {
        "bond" => Finding::new(Severity::Error, "master", format!("it is a member of the bond {name}"))
            .because("routes lead by the bond, and what comes in here comes in by the bond: that is what is configured")
            .mend(format!("[[interface]] with name = \"{name}\" instead of name = \"{}\"", nic.name)),
        "vrf" => Finding::new(Severity::Warning, "master", format!("it belongs to the VRF {name}"))
            .because("the fast path looks in the tables of [routes], not in the VRF's")
            .mend(format!("ip link show {name}; tables = [...] of [routes], or take it out of the configuration")),
        _ => Finding::new(
            Severity::Warning,
            "master",
            format!("it is a port of {name} ({kind})"),
        )
        .because("what the bridge would switch comes to the program first; it forwards only what is addressed to the interface itself"),
    })
}

fn mtu(nic: &Nic) -> Finding {
    let found = format!("MTU {}", nic.mtu);
    let driver = nic.driver.as_ref().map_or("", |driver| driver.name.as_str());
    if !nic.native {
        return Finding::ok("mtu", found);
    }
    if let Some(limit) = largest_mtu(driver, nic.xdp) {
        return if nic.mtu > limit {
            Finding::new(Severity::Error, "mtu", found)
                .because(format!("with XDP the driver {driver} takes up to {limit}"))
                .mend(format!(
                    "ip link set {} mtu {limit}, and the same at all who share the link; or take it out of the configuration",
                    nic.name
                ))
        } else {
            Finding::ok("mtu", format!("{found}, of {limit} that {driver} takes with XDP"))
        };
    }
    if nic.mtu <= one_buffer(driver).unwrap_or(ETHERNET_MTU) {
        return Finding::ok("mtu", found);
    }
    let note = |why: &str| Finding::new(Severity::Note, "mtu", found.clone()).because(why.to_string());
    match nic.xdp {
        None => note(
            "this kernel redirects no frames in several buffers (Linux 6.3 and later do): those longer than one are forwarded by the \
             kernel, reason multi-buffer",
        ),
        Some(told) if !told.fragments() => note(
            "its driver gives a program no frames in several buffers: whether it takes the program with this MTU, attaching shows",
        ),
        // Some drivers say what they take only once a program is attached.
        Some(told) if nic.attached.is_some() && !told.transmits_fragments() => note(
            "its driver takes no frames in several buffers from others: those longer than one are forwarded by the kernel, reason \
             multi-buffer",
        ),
        Some(_) => Finding::ok("mtu", format!("{found}, in several buffers")),
    }
}

fn offloads(nic: &Nic) -> Vec<Finding> {
    let Some(on) = &nic.features else {
        return vec![Finding::new(
            Severity::Note,
            "offloads",
            "its driver does not tell its offloads",
        )];
    };
    let wrong: [(&str, &str, &str, &str); 4] = [
        (
            "rx-lro",
            "large receive offload (lro) is on",
            "it joins packets, which then can neither be forwarded as they came nor read by a program: drivers refuse XDP with it",
            "lro",
        ),
        (
            "rx-gro-hw",
            "receive offload in hardware (gro-hw) is on",
            "it joins packets before a program sees them: drivers refuse XDP with it",
            "rx-gro-hw",
        ),
        (
            "rx-vlan-hw-parse",
            "the hardware takes VLAN tags off (rxvlan)",
            "a tagged frame looks untagged to the program, and would be taken for one of the untagged network",
            "rxvlan",
        ),
        (
            "rx-vlan-stag-hw-parse",
            "the hardware takes service VLAN tags off (rx-vlan-stag-hw-parse)",
            "a frame with a service tag (802.1ad) looks to the program as if it had none, and would be taken for one of another network",
            "rx-vlan-stag-hw-parse",
        ),
    ];
    let mut findings = Vec::new();
    for (feature, found, why, word) in wrong {
        if !on.contains(feature) {
            continue;
        }
        // veth hands the tag over beside the frame only where it was set in software: XDP turns it back.
        let virtual_link = nic.driver.as_ref().is_some_and(|driver| driver.name == "veth");
        if virtual_link && feature.starts_with("rx-vlan-") {
            continue;
        }
        let finding = Finding::new(Severity::Error, "offloads", found).because(why);
        let command = format!("ethtool -K {} {word} off", nic.name);
        // Some drivers take the link down for a moment: that is nothing new only where no traffic of ours runs yet.
        findings.push(if nic.attached.is_none() {
            finding.mend_safely(command)
        } else {
            finding.mend(command)
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok("offloads", "nothing joins packets or takes tags off"));
    }
    findings
}

fn queues(host: &Host, nic: &Nic) -> Vec<Finding> {
    let Some(channels) = nic.channels else {
        return Vec::new();
    };
    let cpus = u32::try_from(host.cpus.len()).unwrap_or(u32::MAX);
    let found = format!(
        "queues: {} for receiving, {} for sending; {cpus} CPUs",
        channels.rx, channels.tx
    );
    let most = |max: u32| max.min(cpus);
    let command = format!(
        "ethtool -L {} combined {}",
        nic.name,
        most(channels.rx_max.max(channels.tx_max))
    );
    let mut findings = Vec::new();
    if channels.tx < cpus {
        let finding = Finding::new(Severity::Warning, "queues", found.clone()).because(
            "with fewer transmit queues than CPUs, CPUs share one: many drivers lock it for every burst, some refuse to send for a CPU \
             that has none",
        );
        findings.push(if channels.tx < most(channels.tx_max) {
            finding.mend(format!("{command} (the link goes down for a moment)"))
        } else {
            finding.mend("a device with more queues, or fewer CPUs for it")
        });
    } else if channels.rx < most(channels.rx_max) {
        findings.push(
            Finding::new(Severity::Warning, "queues", found.clone())
                .because("only as many CPUs forward what comes in there as it has receive queues")
                .mend(format!("{command} (the link goes down for a moment)")),
        );
    } else {
        findings.push(Finding::ok("queues", found));
    }
    findings
}

fn spread(nic: &Nic) -> Option<Finding> {
    let rows = nic.spread.as_ref()?;
    let queues = nic.channels?.rx;
    if queues < 2 || rows.is_empty() {
        return None;
    }
    let mut load = vec![0u32; queues as usize];
    for row in rows {
        if let Some(queue) = load.get_mut(*row as usize) {
            *queue += 1;
        }
    }
    let used = load.iter().filter(|rows| **rows > 0).count();
    let (least, most) = (load.iter().min()?, load.iter().max()?);
    let found = format!("the hash spreads packets over {used} of {queues} receive queues");
    Some(if used < load.len() || *most > least + least / 2 + 1 {
        Finding::new(Severity::Warning, "spread", found)
            .because(format!(
                "the fullest queue gets {} rows of {} in its table, the emptiest {least}: some CPUs are done while one is behind",
                most,
                rows.len()
            ))
            .mend(format!("ethtool -X {} equal {queues}", nic.name))
    } else {
        Finding::ok("spread", found)
    })
}

fn rings(nic: &Nic) -> Option<Finding> {
    let rings = nic.rings?;
    let found = format!(
        "{} descriptors for receiving of {}, {} for sending of {}",
        rings.rx, rings.rx_max, rings.tx, rings.tx_max
    );
    // Larger ones than this keep more packets than the caches do.
    let good = |most: u32| most.min(2048);
    Some(
        if rings.rx < good(rings.rx_max) || rings.tx < good(rings.tx_max) {
            Finding::new(Severity::Note, "rings", found)
            .because("short bursts may be lost in front of the program; `forwarder interfaces` shows what the driver missed")
            .mend(format!(
                "ethtool -G {} rx {} tx {} (the link goes down for a moment)",
                nic.name,
                rings.rx.max(good(rings.rx_max)),
                rings.tx.max(good(rings.tx_max))
            ))
        } else {
            Finding::ok("rings", found)
        },
    )
}

fn interrupts(host: &Host, nic: &Nic) -> Option<Finding> {
    if nic.interrupts.len() < 2 || host.cpus.len() < 2 {
        return None;
    }
    let cpus: BTreeSet<u32> = nic.interrupts.iter().flatten().copied().collect();
    let found = format!(
        "its {} interrupts go to {} of {} CPUs",
        nic.interrupts.len(),
        cpus.len(),
        host.cpus.len()
    );
    Some(if cpus.len() == 1 {
        Finding::new(Severity::Warning, "interrupts", found)
            .because("one CPU forwards all that comes in there")
            .mend(
                "apt-get install irqbalance, or write a CPU for each queue to /proc/irq/N/smp_affinity_list",
            )
    } else {
        Finding::ok("interrupts", found)
    })
}

fn virtual_functions(nic: &Nic) -> Option<Finding> {
    (nic.virtual_functions > 0).then(|| {
        Finding::new(
            Severity::Note,
            "sr-iov",
            format!("{} virtual functions are in use", nic.virtual_functions),
        )
        .because("what the device switches between them neither the program nor the kernel sees; several drivers have fewer queues then")
    })
}
