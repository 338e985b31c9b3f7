//! ping, traceroute and path MTU, with the tools an operator uses.

use std::net::IpAddr;
use std::process::Output;

use anyhow::{Context, Result, bail};

use super::screen::Screen;
use super::traffic::address;
use crate::lab::Lab;
use crate::lab::topology::SMALL_MTU;

fn run(lab: &Lab, screen: &Screen, node: &str, line: &str, show: usize) -> Result<Output> {
    let mut words = line.split(' ');
    let program = words.next().context("no command")?;
    let output = lab
        .command(node, program)?
        .args(words)
        .output()
        .with_context(|| format!("running {program}"))?;
    // Blank lines carry nothing here.
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text: Vec<_> = String::from_utf8_lossy(&text)
        .lines()
        .filter(|l| !l.is_empty())
        .map(str::to_string)
        .collect();
    screen.session(node, line, &text.join("\n"), show);
    Ok(output)
}

/// Five echo requests, five answers.
pub fn ping(lab: &Lab, screen: &Screen, v6: bool) -> Result<(bool, String)> {
    let target = address("internet-b", v6)?;
    let output = run(
        lab,
        screen,
        "server-1",
        &format!("ping -n -q -c 5 -i 0.05 -W 1 {target}"),
        4,
    )?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answered = text
        .lines()
        .find_map(|line| {
            line.split_once(" packets transmitted, ")?
                .1
                .split(' ')
                .next()?
                .parse::<u32>()
                .ok()
        })
        .context("ping printed no summary")?;
    Ok((answered == 5, format!("{answered} of 5 answered by {target}")))
}

/// The routers must appear as hops: forwarder hands packets with TTL 1 to the kernel, which answers.
pub fn traceroute(lab: &Lab, screen: &Screen, v6: bool) -> Result<(bool, String)> {
    let target = address("internet-b", v6)?;
    let output = run(
        lab,
        screen,
        "server-1",
        &format!("traceroute -n -q 1 -w 1 -m 8 {target}"),
        9,
    )?;
    let text = String::from_utf8_lossy(&output.stdout);
    let hops: Vec<Option<IpAddr>> = text
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().nth(1)?.parse().ok())
        .collect();
    // server-1's gateway is router-a; then router-b, carrier B, the host.
    let complete = hops.len() == 4 && hops.iter().all(Option::is_some);
    let first = hops.first() == Some(&Some(gateway(v6)));
    let last = hops.last() == Some(&Some(target));
    let shown: Vec<_> = hops
        .iter()
        .map(|hop| hop.map_or("*".into(), |hop| hop.to_string()))
        .collect();
    Ok((complete && first && last, shown.join(", ")))
}

fn gateway(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, 2])
    } else {
        IpAddr::from([192, 0, 2, 2])
    }
}

/// A packet too big for carrier B's link comes back as an ICMP error from our router, and the server learns the MTU.
pub fn path_mtu(lab: &Lab, screen: &Screen, v6: bool) -> Result<(bool, String)> {
    // Another address of carrier B's network, so that no earlier transfer has taught the server the MTU.
    let target = if v6 { "2a1f:b:0:2::77" } else { "33.20.2.77" };
    let payload = 1_500 - if v6 { 48 } else { 28 };
    run(
        lab,
        screen,
        "server-1",
        &format!("ping -n -c 2 -i 0.2 -W 1 -M do -s {payload} {target}"),
        4,
    )?;
    let route = crate::lab::run(lab.command("server-1", "ip")?.args(["route", "get", target]))?;
    let learned = route
        .split("mtu ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let Some(learned) = learned else {
        bail!("server-1 learned no MTU for {target}")
    };
    Ok((
        learned.parse() == Ok(SMALL_MTU),
        format!("server-1 learned {learned} for {target}"),
    ))
}
