//! The routing daemons: BIRD, and FRR's zebra with bgpd, each filled by a session from beyond an interface of the router.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use xtask::lab::{frr, run};
use xtask::progress::{Poll, wait};

use crate::process::dies_with_us;
use crate::router::Router;

/// Where the daemons are called, from the other side of the cable that it is an end of.
pub const CALLED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 64, 1, 1)), 179);
/// How long a daemon may take for its table.
const LIMIT: Duration = Duration::from_secs(300);

const BIRD: &str = "\
router id 10.64.0.1;
protocol device {}
protocol direct { ipv4; ipv6; }
protocol bgp carrier {
  local 10.64.1.1 as 64500; neighbor 10.64.1.2 as 64500; passive on;
  ipv4 { import all; export none; };
  ipv6 { import all; export none; };
}
protocol bgp feed {
  disabled;
  local 127.0.0.1 as 64500; neighbor 127.0.0.2 port 1179 as 64500; rr client;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 { import none; export where source = RTS_BGP; next hop keep; };
  ipv6 { import none; export where source = RTS_BGP; next hop keep; };
}
";

const ZEBRA: &str = "hostname router\nno fpm address\n";

const BGPD: &str = "\
hostname router
router bgp 64500
 bgp router-id 10.64.0.1
 no bgp default ipv4-unicast
 neighbor 10.64.1.2 remote-as 64500
 neighbor 10.64.1.2 passive
 address-family ipv4 unicast
  neighbor 10.64.1.2 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 10.64.1.2 activate
 exit-address-family
";

/// A process that ends with this value, and with this bench, were it by SIGKILL.
///
/// The signal of a parent's death is not enough: who gives up root loses it (`commit_creds`, kernel/cred.c), as FRR's daemons
/// do. So each is in a namespace of processes whose first is a shell that has kept it; with the first all others end.
struct Daemon(Child);

impl Daemon {
    fn start(daemon: &Command, log: &Path) -> Result<Daemon> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("unshare");
        command
            .args([
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                "\"$@\" & wait $!",
                "sh",
            ])
            .arg(daemon.get_program())
            .args(daemon.get_args())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        dies_with_us(&mut command);
        let child = command.spawn().context("cannot run unshare")?;
        Ok(Daemon(child))
    }

    fn alive(&mut self, log: &Path) -> Result<()> {
        if let Some(status) = self.0.try_wait()? {
            bail!(
                "it ended ({status}):\n{}",
                fs::read_to_string(log).unwrap_or_default()
            );
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// BIRD 2, which keeps its routes for itself and tells them to whoever listens for BGP on 127.0.0.2.
pub struct Bird {
    daemon: Daemon,
    dir: PathBuf,
}

impl Bird {
    /// Starts it without a table.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(router: &Router) -> Result<Bird> {
        let dir = router.world().dir().join("bird");
        fs::create_dir_all(&dir)?;
        let config = dir.join("bird.conf");
        fs::write(&config, BIRD)?;
        let mut command = Command::new("bird");
        command.arg("-f").arg("-c").arg(config);
        command.arg("-s").arg(dir.join("ctl"));
        let daemon = Daemon::start(&command, &dir.join("log"))?;
        let mut bird = Bird { daemon, dir };
        wait("BIRD starting", LIMIT, Duration::from_millis(50), || {
            bird.daemon
                .alive(&bird.dir.join("log"))
                .context("Debian: bird2")?;
            Ok(match bird.ask("show status") {
                Ok(_) => Poll::Ready(()),
                Err(why) => Poll::Waiting(format!("{why:#}")),
            })
        })?;
        Ok(bird)
    }

    /// Waits until it has so many routes of its carrier.
    ///
    /// # Errors
    /// It does not get there.
    pub fn holds(&self, routes: usize) -> Result<()> {
        wait("BIRD taking the table", LIMIT, Duration::from_millis(500), || {
            let text = self.ask("show route protocol carrier count")?;
            // "1146271 of 1146293 routes for 1146282 networks in table master4", a line for each table and a sum.
            let count = |line: &str| line.split_whitespace().next()?.parse::<usize>().ok();
            let held: usize = text
                .lines()
                .filter(|line| line.contains("in table"))
                .filter_map(count)
                .sum();
            Ok(if held == routes {
                Poll::Ready(())
            } else {
                Poll::Waiting(format!("{held} of {routes}"))
            })
        })
    }

    /// Begins the session with us.
    ///
    /// # Errors
    /// BIRD does not answer.
    pub fn connect(&self) -> Result<()> {
        self.ask("enable feed").map(drop)
    }

    /// Ends it.
    ///
    /// # Errors
    /// BIRD does not answer.
    pub fn disconnect(&self) -> Result<()> {
        self.ask("disable feed").map(drop)
    }

    /// Keeps BIRD awake until what this answers is dropped. Its loop (`io_loop`, sysdep/unix/io.c) looks for events before it
    /// does the work that makes the last of them, and then sleeps for up to three seconds: with a receiver that keeps up, the
    /// end of the table waits for that. A question wakes it, for every candidate alike.
    ///
    /// # Errors
    /// BIRD does not answer.
    pub fn awake(&self) -> Result<Awake> {
        let mut stream = UnixStream::connect(self.dir.join("ctl")).context("BIRD's control socket")?;
        stream.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut answer = [0; 4096];
            while !stopped.load(Relaxed) && stream.write_all(b"show status\n").is_ok() {
                thread::sleep(Duration::from_millis(20));
                while matches!(stream.read(&mut answer), Ok(1..)) {}
            }
        });
        Ok(Awake {
            stop,
            thread: Some(thread),
        })
    }

    fn ask(&self, words: &str) -> Result<String> {
        let mut command = Command::new("birdc");
        run(command.arg("-s").arg(self.dir.join("ctl")).args(words.split(' ')))
    }
}

