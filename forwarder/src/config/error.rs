//! What is said about a mistake in the configuration: what, where, why, and what to do.

use std::{fmt, ops::Range};

use super::rules::EXPECTED as WORDS;

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, or the option.
    pub place: String,
    /// Line and column, from 1, where there are any.
    pub position: Option<(usize, usize)>,
    /// The line itself.
    pub line: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

impl ConfigError {
    /// A mistake without a line.
    pub fn plain(place: &str, message: String, advice: &str) -> ConfigError {
        ConfigError {
            place: place.to_string(),
            position: None,
            line: None,
            message,
            advice: advice.to_string(),
        }
    }

    /// A mistake at octets `span` of `text`.
    pub fn at(place: &str, text: &str, span: Range<usize>, message: String, advice: &str) -> ConfigError {
        let start = (0..=span.start.min(text.len()))
            .rev()
            .find(|offset| text.is_char_boundary(*offset))
            .unwrap_or(0);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].lines().next().unwrap_or("");
        ConfigError {
            position: Some((
                before.matches('\n').count() + 1,
                text[line_start..start].chars().count() + 1,
            )),
            line: Some(shown(line)),
            ..ConfigError::plain(place, message, advice)
        }
    }

    /// The mistake in one line, for a log.
    pub fn in_a_line(&self) -> String {
        let at = self.position.map_or(String::new(), |(line, column)| {
            format!(", line {line}, column {column}")
        });
        format!("{}{at}: {}; {}", self.place, self.message, self.advice)
    }

    /// What the TOML reader found, in our words.
    pub fn of_toml(place: &str, text: &str, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let words = error.message();
        let found = text.get(span.clone()).unwrap_or("").trim();
        let (message, advice) = if let Some(rest) = words.strip_prefix("unknown field ") {
            let (key, allowed) = alternatives(rest);
            (
                format!("unknown key `{key}`"),
                suggestion(&key, allowed.iter().map(String::as_str)),
            )
        } else if let Some(rest) = words.strip_prefix("unknown variant ") {
            let (value, allowed) = alternatives(rest);
            (
                format!("`{value}` is not known here"),
                suggestion(&value, allowed.iter().map(String::as_str)),
            )
        } else if let Some(rest) = words.strip_prefix("missing field ") {
            let key = rest.trim_matches('`');
            (
                format!("the key `{key}` is missing"),
                format!("add a line: {key} = ..."),
            )
        } else if let Some(rest) = words.strip_prefix("invalid type: ") {
            (format!("wrong type: {rest}"), type_advice(rest))
        } else {
            let advice = if found.is_empty() {
                "correct the line"
            } else {
                "correct this value"
            };
            (words.lines().collect::<Vec<_>>().join(" "), advice.to_string())
        };
        ConfigError::at(place, text, span, message, &advice)
    }
}

/// From "`rol`, expected one of `name`, `role`": the word, and the words allowed.
fn alternatives(text: &str) -> (String, Vec<String>) {
    let mut words = text.split('`').skip(1).step_by(2).map(str::to_string);
    let found = words.next().unwrap_or_default();
    (found, words.collect())
}

/// A line of the file as errors show it: without what stands behind a password's equals sign. A misspelled key is still
/// one.
fn shown(line: &str) -> String {
    let key = line.split('=').next().unwrap_or("");
    let named = line.contains("password") || distance(key.trim(), "password") <= 2;
    match line.split_once('=') {
        Some(_) if named => {
            let from = line.find("password").unwrap_or(0);
            let end = line[from..].find('=').map_or(line.len(), |at| from + at + 1);
            format!("{} ***", &line[..end])
        }
        _ => line.to_string(),
    }
}

/// The words allowed, and which of them was probably meant.
pub(super) fn suggestion<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    let allowed: Vec<&str> = allowed.into_iter().collect();
    let list = allowed.join(", ");
    let nearest = allowed
        .iter()
        .map(|known| (distance(word, known), known))
        .min()
        .filter(|(distance, known)| *distance <= 2.min(known.len() / 2));
    match (nearest, allowed.is_empty()) {
        (Some((_, known)), _) => format!("did you mean `{known}`? Allowed here: {list}"),
        (None, false) => format!("allowed here: {list}"),
        (None, true) => "remove it".to_string(),
    }
}

fn type_advice(words: &str) -> String {
    let wanted = words.rsplit("expected ").next().unwrap_or("");
    match wanted {
        "a string" | "a borrowed string" => "write it between double quotes".into(),
        "a sequence" => "write it as a list: [...]".into(),
        "a boolean" => "write true or false".into(),
        WORDS => "write a word between double quotes, a whole number without, or a list: [...]".into(),
        wanted if wanted.starts_with(['u', 'i']) && wanted[1..].parse::<u8>().is_ok() => {
            "write a whole number, without quotes".into()
        }
        _ => "correct this value".into(),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if let Some((line, column)) = self.position {
            write!(f, ", line {line}, column {column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let (Some(line), Some((number, column))) = (&self.line, self.position) {
            let number = number.to_string();
            let gutter = " ".repeat(number.len());
            write!(
                f,
                "\n  {number} | {line}\n  {gutter} | {}^",
                " ".repeat(column - 1)
            )?;
        }
        write!(f, "\n  {}", self.advice)
    }
}

impl std::error::Error for ConfigError {}
