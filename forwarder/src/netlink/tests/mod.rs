//! With the real kernel, each in a network namespace of its own that ends with it. They need root and `ip`, and say so.

mod lookup;
mod neighbours;
mod programs;
mod resync;
mod state;
mod stream;

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::source::event::{Action, Dump, Hop, Ifindex, Route};

/// Runs `test` on a thread with a namespace of its own, its loopback up. Threads and processes that it starts inherit it.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        enter_namespace();
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn enter_namespace() {
    // SAFETY: unshare takes no pointers; it changes the namespace of this thread only.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    let why = std::io::Error::last_os_error();
    assert_eq!(
        result, 0,
        "this test needs root (CAP_SYS_ADMIN) to make a network namespace: {why}"
    );
}

/// `ip ARGUMENTS`, which must succeed.
pub fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

/// Many lines of `ip` at once.
pub fn ip_batch(lines: &str) {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "ip -batch");
}

/// `count` routes to 10.0.0.0/24, 10.0.1.0/24 and so on, as lines for [`ip_batch`].
pub fn many_routes(count: usize, via: &str) -> String {
    (0..count)
        .map(|n| format!("route add 10.{}.{}.0/24 {via}\n", n / 256, n % 256))
        .collect()
}

pub fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Two veth pairs in one namespace: va (192.0.2.1/24, 2001:db8:1::1/64) with vb, vc (198.51.100.1/24,
/// 2001:db8:2::1/64) with vd. Their interface indices, va's and vc's.
pub fn two_links() -> (Ifindex, Ifindex) {
    for (here, there, v4, v6) in [
        ("va", "vb", "192.0.2.1/24", "2001:db8:1::1/64"),
        ("vc", "vd", "198.51.100.1/24", "2001:db8:2::1/64"),
    ] {
        ip(&format!("link add {here} type veth peer name {there}"));
        for link in [here, there] {
            // Without link-local addresses: they come a second later, into the middle of a test.
            ip(&format!("link set {link} addrgenmode none up"));
        }
        ip(&format!("addr add {v4} dev {here}"));
        ip(&format!("-6 addr add {v6} dev {here} nodad"));
        eventually(&format!("{here} is up"), || {
            ip(&format!("link show {here}")).contains("state UP")
        });
    }
    (index("va"), index("vc"))
}

pub fn index(name: &str) -> Ifindex {
    let links = super::dump::dump_links().unwrap();
    links
        .iter()
        .find(|link| link.name == name)
        .unwrap_or_else(|| panic!("no {name} in {links:?}"))
        .ifindex
}

/// Waits until it holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub fn hop(ifindex: Ifindex, gateway: &str, weight: u16) -> Hop {
    Hop {
        ifindex,
        gateway: Some(gateway.parse().unwrap()),
        weight,
        dead: false,
        unsupported: false,
    }
}

/// The routes of table main with this prefix.
pub fn routes<'a>(dump: &'a Dump, prefix: &str) -> Vec<&'a Route> {
    let prefix = prefix.parse().unwrap();
    dump.routes
        .iter()
        .filter(|route| route.prefix == prefix && route.table == 254)
        .collect()
}

/// What the only route with this prefix does.
pub fn action(dump: &Dump, prefix: &str) -> Action {
    let routes = routes(dump, prefix);
    assert_eq!(routes.len(), 1, "{prefix}: {routes:?}");
    routes[0].action.clone()
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Another namespace, alive as long as this.
pub struct Peer {
    thread: u32,
    end: Option<mpsc::Sender<()>>,
    handle: Option<JoinHandle<()>>,
}

impl Peer {
    pub fn start() -> Self {
        let (end, ended) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let handle = thread::spawn(move || {
            enter_namespace();
            // SAFETY: gettid takes nothing and always succeeds.
            tell.send(unsafe { libc::gettid() }).unwrap();
            let _ = ended.recv();
        });
        let thread = u32::try_from(told.recv().unwrap()).unwrap();
        Self {
            thread,
            end: Some(end),
            handle: Some(handle),
        }
    }

    /// Moves a link there.
    pub fn take(&self, link: &str) {
        ip(&format!("link set {link} netns {}", self.thread));
    }

    /// Moves a link from there to the namespace of this thread.
    pub fn give(&self, link: &str) {
        // SAFETY: gettid takes nothing and always succeeds.
        let here = unsafe { libc::gettid() };
        self.ip(&format!("link set {link} netns {here}"));
    }

    /// `ip ARGUMENTS` in there.
    pub fn ip(&self, arguments: &str) {
        let namespace = format!("--net=/proc/{}/task/{}/ns/net", std::process::id(), self.thread);
        run("nsenter", &format!("{namespace} ip {arguments}"));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end.take();
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}
