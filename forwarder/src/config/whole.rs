//! What only the whole configuration shows, beside what is there to run it on: whether its rules fit the program's tables
//! together, which of them are never met, lists in files, the group of the socket, interfaces that are there.
//!
//! A mistake is refused by `check` and by `run` alike. What may be meant so, or may be otherwise in a minute, is a warning of
//! `check`.

use std::{ops::Range, path::Path, sync::Arc};

use super::{Config, ConfigError, FilterConfig, InterfaceConfig, file, prefixes::read_list};
use crate::{
    api::group_id,
    filter::{
        compile::{self, CompileError, Placed, Router},
        fit::{self, Fit},
        rule::Rule,
        shadow::covers,
        sources::{self, Sources},
    },
};

/// Where in the file things stand that are looked at again when all of it has been read: octets.
pub(super) struct Spots {
    /// The name of each interface.
    pub interfaces: Vec<Range<usize>>,
    /// Each rule.
    pub rules: Vec<Range<usize>>,
    /// The group of the socket.
    pub group: Option<Range<usize>>,
}

/// A configuration and its text.
struct Whole<'a> {
    name: &'a str,
    text: &'a str,
    config: Config,
    spots: Spots,
}

/// Reads and checks the configuration file.
///
/// # Errors
/// What, where, why and what to do.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    read(path, &text(path)?)
}

/// As [`load`], of a text that stands in that file or will.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path, text: &str) -> Result<Config, ConfigError> {
    Ok(Whole::read(&path.display().to_string(), text)?.config)
}

/// As [`load`], with what is odd about it. `present` answers whether there is an interface of a name now.
///
/// # Errors
/// As [`load`].
pub fn check(path: &Path, present: &dyn Fn(&str) -> bool) -> Result<(Config, Vec<ConfigError>), ConfigError> {
    let text = text(path)?;
    let name = path.display().to_string();
    let whole = Whole::read(&name, &text)?;
    let warnings = whole.warnings(present);
    Ok((whole.config, warnings))
}

/// Whether a file names an interface at all. Of a file with mistakes the answer is yes: whoever reads all of it says them.
pub fn names_an_interface(path: &Path) -> bool {
    let Ok(text) = text(path) else { return true };
    match text.parse::<toml::Table>() {
        Ok(table) => table
            .get("interface")
            .is_some_and(|interfaces| interfaces.as_array().is_none_or(|list| !list.is_empty())),
        Err(_) => true,
    }
}

/// The text of the configuration file.
///
/// # Errors
/// It cannot be read.
pub fn text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|why| {
        let advice = if why.kind() == std::io::ErrorKind::NotFound {
            "write it, name another with --config FILE, or do without: forwarder run --interface NAME"
        } else {
            "it must be a readable UTF-8 file"
        };
        ConfigError::plain(
            &path.display().to_string(),
            format!("cannot read it: {why}"),
            advice,
        )
    })
}

