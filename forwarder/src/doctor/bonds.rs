//! A bond of the configuration: whether the fast path can choose a member as the kernel would, and its members, each judged as the
//! interface that frames come in by and leave by.

use std::collections::BTreeSet;

use super::{
    Finding, Severity,
    facts::{Bond, Host, Nic},
    interfaces,
};
use crate::source::event::{BondMode, HashPolicy};

/// Modes in which the fast path sends as the kernel does: those in which that runs programs on bonds, too (`bond_xdp_check`,
/// drivers/net/bonding/bond_main.c).
const SERVED: [BondMode; 4] = [
    BondMode::RoundRobin,
    BondMode::ActiveBackup,
    BondMode::Xor,
    BondMode::Lacp,
];

/// What is to be said of it and of its members.
pub fn examine(host: &Host, nic: &Nic, bond: &Bond) -> Vec<Finding> {
    let mut findings = choice(nic, bond);
    findings.extend(attached(nic));
    if bond.members.is_empty() {
        findings.push(
            Finding::new(Severity::Error, "bond", "a bond without members")
                .because("nothing comes in or leaves by it")
                .mend(format!(
                    "ip link set MEMBER down; ip link set MEMBER master {}",
                    nic.name
                )),
        );
    } else {
        findings.extend(silent(nic, bond));
    }
    findings.extend(drivers(bond));
    findings.extend(speeds(bond));
    findings.extend(rate(nic, bond));
    let mut findings: Vec<Finding> = findings
        .into_iter()
        .map(|finding| finding.on(&nic.name))
        .collect();
    for member in &bond.members {
        findings.extend(state(nic, bond, member).map(|finding| finding.on(&member.name)));
        findings.extend(interfaces::device(host, member));
    }
    findings
}

/// Whether and how it hashes.
fn hashes(mode: BondMode) -> bool {
    matches!(mode, BondMode::Xor | BondMode::Lacp)
}

fn choice(nic: &Nic, bond: &Bond) -> Vec<Finding> {
    let found = match hashes(bond.mode) {
        true => format!("bond of mode {}, policy {}", bond.mode.name(), bond.policy.name()),
        false => format!("bond of mode {}", bond.mode.name()),
    };
    if !SERVED.contains(&bond.mode) {
        let served = SERVED.map(BondMode::name).join(", ");
        return vec![
            Finding::new(Severity::Error, "bond", found)
                .because(format!(
                    "the fast path sends by bonds of mode {served} alone: the kernel forwards what leaves by this one"
                ))
                .mend(format!(
                    "ip link set {name} type bond mode 802.3ad (of a bond that is down and without members, and a switch that speaks LACP)",
                    name = nic.name
                )),
        ];
    }
    let other = format!("ip link set {} type bond xmit_hash_policy layer3+4", nic.name);
    let finding = |severity| Finding::new(severity, "bond", &*found);
    vec![match bond.policy {
        _ if !hashes(bond.mode) => Finding::ok("bond", found),
        HashPolicy::Layer23 | HashPolicy::Layer34 => Finding::ok("bond", found),
        HashPolicy::Layer2 => finding(Severity::Warning)
            .because("it looks at MACs alone: all that goes to one neighbour takes one link")
            .mend(other),
        HashPolicy::Encap23 | HashPolicy::Encap34 => finding(Severity::Note).because(
            "the fast path hashes the headers in front: all packets of one tunnel take one link, another perhaps than the kernel would \
             choose",
        ),
        HashPolicy::VlanSrcMac | HashPolicy::Other(_) => finding(Severity::Error)
            .because("the fast path does not know that hash: the kernel forwards what leaves by the bond")
            .mend(other),
    }]
}

/// A program on the bond itself: the kernel then takes none for its members (`dev_xdp_attach`, net/core/dev.c).
fn attached(nic: &Nic) -> Option<Finding> {
    nic.attached?;
    Some(
        Finding::new(
            Severity::Error,
            "bond",
            "an XDP program is attached to the bond itself",
        )
        .because("the fast path runs on the members, where the kernel attaches none beside it")
        .mend(format!("ip link set {} xdp off", nic.name)),
    )
}

