//! Namespaces, cables, addresses and sysctls.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::topology::{self, LINKS, NODES, Node, Role};
use super::{Lab, system};
use crate::net::ns;
use crate::progress::{self, Poll};

/// Makes the whole network: when this returns every link is up and forwards.
pub fn build(lab: &Lab) -> Result<()> {
    let names = NODES
        .iter()
        .map(|node| format!("netns add {}", lab.netns(node.name)))
        .collect::<Vec<_>>();
    system::ip_batch(None, &names)?;
    for node in NODES {
        ns::run(&lab.netns_path(node.name), || sysctls(node))
            .with_context(|| format!("sysctls of {}", node.name))?;
    }
    cables(lab)?;
    for node in NODES {
        configure(lab, node).with_context(|| format!("network of {}", node.name))?;
    }
    for node in NODES {
        for (_, end) in topology::ends_of(node.name) {
            offloads(lab, node.name, end.ifname)?;
        }
    }
    for node in NODES {
        ns::run(&lab.netns_path(node.name), || links_up(node))?;
    }
    Ok(())
}

/// Removes the namespaces that exist, and with them every link in them.
pub fn remove(lab: &Lab) -> Result<()> {
    let present: Vec<_> = NODES
        .iter()
        .filter(|node| lab.netns_path(node.name).exists())
        .map(|node| format!("netns del {}", lab.netns(node.name)))
        .collect();
    if present.is_empty() {
        Ok(())
    } else {
        system::ip_batch(None, &present)
    }
}

/// /proc/sys/net shows the namespace of the thread that opens it.
fn sysctls(node: &Node) -> Result<()> {
    let forwarding = if matches!(node.role, Role::Carrier | Role::Router) {
        "1"
    } else {
        "0"
    };
    let mut settings = vec![("ipv4/ip_forward".to_string(), forwarding)];
    for scope in ["all", "default"] {
        settings.push((format!("ipv6/conf/{scope}/forwarding"), forwarding));
        // Links come and go in the demo; an IPv6 address must survive that, as a router's does.
        settings.push((format!("ipv6/conf/{scope}/keep_addr_on_down"), "1"));
    }
    for scope in ["all", "default"] {
        for (family, key) in [
            ("ipv4", "rp_filter"),
            ("ipv6", "accept_dad"),
            ("ipv6", "accept_ra"),
        ] {
            settings.push((format!("{family}/conf/{scope}/{key}"), "0"));
        }
    }
    if node.role == Role::Router {
        // A full table has 178 thousand IPv6 prefixes; older kernels stop at 4096 cached routes.
        settings.push(("ipv6/route/max_size".to_string(), "2147483647"));
    }
    for (key, value) in settings {
        let path = Path::new("/proc/sys/net").join(key);
        std::fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))?;
    }
    Ok(())
}

fn cables(lab: &Lab) -> Result<()> {
    let lines: Vec<_> = LINKS
        .iter()
        .enumerate()
        .map(|(index, link)| {
            let [a, b] = link.ends;
            let mtu = link.mtu;
            let (mac_a, mac_b) = (
                mac_text(topology::mac(index, 0)),
                mac_text(topology::mac(index, 1)),
            );
            let (ns_a, ns_b) = (lab.netns(a.node), lab.netns(b.node));
            format!(
                "link add name {} address {mac_a} mtu {mtu} netns {ns_a} type veth \
                 peer name {} address {mac_b} mtu {mtu} netns {ns_b}",
                a.ifname, b.ifname
            )
        })
        .collect();
    system::ip_batch(None, &lines)
}

fn configure(lab: &Lab, node: &Node) -> Result<()> {
    let mut lines = vec!["link set lo up".to_string()];
    if node.role == Role::Switch {
        lines.push("link add name br0 type bridge stp_state 0 mcast_snooping 0".into());
        lines.push("link set br0 up".into());
    }
    for (_, end) in topology::ends_of(node.name) {
        if node.role == Role::Switch {
            lines.push(format!("link set {} master br0", end.ifname));
        }
        for address in end.addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            lines.push(format!("addr add {address} dev {}{nodad}", end.ifname));
        }
        lines.push(format!("link set {} up", end.ifname));
    }
    for gateway in node.gateways {
        lines.push(format!("route add default via {gateway}"));
    }
    system::ip_batch(Some(&lab.netns(node.name)), &lines)?;
    if node.role == Role::Internet {
        // Whatever comes in is for us: this host stands for every address of the table. The rule is bound to the
        // interface so that our own packets still find the default route.
        for family in ["-4", "-6"] {
            let everything = if family == "-4" { "0.0.0.0/0" } else { "::/0" };
            let lines = [
                "rule add iif net0 lookup 100".to_string(),
                format!("route add local {everything} dev lo table 100"),
            ];
            for line in lines {
                let mut command = Command::new("ip");
                command
                    .args(["-netns", &lab.netns(node.name), family])
                    .args(line.split(' '));
                system::run(&mut command)?;
            }
        }
    }
    Ok(())
}

/// Checksums must be real in the frame, tags must be in the frame, and a veth delivers redirected frames only when its
/// peer runs NAPI, which `gro on` switches on.
fn offloads(lab: &Lab, node: &str, ifname: &str) -> Result<()> {
    let mut command = system::inside(&lab.netns(node), "ethtool");
    command.args([
        "-K", ifname, "tx", "off", "tso", "off", "txvlan", "off", "rxvlan", "off",
    ]);
    if peer_is_router(node, ifname) {
        command.args(["gro", "on"]);
    }
    system::run(&mut command)
        .map(drop)
        .with_context(|| format!("{ifname} of {node}"))
}

fn peer_is_router(node: &str, ifname: &str) -> bool {
    LINKS.iter().any(|link| {
        let [a, b] = &link.ends;
        let here = |end: &topology::End| end.node == node && end.ifname == ifname;
        let router = |end: &topology::End| topology::ROUTERS.contains(&end.node);
        (here(a) && router(b)) || (here(b) && router(a))
    })
}

fn links_up(node: &Node) -> Result<()> {
    progress::wait(
        &format!("links of {} up", node.name),
        Duration::from_secs(10),
        Duration::from_millis(50),
        || {
            let states = operstates()?;
            let down = topology::ends_of(node.name)
                .map(|(_, end)| end.ifname)
                .find(|ifname| states.get(*ifname).map(String::as_str) != Some("UP"));
            Ok(match down {
                None => Poll::Ready(()),
                Some(ifname) => Poll::Waiting(format!("{ifname} is not UP")),
            })
        },
    )
}

#[derive(serde::Deserialize)]
struct IpLink {
    ifname: String,
    operstate: String,
}

fn operstates() -> Result<HashMap<String, String>> {
    let text = system::run(Command::new("ip").args(["-json", "link", "show"]))?;
    let links: Vec<IpLink> = serde_json::from_str(&text).context("`ip -json link` said something else")?;
    Ok(links
        .into_iter()
        .map(|link| (link.ifname, link.operstate))
        .collect())
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
