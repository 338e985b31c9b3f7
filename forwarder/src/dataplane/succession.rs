//! Another set of maps takes the place of the pinned one: of another layout (map ABI), or of other sizes.
//!
//! The set in force goes on forwarding while the other is filled beside it. Then each interface changes over by one
//! replacement of its program, and last the directories change names. Whatever ends the controller in between, packets are forwarded by one set
//! or the other, and the next start finds out from the names how far it came:
//!
//! ```text
//! maps, maps-next       being filled, or interfaces are changing over: goes on with maps-next if that is whole and wanted
//! maps-before, maps-next    all have changed over: maps-next becomes maps
//! maps-before, maps     maps-before is removed
//! ```

use std::{fs, io};

use anyhow::{Context, Result, bail};
use forwarder_common::directory::{ABI_VERSION, Meta, SOURCES};

use super::{
    Sizes,
    pins::{BEFORE, MAPS, NEXT, Pins},
};

/// The maps that a controller works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It made them: nothing was there.
    Nothing,
    /// They were there, and fit.
    Fitting,
    /// Others were there, which forward until these are filled.
    Others,
}

/// Why maps with this description are not what a controller asks for; `None` where they are.
pub fn differs(meta: &Meta, asked: Sizes) -> Option<String> {
    if meta.abi != ABI_VERSION {
        return Some(format!(
            "their layout is another version's (map ABI {}, this one has {ABI_VERSION})",
            meta.abi
        ));
    }
    let has = Sizes::of(meta);
    if has.cpus < asked.cpus {
        return Some(format!(
            "their counters are for {} CPUs, and there may be {} now",
            has.cpus, asked.cpus
        ));
    }
    if asked.sources && meta.features & SOURCES == 0 {
        return Some("they have no counters by source prefix, and [statistics] asks for them".into());
    }
    let sizes = |of: Sizes| {
        [
            ("slots", of.slots),
            ("blocks for IPv4", of.blocks4),
            ("blocks for IPv6", of.blocks6),
            ("groups", of.groups),
            ("next hops", of.nexthops),
            ("interfaces", of.ports),
        ]
    };
    let pairs = sizes(has).into_iter().zip(sizes(asked));
    let other: Vec<String> = pairs
        .filter(|((_, has), (_, asked))| has != asked)
        .map(|((what, has), (_, asked))| format!("{has} {what} and not {asked}"))
        .collect();
    (!other.is_empty()).then(|| format!("they have {}", other.join(", ")))
}

impl Pins {
    /// Goes on with a change of names that was interrupted.
    ///
    /// # Errors
    /// A directory can be neither renamed nor removed.
    pub(super) fn recover(&self) -> Result<()> {
        let [maps, before] = [MAPS, BEFORE].map(|name| self.dir().join(name));
        if !before.exists() {
            return Ok(());
        }
        if !self.current().exist() {
            if self.next().exist() {
                remove_empty(&maps)?;
                rename(self, NEXT, MAPS)?;
            } else {
                bail!(
                    "{} has neither {MAPS} nor {NEXT}: somebody removed them; run `forwarder detach`",
                    self.dir().display()
                );
            }
        }
        remove(&before)
    }

    /// These maps take the place of those in force, whose programs no interface has any more.
    ///
    /// # Errors
    /// A directory can be neither renamed nor removed; the next start goes on.
    pub fn promote(&self) -> Result<()> {
        rename(self, MAPS, BEFORE)?;
        rename(self, NEXT, MAPS)?;
        remove(&self.dir().join(BEFORE))
    }

    /// Forgets maps that were to take the place of those in force.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn forget_next(&self) -> Result<()> {
        remove(&self.dir().join(NEXT))
    }
}

fn rename(pins: &Pins, from: &str, to: &str) -> Result<()> {
    let [from, to] = [from, to].map(|name| pins.dir().join(name));
    fs::rename(&from, &to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

fn remove_empty(directory: &std::path::Path) -> Result<()> {
    match fs::remove_dir(directory) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            Err(why).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// A directory and what is in it: pins, no directories.
fn remove(directory: &std::path::Path) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("cannot read {}", directory.display()))?,
    };
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", directory.display()))?
            .path();
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    remove_empty(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(sizes: Sizes) -> Meta {
        Meta {
            abi: ABI_VERSION,
            slots: sizes.slots,
            blocks4: sizes.blocks4,
            blocks6: sizes.blocks6,
            groups: sizes.groups,
            nexthops: sizes.nexthops,
            ports: sizes.ports,
            cpus: sizes.cpus,
            features: if sizes.sources { SOURCES } else { 0 },
            ..Meta::default()
        }
    }

    #[test]
    fn maps_fit_unless_layout_or_sizes_are_others() {
        let asked = Sizes::SMALL;
        assert_eq!(differs(&meta(asked), asked), None);
        // More than is asked for does no harm where it costs a change to be rid of it.
        let more = Sizes {
            cpus: asked.cpus + 1,
            sources: true,
            ..asked
        };
        assert_eq!(differs(&meta(more), asked), None);
        let why = |meta: &Meta, asked| differs(meta, asked).expect("a reason");
        let old = Meta {
            abi: ABI_VERSION - 1,
            ..meta(asked)
        };
        assert!(why(&old, asked).contains("map ABI"));
        assert!(why(&meta(asked), Sizes { cpus: 64, ..asked }).contains("2 CPUs"));
        assert!(
            why(
                &meta(asked),
                Sizes {
                    sources: true,
                    ..asked
                }
            )
            .contains("source")
        );
        let larger = Sizes {
            slots: asked.slots * 2,
            ports: asked.ports + 1,
            ..asked
        };
        let sentence = why(&meta(asked), larger);
        assert!(
            sentence.contains("slots") && sentence.contains("interfaces") && !sentence.contains("groups"),
            "{sentence}"
        );
    }

    #[test]
    fn an_interrupted_change_of_names_is_gone_on_with_from_wherever_it_was() -> Result<()> {
        // Plain directories: which file system they are on does not matter here.
        for step in 0..4 {
            let place = std::env::temp_dir().join(format!("forwarder-names-{}-{step}", std::process::id()));
            let pins = Pins::new(&place);
            for name in [MAPS, NEXT] {
                fs::create_dir_all(place.join(name))?;
                fs::write(place.join(name).join("META"), name)?;
            }
            let steps: [&dyn Fn() -> Result<()>; 3] = [
                &|| rename(&pins, MAPS, BEFORE),
                &|| rename(&pins, NEXT, MAPS),
                &|| remove(&place.join(BEFORE)),
            ];
            for step in &steps[..step] {
                step()?;
            }
            // The start makes the directory again before it looks; so may an earlier one that was killed there.
            if step == 1 {
                fs::create_dir_all(place.join(MAPS))?;
            }
            pins.recover()?;
            let content = fs::read_to_string(place.join(MAPS).join("META"))?;
            assert_eq!(content, if step == 0 { MAPS } else { NEXT }, "after step {step}");
            assert!(!place.join(BEFORE).exists());
            assert_eq!(place.join(NEXT).exists(), step == 0);
            fs::remove_dir_all(&place)?;
        }
        Ok(())
    }
}
