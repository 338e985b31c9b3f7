//! The network of the project: two routers, each with its carrier and a bond of three cables to its core switch, VLANs on the
//! bonds, a ring between the switches, servers behind them, and a gateway that moves between the routers.
//!
//! ```text
//!              net              both carriers and all that is behind them: 33.1.0.0/16 is nearer to carrier A, 33.2.0.0/16 to B
//!          ta |   | tb          eBGP
//!       router A  router B      VLAN 10: iBGP between them; VLAN 20: servers, gateway .1
//!          ||| bond0 |||
//!        core A --- core B
//!           |          |
//!      server .11  server .12   192.0.2.0/24, 2001:db8:1::/64
//! ```
//! It is made of two labs: `router` is the router, `b` the core, `c` the server; `a` of the first is the net.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    bird::Bird,
    controller::Controller,
    daemon::{self, Daemon},
    lab::{HOSTS, Lab, run},
    operator::{patient, ways},
    ring::{self, CABLES, LACP},
};

/// Hold time of 9 s, so that a dead neighbour is noticed within a test, and an emulated processor keeps up.
const SESSION: &str = "template bgp session {
    connect retry time 1; connect delay time 1; error wait time 1, 2; hold time 9; keepalive time 3; check link;
}
protocol device { scan time 1; }
log stderr all;
";

/// The house.
pub struct Twins {
    /// Router A with its core and server, and the net.
    pub a: Lab,
    /// Router B with its core and server.
    pub b: Lab,
}

/// What runs on a router.
pub struct Running<'a> {
    /// BIRD.
    pub bird: Bird<'a>,
    /// keepalived, where it was started.
    pub keepalived: Option<Daemon>,
    /// forwarder.
    pub controller: Controller<'a>,
}

impl Twins {
    /// Lays every cable; nothing runs but the kernels.
    ///
    /// # Errors
    /// The kernel cannot do it.
    pub fn new() -> Result<Twins> {
        ring::needs(&["bond", "vlan", "macvlan", "bridge"])?;
        let twins = Twins {
            a: Lab::new()?,
            b: Lab::new()?,
        };
        for (number, lab) in (1..).zip(twins.both()) {
            for host in HOSTS {
                lab.ip("router", &format!("link del dev {host}"))?;
            }
            for scope in ["all", "default"] {
                // An address must outlive its cable.
                lab.sysctl("router", &format!("ipv6/conf/{scope}/keep_addr_on_down"), "1")?;
            }
            ring::cables(lab, LACP, 0xa0 + number)?;
            ring::tag_on(
                lab,
                "router",
                ("bond0", 10),
                &[format!("10.10.9.{number}/24"), format!("fd00:10::{number}/64")],
            )?;
            let last = 1 + number;
            ring::tag_on(
                lab,
                "router",
                ("bond0", 20),
                &[format!("192.0.2.{last}/24"), format!("2001:db8:1::{last}/64")],
            )?;
            twins.carrier(lab, number)?;
            twins.core(lab)?;
            server(lab, 10 + number)?;
        }
        ring::veth_between([
            (&twins.a, "b", "ring0", "02:00:00:d0:00:01"),
            (&twins.b, "b", "ring0", "02:00:00:d0:00:02"),
        ])?;
        for lab in twins.both() {
            port(lab, "ring0", false)?;
        }
        // The net sends from every address behind it.
        twins.a.sysctl("a", "ipv6/ip_nonlocal_bind", "1")?;
        for line in [
            "route add local 33.1.0.0/16 dev lo",
            "route add local 33.2.0.0/16 dev lo",
            "-6 route add local 2a1f:1::/32 dev lo",
            "-6 route add local 2a1f:2::/32 dev lo",
        ] {
            twins.a.ip("a", line)?;
        }
        for lab in twins.both() {
            for cable in CABLES {
                ring::sends(lab, cable)?;
            }
        }
        Ok(twins)
    }

    /// Both.
    #[must_use]
    pub fn both(&self) -> [&Lab; 2] {
        [&self.a, &self.b]
    }

    fn carrier(&self, lab: &Lab, number: u8) -> Result<()> {
        let far = if number == 1 { "ta" } else { "tb" };
        let mac = |end: u8| format!("02:00:00:c0:0{number}:0{end}");
        ring::veth_between([(lab, "router", "t0", &mac(2)), (&self.a, "a", far, &mac(1))])?;
        for (lab, node, name, last) in [(lab, "router", "t0", 2), (&self.a, "a", far, 1)] {
            lab.ip(node, &format!("addr add 33.{number}0.0.{last}/30 dev {name}"))?;
            lab.ip(
                node,
                &format!("addr add 2a1f:{number}0::{last}/64 dev {name} nodad"),
            )?;
        }
        Ok(())
    }

