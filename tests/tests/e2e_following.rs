//! The fast path follows the kernel: routes, links, neighbours, sysctls, announced or not.

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    frame,
    lab::{LIMIT, Lab},
    operator::{figure, row},
    packets::Wire,
};

const ROUTER_A: [u8; 6] = [2, 0, 0, 0, 1, 1];
const HOST_A: [u8; 6] = [2, 0, 0, 0, 1, 2];

fn packet(number: u8) -> Vec<u8> {
    frame::udp4((ROUTER_A, HOST_A), [5, 1, 1, number], 64, 40)
}

fn packet6(number: u8) -> Vec<u8> {
    let to = std::net::Ipv6Addr::from(0x2a05u128 << 112 | u128::from(number));
    frame::udp6((ROUTER_A, HOST_A), to, 64, 40)
}

fn ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(30) == Some(&5)
        || frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(38..40) == Some(&[0x2a, 5])
}

/// What `trace` says of a packet from host a: the reason.
fn reason(lab: &Lab, to: &str) -> Result<String> {
    let source = if to.contains(':') { "fd00:1::2" } else { "10.1.0.2" };
    let rows = lab.json(&format!(
        "trace --interface a --src {source} --dst {to} --proto udp --sport 5 --dport 6"
    ))?;
    let text = rows[0]["reason"]
        .as_str()
        .with_context(|| format!("no reason in {rows}"))?;
    Ok(text.to_string())
}

/// Waits until the fast path does this with packets to an address.
fn settle(lab: &Lab, to: &str, wanted: &str) -> Result<()> {
    let mut last = String::new();
    let waited = lab.wait(&format!("{to} to be {wanted}"), || {
        last = reason(lab, to)?;
        Ok((last == wanted).then_some(()))
    });
    waited.with_context(|| format!("it is {last}\n{}", lab.picture()))
}

fn arrives(lab: &Lab, from: &Wire, to: &Wire, frame: &[u8]) -> Result<Vec<u8>> {
    from.send(frame)?;
    to.receive(LIMIT, ours)?
        .with_context(|| format!("lost\n{}", lab.picture()))
}

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.0.0.0/8 via 10.2.0.2")?;
    lab.ip("router", "route add 2a05::/32 via fd00:2::2")?;
    Ok(lab)
}

#[test]
fn routes_that_vanish_without_a_word_leave_the_table() -> Result<()> {
    let lab = lab()?;
    lab.ip("router", "route add 5.0.0.0/8 via 10.3.0.2 metric 100")?;
    let controller = lab.start(&["a", "b", "c"], "")?;
    let (from, c) = (lab.wire("a")?, lab.wire("c")?);
    settle(&lab, "5.1.1.1", "forwarded")?;
    settle(&lab, "2a05::1", "forwarded")?;
    lab.ip("router", "link set dev b down")?;
    // The route by c takes over.
    lab.wait("the way by c", || {
        let rows = lab.json("lookup 5.1.1.1")?;
        Ok(rows.to_string().contains("10.3.0.2").then_some(()))
    })
    .with_context(|| lab.picture())?;
    settle(&lab, "5.1.1.1", "forwarded")?;
    arrives(&lab, &from, &c, &packet(1))?;
    settle(&lab, "2a05::1", "no-route")?;
    lab.ip("router", "route del 5.0.0.0/8 via 10.3.0.2 metric 100")?;
    settle(&lab, "5.1.1.1", "no-route")?;
    drop(controller);
    Ok(())
}

#[test]
fn a_deleted_next_hop_object_takes_its_routes_along() -> Result<()> {
    let lab = lab()?;
    lab.ip("router", "nexthop add id 7 via 10.2.0.2 dev b")?;
    lab.ip("router", "nexthop add id 8 via 10.3.0.2 dev c")?;
    lab.ip("router", "nexthop add id 9 group 7/8")?;
    for number in 0..20 {
        lab.ip("router", &format!("route add 5.{number}.0.0/16 nhid 9"))?;
    }
    let controller = lab.start(&["a", "b", "c"], "")?;
    settle(&lab, "5.1.1.1", "forwarded")?;
    let (from, b, c) = (lab.wire("a")?, lab.wire("b")?, lab.wire("c")?);
    lab.ip("router", "nexthop replace id 7 via 10.3.0.2 dev c")?;
    lab.wait("everything to go by c", || {
        for number in 0..20 {
            from.send(&packet(number))?;
        }
        let arrived = c.collect(20, std::time::Duration::from_millis(300), ours)?.len();
        Ok((arrived == 20 && b.drain(ours)?.is_empty()).then_some(()))
    })
    .with_context(|| lab.picture())?;
    lab.ip("router", "nexthop del id 9")?;
    // What is left is the route by b.
    lab.wait("the way by b", || {
        let rows = lab.json("routes 5.1.0.0/16")?;
        Ok(rows
            .as_array()
            .is_some_and(|rows| !rows.iter().any(|row| row["prefix"] == "5.1.0.0/16"))
            .then_some(()))
    })
    .with_context(|| lab.picture())?;
    settle(&lab, "5.1.1.1", "forwarded")?;
    arrives(&lab, &from, &b, &packet(9))?;
    drop(controller);
    Ok(())
}

