//! A recording of the kernel, played again: what it dumped and announced as events, and the routes that are there in the end.

use std::{fmt::Write as _, io::BufRead, time::Duration};

use anyhow::{Result, bail};
use forwarder::{
    netlink::watch::read_datagram,
    rib::kernel::KernelRoutes,
    source::{
        event::{Action, Change, Event, NexthopKind, Route},
        record::Player,
        tap::Kind,
    },
};

use super::way;

/// Every event, and the routes of tables local and main at the end.
pub fn play(player: Player<impl BufRead>) -> Result<String> {
    let (mut text, mut routes, mut dumping) = (String::new(), KernelRoutes::default(), None);
    let mut first = None;
    for chunk in player {
        let chunk = chunk?;
        let at: Duration = chunk.at.saturating_sub(*first.get_or_insert(chunk.at));
        // Seconds: what happens within one is not always in the same tenth.
        let second = at.as_secs();
        match chunk.kind {
            Kind::Begin => {
                dumping = Some(KernelRoutes::default());
                writeln!(text, "{second:>4} dump")?;
            }
            Kind::End => {
                routes = match dumping.take() {
                    Some(dumped) => dumped,
                    None => bail!("a dump ends that did not begin"),
                };
                writeln!(text, "{second:>4} end of dump")?;
            }
            Kind::Missed => writeln!(text, "{second:>4} announcements are missing")?,
            Kind::Read => {
                let mut events = Vec::new();
                read_datagram(&chunk.bytes, &mut events)?;
                for event in events {
                    writeln!(text, "{second:>4} {}", line(&event))?;
                    apply(dumping.as_mut().unwrap_or(&mut routes), event);
                }
            }
        }
    }
    text += "\nin the end:\n";
    let listed: Vec<_> = routes.sorted().map(|listed| listed.prefix).collect();
    for prefix in listed {
        for shown in routes.routes(prefix) {
            let kind = &shown.kind;
            writeln!(
                text,
                "{prefix} {} table {} protocol {} metric {}",
                action(&kind.action),
                shown.table,
                shown.protocol,
                shown.metric
            )?;
        }
    }
    Ok(text)
}

fn apply(routes: &mut KernelRoutes, event: Event) {
    match event {
        Event::Route { route, change } => {
            // What cannot be told for certain the kernel is dumped for, and that is recorded, too.
            let _certain = routes.announce(route, change);
        }
        Event::RouteGone(route) => {
            routes.withdraw(&route);
        }
        _ => {}
    }
}

fn line(event: &Event) -> String {
    match event {
        Event::Route { route: r, change } => {
            let how = match change {
                Change::Replace => " in place",
                Change::Append => " behind",
                Change::Add => "",
            };
            format!("route{how} {}", route(r))
        }
        Event::RouteGone(gone) => format!("route gone {}", route(gone)),
        Event::Nexthop(object) => {
            let kind = match &object.kind {
                NexthopKind::Hop(hop) => way(&[*hop]),
                NexthopKind::Group(members) => {
                    let words = members.iter().map(|(id, weight)| format!("{id}*{weight}"));
                    format!("group {}", words.collect::<Vec<_>>().join(" "))
                }
                NexthopKind::Blackhole => "blackhole".into(),
                NexthopKind::Unsupported => "(kernel)".into(),
            };
            format!("next-hop {} {kind}", object.id)
        }
        Event::NexthopGone(id) => format!("next-hop {id} gone"),
        Event::Link(link) => format!(
            "link {} {} {} mtu {}",
            link.ifindex,
            link.name,
            if link.carrier { "up" } else { "down" },
            link.mtu
        ),
        Event::LinkGone(ifindex) => format!("link {ifindex} gone"),
        Event::Address(address) => format!("address {} if{}", address.address, address.ifindex),
        Event::AddressGone(address) => format!("address gone {} if{}", address.address, address.ifindex),
        Event::Neighbour(neighbour) => {
            let state = if neighbour.mac.is_some() {
                "resolved"
            } else {
                "not resolved"
            };
            format!("neighbour {} if{} {state}", neighbour.address, neighbour.ifindex)
        }
        Event::NeighbourGone { ifindex, address } => format!("neighbour gone {address} if{ifindex}"),
        Event::SysctlChanged => "sysctl".into(),
        Event::Resync => "resync".into(),
    }
}

fn route(route: &Route) -> String {
    format!(
        "{} {} table {} protocol {} metric {}",
        route.prefix,
        action(&route.action),
        route.table,
        route.protocol,
        route.metric
    )
}

fn action(action: &Action) -> String {
    match action {
        Action::Hops(hops) => way(hops),
        Action::Nexthop(id) => format!("next-hop {id}"),
        other => format!("{other:?}").to_lowercase(),
    }
}
