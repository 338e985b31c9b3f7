//! What a daemon can do at most: receivers that only count.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::path_attribute::{MpReach, PathAttributeValue};
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput as _;
use xtask::interrupt;

use super::speaker::greet;
use crate::run::{Taken, clocked};

/// Octets that are read at once.
const READ: usize = 256 << 10;
/// How long a daemon may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// RTM_NEWROUTE, and the protocol of what bgpd gives to zebra.
const NEWROUTE: u16 = 24;
const RTPROT_BGP: u8 = 186;

/// A socket that a daemon will connect to.
pub struct Receiver(TcpListener);

impl Receiver {
    /// Listens.
    ///
    /// # Errors
    /// The address is taken.
    pub fn listen(at: SocketAddr) -> Result<Receiver> {
        let listener = TcpListener::bind(at).with_context(|| format!("cannot listen on {at}"))?;
        listener.set_nonblocking(true)?;
        Ok(Receiver(listener))
    }

    fn accept(&self) -> Result<TcpStream> {
        let until = Instant::now() + SILENCE;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_read_timeout(Some(SILENCE))?;
                    return Ok(stream);
                }
                Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(why) => return Err(why).context("accept"),
            }
            ensure!(Instant::now() < until, "nobody connects");
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A whole table by BGP: every message is parsed by netgauze-bgp-pkt and thrown away. `wanted` routes must come, IPv4
    /// and IPv6, and the End-of-RIB of both.
    ///
    /// # Errors
    /// They do not.
    pub fn bgp(&self, wanted: [usize; 2]) -> Result<Taken> {
        let stream = self.accept()?;
        let (count, taken) = clocked(|| {
            let mut stream = greet(stream, [127, 0, 0, 2])?;
            let mut heard = Heard::default();
            let mut context = BgpParsingContext::default();
            each(
                &mut stream,
                19,
                |header| usize::from(u16::from_be_bytes([header[16], header[17]])),
                |message| {
                    let message = BgpMessage::parse(&mut SliceReader::new(message), &mut context)
                        .map_err(|why| anyhow::anyhow!("a message that netgauze does not read: {why:?}"))?;
                    heard.message(&message)?;
                    Ok(heard.ended == [true; 2])
                },
            )?;
            Ok(heard.routes)
        })?;
        ensure!(count == wanted, "{count:?} routes came, of {wanted:?}");
        Ok(taken)
    }

    /// A whole table by FPM: every frame's messages are looked at and thrown away.
    ///
    /// # Errors
    /// Not so many routes come.
    pub fn fpm(&self, wanted: usize) -> Result<Taken> {
        let mut stream = self.accept()?;
        let ((), taken) = clocked(|| {
            let mut count = 0;
            each(
                &mut stream,
                4,
                |header| usize::from(u16::from_be_bytes([header[2], header[3]])),
                |frame| {
                    let mut rest = &frame[4..];
                    // struct nlmsghdr: length, type; struct rtmsg 16 octets behind it, whose protocol is the sixth.
                    while let Some((header, _)) = rest.split_at_checked(22) {
                        let length =
                            u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
                        let kind = u16::from_ne_bytes([header[4], header[5]]);
                        count += usize::from(kind == NEWROUTE && header[21] == RTPROT_BGP);
                        rest = rest.get(length.next_multiple_of(4).max(22)..).unwrap_or_default();
                    }
                    Ok(count >= wanted)
                },
            )
            .with_context(|| format!("{count} of {wanted} routes had come"))
        })?;
        Ok(taken)
    }
}

/// Reads messages with a header of so many octets, which tells their length, until one is the last.
fn each(
    stream: &mut TcpStream,
    header: usize,
    length: impl Fn(&[u8]) -> usize,
    mut message: impl FnMut(&[u8]) -> Result<bool>,
) -> Result<()> {
    let mut buffer = vec![0; READ];
    let mut filled = 0;
    loop {
        let count = stream
            .read(&mut buffer[filled..])
            .context("the daemon is silent")?;
        if count == 0 {
            bail!("the daemon closed the connection");
        }
        filled += count;
        let mut start = 0;
        while let Some(head) = buffer[start..filled].get(..header) {
            let length = length(head).max(header);
            let Some(whole) = buffer[start..filled].get(..length) else {
                break;
            };
            if message(whole)? {
                return Ok(());
            }
            start += length;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        interrupt::check()?;
    }
}

/// What has come by BGP.
#[derive(Default)]
struct Heard {
    routes: [usize; 2],
    ended: [bool; 2],
}

impl Heard {
    fn message(&mut self, message: &BgpMessage) -> Result<()> {
        let update = match message {
            BgpMessage::Update(update) => update,
            BgpMessage::KeepAlive => return Ok(()),
            other => bail!("not a route: {other:?}"),
        };
        if let Some(family) = update.end_of_rib() {
            match family {
                netgauze_iana::address_family::AddressType::Ipv4Unicast => self.ended[0] = true,
                netgauze_iana::address_family::AddressType::Ipv6Unicast => self.ended[1] = true,
                _ => {}
            }
        }
        self.routes[0] += update.nlri().len();
        for attribute in update.path_attributes() {
            match attribute.value() {
                PathAttributeValue::MpReach(MpReach::Ipv4Unicast { nlri, .. }) => {
                    self.routes[0] += nlri.len()
                }
                PathAttributeValue::MpReach(MpReach::Ipv6Unicast { nlri, .. }) => {
                    self.routes[1] += nlri.len()
                }
                _ => {}
            }
        }
        Ok(())
    }
}
