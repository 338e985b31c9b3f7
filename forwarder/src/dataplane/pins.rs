//! The pinned maps: made once, found again by every later controller, removed only by `forwarder detach`.
//!
//! ```text
//! DIR/maps/NAME        every shared map; META is written last, so a half-made set is known
//! DIR/maps-next/NAME   the same while a set of another layout is filled (`succession`)
//! DIR/links/...        attachments
//! DIR/programs/...     the programs behind them
//! ```

use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io,
    os::fd::{AsFd, AsRawFd},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{DevMap, Map, MapData};
use aya_obj::{
    EbpfSectionKind,
    generated::bpf_map_type,
    maps::{LegacyMap, PinningType, bpf_map_def},
};
use forwarder_common::{
    directory::{ABI_VERSION, MAGIC, Meta, SEVERAL_BUFFERS, SOURCES},
    interface::IFINDEX_MAX,
    maps, punt, sample,
};

use super::{Array, Region, Sizes, Tables};
use crate::source::event::Ifindex;

/// Where pins are, unless somebody says otherwise.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/forwarder";

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;
/// `BPF_F_RDONLY_PROG`.
const READ_ONLY: u32 = 1 << 7;
/// `BPF_FS_MAGIC`, include/uapi/linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// Own addresses a router may have.
const OWN_ADDRESSES: u32 = 4096;
/// Octets of the program's log ring.
const LOG_OCTETS: u32 = 1 << 17;
/// The maps in force.
pub(super) const MAPS: &str = "maps";
/// Maps that are to take their place.
pub(super) const NEXT: &str = "maps-next";
/// Maps that were in force, for as long as it takes to remove them.
pub(super) const BEFORE: &str = "maps-before";
/// The redirect map that is to take the other's place.
const NEW_DEVICES: &str = "DEVICES_NEW";
/// The log ring, named by aya-log.
pub const LOGS: &str = "AYA_LOGS";

/// A pin directory.
#[derive(Clone, Debug)]
pub struct Pins {
    dir: PathBuf,
    /// Directory of the maps in there.
    maps: &'static str,
}

/// Keeps a second controller away for as long as it lives, even if the process is killed.
#[derive(Debug)]
pub struct Lock {
    _directory: File,
}

impl Pins {
    /// The pin directory at `dir`.
    pub fn new(dir: &Path) -> Pins {
        Pins {
            dir: dir.to_path_buf(),
            maps: MAPS,
        }
    }

    /// The same directory with the maps that are to take the place of those in it.
    pub fn next(&self) -> Pins {
        Pins {
            maps: NEXT,
            ..self.clone()
        }
    }

    /// The same directory with the maps that are in force.
    pub fn current(&self) -> Pins {
        Pins {
            maps: MAPS,
            ..self.clone()
        }
    }

    /// Whether these maps are to take the place of others.
    pub fn are_next(&self) -> bool {
        self.maps == NEXT
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a map is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where the maps are pinned.
    pub fn maps(&self) -> PathBuf {
        self.dir.join(self.maps)
    }

    /// Where links are pinned.
    pub fn links(&self) -> PathBuf {
        self.dir.join("links")
    }

    /// Where programs are pinned.
    pub fn programs(&self) -> PathBuf {
        self.dir.join("programs")
    }

    /// Whether there is a complete set of maps.
    pub fn exist(&self) -> bool {
        self.map(maps::META).exists()
    }

    /// Makes the directory and takes the lock.
    ///
    /// # Errors
    /// No bpffs, no permission, or another controller holds it.
    pub fn lock(&self) -> Result<Lock> {
        let parent = self
            .dir
            .ancestors()
            .find(|dir| dir.exists())
            .unwrap_or(Path::new("/"));
        if !is_bpffs(parent)? {
            bail!(
                "{} is not on a BPF file system: pins would not outlive the controller.\n\
                 Mount one with `mount -t bpf bpf /sys/fs/bpf` (systemd does so at boot), or name another with --bpffs",
                self.dir.display()
            );
        }
        make(&self.dir)?;
        let lock = self.try_lock()?;
        // Whoever was here before may have been killed in the middle of that.
        self.recover()?;
        for dir in [self.maps(), self.links(), self.programs()] {
            make(&dir)?;
        }
        Ok(lock)
    }

    fn try_lock(&self) -> Result<Lock> {
        let directory =
            File::open(&self.dir).map_err(|why| permission(why, &format!("open {}", self.dir.display())))?;
        // SAFETY: flock on an open descriptor.
        if unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let why = io::Error::last_os_error();
            if why.kind() == io::ErrorKind::WouldBlock {
                bail!(
                    "another controller runs on {}: stop it first, or give this one other pins with --bpffs",
                    self.dir.display()
                );
            }
            return Err(why).with_context(|| format!("cannot lock {}", self.dir.display()));
        }
        Ok(Lock {
            _directory: directory,
        })
    }

