//! Finds out about this machine. What cannot be found out is left out: a doctor who is refused something still looks at the rest.
//! [`stacked`] has what links tell of each other.

mod stacked;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
};

use super::facts::{Bond, Host, Nic, Other};
use crate::{
    config::{Config, InterfaceConfig, XdpMode},
    dataplane::pins::is_bpffs,
    netlink::{
        command::Commander,
        dump::{dump_links, dump_nexthops, dump_tables},
        ethtool::Ethtool,
        netdev::{self, XdpFeatures},
        nftables,
    },
    source::{
        event::{Action, Detail, Ifindex, Link, NexthopKind, NexthopObject, Route},
        kernel::sysctl,
        route_tables::{RouteTables, TABLE_LOCAL},
    },
};
use stacked::{base, lacp_is_slow, members, on};

/// Where systemd-networkd is configured, in the order in which it reads: the last word counts (networkd.conf(5)).
const NETWORKD: [&str; 4] = [
    "/etc/systemd/networkd.conf",
    "/usr/lib/systemd/networkd.conf.d",
    "/run/systemd/networkd.conf.d",
    "/etc/systemd/networkd.conf.d",
];

/// What there is to know for this configuration and place of the pins.
pub fn gather(config: &Config, bpffs: &Path) -> Host {
    let links = dump_links().unwrap_or_default();
    let mut look = Look::at(&links, &config.interfaces);
    let nics: Vec<Nic> = config
        .interfaces
        .iter()
        .map(|interface| look.interface(interface))
        .collect();
    let names: Vec<&str> = config.interfaces.iter().map(|it| it.name.as_str()).collect();
    let mut stacked = on(&links, &names);
    for link in &mut stacked {
        link.forwarding4 = sysctl::forwarding4(&link.name).ok();
    }
    let mut kernel = look.kernel;
    let tables = config.routes.tables.clone();
    Host {
        release: text("/proc/sys/kernel/osrelease").unwrap_or_default(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: number("/proc/sys/net/core/bpf_jit_enable"),
        program_statistics: number("/proc/sys/kernel/bpf_stats_enabled"),
        bpffs: bpffs.display().to_string(),
        bpffs_mounted: bpffs
            .ancestors()
            .find(|directory| directory.exists())
            .is_some_and(|directory| is_bpffs(directory).unwrap_or(false)),
        capabilities: capabilities(),
        cpus: text("/sys/devices/system/cpu/online").map_or_else(BTreeSet::new, |list| numbers(&list)),
        smt: number("/sys/devices/system/cpu/smt/active").map(|active| active == 1),
        forwarding6: sysctl::forwarding6().ok(),
        others: others(&links, &names, &tables),
        stacked,
        nics,
        tables,
        rules: kernel.as_mut().and_then(|kernel| kernel.rules().ok()),
        chains: nftables::on_the_way().ok(),
        legacy_tables: legacy_tables(),
        networkd: Path::new("/run/systemd/netif/state").exists(),
        manages_foreign_routes: NETWORKD
            .iter()
            .fold(None, |said, path| networkd(Path::new(path)).or(said)),
    }
}

/// Every Ethernet interface but those that are made of others, and bonds instead of their members: what is looked at where nothing
/// is configured.
pub fn candidates() -> Vec<String> {
    let made = [
        "bridge",
        "dummy",
        "vlan",
        "macvlan",
        "vxlan",
        "tun",
        "gretap",
        "ip6gretap",
        "ifb",
    ];
    let links = dump_links().unwrap_or_default();
    let wanted = links
        .into_iter()
        .filter(|link| link.ethernet && link.lower.is_none() && link.member.is_none())
        .filter(|link| !made.contains(&link.kind.as_str()));
    wanted.map(|link| link.name).collect()
}

/// What is known of an interface by its configuration alone.
fn unknown(interface: &InterfaceConfig) -> Nic {
    Nic {
        name: interface.name.clone(),
        native: interface.xdp == XdpMode::Native,
        ..Nic::default()
    }
}

/// Looks at interfaces.
struct Look<'a> {
    links: &'a [Link],
    features: HashMap<Ifindex, XdpFeatures>,
    kernel: Option<Commander>,
}

impl<'a> Look<'a> {
    /// At these, and at members of those that are bonds.
    fn at(links: &'a [Link], interfaces: &[InterfaceConfig]) -> Self {
        let found = |interface: &InterfaceConfig| links.iter().find(|link| link.name == interface.name);
        let indices: Vec<Ifindex> = interfaces
            .iter()
            .filter_map(found)
            .flat_map(|link| std::iter::once(link).chain(members(link, links)))
            .map(|link| link.ifindex)
            .collect();
        Look {
            links,
            features: netdev::xdp_features(&indices)
                .unwrap_or_default()
                .into_iter()
                .collect(),
            kernel: Commander::open().ok(),
        }
    }

