//! What a session tells besides where packets go: attributes of routes that only the kernel forwards by, and FlowSpec rules.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    bird::Bird,
    exabgp::{self, ExaBgp},
    gobgp::GoBgp,
    lab::Lab,
    operator::{candidates, figure, forwarded, is, patient, settle, wait_source},
    traffic,
};
use serde_json::Value;

/// BIRD's session with the controller, with these channels.
fn session(channels: &str) -> String {
    format!(
        "router id 10.2.0.1;\nprotocol device {{}}\n\
         protocol bgp feed {{ local 127.0.0.1 as 64500; neighbor 127.0.0.2 port 1179 as 64500; \
         connect retry time 1; connect delay time 1; error wait time 1, 2;\n{channels} }}\n"
    )
}

const UNICAST: &str = "ipv4 { import none; export all; next hop keep; };\n";

#[test]
fn a_session_that_is_no_source_tells_attributes_and_moves_nothing() -> Result<()> {
    let lab = Lab::new()?;
    lab.resolve("router", "10.2.0.2")?;
    lab.resolve("router", "10.3.0.2")?;
    lab.ip("router", "route add 5.1.0.0/16 via 10.3.0.2")?;
    let config =
        "[routes]\nsources = [\"kernel\"]\n[routes.bgp]\nlisten = \"127.0.0.2:1179\"\nlocal-as = 64500\n";
    let controller = lab.start(&["a", "b", "c"], config)?;
    let status = lab.json("status")?;
    ensure!(status[0]["problems"] == serde_json::json!([]), "{status}");
    let route = |prefix: &str| {
        format!(
            "route {prefix} via 10.2.0.2 {{ bgp_path.prepend(4200000001); bgp_path.prepend(64501); \
             bgp_community.add((64500,7)); bgp_large_community.add((64500,1,2)); bgp_med = 5; }};\n"
        )
    };
    let table = |more: &str| {
        let text = session(UNICAST);
        format!(
            "{text}protocol static {{ ipv4;\n{}{more} }}\n",
            route("5.1.0.0/16")
        )
    };
    let mut bird = Bird::start(&lab, "router", &table(&route("5.2.0.0/16")))?;
    let feed = wait_source(&lab, "bgp", "its routes", |row| is(row, "live", [2, 0]))?;
    ensure!(feed["forwards"] == false, "{feed}");
    let told = candidates(&lab, "5.1.0.0/16")?;
    let [kernel, bgp] = told.as_slice() else {
        anyhow::bail!("{told:?}")
    };
    ensure!(kernel["by"] == "kernel" && kernel["best"] == true, "{kernel}");
    ensure!(bgp["by"] == "bgp" && bgp["best"] == false, "{bgp}");
    for (key, value) in [
        ("as_path", "64501 4200000001"),
        ("communities", "64500:7"),
        ("large_communities", "64500:1:2"),
        ("next_hops", "10.2.0.2"),
        ("resolved", "via 10.2.0.2 dev b"),
    ] {
        ensure!(bgp[key] == value, "{key}: {bgp}");
    }
    // One that the kernel does not have forwards nothing.
    ensure!(
        candidates(&lab, "5.2.0.0/16")?
            .iter()
            .all(|row| row["best"] == false)
    );
    settle(&lab, "5.2.0.1", &[])?;
    // Neither what it says nor that it dies moves a packet.
    let before = forwarded(&lab, "a")?;
    let ((), arrived) = traffic::under(&lab, &["5.1.0.9"], |traffic| {
        traffic.flow(20)?;
        bird.configure(&table(""))?;
        wait_source(&lab, "bgp", "one to go", |row| is(row, "live", [1, 0]))?;
        traffic.flow(20)?;
        bird.kill()?;
        wait_source(&lab, "bgp", "its end", |row| is(row, "down", [0, 0]))?;
        traffic.flow(20).map(drop)
    })?;
    ensure!(arrived[0][0] == 0, "{arrived:?}");
    ensure!(
        forwarded(&lab, "a")? - before == arrived[0][1] as i64,
        "{}",
        lab.picture()
    );
    // It is not missed: nothing is forwarded by it.
    let status = lab.json("status")?;
    ensure!(status[0]["problems"] == serde_json::json!([]), "{status}");
    drop(controller);
    Ok(())
}

/// The row of a neighbour in `status`.
fn neighbour(lab: &Lab, name: &str) -> Result<Value> {
    let status = lab.json("status")?;
    let mut sources = status[0]["sources"].as_array().into_iter().flatten();
    sources
        .find(|row| row["name"] == name)
        .cloned()
        .with_context(|| format!("no {name} in {status}"))
}

