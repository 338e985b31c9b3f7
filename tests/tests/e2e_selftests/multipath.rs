//! router_multipath.sh and router_mpath_nh.sh: flows are spread over two links by their weights, whether those stand in a route or in
//! next-hop objects.

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    frame::{self, ICMP6, UDP},
    lab::{LIMIT, Lab},
    operator::{figure, forwarded, patient, row},
    packets::{self, Wire},
};

use super::{MACS, ping, pings};

/// Flows of a run: ports, of which the selftest has 32,768.
const FLOWS: u16 = 8_192;
/// Packets under way at a time: a veth holds 256.
const LOT: usize = 64;
/// By how much the ratio of packets may differ from that of weights, as in the selftests.
const TOLERANCE: f64 = 0.15;
/// The weights of the selftests.
const WEIGHTS: [[u32; 2]; 3] = [[1, 1], [2, 1], [11, 45]];

/// Where packets go, in each family.
const NET: [&str; 2] = ["198.51.100.0/24", "2001:db8:2::/64"];
const TO: [&str; 2] = ["198.51.100.2", "2001:db8:2::2"];
/// The gateways at b and c.
const GATEWAYS: [[&str; 2]; 2] = [["169.254.2.22", "169.254.3.23"], ["fe80:2::22", "fe80:3::23"]];

/// Both far routers, in one piece with the host behind them.
fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.resolve("router", "10.1.0.2")?;
    lab.resolve("router", "fd00:1::2")?;
    for (at, cable) in ["b", "c"].into_iter().enumerate() {
        let number = at + 2;
        for (node, last) in [("router", 10 + number), (cable, 20 + number)] {
            lab.ip(node, &format!("addr add 169.254.{number}.{last}/24 dev {cable}"))?;
            lab.ip(
                node,
                &format!("addr add fe80:{number}::{last}/64 dev {cable} nodad"),
            )?;
        }
        for gateways in GATEWAYS {
            let neighbour = format!("{} lladdr 02:00:00:00:0{number}:02 dev {cable}", gateways[at]);
            lab.ip("router", &format!("neigh replace {neighbour}"))?;
        }
        lab.ip(cable, &format!("addr add {}/32 dev lo", TO[0]))?;
        lab.ip(cable, &format!("addr add {}/128 dev lo nodad", TO[1]))?;
    }
    for policy in ["ipv4", "ipv6"] {
        lab.sysctl("router", &format!("{policy}/fib_multipath_hash_policy"), "1")?;
    }
    Ok(lab)
}

/// Waits until the group of a route has the buckets that these weights give it, in the order of the gateways.
fn weighed(lab: &Lab, family: usize, gateways: [&str; 2], weights: [u32; 2]) -> Result<()> {
    let all = f64::from(weights[0] + weights[1]);
    patient(lab, &format!("{} by weights {weights:?}", NET[family]), || {
        let rows = lab.json(&format!("routes {}", NET[family]))?;
        let rows: Vec<_> = rows
            .as_array()
            .into_iter()
            .flatten()
            .filter(|row| {
                row["by"] == "data-path" && row["prefix"] == NET[family] && row["state"] == "usable"
            })
            .cloned()
            .collect();
        let right = gateways.iter().zip(weights).all(|(gateway, weight)| {
            let share = rows
                .iter()
                .find(|row| row["via"] == *gateway)
                .and_then(|row| row["weight"].as_f64());
            share.is_some_and(|share| (share - 124.0 * f64::from(weight) / all).abs() <= 1.0)
        });
        Ok((rows.len() == 2 && right).then_some(()))
    })
}

/// A UDP packet of a flow, as host a sends it.
fn flow(family: usize, port: u16) -> Result<Vec<u8>> {
    let udp = frame::udp(1024, port, 22);
    Ok(if family == 0 {
        frame::ipv4(MACS, [10, 1, 0, 2].into(), TO[0].parse()?, UDP, 255, &udp)
    } else {
        frame::ipv6(MACS, "fd00:1::2".parse()?, TO[1].parse()?, UDP, 255, &udp)
    })
}

/// Sends frames from host a, waits for each, and answers how many arrived at b and at c. All go by the fast path, and what was sent to an
/// interface is what arrived there.
fn spread(lab: &Lab, frames: &[Vec<u8>]) -> Result<[usize; 2]> {
    let from = lab.wire("a")?;
    let ends: [Wire; 2] = [lab.wire("b")?, lab.wire("c")?];
    let sent = || -> Result<[i64; 2]> {
        let of = |name| figure(&row(lab, "interfaces", "ifname", name)?, "sent_packets");
        Ok([of("b")?, of("c")?])
    };
    let before = (forwarded(lab, "a")?, sent()?);
    let mut arrived = [0; 2];
    for lot in frames.chunks(LOT) {
        for frame in lot {
            from.send(frame)?;
        }
        for _ in lot {
            // Headers change on the way, what is behind them does not.
            let wanted = |frame: &[u8]| {
                lot.iter()
                    .any(|sent| frame.len() == sent.len() && frame[26..] == sent[26..])
            };
            let (end, _) = packets::first(&[&ends[0], &ends[1]], LIMIT, wanted)?
                .with_context(|| format!("a packet is lost\n{}", lab.picture()))?;
            arrived[end] += 1;
        }
    }
    let by_us = forwarded(lab, "a")? - before.0;
    ensure!(
        by_us == frames.len() as i64,
        "forwarded {by_us} of {}\n{}",
        frames.len(),
        lab.picture()
    );
    let now = sent()?;
    let moved = [now[0] - before.1[0], now[1] - before.1[1]];
    ensure!(
        moved == arrived.map(|count| count as i64),
        "sent {moved:?}, arrived {arrived:?}"
    );
    Ok(arrived)
}

