//! `forwarder record`: what a feed says, octet by octet with its time, in a file.
//!
//! The kernel tells everybody. A daemon tells whoever listens, so for `bgp` and `fpm` this listens where the configuration says
//! that the controller does, and no controller may run: the one that runs records with `forwarder run --record DIR`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::output;
use crate::{
    config::{self, BgpConfig, BgpNeighbour},
    source::{
        bgp::Speaker,
        feed::{Batch, FeedHandle},
        fpm::Fpm,
        kernel::recorder,
        record::Output,
        tap::Recording,
    },
};

/// How long to wait for octets before looking whether to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Feed {
    /// Everything that the kernel has, and its announcements
    Kernel,
    /// A BGP session, by [routes.bgp]
    Bgp,
    /// zebra's connection, by [routes.fpm]
    Fpm,
}

/// Words of the command line.
#[derive(Clone, Debug, Args)]
pub struct Words {
    /// Whose octets
    #[arg(long, value_name = "FEED")]
    feed: Feed,
    /// The file
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// End after so many seconds, not with Ctrl-C
    #[arg(long, value_name = "N")]
    seconds: Option<u32>,
    /// Of bgp: the neighbour, by name or address; needed where several are configured
    #[arg(long, value_name = "NEIGHBOUR")]
    neighbour: Option<String>,
}

/// `forwarder record`
pub fn record(words: &Words, config: &Path) -> Result<bool> {
    if words.neighbour.is_some() && words.feed != Feed::Bgp {
        bail!("--neighbour is for --feed bgp");
    }
    let stopped = interrupted()?;
    let until = words
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let stop = || stopped.load(Relaxed) || until.is_some_and(|until| Instant::now() >= until);
    let open = |kind: &str, name: &str| Output::create(&words.output, words.force, kind, name);
    let output = match words.feed {
        Feed::Kernel => {
            let mut output = open("kernel", "kernel")?;
            recorder::record(&mut output, &stop)?;
            output
        }
        Feed::Fpm => {
            let config = config::load(config)?;
            let fpm = config
                .routes
                .fpm
                .context("there is no section [routes.fpm]: it says where zebra connects")?;
            let (sender, batches) = mpsc::sync_channel(4);
            discard(batches)?;
            let (running, handle) = Fpm::start(fpm, 1, sender).map_err(listening)?;
            let mut output = open(handle.kind, &handle.name)?;
            follow(&handle, &mut output, &stop)?;
            drop(running);
            output
        }
        Feed::Bgp => {
            let config = config::load(config)?;
            let bgp = config
                .routes
                .bgp
                .context("there is no section [routes.bgp]: it says where neighbours connect")?;
            let bgp = alone(bgp, words.neighbour.as_deref())?;
            let (sender, batches) = mpsc::sync_channel(4);
            discard(batches)?;
            let running = Speaker::start(&bgp, 1, sender).map_err(listening)?;
            let feeds = running.feeds();
            let handle = feeds.first().context("the session was not made ready")?;
            let mut output = open(handle.kind, &handle.name)?;
            follow(handle, &mut output, &stop)?;
            drop(running);
            output
        }
    };
    let (chunks, octets) = output.written();
    output::print(&format!(
        "{}: {} pieces, {}\n",
        words.output.display(),
        output::grouped(chunks),
        output::octets(octets)
    ))?;
    Ok(true)
}

/// An address in use is most often the controller's.
fn listening(why: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    anyhow::Error::new(why).context(
        "a controller that runs has the session: record there with `forwarder run --record DIR`, or stop it first",
    )
}