impl Whole<'_> {
    fn read<'a>(name: &'a str, text: &'a str) -> Result<Whole<'a>, ConfigError> {
        let (config, spots) = file::parse(name, text)?;
        let whole = Whole {
            name,
            text,
            config,
            spots,
        };
        whole.rules_fit()?;
        whole.group_is_there()?;
        has_room(&whole.config.filter)?;
        Ok(whole)
    }

    fn error(&self, at: Option<&Range<usize>>, message: String, advice: &str) -> ConfigError {
        match at {
            Some(at) => ConfigError::at(self.name, self.text, at.clone(), message, advice),
            None => ConfigError::plain(self.name, message, advice),
        }
    }

    /// Whether the rules fit the program's tables; otherwise, with which of them they no longer do.
    fn rules_fit(&self) -> Result<(), ConfigError> {
        let (rules, interfaces) = (&self.config.filter.rules, &self.config.interfaces);
        let Err(why) = compiled(rules, interfaces) else {
            return Ok(());
        };
        let Fit { count, why, .. } =
            fit::most(rules.len(), 1, why, |count| compiled(&rules[..count], interfaces));
        let name = &rules[count].name;
        Err(self.error(
            self.spots.rules.get(count),
            format!("the rules up to {name:?}, this one, do not fit the program's tables together: {why}"),
            "those before it do: join neighbouring ranges and prefixes, let rules use the same ones, or remove some",
        ))
    }

    fn group_is_there(&self) -> Result<(), ConfigError> {
        let Some(group) = &self.config.api.group else {
            return Ok(());
        };
        group_id(group).map(drop).map_err(|why| {
            let at = self.spots.group.as_ref();
            self.error(at, format!("{why:#}"), "`getent group` lists the groups")
        })
    }

    fn warnings(&self, present: &dyn Fn(&str) -> bool) -> Vec<ConfigError> {
        let mut warnings = Vec::new();
        for (interface, at) in self.config.interfaces.iter().zip(&self.spots.interfaces) {
            if !present(&interface.name) {
                warnings.push(self.error(
                    Some(at),
                    format!("there is no interface {:?} now", interface.name),
                    "it is served once it is there; `ip link` lists those that are",
                ));
            }
        }
        let rules = &self.config.filter.rules;
        for (index, (rule, at)) in rules.iter().zip(&self.spots.rules).enumerate() {
            if let Some(earlier) = rules[..index].iter().find(|earlier| covers(earlier, rule)) {
                warnings.push(self.error(
                    Some(at),
                    format!(
                        "no packet gets to {:?}: all that it matches meets {:?} before",
                        rule.name, earlier.name
                    ),
                    "put it before that one, or remove it",
                ));
            }
        }
        warnings
    }
}

/// Compiles the rules as they are when every interface is there.
fn compiled(rules: &[Rule], interfaces: &[InterfaceConfig]) -> Result<(), CompileError> {
    if rules.is_empty() {
        return Ok(());
    }
    let port = |name: &str| {
        let at = interfaces.iter().position(|interface| interface.name == name)?;
        u32::try_from(at + 1).ok()
    };
    let router = Router { port: &port, cpus: 1 };
    let placed: Vec<Placed<'_>> = rules.iter().map(|rule| Placed { rule, slot: 0 }).collect();
    compile::ipv4(&placed, router)?;
    compile::ipv6(&placed, router)?;
    Ok(())
}

