//! Which tests run in the machine, built as `cargo test` builds them.

use std::{fs, path::PathBuf, process::Command, process::Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use vm_init::plan::Binary;

use crate::{build, sh};

/// A test binary of `tests/tests` that runs in the machine besides every `ring_*`, and why it does.
struct Chosen {
    name: &'static str,
    /// Tests that are left out, by a part of their names, for the time they take under emulation.
    without: &'static [&'static str],
}

/// What is worth its time there: whatever another kernel could answer differently. Logic that no kernel has a say in is
/// tested once, outside.
const CHOSEN: [Chosen; 4] = [
    // The verifier takes every program, and every record's packet comes out to the octet: the helpers and redirects of
    // this kernel's.
    Chosen {
        name: "golden",
        without: &[],
    },
    // Rates of what goes up, by this kernel's clock and spin locks.
    Chosen {
        name: "punt",
        without: &[],
    },
    // The controller whole, attached to veth, beside what the kernel itself forwards: netlink, links, tracepoints.
    Chosen {
        name: "e2e_forwarding",
        without: &[],
    },
    // Frames in several buffers, which are redirected since 6.3; what drivers take is told since then, too.
    Chosen {
        name: "e2e_jumbo",
        without: &["takes_one_buffer", "takes_no_frames", "in_generic_mode"],
    },
];

/// What the names of tests begin with that run here and nowhere else.
const RING: &str = "ring_";

/// What the tests find in their environment: of the frames that are sent through a plain router and ours, a hundredth.
pub const ENVIRONMENT: [(&str, &str); 1] = [("FORWARDER_DIFF_COUNT", "2000")];

/// Where test binaries stand in the machine.
pub const PLACE: &str = "/vm/tests";

/// What was built.
pub struct Tests {
    /// Binaries with the file of each on this machine, in the order of running.
    pub binaries: Vec<(Binary, PathBuf)>,
    /// The controller.
    pub forwarder: PathBuf,
    /// The machine's first process.
    pub init: PathBuf,
}

/// Builds the tests, the controller and the first process. Only those `named`, where any is.
///
/// # Errors
/// The build fails; cargo has said why by then.
pub fn build(named: &[String]) -> Result<Tests> {
    let names = names(named)?;
    // As `cargo xtask test` does, so that nothing is compiled twice.
    sh::run(sh::cargo().args(["build", "--package", "forwarder", "--all-targets"]))?;
    sh::run(sh::cargo().args(["build", "--package", "vm-init"]))?;
    let mut cargo = sh::cargo();
    cargo.args(["test", "--package", "forwarder-tests", "--no-run"]);
    cargo.arg("--message-format=json-render-diagnostics");
    for (name, ..) in &names {
        cargo.args(["--test", name]);
    }
    let said = said(&mut cargo)?;
    let mut binaries = Vec::new();
    for (name, ignored, without) in names {
        let file = executable(&said, &name).with_context(|| format!("cargo built no test {name}"))?;
        let binary = Binary {
            path: format!("{PLACE}/{name}"),
            name,
            ignored,
            without: without.iter().map(|word| (*word).to_owned()).collect(),
        };
        binaries.push((binary, file));
    }
    Ok(Tests {
        binaries,
        forwarder: build::binary(false)?,
        init: sh::target_dir()?.join("debug/vm-init"),
    })
}

/// Which binaries run: name, whether its ignored tests do, and what is left out.
fn names(named: &[String]) -> Result<Vec<(String, bool, &'static [&'static str])>> {
    if !named.is_empty() {
        for name in named {
            if !is_there(name) {
                bail!("there is no tests/tests/{name}.rs, and no {name}/main.rs there");
            }
        }
        let of = |name: &String| (name.clone(), name.starts_with(RING), &[][..]);
        return Ok(named.iter().map(of).collect());
    }
    // The quick ones first, and those that only these kernels can run.
    let rings = rings()?.into_iter().map(|name| (name, true, &[][..]));
    let chosen = CHOSEN
        .iter()
        .map(|test| (test.name.to_owned(), false, test.without));
    Ok(rings.chain(chosen).collect())
}

/// Whether there is such a test: a file, or a directory with a main.rs.
fn is_there(name: &str) -> bool {
    let path = sh::workspace().join("tests/tests").join(name);
    path.with_extension("rs").is_file() || path.join("main.rs").is_file()
}

/// Every test of `tests/tests` that is called `ring_*`.
fn rings() -> Result<Vec<String>> {
    let dir = sh::workspace().join("tests/tests");
    let entries = fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
    let names = entries.flatten().filter_map(|entry| {
        let path = entry.path();
        let name = path.file_stem()?.to_str()?.to_owned();
        (name.starts_with(RING) && is_there(&name)).then_some(name)
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}

/// Runs cargo, its messages going where ours go, and returns what it says to programs.
fn said(cargo: &mut Command) -> Result<String> {
    let line = sh::line(cargo);
    let output = cargo.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The file that cargo says it made of a test.
fn executable(said: &str, test: &str) -> Option<PathBuf> {
    let messages = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut files = messages.filter_map(|message| {
        let is_it = message["target"]["name"] == test && message["target"]["kind"][0] == "test";
        let file = message["executable"].as_str().map(PathBuf::from);
        file.filter(|_| is_it)
    });
    files.next()
}

/// Prints the tests that would run, one to a line.
///
/// # Errors
/// A test binary does not run.
pub fn print(tests: &Tests, filter: &str) -> Result<()> {
    for (binary, file) in &tests.binaries {
        let list = |more: &[&str]| {
            let mut command = Command::new(file);
            command.args(["--list", "--format", "terse"]).args(more);
            sh::output(&mut command).with_context(|| format!("{} does not list its tests", file.display()))
        };
        let all = list(&[])?;
        let ignored = if binary.ignored {
            String::new()
        } else {
            list(&["--ignored"])?
        };
        let names = all
            .lines()
            .filter(|line| !ignored.lines().any(|ignored| ignored == *line));
        for name in names.filter_map(|line| line.strip_suffix(": test")) {
            if let Some(name) = binary.wanted(name, filter) {
                println!("{name}");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_which_file_a_test_is() {
        let said = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"golden"},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"golden"},"executable":"/t/golden-1"}"#,
        );
        assert_eq!(executable(said, "golden"), Some("/t/golden-1".into()));
        assert_eq!(executable(said, "punt"), None);
    }

    #[test]
    fn what_is_chosen_is_there() {
        for test in CHOSEN {
            assert!(is_there(test.name), "no test {}", test.name);
        }
        assert!(rings().unwrap().contains(&"ring_kernel".to_owned()));
    }
}
