//! Printing: tables for people, JSON for programs, and a reader who leaves early is no error.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::stats::json;

/// Whether an error only says that nobody reads our output any more (`forwarder routes | head`).
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

/// Prints octets as they are.
pub fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Prints a line on stderr. Where that is full or closed there is nobody left to tell.
pub fn warn(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints rows as JSON.
pub fn print_json<T: Serialize>(rows: &[T]) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    json::write(&mut out, rows)?;
    Ok(out.flush()?)
}

/// Prints text.
pub fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Colours, where a person looks.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// For stdout.
    pub fn stdout() -> Paint {
        Paint(io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    /// Without.
    #[cfg(test)]
    pub const fn off() -> Paint {
        Paint(false)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }

    /// Headings.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Well.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Wrong.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }
}

/// A column: its heading, and whether figures stand in it.
pub type Column = (&'static str, bool);

/// A table without borders; figures to the right.
pub fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>, paint: Paint) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|(name, _)| *name));
    table.add_rows(rows);
    for (index, (_, figures)) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if *figures {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    let mut text = String::new();
    for (index, line) in table.lines().enumerate() {
        let line = line.trim_end();
        text += &if index == 0 {
            paint.bold(line)
        } else {
            line.to_string()
        };
        text.push('\n');
    }
    text
}

/// 1234567 as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Octets in decimal units: `1.23 GB`.
pub fn octets(number: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = number as f64;
    let mut unit = 0;
    // 999.95 would be printed as 1000.0.
    while value >= 999.95 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{number} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Seconds as `3 d 4 h`, `5 min 6 s`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A word, or `-` for none.
pub fn or_dash(word: Option<&str>) -> String {
    word.unwrap_or("-").to_string()
}

/// How a next hop stands, for a screen: "usable (backup)" where it is not the route's own.
pub fn state(state: &str, on_backup: bool) -> String {
    if on_backup {
        format!("{state} (backup)")
    } else {
        state.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_people() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(
            [0, 999, 1_000, 999_949, 999_950, 1_230_000_000].map(octets),
            ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "1.2 GB"]
        );
        assert_eq!(
            [5, 65, 3_700, 90_000].map(span),
            ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]
        );
    }

    #[test]
    fn tables_are_aligned_and_end_no_line_with_blanks() {
        let text = table(
            &[("ifname", false), ("packets", true)],
            [
                vec!["core0".into(), "7".into()],
                vec!["transit0".into(), "1,000".into()],
            ],
            Paint::off(),
        );
        assert_eq!(text, "ifname    packets\ncore0           7\ntransit0    1,000\n");
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow::anyhow!("other")));
    }
}