    fn interface(&mut self, interface: &InterfaceConfig) -> Nic {
        match self.links.iter().find(|link| link.name == interface.name) {
            None => unknown(interface),
            Some(link) => Nic {
                bond: self.bond(interface, link),
                ..self.nic(interface, link)
            },
        }
    }

    /// A bond whose members are looked at as if each were configured.
    fn bond(&mut self, interface: &InterfaceConfig, link: &Link) -> Option<Bond> {
        let Detail::Bond(bond) = link.detail else {
            return None;
        };
        let links = self.links;
        let members = members(link, links).map(|member| {
            let configured = InterfaceConfig {
                name: member.name.clone(),
                ..interface.clone()
            };
            self.nic(&configured, member)
        });
        Some(Bond {
            mode: bond.mode,
            policy: bond.policy,
            aggregator: bond.aggregator,
            members: members.collect(),
            // /proc/net is this process's network namespace, unlike /sys/class/net.
            slow: text(format!("/proc/net/bonding/{}", link.name)).and_then(|said| lacp_is_slow(&said)),
        })
    }

    /// What its link and its driver tell.
    fn nic(&mut self, interface: &InterfaceConfig, link: &Link) -> Nic {
        let ethtool = Ethtool::of(link.ifindex);
        let ask = ethtool.as_ref();
        let driver = ask.and_then(Ethtool::driver);
        let device = driver
            .as_ref()
            .filter(|driver| !driver.bus.is_empty() && !driver.bus.contains('/'))
            .map(|driver| Path::new("/sys/bus/pci/devices").join(&driver.bus));
        let master = link
            .master
            .and_then(|index| self.links.iter().find(|link| link.ifindex == index));
        let attached = self.kernel.as_mut();
        let attached = attached.and_then(|kernel| kernel.xdp_attached(link.ifindex).ok()?);
        Nic {
            exists: true,
            admin_up: link.admin_up,
            carrier: link.carrier,
            ethernet: link.ethernet,
            kind: link.kind.clone(),
            detail: link.detail,
            base: base(link, self.links).map(|base| base.name.clone()),
            master: master.map(|master| (master.name.clone(), master.kind.clone())),
            member: link.member,
            mtu: link.mtu,
            speed: ask.and_then(Ethtool::speed),
            forwarding4: sysctl::forwarding4(&link.name).ok(),
            xdp: self.features.get(&link.ifindex).copied(),
            attached: attached.map(|(mode, _)| mode),
            rings: ask.and_then(Ethtool::rings),
            channels: ask.and_then(Ethtool::channels),
            spread: ask.and_then(Ethtool::spread),
            features: ask.and_then(Ethtool::features).map(|features| {
                let on = features.into_iter().filter(|(_, on)| *on);
                on.map(|(name, _)| name).collect()
            }),
            interrupts: device.as_deref().map_or_else(Vec::new, interrupts),
            virtual_functions: device
                .and_then(|device| number(device.join("sriov_numvfs")))
                .unwrap_or(0),
            driver,
            ..unknown(interface)
        }
    }
}

/// CPUs of each message-signalled interrupt of a PCI device.
fn interrupts(device: &Path) -> Vec<BTreeSet<u32>> {
    let Ok(entries) = fs::read_dir(device.join("msi_irqs")) else {
        return Vec::new();
    };
    let cpus = entries.flatten().filter_map(|entry| {
        let of = Path::new("/proc/irq").join(entry.file_name());
        let list = text(of.join("effective_affinity_list")).or_else(|| text(of.join("smp_affinity_list")))?;
        Some(numbers(&list)).filter(|cpus| !cpus.is_empty())
    });
    cpus.collect()
}

/// Links by which routes lead and that are not of the configuration, those with the most routes first.
fn others(links: &[Link], configured: &[&str], tables: &RouteTables) -> Vec<Other> {
    let objects: HashMap<u32, NexthopKind> = dump_nexthops()
        .unwrap_or_default()
        .into_iter()
        .map(|NexthopObject { id, kind }| (id, kind))
        .collect();
    let mut counts: BTreeMap<Ifindex, u64> = BTreeMap::new();
    let mut each = |route: Route| {
        if route.table == TABLE_LOCAL || is_of_the_link(&route) {
            return;
        }
        for ifindex in egresses(&route.action, &objects) {
            *counts.entry(ifindex).or_default() += 1;
        }
    };
    // A dump that ends early says less, nothing wrong.
    let _ = dump_tables(tables, &mut each);
    let mut others: Vec<Other> = counts
        .into_iter()
        .filter_map(|(ifindex, routes)| {
            let link = links.iter().find(|link| link.ifindex == ifindex)?;
            let loopback = link.ifindex == 1;
            let known = loopback || configured.contains(&link.name.as_str());
            (!known).then(|| Other {
                name: link.name.clone(),
                kind: link.kind.clone(),
                base: base(link, links).map(|base| base.name.clone()),
                routes,
            })
        })
        .collect();
    others.sort_by(|a, b| b.routes.cmp(&a.routes).then_with(|| a.name.cmp(&b.name)));
    others
}

