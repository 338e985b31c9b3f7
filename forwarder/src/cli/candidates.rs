//! Below the listing of a prefix: every source's route, which counts and why, as `birdc show route all` would tell.

use anyhow::Result;

use super::{
    output::{self, Paint, span},
    reader::Reader,
};
use crate::stats::{CandidateRow, RouteRow};

/// What the controller knows of a prefix or address, as it sent it; nothing where no controller runs: the maps do not tell.
pub fn ask(reader: &Reader, prefix: &str) -> Result<Option<hyper::body::Bytes>> {
    reader.ask(&format!("/v1/candidates?prefix={prefix}"))
}

/// Prints them.
pub fn print(body: &[u8]) -> Result<()> {
    let rows: Vec<CandidateRow> = serde_json::from_slice(body)?;
    output::print(&screen(&rows, Paint::stdout()))
}

/// A row of `routes PREFIX --json`: of the table, or of a source.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub enum Row {
    /// What is laid.
    Route(Box<RouteRow>),
    /// What a source says.
    Candidate(Box<CandidateRow>),
}

/// The rows of the table and then those of the sources.
pub fn together(routes: &[u8], candidates: &[u8]) -> Result<Vec<Row>> {
    let routes: Vec<RouteRow> = serde_json::from_slice(routes)?;
    let candidates: Vec<CandidateRow> = serde_json::from_slice(candidates)?;
    let routes = routes.into_iter().map(|row| Row::Route(Box::new(row)));
    let candidates = candidates.into_iter().map(|row| Row::Candidate(Box::new(row)));
    Ok(routes.chain(candidates).collect())
}

fn screen(rows: &[CandidateRow], paint: Paint) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let mut text = format!("\n{}\n", paint.bold(&format!("sources of {}", first.prefix)));
    for row in rows {
        let mark = if row.best { "*" } else { " " };
        let from = match &row.peer {
            Some(peer) => format!("{} {peer}", row.by),
            None => row.by.clone(),
        };
        text += &format!("{mark} {}: {}\n", paint.bold(&from), way(row));
        let why = if row.best {
            paint.good(&row.why)
        } else {
            row.why.clone()
        };
        text += &format!("    {why}\n");
        for line in details(row) {
            text += &format!("    {line}\n");
        }
    }
    text
}

/// Where it leads, as given and as resolved.
pub fn way(row: &CandidateRow) -> String {
    match (&row.resolved, &row.resolved_by) {
        (Some(resolved), _) if *resolved == row.next_hops => row.next_hops.clone(),
        (Some(resolved), Some(by)) => format!("{} -> {resolved} (by {by})", row.next_hops),
        (Some(resolved), None) => format!("{} -> {resolved}", row.next_hops),
        (None, Some(why)) => format!("{} -> nowhere: {why}", row.next_hops),
        (None, None) => row.next_hops.clone(),
    }
}

/// What else is known of it, a line each.
pub fn details(row: &CandidateRow) -> Vec<String> {
    let mut first = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            first.push(format!("{name} {value}"));
        }
    };
    let path = row.as_path.as_ref().map(|path| match path.as_str() {
        "" => "empty".to_string(),
        path => path.to_string(),
    });
    add("AS path", path);
    add("origin", row.origin.clone());
    add("LOCAL_PREF", row.local_pref.map(|pref| pref.to_string()));
    add("MED", row.med.map(|med| med.to_string()));
    add("originator", row.originator.clone());
    add("path id", row.path_id.map(|id| id.to_string()));
    add("metric", row.metric.map(|metric| metric.to_string()));
    add("table", row.table.clone());
    add("protocol", Some(row.protocol.clone()));
    match row.external {
        Some(true) => first.push("external".into()),
        Some(false) => first.push("internal".into()),
        None => {}
    }
    if row.stale {
        first.push("stale".into());
    }
    if row.least_preferred {
        first.push("least preferred".into());
    }
    if let Some(age) = row.age {
        first.push(format!("since {}", span(age)));
    }
    let lists = [
        ("communities", &row.communities),
        ("extended communities", &row.extended_communities),
        ("large communities", &row.large_communities),
    ];
    let lists = lists
        .into_iter()
        .filter_map(|(name, list)| Some(format!("{name} {}", list.as_ref()?)));
    std::iter::once(first.join(", ")).chain(lists).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_says_who_won_why_and_where_it_leads() {
        let best = CandidateRow {
            by: "bgp".into(),
            prefix: "192.0.2.0/24".into(),
            peer: Some("twin".into()),
            best: true,
            why: "won: highest LOCAL_PREF".into(),
            next_hops: "10.255.0.1".into(),
            resolved: Some("via 203.0.113.1 dev transit0".into()),
            resolved_by: Some("10.255.0.1/32".into()),
            as_path: Some("64500 64501".into()),
            local_pref: Some(200),
            communities: Some("64500:7".into()),
            external: Some(false),
            protocol: "bgp".into(),
            age: Some(90),
            ..CandidateRow::default()
        };
        let lost = CandidateRow {
            best: false,
            why: "lost: its next hop does not resolve".into(),
            resolved: None,
            resolved_by: Some("no route of the kernel covers it".into()),
            ..best.clone()
        };
        let text = screen(&[best, lost], Paint::off());
        for words in [
            "sources of 192.0.2.0/24",
            "* bgp twin: 10.255.0.1 -> via 203.0.113.1 dev transit0 (by 10.255.0.1/32)",
            "    won: highest LOCAL_PREF",
            "AS path 64500 64501, LOCAL_PREF 200, protocol bgp, internal, since",
            "    communities 64500:7",
            "  bgp twin: 10.255.0.1 -> nowhere: no route of the kernel covers it",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        assert_eq!(screen(&[], Paint::off()), "");
    }

    #[test]
    fn rows_of_the_table_stand_before_those_of_the_sources() {
        let route = RouteRow {
            prefix: "192.0.2.0/24".into(),
            ..RouteRow::default()
        };
        let candidate = CandidateRow {
            prefix: route.prefix.clone(),
            by: "bgp".into(),
            ..CandidateRow::default()
        };
        let text = |rows: &[u8], more: &[u8]| serde_json::to_value(together(rows, more).unwrap()).unwrap();
        let routes = serde_json::to_vec(&[&route]).unwrap();
        let candidates = serde_json::to_vec(&[&candidate]).unwrap();
        assert_eq!(text(&routes, &candidates), serde_json::json!([route, candidate]));
        assert_eq!(text(b"[]\n", &candidates), serde_json::json!([candidate]));
        assert_eq!(text(&routes, b"[]\n"), serde_json::json!([route]));
        assert!(together(b"[", b"[]").is_err());
    }
}