    fn core(&self, lab: &Lab) -> Result<()> {
        lab.ip(
            "b",
            "link add name br0 type bridge vlan_filtering 1 mcast_snooping 0 stp_state 0",
        )?;
        lab.ip("b", "link set dev br0 up")?;
        port(lab, "bond0", false)
    }

    /// Starts BIRD on the net, and everything on both routers; waits until A is the gateway and routes have settled.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(&self, virtual_mac: bool) -> Result<(Bird<'_>, [Running<'_>; 2])> {
        let net = Bird::start(&self.a, "a", &net())?;
        let mut running = Vec::new();
        for (number, lab) in (1..).zip(self.both()) {
            running.push(self.router(lab, number, virtual_mac)?);
        }
        let running: [Running; 2] = running.try_into().ok().context("two routers")?;
        Ok((net, running))
    }

    /// Starts everything on a router, keepalived when it has its routes: a gateway without them is none.
    ///
    /// # Errors
    /// Something does not start.
    pub fn router<'a>(&self, lab: &'a Lab, number: u8, virtual_mac: bool) -> Result<Running<'a>> {
        let bird = Bird::start(lab, "router", &router(number))?;
        let path = lab.dir().join("forwarder.toml");
        fs::write(&path, CONFIG)?;
        let mut controller = Controller::spawn(lab, &path)?;
        // The verifier is slow on an emulated processor that forwards meanwhile.
        let mut ready = controller.ready();
        for _ in 0..3 {
            if ready.is_ok() || !controller.alive()? {
                break;
            }
            ready = controller.ready();
        }
        ready?;
        for address in ["33.1.0.9", "33.2.0.9", "2a1f:1::9", "2a1f:2::9"] {
            patient(lab, &format!("a way to {address}"), || {
                Ok((!ways(lab, address)?.is_empty()).then_some(()))
            })?;
        }
        let keepalived = Some(keepalived(lab, number, virtual_mac)?);
        Ok(Running {
            bird,
            keepalived,
            controller,
        })
    }

    /// Waits until this router, and no other, holds the gateway in both families.
    ///
    /// # Errors
    /// It does not.
    pub fn gateway_at(&self, holder: &Lab) -> Result<()> {
        for lab in self.both() {
            let wanted = std::ptr::eq(lab, holder);
            let waited = patient(lab, &format!("the gateway to be held: {wanted}"), || {
                let all = if wanted { 2 } else { 0 };
                Ok((held(lab)? == all).then_some(()))
            });
            waited.with_context(|| daemon::log(lab, "keepalived"))?;
        }
        Ok(())
    }
}

/// How many virtual addresses a router holds.
///
/// # Errors
/// No controller.
pub fn held(lab: &Lab) -> Result<usize> {
    let status = lab.json("status")?;
    let gateways = status[0]["gateways"].as_array().context("no gateways")?;
    Ok(gateways
        .iter()
        .filter(|row| row["held"] == Value::Bool(true))
        .count())
}

/// Makes a link a port of the core's switch: one that carries both VLANs, or that of the servers without a tag.
fn port(lab: &Lab, name: &str, server: bool) -> Result<()> {
    lab.ip("b", &format!("link set dev {name} master br0"))?;
    let allowed: &[&str] = if server {
        &["vid 20 pvid untagged"]
    } else {
        &["vid 10", "vid 20"]
    };
    let vlan = |verb: &str, what: &str| {
        let mut command = lab.command("b", "bridge");
        command.args(["vlan", verb, "dev", name]);
        run(command.args(what.split_whitespace()))
    };
    vlan("del", "vid 1")?;
    allowed.iter().try_for_each(|what| vlan("add", what).map(drop))
}

fn server(lab: &Lab, last: u8) -> Result<()> {
    let mac = |end: u8| format!("02:00:00:e0:{last:02x}:0{end}");
    ring::veth(lab, [("b", "s0", &mac(1)), ("c", "net0", &mac(2))])?;
    port(lab, "s0", true)?;
    for line in [
        format!("addr add 192.0.2.{last}/24 dev net0"),
        format!("addr add 2001:db8:1::{last}/64 dev net0 nodad"),
        "route add default via 192.0.2.1".to_owned(),
        "-6 route add default via 2001:db8:1::1".to_owned(),
    ] {
        lab.ip("c", &line)?;
    }
    Ok(())
}

