//! The controller's start in this process, where a clock can be put around any part of it.

use std::sync::Arc;

use anyhow::{Context, Result};
use forwarder::config::{self, Config};
use forwarder::daemon::{engine::Engine, interfaces::Interfaces, load};
use forwarder::dataplane::Dataplane;
use forwarder::dataplane::attach::Programs;
use forwarder::dataplane::kernel::KernelDataplane;
use forwarder::dataplane::pins::{Lock, Pins, network_namespace, possible_cpus};
use forwarder::netlink::dump::dump_links;
use forwarder::source::kernel::KernelSource;
use forwarder::source::route_tables::RouteTables;

use crate::router::{Router, configuration};
use crate::run::{Taken, clocked};

/// What the controller is made of, once it has started.
pub struct Controller {
    /// The logic, and the data path.
    pub engine: Engine<KernelDataplane>,
    /// Interfaces and the loaded program.
    pub interfaces: Interfaces,
    _source: KernelSource,
    _lock: Lock,
}

/// Empty maps of the default sizes in the place of whatever is pinned there.
///
/// # Errors
/// The kernel's refusal, or a controller runs on them.
pub fn fresh(pins: &Pins) -> Result<(Lock, Config)> {
    if pins.exist() {
        pins.remove()?;
    }
    let lock = pins.lock()?;
    let config = config::parse("the bench's configuration", &configuration())?;
    pins.create(config.tables.sizes(possible_cpus()?), network_namespace()?)?;
    Ok((lock, config))
}

/// Starts on empty maps with the program on the interfaces. Answers also how long it took to lay the kernel's routes, from
/// before the dump until every packet is forwarded by them; maps, program and interfaces were there before.
///
/// # Errors
/// What the controller would end with.
pub fn start(router: &Router) -> Result<(Controller, Taken)> {
    let (lock, config) = fresh(&router.pins)?;
    let dataplane = KernelDataplane::open(&router.pins)?;
    let programs = Programs::load(&router.pins, dataplane.tables().sizes)?;
    let (mut engine, adopting) = clocked(|| Engine::new(dataplane))?;
    let mut interfaces = Interfaces::new(config, programs, Arc::default())?;
    let mut source = KernelSource::open(RouteTables::default())?;
    interfaces.start(&mut engine, &dump_links()?)?;
    let ((), laying) = clocked(|| {
        // As the controller does it at its start.
        load(&mut source, &mut engine).context("cannot read the kernel's routes")?;
        interfaces.describe(&mut engine);
        Ok(())
    })?;
    let taken = Taken {
        seconds: adopting.seconds + laying.seconds,
        cpu: adopting.cpu + laying.cpu,
    };
    let controller = Controller {
        engine,
        interfaces,
        _source: source,
        _lock: lock,
    };
    Ok((controller, taken))
}