#[test]
fn the_forwarding_sysctls_are_obeyed() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    for to in ["5.1.1.1", "2a05::1"] {
        settle(&lab, to, "forwarded")?;
    }
    lab.sysctl("router", "ipv4/ip_forward", "0")?;
    settle(&lab, "5.1.1.1", "forwarding-off")?;
    settle(&lab, "2a05::1", "forwarded")?;
    lab.sysctl("router", "ipv6/conf/all/forwarding", "0")?;
    settle(&lab, "2a05::1", "forwarding-off")?;
    lab.sysctl("router", "ipv4/ip_forward", "1")?;
    lab.sysctl("router", "ipv6/conf/all/forwarding", "1")?;
    for to in ["5.1.1.1", "2a05::1"] {
        settle(&lab, to, "forwarded")?;
    }
    drop(controller);
    Ok(())
}

#[test]
fn what_cannot_be_forwarded_goes_to_the_kernel_with_its_reason() -> Result<()> {
    let lab = lab()?;
    lab.ip("router", "route add 6.1.0.0/16 via 10.3.0.2")?;
    lab.ip("router", "route add 6.2.0.0/16 via 10.2.0.77")?;
    let controller = lab.start(&["a", "b"], "")?;
    settle(&lab, "6.1.0.1", "egress-without-xdp")?;
    settle(&lab, "6.2.0.1", "next-hop-unresolved")?;
    settle(&lab, "10.2.0.99", "neighbour-unresolved")?;
    settle(&lab, "10.2.0.1", "local")?;
    settle(&lab, "10.2.0.255", "broadcast")?;
    // The kernel delivers by c what we do not.
    let (from, c) = (lab.wire("a")?, lab.wire("c")?);
    let packet = frame::udp4((ROUTER_A, HOST_A), [6, 1, 0, 1], 64, 40);
    from.send(&packet)?;
    let got = c.receive(LIMIT, |frame| frame.get(30) == Some(&6))?;
    ensure!(got.is_some(), "{}", lab.picture());
    drop(controller);
    Ok(())
}

#[test]
fn a_table_too_small_leaves_the_rest_to_the_kernel_and_says_so() -> Result<()> {
    let lab = lab()?;
    // The smallest table there may be, and half as many routes again.
    let lines: String = (0..1536u32)
        .map(|number| format!("route add 5.{}.{}.0/24 via 10.2.0.2\n", number >> 8, number & 255))
        .collect();
    lab.batch("router", &lines)?;
    let tables = "[tables]\nroutes = 1024\nipv4-blocks = 256\nipv6-blocks = 256\n";
    let controller = lab.start(&["a", "b"], tables)?;
    let status = lab.json("status")?;
    ensure!(status[0]["refused_ipv4"].as_u64() > Some(0), "{status}");
    let problems = status[0]["problems"].to_string();
    ensure!(problems.contains("the table is full"), "{problems}");
    // Each of them arrives, whoever forwards it.
    let (from, b) = (lab.wire("a")?, lab.wire("b")?);
    let mut reasons = std::collections::BTreeSet::new();
    for number in 0..192u8 {
        let frame = frame::udp4((ROUTER_A, HOST_A), [5, number / 32, number % 32 * 8, 1], 64, 40);
        arrives(&lab, &from, &b, &frame)?;
        if number % 20 == 0 {
            reasons.insert(reason(&lab, &format!("5.{}.{}.1", number / 32, number % 32 * 8))?);
        }
    }
    ensure!(
        reasons.contains("fib-full") && reasons.contains("forwarded"),
        "{reasons:?}"
    );
    drop(controller);
    Ok(())
}

#[test]
fn a_neighbour_with_another_mac_is_followed() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    settle(&lab, "5.1.1.1", "forwarded")?;
    let (from, b) = (lab.wire("a")?, lab.wire("b")?);
    ensure!(arrives(&lab, &from, &b, &packet(1))?[..6] == [2, 0, 0, 0, 2, 2]);
    // The machine behind the address is swapped, and says so as a new machine does.
    lab.ip("b", "link set dev b address 02:00:00:00:02:99")?;
    lab.resolve("b", "10.2.0.1")?;
    lab.ip(
        "router",
        "neigh replace 10.2.0.2 lladdr 02:00:00:00:02:99 nud reachable dev b",
    )?;
    lab.wait("the new MAC", || {
        let out = arrives(&lab, &from, &b, &packet(2))?;
        Ok((out[..6] == [2, 0, 0, 0, 2, 0x99]).then_some(()))
    })
    .with_context(|| lab.picture())?;
    drop(controller);
    Ok(())
}

