//! BIRD on carriers and routers: configurations, start, and what `birdc` says.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process::Process;
use super::{Lab, system};
use crate::progress::{self, Poll};
use crate::table::Route;

/// The nodes that run BIRD.
pub const SPEAKERS: [&str; 4] = ["transit-a", "transit-b", "router-a", "router-b"];

const AS_A: u32 = 64_496;
const AS_B: u32 = 64_497;
const AS_OWN: u32 = 64_500;

/// One BGP session: name, our AS, the neighbours' addresses and AS, our side's addresses.
struct Session {
    name: &'static str,
    addresses: [(&'static str, &'static str); 2],
    neighbour_as: u32,
}

/// A carrier's side of the lab.
struct Carrier {
    asn: u32,
    router_id: &'static str,
    own: [&'static str; 2],
    sessions: [Session; 2],
}

const fn session(
    name: &'static str,
    asn: u32,
    v4: (&'static str, &'static str),
    v6: (&'static str, &'static str),
) -> Session {
    Session {
        name,
        addresses: [v4, v6],
        neighbour_as: asn,
    }
}

fn carrier(node: &str) -> Carrier {
    if node == "transit-a" {
        Carrier {
            asn: AS_A,
            router_id: "33.10.0.1",
            own: ["33.10.0.0/16", "2a1f:a::/32"],
            sessions: [
                session(
                    "customer",
                    AS_OWN,
                    ("33.10.0.1", "33.10.0.2"),
                    ("2a1f:a::1", "2a1f:a::2"),
                ),
                session(
                    "peer",
                    AS_B,
                    ("33.30.0.1", "33.30.0.2"),
                    ("2a1f:c::1", "2a1f:c::2"),
                ),
            ],
        }
    } else {
        Carrier {
            asn: AS_B,
            router_id: "33.20.0.1",
            own: ["33.20.0.0/16", "2a1f:b::/32"],
            sessions: [
                session(
                    "customer",
                    AS_OWN,
                    ("33.20.0.1", "33.20.0.2"),
                    ("2a1f:b::1", "2a1f:b::2"),
                ),
                session(
                    "peer",
                    AS_A,
                    ("33.30.0.2", "33.30.0.1"),
                    ("2a1f:c::2", "2a1f:c::1"),
                ),
            ],
        }
    }
}

const PREAMBLE: &str = "\
log stderr all;
protocol device { scan time 1; }
";

/// A carrier announces its own networks and the table to its customer, and to the other carrier its own and its
/// customer's. The table is not in its kernel: everything unknown goes to its internet host.
fn carrier_config(node: &str) -> String {
    let Carrier {
        asn,
        router_id,
        own,
        sessions,
    } = carrier(node);
    let mut text = format!("# {node}: AS {asn}, a carrier.\nrouter id {router_id};\n{PREAMBLE}");
    for (af, own) in ["ipv4", "ipv6"].into_iter().zip(own) {
        let _ = write!(
            text,
            "protocol static own_{af} {{ {af}; route {own} unreachable; }}\n\
             protocol kernel kernel_{af} {{ {af} {{ import none; export where source = RTS_BGP; }}; }}\n"
        );
    }
    for session in sessions {
        let customer = session.name == "customer";
        for (af, (here, there)) in ["ipv4", "ipv6"].into_iter().zip(session.addresses) {
            let export = if customer {
                "export where source = RTS_STATIC || source = RTS_BGP;".to_string()
            } else {
                format!("export where proto = \"own_{af}\" || bgp_path.last = {AS_OWN};")
            };
            let _ = write!(
                text,
                "protocol bgp {name}_{af} {{\n    local {here} as {asn};\n    neighbor {there} as {their_as};\n    \
                 connect retry time 1;\n    connect delay time 1;\n    error wait time 1, 2;\n    {af} {{\n        import all;\n        {export}\n    }};\n}}\n",
                name = session.name,
                their_as = session.neighbour_as,
            );
        }
    }
    text.push_str("include \"table.conf\";\n");
    text
}

/// Our routers: eBGP to the carrier, iBGP to the twin, anchors for our own prefixes, everything into the kernel.
fn router_config(node: &str) -> String {
    let a = node == "router-a";
    let (id, carrier_as) = if a {
        ("203.0.113.1", AS_A)
    } else {
        ("203.0.113.2", AS_B)
    };
    let carrier = if a {
        [("33.10.0.2", "33.10.0.1"), ("2a1f:a::2", "2a1f:a::1")]
    } else {
        [("33.20.0.2", "33.20.0.1"), ("2a1f:b::2", "2a1f:b::1")]
    };
    let twin = if a {
        [
            ("203.0.113.1", "203.0.113.2"),
            ("2001:db8:ffff::1", "2001:db8:ffff::2"),
        ]
    } else {
        [
            ("203.0.113.2", "203.0.113.1"),
            ("2001:db8:ffff::2", "2001:db8:ffff::1"),
        ]
    };
    let mut text =
        format!("# {node}: AS {AS_OWN}, one of the two edge routers.\nrouter id {id};\n{PREAMBLE}");
    let _ = write!(
        text,
        "\n# What a carrier originates itself is best reached through it, from both routers.\n\
         filter from_carrier {{\n    if bgp_path.len = 1 then bgp_local_pref = 150;\n    accept;\n}}\n\n\
         # Anchors: our prefixes are announced whatever becomes of the links behind.\n\
         protocol static own_ipv4 {{ ipv4; route 192.0.2.0/24 unreachable; route 203.0.113.0/24 unreachable; }}\n\
         protocol static own_ipv6 {{ ipv6; route 2001:db8::/32 unreachable; }}\n"
    );
    for (index, af) in ["ipv4", "ipv6"].into_iter().enumerate() {
        let ((here, there), (me, other)) = (carrier[index], twin[index]);
        let _ = write!(
            text,
            "protocol kernel kernel_{af} {{ learn; {af} {{ import none; export where source = RTS_BGP || source = RTS_STATIC; }}; }}\n\
             protocol bgp carrier_{af} {{\n    local {here} as {AS_OWN};\n    neighbor {there} as {carrier_as};\n    \
             connect retry time 1;\n    connect delay time 1;\n    error wait time 1, 2;\n    {af} {{\n        import filter from_carrier;\n        export where source = RTS_STATIC;\n    }};\n}}\n\
             protocol bgp twin_{af} {{\n    local {me} as {AS_OWN};\n    neighbor {other} as {AS_OWN};\n    direct;\n    \
             connect retry time 1;\n    connect delay time 1;\n    error wait time 1, 2;\n    {af} {{\n        import all;\n        export where source = RTS_BGP;\n        next hop self;\n    }};\n}}\n"
        );
    }
    text
}

/// Writes the configurations; the table goes once into a file that both carriers include.
pub fn write_configs(lab: &Lab, tables: [&[Route]; 2]) -> Result<()> {
    let path = lab.dir().join("table.conf");
    let file = std::fs::File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    for (af, table) in ["ipv4", "ipv6"].into_iter().zip(tables) {
        writeln!(file, "protocol static world_{af} {{ {af};")?;
        for Route {
            address,
            length,
            origin,
        } in table
        {
            writeln!(
                file,
                "route {address}/{length} blackhole {{ bgp_path.prepend({origin}); }};"
            )?;
        }
        writeln!(file, "}}")?;
    }
    file.flush()
        .with_context(|| format!("writing {}", path.display()))?;
    for node in SPEAKERS {
        let text = if node.starts_with("transit") {
            carrier_config(node)
        } else {
            router_config(node)
        };
        system::write(&config_path(lab, node), &text)?;
    }
    Ok(())
}

/// Starts BIRD on a node, in the foreground of its own process group.
pub fn start(lab: &Lab, node: &str) -> Result<Process> {
    let mut command = system::inside(&lab.netns(node), "bird");
    command
        .arg("-f")
        .arg("-c")
        .arg(config_path(lab, node))
        .arg("-s")
        .arg(socket(lab, node));
    Process::start("bird", node, &mut command, &log_path(lab, node))
}

fn config_path(lab: &Lab, node: &str) -> std::path::PathBuf {
    lab.dir().join(format!("{node}.bird.conf"))
}

fn socket(lab: &Lab, node: &str) -> std::path::PathBuf {
    lab.dir().join(format!("{node}.bird.ctl"))
}

fn log_path(lab: &Lab, node: &str) -> std::path::PathBuf {
    lab.dir().join(format!("{node}.bird.log"))
}

/// One `birdc` command on a node.
pub fn birdc(lab: &Lab, node: &str, words: &str) -> Result<String> {
    let path: &Path = &socket(lab, node);
    system::run(Command::new("birdc").arg("-s").arg(path).args(words.split(' ')))
}

/// One line of `show protocols`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// Name in the configuration.
    pub name: String,
    /// `BGP`, `Kernel`, `Static`...
    pub kind: String,
    /// For BGP `Established` or the reason why not; else `up` or `down`.
    pub state: String,
    /// When it changed.
    pub since: String,
}

