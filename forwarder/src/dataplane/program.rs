//! Loading the program into the kernel, on the pinned maps.

use std::{borrow::Cow, collections::HashMap};

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::MapData,
    programs::{ProgramError, Xdp},
};
use forwarder_common::{directory::SEVERAL_BUFFERS, maps};

use super::{
    Sizes,
    btf::Btf,
    direct,
    pins::{self, LOGS, Pins, network_namespace},
};

/// The object, as the build made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/forwarder-ebpf.o"));

/// Name of the XDP program.
pub const XDP: &str = "forwarder";
/// Name of the same program with notes of every step.
pub const TRACED: &str = "forwarder_trace";
/// The tracepoint programs; each has the name of its tracepoint.
pub const TRACEPOINTS: [&str; 2] = ["xdp_redirect_err", "xdp_devmap_xmit"];

/// What an instance of the program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Forwarding: counts in the pinned counters.
    Live,
    /// Tracing: shares the tables, counts in maps of its own, notes every step.
    Trace,
    /// Measuring: shares the tables, counts in maps of its own, samples into a ring buffer of its own.
    Bench,
    /// Forwarding with nothing counted, which no command does: what counting costs is measured against it.
    Uncounted,
}

/// The object, its maps made, its programs not loaded yet.
pub struct Opened {
    /// The object.
    pub ebpf: Ebpf,
    /// Tables that the programs have the addresses of; open until they are loaded.
    pub tables: HashMap<&'static str, MapData>,
}

/// Opens the object on the pinned maps. Programs are loaded by the caller, one by one.
///
/// # Errors
/// The kernel's refusal.
pub fn open(pins: &Pins, sizes: Sizes, purpose: Purpose) -> Result<Opened> {
    if pins.meta()?.features & SEVERAL_BUFFERS == 0 {
        bail!(
            "the program that runs is of an earlier version of forwarder, and this one's cannot run beside it: restart the controller first"
        );
    }
    let object = match purpose {
        Purpose::Live => resolve(OBJECT, pins, sizes),
        Purpose::Trace => resolve_tracing(pins, sizes),
        Purpose::Bench => resolve_bench(pins, sizes),
        Purpose::Uncounted => resolve_uncounted(pins, sizes),
    }?;
    open_object(object, pins, sizes, purpose)
}

/// Loads the program that forwards once more, these of its tables replaced by empty ones of the same sizes that the verifier lets no
/// program write to, and forgets it. For tests: that it is taken says that it has no store to any of them.
///
/// # Errors
/// The verifier's refusal, for one.
pub fn load_with_read_only(pins: &Pins, sizes: Sizes, tables: &[&str]) -> Result<()> {
    let arrays = sizes.arrays()?;
    let open = |name| match arrays.iter().find(|(known, ..)| *known == name) {
        Some((_, entries, octets)) if tables.contains(&name) => {
            pins::read_only_array(name, *entries, *octets)
        }
        _ => pins.data(name),
    };
    let object = direct::resolve(OBJECT, open, |name| sizes.length(name))?;
    let mut opened = open_object(object, pins, sizes, Purpose::Live)?;
    let program: &mut Xdp = opened
        .ebpf
        .program_mut(XDP)
        .context("the object has no XDP program")?
        .try_into()?;
    load(XDP, || program.load())
}

