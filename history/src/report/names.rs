//! What can be asked about, and which series that is.

use std::{collections::BTreeMap, str::FromStr};

use super::{
    Trouble,
    curves::{Interface, Target, totals},
    samples::Samples,
};
use crate::{Direction, Kind, Reader, Series, SeriesId, series::prefix};

/// Kinds of things that reports are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Accounts, those below them included. In: to the account; out: from it.
    Account,
    /// Interfaces, as the program and their drivers count ([`super::curves::Interface`]).
    Interface,
    /// Interfaces whose role is `transit`.
    Carrier,
    /// Prefixes. In: from there; out: to there.
    Prefix,
    /// Networks that originate prefixes.
    OriginAs,
    /// Networks that told the routes.
    NeighbourAs,
}

impl By {
    /// Every kind.
    pub const ALL: [By; 6] = [
        By::Account,
        By::Interface,
        By::Carrier,
        By::Prefix,
        By::OriginAs,
        By::NeighbourAs,
    ];

    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            By::Account => "account",
            By::Interface => "interface",
            By::Carrier => "carrier",
            By::Prefix => "prefix",
            By::OriginAs => "origin-as",
            By::NeighbourAs => "neighbour-as",
        }
    }

    /// The kind whose two directions these are.
    const fn kind(self) -> Kind {
        match self {
            By::Account => Kind::AccountOutside,
            By::Interface | By::Carrier => Kind::InterfaceIn,
            By::Prefix => Kind::PrefixIn,
            By::OriginAs => Kind::OriginAsIn,
            By::NeighbourAs => Kind::NeighbourAsIn,
        }
    }

    /// There may be a million.
    pub const fn many(self) -> bool {
        matches!(self, By::Prefix | By::OriginAs | By::NeighbourAs)
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(word: &str) -> Result<By, String> {
        let all = By::ALL.map(By::name);
        By::ALL
            .into_iter()
            .find(|by| by.name() == word)
            .ok_or_else(|| format!("there are no reports by {word}: write one of {}", all.join(", ")))
    }
}

/// Which traffic of accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traffic {
    /// What crosses the edge, by a carrier or a peer.
    #[default]
    Outside,
    /// What does not.
    Inside,
    /// Both.
    All,
}

impl Traffic {
    /// Every one.
    pub const ALL: [Traffic; 3] = [Traffic::Outside, Traffic::Inside, Traffic::All];

    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Traffic::Outside => "outside",
            Traffic::Inside => "inside",
            Traffic::All => "all",
        }
    }
}

impl FromStr for Traffic {
    type Err = String;

    fn from_str(word: &str) -> Result<Traffic, String> {
        Traffic::ALL
            .into_iter()
            .find(|traffic| traffic.name() == word)
            .ok_or_else(|| format!("`{word}` is no traffic: write outside, inside or all"))
    }
}

/// A thing and its series.
#[derive(Clone, Debug)]
pub struct Named {
    /// What it is called.
    pub name: String,
    /// Its series.
    pub target: Target,
}

/// What is asked about: these names, or all there are (of those of which there may be a million, the `top` largest).
///
/// # Errors
/// A name that is not known, or the history cannot be read.
pub fn chosen(
    reader: &Reader,
    samples: &Samples,
    by: By,
    names: &[String],
    top: Option<usize>,
    traffic: Traffic,
) -> Result<Vec<Named>, Trouble> {
    match by {
        By::Account => accounts(reader, names, traffic),
        By::Interface | By::Carrier => interfaces(reader, by, names),
        By::Prefix | By::OriginAs | By::NeighbourAs if names.is_empty() => {
            largest(reader, samples, by, top.unwrap_or(20))
        }
        By::Prefix | By::OriginAs | By::NeighbourAs => {
            names.iter().map(|name| one(reader, by, name)).collect()
        }
    }
}

