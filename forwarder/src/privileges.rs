//! What a controller may do: three capabilities, and what its configuration needs beside them; no way to more.
//!
//! Before the first thread is started, because capabilities belong to threads and are inherited: nothing that speaks to anybody has
//! ever had more. A reload begins again by `execve`, which gives root all that is in the bounding set, so that is cut as well; and as a
//! process cannot have back what it gave away, a configuration that needs more than the one before it is refused by a
//! reload, in the words of whatever could not be done, and comes with a restart.
//!
//! The service has no more than this from the beginning (`CapabilityBoundingSet=`). This is for whoever runs it by hand, as root.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, Result, bail};
use caps::{CapSet, Capability};
use tracing::warn;

use crate::{api, config::Config};

/// What every controller needs: maps and programs; interfaces, routes and neighbours; tracepoints.
const ALWAYS: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
];

/// Ports from here on are everybody's to listen on, where the kernel does not tell (ip(7)).
const UNPRIVILEGED: u16 = 1024;

/// Gives away what this configuration does not need, for this process and what it becomes. Where there is less already, that stays.
///
/// # Errors
/// The kernel lets nothing be given away, which it has no reason for.
pub fn drop_to(config: &Config) -> Result<()> {
    // SAFETY: umask takes a number and cannot fail. What is to be open to others is opened by name (the socket).
    unsafe { libc::umask(0o077) };
    let needed = needed(config);
    // SAFETY: a call with numbers alone, which gives away the right to become more by a program file.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot set no_new_privs");
    }
    cut_bounding(&needed);
    let keep = caps::read(None, CapSet::Permitted)?
        .intersection(&needed)
        .copied()
        .collect();
    // In this order: what is in effect is within what is permitted.
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::set(None, set, &keep).context("cannot give capabilities away")?;
    }
    // Another user than root begins again with what it has in this set alone.
    if let Err(why) = caps::set(None, CapSet::Ambient, &keep) {
        warn!("a reload may not have its capabilities: {why}");
    }
    Ok(())
}

/// Whoever may not cut the set has no more than it was given: root keeps CAP_SETPCAP until here.
fn cut_bounding(needed: &HashSet<Capability>) {
    let surplus = caps::runtime::thread_all_supported();
    let surplus = surplus.difference(needed);
    let left: Vec<String> = surplus
        .filter(|capability| caps::has_cap(None, CapSet::Bounding, **capability).unwrap_or(false))
        .filter(|capability| caps::drop(None, CapSet::Bounding, **capability).is_err())
        .map(ToString::to_string)
        .collect();
    // SAFETY: geteuid takes nothing and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    // Nobody else gets any of it by beginning again.
    if root && !left.is_empty() {
        warn!(
            "without CAP_SETPCAP these stay in the bounding set, and a reload has them again: {}",
            left.join(", ")
        );
    }
}

/// What a controller with this configuration needs.
fn needed(config: &Config) -> HashSet<Capability> {
    let mut needed = HashSet::from(ALWAYS);
    let bgp = config.routes.bgp.iter().flat_map(|bgp| &bgp.listen);
    let mut listens = bgp
        .chain(config.routes.fpm.iter().map(|fpm| &fpm.listen))
        .chain(&config.api.metrics);
    let first = unprivileged();
    if listens.any(|at| at.port() < first) {
        needed.insert(Capability::CAP_NET_BIND_SERVICE);
    }
    // A file goes to a group of its owner's without it (chown(2)).
    let group = config.api.group.as_deref();
    if group.is_some_and(|name| api::group_id(name).is_ok_and(|group| !in_group(group))) {
        needed.insert(Capability::CAP_CHOWN);
    }
    needed
}

/// The first port that takes no capability.
fn unprivileged() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let port = text.ok().and_then(|text| text.trim().parse().ok());
    port.unwrap_or(UNPRIVILEGED)
}

/// Whether this process is of a group.
fn in_group(group: u32) -> bool {
    // SAFETY: getegid takes nothing and cannot fail; the other is asked for a number alone.
    let (own, count) = unsafe { (libc::getegid(), libc::getgroups(0, std::ptr::null_mut())) };
    let mut groups = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: room for as many as it has said; where there are more by now, it writes none.
    let count = unsafe { libc::getgroups(groups.len() as i32, groups.as_mut_ptr()) };
    groups.truncate(usize::try_from(count).unwrap_or(0));
    own == group || groups.contains(&group)
}

/// Looks whether a directory of pins is nobody else's to write, and closes it to everybody but its owner. Nothing is said of one that
/// is not there.
///
/// # Errors
/// It is another user's or no directory, or it cannot be closed: whoever writes there decides what is done with packets.
pub fn own_alone(directory: &Path) -> Result<()> {
    let shown = directory.display();
    let known = match fs::symlink_metadata(directory) {
        Ok(known) => known,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(why).with_context(|| format!("cannot examine {shown}")),
    };
    if !known.is_dir() {
        bail!("{shown} is no directory: remove it, or name another with --bpffs");
    }
    // SAFETY: geteuid takes nothing and cannot fail.
    let own = unsafe { libc::geteuid() };
    if known.uid() != own && known.uid() != 0 {
        bail!(
            "{shown} belongs to user {}, who would decide what is done with packets: remove it, or name another with --bpffs",
            known.uid()
        );
    }
    if known.mode() & 0o077 != 0 {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("{shown} is open to others and cannot be closed"))?;
        if known.mode() & 0o022 != 0 {
            warn!("{shown} was writable by others, and is closed now");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let text = format!("[[interface]]\nname = \"lo\"\n{text}");
        crate::config::read(Path::new("forwarder.toml"), &text).expect("sound")
    }

    #[test]
    fn three_capabilities_and_what_the_configuration_needs() {
        assert_eq!(needed(&config("")), HashSet::from(ALWAYS));
        let bgp = |port: u16| {
            config(&format!(
                "[routes]\nsources = [\"bgp\"]\n[routes.bgp]\nlisten = \"127.0.0.2:{port}\"\nlocal-as = 64500\n"
            ))
        };
        let bind = Capability::CAP_NET_BIND_SERVICE;
        let first = unprivileged();
        assert!(first == 0 || needed(&bgp(first - 1)).contains(&bind));
        assert!(!needed(&bgp(first.max(1))).contains(&bind));
        // SAFETY: getegid takes nothing and cannot fail.
        let own = unsafe { libc::getegid() };
        assert!(in_group(own));
        assert!(!in_group(u32::MAX - 7));
    }

    #[test]
    fn a_directory_of_pins_is_closed_to_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let pins = directory.path().join("forwarder");
        own_alone(&pins).expect("none yet");
        fs::create_dir(&pins).expect("made");
        fs::set_permissions(&pins, fs::Permissions::from_mode(0o777)).expect("opened");
        own_alone(&pins).expect("closed");
        assert_eq!(fs::metadata(&pins).expect("there").mode() & 0o777, 0o700);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&pins, &link).expect("a link");
        let why = own_alone(&link).expect_err("a link").to_string();
        assert!(why.contains("is no directory"), "{why}");
    }
}
