//! What the machine says about its tests: a line per event on a serial port of its own, which the kernel leaves alone.

use std::{fmt, str::FromStr};

/// Before every line, so that nothing else is taken for one.
const MARK: &str = "@vm ";

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub enum Say {
    /// The machine is up, so many seconds after its kernel started.
    Ready(f64),
    /// A test begins.
    Begin(String),
    /// A line that the test which began last printed; only said when it failed.
    Out(String),
    /// It holds; seconds.
    Ok(String, f64),
    /// It does not; seconds.
    Failed(String, f64),
    /// Something that a person should know: a module that does not load.
    Note(String),
    /// All is run.
    End,
}

impl fmt::Display for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MARK)?;
        match self {
            Say::Ready(seconds) => write!(f, "ready {seconds:.1}"),
            Say::Begin(name) => write!(f, "begin {name}"),
            Say::Out(line) => write!(f, "out {line}"),
            Say::Ok(name, seconds) => write!(f, "ok {name} {seconds:.1}"),
            Say::Failed(name, seconds) => write!(f, "failed {name} {seconds:.1}"),
            Say::Note(text) => write!(f, "note {text}"),
            Say::End => f.write_str("end"),
        }
    }
}

/// The line is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOurs;

impl FromStr for Say {
    type Err = NotOurs;

    fn from_str(line: &str) -> Result<Say, NotOurs> {
        let line = line.trim_end_matches(['\r', '\n']);
        let words = line.strip_prefix(MARK).ok_or(NotOurs)?;
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        let timed = || {
            let (name, seconds) = rest.rsplit_once(' ').ok_or(NotOurs)?;
            Ok((name.to_owned(), seconds.parse().map_err(|_| NotOurs)?))
        };
        Ok(match verb {
            "ready" => Say::Ready(rest.parse().map_err(|_| NotOurs)?),
            "begin" => Say::Begin(rest.to_owned()),
            "out" => Say::Out(rest.to_owned()),
            "ok" => timed().map(|(name, seconds)| Say::Ok(name, seconds))?,
            "failed" => timed().map(|(name, seconds)| Say::Failed(name, seconds))?,
            "note" => Say::Note(rest.to_owned()),
            "end" => Say::End,
            _ => return Err(NotOurs),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_as_it_was_said() {
        for say in [
            Say::Ready(4.2),
            Say::Begin("golden::law::it_holds".into()),
            Say::Out("  indented, with  spaces".into()),
            Say::Out(String::new()),
            Say::Ok("ring_kernel::bond".into(), 12.5),
            Say::Failed("ring_kernel::bond".into(), 0.1),
            Say::Note("module igb: no such device".into()),
            Say::End,
        ] {
            // A serial port ends its lines so.
            assert_eq!(format!("{say}\r\n").parse(), Ok(say));
        }
    }

    #[test]
    fn what_the_kernel_or_a_firmware_prints_is_nobodys_line() {
        for line in [
            "",
            "[    1.0] reboot: Power down",
            "@vm",
            "@vm ok nothing",
            "x @vm end",
        ] {
            assert_eq!(line.parse::<Say>(), Err(NotOurs), "{line:?}");
        }
    }
}
