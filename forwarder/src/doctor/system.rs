//! Kernel, privileges, CPUs.

use super::{Finding, Severity, facts::Host};

/// The oldest kernel on which every part works: managed neighbours (5.16), a packet's octets in one call (5.18).
pub const OLDEST: (u32, u32) = (5, 18);
/// The oldest kernel that is tried before a release.
pub const RECOMMENDED: (u32, u32) = (6, 1);

/// Capabilities by their numbers (include/uapi/linux/capability.h).
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// What is to be said of it.
pub fn examine(host: &Host) -> Vec<Finding> {
    let mut findings = vec![
        kernel(host),
        capabilities(host),
        btf(host),
        jit(host),
        bpffs(host),
    ];
    findings.extend(forwarding(host));
    findings.push(cpus(host));
    findings.push(statistics(host));
    findings
}

/// Major and minor number of a release such as "6.1.0-28-amd64".
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kernel(host: &Host) -> Finding {
    let found = format!("Linux {}", host.release);
    let worse = |severity| Finding::new(severity, "kernel", &*found);
    let ((old, older), (new, newer)) = (OLDEST, RECOMMENDED);
    match version(&host.release) {
        None => worse(Severity::Note).because("its version cannot be told from its name"),
        Some(version) if version < OLDEST => worse(Severity::Error)
            .because(format!("forwarder needs Linux {old}.{older} or later"))
            .mend(format!("install a kernel of {new}.{newer} or later and start it")),
        Some(version) if version < RECOMMENDED => worse(Severity::Warning)
            .because(format!("forwarder is tried on {new}.{newer} and later"))
            .mend(format!("install a kernel of {new}.{newer} or later and start it")),
        Some(_) => Finding::ok("kernel", found),
    }
}

fn capabilities(host: &Host) -> Finding {
    let Some(have) = host.capabilities else {
        return Finding::new(
            Severity::Note,
            "capabilities",
            "this process cannot tell its capabilities",
        );
    };
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| have & 1 << bit == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        return Finding::ok("capabilities", "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
    }
    Finding::new(
        Severity::Error,
        "capabilities",
        format!("this process is without {}", missing.join(", ")),
    )
    .because("programs cannot be loaded and attached, and some of what follows could not be looked at")
    .mend("run it as root, or with AmbientCapabilities= in the unit")
}

fn btf(host: &Host) -> Finding {
    if host.btf {
        return Finding::ok("btf", "the kernel describes its types");
    }
    Finding::new(Severity::Error, "btf", "there is no /sys/kernel/btf/vmlinux")
        .because("the tracepoints that count what is lost on the way out take their offsets from there")
        .mend("use a kernel with CONFIG_DEBUG_INFO_BTF=y, as Debian's are")
}

fn jit(host: &Host) -> Finding {
    match host.jit {
        Some(0) => Finding::new(Severity::Error, "jit", "net.core.bpf_jit_enable is 0")
            .because("the program is interpreted: five to ten times slower")
            .mend_safely("sysctl -w net.core.bpf_jit_enable=1"),
        Some(_) => Finding::ok("jit", "programs are compiled"),
        // The switch is only there in the first network namespace (net/core/sysctl_net_core.c).
        None => Finding::new(
            Severity::Note,
            "jit",
            "whether programs are compiled cannot be seen",
        )
        .because("net.core.bpf_jit_enable is told in the machine's first network namespace only"),
    }
}

fn bpffs(host: &Host) -> Finding {
    if host.bpffs_mounted {
        return Finding::ok("bpffs", format!("{} is on a BPF file system", host.bpffs));
    }
    Finding::new(
        Severity::Error,
        "bpffs",
        format!("{} is on no BPF file system", host.bpffs),
    )
    .because("what outlives the controller is pinned there")
    .mend("mount -t bpf bpf /sys/fs/bpf")
}

fn forwarding(host: &Host) -> Option<Finding> {
    Some(match host.forwarding6? {
        true => Finding::ok("forwarding", "IPv6 forwarding is on"),
        false => Finding::new(
            Severity::Warning,
            "forwarding",
            "net.ipv6.conf.all.forwarding is 0",
        )
        .because("neither the kernel nor the fast path forwards IPv6")
        .mend("sysctl -w net.ipv6.conf.all.forwarding=1"),
    })
}

fn cpus(host: &Host) -> Finding {
    let count = host.cpus.len();
    match host.smt {
        Some(true) => Finding::new(
            Severity::Note,
            "cpus",
            format!("{count} CPUs, two of which share a core (SMT)"),
        )
        .because("the second thread of a core forwards less than a core of its own would: count cores, not CPUs, for capacity"),
        _ => Finding::ok("cpus", format!("{count} CPUs")),
    }
}

fn statistics(host: &Host) -> Finding {
    match host.program_statistics {
        Some(0) | None => Finding::ok("program-statistics", "the kernel does not time programs"),
        Some(_) => Finding::new(
            Severity::Note,
            "program-statistics",
            "kernel.bpf_stats_enabled is 1",
        )
        .because("/metrics shows the program's cost, and every packet pays for taking the time twice")
        .mend("sysctl -w kernel.bpf_stats_enabled=0"),
    }
}
