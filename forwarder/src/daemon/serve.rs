//! The thread that serves API, metrics, signals and the program's log.

use std::sync::{
    Arc, RwLock,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::{RunOptions, TICK, asks::Asker, state::State};
use crate::{
    api::{Api, ApiContext, ProgramCost},
    dataplane::{attach::Programs, pins::Pins, program::XDP},
    driver::Drivers,
    stats::{LinkStats, rates::Live},
};

/// What the API tells that is not in the maps.
pub struct Known {
    /// The controller's own knowledge.
    pub state: Arc<RwLock<State>>,
    /// What drivers say.
    pub link_stats: Arc<LinkStats>,
    /// What only the engine can answer.
    pub asker: Asker,
    /// What moved lately.
    pub live: Arc<RwLock<Arc<Live>>>,
    /// What SIGHUP asks for.
    pub again: Box<dyn Fn() + Send>,
}

/// What drivers say, by a socket of its own.
pub fn driver_counts() -> Result<Arc<LinkStats>> {
    let drivers = Drivers::open()?;
    Ok(Arc::new(move |ifindex| drivers.counts(ifindex)))
}

/// Asks the kernel what the program cost, where the administrator has it counted. Only he may: to enable it takes
/// CAP_SYS_ADMIN.
fn program_cost(pins: &Pins) -> Box<dyn Fn() -> Option<ProgramCost> + Send + Sync> {
    let pin = pins.programs().join(XDP);
    Box::new(move || {
        let enabled = std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").ok()?;
        if enabled.trim() == "0" {
            return None;
        }
        let info = aya::programs::ProgramInfo::from_pin(&pin).ok()?;
        Some(ProgramCost {
            nanoseconds: info.run_time().as_nanos() as u64,
            runs: info.run_count(),
        })
    })
}

/// Starts it.
///
/// # Errors
/// An address that cannot be served on, or the kernel's refusal.
pub fn serve(
    pins: &Pins,
    options: &RunOptions,
    programs: &mut Programs,
    known: Known,
    stop: Arc<AtomicBool>,
) -> Result<std::thread::JoinHandle<()>> {
    let Known {
        state,
        link_stats,
        asker,
        live,
        again,
    } = known;
    let context = ApiContext {
        tables: Arc::new(pins.open(false)?),
        state,
        link_stats: Box::new(move |ifindex| link_stats(ifindex)),
        candidates: Box::new(move |selection| asker.ask(selection)),
        live,
        metrics: options.config.metrics.clone(),
        program_cost: program_cost(pins),
    };
    let mut logger = aya_log::EbpfLogger::init(programs.ebpf()).ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("api")
        .enable_all()
        .build()
        .context("cannot start the API's threads")?;
    let (api, [mut terminate, mut hang_up]) = runtime.block_on(async {
        let api = Api::bind(&options.socket, &options.config.api).await?;
        let terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
        let hang_up = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
        Ok::<_, anyhow::Error>((api, [terminate, hang_up]))
    })?;
    std::thread::Builder::new()
        .name("server".into())
        .spawn(move || {
            runtime.block_on(async move {
                let (end, ended) = tokio::sync::oneshot::channel::<()>();
                let server = tokio::spawn(api.serve(Arc::new(context), async {
                    let _ = ended.await;
                }));
                let mut tick = tokio::time::interval(TICK);
                while !stop.load(Ordering::Relaxed) {
                    tokio::select! {
                        _ = tokio::signal::ctrl_c() => stop.store(true, Ordering::Relaxed),
                        _ = terminate.recv() => stop.store(true, Ordering::Relaxed),
                        _ = hang_up.recv() => again(),
                        _ = tick.tick() => if let Some(logger) = &mut logger { logger.flush() },
                    }
                }
                let _ = end.send(());
                let _ = server.await;
            });
        })
        .context("cannot start the server thread")
}
