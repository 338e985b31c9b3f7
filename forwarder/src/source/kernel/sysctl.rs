//! Sysctls that decide whether and how the kernel forwards, read from /proc/sys/net of this thread's namespace.
//!
//! Changes of `forwarding` are announced (netconf, [`Event::SysctlChanged`](crate::source::event::Event)); those of
//! `send_redirects` are not: read it again from time to time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/proc/sys/net";

/// `net.ipv4.conf.IF.forwarding`: whether IPv4 packets that come in on the interface are forwarded. A write to
/// `net.ipv4.ip_forward` sets that of all interfaces, so this one is what counts (`IN_DEV_FORWARD`, ip_route_input_slow).
pub fn forwarding4(ifname: &str) -> io::Result<bool> {
    conf4(Path::new(ROOT), ifname, "forwarding")
}

/// `net.ipv6.conf.all.forwarding`, which is what `ip6_forward` looks at; false on a kernel without IPv6. (Since 6.17 an
/// interface's `force_forwarding` overrides it: such packets are left to the kernel.)
pub fn forwarding6() -> io::Result<bool> {
    off_if_absent(read(&conf(Path::new(ROOT), "ipv6", "all", "forwarding")))
}

/// Whether the kernel sends ICMP redirects on the interface: `IN_DEV_TX_REDIRECTS` is `IN_DEV_ORCONF`
/// (include/linux/inetdevice.h), on where `all` *or* the interface says so.
pub fn send_redirects4(ifname: &str) -> io::Result<bool> {
    Ok(conf4(Path::new(ROOT), "all", "send_redirects")? || conf4(Path::new(ROOT), ifname, "send_redirects")?)
}

/// Whether the kernel checks IPv4 sources strictly on the interface (RFC 3704, 2.2): `IN_DEV_RPFILTER` is the greater of
/// `all` and the interface, 1 is strict and 2 loose.
pub fn strict_sources4(ifname: &str) -> io::Result<bool> {
    let value = |name| number(&conf(Path::new(ROOT), "ipv4", name, "rp_filter"));
    Ok(value("all")?.max(value(ifname)?) == 1)
}

fn conf4(root: &Path, ifname: &str, key: &str) -> io::Result<bool> {
    read(&conf(root, "ipv4", ifname, key))
}

/// An interface is a directory here, its name unchanged: dots stand as they are (it is `sysctl`'s notation that swaps
/// them). `dev_valid_name` (net/core/dev.c) forbids slashes, "." and ".."; a name with one leads nowhere.
fn conf(root: &Path, family: &str, ifname: &str, key: &str) -> PathBuf {
    let odd = ifname.contains('/') || matches!(ifname, "" | "." | "..");
    let ifname = if odd { "no such interface" } else { ifname };
    root.join(family).join("conf").join(ifname).join(key)
}

fn read(path: &Path) -> io::Result<bool> {
    Ok(number(path)? != 0)
}

fn number(path: &Path) -> io::Result<i32> {
    let explained = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(explained)?;
    text.trim()
        .parse()
        .map_err(|_| explained(io::ErrorKind::InvalidData.into()))
}

fn off_if_absent(value: io::Result<bool>) -> io::Result<bool> {
    match value {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dots_are_directories_and_names_with_slashes_lead_nowhere() {
        let path = |name| conf(Path::new("/sysroot"), "ipv4", name, "forwarding");
        assert_eq!(
            path("eth0.100"),
            Path::new("/sysroot/ipv4/conf/eth0.100/forwarding")
        );
        for odd in ["../../etc", ".", "..", "", "a/b"] {
            assert_eq!(
                path(odd),
                Path::new("/sysroot/ipv4/conf/no such interface/forwarding")
            );
        }
    }

    #[test]
    fn an_absent_tree_is_off_and_an_unreadable_value_an_error() {
        let missing = read(Path::new("/nonexistent/conf/all/forwarding"));
        assert_eq!(
            missing.as_ref().map_err(io::Error::kind),
            Err(io::ErrorKind::NotFound)
        );
        assert!(!off_if_absent(missing).unwrap());
        assert!(
            forwarding4("no-such-if")
                .unwrap_err()
                .to_string()
                .contains("/proc/sys/net/ipv4/conf/no-such-if")
        );
    }
}
