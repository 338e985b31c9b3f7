//! TCP transfers whose every byte is checked.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::ns;

/// Nobody waits longer than this for one byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a transfer achieved.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// Payload bytes that arrived and were right.
    pub bytes: usize,
    /// From connect to the last byte.
    pub time: Duration,
}

impl Transfer {
    /// Payload megabits per second.
    pub fn mbit(&self) -> f64 {
        self.bytes as f64 * 8e-6 / self.time.as_secs_f64().max(1e-6)
    }
}

/// Sends `bytes` from a node to an address of another node, and checks them there.
pub fn transfer(from: &Path, to: &Path, address: IpAddr, port: u16, bytes: usize) -> Result<Transfer> {
    let what = || format!("TCP to [{address}]:{port}");
    let any = if address.is_ipv6() {
        IpAddr::from([0u16; 8])
    } else {
        IpAddr::from([0u8; 4])
    };
    let listener = ns::run(to, || Ok(TcpListener::bind(SocketAddr::new(any, port))?)).with_context(what)?;
    listener.set_nonblocking(true)?;
    let receiver = std::thread::spawn(move || receive(&listener, bytes));
    let started = Instant::now();
    let sent = ns::run(from, || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), TIMEOUT)?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let chunk: Vec<u8> = (0..PERIOD).map(pattern).collect();
        let mut left = bytes;
        while left > 0 {
            let length = left.min(chunk.len());
            stream.write_all(&chunk[..length])?;
            left -= length;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        Ok(())
    });
    let received = receiver.join().map_err(|_| anyhow!("a TCP receiver panicked"))?;
    sent.with_context(what)?;
    Ok(Transfer {
        bytes: received.with_context(what)?,
        time: started.elapsed(),
    })
}

/// The pattern's period is prime, so that a lost or doubled segment cannot go unseen.
const PERIOD: usize = 65_521;

fn pattern(position: usize) -> u8 {
    ((position % PERIOD) * 31 % 251) as u8
}

fn receive(listener: &TcpListener, bytes: usize) -> Result<usize> {
    let end = Instant::now() + TIMEOUT;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if Instant::now() > end {
                    bail!("nobody connected within {} s", TIMEOUT.as_secs());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error.into()),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut buffer = vec![0; 1 << 16];
    let mut have = 0;
    loop {
        let length = stream
            .read(&mut buffer)
            .with_context(|| format!("after {have} bytes"))?;
        if length == 0 {
            break;
        }
        if let Some(bad) = buffer[..length]
            .iter()
            .enumerate()
            .position(|(i, byte)| *byte != pattern(have + i))
        {
            bail!("byte {} is wrong", have + bad);
        }
        have += length;
    }
    if have != bytes {
        bail!("{have} of {bytes} bytes arrived");
    }
    Ok(have)
}