    /// Opens the maps that are there.
    ///
    /// # Errors
    /// None are there, they are of another version, or the kernel refuses.
    pub fn open(&self, writable: bool) -> Result<Tables> {
        let meta = self.meta()?;
        let sizes = Sizes::of(&meta);
        let expected = sizes.arrays()?;
        Tables::open(sizes, |name, octets| {
            let map = self.data(name)?;
            let info = map
                .info()
                .with_context(|| format!("cannot examine {}", self.map(name).display()))?;
            let (_, entries, size) = expected
                .iter()
                .find(|(known, ..)| *known == name)
                .copied()
                .context("a map without a size")?;
            if (info.max_entries(), info.value_size()) != (entries, size) {
                bail!(
                    "{} is {} x {} octets where META says {entries} x {size}: the pins are damaged; \
                     run `forwarder detach`",
                    self.map(name).display(),
                    info.max_entries(),
                    info.value_size()
                );
            }
            Region::map(map.fd().as_fd(), octets, writable)
                .with_context(|| format!("cannot map {} into memory", self.map(name).display()))
        })
    }

    /// ABI and sizes of the maps that are there.
    ///
    /// # Errors
    /// None are there, or they are of another version.
    pub fn meta(&self) -> Result<Meta> {
        let meta = self.any_meta()?;
        if meta.abi != ABI_VERSION {
            if self.next().exist() {
                bail!(
                    "the tables in {} are another version's (map ABI {}, this one has {ABI_VERSION}), and new ones are being \
                     filled: ask again in a moment",
                    self.maps().display(),
                    meta.abi
                );
            }
            bail!(
                "the tables in {} were made by another version of forwarder (map ABI {}, this one has {ABI_VERSION}), which packets \
                 go on being forwarded by. A controller of this version makes its own beside them and changes over: \
                 `systemctl restart forwarder`",
                self.maps().display(),
                meta.abi
            );
        }
        Ok(meta)
    }

    /// The same of maps of any version: this is what never changes.
    ///
    /// # Errors
    /// None are there.
    pub fn any_meta(&self) -> Result<Meta> {
        if !self.dir.exists() || !self.exist() {
            bail!(
                "no forwarder is loaded: there are no pins in {}. Start one with `forwarder run`, \
                 or say where its pins are with --bpffs",
                self.dir.display()
            );
        }
        let map = self.data(maps::META)?;
        let region = Region::map(map.fd().as_fd(), size_of::<Meta>(), false)
            .map_err(|why| permission(why, &format!("read {}", self.map(maps::META).display())))?;
        let meta: Meta = super::Array::new(region, 1).get(0);
        if meta.magic != MAGIC {
            bail!(
                "the pins in {} are not whole: run `forwarder detach`",
                self.dir.display()
            );
        }
        Ok(meta)
    }

    /// A pinned map.
    ///
    /// # Errors
    /// It is not there or may not be opened.
    pub fn data(&self, name: &str) -> Result<MapData> {
        let path = self.map(name);
        MapData::from_pin(&path).map_err(|why| {
            let permission = matches!(&why, aya::maps::MapError::SyscallError(inner)
                if matches!(inner.io_error.raw_os_error(), Some(libc::EPERM | libc::EACCES)));
            let error = anyhow!(why).context(format!("cannot open the pinned map {}", path.display()));
            if permission {
                error.context("permission denied: run as root, or with CAP_BPF and CAP_NET_ADMIN")
            } else {
                error
            }
        })
    }

