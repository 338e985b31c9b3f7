//! Attachments: XDP links and tracepoint links, pinned so that they outlive the controller.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Ebpf,
    programs::{
        ProgramError, ProgramInfo, RawTracePoint, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};
use aya_obj::programs::XdpAttachType;

use super::{
    Sizes,
    pins::Pins,
    program::{self, Purpose, TRACEPOINTS, XDP},
    refusal,
};
use crate::source::event::Ifindex;

/// How a pinned program's second name begins; behind it is the set of maps that it is on.
const OF_SET: &str = "of-";

/// What attaching found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The interface carried no program of ours.
    New,
    /// It carried this very program.
    Kept,
    /// It carried another build of it, replaced in one step.
    Replaced,
    /// It carries one with other maps, which forwards until those of this one are filled.
    Waiting,
}

/// The loaded programs.
pub struct Programs {
    ebpf: Ebpf,
    pins: Pins,
    /// The pinned program's second name, where it is on these maps.
    of_set: PathBuf,
    /// Id of the pinned program, where that is the one this build would load, on the same maps.
    same: Option<u32>,
    /// Interfaces that change over when these maps are filled: name, and whether in generic mode.
    waiting: BTreeMap<Ifindex, (String, bool)>,
}

impl Programs {
    /// Loads the programs on the pinned maps; tells whether an earlier controller loaded the same.
    ///
    /// # Errors
    /// The kernel's or the verifier's refusal.
    pub fn load(pins: &Pins, sizes: Sizes) -> Result<Programs> {
        let mut opened = program::open(pins, sizes, Purpose::Live)?;
        let ebpf = &mut opened.ebpf;
        let xdp: &mut Xdp = ebpf
            .program_mut(XDP)
            .context("the object has no XDP program")?
            .try_into()?;
        program::load(XDP, || xdp.load())?;
        let tag = xdp.info().context("cannot examine the loaded program")?.tag();
        for name in TRACEPOINTS {
            let tracepoint: &mut RawTracePoint = ebpf
                .program_mut(name)
                .with_context(|| format!("the object has no {name}"))?
                .try_into()?;
            program::load(name, || tracepoint.load())?;
        }
        // The tag does not tell the maps, whose addresses are no part of it (`bpf_prog_calc_tag`, kernel/bpf/core.c), and to ask for them
        // takes CAP_SYS_ADMIN: a second name does, which has the set in it.
        let of_set = pins.programs().join(format!("{OF_SET}{:016x}", pins.meta()?.set));
        let info = |path: &Path| ProgramInfo::from_pin(path).ok();
        let same = info(&pins.programs().join(XDP))
            .filter(|pinned| pinned.tag() == tag)
            .map(|pinned| pinned.id())
            .filter(|id| info(&of_set).is_some_and(|other| other.id() == *id));
        Ok(Programs {
            ebpf: opened.ebpf,
            pins: pins.clone(),
            of_set,
            same,
            waiting: BTreeMap::new(),
        })
    }

    /// The object, for its log.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Runs a frame through the live program: its counters move. For tests; `trace` uses a
    /// [`super::tracer::Tracer`].
    ///
    /// # Errors
    /// As [`super::tracer::run_frame`].
    pub fn run(&self, ifindex: Ifindex, packet: &[u8]) -> Result<(u32, Vec<u8>)> {
        let program: &Xdp = self
            .ebpf
            .program(XDP)
            .context("the object has no XDP program")?
            .try_into()?;
        super::tracer::run_frame(program, ifindex, packet)
    }

    /// The same of a frame of which so many octets are in the first buffer.
    ///
    /// # Errors
    /// As [`Self::run`]; and on Linux before 6.18, most of them.
    pub fn run_split(&self, ifindex: Ifindex, packet: &[u8], first: usize) -> Result<(u32, Vec<u8>)> {
        let program: &Xdp = self
            .ebpf
            .program(XDP)
            .context("the object has no XDP program")?
            .try_into()?;
        super::tracer::run_split(program, ifindex, packet, first)
    }

