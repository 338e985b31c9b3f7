//! A network namespace of the test thread's own, a BPF file system, and the live program on fresh tables.

use std::{
    net::IpAddr,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};
use forwarder::{
    clock::monotonic_ns,
    config::{Source, SourceCheck},
    daemon::{engine::Engine, ports},
    dataplane::{
        Dataplane, Sizes,
        attach::Programs,
        kernel::KernelDataplane,
        pins::{Lock, Pins, network_namespace, possible_cpus},
    },
    link::{Frame, Served},
    source::{
        event::{Change, Event, Link, Neighbour, Route},
        route_tables::RouteTables,
    },
};
use forwarder_common::{
    interface::{CHECK_SOURCES, FORWARD4, FORWARD6, Interface, MACS},
    nexthop::mac_bits,
    origin::ANYWHERE,
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Puts this thread into a network namespace of its own.
///
/// # Errors
/// Not root.
pub fn new_namespace() -> Result<()> {
    // SAFETY: unshare changes only this thread's namespaces.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        bail!(
            "cannot make a network namespace ({}): these tests need root",
            std::io::Error::last_os_error()
        );
    }
    ip("link set lo up")
}

/// Runs `ip` with these words in this thread's namespace.
///
/// # Errors
/// What `ip` says.
pub fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .context("cannot run ip")?;
    if !output.status.success() {
        bail!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A mounted BPF file system, unmounted on drop.
pub struct BpfFs {
    dir: PathBuf,
}

impl BpfFs {
    /// Mounts one in a fresh directory.
    ///
    /// # Errors
    /// Not root.
    pub fn mount() -> Result<BpfFs> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("forwarder-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let output = Command::new("mount")
            .args(["-t", "bpf", "bpf"])
            .arg(&dir)
            .output()
            .context("mount")?;
        if !output.status.success() {
            bail!(
                "cannot mount a bpffs: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(BpfFs { dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// The live program on fresh tables, with interfaces that exist.
pub struct Sandbox {
    /// The controller's logic on the kernel's tables.
    pub engine: Engine<KernelDataplane>,
    /// The loaded programs.
    pub programs: Programs,
    /// Pins.
    pub pins: Pins,
    _lock: Lock,
    _bpffs: BpfFs,
}

impl Sandbox {
    /// A namespace, tables of these sizes, and the program loaded on them.
    ///
    /// # Errors
    /// Not root, or the kernel's refusal.
    pub fn new(sizes: Sizes) -> Result<Sandbox> {
        new_namespace()?;
        let bpffs = BpfFs::mount()?;
        let pins = Pins::new(&bpffs.path().join("pins"));
        let lock = pins.lock()?;
        let sizes = Sizes {
            cpus: possible_cpus()?,
            ..sizes
        };
        pins.create(sizes, network_namespace()?)?;
        let sources = [Source::Kernel, Source::Bgp];
        let dataplane = KernelDataplane::open(&pins)?;
        let engine = Engine::with_sources(dataplane, &sources, RouteTables::default())?;
        let programs = Programs::load(&pins, sizes)?;
        let sandbox = Sandbox {
            engine,
            programs,
            pins,
            _lock: lock,
            _bpffs: bpffs,
        };
        sandbox.stamp(monotonic_ns(), 30_000_000_000);
        Ok(sandbox)
    }

    /// Sets heartbeat and maximum age, nanoseconds.
    pub fn stamp(&self, heartbeat: u64, max_age: u64) {
        let settings = &self.engine.view().settings;
        settings.word(0, 0).store(heartbeat, Ordering::Release);
        settings.word(0, 8).store(max_age, Ordering::Release);
    }

    /// Makes a veth pair and serves its near end with forwarding on and these flags more. Answers its index; its MAC is
    /// [`mac`] of the index.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn interface(&mut self, name: &str, flags: u32, mtu: u32) -> Result<u32> {
        self.interface_of(&Spec {
            name,
            flags: FORWARD4 | FORWARD6 | flags,
            mtu,
            ..Spec::default()
        })
    }

    /// The same with everything said.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn interface_of(&mut self, spec: &Spec<'_>) -> Result<u32> {
        let (name, mtu) = (spec.name, spec.mtu);
        ip(&format!("link add {name} type veth peer name {name}p"))?;
        let ifindex = index_of(name)?;
        let m = mac(ifindex);
        let text = m.map(|octet| format!("{octet:02x}")).join(":");
        ip(&format!("link set {name} address {text} mtu {mtu}"))?;
        ip(&format!("link set {name} up"))?;
        ip(&format!("link set {name}p up"))?;
        self.engine
            .apply(Event::Link(spec.link(ifindex)), &mut Vec::new());
        let state = if spec.generic {
            ports::GENERIC
        } else {
            ports::NATIVE
        };
        let claim = ports::Claim {
            name,
            ifindex,
            state,
            root: 0,
        };
        let port = ports::claim(self.engine.view(), claim)?;
        self.engine.dataplane.set_device(ifindex, true)?;
        let served = Served {
            port,
            generic: spec.generic,
            feasible: spec.check == SourceCheck::Feasible,
            frame: Frame {
                several: spec.several,
                ..Frame::default()
            },
            ..Served::default()
        };
        self.engine.serve(ifindex, Some(served));
        self.engine.served_changed();
        let (checks, origin) = match spec.check {
            SourceCheck::Off => (0, ANYWHERE),
            SourceCheck::Loose => (CHECK_SOURCES, ANYWHERE),
            SourceCheck::Strict | SourceCheck::Feasible => (CHECK_SOURCES, u32::from(port)),
        };
        self.engine.rib.all_ways |= spec.check == SourceCheck::Feasible;
        let entry = Interface {
            port: port as u32,
            flags: spec.flags | checks,
            origin,
            macs: [mac_bits(m); MACS],
            ifindex,
            device_port: port as u32,
            ..Interface::default()
        };
        self.engine.view().interfaces.set(ifindex as usize, &entry);
        Ok(ifindex)
    }

    /// The kernel announces a route.
    pub fn announce(&mut self, route: Route) {
        let change = Change::Add;
        self.engine.apply(Event::Route { route, change }, &mut Vec::new());
    }

    /// Says that a neighbour is resolved, with [`neighbour_mac`] of its address.
    pub fn neighbour(&mut self, ifindex: u32, address: &str) {
        let address: IpAddr = address.parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let neighbour = Neighbour {
            ifindex,
            address,
            mac: Some(neighbour_mac(address)),
            failed: false,
            stale: false,
            managed: false,
        };
        self.engine.apply(Event::Neighbour(neighbour), &mut Vec::new());
    }
}

/// A served interface to make.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// Its name.
    pub name: &'a str,
    /// `FORWARD4` and the like.
    pub flags: u32,
    /// MTU, octets.
    pub mtu: u32,
    /// What the engine is told of it: "veth", or "" for a physical device, whose wire pads short frames.
    pub kind: &'a str,
    /// What the engine is told of its mode.
    pub generic: bool,
    /// That it takes frames in several buffers.
    pub several: bool,
    /// How its sources are checked.
    pub check: SourceCheck,
}

impl Default for Spec<'_> {
    fn default() -> Self {
        Spec {
            name: "",
            flags: FORWARD4 | FORWARD6,
            mtu: 1500,
            kind: "veth",
            generic: false,
            several: false,
            check: SourceCheck::Off,
        }
    }
}

impl Spec<'_> {
    /// The link as the kernel would announce it under this index.
    pub fn link(&self, ifindex: u32) -> Link {
        Link {
            ifindex,
            name: self.name.into(),
            mac: mac(ifindex),
            ethernet: true,
            admin_up: true,
            carrier: true,
            running: true,
            mtu: self.mtu,
            mtu6: self.mtu,
            kind: self.kind.into(),
            ..Link::default()
        }
    }
}

