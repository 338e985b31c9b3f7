//! Which tables a start works on; and where others are in force than are wanted, when those that are filled beside them take their
//! place.
//!
//! Those in force go on forwarding for `max-age`, as they do whenever the controller is away: what they say is not kept true any more, and
//! behind that the kernel forwards. So nothing is won by waiting longer for a source that has not spoken.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tracing::info;

use super::sampler;
use crate::{
    config::Config,
    dataplane::{
        Tables,
        pins::{Pins, network_namespace, possible_cpus},
        succession::{Found, differs},
    },
};

/// What a start works on.
pub struct Prepared {
    /// The maps.
    pub pins: Pins,
    /// What was there before.
    pub found: Found,
    /// This start made them.
    pub made: bool,
    /// Why those that were found are not used.
    pub why: String,
}

/// Makes the maps, or finds those that are there.
///
/// # Errors
/// They belong to another network namespace, are damaged, or the kernel refuses to make more.
pub fn prepare(pins: &Pins, config: &Config) -> Result<Prepared> {
    let netns = network_namespace()?;
    let sizes = config.tables.sizes(possible_cpus()?);
    let prepared = |pins: &Pins, found, made, why| Prepared {
        pins: pins.clone(),
        found,
        made,
        why,
    };
    if !pins.exist() {
        info!(mebibytes = sizes.memory() >> 20, "making the tables");
        pins.create(sizes, netns)?;
        return Ok(prepared(pins, Found::Nothing, true, String::new()));
    }
    let meta = pins.any_meta()?;
    if meta.netns != netns {
        bail!(
            "the pins in {} belong to another network namespace (net:[{}], this one is net:[{netns}]): \
             give this controller its own with --bpffs",
            pins.dir().display(),
            meta.netns
        );
    }
    let Some(why) = differs(&meta, sizes) else {
        info!("adopting the tables in {}", pins.dir().display());
        pins.forget_next()?;
        pins.renew_devices()?;
        return Ok(prepared(pins, Found::Fitting, false, String::new()));
    };
    let next = pins.next();
    // Some interfaces may have changed over to them when the controller before this one ended.
    let there = next.exist() && next.any_meta().is_ok_and(|meta| differs(&meta, sizes).is_none());
    info!(
        mebibytes = sizes.memory() >> 20,
        "the tables in force stay so until others are filled beside them, because {why}"
    );
    if !there {
        pins.forget_next()?;
        next.create(sizes, netns)?;
    }
    Ok(prepared(&next, Found::Others, !there, why))
}

/// Tables that are filled beside others.
pub struct Succession {
    /// Why.
    why: String,
    /// Those in force, where this version can read them.
    before: Option<Tables>,
    /// When they stop forwarding.
    until: Option<Instant>,
    /// What the sampler of the new ones needs, which begins with them.
    needs: sampler::Needs,
}

impl Succession {
    /// Begins now.
    pub fn new(prepared: &Prepared, max_age: Duration, needs: sampler::Needs) -> Succession {
        Succession {
            why: prepared.why.clone(),
            before: prepared.pins.current().open(false).ok(),
            until: (!max_age.is_zero()).then(|| Instant::now() + max_age),
            needs,
        }
    }

    /// Whether those in force forward nothing any more, so that there is nothing to wait for.
    pub fn is_late(&self) -> bool {
        self.until.is_some_and(|at| Instant::now() >= at)
    }

    /// For `status`.
    pub fn sentence(&self, awaited: &[String]) -> String {
        let left = self.until.map_or(String::new(), |at| {
            let seconds = at.saturating_duration_since(Instant::now()).as_secs();
            format!(", and in {seconds} s at the latest")
        });
        let awaited = if awaited.is_empty() {
            String::new()
        } else {
            format!("; waited for: {}", awaited.join(", "))
        };
        format!(
            "new tables are being filled, because of those in force {}. These go on forwarding, with the routes of when this \
             controller started; interfaces change over when the new ones are whole{left}{awaited}",
            self.why
        )
    }

    /// The new tables are in force: what the others counted goes to the history, and the sampler begins.
    ///
    /// # Errors
    /// No thread begins.
    pub fn finish(self, pins: &Pins, told: &sampler::Told) -> Result<std::thread::JoinHandle<()>> {
        let Succession { before, needs, .. } = self;
        if let Some(before) = before {
            sampler::close(before, needs.clone());
        }
        let tables = pins.open(false)?;
        if sampler::is_kept(&needs.config, needs.by_default) {
            sampler::write_readings(&needs.readings, &needs.journal, &tables);
        }
        sampler::start(pins, needs, told)
    }
}

/// The seed of the flow hash of the tables whose place these are to take: with another one, every flow would move.
pub fn seed(pins: &Pins) -> Option<u32> {
    if !pins.are_next() {
        return None;
    }
    let before = pins.current().open(false).ok()?;
    Some(before.settings.get(0).hash_seed).filter(|seed| *seed != 0)
}
