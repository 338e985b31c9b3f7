//! Network cards for the machine: four of virtio's with several queues, on taps of the host's with a bridge between each
//! two, in a network namespace that ends with QEMU. What is sent on the first comes in on the third, and on the second, on
//! the fourth; tests tell them apart by their MACs.

use std::process::{Command, Stdio};

use crate::sh;

/// Cards; a bridge joins each of the first half with one of the second.
const CARDS: u32 = 4;
/// Queue pairs of each. XDP takes one for every CPU to send by, beside those in use.
const QUEUES: u32 = 4;

/// Makes bridges and taps, then becomes what its arguments say.
const SCRIPT: &str = "set -e
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
for bridge in 0 1; do
    ip link add name bridge$bridge type bridge mcast_snooping 0
    ip link set dev bridge$bridge up
done
for tap in 0 1 2 3; do
    ip tuntap add dev tap$tap mode tap multi_queue
    ip link set dev tap$tap master bridge$((tap % 2)) up
done
exec \"$@\"";

/// A command that runs in a namespace with the taps.
pub fn inside(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !sh::is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--", "sh", "-c", SCRIPT, "sh", program]);
    command
}

/// Why there can be no cards, where there can be none.
pub fn refusal() -> Option<String> {
    let output = inside("true").env("LC_ALL", "C").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// QEMU's arguments for them.
pub fn arguments() -> Vec<String> {
    let cards = (0..CARDS).flat_map(|card| {
        let tap = format!(
            "tap,id=card{card},ifname=tap{card},script=no,downscript=no,vhost=off,queues={QUEUES}"
        );
        // Large segments, put together by the host, are none that a program for single packets could take.
        let offloads = "guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off";
        let vectors = 2 * QUEUES + 2;
        let device = format!(
            "virtio-net-pci,netdev=card{card},mac=52:54:00:00:06:0{card},mq=on,vectors={vectors},romfile=,{offloads}"
        );
        ["-netdev".to_owned(), tap, "-device".to_owned(), device]
    });
    cards.collect()
}