/// Both directions of one number.
fn both(kind: Kind, id: u32) -> Target {
    let series = Direction::BOTH.map(|direction| {
        let kind = kind.towards(direction);
        (SeriesId { kind, id }, direction)
    });
    Target {
        series: series.to_vec(),
        ..Target::default()
    }
}

/// The word that a thing is asked for by.
fn word(series: &Series) -> String {
    match series {
        Series::OriginAs { asn, .. } | Series::NeighbourAs { asn, .. } => format!("AS{asn}"),
        other => other.name(),
    }
}

/// An AS number as people write it.
pub fn asn(word: &str) -> Option<u32> {
    let digits = word
        .strip_prefix("AS")
        .or_else(|| word.strip_prefix("as"))
        .unwrap_or(word);
    digits
        .bytes()
        .all(|c| c.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

fn one(reader: &Reader, by: By, name: &str) -> Result<Named, Trouble> {
    let direction = Direction::In;
    let (what, series) = match by {
        By::Prefix => {
            let prefix = prefix(name)
                .ok_or_else(|| Trouble::Question(format!("`{name}` is neither a prefix nor an address")))?;
            ("prefix", Series::Prefix { prefix, direction })
        }
        _ => {
            let asn = asn(name)
                .ok_or_else(|| Trouble::Question(format!("`{name}` is no AS number: write AS64500")))?;
            match by {
                By::OriginAs => ("origin AS", Series::OriginAs { asn, direction }),
                _ => ("neighbour AS", Series::NeighbourAs { asn, direction }),
            }
        }
    };
    let id = reader.find(&series)?.ok_or_else(|| Trouble::Unknown {
        what,
        name: name.to_string(),
        known: "nothing was ever counted for it".to_string(),
    })?;
    Ok(Named {
        name: word(&series),
        target: both(id.kind(), id.id()),
    })
}

fn largest(reader: &Reader, samples: &Samples, by: By, top: usize) -> Result<Vec<Named>, Trouble> {
    let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
    for direction in Direction::BOTH {
        for (id, octets) in totals(reader, samples, by.kind().towards(direction))? {
            let sum = sums.entry(id).or_default();
            *sum = sum.saturating_add(octets);
        }
    }
    let mut sums: Vec<(u32, u64)> = sums.into_iter().collect();
    sums.sort_unstable_by_key(|(id, octets)| (std::cmp::Reverse(*octets), *id));
    sums.truncate(top);
    sums.into_iter()
        .map(|(id, _)| {
            let target = both(by.kind(), id);
            let series = SeriesId { kind: by.kind(), id };
            let name = reader
                .name(series)?
                .map_or(format!("number {id}"), |series| word(&series));
            Ok(Named { name, target })
        })
        .collect()
}

/// Interfaces; of carriers those whose role is `transit`.
fn interfaces(reader: &Reader, by: By, names: &[String]) -> Result<Vec<Named>, Trouble> {
    let all = reader.series(Kind::InterfaceIn)?;
    let roles = match by {
        By::Carrier => Some(reader.facts(Kind::InterfaceIn, "role")?),
        _ => None,
    };
    // What came in by an interface was forwarded or had a reason not to be.
    let mut reasons: BTreeMap<String, Vec<(SeriesId, Direction)>> = BTreeMap::new();
    for (id, series) in reader.series(Kind::Reason)? {
        if let Series::Reason { ifname, .. } = series {
            let series = (SeriesId::new(Kind::Reason, id), Direction::In);
            reasons.entry(ifname).or_default().push(series);
        }
    }
    let target = |id: u32, name: &str| {
        let mut program = both(Kind::ForwardedIn, id).series;
        program.extend(reasons.get(name).into_iter().flatten());
        let interface = Interface {
            driver: both(Kind::InterfaceIn, id).series,
            program,
        };
        Target {
            interfaces: vec![interface],
            ..Target::default()
        }
    };
    let mut known: Vec<Named> = all
        .iter()
        .filter(|(id, _)| {
            roles
                .as_ref()
                .is_none_or(|roles| roles.get(id).is_some_and(|role| role == "transit"))
        })
        .map(|(id, series)| {
            let name = series.name();
            let target = target(*id, &name);
            Named { name, target }
        })
        .collect();
    known.sort_by(|a, b| a.name.cmp(&b.name));
    select(by.name(), known, names)
}

fn select(what: &'static str, known: Vec<Named>, names: &[String]) -> Result<Vec<Named>, Trouble> {
    if names.is_empty() {
        if known.is_empty() {
            return Err(Trouble::Question(format!("the history has no {what} at all")));
        }
        return Ok(known);
    }
    names
        .iter()
        .map(|name| {
            let found = known.iter().find(|known| known.name == *name);
            found
                .cloned()
                .ok_or_else(|| Trouble::unknown(what, name, known.iter().map(|known| &*known.name)))
        })
        .collect()
}

/// Whether an account is another or below it.
fn within(name: &str, account: &str) -> bool {
    name.strip_prefix(account)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Accounts, and what stands above them: "members" where there is "members/radio". These names, or all.
///
/// # Errors
/// A name that is not known, or the history cannot be read.
pub fn accounts(reader: &Reader, names: &[String], traffic: Traffic) -> Result<Vec<Named>, Trouble> {
    let pairs: Vec<(u32, String, String)> = reader
        .series(Kind::AccountOutside)?
        .into_iter()
        .filter_map(|(id, series)| match series {
            Series::Account { from, to, .. } => Some((id, from, to)),
            _ => None,
        })
        .collect();
    let mut known: BTreeMap<String, Target> = BTreeMap::new();
    for (_, from, to) in &pairs {
        for name in [from, to].into_iter().filter(|name| !name.is_empty()) {
            known.entry(name.clone()).or_default();
            for (slash, _) in name.match_indices('/') {
                known.entry(name[..slash].to_string()).or_default();
            }
        }
    }
    let kinds: &[Kind] = match traffic {
        Traffic::Outside => &[Kind::AccountOutside],
        Traffic::Inside => &[Kind::AccountInside],
        Traffic::All => &[Kind::AccountOutside, Kind::AccountInside],
    };
    for (name, target) in &mut known {
        for (id, from, to) in &pairs {
            // What stays within an account is neither in nor out.
            let direction = match (within(from, name), within(to, name)) {
                (true, false) => Direction::Out,
                (false, true) => Direction::In,
                _ => continue,
            };
            let series = kinds
                .iter()
                .map(|kind| (SeriesId { kind: *kind, id: *id }, direction));
            target.series.extend(series);
        }
    }
    let known = known.into_iter().map(|(name, target)| Named { name, target });
    select("account", known.collect(), names)
}

/// Numbers that the controller told about interfaces or accounts, by their names.
pub(super) fn told(reader: &Reader, by: By, fact: &str) -> Result<BTreeMap<String, u64>, Trouble> {
    let kind = match by {
        By::Account => Kind::AccountOutside,
        _ => Kind::InterfaceIn,
    };
    let names = reader.series(kind)?;
    let facts = reader.facts(kind, fact)?;
    Ok(facts
        .into_iter()
        .filter_map(|(id, value)| {
            let series = names.get(&id)?;
            // An account's facts are told about what comes from it to elsewhere.
            let name = match series {
                Series::Account { from, to, .. } if to.is_empty() => from.clone(),
                Series::Account { .. } => return None,
                other => other.name(),
            };
            Some((name, value.parse().ok().filter(|number| *number > 0)?))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_below_another_by_whole_parts_of_its_name() {
        assert!(within("members/radio", "members") && within("members", "members"));
        assert!(!within("members-of-old", "members") && !within("members", "members/radio"));
    }

    #[test]
    fn as_numbers_are_read_as_people_write_them() {
        assert_eq!(asn("AS64500"), Some(64_500));
        assert_eq!(asn("64500"), Some(64_500));
        for word in ["AS", "", "AS-1", "ASN1", "AS4294967296", "+1"] {
            assert_eq!(asn(word), None, "{word}");
        }
    }
}