/// Waits until a neighbour has so many rules of each family and so many routes of both.
fn rules(lab: &Lab, name: &str, wanted: [i64; 2], routes: [usize; 2]) -> Result<()> {
    patient(lab, &format!("{wanted:?} rules of {name}"), || {
        let row = neighbour(lab, name)?;
        let have = [figure(&row, "flowspec_ipv4")?, figure(&row, "flowspec_ipv6")?];
        Ok((have == wanted && is(&row, "live", routes)).then_some(()))
    })
}

const NEIGHBOURS: &str = "[routes]\nsources = [\"bgp\", \"kernel\"]\n\
    [routes.bgp]\nlisten = [\"127.0.0.2:1179\", \"10.2.0.1:1179\"]\nlocal-as = 64500\n\
    [[routes.bgp.neighbour]]\nname = \"bird\"\naddress = \"127.0.0.1\"\n\
    [[routes.bgp.neighbour]]\nname = \"next door\"\naddress = \"10.2.0.2\"\nas = 64501\nadd-path = false\n";

#[test]
fn flowspec_rules_of_every_daemon_are_told_and_disturb_no_route() -> Result<()> {
    let lab = Lab::new()?;
    for address in ["10.2.0.2", "10.3.0.2"] {
        lab.resolve("router", address)?;
    }
    let controller = lab.start(&["a", "b", "c"], NEIGHBOURS)?;
    // A rule for the prefix to which UDP flows, and for TCP: what it does not match goes on.
    let table = |second: bool| -> Result<String> {
        let channels = format!(
            "{UNICAST}flow4 {{ table rules4; import none; export all; }}; flow6 {{ table rules6; import none; export all; }};"
        );
        let mut text = format!("flow4 table rules4;\nflow6 table rules6;\n{}", session(&channels));
        writeln!(
            text,
            "protocol static {{ ipv4; route 5.1.0.0/16 via 10.3.0.2; }}\n\
             protocol static {{ flow4 {{ table rules4; }}; \
             route flow4 {{ dst 5.1.0.0/16; proto = 6; }} {{ bgp_ext_community.add((generic, 0x80060000, 0)); }};"
        )?;
        if second {
            writeln!(
                text,
                "route flow4 {{ dst 203.0.113.0/24; proto = 6; tcp flags 0x02/0x12; }};"
            )?;
        }
        text += "}\nprotocol static { flow6 { table rules6; }; \
                 route flow6 { dst 2001:db8:ffff::/48; next header = 17; dport = 123; }; }\n";
        Ok(text)
    };
    let bird = Bird::start(&lab, "router", &table(true)?)?;
    rules(&lab, "bird", [2, 1], [1, 0])?;
    settle(&lab, "5.1.0.9", &["10.3.0.2"])?;
    let ((), arrived) = traffic::under(&lab, &["5.1.0.9"], |traffic| {
        traffic.flow(5)?;
        let gobgp = GoBgp::start(&lab, "", "")?;
        gobgp.route("add", 7)?;
        let rule = "match destination 5.1.0.0/16 protocol tcp then discard";
        gobgp.ask(&format!("global rib add -a ipv4-flowspec {rule}"))?;
        rules(&lab, "next door", [1, 0], [1, 1])?;
        settle(&lab, "198.18.7.1", &["10.2.0.2"])?;
        gobgp.ask(&format!("global rib del -a ipv4-flowspec {rule}"))?;
        rules(&lab, "next door", [0, 0], [1, 1])?;
        bird.configure(&table(false)?)?;
        rules(&lab, "bird", [1, 1], [1, 0])?;
        drop(gobgp);
        patient(&lab, "the end of GoBGP", || {
            Ok((neighbour(&lab, "next door")?["routes_ipv4"] == 0).then_some(()))
        })?;
        // ExaBGP in its place, two paths for each of its IPv4 routes.
        let exabgp = ExaBgp::start(&lab, &exabgp::config(0..3, false, exabgp::RULES)?)?;
        rules(&lab, "next door", [1, 1], [3, 3])?;
        exabgp.write(&self::exabgp::config(0..3, false, "")?)?;
        exabgp.reload();
        rules(&lab, "next door", [0, 0], [3, 3])?;
        traffic.flow(20).map(drop)
    })
    .with_context(|| controller.log())?;
    ensure!(arrived[0][0] == 0, "{arrived:?}");
    let screen = lab.forwarder("status")?;
    let screen = String::from_utf8_lossy(&screen.stdout).into_owned();
    ensure!(screen.contains("2 FlowSpec rules"), "{screen}");
    for name in ["bird", "next door"] {
        let row = neighbour(&lab, name)?;
        ensure!(row["errors"] == 0, "{row}");
    }
    drop(controller);
    Ok(())
}