/// The protocols of a node, without the device protocol.
pub fn protocols(lab: &Lab, node: &str) -> Result<Vec<Protocol>> {
    Ok(parse_protocols(&birdc(lab, node, "show protocols")?))
}

fn parse_protocols(text: &str) -> Vec<Protocol> {
    text.lines()
        .skip_while(|line| !line.starts_with("Name"))
        .skip(1)
        .filter_map(|line| {
            // Name Proto Table State Since Info...
            let words: Vec<_> = line.split_whitespace().collect();
            let [name, kind, _, state, since, info @ ..] = words.as_slice() else {
                return None;
            };
            let state = if *kind == "BGP" && !info.is_empty() {
                info.join(" ")
            } else {
                (*state).to_string()
            };
            Some(Protocol {
                name: (*name).into(),
                kind: (*kind).into(),
                state,
                since: (*since).into(),
            })
        })
        .filter(|protocol| protocol.kind != "Device")
        .collect()
}

/// Routes in BIRD's master tables: networks for IPv4 and IPv6.
pub fn networks(lab: &Lab, node: &str) -> Result<[usize; 2]> {
    let text = birdc(lab, node, "show route count")?;
    let count = |table: &str| {
        text.lines()
            .find(|line| line.ends_with(table))
            .and_then(|line| line.split(" for ").nth(1)?.split(' ').next()?.parse().ok())
            .unwrap_or(0)
    };
    Ok([count("master4"), count("master6")])
}

