//! Clients that mean no good, of everything that a controller listens on: slow ones, silent ones, crowds, and those that send too much,
//! too little or nonsense. Each is a thread that begins again when it is thrown out, until it is told to end.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::random::Random;

/// A user and a group that every Debian has and that are nobody's: nobody, and daemon's group.
pub const STRANGER: (u32, u32) = (65_534, 1);
/// Connections that a crowd holds.
pub const CROWD: usize = 200;

/// What is spoken on an address.
#[derive(Clone, Debug)]
pub enum At {
    /// HTTP on a Unix socket, as [`STRANGER`].
    Socket(PathBuf),
    /// HTTP.
    Http(SocketAddr),
    /// BGP, from this loopback address.
    Bgp(SocketAddr, Ipv4Addr),
    /// FPM.
    Fpm(SocketAddr),
}

/// How a client misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Holds many connections and says nothing.
    Crowd,
    /// A byte of something right every now and then.
    Slow,
    /// Something that begins right and does not end.
    Huge,
    /// Random octets.
    Garbage,
    /// What is right up to a point, and is cut or wrong behind it.
    Truncated,
    /// Asks for much and reads nothing.
    Deaf,
}

impl How {
    /// Those who never say anything that could be taken for somebody.
    pub const NOBODY: [How; 3] = [How::Crowd, How::Slow, How::Garbage];
    /// All of them.
    pub const ALL: [How; 6] = [
        How::Crowd,
        How::Slow,
        How::Huge,
        How::Garbage,
        How::Truncated,
        How::Deaf,
    ];
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl At {
    fn connect(&self) -> Result<Box<dyn Stream>> {
        let patience = Some(Duration::from_millis(200));
        let tcp = |stream: TcpStream| -> Result<Box<dyn Stream>> {
            stream.set_read_timeout(patience)?;
            stream.set_write_timeout(patience)?;
            Ok(Box::new(stream))
        };
        match self {
            At::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                Ok(Box::new(stream))
            }
            At::Http(at) | At::Fpm(at) => tcp(TcpStream::connect(at)?),
            At::Bgp(at, from) => {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                socket.bind(&SocketAddr::from((*from, 0)).into())?;
                socket.connect(&(*at).into())?;
                tcp(socket.into())
            }
        }
    }

    /// Something that is right, as far as it goes.
    fn right(&self) -> Vec<u8> {
        match self {
            At::Socket(_) | At::Http(_) => {
                b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_vec()
            }
            At::Bgp(..) => open(),
            // A frame of 65,000 octets.
            At::Fpm(_) => [&[1, 1, 0xfd, 0xe8][..], &[0; 64]].concat(),
        }
    }

    /// What has no end, after what begins it.
    fn huge(&self) -> (Vec<u8>, Vec<u8>) {
        match self {
            At::Socket(_) => (
                b"GET / HTTP/1.1\r\nHost: localhost\r\n".to_vec(),
                vec![b'a'; 1 << 16],
            ),
            At::Http(_) => (
                b"POST /v1/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n"
                    .to_vec(),
                vec![b'a'; 1 << 16],
            ),
            // An UPDATE of 65,535 octets; and frame after frame of what is no message.
            At::Bgp(..) => ([&open()[..], &[0xff; 18], &[2]].concat(), vec![0; 1 << 16]),
            At::Fpm(_) => (
                Vec::new(),
                [&[1, 1, 0xff, 0xff][..], &vec![0x5a; 65_531]].concat(),
            ),
        }
    }