    /// Instructions the verifier looked at for the XDP program.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn verified_instructions(&self) -> Result<u32> {
        program::verified_instructions(&self.ebpf, XDP)
    }

    fn xdp(&mut self) -> Result<&mut Xdp> {
        Ok(self
            .ebpf
            .program_mut(XDP)
            .context("the object has no XDP program")?
            .try_into()?)
    }

    fn link_pin(&self, ifindex: Ifindex) -> PathBuf {
        self.pins.links().join(format!("xdp-{ifindex}"))
    }

    /// Interfaces with a pinned link.
    pub fn pinned(&self) -> Vec<Ifindex> {
        self.pins.attached()
    }

    /// Attaches the program to an interface, or takes over the pinned link. Never falls back to another mode.
    ///
    /// # Errors
    /// The driver's refusal, with what to do.
    pub fn attach(&mut self, ifindex: Ifindex, ifname: &str, generic: bool) -> Result<Attached> {
        let path = self.link_pin(ifindex);
        if path.exists() {
            if self.pins.are_next() {
                self.waiting.insert(ifindex, (ifname.to_string(), generic));
                return Ok(Attached::Waiting);
            }
            let link =
                PinnedLink::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
            let link = FdLink::from(link);
            // Each link by itself: an earlier controller may have been killed between two.
            let carried = link
                .info()
                .with_context(|| format!("cannot examine {}", path.display()))?;
            if self.same == Some(carried.program_id()) {
                return Ok(Attached::Kept);
            }
            let link = XdpLink::try_from(link).context("the pinned link is no XDP link")?;
            let xdp = self.xdp()?;
            match xdp.attach_to_link(link) {
                Ok(id) => {
                    // The pin keeps the link; dropping the descriptor does not detach it.
                    drop(xdp.take_link(id)?);
                    return Ok(Attached::Replaced);
                }
                // The device the link was for is gone: its number was given to another.
                Err(ProgramError::SyscallError(why))
                    if why.io_error.raw_os_error() == Some(libc::ENOLINK) =>
                {
                    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                }
                Err(why) => {
                    return Err(why).with_context(|| format!("cannot replace the program on {ifname}"));
                }
            }
        }
        let mode = if generic { XdpMode::Skb } else { XdpMode::Driver };
        let xdp = self.xdp()?;
        let id = xdp
            .attach_to_if_index(ifindex, mode)
            .map_err(|why| refusal::attach(ifindex, ifname, generic, why))?;
        let link = xdp.take_link(id)?;
        // An attachment by netlink, to which aya falls back, could not be pinned and would die with us.
        let link = FdLink::try_from(link).map_err(|_| {
            anyhow!("the kernel offers no BPF link for {ifname}: forwarder needs Linux 5.18 or later")
        })?;
        link.pin(&path)
            .with_context(|| format!("cannot pin the link of {ifname} at {}", path.display()))?;
        Ok(Attached::New)
    }

    /// Takes the program off an interface.
    ///
    /// # Errors
    /// The pin cannot be removed.
    pub fn detach(&mut self, ifindex: Ifindex) -> Result<()> {
        self.waiting.remove(&ifindex);
        let path = self.link_pin(ifindex);
        if path.exists() {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Attaches the tracepoint programs, or keeps those of the same build. Answers whether they were attached anew (and
    /// so may have missed something).
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach_tracepoints(&mut self) -> Result<bool> {
        let mut anew = false;
        for name in TRACEPOINTS {
            let (path, next) = (self.tracepoint_pin(name, false), self.tracepoint_pin(name, true));
            let is_ours = self.same.is_some();
            if is_ours && next.exists() {
                fs::rename(&next, &path).with_context(|| format!("cannot rename {}", next.display()))?;
            }
            if is_ours && path.exists() {
                continue;
            }
            // Each program looks at what is redirected by its own maps: those of before go on counting for those.
            let (path, left) = if self.pins.are_next() {
                (next.clone(), None)
            } else {
                (path, Some(next))
            };
            for old in std::iter::once(&path).chain(&left).filter(|old| old.exists()) {
                fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
            }
            anew = true;
            let program: &mut RawTracePoint = self
                .ebpf
                .program_mut(name)
                .with_context(|| format!("the object has no {name}"))?
                .try_into()?;
            let id = program.attach(name).with_context(|| {
                format!("cannot attach to the tracepoint xdp:{name}: is CAP_PERFMON missing?")
            })?;
            let link: FdLink = program.take_link(id)?.into();
            link.pin(&path)
                .with_context(|| format!("cannot pin {}", path.display()))?;
        }
        Ok(anew)
    }

    fn tracepoint_pin(&self, name: &str, next: bool) -> PathBuf {
        let start = if next { "next-tp" } else { "tp" };
        self.pins.links().join(format!("{start}-{name}"))
    }

    /// Every interface changes over to these maps, which are filled, and they take the place of those of before. All interfaces or
    /// none: where one cannot, those that had changed over get their program back.
    ///
    /// # Errors
    /// What the driver says of one of them, or a pin that cannot be written: the next start goes on from there.
    pub fn change_over(&mut self) -> Result<()> {
        let current = self.pins.current();
        let next = std::mem::replace(&mut self.pins, current);
        let waiting = std::mem::take(&mut self.waiting);
        let mut changed: Vec<Ifindex> = Vec::new();
        for (ifindex, (ifname, generic)) in &waiting {
            if let Err(why) = self.attach(*ifindex, ifname, *generic) {
                let back = changed.iter().try_for_each(|ifindex| self.give_back(*ifindex));
                self.pins = next;
                return match back {
                    Ok(()) => Err(why),
                    Err(worse) => Err(why).context(format!("{worse:#}; and before that")),
                };
            }
            changed.push(*ifindex);
        }
        self.settle()?;
        for name in TRACEPOINTS {
            let (path, next) = (self.tracepoint_pin(name, false), self.tracepoint_pin(name, true));
            if next.exists() {
                fs::rename(&next, &path).with_context(|| format!("cannot rename {}", next.display()))?;
            }
        }
        self.pins.promote()
    }

    /// The pinned program, which it had before, on an interface.
    fn give_back(&self, ifindex: Ifindex) -> Result<()> {
        let path = self.pins.programs().join(XDP);
        let mut before = Xdp::from_pin(&path, XdpAttachType::Interface)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let path = self.link_pin(ifindex);
        let link = PinnedLink::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let link = XdpLink::try_from(FdLink::from(link)).context("the pinned link is no XDP link")?;
        let id = before.attach_to_link(link)?;
        drop(before.take_link(id)?);
        Ok(())
    }

    /// Notes that the pinned links carry this build, once all of them do.
    ///
    /// # Errors
    /// The pin cannot be written.
    pub fn settle(&mut self) -> Result<()> {
        if self.same.is_some() || self.pins.are_next() {
            return Ok(());
        }
        let (directory, of_set) = (self.pins.programs(), self.of_set.clone());
        let entries =
            fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name == XDP || name.to_string_lossy().starts_with(OF_SET) {
                let path = entry.path();
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        let xdp = self.xdp()?;
        let id = xdp.info().context("cannot examine the loaded program")?.id();
        for path in [directory.join(XDP), of_set] {
            xdp.pin(&path)
                .with_context(|| format!("cannot pin {}", path.display()))?;
        }
        self.same = Some(id);
        Ok(())
    }
}

/// Removes everything from the kernel.
///
/// # Errors
/// A controller runs, or a pin cannot be removed.
pub fn detach_all(pins: &Pins) -> Result<Vec<String>> {
    if !pins.dir().exists() {
        bail!(
            "nothing to detach: there are no pins in {}; a controller with others was started with --bpffs",
            pins.dir().display()
        );
    }
    let _lock = pins.lock_existing()?;
    pins.remove()
}
