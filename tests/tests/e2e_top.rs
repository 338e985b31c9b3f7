//! `forwarder top` on a terminal and without one.

use std::{
    io::{Read, Write},
    os::fd::AsRawFd,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use forwarder_tests::{
    known::{ENDING, PACKETS, lab, send},
    lab::{LIMIT, Lab},
};
use serde_json::Value;

#[test]
fn top_once_shows_what_was_forwarded_in_between() -> Result<()> {
    let lab = lab()?;
    let account = "[[account]]\nname = \"far/five\"\nprefixes = [\"5.0.0.0/8\"]\ncommit = \"1Gbit\"\n";
    let controller = lab.start(&["a", "b"], account)?;
    send(&lab)?;
    let rates = std::thread::scope(|scope| -> Result<Value> {
        let top = scope.spawn(|| lab.json("top --once --interval 8"));
        std::thread::sleep(Duration::from_secs(2));
        send(&lab)?;
        top.join().map_err(|_| anyhow::anyhow!("top panicked"))?
    })?;
    let rows = rates.as_array().context("rows")?;
    let row = |view: &str, key: &str, value: &str| {
        let found = rows.iter().find(|row| row["view"] == view && row[key] == value);
        found.with_context(|| format!("no {view} {value} in {rates}"))
    };
    let seconds = row("status", "controller", "running")?["seconds"]
        .as_f64()
        .context("seconds")?;
    let near = |rate: &Value, packets: usize| {
        let counted = rate.as_f64().unwrap_or(-1.0) * seconds;
        // Rates are whole numbers, and some of the router's own packets come in, too.
        (counted - packets as f64).abs() <= seconds + 20.0
    };
    let a = row("interfaces", "ifname", "a")?;
    ensure!(
        near(&a["received_packets_per_second"], 3 * PACKETS + ENDING),
        "{a}"
    );
    ensure!(near(&a["dropped_packets_per_second"], PACKETS), "{a}");
    ensure!(a["link_speed"] == 10_000_000_000_u64, "{a}");
    let blackhole = row("reasons", "reason", "blackhole")?;
    ensure!(near(&blackhole["packets_per_second"], PACKETS), "{blackhole}");
    let hop = row("next-hops", "nexthop", "10.2.0.2")?;
    ensure!(near(&hop["packets_per_second"], PACKETS), "{hop}");
    // Neither interface is to a carrier, so what goes to the account comes from elsewhere, and nothing of it crosses the edge.
    for name in ["far", "far/five"] {
        let account = row("accounts", "account", name)?;
        let octets = account["elsewhere_bytes_per_second"].as_f64().unwrap_or(-1.0) * seconds;
        let frames = PACKETS as f64;
        ensure!(octets / frames > 60.0 && octets / frames < 1_000.0, "{account}");
        ensure!(account["in_bytes_per_second"] == 0, "{account}");
        let share = account["share"].as_f64().unwrap_or(-1.0);
        ensure!(
            share > 0.3 && share < 0.7,
            "of both families, that of one: {account}"
        );
    }
    drop(controller);
    // Without a controller the maps tell.
    let rows = lab.json("top --once --interval 0.5")?;
    ensure!(rows[0]["controller"] == "not running", "{rows}");
    Ok(())
}

/// A terminal of this size, and what runs on it.
struct Screen {
    child: Child,
    master: std::fs::File,
    /// Read, and behind what was waited for.
    rest: Vec<u8>,
}

impl Screen {
    fn start(lab: &Lab, words: &str) -> Result<Screen> {
        let mut size = libc::winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (mut master, mut slave) = (0, 0);
        // SAFETY: both descriptors are written before they are used, and the size outlives the call.
        let made = unsafe {
            libc::openpty(
                &raw mut master,
                &raw mut slave,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                &raw mut size,
            )
        };
        ensure!(made == 0, "no terminal: {}", std::io::Error::last_os_error());
        // SAFETY: both were just made and belong to nobody else.
        let (master, slave): (std::fs::File, std::fs::File) = unsafe {
            use std::os::fd::FromRawFd;
            (FromRawFd::from_raw_fd(master), FromRawFd::from_raw_fd(slave))
        };
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg("nsenter");
        command.arg(format!("--net=/run/netns/{}", lab.netns("router")));
        command
            .arg(forwarder_tests::controller::binary()?)
            .args(words.split(' '));
        command
            .arg("--socket")
            .arg(lab.socket())
            .arg("--bpffs")
            .arg(lab.pins());
        command.env("TERM", "xterm-256color");
        command
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        Ok(Screen {
            child: command.spawn()?,
            master,
            rest: Vec::new(),
        })
    }

    /// What it writes until these words are there. What is behind them, and was read with them, comes next time: only what has
    /// changed is ever written again.
    fn until(&mut self, words: &str) -> Result<String> {
        let mut all = std::mem::take(&mut self.rest);
        let end = std::time::Instant::now() + LIMIT;
        loop {
            if let Some(at) = all.windows(words.len()).position(|part| part == words.as_bytes()) {
                self.rest = all.split_off(at + words.len());
                return Ok(String::from_utf8_lossy(&all).into_owned());
            }
            if std::time::Instant::now() >= end {
                break;
            }
            let mut ready = libc::pollfd {
                fd: self.master.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one descriptor that is open, and its structure.
            if unsafe { libc::poll(&raw mut ready, 1, 100) } <= 0 {
                continue;
            }
            let mut octets = [0; 4096];
            match self.master.read(&mut octets) {
                Ok(0) | Err(_) => break,
                Ok(count) => all.extend_from_slice(&octets[..count]),
            }
        }
        bail!("{words:?} is not in {:?}", String::from_utf8_lossy(&all))
    }

    fn ended(&mut self, lab: &Lab) -> Result<bool> {
        Ok(lab.wait("top to end", || Ok(self.child.try_wait()?))?.success())
    }
}

/// Leaves the alternate screen and shows the cursor.
const GIVEN_BACK: &str = "\x1b[?1049l";

#[test]
fn a_live_screen_gives_the_terminal_back_however_it_ends() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    // By its key.
    let mut screen = Screen::start(&lab, "top --interval 0.5")?;
    screen.until("interfaces")?;
    screen.master.write_all(b"q")?;
    screen.until(GIVEN_BACK)?;
    ensure!(screen.ended(&lab)?);
    // After it was stopped; nobody watches for that here, so it goes on at once.
    let mut screen = Screen::start(&lab, "top --interval 0.5")?;
    screen.until("interfaces")?;
    screen.master.write_all(b"\x1a")?;
    screen.until(GIVEN_BACK)?;
    screen.until("interfaces")?;
    screen.master.write_all(b"q")?;
    screen.until(GIVEN_BACK)?;
    ensure!(screen.ended(&lab)?);
    // By a signal.
    let mut screen = Screen::start(&lab, "top --interval 0.5")?;
    screen.until("interfaces")?;
    // SAFETY: a signal to our own child, which has not been waited for.
    unsafe { libc::kill(screen.child.id() as i32, libc::SIGTERM) };
    screen.until(GIVEN_BACK)?;
    ensure!(screen.ended(&lab)?);
    // A controller that goes away leaves its last figures, and says so.
    let mut screen = Screen::start(&lab, "top --interval 0.5")?;
    screen.until("interfaces")?;
    drop(controller);
    // A word alone: between words only what has changed is written.
    screen.until("pinned")?;
    screen.master.write_all(b"q")?;
    screen.until(GIVEN_BACK)?;
    Ok(())
}

#[test]
fn without_a_terminal_the_way_to_do_it_is_named() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b"], "")?;
    let output = lab.forwarder("top")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{said}");
    ensure!(
        said.contains("is not a terminal: use `forwarder top --once`"),
        "{said}"
    );
    for (line, words) in [
        ("top --interval 0.1", "between 0.2 and 3600 seconds"),
        ("top --interval x", "no number of seconds"),
        ("top --rows 3", "--once"),
    ] {
        let output = lab.forwarder(line)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && said.contains(words),
            "{line}: {said}"
        );
    }
    drop(controller);
    Ok(())
}