    /// What is cut, or wrong where it counts.
    fn truncated(&self, random: &mut Random) -> Vec<u8> {
        match self {
            At::Socket(_) | At::Http(_) => {
                let whole = b"GET /v1/routes?limit=-1&after=%ff%00 HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-\r\n\r\n";
                whole[..1 + random.below(whole.len())].to_vec()
            }
            At::Bgp(..) => {
                // An attribute that says it is longer than all of them, behind a keepalive.
                let body = [0, 0, 0, 7, 0x40, 1, 200, 0, 0x40, 2, 0, 24, 5, 1, 1];
                let update = message(2, &body);
                let cut = 19 + random.below(update.len() - 18);
                [&open()[..], &message(4, &[]), &update[..cut]].concat()
            }
            At::Fpm(_) => {
                // A netlink message of type RTM_NEWROUTE whose attribute is longer than it.
                let route = [2, 24, 0, 0, 254, 11, 0, 1, 0, 0, 0, 0];
                let attribute = [200, 0, 1, 0, 5, 1, 1, 0];
                let mut netlink = Vec::new();
                netlink.extend(36u32.to_ne_bytes());
                netlink.extend(24u16.to_ne_bytes());
                netlink.extend([1, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
                netlink.extend(route);
                netlink.extend(attribute);
                let whole = [&[1, 1, 0, 4 + netlink.len() as u8][..], &netlink].concat();
                whole[..4 + random.below(whole.len() - 3)].to_vec()
            }
        }
    }

    /// What asks for as much as there is.
    fn much(&self) -> Vec<u8> {
        match self {
            At::Socket(_) => b"GET /v1/routes HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            At::Http(_) => b"GET /v1/routes?limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            At::Bgp(..) => [open(), message(4, &[])].concat(),
            At::Fpm(_) => vec![1, 1, 0, 4],
        }
    }
}

/// A BGP message.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (19 + body.len() as u16).to_be_bytes();
    [&[0xff; 16][..], &length, &[kind], body].concat()
}

/// An OPEN that a controller of AS 64500 accepts.
fn open() -> Vec<u8> {
    let capabilities = [1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfb, 0xf4];
    let parameters = [&[2, capabilities.len() as u8][..], &capabilities].concat();
    let fixed = [4, 0xfb, 0xf4, 0, 90, 10, 9, 9, 9, parameters.len() as u8];
    message(1, &[&fixed[..], &parameters].concat())
}

/// Misbehaves until it is over. Answers how often it began again.
///
/// # Errors
/// Nobody listens any more.
pub fn misbehave(at: &At, how: How, seed: u64, over: &AtomicBool, begun: &AtomicU64) -> Result<()> {
    if let At::Socket(_) = at {
        become_stranger()?;
    }
    let mut random = Random::new(seed);
    let mut held: Vec<Box<dyn Stream>> = Vec::new();
    let mut refused = 0;
    while !over.load(Relaxed) {
        let mut stream = match at.connect() {
            Ok(stream) => stream,
            Err(why) => {
                // Its backlog is full at times. Nobody may be thrown out for good.
                refused += 1;
                ensure!(refused < 1_000, "{at:?} cannot be reached any more: {why:#}");
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        refused = 0;
        begun.fetch_add(1, Relaxed);
        // An error is the end that it deserves.
        let _ = match how {
            How::Crowd => {
                held.retain_mut(|stream| is_open(&mut **stream));
                if held.len() < CROWD {
                    held.push(stream);
                } else {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            }
            How::Slow => drip(&mut *stream, &at.right(), over),
            How::Huge => {
                let (begin, more) = at.huge();
                pour(&mut *stream, &begin, &more, over)
            }
            How::Garbage => {
                let octets: Vec<u8> = (0..random.below(9_000)).map(|_| random.bits() as u8).collect();
                stream.write_all(&octets).map(|()| drain(&mut *stream))
            }
            How::Truncated => stream
                .write_all(&at.truncated(&mut random))
                .map(|()| drain(&mut *stream)),
            How::Deaf => stream.write_all(&at.much()).map(|()| {
                held.push(stream);
                if held.len() > 20 {
                    held.remove(0);
                }
                std::thread::sleep(Duration::from_millis(50));
            }),
        };
    }
    Ok(())
}

/// Whether the other side has not closed it, without waiting.
fn is_open(stream: &mut dyn Stream) -> bool {
    // One that was told something and closed is noticed by writing, which says nothing that anybody could take for a word.
    stream.write(&[]).is_ok()
}

fn drip(stream: &mut dyn Stream, octets: &[u8], over: &AtomicBool) -> std::io::Result<()> {
    for octet in octets {
        if over.load(Relaxed) {
            break;
        }
        stream.write_all(&[*octet])?;
        std::thread::sleep(Duration::from_millis(150));
    }
    Ok(())
}

fn pour(stream: &mut dyn Stream, begin: &[u8], more: &[u8], over: &AtomicBool) -> std::io::Result<()> {
    stream.write_all(begin)?;
    // More than anybody should take, and not for ever.
    for _ in 0..200 {
        if over.load(Relaxed) {
            break;
        }
        stream.write_all(more)?;
    }
    Ok(())
}

fn drain(stream: &mut dyn Stream) {
    let mut buffer = [0; 4_096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Makes this thread, and no other, one of [`STRANGER`]'s.
fn become_stranger() -> Result<()> {
    let (user, group) = STRANGER;
    // SAFETY: calls with numbers alone. libc's functions would change every thread of the process.
    let failed = unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) != 0
            || libc::syscall(libc::SYS_setresgid, group, group, group) != 0
            || libc::syscall(libc::SYS_setresuid, user, user, user) != 0
    };
    if failed {
        bail!("cannot become another user: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// Everybody at once, in threads of their own: on each address one of each of its kinds.
pub struct Crowd {
    over: Arc<AtomicBool>,
    begun: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Result<()>>>,
}

impl Crowd {
    /// Lets them loose, each in a thread that first enters where `enter` leads.
    ///
    /// # Errors
    /// No thread.
    pub fn start(
        all: &[(At, &'static [How])],
        enter: impl Fn() -> Result<()> + Clone + Send + 'static,
    ) -> Result<Crowd> {
        let (over, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut threads = Vec::new();
        for (number, (at, hows)) in all.iter().enumerate() {
            for how in *hows {
                let how = *how;
                let (at, enter) = (at.clone(), enter.clone());
                let (over, begun) = (Arc::clone(&over), Arc::clone(&begun));
                let seed = (number * 16 + how as usize) as u64;
                threads.push(std::thread::Builder::new().spawn(move || {
                    enter()?;
                    misbehave(&at, how, seed, &over, &begun).with_context(|| format!("{how:?} at {at:?}"))
                })?);
            }
        }
        Ok(Crowd { over, begun, threads })
    }

    /// Connections that they have made so far.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// Ends them.
    ///
    /// # Errors
    /// One could not connect any more.
    pub fn stop(mut self) -> Result<()> {
        self.over.store(true, Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}
