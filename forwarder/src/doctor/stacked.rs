//! VLANs and macvlans: whether the fast path serves them with the interface they stand on, and what of their MTUs and priorities is in
//! the way.

use super::{
    Finding, Severity,
    facts::{Host, Nic, Stacked},
    interfaces,
};
use crate::source::event::{Detail, MacvlanMode, Vlan};

/// Tags that the fast path takes off and puts on.
const TAGS: usize = 2;
/// Octets of one.
const TAG: u32 = 4;

/// What is to be said of one on an interface of the configuration.
pub fn examine(host: &Host, link: &Stacked) -> Vec<Finding> {
    let check = match link.chain.first() {
        Some(Detail::Vlan(_)) => "vlan",
        Some(Detail::Macvlan(_)) => "macvlan",
        _ => return Vec::new(), // without a route it is nobody's business, and with one other-links tells
    };
    let found = describe(link);
    let mut findings = Vec::new();
    if let Some(Unserved { why, mend }) = unserved(link) {
        let finding = Finding::new(Severity::Warning, check, found);
        let finding = finding.because(format!(
            "{why}: the kernel forwards what comes in or leaves there"
        ));
        findings.push(match mend {
            Some(mend) => finding.mend(mend),
            None => finding,
        });
    } else {
        findings.push(Finding::ok(check, found));
        findings.extend(mtu(link));
        // Of one that is named itself it is told with the rest.
        let named = host.nics.iter().any(|nic| nic.name == link.name);
        findings.extend((link.forwarding4 == Some(false) && !named).then(interfaces::no_forwarding4));
    }
    findings
        .into_iter()
        .map(|finding| finding.on(&link.name))
        .collect()
}

/// Why the fast path does not serve a link, and what would change that.
pub struct Unserved {
    /// The reason, as the beginning of a sentence.
    pub why: String,
    mend: Option<String>,
}

/// `None` where the fast path serves it.
pub fn unserved(link: &Stacked) -> Option<Unserved> {
    let no = |why: String, mend: Option<String>| Some(Unserved { why, mend });
    for (depth, detail) in link.chain.iter().enumerate() {
        match (detail, depth) {
            (Detail::Vlan(_), _) | (Detail::Macvlan(MacvlanMode::Private | MacvlanMode::Vepa), 0) => {}
            (Detail::Macvlan(mode), 0) => {
                let why = format!("macvlans of mode {} are not served", mode.name());
                // None becomes passthru, or anything else again (`macvlan_changelink`, drivers/net/macvlan.c).
                let anew = *mode == MacvlanMode::Passthru;
                let how = match anew {
                    true => "make it anew with mode private".to_string(),
                    false => format!("ip link set {} type macvlan mode private", link.name),
                };
                return no(why, Some(format!("{how}, if nothing needs the mode it has")));
            }
            (Detail::Macvlan(_), _) => {
                return no("it stands on a macvlan".into(), None);
            }
            (Detail::Bond(_) | Detail::Plain, 0) => {
                return no(format!("links of kind {} are not served", link.kind), None);
            }
            (Detail::Bond(_) | Detail::Plain, _) => {
                return no("what it stands on is neither VLAN nor device".into(), None);
            }
        }
    }
    let vlans: Vec<Vlan> = link.chain.iter().filter_map(vlan).collect();
    if vlans.len() > TAGS {
        let why = format!(
            "its frames carry {} tags, of which {TAGS} are served",
            vlans.len()
        );
        return no(why, None);
    }
    let maps = vlans.iter().find(|vlan| vlan.maps_priority)?;
    no(
        format!(
            "VLAN {} maps priorities (egress-qos-map, ingress-qos-map), which the fast path does not",
            maps.id
        ),
        Some("make it anew without maps, if nobody beyond looks at the priority in tags".into()),
    )
}

fn vlan(detail: &Detail) -> Option<Vlan> {
    match detail {
        Detail::Vlan(vlan) => Some(*vlan),
        _ => None,
    }
}

/// Such as "VLAN 100 in service VLAN 7 of eth0", "macvlan (private) on VLAN 100 of eth0".
fn describe(link: &Stacked) -> String {
    let mut said = String::new();
    for (depth, detail) in link.chain.iter().enumerate() {
        let before = match (depth, detail) {
            (0, _) => "",
            (1, _) if matches!(link.chain[0], Detail::Macvlan(_)) => " on ",
            _ => " in ",
        };
        let word = match detail {
            Detail::Vlan(Vlan {
                id, service: true, ..
            }) => format!("service VLAN {id}"),
            Detail::Vlan(Vlan { id, .. }) => format!("VLAN {id}"),
            Detail::Macvlan(mode) => format!("macvlan ({})", mode.name()),
            Detail::Bond(_) | Detail::Plain => "another link".to_string(),
        };
        said += &format!("{before}{word}");
    }
    let last = match link.chain.last() {
        Some(Detail::Vlan(_)) => "of",
        _ => "on",
    };
    format!("{said} {last} {}", link.base.0)
}

/// The kernel hands over frames up to the device's MTU with Ethernet header and one tag (`xdp_ok_fwd_dev`,
/// include/linux/netdevice.h).
fn mtu(link: &Stacked) -> Option<Finding> {
    let (below, below_mtu) = &link.below;
    if link.mtu > *below_mtu {
        return Some(
            Finding::new(Severity::Warning, "mtu", format!("MTU {}", link.mtu))
                .because(format!(
                    "{below}, which it stands on, has {below_mtu}: what is longer is lost there"
                ))
                .mend(format!("ip link set {} mtu {below_mtu}", link.name)),
        );
    }
    let tags = u32::try_from(link.chain.iter().filter_map(vlan).count()).unwrap_or(u32::MAX);
    let (base, base_mtu) = &link.base;
    let more = TAG.saturating_mul(tags.saturating_sub(1));
    let most = base_mtu.saturating_sub(more);
    (link.mtu > most).then(|| {
        Finding::new(
            Severity::Note,
            "mtu",
            format!("MTU {}, with {tags} tags on {base} of MTU {base_mtu}", link.mtu),
        )
        .because(format!(
            "a device takes frames of the fast path with one tag beyond its MTU: packets longer than {most} octets are the kernel's"
        ))
        .mend(format!(
            "ip link set {base} mtu {}, if it and all who share the link can; or ip link set {} mtu {most}",
            base_mtu.saturating_add(more),
            link.name
        ))
    })
}

/// What is to be said of a VLAN or macvlan that is named in the configuration itself, beside what [`examine`] says of it with the
/// interface it stands on.
pub fn named(host: &Host, nic: &Nic) -> Option<Finding> {
    let check = match nic.detail {
        Detail::Macvlan(_) => "macvlan",
        _ => "vlan",
    };
    let Some(base) = &nic.base else {
        return Some(
            Finding::new(
                Severity::Error,
                check,
                "what it stands on is in another network namespace",
            )
            .because("its frames come in there, where no program of this configuration runs")
            .mend("take it out of the configuration: the kernel serves it"),
        );
    };
    let configured = host.nics.iter().any(|nic| nic.name == *base);
    (!configured).then(|| {
        Finding::new(
            Severity::Error,
            check,
            format!("it stands on {base}, which is not in the configuration"),
        )
        .because(format!(
            "its frames come in by {base}, where no program runs: the fast path would never see them"
        ))
        .mend(format!("[[interface]] with name = \"{base}\""))
    })
}
