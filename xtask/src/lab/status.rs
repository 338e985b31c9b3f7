//! `lab status`: nodes, processes, BGP sessions, route counts.

use anyhow::Result;

use super::topology::{self, NODES, Role};
use super::{Lab, kernel_routes, routing};

/// Prints the state of the lab as aligned tables.
pub fn print(lab: &Lab) -> Result<()> {
    lab.require_up()?;
    let processes = lab.processes()?;
    let mut nodes = vec![row(["node", "role", "namespace", "interfaces", "processes"])];
    for node in NODES {
        let interfaces: Vec<_> = topology::ends_of(node.name).map(|(_, end)| end.ifname).collect();
        let running: Vec<_> = processes
            .iter()
            .filter(|p| p.node == node.name)
            .map(|p| {
                format!(
                    "{} {}",
                    p.what,
                    if p.alive() {
                        p.pid.to_string()
                    } else {
                        "(ended)".into()
                    }
                )
            })
            .collect();
        let netns = if lab.netns_path(node.name).exists() {
            lab.netns(node.name)
        } else {
            "missing".into()
        };
        nodes.push(vec![
            node.name.into(),
            role(node.role).into(),
            netns,
            interfaces.join(" "),
            running.join(", "),
        ]);
    }
    table(&nodes);
    println!();
    let mut sessions = vec![row(["node", "session", "state", "since"])];
    let mut routes = vec![row([
        "node",
        "daemon-ipv4",
        "daemon-ipv6",
        "kernel-ipv4",
        "kernel-ipv6",
    ])];
    for node in routing::SPEAKERS {
        match routing::sessions(lab, node) {
            Ok(all) => sessions.extend(
                all.into_iter()
                    .map(|session| vec![node.into(), session.name, session.state, session.since]),
            ),
            Err(error) => sessions.push(vec![node.into(), "-".into(), format!("{error:#}"), "-".into()]),
        }
        let networks = routing::networks(lab, node).map(|n| n.map(|n| n.to_string()));
        let [v4, v6] = networks.unwrap_or_else(|_| ["-".into(), "-".into()]);
        let kernel = kernel_routes(lab, node)?;
        routes.push(vec![
            node.into(),
            v4,
            v6,
            kernel[0].to_string(),
            kernel[1].to_string(),
        ]);
    }
    table(&sessions);
    println!();
    table(&routes);
    println!("\nconfigurations, logs, sockets: {}", lab.dir().display());
    Ok(())
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Carrier => "carrier",
        Role::Router => "router",
        Role::Switch => "switch",
        Role::Server => "server",
        Role::Internet => "internet",
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_string).to_vec()
}

fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns)
        .map(|c| {
            rows.iter()
                .filter_map(|r| r.get(c))
                .map(String::len)
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let line: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        println!("{}", line.join("  ").trim_end());
    }
}
