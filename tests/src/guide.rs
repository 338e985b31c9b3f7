//! Pages of the guide as somebody follows them who has read nothing else: word for word, on a router of their own.
//!
//! In a page, a block of `console` has commands, which begin with `# `, and some of what they answer: figures may be others, and `...` stands
//! for anything. A block whose language is followed by a path is that file. Nothing else is done.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    controller::binary,
    lab::{LIMIT, run},
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write a file.
    File {
        /// Where.
        path: PathBuf,
        /// What is in it.
        text: String,
    },
    /// Run a command.
    Run {
        /// The words, for a shell.
        command: String,
        /// Lines of what it answers.
        answer: Vec<String>,
    },
}

/// The steps of a page.
///
/// # Errors
/// A block that does not end, or an answer to nothing.
pub fn steps(page: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let mut block = Vec::new();
        loop {
            match lines.next().context("a block does not end")? {
                "```" => break,
                line => block.push(line),
            }
        }
        let words: Vec<&str> = info.split_whitespace().collect();
        match words[..] {
            ["console"] => {
                for line in block {
                    if let Some(command) = line.strip_prefix("# ") {
                        steps.push(Step::Run {
                            command: without_remark(command),
                            answer: Vec::new(),
                        });
                    } else if !line.trim().is_empty() {
                        let Some(Step::Run { answer, .. }) = steps.last_mut() else {
                            bail!("an answer to nothing: {line}");
                        };
                        answer.push(line.to_string());
                    }
                }
            }
            [_, path] if path.starts_with('/') => steps.push(Step::File {
                path: path.into(),
                text: block.join("\n") + "\n",
            }),
            _ => {}
        }
    }
    Ok(steps)
}

/// A command without what is said of it behind.
fn without_remark(line: &str) -> String {
    line.split("  # ").next().unwrap_or(line).trim().to_string()
}

/// Whether a line of an answer is there: any figures, any spaces, and anything where `...` stands.
#[must_use]
pub fn is_there(wanted: &str, answer: &str) -> bool {
    let parts: Vec<String> = wanted.split("...").map(shape).collect();
    answer.lines().any(|line| alike(&parts, &shape(line)))
}

/// Words with every number as `0`.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for word in line.split_whitespace() {
        if !shape.is_empty() {
            shape.push(' ');
        }
        let mut number = false;
        for letter in word.chars() {
            let inside = letter.is_ascii_digit() || number && (letter == ',' || letter == '.');
            if inside && !number {
                shape.push('0');
            } else if !inside {
                shape.push(letter);
            }
            number = inside;
        }
    }
    shape
}

/// Whether the parts between `...` stand one after the other.
fn alike(parts: &[String], line: &str) -> bool {
    let mut rest = line;
    for (at, part) in parts.iter().enumerate() {
        let found = if at == 0 {
            rest.starts_with(part.as_str()).then_some(0)
        } else if at + 1 == parts.len() && part.is_empty() {
            return true;
        } else if at + 1 == parts.len() {
            rest.ends_with(part.as_str()).then(|| rest.len() - part.len())
        } else {
            rest.find(part.as_str())
        };
        let Some(found) = found else { return false };
        rest = &rest[found + part.len()..];
    }
    parts.len() > 1 || rest.is_empty()
}

/// A router as the guide has it, before anything is installed: `transit0` to a carrier, `core0` to a server. Both are there, and
/// the carrier speaks BGP. All of it goes when this is dropped.
pub struct Stage {
    name: String,
    dir: PathBuf,
    holder: Child,
    /// The first process of the router's namespaces.
    inside: u32,
    others: Vec<Child>,
}

const NODES: [&str; 3] = ["router", "carrier", "server"];

