//! Jumbo frames through a real router: in several buffers, where the egress takes such, and by the kernel where not.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result, bail, ensure};
use forwarder_tests::{
    frame::{self, with},
    kernel,
    lab::{LIMIT, Lab},
    packets::{self, Wire, for_five},
};
use serde_json::Value;

const ROUTER_A: [u8; 6] = [2, 0, 0, 0, 1, 1];
const HOST_A: [u8; 6] = [2, 0, 0, 0, 1, 2];

/// Lengths of IP packets: around what one buffer takes, what a page takes, and an MTU of 9000.
const LENGTHS: [usize; 14] = [
    1400, 1499, 1500, 1501, 3490, 3505, 3506, 3507, 4082, 4096, 7000, 8998, 8999, 9000,
];

type Frames = Vec<Vec<u8>>;

/// Octets of a frame that fit the first buffer: a page without headroom (256) and `skb_shared_info`.
const FIRST: usize = 4096 - 256 - 320;

/// What comes in at a may be longer than what b takes; c is as usual.
fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    for (cable, mtu) in [("a", 9500), ("b", 9000)] {
        for node in ["router", cable] {
            lab.ip(node, &format!("link set dev {cable} mtu {mtu}"))?;
        }
    }
    lab.ip("router", "route add 5.0.0.0/9 via 10.2.0.2")?;
    lab.ip("router", "route add 5.128.0.0/9 via 10.3.0.2")?;
    lab.ip("router", "route add 2a05::/32 via fd00:2::2")?;
    lab.resolve_carriers()?;
    lab.resolve("router", "10.1.0.2")?;
    lab.resolve("router", "fd00:1::2")?;
    Ok(lab)
}

/// An IPv4 packet of so many octets from host a; `cut` says whether it may be fragmented.
fn four(to: [u8; 4], octets: usize, cut: bool) -> Vec<u8> {
    let payload = frame::udp(1024, 53, octets - 28);
    let macs = (ROUTER_A, HOST_A);
    let packet = frame::ipv4(macs, [10, 1, 0, 2].into(), to.into(), frame::UDP, 64, &payload);
    with(packet, 20, &[if cut { 0 } else { 0x40 }, 0])
}

fn six(octets: usize) -> Result<Vec<u8>> {
    let payload = frame::udp(1024, 53, octets - 48);
    let source = "fd00:1::2".parse()?;
    let macs = (ROUTER_A, HOST_A);
    Ok(frame::ipv6(
        macs,
        source,
        "2a05::7".parse()?,
        frame::UDP,
        64,
        &payload,
    ))
}

fn traffic() -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    for octets in LENGTHS {
        frames.push(four([5, 1, 2, 3], octets, false));
        frames.push(four([5, 1, 2, 3], octets, true));
        frames.push(six(octets)?);
    }
    Ok(frames)
}

fn row(lab: &Lab, name: &str) -> Result<Value> {
    let rows = lab.json("interfaces")?;
    let mut all = rows.as_array().into_iter().flatten();
    let found = all.find(|row| row["ifname"] == name);
    found.cloned().with_context(|| format!("no {name} in {rows}"))
}

/// Packets that left an interface with a reason.
fn left(lab: &Lab, name: &str, reason: &str) -> Result<i64> {
    let rows = lab.json("drops")?;
    let mut all = rows.as_array().into_iter().flatten();
    let found = all.find(|row| row["ifname"] == name && row["reason"] == reason);
    Ok(found.and_then(|row| row["packets"].as_i64()).unwrap_or(0))
}

fn number(row: &Value, key: &str) -> Result<i64> {
    row[key].as_i64().with_context(|| format!("{key} of {row}"))
}