/// The configuration with one neighbour.
fn alone(mut config: BgpConfig, name: Option<&str>) -> Result<BgpConfig> {
    if let Some(name) = name {
        let address: Option<IpAddr> = name.parse().ok();
        let named = |n: &BgpNeighbour| n.name == name || Some(n.address) == address;
        let found = config.neighbours.iter().find(|n| named(n)).cloned();
        let found = match (found, address) {
            (Some(found), _) => found,
            (None, Some(address)) if config.neighbours.is_empty() => {
                BgpNeighbour::plain(address, config.local_as)
            }
            _ => bail!("there is no neighbour {name} in [routes.bgp]"),
        };
        config.neighbours = vec![found];
    }
    match config.neighbours.len() {
        // Whoever calls from this host is served: the same address family, or it could not.
        0 => {
            let ipv6 = config.listen.first().is_some_and(|at| at.is_ipv6());
            let loopback = if ipv6 {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            } else {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            };
            config.neighbours = vec![BgpNeighbour::plain(loopback, config.local_as)];
        }
        1 => {}
        _ => {
            let names: Vec<&str> = config.neighbours.iter().map(|n| n.name.as_str()).collect();
            bail!(
                "a file has one session, and these are configured: name one with --neighbour: {}",
                names.join(", ")
            );
        }
    }
    Ok(config)
}

/// Takes what a feed understood: here only its octets count.
fn discard(batches: mpsc::Receiver<Batch>) -> Result<()> {
    thread::Builder::new()
        .name("discard".into())
        .spawn(move || batches.into_iter().for_each(drop))
        .context("cannot start a thread")?;
    Ok(())
}

/// Writes what a feed reads.
fn follow(handle: &FeedHandle, output: &mut Output, stop: &dyn Fn() -> bool) -> Result<()> {
    let Recording { chunks, .. } = &handle.tap.open().context("it is being recorded already")?;
    while !stop() {
        match chunks.recv_timeout(PATIENCE) {
            Ok(chunk) => output.chunk(&chunk)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the feed has ended by itself"),
        }
    }
    for chunk in chunks.try_iter() {
        output.chunk(&chunk)?;
    }
    Ok(())
}

/// Becomes true with Ctrl-C or SIGTERM: the file is ended first.
fn interrupted() -> Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot watch for signals")?;
    let mut terminate = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .context("cannot watch for SIGTERM")?
    };
    let mut interrupt = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
            .context("cannot watch for SIGINT")?
    };
    let told = Arc::clone(&stopped);
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            });
            told.store(true, Relaxed);
        })
        .context("cannot start a thread")?;
    Ok(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(neighbours: &[&str]) -> BgpConfig {
        let mut text = "[[interface]]\nname = \"eth0\"\n[routes.bgp]\nlisten = \"127.0.0.2:1179\"\n\
                        local-as = 64500\n"
            .to_string();
        for address in neighbours {
            text += &format!("[[routes.bgp.neighbour]]\naddress = \"{address}\"\nname = \"n{address}\"\n");
        }
        config::parse("f.toml", &text).unwrap().routes.bgp.unwrap()
    }

    #[test]
    fn a_file_has_the_session_of_one_neighbour() {
        let addresses = |config: BgpConfig| -> Vec<String> {
            config.neighbours.iter().map(|n| n.address.to_string()).collect()
        };
        assert_eq!(addresses(alone(config(&[]), None).unwrap()), ["127.0.0.1"]);
        assert_eq!(
            addresses(alone(config(&[]), Some("127.0.0.9")).unwrap()),
            ["127.0.0.9"]
        );
        let two = ["127.0.0.3", "127.0.0.4"];
        assert_eq!(
            addresses(alone(config(&two), Some("n127.0.0.4")).unwrap()),
            ["127.0.0.4"]
        );
        assert_eq!(
            addresses(alone(config(&two), Some("127.0.0.3")).unwrap()),
            ["127.0.0.3"]
        );
        let several = alone(config(&two), None).unwrap_err().to_string();
        assert!(
            several.contains("--neighbour: n127.0.0.3, n127.0.0.4"),
            "{several}"
        );
        let unknown = alone(config(&two), Some("127.0.0.9")).unwrap_err().to_string();
        assert!(unknown.contains("no neighbour 127.0.0.9"), "{unknown}");
    }
}