/// BIRD does not sleep while this lives.
pub struct Awake {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// FRR's zebra, which puts its routes into the kernel and tells them to whoever listens for FPM, and its bgpd.
pub struct Frr {
    // bgpd first, which would complain of zebra's end.
    bgpd: Daemon,
    zebra: Daemon,
    dir: PathBuf,
}

impl Frr {
    /// Starts both without a table.
    ///
    /// # Errors
    /// They do not start.
    pub fn start(router: &Router) -> Result<Frr> {
        let dir = router.world().dir().join("frr");
        frr::directory(&dir)?;
        let start = |name: &str, config: &str, more: &[&str]| {
            let file = |suffix: &str| dir.join(format!("{name}.{suffix}"));
            fs::write(file("conf"), config)?;
            let mut command = Command::new(frr::program(name));
            frr::arguments(&mut command, &dir, name);
            command.args(more);
            let log = file("log");
            let mut daemon = Daemon::start(&command, &log)?;
            wait(
                &format!("{name} starting"),
                LIMIT,
                Duration::from_millis(100),
                || {
                    daemon.alive(&log).context("Debian: frr")?;
                    Ok(match frr::vtysh(&dir, name, &["show version"]) {
                        Ok(_) => Poll::Ready(()),
                        Err(why) => Poll::Waiting(format!("{why:#}")),
                    })
                },
            )?;
            Ok::<Daemon, anyhow::Error>(daemon)
        };
        let zebra = start("zebra", ZEBRA, &["-M", "dplane_fpm_nl"])?;
        let bgpd = start("bgpd", BGPD, &[])?;
        Ok(Frr { bgpd, zebra, dir })
    }

    /// Waits until zebra has put so many routes of bgpd, IPv4 and IPv6, into the kernel.
    ///
    /// # Errors
    /// It does not get there.
    pub fn holds(&mut self, routes: [usize; 2]) -> Result<()> {
        wait("FRR taking the table", LIMIT, Duration::from_secs(1), || {
            self.zebra.alive(&self.dir.join("zebra.log"))?;
            self.bgpd.alive(&self.dir.join("bgpd.log"))?;
            let mut laid = [0; 2];
            for (laid, command) in laid
                .iter_mut()
                .zip(["show ip route summary", "show ipv6 route summary"])
            {
                // "ibgp  968425  968425": routes, and those in the kernel.
                let text = frr::vtysh(&self.dir, "zebra", &[command])?;
                let line = text.lines().find(|line| line.starts_with("ibgp"));
                *laid = line
                    .and_then(|line| line.split_whitespace().nth(2)?.parse().ok())
                    .unwrap_or(0);
            }
            Ok(if laid == routes {
                Poll::Ready(())
            } else {
                Poll::Waiting(format!("{laid:?} of {routes:?}"))
            })
        })
    }

    /// Lets zebra connect to us.
    ///
    /// # Errors
    /// It does not answer.
    pub fn connect(&self) -> Result<()> {
        frr::vtysh(
            &self.dir,
            "zebra",
            &["configure terminal", "fpm address 127.0.0.1 port 2620"],
        )
        .map(drop)
    }

    /// Ends that.
    ///
    /// # Errors
    /// It does not answer.
    pub fn disconnect(&self) -> Result<()> {
        frr::vtysh(&self.dir, "zebra", &["configure terminal", "no fpm address"]).map(drop)
    }
}
