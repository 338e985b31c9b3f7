//! In what two configurations differ, key by key.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;
use toml::{Table, Value};

/// A key that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where: `routes.max-age`, `interface core0 role`.
    pub key: String,
    /// What it said; null where it was not there.
    pub before: Option<String>,
    /// What it says; null where it is not there.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.after) {
            (None, Some(after)) => write!(f, "+ {} = {after}", self.key),
            (Some(before), None) => write!(f, "- {} = {before}", self.key),
            (before, after) => {
                let or_none = |word: &Option<String>| word.clone().unwrap_or_default();
                write!(f, "~ {} = {} (was {})", self.key, or_none(after), or_none(before))
            }
        }
    }
}

/// In what they differ, in the order of their keys. Comments and order of keys make no difference; order within a list does, but not
/// that of sections that have names.
///
/// # Errors
/// One is no TOML.
pub fn of(before: &str, after: &str) -> Result<Vec<Change>, toml::de::Error> {
    let (before, after): (Table, Table) = (before.parse()?, after.parse()?);
    let mut changes = Vec::new();
    tables("", &before, &after, &mut changes);
    Ok(changes)
}

fn tables(at: &str, before: &Table, after: &Table, changes: &mut Vec<Change>) {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let place = match at {
            "" => key.clone(),
            // A section with a name ends in it.
            at if at.contains(' ') => format!("{at} {key}"),
            at => format!("{at}.{key}"),
        };
        values(&place, before.get(key), after.get(key), changes);
    }
}

fn values(place: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    let empty = Table::new();
    let table = |value: Option<&Value>| match value {
        None => Some(empty.clone()),
        Some(Value::Table(table)) => Some(table.clone()),
        Some(_) => None,
    };
    if let (Some(before), Some(after)) = (table(before), table(after)) {
        return tables(place, &before, &after, changes);
    }
    if let (Some(before), Some(after)) = (named(before), named(after)) {
        let names: BTreeSet<&String> = before.iter().chain(&after).map(|(name, _)| name).collect();
        for name in names {
            let of = |all: &[(String, Table)]| {
                all.iter()
                    .find(|(other, _)| other == name)
                    .map(|(_, table)| table.clone())
            };
            let place = format!("{place} {name}");
            let (old, new) = (of(&before), of(&after));
            if old.is_some() != new.is_some() {
                let text = |table: Option<Table>| table.map(|table| Value::Table(table).to_string());
                changes.push(Change {
                    key: place,
                    before: text(old),
                    after: text(new),
                });
                continue;
            }
            tables(
                &place,
                &old.unwrap_or_default(),
                &new.unwrap_or_default(),
                changes,
            );
        }
        return;
    }
    changes.push(Change {
        key: place.to_string(),
        before: before.map(ToString::to_string),
        after: after.map(ToString::to_string),
    });
}

/// Sections by their names, where each has one of its own. None at all have.
fn named(value: Option<&Value>) -> Option<Vec<(String, Table)>> {
    let Some(value) = value else {
        return Some(Vec::new());
    };
    let mut seen = BTreeSet::new();
    value
        .as_array()?
        .iter()
        .map(|entry| {
            let table = entry.as_table()?;
            let name = table.get("name")?.as_str()?.to_string();
            seen.insert(name.clone()).then(|| (name, table.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(before: &str, after: &str) -> Vec<String> {
        let changes = of(before, after).expect("both are sound");
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sections_with_names_are_told_by_them() {
        let before = "[[interface]]\nname = \"a\"\nrole = \"core\"\n[[interface]]\nname = \"b\"\n[routes]\nmax-age = \"30s\"\n";
        let after = "# another order, and a comment\n[routes]\nmax-age = \"10s\"\nsources = [\"kernel\"]\n[[interface]]\nname = \
                     \"c\"\n[[interface]]\nname = \"a\"\nrole = \"transit\"\n";
        assert_eq!(
            lines(before, after),
            [
                "~ interface a role = \"transit\" (was \"core\")",
                "- interface b = { name = \"b\" }",
                "+ interface c = { name = \"c\" }",
                "~ routes.max-age = \"10s\" (was \"30s\")",
                "+ routes.sources = [\"kernel\"]",
            ]
        );
        assert!(lines(before, before).is_empty());
    }

    #[test]
    fn rules_have_an_order_and_no_need_of_names() {
        let rule =
            |port: u16| format!("[[filter.rule]]\nmatch = {{ dst-port = {port} }}\naction = \"drop\"\n");
        let (one, two) = (rule(1), rule(2));
        let changed = lines(&format!("{one}{two}"), &format!("{two}{one}"));
        assert_eq!(changed.len(), 1);
        assert!(changed[0].starts_with("~ filter.rule = [{ "), "{changed:?}");
        assert_eq!(lines("", &one).len(), 1);
        assert!(of("nonsense", "").is_err());
    }
}
