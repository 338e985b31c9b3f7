//! The benches' BPF object in the kernel, on forwarder's pinned maps.

use std::borrow::Cow;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData, PerCpuArray, ProgramArray};
use aya::programs::Xdp;
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::{Ebpf, EbpfLoader};
use forwarder::dataplane::program;
use forwarder::dataplane::{
    Region, Sizes,
    pins::{Pins, possible_cpus},
};
use forwarder_bench_ebpf::abi;
use forwarder_common::maps::{DEVICES, SELF_ADDRESSES};
use xtask::bench::OBJECT;
use xtask::interrupt;
use xtask::progress::Progress;

use crate::frame;
use crate::router::given;
use crate::table::{Family, Table};
use crate::trace::Trace;

/// What the maps of the object that only some benches use must have room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Nothing.
    None,
    /// LPM tries of the tables.
    Tries,
    /// Counters of every slot.
    Counters,
}

/// The loaded object.
pub struct Object {
    ebpf: Ebpf,
    candidate: ProgramArray<MapData>,
    destinations4: Region,
    destinations6: Region,
    answers: Region,
    cursor: Region,
    sunk: Region,
    /// Open for programs that are loaded later.
    _tables: HashMap<&'static str, MapData>,
}

impl Object {
    /// Loads the maps; programs are loaded as they are asked for.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn load(pins: &Pins, tables: &[Table; 2], room: Room) -> Result<Object> {
        let path = given(OBJECT)?;
        let mut loader = EbpfLoader::new();
        for name in [DEVICES, SELF_ADDRESSES] {
            loader.map_pin_path(name, Cow::Owned(pins.map(name)));
        }
        match room {
            Room::None => {}
            Room::Tries => {
                for (name, table) in [abi::LPM4, abi::LPM6].into_iter().zip(tables) {
                    loader.map_max_entries(name, table.prefixes.len().max(1) as u32);
                }
            }
            Room::Counters => {
                loader.map_max_entries(abi::BY_CPU, possible_cpus()? * abi::SLOTS);
                loader.map_max_entries(abi::PER_CPU, abi::SLOTS);
            }
        }
        let object = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let object = program::resolve(&object, pins, Sizes::of(&pins.meta()?))?;
        let mut ebpf = loader
            .load(&object.octets)
            .with_context(|| format!("cannot load {}", path.display()))?;
        let candidate = ebpf
            .take_map(abi::CANDIDATE)
            .context("the object has no CANDIDATE")?;
        Ok(Object {
            candidate: ProgramArray::try_from(candidate)?,
            destinations4: region(&ebpf, abi::DESTINATIONS4, abi::TRACE_LEN * 8)?,
            destinations6: region(&ebpf, abi::DESTINATIONS6, abi::TRACE_LEN * 16)?,
            answers: region(&ebpf, abi::ANSWERS, abi::TRACE_LEN * 8)?,
            cursor: region(&ebpf, abi::CURSOR, 8)?,
            sunk: region(&ebpf, abi::SUNK, 16)?,
            ebpf,
            _tables: object.tables,
        })
    }

    /// Fills the LPM trie of a table's family; values are positions in the table.
    ///
    /// # Errors
    /// The kernel refuses a prefix.
    pub fn fill_trie(&mut self, table: &Table) -> Result<()> {
        let mut progress = Progress::new(format!("{} prefixes into the LPM trie", table.family));
        let mut step = |at: usize| {
            if at.is_multiple_of(1024) {
                progress.detail(&format!("{at} of {}", table.prefixes.len()));
                interrupt::check()?;
            }
            Ok::<(), anyhow::Error>(())
        };
        let prefixes = table.prefixes.iter().enumerate();
        match table.family {
            Family::V4 => {
                let mut trie: LpmTrie<_, [u8; 4], u32> = self.map(abi::LPM4)?.try_into()?;
                for (at, prefix) in prefixes {
                    step(at)?;
                    let network = ((prefix.network >> 96) as u32).to_be_bytes();
                    trie.insert(&Key::new(prefix.length.into(), network), at as u32, 0)?;
                }
            }
            Family::V6 => {
                let mut trie: LpmTrie<_, [u8; 16], u32> = self.map(abi::LPM6)?.try_into()?;
                for (at, prefix) in prefixes {
                    step(at)?;
                    let network = prefix.network.to_be_bytes();
                    trie.insert(&Key::new(prefix.length.into(), network), at as u32, 0)?;
                }
            }
        }
        Ok(())
    }

    /// Lays out a trace for the programs to follow.
    pub fn lay(&self, family: Family, trace: &Trace) {
        for (at, destination) in trace.destinations.iter().enumerate() {
            let octets = destination.to_be_bytes();
            match family {
                Family::V4 => {
                    let [a, b, c, d, ..] = octets;
                    let entry = abi::entry4([a, b, c, d], frame::checksum(*destination));
                    self.destinations4.u64(at * 8).store(entry, Ordering::Release);
                }
                Family::V6 => {
                    let words = u128::from_le_bytes(octets);
                    self.destinations6
                        .u64(at * 16)
                        .store(words as u64, Ordering::Release);
                    let high = (words >> 64) as u64;
                    self.destinations6.u64(at * 16 + 8).store(high, Ordering::Release);
                }
            }
        }
    }

    /// Lays out a trace of IPv4 sources, words as [`frame::entry_from`] makes them.
    pub fn lay_sources(&self, entries: &[u64]) {
        for (at, entry) in entries.iter().enumerate() {
            self.destinations4.u64(at * 8).store(*entry, Ordering::Release);
        }
    }

    /// Puts the programs back to the beginning of the trace.
    pub fn rewind(&self) {
        self.start_at(0);
    }

    /// Puts the programs to this place of the trace.
    pub fn start_at(&self, position: usize) {
        self.cursor.u64(0).store(position as u64, Ordering::Release);
    }

    /// Forgets all answers.
    pub fn forget(&self) {
        for at in 0..abi::TRACE_LEN {
            self.answers.u64(at * 8).store(abi::NOTHING, Ordering::Release);
        }
    }

    /// What the destination at this position of the trace was answered with.
    pub fn answer(&self, at: usize) -> u64 {
        self.answers.u64(at * 8).load(Ordering::Acquire)
    }

    /// Packets that an arm of `counters` has counted so far, in all slots; `None` for one that does not count.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn counted(&self, arm: &str) -> Result<Option<u64>> {
        match arm {
            "count_percpu" => {
                let map = self.ebpf.map(abi::PER_CPU).context("the object has no PER_CPU")?;
                let counters: PerCpuArray<_, [u64; 2]> = map.try_into()?;
                let mut sum = 0;
                for slot in 0..counters.len() {
                    sum += counters
                        .get(&slot, 0)?
                        .iter()
                        .map(|counter| counter[0])
                        .sum::<u64>();
                }
                Ok(Some(sum))
            }
            "count_address" | "count_shuffled" | "count_deferred" => {
                let entries = possible_cpus()? as usize * abi::SLOTS as usize;
                let counters = region(&self.ebpf, abi::BY_CPU, entries * 16)?;
                let packets = (0..entries).map(|at| counters.u64(at * 16).load(Ordering::Acquire));
                Ok(Some(packets.sum()))
            }
            _ => Ok(None),
        }
    }

    /// How many frames have reached the sink.
    pub fn sunk(&self) -> u64 {
        self.sunk.u64(0).load(Ordering::Acquire)
    }

    /// Whether the sink is to note what each frame carries.
    pub fn note(&self, note: bool) {
        self.sunk.u64(8).store(u64::from(note), Ordering::Release);
    }

    /// Attaches a loaded program to an interface of this thread's namespace, natively, for as long as the link is held.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn attach(&mut self, name: &str, ifindex: u32) -> Result<XdpLink> {
        let program: &mut Xdp = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("the object has no {name}"))?
            .try_into()?;
        attach(program, ifindex).with_context(|| format!("cannot attach {name}"))
    }

    /// Loads a program.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub fn load_program(&mut self, name: &str) -> Result<()> {
        let program: &mut Xdp = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("the object has no {name}"))?
            .try_into()?;
        program::load(name, || program.load())
    }

    /// A loaded program.
    ///
    /// # Errors
    /// The object has none of that name.
    pub fn program(&self, name: &str) -> Result<&Xdp> {
        let program = self.ebpf.program(name);
        Ok(program
            .with_context(|| format!("the object has no {name}"))?
            .try_into()?)
    }

    /// Makes a program the one that the harness calls.
    ///
    /// # Errors
    /// The kernel does not let the harness call it.
    pub fn set_candidate(&mut self, program: &aya::programs::ProgramFd) -> Result<()> {
        self.candidate
            .set(0, program, 0)
            .context("the kernel does not let the harness call this candidate")
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf
            .map_mut(name)
            .with_context(|| format!("the object has no {name}"))
    }
}

/// Attaches a program to an interface of this thread's namespace, natively, for as long as the link is held.
///
/// # Errors
/// The driver's refusal.
pub fn attach(program: &mut Xdp, ifindex: u32) -> Result<XdpLink> {
    let id = program.attach_to_if_index(ifindex, XdpMode::Driver)?;
    Ok(program.take_link(id)?)
}

/// The memory of a map. The map itself stays with the object, whose programs are yet to be loaded.
fn region(ebpf: &Ebpf, name: &str, octets: usize) -> Result<Region> {
    let map = ebpf
        .map(name)
        .with_context(|| format!("the object has no {name}"))?;
    let Map::Array(data) = map else {
        bail!("{name} is no array")
    };
    Region::map(data.fd().as_fd(), octets, true).with_context(|| format!("cannot map {name} into memory"))
}