/// Waits until every BGP session of the lab is established, both routers hold the whole table, and their kernels too.
pub fn wait_converged(lab: &Lab, tables: [usize; 2]) -> Result<()> {
    let limit = Duration::from_secs(60 + (tables[0] + tables[1]) as u64 / 2_000);
    progress::wait(
        "BGP sessions and tables",
        limit,
        Duration::from_millis(100),
        || {
            for process in lab.processes()?.iter().filter(|p| p.what == "bird") {
                if !process.alive() {
                    bail!(
                        "BIRD on {} ended; its log: {}",
                        process.node,
                        log_path(lab, &process.node).display()
                    );
                }
            }
            for node in SPEAKERS {
                // A BIRD that is still reading a million lines does not answer yet.
                let Ok(protocols) = protocols(lab, node) else {
                    return Ok(Poll::Waiting(format!("{node}: BIRD reads its table")));
                };
                if let Some(down) = protocols
                    .iter()
                    .find(|p| p.kind == "BGP" && p.state != "Established")
                {
                    return Ok(Poll::Waiting(format!("{node}: {} is {}", down.name, down.state)));
                }
            }
            for node in super::topology::ROUTERS {
                let have = networks(lab, node)?;
                if have[0] < tables[0] || have[1] < tables[1] {
                    return Ok(Poll::Waiting(format!(
                        "{node} learned {} + {} prefixes",
                        have[0], have[1]
                    )));
                }
                let have = super::kernel_routes(lab, node)?;
                if have[0] < tables[0] || have[1] < tables[1] {
                    return Ok(Poll::Waiting(format!(
                        "{node}: {} + {} routes in the kernel",
                        have[0], have[1]
                    )));
                }
            }
            Ok(Poll::Ready(()))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn birdc_tables_are_read() {
        let text = "BIRD 2.0.12 ready.\nName       Proto      Table      State  Since         Info\n\
                    device1    Device     ---        up     10:33:45.094  \n\
                    twin_ipv4  BGP        ---        start  10:33:45.094  Active        Socket: Connection refused\n\
                    own_ipv4   Static     master4    up     10:33:45.094  \n";
        let found = parse_protocols(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].state, "Active Socket: Connection refused");
        assert_eq!(
            (found[1].name.as_str(), found[1].state.as_str()),
            ("own_ipv4", "up")
        );
    }
}
