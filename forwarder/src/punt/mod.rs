//! Punt protection as the controller has it: rates into the tables, and who is exempt from them
//! (`forwarder_common::punt` says what for).
//!
//! [`exempt`] decides who that is and [`follow`] asks the kernel; what the program is told is here.

mod exempt;
pub mod follow;

use std::sync::atomic::Ordering;

use forwarder_common::{
    punt::{Allowed, CLASSES, Class, Kind, Punt, kind},
    reason::Reason,
};

use crate::{config::PuntConfig, dataplane::Tables};

/// Where [`forwarder_common::settings::Settings`] has the reasons that are asked about.
const LIMITED: usize = 32;

/// Puts the rates in force. `beyond` says that the kernel has routes that the tables have not: then what they know no route
/// for is forwarding that the kernel does.
pub fn install(tables: &Tables, config: &PuntConfig, beyond: bool) {
    let cpus = tables.sizes.cpus;
    let mut punt = tables.punt.get(0);
    punt.classes = [Allowed::default(); CLASSES];
    for class in Class::ALL {
        let (rate, share) = config.rates[*class as usize];
        punt.classes[*class as usize] = Allowed::of(rate, share, cpus);
    }
    punt.control_ports = [0; 1_024];
    for port in &config.control_ports {
        punt.control_ports[usize::from(port >> 6)] |= 1 << (port & 63);
    }
    // What is asked about while the rates change is asked by the old or the new, and by a mixture for no time that matters.
    tables.punt.set(0, &punt);
    let word = tables.settings.word(0, LIMITED);
    word.store(limited(config, beyond), Ordering::Release);
}

/// The reasons of which some packet may be limited, as bits.
fn limited(config: &PuntConfig, beyond: bool) -> u64 {
    if !config.enabled {
        return 0;
    }
    let limits = |class: Class| config.rates[class as usize].0 != 0;
    let asked = |reason: &&Reason| match kind(**reason) {
        Kind::Never => false,
        _ if beyond && matches!(reason, Reason::NoRoute | Reason::GatewayUnresolved) => false,
        Kind::Always(class) => limits(class),
        Kind::Link | Kind::Local | Kind::TooBig => true,
    };
    Reason::ALL
        .iter()
        .filter(asked)
        .fold(0, |bits, reason| bits | 1 << reason.index())
}

/// What the tables say, beside the rates, for people: sessions and peers that are exempt.
fn note(tables: &Tables, sessions: u32, peers: u32) {
    let punt = tables.punt.get(0);
    if (punt.sessions, punt.peers) != (sessions, peers) {
        tables.punt.set(
            0,
            &Punt {
                sessions,
                peers,
                ..punt
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::Sizes;

    #[test]
    fn what_is_off_is_not_asked_about() {
        let mut config = PuntConfig::default();
        let has = |bits: u64, reason: Reason| bits >> reason.index() & 1 == 1;
        let all = limited(&config, false);
        assert!(has(all, Reason::Arp) && has(all, Reason::Local) && has(all, Reason::NoRoute));
        assert!(!has(all, Reason::Tagged) && !has(all, Reason::Forwarded) && !has(all, Reason::FibFull));
        let beyond = limited(&config, true);
        assert!(!has(beyond, Reason::NoRoute) && has(beyond, Reason::NeighbourUnresolved));
        config.rates[Class::Arp as usize] = (0, 0);
        assert_eq!(limited(&config, false), all & !(1 << Reason::Arp.index()));
        config.enabled = false;
        assert_eq!(limited(&config, false), 0);
    }

    #[test]
    fn rates_and_ports_are_where_the_program_looks() {
        let tables = Tables::heap(Sizes::SMALL);
        let config = PuntConfig::default();
        install(&tables, &config, false);
        note(&tables, 3, 4);
        let punt = tables.punt.get(0);
        assert_eq!(
            punt.classes[Class::Arp as usize],
            Allowed::of(5_000, 500, Sizes::SMALL.cpus)
        );
        assert_eq!(punt.control_ports[2] >> (179 - 128) & 1, 1);
        assert_eq!((punt.sessions, punt.peers), (3, 4));
        assert_eq!(tables.settings.get(0).limited, limited(&config, false));
    }
}
