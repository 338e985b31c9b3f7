//! What is counted: series, what they are called in the database, and their numbers.
//!
//! A series is a [`Subject`] (a prefix, an interface, ...) with a name, and a [`Kind`]: which of its figures. Both directions of a
//! prefix share one name and one number, so a million prefixes are a million names.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which way packets went. For an interface as its driver says; for a prefix or a network, from it (`In`, it is their source)
/// or to it (`Out`, it is their destination).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Received; from there.
    In,
    /// Sent; to there.
    Out,
}

impl Direction {
    /// Both.
    pub const BOTH: [Direction; 2] = [Direction::In, Direction::Out];

    /// The word in rows and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
        }
    }
}

/// Something of which packets and octets are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Series {
    /// Forwarded from or to a prefix.
    Prefix {
        /// The prefix; bits beyond its length are cut off.
        prefix: IpNet,
        /// From it or to it.
        direction: Direction,
    },
    /// Forwarded, and of no prefix that is told apart.
    Unattributed {
        /// As for prefixes.
        direction: Direction,
    },
    /// What an interface's driver counts.
    Interface {
        /// Which.
        ifname: String,
        /// Received or sent.
        direction: Direction,
    },
    /// What the fast path forwarded from or to an interface.
    Forwarded {
        /// Which.
        ifname: String,
        /// Came in by it, or left by it.
        direction: Direction,
    },
    /// What came in by an interface and was dropped or passed to the kernel.
    Reason {
        /// Which.
        ifname: String,
        /// Why.
        reason: String,
    },
    /// What was forwarded and then lost at an interface it was to leave by.
    EgressError {
        /// Which.
        ifname: String,
        /// Why.
        reason: String,
    },
    /// Forwarded to a next hop.
    NextHop {
        /// Its address, or what it is called.
        nexthop: String,
        /// `inet`, `inet6`.
        af: String,
        /// Where it is.
        ifname: String,
    },
    /// Forwarded from one account to another; no name stands for elsewhere.
    Account {
        /// Whose source it was.
        from: String,
        /// Whose destination.
        to: String,
        /// It crossed the edge: came in or left by an interface to a carrier or a peer.
        outside: bool,
    },
    /// Forwarded from or to prefixes that a network originates.
    OriginAs {
        /// Its number.
        asn: u32,
        /// From it or to it.
        direction: Direction,
    },
    /// Forwarded from or to prefixes whose routes a neighbouring network told.
    NeighbourAs {
        /// Its number.
        asn: u32,
        /// From it or to it.
        direction: Direction,
    },
    /// What of a network's traffic took an interface of ours, or was shared among several.
    OriginAsVia {
        /// The network that originates the prefixes.
        asn: u32,
        /// The interface; several with [`SHARED`] between them.
        ifname: String,
        /// From it or to it.
        direction: Direction,
    },
    /// What a filter rule met.
    Rule {
        /// Its name.
        name: String,
    },
}

/// Between the names of interfaces that share packets: no interface has it in its name (net/core/dev.c `dev_valid_name`).
pub const SHARED: &str = "/";

