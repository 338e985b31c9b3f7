//! The router that is measured: interfaces, neighbours, the full table in the kernel, and the real controller, which
//! makes its tables of that and is then killed, so that the CPUs are quiet. The data path outlives it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use forwarder::dataplane::{Tables, pins::Pins};
use forwarder_bench_ebpf::abi::{INGRESS_MAC, SENDER_MAC, SOURCE4, SOURCE6};
use xtask::bench::FORWARDER;
use xtask::interrupt;
use xtask::progress::{Poll, Progress, wait};

use crate::netlink::{self, Via};
use crate::process::Controller;
use crate::table::{Family, GATEWAYS, Prefix, Table};
use crate::world::World;

/// The interface that packets come in on.
const INGRESS: &str = "in0";
/// Egress interfaces; the gateways are spread over them.
const EGRESSES: usize = 4;
/// How long a full table may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The router. In its namespaces until it is dropped.
pub struct Router {
    /// The interface that packets come in on.
    pub ingress: u32,
    /// Where forwarder pinned its maps and program.
    pub pins: Pins,
    egresses: [u32; EGRESSES],
    // Last: what is in it goes first.
    world: World,
}

impl Router {
    /// Builds it with these tables, and forwarder on it in step with them.
    ///
    /// # Errors
    /// Not root, something is missing, or forwarder does not get there.
    pub fn start(tables: &[Table; 2]) -> Result<Router> {
        let router = Router::with_routes(tables)?;
        router.forwarder(tables)?;
        Ok(router)
    }

    /// Builds it with these tables in the kernel, and nothing of forwarder.
    ///
    /// # Errors
    /// Not root, or something is missing.
    pub fn with_routes(tables: &[Table; 2]) -> Result<Router> {
        let router = Router::bare()?;
        for table in tables {
            let gateways = router.gateways(table.family);
            router.install(table, 0, |prefix| Some(gateways[prefix.gateway()]))?;
        }
        Ok(router)
    }

    /// Builds it without routes.
    ///
    /// # Errors
    /// Not root, or something is missing.
    pub fn bare() -> Result<Router> {
        interrupt::install()?;
        let world = World::enter()?;
        cables(&world)?;
        let mut egresses = [0; EGRESSES];
        for (number, ifindex) in egresses.iter_mut().enumerate() {
            *ifindex = index_of(&egress(number))?;
        }
        Ok(Router {
            ingress: index_of(INGRESS)?,
            pins: Pins::new(&world.bpffs().join("forwarder")),
            egresses,
            world,
        })
    }

    /// Puts a table into the kernel; `via` names the gateway of a prefix, or none to leave it out. Metric 0 is the
    /// family's own.
    ///
    /// # Errors
    /// The kernel refuses a route.
    pub fn install(&self, table: &Table, metric: u32, via: impl Fn(&Prefix) -> Option<Via>) -> Result<()> {
        let mut progress = Progress::new(format!("{} routes into the kernel", table.family));
        netlink::install(table, metric, via, |done| {
            progress.detail(&format!("{done} of {}", table.prefixes.len()));
            interrupt::check()
        })
    }

    /// Routes to the sources of the bench's packets, which small tables may not have: a source without one is not forwarded.
    ///
    /// # Errors
    /// The kernel refuses a route.
    pub fn route_back(&self) -> Result<()> {
        let [v4, v6] = Family::ALL.map(|family| gateway_address(family, 0));
        let [four, six] = [IpAddr::from(SOURCE4), IpAddr::from(SOURCE6)];
        self.world.ip(&[
            format!("route replace {four} via {v4}"),
            format!("route replace {six} via {v6}"),
        ])
    }

