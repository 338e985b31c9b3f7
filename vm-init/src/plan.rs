//! What the machine is to do: a file in its initramfs, one line per thing, words separated by tabs.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::{Context, Error, Result, bail};

/// Where the plan stands in the initramfs.
pub const PATH: &str = "/vm/plan";

/// The plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Modules in the order of loading.
    pub modules: Vec<Module>,
    /// What the tests find in their environment.
    pub environment: Vec<(String, String)>,
    /// Test binaries in the order of running.
    pub binaries: Vec<Binary>,
    /// Only tests whose full name has this in it; empty: all.
    pub filter: String,
    /// How long one test may take.
    pub limit: Duration,
    /// A shell on the console in place of the tests.
    pub shell: bool,
}

/// A kernel module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Where it stands, not compressed.
    pub path: String,
    /// Its options, as insmod takes them.
    pub options: String,
}

/// A test binary of libtest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// What its tests are called after.
    pub name: String,
    /// Where it stands.
    pub path: String,
    /// Run the tests that are ignored elsewhere, too.
    pub ignored: bool,
    /// Leave out tests with one of these in their names.
    pub without: Vec<String>,
}

impl Binary {
    /// A test's name as people see it, or nothing when the plan leaves it out.
    pub fn wanted(&self, test: &str, filter: &str) -> Option<String> {
        let name = format!("{}::{test}", self.name);
        let left_out = self.without.iter().any(|word| test.contains(word));
        (!left_out && name.contains(filter)).then_some(name)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for module in &self.modules {
            writeln!(f, "module\t{}\t{}", module.path, module.options)?;
        }
        for (name, value) in &self.environment {
            writeln!(f, "environment\t{name}\t{value}")?;
        }
        for binary in &self.binaries {
            let ignored = if binary.ignored { "include-ignored" } else { "" };
            let without = binary.without.join(",");
            writeln!(
                f,
                "binary\t{}\t{}\t{ignored}\t{without}",
                binary.name, binary.path
            )?;
        }
        if !self.filter.is_empty() {
            writeln!(f, "filter\t{}", self.filter)?;
        }
        if self.shell {
            writeln!(f, "shell")?;
        }
        writeln!(f, "limit\t{}", self.limit.as_secs())
    }
}

impl FromStr for Plan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Plan> {
        let mut plan = Plan::default();
        for line in text.lines() {
            plan.read(line).with_context(|| format!("plan: {line:?}"))?;
        }
        Ok(plan)
    }
}

impl Plan {
    fn read(&mut self, line: &str) -> Result<()> {
        let words: Vec<String> = line.split('\t').map(str::to_owned).collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["module", path, options] => self.modules.push(Module {
                path: path.into(),
                options: options.into(),
            }),
            ["environment", name, value] => self.environment.push((name.into(), value.into())),
            ["binary", name, path, ignored, without] => self.binaries.push(Binary {
                name: name.into(),
                path: path.into(),
                ignored: !ignored.is_empty(),
                without: without
                    .split(',')
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect(),
            }),
            ["filter", word] => self.filter = word.into(),
            ["shell"] => self.shell = true,
            ["limit", seconds] => self.limit = Duration::from_secs(seconds.parse()?),
            _ => bail!("no such line"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let plan = Plan {
            modules: vec![Module {
                path: "/lib/modules/bonding.ko".into(),
                options: "max_bonds=0".into(),
            }],
            environment: vec![("FORWARDER_BIN".into(), "/usr/bin/forwarder".into())],
            binaries: vec![Binary {
                name: "ring_kernel".into(),
                path: "/vm/tests/ring_kernel".into(),
                ignored: true,
                without: vec!["large".into(), "million".into()],
            }],
            filter: "bond".into(),
            limit: Duration::from_secs(120),
            shell: true,
        };
        assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
    }

    #[test]
    fn what_is_no_line_is_an_error_and_not_skipped() {
        let error = "modules\t/x".parse::<Plan>().unwrap_err();
        assert!(format!("{error:#}").contains("modules"), "{error:#}");
    }

    #[test]
    fn a_filter_looks_at_the_binarys_name_too() {
        let binary = Binary {
            name: "golden".into(),
            path: String::new(),
            ignored: false,
            without: vec!["large".into()],
        };
        assert_eq!(
            binary.wanted("law::holds", "golden"),
            Some("golden::law::holds".into())
        );
        assert_eq!(binary.wanted("large::holds", ""), None);
        assert_eq!(binary.wanted("law::holds", "bond"), None);
    }
}
