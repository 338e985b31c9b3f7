//! The data path in the kernel: the mmapped maps and the calls that memory cannot make.

use std::{
    collections::BTreeSet,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use aya::maps::{DevMap, HashMap, Map, MapData};
use forwarder_common::{flow, maps, punt::Flow};

use super::{Dataplane, Tables, pins::Pins};
use crate::source::event::Ifindex;

/// `MEMBARRIER_CMD_GLOBAL`: returns after every CPU has passed a quiescent state (`synchronize_rcu`), and an XDP program
/// runs within one read-side section.
const MEMBARRIER_GLOBAL: libc::c_int = 1;
/// Where that call does not exist (`nohz_full`): many orders beyond what a packet spends in the program.
const INSTEAD: Duration = Duration::from_secs(1);

/// The octets of a [`Flow`].
type FlowKey = [u8; size_of::<Flow>()];

fn key(flow: &Flow) -> FlowKey {
    let mut key = [0; size_of::<Flow>()];
    for (at, word) in flow.remote.iter().chain(&flow.local).enumerate() {
        key[at * 8..at * 8 + 8].copy_from_slice(&word.to_ne_bytes());
    }
    key[32..34].copy_from_slice(&flow.remote_port.to_ne_bytes());
    key[34..36].copy_from_slice(&flow.local_port.to_ne_bytes());
    key[36..].copy_from_slice(&flow.protocol.to_ne_bytes());
    key
}

/// Tables of the running program.
pub struct KernelDataplane {
    tables: Tables,
    devices: DevMap<MapData>,
    own: HashMap<MapData, u32, u32>,
    flows: HashMap<MapData, FlowKey, u32>,
    begin: Sender<()>,
    over: Receiver<()>,
    pending: bool,
}

impl KernelDataplane {
    /// Opens the pinned maps for writing. Only a holder of the pins' lock may.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open(pins: &Pins) -> Result<KernelDataplane> {
        let tables = pins.open(true)?;
        let devices = DevMap::try_from(Map::from_map_data(pins.data(maps::DEVICES)?)?).context("DEVICES")?;
        let own = HashMap::try_from(Map::from_map_data(pins.data(maps::SELF_ADDRESSES)?)?)
            .context("SELF_ADDRESSES")?;
        let flows =
            HashMap::try_from(Map::from_map_data(pins.data(maps::PUNT_FLOWS)?)?).context("PUNT_FLOWS")?;
        let (begin, begun) = channel::<()>();
        let (done, over) = channel();
        thread::Builder::new().name("grace".into()).spawn(move || {
            while begun.recv().is_ok() {
                wait_for_readers();
                if done.send(()).is_err() {
                    break;
                }
            }
        })?;
        Ok(KernelDataplane {
            tables,
            devices,
            own,
            flows,
            begin,
            over,
            pending: false,
        })
    }
}

fn wait_for_readers() {
    // SAFETY: no memory is passed.
    if unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_GLOBAL, 0, 0) } != 0 {
        thread::sleep(INSTEAD);
    }
}

impl Dataplane for KernelDataplane {
    fn tables(&self) -> &Tables {
        &self.tables
    }

    fn set_device(&mut self, ifindex: Ifindex, present: bool) -> Result<()> {
        if present {
            self.devices
                .set(ifindex, ifindex, None, 0)
                .with_context(|| format!("cannot make ifindex {ifindex} an egress of the redirect map"))
        } else {
            // Interface 0 empties the entry (kernel/bpf/devmap.c dev_map_update).
            self.devices
                .set(ifindex, 0, None, 0)
                .with_context(|| format!("cannot take ifindex {ifindex} out of the redirect map"))
        }
    }

    fn set_own_addresses(&mut self, addresses: &BTreeSet<u32>) -> Result<()> {
        let present: BTreeSet<u32> = self.own.keys().filter_map(Result::ok).collect();
        // An address counts only with its bit: first the entries, then the bits, then what is no longer there.
        for address in addresses.difference(&present) {
            self.own
                .insert(*address, 1, 0)
                .context("cannot note an own address: are there more than 4096?")?;
        }
        let mut bits = vec![0u64; flow::SELF_WORDS];
        for address in addresses {
            let (word, bit) = flow::self_bit(*address);
            bits[word] |= 1 << bit;
        }
        for (index, word) in bits.iter().enumerate() {
            self.tables
                .self_bits
                .u64(index * 8)
                .store(*word, std::sync::atomic::Ordering::Release);
        }
        for address in present.difference(addresses) {
            let _ = self.own.remove(address);
        }
        Ok(())
    }

    fn set_flows(&mut self, flows: &BTreeSet<Flow>) -> Result<()> {
        let present: BTreeSet<FlowKey> = self.flows.keys().filter_map(Result::ok).collect();
        let wanted: BTreeSet<FlowKey> = flows.iter().map(key).collect();
        for gone in present.difference(&wanted) {
            let _ = self.flows.remove(gone);
        }
        for new in wanted.difference(&present) {
            self.flows.insert(new, 1, 0).context("no room in PUNT_FLOWS")?;
        }
        Ok(())
    }

    fn wait_grace(&self) {
        wait_for_readers();
    }

    fn begin_grace(&mut self) {
        self.pending = self.begin.send(()).is_ok();
    }

    fn grace_pending(&self) -> bool {
        self.pending
    }

    fn grace_over(&mut self) -> bool {
        if self.pending && self.over.try_recv().is_ok() {
            self.pending = false;
            return true;
        }
        false
    }
}