/// What the router makes of packets that are too long: the fragments that arrive, and what of its answers a sender acts on.
fn too_long(lab: &Lab, from: &Wire, to: [&Wire; 2]) -> Result<[Frames; 2]> {
    let mut fragments = Vec::new();
    for (wire, packet, parts) in [
        (to[0], four([5, 1, 2, 3], 9001, true), 2),
        (to[1], four([5, 129, 2, 3], 8000, true), 6),
    ] {
        from.send(&packet)?;
        let came = wire.collect(parts, LIMIT, for_five)?;
        ensure!(came.len() == parts, "{} fragments\n{}", came.len(), lab.picture());
        fragments.extend(came);
    }
    let answer = |frame: &[u8]| match frame.get(12..14) {
        Some([0x08, 0x00]) => frame[23] == 1 && frame[34..36] == [3, 4],
        Some([0x86, 0xdd]) => frame[20] == 58 && frame[54] == 2,
        _ => false,
    };
    let mut answers = Vec::new();
    for packet in [
        four([5, 1, 2, 3], 9001, false),
        four([5, 129, 2, 3], 9000, false),
        six(9001)?,
    ] {
        from.send(&packet)?;
        let said = from.receive(LIMIT, answer)?.context("no answer")?;
        // Type, code, checksum, MTU.
        let at = if said[12] == 8 { 34 } else { 54 };
        answers.push(said[at..at + 8].to_vec());
        // So that the next is not held back with this one's (net.ipv4.icmp_ratelimit).
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    Ok([fragments, answers])
}

#[test]
fn jumbo_frames_leave_to_the_octet_as_the_kernel_sends_them() -> Result<()> {
    let lab = lab()?;
    let (from, b, c) = (lab.wire("a")?, lab.wire("b")?, lab.wire("c")?);
    let frames = traffic()?;
    let by_kernel = packets::cross(&from, &b, &frames, LIMIT, for_five)?;
    ensure!(
        by_kernel.len() == frames.len(),
        "the kernel sent {}",
        by_kernel.len()
    );
    let cut_by_kernel = too_long(&lab, &from, [&b, &c])?;

    let controller = lab.start(&["a", "b", "c"], "")?;
    let before = row(&lab, "a")?;
    let by_us = packets::cross(&from, &b, &frames, LIMIT, for_five)?;
    ensure!(
        by_us.len() == frames.len(),
        "{} of {} arrived\n{}",
        by_us.len(),
        frames.len(),
        lab.picture()
    );
    for (at, (kernel, ours)) in by_kernel.iter().zip(&by_us).enumerate() {
        ensure!(
            kernel == ours,
            "frame {at} of {} octets is another one of {}",
            kernel.len(),
            ours.len()
        );
    }
    // Linux redirects longer ones since 6.3.
    let all = kernel::version()? >= (6, 3);
    let ours: Vec<usize> = frames
        .iter()
        .map(Vec::len)
        .filter(|length| all || *length <= FIRST)
        .collect();
    let octets: usize = ours.iter().sum();
    let after = row(&lab, "a")?;
    for (key, wanted) in [("forwarded_packets", ours.len()), ("forwarded_bytes", octets)] {
        let moved = number(&after, key)? - number(&before, key)?;
        ensure!(
            moved == wanted as i64,
            "{key} moved by {moved}, not {wanted}\n{}",
            lab.picture()
        );
    }
    let cut_by_us = too_long(&lab, &from, [&b, &c])?;
    ensure!(
        cut_by_us == cut_by_kernel,
        "what is too long: {cut_by_us:?}, not {cut_by_kernel:?}"
    );
    ensure!(left(&lab, "a", "too-big")? == 5, "{}", lab.picture());
    let passed = left(&lab, "a", "multi-buffer")?;
    ensure!(passed == (frames.len() - ours.len()) as i64, "{}", lab.picture());
    for name in ["a", "b"] {
        let row = row(&lab, name)?;
        for residue in ["ingress_residue", "egress_residue"] {
            ensure!(number(&row, residue)? == 0, "{residue}: {row}");
        }
    }
    let b = row(&lab, "b")?;
    ensure!(number(&b, "transmitted_packets")? == ours.len() as i64, "{b}");
    drop(controller);
    Ok(())
}

/// A device that takes frames of XDP in one buffer alone.
struct Tap(File);

impl Tap {
    /// In the namespace of this thread.
    fn open(name: &str) -> Result<Tap> {
        const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
        // SAFETY: a path that ends with a zero; the result is checked before it is owned.
        let fd = unsafe { libc::open(c"/dev/net/tun".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        ensure!(fd >= 0, "/dev/net/tun: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is new and nobody else's.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut request = [0u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as u16;
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: a `struct ifreq` that outlives the call.
        let made = unsafe { libc::ioctl(owned.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
        ensure!(made == 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
        Ok(Tap(File::from(owned)))
    }

    /// The next frame that is wanted.
    fn receive(&mut self) -> Result<Vec<u8>> {
        loop {
            let mut ready = libc::pollfd {
                fd: self.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one live entry.
            if unsafe { libc::poll(&raw mut ready, 1, LIMIT.as_millis() as i32) } != 1 {
                bail!("nothing comes out of the tap");
            }
            let mut frame = vec![0; 1 << 16];
            let octets = self.0.read(&mut frame)?;
            frame.truncate(octets);
            if for_five(&frame) {
                return Ok(frame);
            }
        }
    }
}

#[test]
fn an_egress_that_takes_one_buffer_gets_longer_frames_from_the_kernel() -> Result<()> {
    let lab = lab()?;
    let mut tap = lab.inside("router", || Tap::open("tap0"))?;
    lab.ip("router", "link set dev tap0 mtu 9000 up")?;
    lab.ip("router", "addr add 10.9.0.1/24 dev tap0")?;
    lab.ip(
        "router",
        "neigh add 10.9.0.2 lladdr 02:00:00:00:09:02 dev tap0 nud permanent",
    )?;
    lab.ip("router", "route add 5.64.0.0/16 via 10.9.0.2")?;
    let from = lab.wire("a")?;
    let controller = lab.start(&["a", "tap0"], "")?;
    let mut long = 0;
    for octets in LENGTHS {
        let packet = four([5, 64, 2, 3], octets, false);
        from.send(&packet)?;
        let came = tap.receive().with_context(|| lab.picture())?;
        let (router, far) = (&came[6..12], [2, 0, 0, 0, 9, 2]);
        let wanted = frame::routed(&packet, far, router.try_into()?, packet.len());
        ensure!(came == wanted, "{octets}: {} octets came", came.len());
        long += i64::from(packet.len() > FIRST);
    }
    ensure!(
        left(&lab, "a", "multi-buffer")? == long,
        "{long}\n{}",
        lab.picture()
    );
    let forwarded = number(&row(&lab, "a")?, "forwarded_packets")?;
    ensure!(forwarded == LENGTHS.len() as i64 - long, "{}", lab.picture());
    drop(controller);
    Ok(())
}

#[test]
fn a_driver_that_takes_no_frames_leaves_them_to_the_kernel_until_it_does() -> Result<()> {
    let lab = lab()?;
    let (from, b) = (lab.wire("a")?, lab.wire("b")?);
    let gro = |word: &str| -> Result<()> {
        let mut command = lab.command("b", "ethtool");
        forwarder_tests::lab::run(command.args(["-K", "b", "gro", word])).map(drop)
    };
    let controller = lab.start(&["a", "b"], "")?;
    let packet = four([5, 1, 2, 3], 1000, false);
    let arrives = || -> Result<()> {
        from.send(&packet)?;
        let came = b.receive(LIMIT, for_five)?;
        ensure!(came.is_some(), "lost\n{}", lab.picture());
        Ok(())
    };
    let problem = || -> Result<bool> {
        let text = lab.json("status")?[0]["problems"].to_string();
        Ok(text.contains("takes no frames from the fast path on b"))
    };
    arrives()?;
    ensure!(!problem()?, "{}", lab.picture());
    gro("off")?;
    lab.wait("the driver's word", || Ok(problem()?.then_some(())))?;
    let before = left(&lab, "a", "egress-without-xdp")?;
    for _ in 0..5 {
        arrives()?;
    }
    let passed = left(&lab, "a", "egress-without-xdp")? - before;
    ensure!(passed == 5, "{passed} passed\n{}", lab.picture());
    gro("on")?;
    lab.wait("the driver's word", || Ok((!problem()?).then_some(())))?;
    let before = number(&row(&lab, "a")?, "forwarded_packets")?;
    for _ in 0..5 {
        arrives()?;
    }
    let moved = number(&row(&lab, "a")?, "forwarded_packets")? - before;
    ensure!(moved == 5, "{moved} forwarded\n{}", lab.picture());
    drop(controller);
    Ok(())
}

/// In generic mode nothing between the program and the driver sees to it that the driver can send a packet in several buffers.
#[test]
fn in_generic_mode_devices_that_gather_send_them() -> Result<()> {
    let lab = lab()?;
    let (from, b) = (lab.wire("a")?, lab.wire("b")?);
    let frames = traffic()?;
    let by_kernel = packets::cross(&from, &b, &frames, LIMIT, for_five)?;
    let section = |name: &str| format!("[[interface]]\nname = \"{name}\"\nxdp = \"generic\"\n");
    let controller = lab.start(&[], &["a", "b"].map(section).concat())?;
    // Checksums off, as the lab has them, takes scatter-gather with it.
    for (word, gathers) in [("off", false), ("on", true)] {
        let mut command = lab.command("router", "ethtool");
        forwarder_tests::lab::run(command.args(["-K", "b", "tx", word, "sg", word]))?;
        // The driver is asked again every five seconds.
        let long = frames.iter().filter(|frame| frame.len() > FIRST).count();
        let expected = if gathers { 0 } else { long as i64 };
        lab.wait("the driver's word", || {
            let before = left(&lab, "a", "multi-buffer")?;
            from.send(&four([5, 1, 2, 3], 9000, false))?;
            b.receive(LIMIT, for_five)?.context("lost")?;
            let goes_up = left(&lab, "a", "multi-buffer")? != before;
            Ok((goes_up != gathers).then_some(()))
        })?;
        let (before, passed) = (row(&lab, "a")?, left(&lab, "a", "multi-buffer")?);
        let by_us = packets::cross(&from, &b, &frames, LIMIT, for_five)?;
        ensure!(
            by_us == by_kernel,
            "gathering {word}: other frames\n{}",
            lab.picture()
        );
        let passed = left(&lab, "a", "multi-buffer")? - passed;
        ensure!(passed == expected, "{word}: {passed} went up, not {expected}");
        let forwarded =
            number(&row(&lab, "a")?, "forwarded_packets")? - number(&before, "forwarded_packets")?;
        ensure!(
            forwarded + passed == frames.len() as i64,
            "{word}: {forwarded} forwarded"
        );
    }
    drop(controller);
    Ok(())
}