    /// The tables of the data path.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn tables(&self) -> Result<Tables> {
        self.pins.open(false)
    }

    /// Does something in the namespace around the router; `INGRESS` and the egress interfaces have peers of the same
    /// name there.
    ///
    /// # Errors
    /// Whatever `work` answers.
    pub fn outside<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.world.outside(work)
    }

    /// The names of the interfaces: that which packets come in on, then those they leave by.
    pub fn names() -> Vec<String> {
        let egresses = (0..EGRESSES).map(egress);
        [INGRESS.to_owned()].into_iter().chain(egresses).collect()
    }

    /// Takes forwarder's program off every interface. What it pinned besides stays.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn detach(&self) -> Result<()> {
        for ifindex in [self.ingress].iter().chain(&self.egresses) {
            let pin = self.pins.links().join(format!("xdp-{ifindex}"));
            fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))?;
        }
        Ok(())
    }

    /// Where a prefix leads: egress interface, its MAC address, and the gateway's.
    pub fn way(&self, family: Family, prefix: &Prefix) -> Way {
        self.way_by(family, prefix.gateway())
    }

    /// Where a gateway leads.
    pub fn way_by(&self, family: Family, gateway: usize) -> Way {
        let number = gateway % EGRESSES;
        Way {
            ifindex: self.egresses[number],
            source: egress_mac(number),
            destination: gateway_mac(family, gateway),
        }
    }

    /// The gateways of a family.
    pub fn gateways(&self, family: Family) -> [Via; GATEWAYS] {
        std::array::from_fn(|gateway| Via {
            address: gateway_address(family, gateway),
            ifindex: self.egresses[gateway % EGRESSES],
        })
    }

    /// Its network, and where files may be put.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Runs the controller until it is in step with the kernel, then kills it.
    fn forwarder(&self, tables: &[Table; 2]) -> Result<()> {
        let mut controller = Controller::start(self)?;
        let wanted: usize = tables.iter().map(|table| table.prefixes.len()).sum();
        wait(
            "forwarder following the kernel",
            LIMIT,
            Duration::from_millis(200),
            || {
                controller.alive()?;
                let Some(status) = self.status()? else {
                    return Ok(Poll::Waiting("not yet answering".into()));
                };
                let number = |key: &str| status[key].as_u64().unwrap_or(0);
                let laid = number("prefixes_ipv4") + number("prefixes_ipv6");
                if status["sources"][0]["state"] != "in step" {
                    return Ok(Poll::Waiting(format!("{laid} of {wanted} prefixes")));
                }
                let refused = number("refused_ipv4") + number("refused_ipv6") + number("paths_refused");
                ensure!(
                    refused == 0 && laid as usize >= wanted,
                    "forwarder laid {laid} of {wanted} prefixes and refused {refused}: its tables are too small for this one"
                );
                Ok(Poll::Ready(()))
            },
        )
    }

    /// The row of `forwarder status`, once the controller answers.
    fn status(&self) -> Result<Option<serde_json::Value>> {
        let output = self
            .command("status")?
            .arg("--json")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .context("cannot run forwarder status")?;
        let rows: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
        Ok(rows.and_then(|mut rows| Some(rows.get_mut(0)?.take())))
    }

    /// How many routes the running controller has of a kind of feed, once it answers.
    ///
    /// # Errors
    /// `forwarder` cannot be run.
    pub fn feed_routes(&self, kind: &str) -> Result<Option<usize>> {
        let status = self.status()?;
        let sources = status.as_ref().and_then(|row| row["sources"].as_array());
        let number = |row: &serde_json::Value, key: &str| row[key].as_u64().unwrap_or(0) as usize;
        let of = |row: &&serde_json::Value| row["kind"] == kind;
        Ok(sources.map(|rows| {
            let routes = |row| number(row, "routes_ipv4") + number(row, "routes_ipv6");
            rows.iter().filter(of).map(routes).sum()
        }))
    }

    /// `forwarder SUBCOMMAND` on this router's pins and socket.
    ///
    /// # Errors
    /// The binary is not named, see [`given`].
    pub fn command(&self, subcommand: &str) -> Result<Command> {
        let mut command = Command::new(given(FORWARDER)?);
        command.arg(subcommand);
        command.arg("--bpffs").arg(self.pins.dir());
        command
            .arg("--socket")
            .arg(self.world.dir().join("forwarder.sock"));
        Ok(command)
    }
}

/// What a forwarded frame must carry, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The egress interface.
    pub ifindex: u32,
    /// Its MAC address.
    pub source: [u8; 6],
    /// The gateway's.
    pub destination: [u8; 6],
}