#[test]
fn an_interface_with_another_mac_is_followed_both_ways() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    for to in ["5.1.1.1", "2a05::1"] {
        settle(&lab, to, "forwarded")?;
    }
    let (from, b) = (lab.wire("a")?, lab.wire("b")?);
    for name in ["a", "b"] {
        lab.ip(
            "router",
            &format!(
                "link set dev {name} address 02:00:00:00:77:0{}",
                if name == "a" { 1 } else { 2 }
            ),
        )?;
    }
    let new = [2, 0, 0, 0, 0x77, 1];
    lab.wait("the new MACs", || {
        for frame in [packet(1), packet6(1)] {
            let frame = frame::with(frame, 0, &new);
            from.send(&frame)?;
        }
        let out = b.collect(2, std::time::Duration::from_millis(300), ours)?;
        let fast = lab.json("interfaces")?.to_string().contains("forwarded");
        Ok(
            (fast && out.len() == 2 && out.iter().all(|frame| frame[6..12] == [2, 0, 0, 0, 0x77, 2]))
                .then_some(()),
        )
    })
    .with_context(|| lab.picture())?;
    settle(&lab, "5.1.1.1", "forwarded")?;
    drop(controller);
    Ok(())
}

#[test]
fn an_interface_that_goes_and_comes_back_is_served_again() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    settle(&lab, "5.1.1.1", "forwarded")?;
    let (from, b) = (lab.wire("a")?, lab.wire("b")?);
    arrives(&lab, &from, &b, &packet(1))?;
    let sent = |lab: &Lab| figure(&row(lab, "interfaces", "ifname", "b")?, "sent_packets");
    let before = sent(&lab)?;
    lab.ip("router", "link del dev b")?;
    settle(&lab, "5.1.1.1", "no-route")?;
    lab.cable("b")?;
    lab.ip("router", "route add 5.0.0.0/8 via 10.2.0.2")?;
    settle(&lab, "5.1.1.1", "forwarded")?;
    let b = lab.wire("b")?;
    lab.wait("packets on the new cable", || {
        from.send(&packet(2))?;
        Ok(b.receive(std::time::Duration::from_millis(300), ours)?.map(drop))
    })
    .with_context(|| lab.picture())?;
    ensure!(sent(&lab)? >= before, "its counters went back");
    drop(controller);
    Ok(())
}

/// Rules ask table 100 before main: it answers for whatever it covers, however long main's prefixes are.
#[test]
fn tables_are_followed_in_the_order_in_which_rules_ask_them() -> Result<()> {
    let lab = lab()?;
    for (option, prefix, more, gateway) in [
        ("", "5.1.0.0/16", "5.64.0.0/10", "10.3.0.2"),
        ("-6 ", "2a05:1::/32", "2a05:8000::/17", "fd00:3::2"),
    ] {
        lab.ip("router", &format!("{option}rule add priority 1000 lookup 100"))?;
        for prefix in [prefix, more] {
            lab.ip(
                "router",
                &format!("{option}route add {prefix} via {gateway} table 100"),
            )?;
        }
    }
    lab.ip("router", "route add 5.65.0.0/16 via 10.2.0.2")?;
    let controller = lab.start(&["a", "b", "c"], "[routes]\ntables = [100, \"main\"]\n")?;
    let (from, b, c) = (lab.wire("a")?, lab.wire("b")?, lab.wire("c")?);
    settle(&lab, "5.1.1.1", "forwarded")?;
    arrives(&lab, &from, &c, &packet(1))?;
    let by = |to: &str, gateway: &str| {
        lab.wait(&format!("{to} by {gateway}"), || {
            let rows = lab.json(&format!("lookup {to}"))?;
            Ok(rows.to_string().contains(gateway).then_some(()))
        })
    };
    let verified = || {
        let output = lab.forwarder("verify")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && said.contains("0 differ"), "{said}");
        Ok(())
    };
    by("5.65.0.1", "10.3.0.2")?;
    by("5.2.0.1", "10.2.0.2")?;
    by("2a05:8000::1", "fd00:3::2")?;
    verified()?;
    let rows = lab.json("routes 5.65.0.0/16")?;
    ensure!(
        rows.to_string().contains("a table that is asked before answers"),
        "{rows}"
    );
    ensure!(
        !lab.json("status")?.to_string().contains("policy routing"),
        "{}",
        lab.picture()
    );
    // What table 100 leaves is main's again.
    lab.ip("router", "route del 5.64.0.0/10 table 100")?;
    lab.ip("router", "route del 5.1.0.0/16 table 100")?;
    by("5.65.0.1", "10.2.0.2")?;
    by("5.1.1.1", "10.2.0.2")?;
    arrives(&lab, &from, &b, &packet(2))?;
    verified()?;
    lab.ip("router", "rule add priority 900 lookup 77")?;
    lab.wait("the rule to be told of", || {
        let said = lab.json("status")?.to_string();
        Ok(said
            .contains("ask tables local, 77, 100, main, and what")
            .then_some(()))
    })
    .with_context(|| lab.picture())?;
    drop(controller);
    Ok(())
}