/// The index of an interface of this thread's namespace.
///
/// # Errors
/// There is none of that name.
pub fn index_of(name: &str) -> Result<u32> {
    let c_name = std::ffi::CString::new(name)?;
    // SAFETY: a NUL-terminated name.
    match unsafe { libc::if_nametoindex(c_name.as_ptr()) } {
        0 => bail!("{name}: {}", std::io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// The MAC of a served interface.
pub fn mac(ifindex: u32) -> [u8; 6] {
    let index = ifindex.to_be_bytes();
    [0x02, 0xaa, 0, 0, index[2], index[3]]
}

/// The MAC of a neighbour.
pub fn neighbour_mac(address: IpAddr) -> [u8; 6] {
    let last = match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    [0x02, 0xbb, 0, 0, 0, last]
}

/// Keeps a file descriptor alive: the namespace of the current thread, to come back to.
pub struct Home(std::fs::File);

impl Home {
    /// The namespace a file names, such as /run/netns/NAME.
    ///
    /// # Errors
    /// There is no such file.
    pub fn at(path: &Path) -> Result<Home> {
        let file =
            std::fs::File::open(path).with_context(|| format!("network namespace {}", path.display()))?;
        Ok(Home(file))
    }

    /// Where this thread is now.
    ///
    /// # Errors
    /// No /proc.
    pub fn here() -> Result<Home> {
        Ok(Home(std::fs::File::open("/proc/thread-self/ns/net")?))
    }

    /// Goes back.
    ///
    /// # Errors
    /// Not root.
    pub fn enter(&self) -> Result<()> {
        // SAFETY: a namespace descriptor; changes only this thread.
        if unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            bail!("setns: {}", std::io::Error::last_os_error());
        }
        Ok(())
    }
}
