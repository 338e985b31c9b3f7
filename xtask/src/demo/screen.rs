//! What the demo shows: an operator's session, then one line per check.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};

use anyhow::Result;
use serde::Serialize;

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What must hold.
    pub check: String,
    /// Whether it does.
    pub ok: bool,
    /// The measured figure, or why it failed.
    pub figure: String,
}

/// Where the session is shown and the checks are collected.
pub struct Screen {
    out: RefCell<Box<dyn Write>>,
    json: bool,
    colour: bool,
    checks: Vec<Check>,
}

impl Screen {
    /// With `json` stdout carries only the array of checks; what a person reads goes to stderr.
    pub fn new(json: bool) -> Self {
        let (out, terminal): (Box<dyn Write>, bool) = if json {
            (Box::new(std::io::stderr()), std::io::stderr().is_terminal())
        } else {
            (Box::new(std::io::stdout()), std::io::stdout().is_terminal())
        };
        Self::on(out, json, terminal && std::env::var_os("NO_COLOR").is_none())
    }

    fn on(out: Box<dyn Write>, json: bool, colour: bool) -> Self {
        Self {
            out: RefCell::new(out),
            json,
            colour,
            checks: Vec::new(),
        }
    }

    /// A line of text. A reader who has gone away is no error.
    pub fn say(&self, line: &str) {
        let _ = writeln!(self.out.borrow_mut(), "{line}");
    }

    /// A heading.
    pub fn title(&self, text: &str) {
        self.say(&format!("\n{}", self.paint("1", text)));
    }

    /// A command on a node, with at most `lines` of what it printed.
    pub fn session(&self, node: &str, command: &str, output: &str, lines: usize) {
        self.say(&format!("  {node}# {command}"));
        let all: Vec<_> = output.trim_end().lines().collect();
        for line in all.iter().take(lines) {
            self.say(&format!("    {line}"));
        }
        if all.len() > lines {
            self.say(&format!("    ... {} more lines", all.len() - lines));
        }
    }

    /// Records a check. An error is a failed check, unless somebody asked the demo to stop.
    pub fn check(&mut self, what: &str, result: Result<(bool, String)>) -> Result<()> {
        crate::interrupt::check()?;
        let (ok, figure) = match result {
            Ok(held) => held,
            Err(error) => (false, format!("{error:#}").replace('\n', "; ")),
        };
        let check = Check {
            check: what.to_string(),
            ok,
            figure,
        };
        self.say(&format!("  {}", self.line(&check, 0)));
        self.checks.push(check);
        Ok(())
    }

    /// The last word: one line per check, or the JSON array. True when all hold.
    pub fn close(&self) -> Result<bool> {
        let held = self.checks.iter().filter(|check| check.ok).count();
        self.title("Checks");
        let width = self
            .checks
            .iter()
            .map(|check| check.check.len())
            .max()
            .unwrap_or(0);
        for check in &self.checks {
            self.say(&format!("  {}", self.line(check, width)));
        }
        self.say(&format!("\n{held} of {} checks hold", self.checks.len()));
        if self.json {
            println!("{}", serde_json::to_string_pretty(&self.checks)?);
        }
        Ok(held == self.checks.len() && held > 0)
    }

    fn line(&self, check: &Check, width: usize) -> String {
        let verdict = if check.ok {
            self.paint("32", "ok    ")
        } else {
            self.paint("31", "FAILED")
        };
        format!("{verdict}  {:width$}  {}", check.check, check.figure)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            ["7", "999", "1,000", "1,234,567"],
            [7, 999, 1_000, 1_234_567]
                .map(grouped)
                .each_ref()
                .map(String::as_str)
        );
    }

    #[test]
    fn an_error_is_a_failed_check_and_no_checks_are_no_success() {
        let mut screen = Screen::on(Box::new(std::io::sink()), false, false);
        assert!(!screen.close().unwrap());
        screen.check("a", Err(anyhow::anyhow!("why"))).unwrap();
        assert_eq!(screen.checks[0].figure, "why");
        assert!(!screen.close().unwrap());
    }
}