/// Which figures of which kind of subject; the number is the one in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(
    missing_docs,
    reason = "they are those of Series, with a direction or the like"
)]
pub enum Kind {
    PrefixIn = 1,
    PrefixOut = 2,
    UnattributedIn = 3,
    UnattributedOut = 4,
    InterfaceIn = 5,
    InterfaceOut = 6,
    ForwardedIn = 7,
    ForwardedOut = 8,
    Reason = 9,
    NextHop = 10,
    AccountInside = 11,
    AccountOutside = 12,
    OriginAsIn = 13,
    OriginAsOut = 14,
    NeighbourAsIn = 15,
    NeighbourAsOut = 16,
    OriginAsViaIn = 17,
    OriginAsViaOut = 18,
    Rule = 19,
    EgressError = 20,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 20] = [
        Kind::PrefixIn,
        Kind::PrefixOut,
        Kind::UnattributedIn,
        Kind::UnattributedOut,
        Kind::InterfaceIn,
        Kind::InterfaceOut,
        Kind::ForwardedIn,
        Kind::ForwardedOut,
        Kind::Reason,
        Kind::NextHop,
        Kind::AccountInside,
        Kind::AccountOutside,
        Kind::OriginAsIn,
        Kind::OriginAsOut,
        Kind::NeighbourAsIn,
        Kind::NeighbourAsOut,
        Kind::OriginAsViaIn,
        Kind::OriginAsViaOut,
        Kind::Rule,
        Kind::EgressError,
    ];

    /// The kind of a number in the database.
    pub fn of(number: i64) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as i64 == number)
    }

    /// Whose figures they are.
    pub const fn subject(self) -> Subject {
        match self {
            Kind::PrefixIn | Kind::PrefixOut => Subject::Prefix,
            Kind::UnattributedIn | Kind::UnattributedOut => Subject::Unattributed,
            Kind::InterfaceIn | Kind::InterfaceOut | Kind::ForwardedIn | Kind::ForwardedOut => {
                Subject::Interface
            }
            Kind::Reason => Subject::Reason,
            Kind::NextHop => Subject::NextHop,
            Kind::AccountInside | Kind::AccountOutside => Subject::AccountPair,
            Kind::OriginAsIn | Kind::OriginAsOut => Subject::OriginAs,
            Kind::NeighbourAsIn | Kind::NeighbourAsOut => Subject::NeighbourAs,
            Kind::OriginAsViaIn | Kind::OriginAsViaOut => Subject::OriginAsVia,
            Kind::Rule => Subject::Rule,
            Kind::EgressError => Subject::EgressError,
        }
    }

    /// The other direction of the same, where there are two.
    pub const fn towards(self, direction: Direction) -> Kind {
        match (self, direction) {
            (Kind::PrefixIn | Kind::PrefixOut, Direction::In) => Kind::PrefixIn,
            (Kind::PrefixIn | Kind::PrefixOut, Direction::Out) => Kind::PrefixOut,
            (Kind::UnattributedIn | Kind::UnattributedOut, Direction::In) => Kind::UnattributedIn,
            (Kind::UnattributedIn | Kind::UnattributedOut, Direction::Out) => Kind::UnattributedOut,
            (Kind::InterfaceIn | Kind::InterfaceOut, Direction::In) => Kind::InterfaceIn,
            (Kind::InterfaceIn | Kind::InterfaceOut, Direction::Out) => Kind::InterfaceOut,
            (Kind::ForwardedIn | Kind::ForwardedOut, Direction::In) => Kind::ForwardedIn,
            (Kind::ForwardedIn | Kind::ForwardedOut, Direction::Out) => Kind::ForwardedOut,
            (Kind::OriginAsIn | Kind::OriginAsOut, Direction::In) => Kind::OriginAsIn,
            (Kind::OriginAsIn | Kind::OriginAsOut, Direction::Out) => Kind::OriginAsOut,
            (Kind::NeighbourAsIn | Kind::NeighbourAsOut, Direction::In) => Kind::NeighbourAsIn,
            (Kind::NeighbourAsIn | Kind::NeighbourAsOut, Direction::Out) => Kind::NeighbourAsOut,
            (Kind::OriginAsViaIn | Kind::OriginAsViaOut, Direction::In) => Kind::OriginAsViaIn,
            (Kind::OriginAsViaIn | Kind::OriginAsViaOut, Direction::Out) => Kind::OriginAsViaOut,
            (
                Kind::Reason
                | Kind::NextHop
                | Kind::AccountInside
                | Kind::AccountOutside
                | Kind::Rule
                | Kind::EgressError,
                _,
            ) => self,
        }
    }
}

/// What has a name; the number is the one in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "they are those of Series")]
pub enum Subject {
    Prefix = 1,
    Unattributed = 2,
    Interface = 3,
    Reason = 4,
    NextHop = 5,
    AccountPair = 6,
    OriginAs = 7,
    NeighbourAs = 8,
    OriginAsVia = 9,
    Rule = 10,
    EgressError = 11,
}

/// The number of a series: small, and the same for as long as the history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId {
    pub(crate) kind: Kind,
    pub(crate) id: u32,
}

impl SeriesId {
    /// As it was given before, by its two parts.
    pub const fn new(kind: Kind, id: u32) -> SeriesId {
        SeriesId { kind, id }
    }

    /// Which figures.
    pub const fn kind(self) -> Kind {
        self.kind
    }

    /// Its number among those of its subject.
    pub const fn id(self) -> u32 {
        self.id
    }

    /// The other direction of the same subject, where it has directions.
    #[must_use]
    pub const fn towards(self, direction: Direction) -> SeriesId {
        SeriesId {
            kind: self.kind.towards(direction),
            id: self.id,
        }
    }
}