const CONFIG: &str = "[[interface]]
name = \"t0\"
role = \"transit\"
[[interface]]
name = \"bond0\"
[tables]
routes = 65536
ipv4-blocks = 4096
ipv6-blocks = 4096
[filter]
own-prefixes = [\"192.0.2.0/24\", \"2001:db8::/32\"]
";

fn net() -> String {
    let mut text = format!("router id 33.10.0.1;\n{SESSION}");
    for (family, prefixes) in [
        (4, ["33.1.0.0/16", "33.2.0.0/16"]),
        (6, ["2a1f:1::/32", "2a1f:2::/32"]),
    ] {
        text += &format!(
            "protocol kernel kernel{family} {{ ipv{family} {{ import none; export where source = RTS_BGP; }}; }}
protocol static own{family} {{ ipv{family}; route {} unreachable; route {} unreachable; }}\n",
            prefixes[0], prefixes[1]
        );
        for number in [1, 2] {
            let [ours, theirs] = [1, 2].map(|last| outside(family, number, last));
            let preference = 200 - 50 * number;
            text += &format!(
                "protocol bgp router{number}{family} from session {{
    local {ours} as 64496; neighbor {theirs} as 64500;
    ipv{family} {{ import filter {{ bgp_local_pref = {preference}; accept; }}; export where source = RTS_STATIC; }};
}}\n"
            );
        }
    }
    text
}

fn outside(family: u8, number: u8, last: u8) -> String {
    match family {
        4 => format!("33.{number}0.0.{last}"),
        _ => format!("2a1f:{number}0::{last}"),
    }
}

fn router(number: u8) -> String {
    let twin = 3 - number;
    let mut text = format!("router id 10.10.9.{number};\n{SESSION}");
    for (family, own, near, inside) in [
        (4, "192.0.2.0/24", format!("33.{number}.0.0/16"), "10.10.9."),
        (6, "2001:db8::/32", format!("2a1f:{number}::/32"), "fd00:10::"),
    ] {
        let [theirs, ours] = [1, 2].map(|last| outside(family, number, last));
        text += &format!(
            "protocol kernel kernel{family} {{ ipv{family} {{ import none; export where source = RTS_BGP; }}; }}
protocol static own{family} {{ ipv{family}; route {own} unreachable; }}
filter from_carrier{family} {{ if net ~ [{near}+] then bgp_local_pref = 200; accept; }}
protocol bgp carrier{family} from session {{
    local {ours} as 64500; neighbor {theirs} as 64496;
    ipv{family} {{ import filter from_carrier{family}; export where source = RTS_STATIC; }};
}}
protocol bgp twin{family} from session {{
    direct; local {inside}{number} as 64500; neighbor {inside}{twin} as 64500;
    ipv{family} {{ import all; export where source = RTS_BGP; next hop self; }};
}}\n"
        );
    }
    text
}

/// Starts keepalived: A has the higher priority, and takes the gateway back when it returns.
///
/// # Errors
/// It is not installed.
pub fn keepalived(lab: &Lab, number: u8, virtual_mac: bool) -> Result<Daemon> {
    let priority = 200 - 50 * number;
    let instance = |name: &str, more: &str, addresses: &str| {
        let mac = if virtual_mac {
            format!("use_vmac {name}.7\n    vmac_xmit_base")
        } else {
            String::new()
        };
        format!(
            "vrrp_instance {name} {{
    state BACKUP
    interface bond0.20
    virtual_router_id 7
    priority {priority}
    advert_int 0.5
    version 3
    {mac}
    {more}
    virtual_ipaddress {{
        {addresses}
    }}
}}\n"
        )
    };
    let text = format!(
        "global_defs {{\n    router_id router{number}\n    vrrp_garp_master_refresh 5\n}}\n{}{}",
        instance("vrrp4", "", "192.0.2.1"),
        instance("vrrp6", "native_ipv6", "fe80::7\n        2001:db8:1::1")
    );
    let path = lab.dir().join("keepalived.conf");
    fs::write(&path, text)?;
    let file = |name: &str| lab.dir().join(name);
    let mut command = lab.command("router", "keepalived");
    command.args(["--dont-fork", "--vrrp", "--log-console", "--use-file"]);
    command.arg(&path);
    command.arg("--pid").arg(file("keepalived.pid"));
    command.arg("--vrrp_pid").arg(file("vrrp.pid"));
    Daemon::start(lab, "keepalived", &mut command)
}
