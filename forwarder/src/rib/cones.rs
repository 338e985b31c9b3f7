//! Which origin ASes lie behind each interface (RFC 8704 3.1, "Algorithm A" of enhanced feasible-path uRPF).
//!
//! A customer with two carriers may announce one prefix here and another there, and send packets from both over both. So what counts
//! is the AS: once any route of an AS leads by an interface, packets from every prefix of that AS may come in there.

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;

use crate::source::event::Ifindex;

/// Origin ASes by interface.
#[derive(Default)]
pub struct Cones {
    /// How many prefixes say so.
    behind: HashMap<u32, BTreeMap<Ifindex, usize>>,
    /// What each prefix says; those that say nothing are not there.
    said: HashMap<IpNet, Vec<(Ifindex, u32)>>,
}

impl Cones {
    /// Says by which interfaces the routes of a prefix lead, and from which AS. Answers whether an AS is behind an interface
    /// now that was not, or no more.
    pub fn note(&mut self, prefix: IpNet, mut says: Vec<(Ifindex, u32)>) -> bool {
        says.sort_unstable();
        says.dedup();
        let old = self.said.get(&prefix).map_or(&[][..], Vec::as_slice);
        if old == says {
            return false;
        }
        let old = self.said.remove(&prefix).unwrap_or_default();
        let mut news = false;
        for (ifindex, origin) in says.iter().filter(|one| !old.contains(one)) {
            let count = self
                .behind
                .entry(*origin)
                .or_default()
                .entry(*ifindex)
                .or_default();
            *count += 1;
            news |= *count == 1;
        }
        for (ifindex, origin) in old.iter().filter(|one| !says.contains(one)) {
            let Some(interfaces) = self.behind.get_mut(origin) else {
                continue;
            };
            if let Some(count) = interfaces.get_mut(ifindex) {
                *count -= 1;
                if *count == 0 {
                    interfaces.remove(ifindex);
                    news = true;
                }
            }
            if interfaces.is_empty() {
                self.behind.remove(origin);
            }
        }
        if !says.is_empty() {
            self.said.insert(prefix, says);
        }
        news
    }

    /// The interfaces that an AS is behind.
    pub fn interfaces(&self, origin: u32) -> impl Iterator<Item = Ifindex> {
        self.behind
            .get(&origin)
            .into_iter()
            .flat_map(|interfaces| interfaces.keys().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_as_is_behind_an_interface_as_long_as_any_prefix_says_so() {
        let mut cones = Cones::default();
        let net = |text: &str| -> IpNet { text.parse().expect("prefix") };
        let (one, two) = (net("192.0.2.0/24"), net("198.51.100.0/24"));
        let behind = |cones: &Cones| cones.interfaces(64500).collect::<Vec<_>>();
        assert!(cones.note(one, vec![(3, 64500), (3, 64500)]));
        assert!(!cones.note(one, vec![(3, 64500)]));
        assert!(!cones.note(two, vec![(3, 64500)]), "known already");
        assert!(cones.note(two, vec![(3, 64500), (4, 64500)]));
        assert_eq!(behind(&cones), [3, 4]);
        assert!(!cones.note(one, Vec::new()), "another prefix still says so");
        assert!(cones.note(two, vec![(4, 64500), (4, 64501)]));
        assert_eq!(behind(&cones), [4]);
        assert!(cones.note(two, Vec::new()));
        assert!(behind(&cones).is_empty() && cones.behind.is_empty() && cones.said.is_empty());
    }
}
