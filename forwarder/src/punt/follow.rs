//! Follows what the kernel says of its sockets, neighbours and links, and tells the program who is exempt.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use forwarder_common::punt::Flow;
use tracing::warn;

use super::{
    exempt::{Exempt, Flows, World},
    install, note,
};
use crate::{
    config::PuntConfig,
    daemon::engine::Engine,
    dataplane::Dataplane,
    netlink::sockets::{Connection, Sockets},
};

/// How often sockets are looked at; and where that takes long, how much longer than it took must pass.
const EVERY: Duration = Duration::from_secs(1);
const PART: u32 = 50;

/// Who is exempt, as the program was told.
pub struct Follower {
    config: PuntConfig,
    sockets: Option<Sockets>,
    exempt: Exempt,
    told: Option<BTreeSet<Flow>>,
    beyond: Option<bool>,
    again: Instant,
    /// Why sessions are not known.
    blind: Option<String>,
}

impl Follower {
    /// Nothing is told yet.
    pub fn new(config: PuntConfig) -> Follower {
        Follower {
            config,
            sockets: None,
            exempt: Exempt::default(),
            told: None,
            beyond: None,
            again: Instant::now(),
            blind: None,
        }
    }

    /// Looks, and tells what changed. `beyond` is as with [`install`]; `now` in seconds.
    pub fn turn<D: Dataplane>(&mut self, engine: &mut Engine<D>, beyond: bool, now: u32) {
        if !self.config.enabled {
            if self.beyond.is_none() {
                install(engine.view(), &self.config, beyond);
                self.beyond = Some(beyond);
            }
            return;
        }
        if Instant::now() < self.again {
            return;
        }
        let began = Instant::now();
        let found = self.look(engine, now);
        if self.told.as_ref() != Some(&found.flows) {
            match engine.dataplane.set_flows(&found.flows) {
                Ok(()) => self.told = Some(found.flows),
                Err(why) => self.complain(format!("cannot tell the program of sessions: {why:#}")),
            }
        }
        note(engine.view(), found.sessions, found.peers);
        // Sessions are known before anything is limited.
        if self.beyond != Some(beyond) {
            install(engine.view(), &self.config, beyond);
            self.beyond = Some(beyond);
        }
        self.again = Instant::now() + EVERY.max(began.elapsed() * PART);
    }

    /// What is wrong.
    pub fn problem(&self) -> Option<String> {
        self.blind.clone()
    }

    fn look<D: Dataplane>(&mut self, engine: &Engine<D>, now: u32) -> Flows {
        let connections = match self.connections() {
            Ok(connections) => {
                self.blind = None;
                connections
            }
            Err(why) => {
                self.sockets = None;
                self.complain(format!(
                    "sessions of the router are not known, and limited as all else for it: {why:#}"
                ));
                Vec::new()
            }
        };
        let world = World {
            connections: &connections,
            control_ports: &self.config.control_ports,
            tunnel_ports: &self.config.tunnel_ports,
            now,
        };
        let (neighbours, links) = (&engine.world.neighbours, &engine.world.links);
        self.exempt.flows(&world, neighbours.iter(), links.iter())
    }

    fn connections(&mut self) -> Result<Vec<Connection>> {
        let mut sockets = match self.sockets.take() {
            Some(sockets) => sockets,
            None => Sockets::open()?,
        };
        let connections = sockets.established()?;
        self.sockets = Some(sockets);
        Ok(connections)
    }

    fn complain(&mut self, sentence: String) {
        if self.blind.as_ref() != Some(&sentence) {
            warn!("{sentence}");
            self.blind = Some(sentence);
        }
    }
}