/// Flows of a family are spread by these weights.
fn balanced(lab: &Lab, family: usize, weights: [u32; 2]) -> Result<()> {
    let frames: Vec<Vec<u8>> = (0..FLOWS).map(|port| flow(family, port)).collect::<Result<_>>()?;
    held(weights, spread(lab, &frames)?)
}

/// What arrived at both ends is in the ratio of the weights, nearly.
fn held(weights: [u32; 2], arrived: [usize; 2]) -> Result<()> {
    ensure!(arrived.iter().all(|count| *count > 0), "{arrived:?}");
    let ratio = |pair: [f64; 2]| pair[0] / pair[1];
    let mut wanted = ratio(weights.map(f64::from));
    let mut found = ratio(arrived.map(|count| count as f64));
    if wanted < 1.0 {
        (wanted, found) = (1.0 / wanted, 1.0 / found);
    }
    ensure!(
        (wanted - found).abs() / wanted <= TOLERANCE,
        "weights {weights:?}, arrived {arrived:?}: {found} and not {wanted}"
    );
    Ok(())
}

#[test]
fn flows_follow_the_weights_of_a_route() -> Result<()> {
    let lab = lab()?;
    let set = |family: usize, weights: [u32; 2]| -> Result<()> {
        let [b, c] = GATEWAYS[family];
        let hops = format!(
            "nexthop via {b} dev b weight {} nexthop via {c} dev c weight {}",
            weights[0], weights[1]
        );
        lab.ip("router", &format!("route replace {} {hops}", NET[family]))
    };
    for family in 0..2 {
        set(family, [1, 1])?;
    }
    let controller = lab.start(&["a", "b", "c"], "")?;
    for family in 0..2 {
        weighed(&lab, family, GATEWAYS[family], [1, 1])?;
        pings(&lab, TO[family], &["b", "c"])?;
        for weights in WEIGHTS {
            set(family, weights)?;
            weighed(&lab, family, GATEWAYS[family], weights)?;
            balanced(&lab, family, weights)?;
        }
    }
    drop(controller);
    Ok(())
}

/// Echoes of IPv6 with random flow labels, of which the selftest has 16,384 (`multipath6_test`).
#[test]
fn echoes_follow_the_weights_by_their_flow_labels() -> Result<()> {
    let lab = lab()?;
    let [b, c] = GATEWAYS[1];
    let frames: Vec<Vec<u8>> = (0..FLOWS)
        .map(|number| {
            let echo = [&[128, 0, 0, 0, 0x12, 0x34][..], &number.to_be_bytes(), &[0; 24]].concat();
            let mut packet = frame::ipv6(MACS, "fd00:1::2".parse()?, TO[1].parse()?, ICMP6, 64, &echo);
            let label = u32::from(number).wrapping_mul(0x9e37) & 0x000f_ffff;
            packet[14..18].copy_from_slice(&(0x6000_0000 | label).to_be_bytes());
            Ok(packet)
        })
        .collect::<Result<_>>()?;
    let set = |weights: [u32; 2]| {
        let hops = format!(
            "nexthop via {b} dev b weight {} nexthop via {c} dev c weight {}",
            weights[0], weights[1]
        );
        lab.ip("router", &format!("route replace {} {hops}", NET[1]))
    };
    set([1, 1])?;
    let controller = lab.start(&["a", "b", "c"], "")?;
    for weights in WEIGHTS {
        set(weights)?;
        weighed(&lab, 1, GATEWAYS[1], weights)?;
        held(weights, spread(&lab, &frames)?)?;
    }
    drop(controller);
    Ok(())
}

/// Next-hop objects by family: their numbers at b and c, and that of the group.
const OBJECTS: [[u32; 3]; 2] = [[101, 102, 103], [104, 105, 106]];

