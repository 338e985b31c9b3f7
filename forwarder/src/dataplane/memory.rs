//! The in-memory twin of the data path: what the controller's logic is tested on, without root.

use std::collections::BTreeSet;

use forwarder_common::punt::Flow;

use super::{Dataplane, Sizes, Tables};
use crate::source::event::Ifindex;

/// Tables on the heap; devices and addresses in sets.
pub struct MemoryDataplane {
    tables: Tables,
    /// Devices in the redirect map.
    pub devices: BTreeSet<Ifindex>,
    waiting: bool,
    /// Own addresses.
    pub own_addresses: BTreeSet<u32>,
    /// What punt protection exempts.
    pub flows: BTreeSet<Flow>,
}

impl MemoryDataplane {
    /// An empty data path.
    pub fn new(sizes: Sizes) -> MemoryDataplane {
        MemoryDataplane {
            tables: Tables::heap(sizes),
            devices: BTreeSet::new(),
            waiting: false,
            own_addresses: BTreeSet::new(),
            flows: BTreeSet::new(),
        }
    }
}

impl Dataplane for MemoryDataplane {
    fn tables(&self) -> &Tables {
        &self.tables
    }

    fn set_device(&mut self, ifindex: Ifindex, present: bool) -> anyhow::Result<()> {
        if present {
            self.devices.insert(ifindex)
        } else {
            self.devices.remove(&ifindex)
        };
        Ok(())
    }

    fn set_own_addresses(&mut self, addresses: &BTreeSet<u32>) -> anyhow::Result<()> {
        self.own_addresses.clone_from(addresses);
        Ok(())
    }

    fn set_flows(&mut self, flows: &BTreeSet<Flow>) -> anyhow::Result<()> {
        self.flows.clone_from(flows);
        Ok(())
    }

    fn wait_grace(&self) {}

    fn begin_grace(&mut self) {
        self.waiting = true;
    }

    fn grace_pending(&self) -> bool {
        self.waiting
    }

    fn grace_over(&mut self) -> bool {
        std::mem::take(&mut self.waiting)
    }
}