/// A file that `cargo xtask bench` built and names in the environment.
///
/// # Errors
/// It does not.
pub fn given(variable: &str) -> Result<PathBuf> {
    let path = std::env::var_os(variable)
        .with_context(|| format!("{variable} is not set: run this with `cargo xtask bench`"))?;
    Ok(path.into())
}

/// Everything of the first version is on: source filter with bogons and own prefixes, and every counter. Source validation,
/// which a transit interface has unless it is told otherwise, is off: it is another lookup. The routes never grow stale,
/// since the controller is not there any more when it counts.
pub fn configuration() -> String {
    configuration_with("")
}

/// The same with more lines of `[routes]`, and the sections that they may end with.
pub fn configuration_with(routes: &str) -> String {
    let mut text =
        format!("[[interface]]\nname = \"{INGRESS}\"\nrole = \"transit\"\nsource-check = \"off\"\n");
    for number in 0..EGRESSES {
        text += &format!("[[interface]]\nname = \"{}\"\n", egress(number));
    }
    text += &format!("[routes]\nmax-age = \"0\"\n{routes}");
    text += "[filter]\nown-prefixes = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n";
    text + "[api]\nmetrics = \"off\"\n"
}

fn egress(number: usize) -> String {
    format!("out{number}")
}

fn egress_mac(number: usize) -> [u8; 6] {
    [0x02, 0, 0, 0, 0x65, number as u8]
}

fn gateway_mac(family: Family, gateway: usize) -> [u8; 6] {
    [0x02, 0, 0, 0, 0x66, family.number() << 4 | gateway as u8]
}

/// Network `1 + number` is that of egress interface `number`, network 0 that of the ingress.
fn gateway_address(family: Family, gateway: usize) -> IpAddr {
    let (network, host) = (1 + gateway % EGRESSES, 16 + gateway);
    match family {
        Family::V4 => [10, 64, network as u8, host as u8].into(),
        Family::V6 => [0xfd64, 0, 0, network as u16, 0, 0, 0, host as u16].into(),
    }
}

/// Interfaces, addresses, neighbours, forwarding.
fn cables(world: &World) -> Result<()> {
    for scope in ["all", "default"] {
        world.sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
        world.sysctl(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
    }
    world.sysctl("ipv4/ip_forward", "1")?;
    world.sysctl("ipv6/conf/all/forwarding", "1")?;
    let around = world.around();
    let (mut near, mut far) = (vec!["link set lo up".to_owned()], Vec::new());
    let mut cable = |network: usize, name: &str, mac: [u8; 6], peer: [u8; 6]| {
        near.extend([
            format!(
                "link add {name} address {} type veth peer name {name} address {} netns {around}",
                text(mac),
                text(peer)
            ),
            format!("address add 10.64.{network}.1/24 dev {name}"),
            format!("address add fd64:0:0:{network}::1/64 dev {name} nodad"),
            format!("link set {name} up"),
        ]);
        far.push(format!("link set {name} up"));
    };
    cable(0, INGRESS, INGRESS_MAC, SENDER_MAC);
    for number in 0..EGRESSES {
        let peer = [0x02, 0, 0, 0, 0x67, number as u8];
        cable(1 + number, &egress(number), egress_mac(number), peer);
    }
    for family in Family::ALL {
        near.extend((0..GATEWAYS).map(|gateway| {
            format!(
                "neighbour add {} lladdr {} dev {} nud permanent",
                gateway_address(family, gateway),
                text(gateway_mac(family, gateway)),
                egress(gateway % EGRESSES)
            )
        }));
    }
    world.ip(&near)?;
    world.ip_around(&far)
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// The index of an interface of this thread's namespace.
///
/// # Errors
/// There is none of that name.
pub fn index_of(name: &str) -> Result<u32> {
    let c_name = CString::new(name)?;
    // SAFETY: a NUL-terminated name.
    match unsafe { libc::if_nametoindex(c_name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()).with_context(|| format!("interface {name}")),
        index => Ok(index),
    }
}