impl Stage {
    /// Builds it.
    ///
    /// # Errors
    /// Not root, or a tool is missing.
    pub fn new() -> Result<Stage> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fwdg{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(dir.join("bin"))?;
        for node in NODES {
            run(Command::new("ip").args(["netns", "add", &format!("{name}-{node}")]))?;
        }
        let script = SETUP.replace("NAME", &name);
        run(Command::new("sh").args(["-ec", &script]))?;
        let mut holder = Command::new("ip");
        holder
            .args(["netns", "exec", &format!("{name}-router")])
            .args([
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-ec",
            ])
            .arg(INSIDE.replace("DIR", &dir.display().to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("router.log"))?);
        let holder = holder.spawn().context("cannot run unshare")?;
        let mut stage = Stage {
            inside: 0,
            name,
            dir,
            holder,
            others: Vec::new(),
        };
        stage.tools()?;
        let ready = stage.dir.join("ready");
        stage.inside = until("the router's namespaces", || {
            let pid = stage.holder.id();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            Ok(ready.exists().then(|| children.trim().parse().ok()).flatten())
        })?;
        let config = stage.dir.join("carrier.conf");
        fs::write(&config, CARRIER)?;
        let mut bird = stage.on("carrier", "bird");
        bird.arg("-f").arg("-c").arg(&config);
        bird.arg("-s").arg(stage.dir.join("carrier.ctl"));
        stage.others.push(bird.spawn().context("cannot run bird")?);
        Ok(stage)
    }

