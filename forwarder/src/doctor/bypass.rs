//! What the kernel would do to packets, and the fast path does not: policy rules, firewalls on the way, routes by other links; and who
//! else changes routes.

use super::{
    Finding, Severity,
    facts::{Host, Other},
    stacked,
};
use crate::daemon::bypass;

/// Links that are named one by one; of more the number is told.
const NAMED: usize = 5;

/// What is to be said of it.
pub fn examine(host: &Host) -> Vec<Finding> {
    let mut findings = vec![rules(host)];
    findings.extend(chains(host));
    findings.extend(legacy(host));
    findings.extend(networkd(host));
    findings.extend(others(host));
    findings
}

fn rules(host: &Host) -> Finding {
    let Some(rules) = &host.rules else {
        return Finding::new(Severity::Note, "ip-rules", "the policy rules could not be read");
    };
    match bypass::rules(rules, &host.tables) {
        None => Finding::ok("ip-rules", "the policy rules ask what the fast path follows"),
        Some(sentence) => Finding::new(Severity::Error, "ip-rules", sentence)
            .because("packets go another way than the kernel would send them")
            .mend("ip rule, ip -6 rule; then tables = [...] of [routes], or remove the rule"),
    }
}

fn chains(host: &Host) -> Vec<Finding> {
    let Some(chains) = &host.chains else {
        return vec![Finding::new(
            Severity::Note,
            "nftables",
            "nftables' chains could not be read",
        )];
    };
    if chains.is_empty() {
        return vec![Finding::ok("nftables", "no chain looks at forwarded packets")];
    }
    let findings = chains.iter().map(|chain| {
        let rules = match chain.rules {
            0 => "policy drop".to_string(),
            1 => "1 rule".to_string(),
            many => format!("{many} rules"),
        };
        let what = match chain.kind.as_str() {
            "nat" => "translates addresses",
            _ => "filters forwarded packets",
        };
        Finding::new(
            // A translation that does not happen lets private addresses out.
            if chain.kind == "nat" {
                Severity::Error
            } else {
                Severity::Warning
            },
            "nftables",
            format!(
                "{} {} {} {what} ({rules})",
                chain.family, chain.table, chain.name
            ),
        )
        .because("packets of the fast path do not come by it: they are neither dropped, translated nor tracked there")
        .mend(format!(
            "nft list chain {} {} {}; write what it should drop as [[filter.rule]], or take the interface out of the \
             configuration",
            chain.family, chain.table, chain.name
        ))
    });
    findings.collect()
}

fn legacy(host: &Host) -> Option<Finding> {
    if host.legacy_tables.is_empty() {
        return None;
    }
    Some(
        Finding::new(
            Severity::Warning,
            "iptables",
            format!(
                "the older iptables is loaded with tables {}",
                host.legacy_tables.join(", ")
            ),
        )
        .because(
            "rules of its FORWARD, PREROUTING and POSTROUTING chains do not see packets of the fast path",
        )
        .mend("iptables-legacy-save, ip6tables-legacy-save; write what they should drop as [[filter.rule]]"),
    )
}

fn networkd(host: &Host) -> Option<Finding> {
    if !host.networkd {
        return None;
    }
    Some(match host.manages_foreign_routes {
        Some(false) => Finding::ok("networkd", "systemd-networkd leaves the routes of others alone"),
        _ => Finding::new(
            Severity::Warning,
            "networkd",
            "systemd-networkd removes routes that it did not make when it starts or an interface changes",
        )
        .because("BIRD's and FRR's routes among them, whole tables at once")
        .mend("ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no under [Network] of /etc/systemd/networkd.conf"),
    })
}

/// Links by which routes lead and that are not served.
fn others(host: &Host) -> Vec<Finding> {
    let on_ours = |other: &Other| host.stacked.iter().find(|link| link.name == other.name);
    let unserved: Vec<(&Other, Option<String>)> = host
        .others
        .iter()
        .filter_map(|other| match on_ours(other) {
            None => Some((other, None)),
            Some(link) => Some((other, Some(stacked::unserved(link)?.why))),
        })
        .collect();
    let mut findings: Vec<Finding> = unserved
        .iter()
        .take(NAMED)
        .map(|(other, why)| other_link(other, why.as_deref()))
        .collect();
    if let Some(more) = unserved.len().checked_sub(NAMED).filter(|more| *more > 0) {
        findings.push(Finding::new(
            Severity::Note,
            "other-links",
            format!("routes lead through {more} more links that are not served"),
        ));
    }
    findings
}

/// One of them; `why` of one that stands on an interface that is served.
fn other_link(other: &Other, why: Option<&str>) -> Finding {
    const KERNEL: &str = "the kernel forwards what goes there, counted as egress-without-xdp";
    let kind = match other.kind.as_str() {
        "" => String::new(),
        kind => format!(" ({kind})"),
    };
    let routes = match other.routes {
        1 => "1 route leads".to_string(),
        many => format!("{many} routes lead"),
    };
    let found = format!("{routes} through {}{kind}", other.name);
    let finding = |severity| Finding::new(severity, "other-links", &*found);
    if let Some(why) = why {
        return finding(Severity::Warning).because(format!("{why}: {KERNEL}"));
    }
    let serve =
        |name: &str| format!("[[interface]] with name = \"{name}\", if the fast path should serve it");
    match (&other.base, other.kind.as_str()) {
        (Some(base), _) => finding(Severity::Note)
            .because(format!(
                "it stands on {base}, which is not in the configuration: {KERNEL}"
            ))
            .mend(serve(base)),
        (None, "" | "bond" | "veth") => finding(Severity::Note)
            .because(format!("it is not in the configuration: {KERNEL}"))
            .mend(serve(&other.name)),
        (None, _) => finding(Severity::Note).because(format!("links of that kind are not served: {KERNEL}")),
    }
}