/// None of the members sends.
fn silent(nic: &Nic, bond: &Bond) -> Option<Finding> {
    let sends = |member: &Nic| {
        let said = member.member.is_some_and(|said| said.up && said.active);
        member.carrier && said
    };
    // Of one that is down `link` tells.
    if !nic.admin_up || bond.members.iter().any(sends) {
        return None;
    }
    let count = bond.members.len();
    let found = match count {
        1 => "its only member does not send".to_string(),
        _ => format!("none of its {count} members sends"),
    };
    Some(
        Finding::new(Severity::Error, "bond", found)
            .because("nothing leaves by it")
            .mend(format!(
                "cat /proc/net/bonding/{} shows what each waits for",
                nic.name
            )),
    )
}

fn drivers(bond: &Bond) -> Option<Finding> {
    let drivers = bond.members.iter().filter_map(|member| member.driver.as_ref());
    let names: BTreeSet<&str> = drivers.map(|driver| driver.name.as_str()).collect();
    (names.len() > 1).then(|| {
        let names: Vec<&str> = names.into_iter().collect();
        Finding::new(
            Severity::Note,
            "bond",
            format!("its members have different drivers: {}", names.join(", ")),
        )
        .because("the narrowest limits count for all: MTU, queues and what XDP can")
    })
}

fn speeds(bond: &Bond) -> Option<Finding> {
    let speeds: BTreeSet<u64> = bond.members.iter().filter_map(|member| member.speed).collect();
    if speeds.len() < 2 {
        return None;
    }
    let speeds: Vec<String> = speeds.into_iter().map(bits).collect();
    let found = format!("its members have different speeds: {}", speeds.join(", "));
    Some(match bond.mode {
        BondMode::ActiveBackup => Finding::new(Severity::Note, "bond", found)
            .because("it carries less after a change to the slower one"),
        BondMode::Lacp => Finding::new(Severity::Warning, "bond", found)
            .because("LACP makes one link of members of one speed only: the others send nothing")
            .mend("members of one speed"),
        _ => Finding::new(Severity::Warning, "bond", found)
            .because("each member gets as much as the others: the slowest is full first")
            .mend("members of one speed"),
    })
}

fn bits(speed: u64) -> String {
    match speed / 1_000_000 {
        megabits if megabits % 1_000 == 0 => format!("{} Gbit/s", megabits / 1_000),
        megabits => format!("{megabits} Mbit/s"),
    }
}

fn rate(nic: &Nic, bond: &Bond) -> Option<Finding> {
    (bond.mode == BondMode::Lacp && bond.slow == Some(true)).then(|| {
        Finding::new(Severity::Note, "bond", "LACP is slow (lacp_rate slow)")
            .because("a partner that falls silent without losing the carrier is noticed after 90 seconds instead of 3")
            .mend(format!(
                "ip link set {} type bond lacp_rate fast (of a bond that is down)",
                nic.name
            ))
    })
}

/// What the bond says of a member.
fn state(nic: &Nic, bond: &Bond, member: &Nic) -> Option<Finding> {
    let said = member.member?;
    let bond_name = &nic.name;
    if !member.carrier || !said.up {
        return Some(
            Finding::new(
                Severity::Warning,
                "bond",
                format!("it is down for its bond {bond_name}"),
            )
            .because("the bond is without the link that it was made for")
            .mend(format!(
                "its cable and the other end; ip link set {} up; cat /proc/net/bonding/{bond_name}",
                member.name
            )),
        );
    }
    let apart = said.aggregator.is_some() && bond.aggregator.is_some() && said.aggregator != bond.aggregator;
    (bond.mode == BondMode::Lacp && (apart || !said.active)).then(|| {
        Finding::new(
            Severity::Warning,
            "bond",
            format!("it is up, and LACP has not taken it into the active aggregator of {bond_name}"),
        )
        .because("nothing leaves by it, and what comes in there the kernel judges")
        .mend(format!(
            "the same LACP group at the other end; cat /proc/net/bonding/{bond_name} shows aggregators and partners"
        ))
    })
}
