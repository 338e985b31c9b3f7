//! Where figures come from: the controller, or without one the pinned maps.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    client::{self, Answer},
    output,
};
use crate::{
    config,
    dataplane::{Tables, pins::Pins},
    driver::Drivers,
    stats,
};

/// Socket and pins.
pub struct Reader {
    socket: PathBuf,
    bpffs: PathBuf,
    warned: Cell<bool>,
}

/// Figures.
pub enum Figures<T> {
    /// As the controller sent them.
    Sent(hyper::body::Bytes),
    /// Read from the maps.
    Read(Vec<T>),
}

impl<T: Serialize + DeserializeOwned> Figures<T> {
    /// As rows.
    pub fn rows(self) -> Result<Vec<T>> {
        match self {
            Figures::Sent(body) => serde_json::from_slice(&body).context(
                "the controller's answer cannot be read: is it of another version than this program?",
            ),
            Figures::Read(rows) => Ok(rows),
        }
    }

    /// Prints them as JSON.
    pub fn print_json(self) -> Result<()> {
        match self {
            Figures::Sent(body) => output::print_bytes(&body),
            Figures::Read(rows) => output::print_json(&rows),
        }
    }
}

impl Reader {
    /// On these places; the socket's default where none is given.
    pub fn new(socket: Option<&Path>, bpffs: &Path) -> Reader {
        Reader {
            socket: socket.unwrap_or(Path::new(config::DEFAULT_SOCKET)).to_path_buf(),
            bpffs: bpffs.to_path_buf(),
            warned: Cell::new(false),
        }
    }

    /// The pins.
    pub fn pins(&self) -> Pins {
        Pins::new(&self.bpffs)
    }

    /// The maps, read-only.
    pub fn tables(&self) -> Result<Tables> {
        self.pins().open(false)
    }

    /// The controller's answer to a path; `None` where none runs, which is told once: figures come from the maps then.
    pub fn ask(&self, path: &str) -> Result<Option<hyper::body::Bytes>> {
        let answer = self.ask_controller(path)?;
        if answer.is_none() && !self.warned.replace(true) {
            output::warn("controller is not running; figures come from the pinned maps");
        }
        Ok(answer)
    }

    /// The controller's answer to what only it knows; `None` where none runs on the pinned maps.
    pub fn ask_controller(&self, path: &str) -> Result<Option<hyper::body::Bytes>> {
        let why = match client::get(&self.socket, path)? {
            Answer::Body(body) => return Ok(Some(body)),
            Answer::Unreachable(why) => why,
        };
        if why.kind() == std::io::ErrorKind::PermissionDenied {
            anyhow::bail!(
                "may not open the controller's socket {}: run this as root or as a member of its group",
                self.socket.display()
            );
        }
        if !self.pins().exist() {
            anyhow::bail!(
                "no controller answers on {} ({why}), and there are no pinned maps in {}: start one with \
                 `forwarder run`, or name the right place with --socket or --bpffs",
                self.socket.display(),
                self.bpffs.display()
            );
        }
        Ok(None)
    }

    /// Figures from the controller, or else worked out from the maps.
    pub fn fetch<T>(&self, path: &str, work: impl FnOnce(&Tables) -> Vec<T>) -> Result<Figures<T>> {
        match self.ask(path)? {
            Some(body) => Ok(Figures::Sent(body)),
            None => Ok(Figures::Read(work(&self.tables()?))),
        }
    }
}

/// What drivers say; for figures without a controller.
pub fn link_stats() -> Box<stats::LinkStats> {
    let drivers = Drivers::open();
    Box::new(move |ifindex| drivers.as_ref().ok()?.counts(ifindex))
}