/// Link-local and multicast routes, which every IPv6 interface has: nothing is forwarded by them.
fn is_of_the_link(route: &Route) -> bool {
    match route.prefix.addr() {
        std::net::IpAddr::V4(address) => address.is_link_local() || address.is_multicast(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local() || address.is_multicast(),
    }
}

/// The interfaces by which a route sends, each once.
fn egresses(action: &Action, objects: &HashMap<u32, NexthopKind>) -> BTreeSet<Ifindex> {
    let mut found = BTreeSet::new();
    let mut object = |id: &u32| {
        if let Some(NexthopKind::Hop(hop)) = objects.get(id) {
            found.insert(hop.ifindex);
        }
    };
    match action {
        Action::Hops(hops) => found.extend(hops.iter().map(|hop| hop.ifindex)),
        Action::Nexthop(id) => match objects.get(id) {
            Some(NexthopKind::Group(members)) => members.iter().for_each(|(id, _)| object(id)),
            _ => object(id),
        },
        _ => {}
    }
    found.remove(&0);
    found
}

/// Effective capabilities, from `CapEff` of /proc/self/status (proc(5)).
fn capabilities() -> Option<u64> {
    let status = text("/proc/self/status")?;
    let word = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(word.trim(), 16).ok()
}

/// Tables of the older iptables in this network namespace. The files are there once its module is loaded.
fn legacy_tables() -> Vec<String> {
    let mut tables = BTreeSet::new();
    for file in ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"] {
        tables.extend(text(file).unwrap_or_default().lines().map(str::to_string));
    }
    tables.into_iter().collect()
}

/// What a file, or a directory of files in the order of their names, says of `ManageForeignRoutes`.
fn networkd(path: &Path) -> Option<bool> {
    let files = match fs::read_dir(path) {
        Ok(entries) => {
            let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
            files.sort();
            files
        }
        Err(_) => vec![path.to_path_buf()],
    };
    let mut said = files.iter().rev().filter_map(|file| manages(&text(file)?));
    said.next()
}

/// The last `ManageForeignRoutes=` of a file; systemd's words for no are "no", "n", "false", "f", "off" and "0".
fn manages(said: &str) -> Option<bool> {
    let mut values = said.lines().rev().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "ManageForeignRoutes").then(|| value.trim().to_ascii_lowercase())
    });
    let last = values.next()?;
    Some(!["no", "n", "false", "f", "off", "0"].contains(&last.as_str()))
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_string())
}

fn number(path: impl AsRef<Path>) -> Option<u32> {
    text(path)?.parse().ok()
}

/// A list such as "0-3,5" (`cpulist_parse`).
fn numbers(list: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            found.extend(first..=last.min(first.saturating_add(8192)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_numbers() {
        assert_eq!(numbers("0-3,5\n"), BTreeSet::from([0, 1, 2, 3, 5]));
        assert_eq!(numbers("7"), BTreeSet::from([7]));
        assert_eq!(numbers(""), BTreeSet::new());
        assert_eq!(numbers("x,3-1,2"), BTreeSet::from([2]));
    }

    #[test]
    fn the_last_word_of_networkd_counts() {
        assert_eq!(manages("[Network]\n#ManageForeignRoutes=yes\n"), None);
        assert_eq!(manages("[Network]\nManageForeignRoutes = no\n"), Some(false));
        assert_eq!(
            manages("ManageForeignRoutes=no\nManageForeignRoutes=yes\n"),
            Some(true)
        );
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("10-a.conf"), "ManageForeignRoutes=yes").expect("written");
        fs::write(directory.path().join("20-b.conf"), "ManageForeignRoutes=no").expect("written");
        fs::write(directory.path().join("30-c.bak"), "ManageForeignRoutes=yes").expect("written");
        assert_eq!(networkd(directory.path()), Some(false));
        assert_eq!(networkd(&directory.path().join("10-a.conf")), Some(true));
        assert_eq!(networkd(&directory.path().join("none")), None);
    }

    #[test]
    fn a_route_by_an_object_leaves_by_its_interfaces() {
        let hop = |ifindex| crate::source::event::Hop {
            ifindex,
            gateway: None,
            weight: 1,
            dead: false,
            unsupported: false,
        };
        let objects = HashMap::from([
            (1, NexthopKind::Hop(hop(7))),
            (2, NexthopKind::Hop(hop(8))),
            (3, NexthopKind::Group(vec![(1, 1), (2, 1)])),
        ]);
        let of = |action| egresses(&action, &objects);
        assert_eq!(of(Action::Nexthop(3)), BTreeSet::from([7, 8]));
        assert_eq!(of(Action::Nexthop(1)), BTreeSet::from([7]));
        assert_eq!(of(Action::Nexthop(9)), BTreeSet::new());
        assert_eq!(
            of(Action::Hops(vec![hop(0), hop(5), hop(5)])),
            BTreeSet::from([5])
        );
        assert_eq!(of(Action::Blackhole), BTreeSet::new());
    }
}