    /// A command on a node.
    fn on(&self, node: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{node}", self.name), program]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Packets from a server to the carrier's customer, ten a second, for as long as the stage is there.
    ///
    /// # Errors
    /// No `ping`.
    pub fn traffic(&mut self) -> Result<()> {
        for to in ["5.1.0.1", "2a05::1"] {
            let mut ping = self.on("server", "ping");
            self.others.push(ping.args(["-i", "0.1", to]).spawn()?);
        }
        Ok(())
    }

    /// What stands for the package manager and the service manager, which are not there.
    fn tools(&self) -> Result<()> {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        for (name, text) in [("apt", APT), ("systemctl", SYSTEMCTL)] {
            let text = text
                .replace("BINARY", &binary()?.display().to_string())
                .replace("ROOT", root)
                .replace("DIR", &self.dir.display().to_string());
            let path = self.dir.join("bin").join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Runs a line of the shell on the router; what it says on both ways out, and whether it went well.
    ///
    /// # Errors
    /// No shell.
    pub fn shell(&self, line: &str) -> Result<(String, bool)> {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.inside.to_string(), "--mount", "--pid", "--net"])
            .args(["sh", "-c", &format!("exec 2>&1; cd; {line}")])
            .env(
                "PATH",
                format!("{}/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.dir.display()),
            )
            .env("HOME", &self.dir)
            .stdin(Stdio::null());
        let output = command.output().context("cannot run nsenter")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((said, output.status.success()))
    }

    /// Follows a page. A command that does not answer yet what it should is asked again for a while, as somebody would who reads.
    ///
    /// # Errors
    /// A command that fails, or that does not answer what the page says.
    pub fn follow(&self, page: &Path) -> Result<()> {
        let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
        for step in steps(&text)? {
            match &step {
                Step::File { path, text } => {
                    let (copy, parent) = (self.dir.join("file"), path.parent().context("no directory")?);
                    fs::write(&copy, text)?;
                    let (said, well) = self.shell(&format!(
                        "mkdir -p {} && cat {} > {}",
                        parent.display(),
                        copy.display(),
                        path.display()
                    ))?;
                    ensure!(well, "{}: {said}", path.display());
                }
                Step::Run { command, answer } => self.one(command, answer).with_context(|| {
                    let tail = self.shell(&format!("tail -n 20 {}/*.log", self.dir.display()));
                    format!(
                        "{}: # {command}\n{}",
                        page.display(),
                        tail.map(|tail| tail.0).unwrap_or_default()
                    )
                })?,
            }
        }
        Ok(())
    }

    fn one(&self, command: &str, answer: &[String]) -> Result<()> {
        println!("# {command}");
        let mut last = String::new();
        let done = until("the answer", || {
            let (said, well) = self.shell(command)?;
            last = said;
            let there = answer.iter().all(|line| is_there(line, &last));
            ensure!(well || !answer.is_empty(), "it failed: {last}");
            Ok((well && there).then_some(()))
        });
        let missing: Vec<&String> = answer.iter().filter(|line| !is_there(line, &last)).collect();
        done.with_context(|| format!("it says\n{last}\nand not {missing:#?}"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // With the first process of its namespace everything in it ends.
        // SAFETY: a signal to a process that we started, whose parent has not been waited for.
        unsafe { libc::kill(self.inside as i32, libc::SIGKILL) };
        for child in self.others.iter_mut().chain([&mut self.holder]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        for node in NODES {
            let name = format!("{}-{node}", self.name);
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn until<T>(what: &str, mut done: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = done()? {
            return Ok(answer);
        }
        ensure!(Instant::now() < end, "waited {LIMIT:?} for {what} in vain");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Three namespaces and two cables, and what any Debian router has.
const SETUP: &str = r"
on() { node=$1; shift; ip netns exec NAME-$node $*; }
cable() {
    ip link add $1 netns NAME-router type veth peer name $3 netns NAME-$2
    for end in router:$1 $2:$3; do
        on ${end%:*} ip link set ${end#*:} up
        on ${end%:*} ethtool -K ${end#*:} tx off tso off gso off txvlan off rxvlan off gro on
    done
}
for node in router carrier server; do
    on $node ip link set lo up
    on $node sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
done
cable transit0 carrier up0
cable core0 server eth0
on router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
on router ip addr add 198.51.100.2/30 dev transit0
on router ip addr add 2001:db8:ffff::2/64 dev transit0 nodad
on router ip addr add 192.0.2.1/24 dev core0
on router ip addr add 2001:db8:1::1/64 dev core0 nodad
on router ip route add default via 198.51.100.1
on router ip route add default via 2001:db8:ffff::1
on carrier ip addr add 198.51.100.1/30 dev up0
on carrier ip addr add 2001:db8:ffff::1/64 dev up0 nodad
on carrier ip addr add 5.1.0.1/32 dev lo
on carrier ip addr add 2a05::1/128 dev lo
on carrier ip route add 192.0.2.0/24 via 198.51.100.2
on carrier ip route add 2001:db8:1::/64 via 2001:db8:ffff::2
on server ip addr add 192.0.2.10/24 dev eth0
on server ip addr add 2001:db8:1::10/64 dev eth0 nodad
on server ip route add default via 192.0.2.1
on server ip route add default via 2001:db8:1::1
";

/// A place for files that is the router's alone.
const INSIDE: &str = r"
mount --make-rprivate /
mount -t proc proc /proc
mount -t bpf bpf /sys/fs/bpf
for place in etc var/lib var/log; do
    mkdir -p DIR/up/$place DIR/work/$place
    mount -t overlay overlay -o lowerdir=/$place,upperdir=DIR/up/$place,workdir=DIR/work/$place /$place
done
rm -rf /etc/forwarder /var/lib/forwarder
mount -t tmpfs tmpfs /run
touch DIR/ready
# Whoever ends is waited for here, as a first process should.
while :; do sleep 0.2; done
";

const CARRIER: &str = r"
router id 198.51.100.1;
protocol device { }
protocol static routes4 { ipv4; route 5.1.0.0/16 unreachable; route 20.0.0.0/8 unreachable; }
protocol static routes6 { ipv6; route 2a05::/32 unreachable; }
protocol bgp client4 {
    local 198.51.100.1 as 64496;
    neighbor 198.51.100.2 as 64500;
    connect retry time 2; error wait time 1, 2;
    ipv4 { import all; export all; next hop self; };
}
protocol bgp client6 {
    local 2001:db8:ffff::1 as 64496;
    neighbor 2001:db8:ffff::2 as 64500;
    connect retry time 2; error wait time 1, 2;
    ipv6 { import all; export all; next hop self; };
}
";

/// The package as `cargo xtask dist --test` installs it on bare systems; here its files.
const APT: &str = r#"#!/bin/sh -e
[ "$1" = install ] || { echo "apt: only install" >&2; exit 1; }
case "$*" in *forwarder*)
    ln -sf BINARY DIR/bin/forwarder
    mkdir -p /etc/forwarder
    cp ROOT/dist/forwarder.toml /etc/forwarder/forwarder.toml
esac
"#;

/// What the units of these services run.
const SYSTEMCTL: &str = r#"#!/bin/sh -e
verb=$1 unit=$2
log=DIR/$unit.log
case "$verb $unit" in
"start forwarder" | "restart forwarder")
    forwarder check --configured >/dev/null
    [ "$verb" = start ] || kill "$(cat /run/forwarder.pid)" || true
    [ "$verb" = start ] || while kill -0 "$(cat /run/forwarder.pid)" 2>/dev/null; do sleep 0.1; done
    words=run
    [ ! -e /etc/systemd/system/forwarder.service.d/dry-run.conf ] || words=$(sed -n 's|^ExecStart=/usr/bin/forwarder ||p' /etc/systemd/system/forwarder.service.d/dry-run.conf)
    setsid forwarder $words >>"$log" 2>&1 &
    echo $! >/run/forwarder.pid
    for _ in $(seq 100); do ! forwarder status 2>/dev/null | grep -q "controller running" || exit 0; sleep 0.2; done
    cat "$log" >&2; exit 1;;
"daemon-reload ") ;;
"stop forwarder")
    kill "$(cat /run/forwarder.pid)"
    while kill -0 "$(cat /run/forwarder.pid)" 2>/dev/null; do sleep 0.1; done;;
"reload forwarder") exec forwarder reload;;
"start bird" | "restart bird")
    mkdir -p /run/bird
    [ ! -e /run/bird/bird.ctl ] || { birdc down >/dev/null; sleep 1; }
    exec bird -c /etc/bird/bird.conf -s /run/bird/bird.ctl -P /run/bird/bird.pid;;
"reload bird") exec birdc configure;;
"start frr" | "restart frr")
    mkdir -p /run/frr /var/run/frr
    chown frr:frr /run/frr /etc/frr/*
    . /etc/frr/daemons
    /usr/lib/frr/zebra -d $zebra_options
    /usr/lib/frr/staticd -d
    [ "$bgpd" != yes ] || /usr/lib/frr/bgpd -d $bgpd_options
    sleep 1
    exec vtysh -b;;
"start keepalived") exec keepalived -f /etc/keepalived/keepalived.conf -p /run/keepalived.pid;;
*) echo "systemctl: $*" >&2; exit 1;;
esac
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_files_and_commands_with_answers() -> Result<()> {
        let page = "Words.\n\n```console\n# one two   # why\nan answer\n\n# three\n```\n```toml /etc/x\na = 1\n```\n```toml\nb = 2\n```\n";
        let wanted = [
            Step::Run {
                command: "one two".into(),
                answer: vec!["an answer".into()],
            },
            Step::Run {
                command: "three".into(),
                answer: Vec::new(),
            },
            Step::File {
                path: "/etc/x".into(),
                text: "a = 1\n".into(),
            },
        ];
        assert_eq!(steps(page)?, wanted);
        assert!(steps("```console\nwords\n```").is_err());
        assert!(steps("```console\n# words").is_err());
        Ok(())
    }

    #[test]
    fn an_answer_is_there_whatever_its_figures_are_and_not_otherwise() {
        let said = "status\nforwarded  1,204 of 1,300 packets in 3 s\nproblems none";
        for there in [
            "forwarded 7 of 8 packets in 2.5 s",
            "forwarded ... packets ...",
            "... of 1 packets ...",
            "problems   none",
            "...none",
            "forwarded 3...8...",
        ] {
            assert!(is_there(there, said), "{there}");
        }
        for missing in [
            "problems",
            "forwarded ... octets ...",
            "none",
            "forwarded 7 of 8 packets",
        ] {
            assert!(!is_there(missing, said), "{missing}");
        }
    }
}
