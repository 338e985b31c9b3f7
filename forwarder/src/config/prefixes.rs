//! Prefixes in the configuration, and in lists that it names.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    net::IpAddr,
    path::Path,
};

use ipnet::IpNet;
use toml::Spanned;

use super::{ConfigError, check::Check};

/// Octets of a list at most: more than every bogon there is.
const LONGEST: u64 = 16 << 20;

/// What is wrong with a prefix, and what to write.
type Fault = (String, String);

fn prefix(text: &str) -> Result<IpNet, Fault> {
    let net: IpNet = text.parse().map_err(|_| {
        (
            format!("`{text}` is not a prefix"),
            "write address/length, as 192.0.2.0/24 or 2001:db8::/32".to_string(),
        )
    })?;
    if net.trunc() != net {
        return Err((
            format!("`{text}` has bits set beyond its length"),
            format!("write {}", net.trunc()),
        ));
    }
    Ok(net)
}

fn prefix_or_address(text: &str) -> Result<IpNet, Fault> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => prefix(text),
    }
}

fn not_everything(net: IpNet, advice: &str) -> Result<IpNet, Fault> {
    if net.prefix_len() == 0 {
        return Err((format!("`{net}` is every address there is"), advice.to_string()));
    }
    Ok(net)
}

impl Check<'_> {
    /// A prefix, or an address, which is the longest.
    pub(super) fn prefix_or_address<T>(&self, at: &Spanned<T>, text: &str) -> Result<IpNet, ConfigError> {
        prefix_or_address(text).map_err(|(message, advice)| self.error(at, message, &advice))
    }

    /// Prefixes of which none is everything; the advice is for who writes that.
    pub(super) fn prefix_list(
        &self,
        written: &[Spanned<String>],
        advice: &str,
    ) -> Result<Vec<IpNet>, ConfigError> {
        let mut prefixes = Vec::new();
        for at in written {
            let net = prefix(at.get_ref())
                .and_then(|net| not_everything(net, advice))
                .map_err(|(message, advice)| self.error(at, message, &advice))?;
            if prefixes.contains(&net) {
                return Err(self.error(
                    at,
                    format!("`{}` stands here twice", at.get_ref()),
                    "write it once",
                ));
            }
            prefixes.push(net);
        }
        Ok(prefixes)
    }
}

/// Reads a list of prefixes: one on each line, or an address; behind `#` or `;` stands what it is. In ascending order,
/// each once.
///
/// # Errors
/// The file cannot be read, or the line that is no prefix.
pub fn read_list(path: &Path) -> Result<Vec<IpNet>, ConfigError> {
    let place = path.display().to_string();
    let advice = "it must be a readable text file with one prefix on each line";
    let refused = |why: io::Error| ConfigError::plain(&place, format!("cannot read it: {why}"), advice);
    // To open a pipe is to wait for its writer.
    if !fs::metadata(path).map_err(refused)?.is_file() {
        return Err(ConfigError::plain(&place, "it is no regular file".into(), advice));
    }
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text))
        .map_err(refused)?;
    if text.len() as u64 > LONGEST {
        return Err(ConfigError::plain(
            &place,
            format!("it is longer than {} MiB", LONGEST >> 20),
            "name a list of prefixes, one on each line",
        ));
    }
    list(&place, &text)
}

fn list(place: &str, text: &str) -> Result<Vec<IpNet>, ConfigError> {
    let mut prefixes = BTreeSet::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let word = line.split(['#', ';']).next().unwrap_or("").trim();
        if !word.is_empty() {
            let net = prefix_or_address(word)
                .and_then(|net| not_everything(net, "remove the line"))
                .map_err(|(message, advice)| {
                    let at = start + line.find(word).unwrap_or(0);
                    ConfigError::at(place, text, at..at + word.len(), message, &advice)
                })?;
            prefixes.insert(net);
        }
        start += line.len();
    }
    Ok(prefixes.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_prefix_on_each_line_and_comments() {
        let text = "# bogons\n\n 192.0.2.0/24\n10.0.0.0/8 ; private\r\n2001:db8::1 # one host\n10.0.0.0/8";
        let nets: Vec<String> = list("l", text).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(nets, ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::1/128"]);
        assert_eq!(list("l", "").unwrap(), []);
    }

    #[test]
    fn a_line_that_is_no_prefix_is_named_with_its_file() {
        let said = |text: &str| list("/etc/bogons", text).unwrap_err().to_string();
        assert_eq!(
            said("10.0.0.0/8\n  10.0.0.1/8 # ten\n"),
            "/etc/bogons, line 2, column 3: `10.0.0.1/8` has bits set beyond its length\n  \
             2 |   10.0.0.1/8 # ten\n    |   ^\n  write 10.0.0.0/8"
        );
        assert!(said("here").contains("line 1, column 1: `here` is not a prefix"));
        assert!(said("\n::/0").contains("line 2, column 1: `::/0` is every address there is"));
        assert!(said("10.0.0.0/33").contains("is not a prefix"));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_one_clear_sentence() {
        let said = read_list(Path::new("/nonexistent/list")).unwrap_err().to_string();
        assert!(
            said.starts_with("/nonexistent/list: cannot read it: No such file"),
            "{said}"
        );
        let said = read_list(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(
            said.starts_with("/dev/zero: it is no regular file\n  it must be"),
            "{said}"
        );
        let path = std::env::temp_dir().join(format!("forwarder-list-{}", std::process::id()));
        File::create(&path)
            .and_then(|file| file.set_len(LONGEST + 1))
            .unwrap();
        let said = read_list(&path).unwrap_err().to_string();
        fs::remove_file(&path).unwrap();
        assert!(said.contains("it is longer than 16 MiB"), "{said}");
    }
}