    /// Makes the maps. What an earlier controller left half made is made anew.
    ///
    /// # Errors
    /// The kernel's refusal, as a sentence.
    pub fn create(&self, sizes: Sizes, netns: u64) -> Result<()> {
        let arrays = sizes.arrays()?;
        make(&self.maps())?;
        for name in all_names() {
            let path = self.map(name);
            if path.exists() {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        let array = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
        for (name, entries, size) in arrays.into_iter().filter(|(name, ..)| *name != maps::META) {
            self.create_map(name, array, (4, size), entries, MMAPABLE)?;
        }
        new_devices()?
            .pin(self.map(maps::DEVICES))
            .context("cannot pin DEVICES")?;
        let hash = bpf_map_type::BPF_MAP_TYPE_HASH as u32;
        self.create_map(maps::SELF_ADDRESSES, hash, (4, 4), OWN_ADDRESSES, 0)?;
        let flow = (size_of::<punt::Flow>() as u32, 4);
        self.create_map(maps::PUNT_FLOWS, hash, flow, punt::FLOWS, 0)?;
        let ring = bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
        self.create_map(LOGS, ring, (0, 0), LOG_OCTETS, 0)?;
        self.create_map(maps::SAMPLES, ring, (0, 0), sample::RING_OCTETS, 0)?;
        // Last, and its contents before its name: the name says that everything else is there.
        let meta = new_map(maps::META, array, (4, size_of::<Meta>() as u32), 1, MMAPABLE)?;
        let region = Region::map(meta.fd().as_fd(), size_of::<Meta>(), true).context("cannot map META")?;
        super::Array::new(region, 1).set(
            0,
            &Meta {
                magic: MAGIC,
                abi: ABI_VERSION,
                slots: sizes.slots,
                blocks4: sizes.blocks4,
                blocks6: sizes.blocks6,
                groups: sizes.groups,
                nexthops: sizes.nexthops,
                ports: sizes.ports,
                cpus: sizes.cpus,
                netns,
                features: SEVERAL_BUFFERS | if sizes.sources { SOURCES } else { 0 },
                set: RandomState::new().hash_one(SystemTime::now()) | 1,
            },
        );
        meta.pin(self.map(maps::META)).context("cannot pin META")?;
        Ok(())
    }

    /// Puts a redirect map in the place of one that an earlier version made. The kernel lets either programs use it that read frames in several
    /// buffers, or others (`bpf_prog_map_compatible`, kernel/bpf/core.c), and those of earlier versions were others. They keep the
    /// map that they have until they are replaced, and so does every device its entry.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn renew_devices(&self) -> Result<()> {
        let meta = self.meta()?;
        if meta.features & SEVERAL_BUFFERS != 0 {
            return Ok(());
        }
        let path = self.map(NEW_DEVICES);
        if path.exists() {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        let map = new_devices()?;
        map.pin(&path)
            .with_context(|| format!("cannot pin {}", path.display()))?;
        let mut devices = DevMap::try_from(Map::from_map_data(map)?).context("DEVICES")?;
        for ifindex in self.attached() {
            if let Err(why) = devices.set(ifindex, ifindex, None, 0) {
                // It has gone; one that comes back is attached, and entered, anew.
                tracing::debug!("no entry for ifindex {ifindex} in the new redirect map: {why}");
            }
        }
        fs::rename(&path, self.map(maps::DEVICES)).context("cannot put the new DEVICES in its place")?;
        let region = Region::map(self.data(maps::META)?.fd().as_fd(), size_of::<Meta>(), true)
            .context("cannot map META")?;
        let features = meta.features | SEVERAL_BUFFERS;
        Array::new(region, 1).set(0, &Meta { features, ..meta });
        Ok(())
    }

    /// Interfaces with a pinned link.
    pub fn attached(&self) -> Vec<Ifindex> {
        let Ok(entries) = fs::read_dir(self.links()) else {
            return Vec::new();
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter_map(|name| name.strip_prefix("xdp-")?.parse().ok())
            .collect()
    }

    fn create_map(&self, name: &str, kind: u32, sizes: (u32, u32), entries: u32, flags: u32) -> Result<()> {
        let map = new_map(name, kind, sizes, entries, flags)?;
        map.pin(self.map(name))
            .with_context(|| format!("cannot pin {}", self.map(name).display()))
    }

    /// Removes every pin. Links go first: with them the programs are off the interfaces.
    ///
    /// # Errors
    /// A pin that cannot be removed.
    pub fn remove(&self) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for sub in ["links", "programs", NEXT, BEFORE, MAPS] {
            let dir = self.dir.join(sub);
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                fs::remove_file(entry.path())
                    .map_err(|why| permission(why, &format!("remove {}", entry.path().display())))?;
                removed.push(format!("{sub}/{}", entry.file_name().to_string_lossy()));
            }
            fs::remove_dir(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        match fs::remove_dir(&self.dir) {
            Ok(()) => {}
            // The root of a bpffs cannot be removed; it is empty now.
            Err(why) if matches!(why.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::NotFound) => {}
            Err(why) => return Err(why).with_context(|| format!("cannot remove {}", self.dir.display())),
        }
        Ok(removed)
    }

    /// The lock, without making anything: for `detach`.
    ///
    /// # Errors
    /// A controller runs on these pins.
    pub fn lock_existing(&self) -> Result<Lock> {
        self.try_lock()
    }
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|why| permission(why, &format!("make {}", dir.display())))
}

/// The redirect map, empty.
fn new_devices() -> Result<MapData> {
    let kind = bpf_map_type::BPF_MAP_TYPE_DEVMAP as u32;
    new_map(maps::DEVICES, kind, (4, 8), IFINDEX_MAX, 0)
}

/// A map of no name in any file system.
fn new_map(name: &str, kind: u32, (key, value): (u32, u32), entries: u32, flags: u32) -> Result<MapData> {
    let definition = bpf_map_def {
        map_type: kind,
        key_size: key,
        value_size: value,
        max_entries: entries,
        map_flags: flags,
        id: 0,
        pinning: PinningType::None,
    };
    let map = aya_obj::Map::Legacy(LegacyMap {
        def: definition,
        inner_def: None,
        section_index: 0,
        section_kind: EbpfSectionKind::Maps,
        symbol_index: None,
        data: Vec::new(),
    });
    MapData::create(map, name, None).map_err(|why| {
        let octets = entries as u64 * (value as u64).next_multiple_of(8);
        let errno = match &why {
            aya::maps::MapError::CreateError { io_error, .. } => io_error.raw_os_error(),
            _ => None,
        };
        let context = match errno {
            Some(libc::EPERM) => {
                "the kernel refuses BPF maps: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
                    .into()
            }
            Some(libc::ENOMEM) => format!(
                "no memory for map {name} ({} MiB): make [tables] in the configuration smaller",
                octets >> 20
            ),
            _ => format!("cannot make map {name} ({entries} x {value} octets)"),
        };
        anyhow!(why).context(context)
    })
}

/// An array that the verifier lets no program write to, and that cannot be mapped for writing either: to see who would.
///
/// # Errors
/// The kernel's refusal, as a sentence.
pub fn read_only_array(name: &str, entries: u32, octets: u32) -> Result<MapData> {
    let array = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    new_map(name, array, (4, octets), entries, MMAPABLE | READ_ONLY)
}

/// An array that can be mapped into memory, for an instance of the program that keeps its counts to itself.
///
/// # Errors
/// The kernel's refusal, as a sentence.
pub fn private_array(name: &str, entries: u32, octets: u32) -> Result<MapData> {
    let array = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    new_map(name, array, (4, octets), entries, MMAPABLE)
}

/// Every map name that can be pinned.
fn all_names() -> impl Iterator<Item = &'static str> {
    let tables = maps::SHARED_TABLES
        .iter()
        .chain(maps::COUNTERS)
        .chain(maps::DIRECTORIES);
    tables.copied().chain([LOGS])
}

/// Inode number of the network namespace this thread is in.
///
/// # Errors
/// No /proc.
pub fn network_namespace() -> Result<u64> {
    let path = "/proc/thread-self/ns/net";
    Ok(fs::metadata(path)
        .with_context(|| format!("cannot read {path}: is /proc mounted?"))?
        .ino())
}

/// Whether a directory is on a BPF file system.
pub fn is_bpffs(path: &Path) -> Result<bool> {
    let path_c = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).context("a path with a NUL")?;
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a NUL-terminated path and memory for the answer.
    let failed = unsafe { libc::statfs(path_c.as_ptr(), stat.as_mut_ptr()) } != 0;
    if failed {
        return Err(io::Error::last_os_error()).with_context(|| format!("cannot examine {}", path.display()));
    }
    // SAFETY: statfs filled it.
    Ok(unsafe { stat.assume_init() }.f_type == BPF_FS_MAGIC)
}

fn permission(why: io::Error, what: &str) -> anyhow::Error {
    let denied = why.kind() == io::ErrorKind::PermissionDenied;
    let error = anyhow!(why).context(format!("cannot {what}"));
    if denied {
        error.context("permission denied: run as root, or with CAP_BPF and CAP_NET_ADMIN")
    } else {
        error
    }
}

/// Possible CPUs: the program indexes its counters by CPU number.
///
/// # Errors
/// /sys cannot be read.
pub fn possible_cpus() -> Result<u32> {
    aya::util::nr_cpus()
        .map(|count| count as u32)
        .map_err(|(path, why)| anyhow!("cannot read {path}: {why}"))
}