impl Series {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Series::Prefix { direction, .. } => Kind::PrefixIn.towards(*direction),
            Series::Unattributed { direction } => Kind::UnattributedIn.towards(*direction),
            Series::Interface { direction, .. } => Kind::InterfaceIn.towards(*direction),
            Series::Forwarded { direction, .. } => Kind::ForwardedIn.towards(*direction),
            Series::Reason { .. } => Kind::Reason,
            Series::EgressError { .. } => Kind::EgressError,
            Series::NextHop { .. } => Kind::NextHop,
            Series::Account { outside: false, .. } => Kind::AccountInside,
            Series::Account { outside: true, .. } => Kind::AccountOutside,
            Series::OriginAs { direction, .. } => Kind::OriginAsIn.towards(*direction),
            Series::NeighbourAs { direction, .. } => Kind::NeighbourAsIn.towards(*direction),
            Series::OriginAsVia { direction, .. } => Kind::OriginAsViaIn.towards(*direction),
            Series::Rule { .. } => Kind::Rule,
        }
    }

    /// What its subject is called in the database: plain where it is one word, else a JSON array.
    pub fn name(&self) -> String {
        let words = |words: &[&str]| serde_json::to_string(words).unwrap_or_default();
        match self {
            Series::Prefix { prefix, .. } => prefix.trunc().to_string(),
            Series::Unattributed { .. } => String::new(),
            Series::Interface { ifname, .. } | Series::Forwarded { ifname, .. } => ifname.clone(),
            Series::Reason { ifname, reason } | Series::EgressError { ifname, reason } => {
                words(&[ifname, reason])
            }
            Series::NextHop { nexthop, af, ifname } => words(&[nexthop, af, ifname]),
            Series::Account { from, to, .. } => words(&[from, to]),
            Series::OriginAs { asn, .. } | Series::NeighbourAs { asn, .. } => asn.to_string(),
            Series::OriginAsVia { asn, ifname, .. } => words(&[&asn.to_string(), ifname]),
            Series::Rule { name } => name.clone(),
        }
    }

    /// The series of a kind whose subject is called so; `None` for a name that [`Series::name`] never gives.
    pub fn of(kind: Kind, name: &str) -> Option<Series> {
        let words = || serde_json::from_str::<Vec<String>>(name).ok();
        let pair = || words()?.try_into().ok();
        let direction = if kind.towards(Direction::In) as u8 == kind as u8 {
            Direction::In
        } else {
            Direction::Out
        };
        let ifname = || name.to_string();
        Some(match kind {
            Kind::PrefixIn | Kind::PrefixOut => Series::Prefix {
                prefix: prefix(name)?,
                direction,
            },
            Kind::UnattributedIn | Kind::UnattributedOut => Series::Unattributed { direction },
            Kind::InterfaceIn | Kind::InterfaceOut => Series::Interface {
                ifname: ifname(),
                direction,
            },
            Kind::ForwardedIn | Kind::ForwardedOut => Series::Forwarded {
                ifname: ifname(),
                direction,
            },
            Kind::Reason => {
                let [ifname, reason] = pair()?;
                Series::Reason { ifname, reason }
            }
            Kind::EgressError => {
                let [ifname, reason] = pair()?;
                Series::EgressError { ifname, reason }
            }
            Kind::NextHop => {
                let [nexthop, af, ifname] = words()?.try_into().ok()?;
                Series::NextHop { nexthop, af, ifname }
            }
            Kind::AccountInside | Kind::AccountOutside => {
                let [from, to] = pair()?;
                Series::Account {
                    from,
                    to,
                    outside: kind == Kind::AccountOutside,
                }
            }
            Kind::OriginAsIn | Kind::OriginAsOut => Series::OriginAs {
                asn: name.parse().ok()?,
                direction,
            },
            Kind::NeighbourAsIn | Kind::NeighbourAsOut => Series::NeighbourAs {
                asn: name.parse().ok()?,
                direction,
            },
            Kind::OriginAsViaIn | Kind::OriginAsViaOut => {
                let [asn, ifname] = pair()?;
                Series::OriginAsVia {
                    asn: asn.parse().ok()?,
                    ifname,
                    direction,
                }
            }
            Kind::Rule => Series::Rule { name: ifname() },
        })
    }
}

/// A prefix, or an address for the prefix of it alone.
pub(crate) fn prefix(word: &str) -> Option<IpNet> {
    let address = || word.parse::<IpAddr>().ok().map(IpNet::from);
    word.parse().ok().or_else(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_again_by_its_kind_and_name_whatever_it_is_called() {
        let odd = "a/b \"c\", [d]\\ \u{1f}é".to_string();
        let mut all = vec![
            Series::Reason {
                ifname: "eth0".into(),
                reason: odd.clone(),
            },
            Series::EgressError {
                ifname: "eth0".into(),
                reason: "x".into(),
            },
            Series::NextHop {
                nexthop: "fe80::1".into(),
                af: "inet6".into(),
                ifname: "eth0".into(),
            },
            Series::Rule { name: odd.clone() },
        ];
        for outside in [true, false] {
            all.push(Series::Account {
                from: odd.clone(),
                to: String::new(),
                outside,
            });
        }
        for direction in Direction::BOTH {
            let ifname = "core0".to_string();
            all.extend([
                Series::Prefix {
                    prefix: "2001:db8::/32".parse().unwrap(),
                    direction,
                },
                Series::Unattributed { direction },
                Series::Interface {
                    ifname: ifname.clone(),
                    direction,
                },
                Series::Forwarded {
                    ifname: ifname.clone(),
                    direction,
                },
                Series::OriginAs {
                    asn: u32::MAX,
                    direction,
                },
                Series::NeighbourAs { asn: 0, direction },
                Series::OriginAsVia {
                    asn: 7,
                    ifname,
                    direction,
                },
            ]);
        }
        let mut kinds = Vec::new();
        for series in all {
            assert_eq!(Series::of(series.kind(), &series.name()), Some(series.clone()));
            assert_eq!(Kind::of(series.kind() as i64), Some(series.kind()));
            kinds.push(series.kind());
        }
        kinds.sort_unstable();
        assert_eq!(kinds, Kind::ALL, "every kind has its series here");
    }
}
