//! Loading the program into the kernel, on the pinned maps.

use std::borrow::Cow;

use anyhow::{Context, Result, anyhow};
use aya::{Ebpf, EbpfLoader, programs::ProgramError};
use forwarder_common::maps;

use super::{
    Sizes,
    btf::Btf,
    pins::{LOGS, Pins, network_namespace},
};

/// The object, as the build made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/forwarder-ebpf.o"));

/// Name of the XDP program.
pub const XDP: &str = "forwarder";
/// The tracepoint programs; each has the name of its tracepoint.
pub const TRACEPOINTS: [&str; 2] = ["xdp_redirect_err", "xdp_devmap_xmit"];

/// What an instance of the program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Forwarding: counts in the pinned counters.
    Live,
    /// Tracing: shares the tables, counts in maps of its own, notes every step.
    Trace,
}

/// Loads the object on the pinned maps. Programs are loaded by the caller, one by one.
///
/// # Errors
/// The kernel's or the verifier's refusal.
pub fn open(pins: &Pins, sizes: Sizes, purpose: Purpose) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    let shared = match purpose {
        Purpose::Live => [maps::SHARED_TABLES, maps::COUNTERS, &[LOGS]].concat(),
        Purpose::Trace => maps::SHARED_TABLES.to_vec(),
    };
    for name in shared {
        loader.map_pin_path(name, Cow::Owned(pins.map(name)));
    }
    let devices = pins
        .data(maps::DEVICES)?
        .info()
        .context("cannot examine DEVICES")?
        .id();
    let btf = Btf::of_kernel()?;
    let (offset_ifindex, offset_net, offset_inum) = (
        btf.offset("net_device", &["ifindex"])?,
        btf.offset("net_device", &["nd_net", "net"])?,
        btf.offset("net", &["ns", "inum"])?,
    );
    let netns = network_namespace()? as u32;
    // A tracing instance counts nothing: with a stride of 0 its one-entry maps hold whatever it is sent.
    let (slots, nexthops, ports) = match purpose {
        Purpose::Live => (sizes.slots, sizes.nexthops, sizes.ports),
        Purpose::Trace => (0, 0, 0),
    };
    let tracing = u32::from(purpose == Purpose::Trace);
    loader
        .override_global("SLOTS", &slots, true)
        .override_global("NEXTHOP_COUNT", &nexthops, true)
        .override_global("PORTS", &ports, true)
        .override_global("TRACING", &tracing, true)
        .override_global("OFFSET_IFINDEX", &offset_ifindex, true)
        .override_global("OFFSET_NET", &offset_net, true)
        .override_global("OFFSET_INUM", &offset_inum, true)
        .override_global("NETNS", &netns, true)
        .override_global("DEVICES_ID", &devices, true);
    if purpose == Purpose::Trace {
        loader.map_max_entries(maps::PREFIX_COUNTERS, 1);
    }
    loader.load(OBJECT).map_err(|why| {
        anyhow!(why).context(
            "cannot load the BPF object: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
        )
    })
}

/// The sentence for a program the kernel did not take: the verifier's last useful line, the rest on request.
pub fn refusal(name: &str, why: ProgramError) -> anyhow::Error {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = &why
    {
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let useful = lines
            .iter()
            .rev()
            .find(|line| !line.starts_with("processed "))
            .copied()
            .unwrap_or("no log");
        tracing::debug!("verifier log of {name}:\n{log}");
        return anyhow!(
            "the kernel refuses the program {name}: {io_error}. The verifier says: {useful} ({} lines in all; \
             FORWARDER_LOG=debug prints them)",
            lines.len()
        );
    }
    anyhow!(why).context(format!("cannot load the program {name}"))
}