fn open_object(object: direct::Object, pins: &Pins, sizes: Sizes, purpose: Purpose) -> Result<Opened> {
    let mut loader = EbpfLoader::new();
    let shared: &[&str] = match purpose {
        Purpose::Live => &[
            maps::DEVICES,
            maps::SELF_ADDRESSES,
            maps::PUNT_FLOWS,
            maps::PREFIX_COUNTERS,
            maps::SOURCE_COUNTERS,
            maps::SAMPLES,
            LOGS,
        ],
        // Neither takes samples: the one has no code for it, the other is for measurements without.
        Purpose::Trace | Purpose::Uncounted => &[
            maps::DEVICES,
            maps::SELF_ADDRESSES,
            maps::PUNT_FLOWS,
            maps::SAMPLES,
        ],
        Purpose::Bench => &[maps::DEVICES, maps::SELF_ADDRESSES, maps::PUNT_FLOWS],
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
    loader
        .override_global("OFFSET_IFINDEX", &offset_ifindex, true)
        .override_global("OFFSET_NET", &offset_net, true)
        .override_global("OFFSET_INUM", &offset_inum, true)
        .override_global("NETNS", &netns, true)
        .override_global("DEVICES_ID", &devices, true);
    if purpose != Purpose::Live {
        for name in [maps::PREFIX_COUNTERS, maps::SOURCE_COUNTERS] {
            let asked = purpose == Purpose::Bench && sizes.length(name) == 0;
            loader.map_max_entries(name, if asked { sizes.slots } else { 1 });
        }
    }
    let ebpf = loader.load(&object.octets).map_err(|why| {
        anyhow!(why).context(
            "cannot load the BPF object: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
        )
    })?;
    Ok(Opened {
        ebpf,
        tables: object.tables,
    })
}

/// An object with the pinned tables in their places.
///
/// # Errors
/// A table that cannot be opened.
pub fn resolve(object: &[u8], pins: &Pins, sizes: Sizes) -> Result<direct::Object> {
    let length = |name| sizes.length(name);
    let open = |name| match name {
        // Never reached through this; any table will do.
        maps::PREFIX_COUNTERS | maps::SOURCE_COUNTERS if length(name) == 0 => pins.data(maps::SETTINGS),
        _ => pins.data(name),
    };
    direct::resolve(object, open, length)
}

/// The same with counters of its own: those of one CPU, which all CPUs write to.
fn resolve_tracing(pins: &Pins, sizes: Sizes) -> Result<direct::Object> {
    let own = Sizes {
        cpus: 1,
        sources: false,
        ..sizes
    };
    let (arrays, length) = (own.arrays()?, |name: &str| own.length(name));
    // With strides of 0 every CPU is the first. Prefixes are not counted, nor are sources.
    let strides = [
        maps::SLOT_DIRECTORY,
        maps::NEXTHOP_DIRECTORY,
        maps::PORT_DIRECTORY,
        maps::RULE_DIRECTORY,
    ];
    direct::resolve(
        OBJECT,
        |name| match arrays.iter().find(|(known, ..)| *known == name) {
            Some(_) if name == maps::PREFIX_COUNTERS => pins.data(maps::SETTINGS),
            Some((_, entries, octets)) if maps::COUNTERS.contains(&name) => {
                pins::private_array(name, *entries, *octets)
            }
            _ => pins.data(name),
        },
        |name| match name {
            maps::PREFIX_COUNTERS => 0,
            _ if strides.contains(&name) => 0,
            _ => length(name),
        },
    )
}

/// The same for measuring: the program as it forwards, but for the numbers of its immediates. It runs on one CPU, so of the counters
/// of prefixes there is one CPU's share, which on a machine with many is nearly all of the memory: their stride by CPU is 0.
fn resolve_bench(pins: &Pins, sizes: Sizes) -> Result<direct::Object> {
    let one = Sizes { cpus: 1, ..sizes };
    let by_prefix = [maps::PREFIX_COUNTERS, maps::SOURCE_COUNTERS];
    // What the program that forwards asks the map for, because it is too large, this one asks for too.
    let asked = |name| by_prefix.contains(&name) && sizes.length(name) == 0;
    let (all, few) = (sizes.arrays()?, one.arrays()?);
    direct::resolve(
        OBJECT,
        |name| {
            let arrays = if by_prefix.contains(&name) { &few } else { &all };
            match arrays.iter().find(|(known, ..)| *known == name) {
                Some(_) if asked(name) => pins.data(maps::SETTINGS),
                Some((_, entries, octets)) if maps::COUNTERS.contains(&name) => {
                    pins::private_array(name, *entries, *octets)
                }
                _ => pins.data(name),
            }
        },
        |name| match name {
            maps::SLOT_DIRECTORY => 0,
            _ if asked(name) => 0,
            _ if by_prefix.contains(&name) => one.length(name),
            _ => sizes.length(name),
        },
    )
}

/// The same without counters: of tables that the verifier sees have no entries it drops what would write to them.
fn resolve_uncounted(pins: &Pins, sizes: Sizes) -> Result<direct::Object> {
    direct::resolve(
        OBJECT,
        |name| match name {
            maps::PREFIX_COUNTERS | maps::SOURCE_COUNTERS => pins.data(maps::SETTINGS),
            _ => pins.data(name),
        },
        |name| match name {
            // One entry: sources are not counted.
            maps::SOURCE_COUNTERS => 1,
            _ if maps::COUNTERS.contains(&name) || name == maps::PENDING => 0,
            _ => sizes.length(name),
        },
    )
}

/// Instructions the verifier looked at for a loaded XDP program.
///
/// # Errors
/// The kernel does not tell.
pub fn verified_instructions(ebpf: &Ebpf, name: &str) -> Result<u32> {
    let program: &Xdp = ebpf
        .program(name)
        .with_context(|| format!("the object has no {name}"))?
        .try_into()?;
    program
        .info()?
        .verified_instruction_count()
        .context("this kernel does not tell the verifier's count")
}

/// How the lines begin with which the verifier ends its log, whatever it found.
const STATISTICS: [&str; 3] = ["verification time ", "stack depth ", "processed "];

/// How often the verifier is asked while signals come.
const ATTEMPTS: usize = 8;

/// Has the kernel take a program, which `load` asks it to. The verifier gives up with EAGAIN when a signal waits for this process
/// (`do_check`, kernel/bpf/verifier.c): it is asked again.
///
/// # Errors
/// Its refusal, in a sentence.
pub fn load(name: &str, load: impl FnMut() -> Result<(), ProgramError>) -> Result<()> {
    let interrupted = |why: &ProgramError| matches!(why, ProgramError::LoadError { io_error, .. } if io_error.raw_os_error() == Some(libc::EAGAIN));
    attempts(load, interrupted).map_err(|why| refusal(name, why))
}

/// Does it again as long as what keeps it from success may be over.
fn attempts<E>(mut attempt: impl FnMut() -> Result<(), E>, passing: impl Fn(&E) -> bool) -> Result<(), E> {
    let mut result = attempt();
    for _ in 1..ATTEMPTS {
        match &result {
            Err(why) if passing(why) => result = attempt(),
            _ => break,
        }
    }
    result
}

/// The sentence for a program the kernel did not take: the verifier's last useful line, the rest on request.
fn refusal(name: &str, why: ProgramError) -> anyhow::Error {
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
            .find(|line| !STATISTICS.iter().any(|start| line.starts_with(start)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_that_was_interrupted_is_asked_again_and_one_that_refuses_is_not() {
        let (mut asked, passing) = (0, |why: &i32| *why == libc::EAGAIN);
        let taken = attempts(
            || {
                asked += 1;
                if asked < 3 { Err(libc::EAGAIN) } else { Ok(()) }
            },
            passing,
        );
        assert_eq!((taken, asked), (Ok(()), 3));
        for (errno, times) in [(libc::EAGAIN, ATTEMPTS), (libc::EACCES, 1)] {
            let mut asked = 0;
            let refused = attempts(
                || {
                    asked += 1;
                    Err(errno)
                },
                passing,
            );
            assert_eq!((refused, asked), (Err(errno), times));
        }
    }
}