/// Reads the lists of bogons, and whether the source filter has room for all of them.
fn has_room(filter: &FilterConfig) -> Result<(), ConfigError> {
    let mut listed = filter.bogon_prefixes.clone();
    let mut longest = ("[filter]".to_string(), listed.len());
    for path in &filter.bogon_files {
        let list = read_list(path)?;
        if list.len() > longest.1 {
            longest = (path.display().to_string(), list.len());
        }
        listed.extend(list);
    }
    let sources = Sources {
        bogons: filter.bogons,
        listed: Arc::new(listed),
        own: filter.own_prefixes.clone(),
        on_link: Vec::new(),
    };
    sources::compile(&sources).map(drop).map_err(|why| {
        let (place, prefixes) = longest;
        let advice =
            format!("the longest list are the {prefixes} prefixes here: name fewer, or shorter ones");
        ConfigError::plain(&place, why.to_string(), &advice)
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const INTERFACE: &str = "[[interface]]\nname = \"eth0\"\n";

    fn read(text: &str) -> Result<Config, String> {
        match Whole::read("f.toml", text) {
            Ok(whole) => Ok(whole.config),
            Err(why) => Err(why.to_string()),
        }
    }

    /// `rules` rules, each with as many source ports as that, each another one.
    fn ports(rules: usize, of_each: usize) -> String {
        let mut text = INTERFACE.to_string();
        for rule in 0..rules {
            let ports: Vec<String> = (0..of_each)
                .map(|port| ((rule * of_each + port) * 2).to_string())
                .collect();
            write!(
                text,
                "[[filter.rule]]\nname = \"r{rule}\"\nmatch = {{ proto = \"udp\", src-port = [{}] }}\naction = \"drop\"\n",
                ports.join(", ")
            )
            .unwrap();
        }
        text
    }

    #[test]
    fn only_a_sound_file_without_interfaces_names_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f.toml");
        let names = |text: &str| {
            std::fs::write(&path, text).unwrap();
            names_an_interface(&path)
        };
        assert!(!names("# [[interface]]\n[filter]\nbogons = true\n"));
        assert!(!names("interface = []\n"));
        assert!(names(INTERFACE));
        assert!(names("[[interface]\n"));
        assert!(names_an_interface(&directory.path().join("absent.toml")));
    }

    #[test]
    fn rules_that_do_not_fit_the_tables_are_refused_at_the_first_that_does_not() {
        // Each rule has one class of its own here, whatever the number of its ports.
        assert!(read(&ports(30, 1_000)).is_ok());
        // Prefixes of a /32 each, far from each other: two blocks each, of 4,096.
        let mut text = INTERFACE.to_string();
        for rule in 0..7 {
            let prefixes: Vec<String> = (0..400)
                .map(|at| format!("\"{}.{}.{}.1\"", 20 + rule, at / 2, at % 2 * 128))
                .collect();
            write!(
                text,
                "[[filter.rule]]\nname = \"r{rule}\"\nmatch = {{ dst = [{}] }}\naction = \"drop\"\n",
                prefixes.join(", ")
            )
            .unwrap();
        }
        // A block for each /16 and one for each /24 of it: 600 a rule, and the seventh passes 4,096.
        let error = read(&text).unwrap_err();
        assert!(error.contains("f.toml, line 27, column 1"), "{error}");
        assert!(error.contains("up to \"r6\""), "{error}");
        assert!(error.contains("more than 4096 blocks"), "{error}");
    }

    #[test]
    fn rules_that_need_too_many_classes_are_refused() {
        // Every pair of overlapping ranges is another class: 120 rules begin one after the other at each of 150 places.
        let mut text = INTERFACE.to_string();
        for rule in 0..120 {
            let ranges: Vec<String> = (0..150)
                .map(|at| {
                    let first = at * 400 + rule;
                    format!("\"{first}-{}\"", first + 200 + (rule * 37 + at * rule) % 150)
                })
                .collect();
            write!(
                text,
                "[[filter.rule]]\nmatch = {{ proto = \"udp\", src-port = [{}] }}\naction = \"drop\"\n",
                ranges.join(", ")
            )
            .unwrap();
        }
        let error = read(&text).unwrap_err();
        assert!(error.contains("more than 16384 classes"), "{error}");
        assert!(error.contains("[[filter.rule]]"), "{error}");
    }

    #[test]
    fn a_group_that_is_not_there_is_refused_with_its_line() {
        let error = read(&format!("{INTERFACE}[api]\ngroup = \"no-such-group-here\"\n")).unwrap_err();
        assert!(
            error.contains("f.toml, line 4, column 9: there is no group"),
            "{error}"
        );
        assert!(read(&format!("{INTERFACE}[api]\ngroup = \"root\"\n")).is_ok());
    }

    #[test]
    fn absent_interfaces_and_rules_that_nothing_gets_to_are_warned_of() {
        let text = "[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n\
             [[filter.rule]]\nname = \"wide\"\nmatch = { dst = \"192.0.2.0/24\" }\naction = \"drop\"\n\
             [[filter.rule]]\nname = \"narrow\"\nmatch = { dst = \"192.0.2.7\", proto = \"udp\" }\naction = \"accept\"\n\
             [[filter.rule]]\nname = \"other\"\nmatch = { dst = \"192.0.3.7\" }\naction = \"drop\"\n";
        let whole = Whole::read("f.toml", text).unwrap();
        let warnings: Vec<String> = whole
            .warnings(&|name| name == "eth0")
            .iter()
            .map(ToString::to_string)
            .collect();
        let [absent, shadowed] = warnings.as_slice() else {
            panic!("{warnings:#?}")
        };
        assert!(
            absent.contains("line 4, column 8: there is no interface \"eth1\" now"),
            "{absent}"
        );
        assert!(
            shadowed.contains(
                "line 9, column 1: no packet gets to \"narrow\": all that it matches meets \"wide\" before"
            ),
            "{shadowed}"
        );
    }
}
