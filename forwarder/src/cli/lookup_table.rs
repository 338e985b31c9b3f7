//! `forwarder lookup ADDR --table FILE`: the answer of a table dump, without a controller.

use std::{net::IpAddr, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use super::output::{self, Paint, or_dash};
use crate::{
    rib::decision::{Contender, FIRST, decide},
    source::mrt::{self, Entry},
    stats::attributes::{as_path, communities, large_communities},
};

/// A path of the longest prefix that covers the address.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    address: String,
    prefix: String,
    best: bool,
    /// The step that put it out; of the best, none.
    lost_by: Option<&'static str>,
    peer: String,
    peer_as: u32,
    via: Option<String>,
    origin_as: Option<u32>,
    as_path: String,
    local_pref: u32,
    med: Option<u32>,
    communities: String,
}

/// Prints the paths, the best first; "no" when nothing covers the address.
pub fn lookup(file: &Path, address: IpAddr, json: bool) -> Result<bool> {
    let dump = mrt::open(file)?;
    let rows = rows(dump, address).with_context(|| format!("{} cannot be read", file.display()))?;
    if json {
        output::print_json(&rows)?;
    } else {
        output::print(&screen(&rows, file, address, Paint::stdout()))?;
    }
    Ok(!rows.is_empty())
}

/// The paths of the longest prefix that has any, the best first.
fn rows(
    dump: impl Iterator<Item = Result<Entry, mrt::Error>>,
    address: IpAddr,
) -> Result<Vec<Row>, mrt::Error> {
    let mut longest: Option<Entry> = None;
    for entry in dump {
        let entry = entry?;
        if !entry.prefix.contains(&address) || entry.paths.is_empty() {
            continue;
        }
        match &mut longest {
            Some(known) if known.prefix.prefix_len() > entry.prefix.prefix_len() => {}
            // BIRD writes a record for each of its tables' peers.
            Some(known) if known.prefix == entry.prefix => known.paths.extend(entry.paths),
            _ => longest = Some(entry),
        }
    }
    let Some(entry) = longest else {
        return Ok(Vec::new());
    };
    let contenders: Vec<Contender> = entry
        .paths
        .iter()
        .map(|path| Contender {
            usable: true,
            class: FIRST,
            table: 0,
            metric: 0,
            least_preferred: false,
            attributes: Some(&path.attributes),
            feed: path.peer.index,
            order: path.path_id,
        })
        .collect();
    let lost = decide(&contenders)
        .map(|verdict| verdict.lost)
        .unwrap_or_default();
    let mut rows: Vec<Row> = entry
        .paths
        .iter()
        .zip(lost)
        .map(|(path, lost)| Row {
            address: address.to_string(),
            prefix: entry.prefix.to_string(),
            best: lost.is_none(),
            lost_by: lost.map(|step| step.words()),
            peer: path.peer.address.to_string(),
            peer_as: path.peer.asn,
            via: path.gateway.map(|gateway| gateway.address.to_string()),
            origin_as: path.attributes.origin_as(),
            as_path: as_path(&path.attributes),
            local_pref: path.attributes.local_pref,
            med: path.attributes.med,
            communities: [communities, large_communities]
                .map(|text| text(&path.attributes))
                .join(" ")
                .trim()
                .to_string(),
        })
        .collect();
    rows.sort_by_key(|row| !row.best);
    Ok(rows)
}

fn screen(rows: &[Row], file: &Path, address: IpAddr, paint: Paint) -> String {
    let Some(first) = rows.first() else {
        return format!("nothing in {} covers {address}\n", file.display());
    };
    let columns = [
        ("", false),
        ("peer", false),
        ("peer-as", true),
        ("via", false),
        ("as path", false),
        ("pref", true),
        ("med", true),
        ("communities", false),
        ("lost by", false),
    ];
    let cells = rows.iter().map(|row| {
        vec![
            if row.best { "*" } else { "" }.to_string(),
            row.peer.clone(),
            row.peer_as.to_string(),
            or_dash(row.via.as_deref()),
            row.as_path.clone(),
            row.local_pref.to_string(),
            row.med.map_or("-".to_string(), |med| med.to_string()),
            row.communities.clone(),
            row.lost_by.unwrap_or_default().to_string(),
        ]
    });
    format!(
        "{address} is in {}\n{}",
        paint.bold(&first.prefix),
        output::table(&columns, cells, paint)
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::source::{
        feed::{Attributes, Gateway, Segment},
        mrt::{Path as MrtPath, Peer},
    };

    fn path(index: u16, as_path: &[u32]) -> MrtPath {
        MrtPath {
            peer: Peer {
                index,
                address: IpAddr::from([192, 0, 2, index as u8]),
                asn: as_path[0],
            },
            path_id: 0,
            gateway: Some(Gateway {
                address: IpAddr::from([192, 0, 2, index as u8]),
                link_local: None,
                interface: None,
            }),
            attributes: Arc::new(Attributes {
                as_path: vec![Segment::Sequence(as_path.to_vec()), Segment::Set(vec![8, 9])],
                local_pref: 100,
                communities: vec![0xfbf5_0007],
                large: vec![[1, 2, 3]],
                ..Attributes::default()
            }),
        }
    }

    fn entry(prefix: &str, paths: Vec<MrtPath>) -> Result<Entry, mrt::Error> {
        Ok(Entry {
            prefix: prefix.parse().unwrap(),
            paths,
        })
    }

    #[test]
    fn the_longest_prefix_answers_with_every_path_and_the_best_first() {
        let dump = || {
            [
                entry("198.51.100.0/24", vec![path(1, &[1, 2, 3]), path(2, &[4, 5])]),
                entry("198.51.0.0/16", vec![path(3, &[1])]),
                entry("198.51.100.0/25", Vec::new()),
                entry("2001:db8::/32", vec![path(4, &[1])]),
            ]
            .into_iter()
        };
        let address = "198.51.100.9".parse().unwrap();
        let found = rows(dump(), address).unwrap();
        let short: Vec<_> = found
            .iter()
            .map(|row| (&row.peer[..], row.best, row.lost_by))
            .collect();
        assert_eq!(
            short,
            [
                ("192.0.2.2", true, None),
                ("192.0.2.1", false, Some("shortest AS path"))
            ]
        );
        assert_eq!(found[0].as_path, "4 5 {8,9}");
        assert_eq!(found[0].communities, "64501:7 1:2:3");
        let text = screen(&found, Path::new("f"), address, Paint::off());
        assert!(text.starts_with("198.51.100.9 is in 198.51.100.0/24\n"), "{text}");
        let none = rows(dump(), "203.0.113.1".parse().unwrap()).unwrap();
        assert!(none.is_empty());
    }
}