#[test]
fn flows_follow_the_weights_of_a_group_of_objects() -> Result<()> {
    let lab = lab()?;
    let object = |number: u32, family: usize, at: usize| {
        let (gateway, cable) = (GATEWAYS[family][at], ["b", "c"][at]);
        lab.ip(
            "router",
            &format!("nexthop replace id {number} via {gateway} dev {cable}"),
        )
    };
    let group = |family: usize, weights: [u32; 2]| {
        let [b, c, all] = OBJECTS[family];
        let members = format!("{b},{}/{c},{}", weights[0], weights[1]);
        lab.ip("router", &format!("nexthop replace id {all} group {members}"))
    };
    for family in 0..2 {
        object(OBJECTS[family][0], family, 0)?;
        object(OBJECTS[family][1], family, 1)?;
        group(family, [1, 1])?;
        lab.ip(
            "router",
            &format!("route add {} nhid {}", NET[family], OBJECTS[family][2]),
        )?;
    }
    let controller = lab.start(&["a", "b", "c"], "")?;
    for family in 0..2 {
        weighed(&lab, family, GATEWAYS[family], [1, 1])?;
        pings(&lab, TO[family], &["b", "c"])?;
        for weights in WEIGHTS {
            group(family, weights)?;
            weighed(&lab, family, GATEWAYS[family], weights)?;
            balanced(&lab, family, weights)?;
        }
        group(family, [1, 1])?;
    }
    // IPv4 by IPv6 neighbours.
    object(101, 1, 0)?;
    object(102, 1, 1)?;
    for weights in WEIGHTS {
        group(0, weights)?;
        weighed(&lab, 0, GATEWAYS[1], weights)?;
        balanced(&lab, 0, weights)?;
    }
    drop(controller);
    Ok(())
}

#[test]
fn a_blackhole_object_swallows_and_gives_back() -> Result<()> {
    let lab = lab()?;
    for (family, flag) in [(0, ""), (1, "-6")] {
        for at in 0..2 {
            let (gateway, cable) = (GATEWAYS[family][at], ["b", "c"][at]);
            lab.ip(
                "router",
                &format!("nexthop add id {} via {gateway} dev {cable}", OBJECTS[family][at]),
            )?;
        }
        let [b, c, all] = OBJECTS[family];
        lab.ip("router", &format!("nexthop add id {all} group {b}/{c}"))?;
        lab.ip("router", &format!("route add {} nhid {all}", NET[family]))?;
        lab.ip("router", &format!("{flag} nexthop add id 100{family} blackhole"))?;
        lab.ip("router", &format!("nexthop add id 110{family} group 100{family}"))?;
    }
    let controller = lab.start(&["a", "b", "c"], "")?;
    for family in 0..2 {
        weighed(&lab, family, GATEWAYS[family], [1, 1])?;
        pings(&lab, TO[family], &["b", "c"])?;
        for object in [format!("100{family}"), format!("110{family}")] {
            lab.ip("router", &format!("route replace {} nhid {object}", NET[family]))?;
            patient(&lab, "the data path to send nothing there", || {
                let rows = lab.json(&format!("lookup {}", TO[family]));
                Ok(rows.is_ok_and(|rows| rows[0]["state"] != "usable").then_some(()))
            })?;
            let before = forwarded(&lab, "a")?;
            let said = ping(&lab, "a", &format!("-q -c 3 -i 0.1 -w 1 {}", TO[family]))?;
            ensure!(said.contains(" 0 received"), "{object}: {said}");
            ensure!(forwarded(&lab, "a")? == before, "{}", lab.picture());
        }
        lab.ip(
            "router",
            &format!("route replace {} nhid {}", NET[family], OBJECTS[family][2]),
        )?;
        weighed(&lab, family, GATEWAYS[family], [1, 1])?;
        pings(&lab, TO[family], &["b", "c"])?;
    }
    drop(controller);
    Ok(())
}

/// What each next hop counts is what its link sent (`nh_stats_test`): exactly.
#[test]
fn next_hops_count_what_their_links_send() -> Result<()> {
    let lab = lab()?;
    for family in 0..2 {
        let [b, c] = GATEWAYS[family];
        lab.ip(
            "router",
            &format!(
                "route add {} nexthop via {b} dev b nexthop via {c} dev c weight 2",
                NET[family]
            ),
        )?;
    }
    let controller = lab.start(&["a", "b", "c"], "")?;
    for (family, gateways) in GATEWAYS.into_iter().enumerate() {
        weighed(&lab, family, gateways, [1, 2])?;
        let of = |gateway: &str| -> Result<i64> {
            let rows = lab.json("counters --by next-hop --all")?;
            let rows = rows.as_array().into_iter().flatten();
            rows.filter(|row| row["nexthop"] == gateway)
                .map(|row| figure(row, "packets"))
                .sum()
        };
        let before = gateways.map(of);
        let frames: Vec<Vec<u8>> = (0..1024).map(|port| flow(family, port)).collect::<Result<_>>()?;
        let arrived = spread(&lab, &frames)?;
        for ((gateway, before), arrived) in gateways.iter().zip(before).zip(arrived) {
            let moved = of(gateway)? - before?;
            ensure!(
                moved == arrived as i64,
                "{gateway} counts {moved}, {arrived} arrived"
            );
        }
    }
    drop(controller);
    Ok(())
}
